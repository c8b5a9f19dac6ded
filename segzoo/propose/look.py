"""What can be seen of somebody's data set: how files pair, what masks are, which values they hold, which sizes."""

from __future__ import annotations

import collections
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segzoo.data.folder import IMAGE_SUFFIXES
from segzoo.data.formats.contract import PICTURE_SUFFIXES as MASK_PICTURES
from segzoo.errors import ConfigError, DataError

# What stems of images and of masks are known to end in: CamVid, Cityscapes, Carvana, ISIC and the habits of tools.
IMAGE_ENDINGS = ("", "_leftImg8bit", "_image", "_img", "_rgb", "_sat")
MASK_ENDINGS = (
    "", "_mask", "_masks", "_label", "_labels", "_L", "_gt", "_GT", "_seg", "_segmentation", "_annotation", "_anno",
    "_gtFine_labelIds", "_labelIds", "-mask", "-label",
)  # fmt: skip
_VAL_NAMES = ("val", "valid", "validation", "test")
_READ = 1000  # masks whose pixels are read; check-data reads all
_MOST_COLOURS = 64  # more in a few masks are smeared colours, no table of classes
_EDGE = 0.5  # from this share of pixels between 0 and 255 on, values are no smooth edges of one thing in white


@dataclass
class Evidence:
    """What was found.

    Attributes:
        root: folder that images and masks lie in.
        image_dir, mask_dir: as `data.image_dir` and `data.mask_dir` have them.
        splits: names of the training and the validation folder; None where there are none.
        pairs: number of pairs, of the training split.
        lonely: number of files without a partner.
        image_suffix, mask_suffix: what the stems end in.
        masks: name and options of the mask format.
        why: the pixels that say so, in words.
        classes: number of classes.
        ignore_index: label of ignored pixels, with the reason in `ignored`.
        ignored: in words.
        pixels: pixels of each class in the masks that were read.
        read: how many masks were read.
        sizes: (height, width) of the images to their number.
        grey: whether all images that were opened have one channel.
        names: names of the classes where the files have them.
    """

    root: Path
    image_dir: str
    mask_dir: str
    splits: tuple[str, str] | None
    pairs: int = 0
    lonely: int = 0
    image_suffix: str = ""
    mask_suffix: str = ""
    masks: dict[str, Any] = field(default_factory=dict)
    why: str = ""
    classes: int = 0
    ignore_index: int = 255
    ignored: str = ""
    pixels: list[int] = field(default_factory=list)
    read: int = 0
    sizes: collections.Counter[tuple[int, int]] = field(default_factory=collections.Counter)
    grey: bool = False
    names: list[str] | None = None


def look(
    images: Path,
    masks: Path,
    mask_suffix: str | None = None,
    ignore_index: int | None = None,
    threshold: int | None = None,
) -> Evidence:
    """Look at a data set of images and mask pictures or arrays, one for each image.

    Args:
        images: folder of the images, or of a folder for each split.
        masks: the same of the masks; it may be the folder of the images, where masks have a suffix.
        mask_suffix: what the masks' stems end in; None: the known ending by which most pair.
        ignore_index: a value of the masks that marks unlabelled pixels; None: 255 where it stands beside others.
        threshold: values from it up are the thing, in pictures of one thing in white with smooth edges.

    Raises:
        DataError: no folder, no pairs, files that cannot be read.
        ConfigError: what is ambiguous; the message names the option that decides it.
    """
    for folder in (images, masks):
        if not folder.is_dir():
            cure = (
                "For COCO, LabelMe and other JSON see docs/custom-masks.md." if folder.is_file() else "Check the path."
            )
            raise DataError(f"{folder}: no such folder. {cure}")
    found, image_files, mask_files = _layout(images.resolve(), masks.resolve())
    pairs = _paired(found, image_files, mask_files, mask_suffix)
    found.pairs = len(pairs)
    image_sizes(found, [image for image, _ in pairs])
    chosen = [pairs[n][1] for n in np.unique(np.linspace(0, len(pairs) - 1, min(_READ, len(pairs))).astype(int))]
    found.read = len(chosen)
    _pixels(found, chosen, ignore_index, threshold)
    return found


def _layout(images: Path, masks: Path) -> tuple[Evidence, list[Path], list[Path]]:
    """Find the splits: folders in both, or beside their parents; else none."""
    root = Path(os.path.commonpath([images, masks]))
    inside = [name for name in _VAL_NAMES if (images / name).is_dir() and (masks / name).is_dir()]
    if (images / "train").is_dir() and (masks / "train").is_dir() and inside:
        image_dir, mask_dir = (
            f"{path.relative_to(root).as_posix()}/{{split}}".removeprefix("./") for path in (images, masks)
        )
        found = Evidence(root, image_dir, mask_dir, ("train", inside[0]))
        return found, _files(images / "train", IMAGE_SUFFIXES), _files(masks / "train", _MASK_SUFFIXES)
    if root.name == "train" and images != masks:
        image_dir, mask_dir = (path.relative_to(root).as_posix() for path in (images, masks))
        beside = [n for n in _VAL_NAMES if all((root.parent / n / part).is_dir() for part in (image_dir, mask_dir))]
        if beside:
            found = Evidence(root.parent, image_dir, mask_dir, ("train", beside[0]))
            return found, _files(images, IMAGE_SUFFIXES), _files(masks, _MASK_SUFFIXES)
    image_dir, mask_dir = (path.relative_to(root).as_posix() for path in (images, masks))
    return Evidence(root, image_dir, mask_dir, None), _files(images, IMAGE_SUFFIXES), _files(masks, _MASK_SUFFIXES)


_MASK_SUFFIXES = (*MASK_PICTURES, ".npy", ".npz")


def _files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    found = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in suffixes and not p.name.startswith(".")]
    if not found:
        inside = sorted(path.name for path in folder.iterdir())[:5]
        raise DataError(
            f"{folder}: no file that ends in {', '.join(suffixes)}; it holds {', '.join(inside) or 'nothing'}. "
            "A folder for each class or image, COCO and LabelMe have recipes in docs/custom-masks.md."
        )
    return found


def _paired(
    found: Evidence, images: Sequence[Path], masks: Sequence[Path], mask_suffix: str | None
) -> list[tuple[Path, Path]]:
    """Pair by the endings with which most files find a partner; ConfigError where two are as good."""
    same = found.image_dir == found.mask_dir
    best: list[tuple[int, str, str, list[tuple[Path, Path]]]] = []
    for mask_ending in MASK_ENDINGS if mask_suffix is None else (mask_suffix,):
        theirs = {path.stem.removesuffix(mask_ending): path for path in masks if path.stem.endswith(mask_ending)}
        for image_ending in IMAGE_ENDINGS:
            if same and image_ending == mask_ending:
                continue
            mine = {path.stem.removesuffix(image_ending): path for path in images if path.stem.endswith(image_ending)}
            if same and mask_ending:
                mine = {stem: path for stem, path in mine.items() if not path.stem.endswith(mask_ending)}
            both = [
                (mine[stem], theirs[stem]) for stem in sorted(mine.keys() & theirs.keys()) if mine[stem] != theirs[stem]
            ]
            best.append((len(both), image_ending, mask_ending, both))
    most = max(count for count, *_ in best)
    if most == 0:
        raise ConfigError(
            f"No image has a mask of its name: the images are called {images[0].name}, ..., the masks {masks[0].name}, "
            f"... Tried as endings of the masks' names: {', '.join(filter(None, MASK_ENDINGS))}. "
            "Name it by --mask-suffix."
        )
    winners = [entry for entry in best if entry[0] == most]
    if len({tuple(entry[3]) for entry in winners}) > 1:
        endings = " or ".join(repr(entry[2]) for entry in winners)
        raise ConfigError(f"Masks could be those ending in {endings}: {most} pairs each. Choose by --mask-suffix.")
    count, found.image_suffix, found.mask_suffix, pairs = winners[0]
    total = len({*images, *masks}) if same else len(images) + len(masks)
    found.lonely = total - 2 * count
    return pairs


def image_sizes(found: Evidence, images: Sequence[Path]) -> None:
    """Add the images' sizes and channels to the evidence, from their headers."""
    channels = set()
    for path in images:
        try:
            if path.suffix.lower() == ".npy":
                shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
                found.sizes[shape[0], shape[1]] += 1
                continue
            with Image.open(path) as picture:
                found.sizes[picture.height, picture.width] += 1
                channels.add(picture.mode)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            continue  # check-data names it
    if not found.sizes:
        raise DataError(f"{images[0]} and {len(images) - 1} more: none can be read as an image.")
    found.grey = bool(channels) and channels <= {"L", "1", "I;16", "I"}


def _pixels(found: Evidence, masks: Sequence[Path], ignore_index: int | None, threshold: int | None) -> None:
    """Find the format and the classes from the values of the masks."""
    values: collections.Counter[Any] = collections.Counter()
    modes, unreadable = set(), 0
    for path in masks:
        try:
            mode, array = _stored(path)
        except (OSError, SyntaxError, ValueError, EOFError, KeyError, Image.DecompressionBombError):
            unreadable += 1
            continue
        modes.add(mode)
        if array.ndim == 3:
            codes = array.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
            kinds, counts = np.unique(codes, return_counts=True)
            names: list[Any] = [(int(c) >> 16, int(c) >> 8 & 255, int(c) & 255) for c in kinds]
        else:
            kinds, counts = np.unique(array, return_counts=True)
            names = kinds.tolist()
        values.update(dict(zip(names, counts.tolist(), strict=True)))
    found.read -= unreadable
    if not values:
        raise DataError(f"{masks[0]} and {len(masks) - 1} more: none of the masks can be read; see check-data.")
    if len(modes) > 1:
        raise ConfigError(
            f"The masks are of several kinds ({', '.join(sorted(modes))}), so what their values mean is ambiguous. "
            "Write all in one kind, or write the configuration by hand: docs/custom-masks.md."
        )
    kind = modes.pop()
    if kind == "colour":
        _colours(found, values)
    else:
        _numbers(found, values, kind, ignore_index, threshold)


def _stored(path: Path) -> tuple[str, np.ndarray]:
    """Return what kind of mask a file holds, and its values: (H, W), or of a colour picture (H, W, 3)."""
    from segzoo.data.folder import MAX_PIXELS
    from segzoo.data.formats.array import load_array
    from segzoo.data.formats.pictures import NUMBER_MODES, read_indices

    if path.suffix.lower() in (".npy", ".npz"):
        return "array", load_array(path, MAX_PIXELS)
    with Image.open(path) as picture:
        if picture.width * picture.height > MAX_PIXELS:
            raise ValueError("too large")
        if picture.mode in NUMBER_MODES:
            indexed = picture.mode == "P" and picture.format != "GIF"  # of which the grey counts
            return "palette" if indexed else "grey", read_indices(path, MAX_PIXELS)
        array = np.asarray(picture.convert("RGB"))
    if (np.ptp(array.astype(np.int16), axis=2) <= 4).all():
        return "grey picture of three channels", array[..., 0]
    return "colour", array


def _colours(found: Evidence, values: collections.Counter[Any]) -> None:
    """A table of colours, black first."""
    if len(values) > _MOST_COLOURS:
        raise ConfigError(
            f"The masks hold {len(values)} colours: too many for classes, as JPEG and smooth resizing leave them. "
            "Write them as PNG without smoothing, or with a table of colours by hand: masks: {format: rgb, "
            "colors: FILE, other: ignore} in docs/custom-masks.md."
        )
    colours = sorted(values)
    found.masks = {"format": "rgb", "colors": [list(colour) for colour in colours]}
    found.why = f"colour pictures of {len(colours)} colours, in the order of their red, green, blue"
    found.classes, found.pixels = len(colours), [values[colour] for colour in colours]
    found.ignored = "no value of a colour picture; take one out of classes and write other: ignore to leave it out"


def _numbers(
    found: Evidence, values: collections.Counter[Any], kind: str, ignore_index: int | None, threshold: int | None
) -> None:
    """Class indices, values of their own, or one thing in white."""
    there, total = sorted(values), sum(values.values())
    if any(value != int(value) or value < 0 for value in there):
        raise DataError(f"Masks hold {there[:5]}: values that are negative or no whole numbers are no labels.")
    there = [int(value) for value in there]
    listed = ", ".join(map(str, there[:12])) + (", ..." if len(there) > 12 else "")
    between = sum(count for value, count in values.items() if value not in (0, 255))
    smeared = len(there) > 8 and kind != "palette" and there[-1] >= 128 and 0 < between < _EDGE * total
    smeared = smeared and ignore_index is None and there[-1] <= 255
    if threshold is not None or smeared:
        if threshold is None:
            raise ConfigError(
                f"The masks look like one thing in white with smooth edges: {between:,} of {total:,} pixels are "
                "neither 0 nor 255. If they are, say from which value up a pixel is the thing by "
                "--threshold 128; if the values are class indices, say which one is ignored by --ignore-index 255."
            )
        found.masks = {"format": "binary", "threshold": threshold}
        inside = sum(count for value, count in values.items() if value >= threshold)
        found.why = f"{kind}, {between:,} of {total:,} pixels neither 0 nor 255; --threshold {threshold} decides them"
        found.classes, found.pixels, found.ignored = 2, [total - inside, inside], "no value of such masks"
        return
    if there == [0, 255] and ignore_index is None and kind != "palette":
        found.masks = {"format": "binary"}
        found.why = f"{kind}, only the values 0 and 255: one thing in white"
        found.classes, found.pixels, found.ignored = 2, [values[0], values[255]], "no value of such masks"
        return
    found.ignored = "no pixel has it so far"
    if ignore_index is not None:
        found.ignored = f"--ignore-index; {values[ignore_index]:,} pixels have it"
        found.ignore_index = ignore_index
    elif there[-1] == 255 and len(there) > 1:
        found.ignored = f"{values[255]:,} pixels have it, and it is no next label: the habit of VOC and Cityscapes"
    labels = [value for value in there if value != found.ignore_index]
    if not labels:
        raise ConfigError(f"All pixels of the masks have the value {listed}, so there are no classes to learn.")
    if len(labels) == 1:
        raise ConfigError(f"The masks hold a single class (values {listed}); two are needed: the thing and the rest.")
    if kind == "grey picture of three channels":
        raise ConfigError(f"Pictures of three equal channels with the values {listed}: write them with one channel.")
    found.masks = {"format": "array" if kind == "array" else "index"}
    found.why = f"{kind}, values {listed}"
    found.classes = labels[-1] + 1
    found.pixels = [values[value] for value in range(found.classes)]
    gaps = found.classes - len(labels)
    if gaps > len(labels):  # such as 7, 11, 23: not positions in a list of classes
        if kind == "array":
            raise ConfigError(f"The arrays hold {listed}, with gaps: number the classes from 0 without gaps.")
        found.masks["values"] = {f"class_{n}": value for n, value in enumerate(labels)}
        found.classes, found.pixels = len(labels), [values[value] for value in labels]
    if found.ignore_index < found.classes and "values" not in found.masks:
        inside = found.classes - 1
        raise ConfigError(
            f"--ignore-index {found.ignore_index} lies among the classes 0 to {inside}; segzoo wants it above them. "
            "Write masks: {format: index, values: {...}} by hand: docs/custom-masks.md."
        )
