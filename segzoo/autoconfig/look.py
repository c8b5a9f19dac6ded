"""Inspection of a data set: pairing of files, kind of masks, their values, and the sizes of images."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from segzoo.autoconfig.evidence import Evidence
from segzoo.autoconfig.names import names_beside
from segzoo.autoconfig.values import read_values
from segzoo.data.arrays import array_shape
from segzoo.data.codecs import unlimited
from segzoo.data.decoding import open_image
from segzoo.data.formats.contract import MAX_PIXELS
from segzoo.data.formats.contract import PICTURE_SUFFIXES as MASK_PICTURES
from segzoo.data.images import ARRAY_SUFFIXES, IMAGE_SUFFIXES
from segzoo.data.value_range import suggested_range
from segzoo.errors import ConfigError, DataError
from segzoo.files import regular

# What stems of images and of masks are known to end in: CamVid, Cityscapes, Carvana, ISIC and the habits of tools.
IMAGE_ENDINGS = ("", "_leftImg8bit", "_image", "_img", "_rgb", "_sat")
MASK_ENDINGS = (
    "", "_mask", "_masks", "_label", "_labels", "_L", "_gt", "_GT", "_seg", "_segmentation", "_annotation", "_anno",
    "_gtFine_labelIds", "_labelIds", "-mask", "-label",
)  # fmt: skip
# What they are known to begin with: image_1 and mask_1.
IMAGE_BEGINNINGS = ("", "image_", "img_", "im_", "image-", "img-", "image", "img", "im")
MASK_BEGINNINGS = (
    "mask_", "label_", "labels_", "gt_", "seg_", "annotation_", "mask-", "label-", "gt-", "mask", "label", "gt", "seg",
)  # fmt: skip
_VAL_NAMES = ("val", "valid", "validation", "test")
_READ = 10_000  # masks whose pixels are read; check-data reads all


def look(
    images: Path,
    masks: Path,
    mask_suffix: str | None = None,
    ignore_index: int | None = None,
    threshold: int | None = None,
) -> Evidence:
    """Inspect a data set of images with one mask picture or array each.

    Args:
        images: folder of the images, or of a folder for each split.
        masks: the same of the masks; it may be the folder of the images, where masks have a suffix.
        mask_suffix: what the masks' stems end in; None: the known ending by which most pair.
        ignore_index: a value of the masks that marks unlabelled pixels; None: 255 where it stands beside others.
        threshold: values from it up are the thing, in pictures of one thing in white with smooth edges.

    Raises:
        DataError: a missing folder, no pairs, or unreadable files.
        ConfigError: an ambiguous format; the message names the option that decides.
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
    files = [mask for _, mask in pairs] + _validation_masks(found)
    chosen = [files[n] for n in np.unique(np.linspace(0, len(files) - 1, min(_READ, len(files))).astype(int))]
    found.total = len(files)
    read_values(found, chosen, ignore_index, threshold)
    names_beside(found, (masks, masks.parent, images, images.parent, found.root))
    return found


def _layout(images: Path, masks: Path) -> tuple[Evidence, list[Path], list[Path]]:
    """Detect the splits: subfolders of both folders, or siblings of their parents; else none."""
    root = Path(os.path.commonpath([images, masks]))
    inside = [name for name in _VAL_NAMES if (images / name).is_dir() and (masks / name).is_dir()]
    if (images / "train").is_dir() and (masks / "train").is_dir() and inside:
        image_dir, mask_dir = (
            f"{path.relative_to(root).as_posix()}/{{split}}".removeprefix("./") for path in (images, masks)
        )
        found = Evidence(root, image_dir, mask_dir, ("train", inside[0]))
        return found, _files(images / "train", IMAGE_SUFFIXES), _files(masks / "train", _MASK_SUFFIXES)
    if root.name == "train":
        image_dir, mask_dir = (path.relative_to(root).as_posix() for path in (images, masks))
        beside = [n for n in _VAL_NAMES if all((root.parent / n / part).is_dir() for part in (image_dir, mask_dir))]
        if beside:
            found = Evidence(root.parent, image_dir, mask_dir, ("train", beside[0]))
            return found, _files(images, IMAGE_SUFFIXES), _files(masks, _MASK_SUFFIXES)
    image_dir, mask_dir = (path.relative_to(root).as_posix() for path in (images, masks))
    return Evidence(root, image_dir, mask_dir, None), _files(images, IMAGE_SUFFIXES), _files(masks, _MASK_SUFFIXES)


def _validation_masks(found: Evidence) -> list[Path]:
    """Return the masks of the validation folder, whose values also serve as evidence."""
    if found.splits is None:
        return []
    val = found.splits[1]
    place = found.mask_dir.replace("{split}", val) if "{split}" in found.mask_dir else f"{val}/{found.mask_dir}"
    same = found.mask_dir == found.image_dir
    return [
        path
        for path in (found.root / place).iterdir()
        if path.suffix.lower() in _MASK_SUFFIXES
        and path.stem.endswith(found.mask_suffix)
        and not path.name.startswith(".")
        and (not same or found.mask_suffix)
    ]


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
    """Pair files by the suffixes that match most of them; ConfigError if two are equally good."""
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
    if most == 0 and mask_suffix is None and (pairs := _paired_by_beginning(found, images, masks, same)):
        return pairs
    if most == 0:
        raise ConfigError(
            f"No image has a mask of its name: the images are called {images[0].name}, ..., the masks {masks[0].name}, "
            f"... Tried as endings of the masks' names: {', '.join(filter(None, MASK_ENDINGS))}. "
            f"As their beginnings: {', '.join(MASK_BEGINNINGS)}. Name the ending by --mask-suffix, or write "
            "data.image_prefix and data.mask_prefix by hand."
        )
    winners = [entry for entry in best if entry[0] == most]
    if len({tuple(entry[3]) for entry in winners}) > 1:
        endings = " or ".join(repr(entry[2]) for entry in winners)
        raise ConfigError(f"Masks could be those ending in {endings}: {most} pairs each. Choose by --mask-suffix.")
    count, found.image_suffix, found.mask_suffix, pairs = winners[0]
    total = len({*images, *masks}) if same else len(images) + len(masks)
    found.unpaired = total - 2 * count
    return pairs


def _paired_by_beginning(
    found: Evidence, images: Sequence[Path], masks: Sequence[Path], same: bool
) -> list[tuple[Path, Path]]:
    """Pair `image_1` with `mask_1`, by the prefixes that match most files; no pairs if none match."""
    best: list[tuple[int, str, str, list[tuple[Path, Path]]]] = []
    for image_start, mask_start in itertools.product(IMAGE_BEGINNINGS, MASK_BEGINNINGS):
        if image_start == mask_start:
            continue
        mine, theirs = (
            {path.stem.removeprefix(start): path for path in paths if path.stem.startswith(start)}
            for start, paths in ((image_start, images), (mask_start, masks))
        )
        if same and not image_start:
            mine = {stem: path for stem, path in mine.items() if not path.stem.startswith(mask_start)}
        both = [(mine[stem], theirs[stem]) for stem in sorted(mine.keys() & theirs.keys()) if stem]
        best.append((len(both), image_start, mask_start, both))
    count, found.image_prefix, found.mask_prefix, pairs = max(best, key=lambda entry: entry[0])
    found.unpaired = (len({*images, *masks}) if same else len(images) + len(masks)) - 2 * count
    return pairs


def image_sizes(found: Evidence, images: Sequence[Path]) -> None:
    """Add the images' sizes and channels to the evidence, from their headers."""
    channels = set()
    for path in images:
        try:
            if path.suffix.lower() in ARRAY_SUFFIXES:
                shape = array_shape(path, MAX_PIXELS)
                found.sizes[shape[0], shape[1]] += 1
                if len(shape) == 3 and shape[2] not in (1, 3):
                    found.channels = int(shape[2])
                continue
            with unlimited(), Image.open(regular(path)) as picture:
                found.sizes[picture.height, picture.width] += 1
                channels.add(picture.mode)
        except UnidentifiedImageError:
            _other_image(found, path)
        except (DataError, OSError, SyntaxError, ValueError, EOFError, IndexError):
            continue  # check-data names it
    if not found.sizes:
        raise DataError(f"{images[0]} and {len(images) - 1} more: none can be read as an image.")
    found.grey = bool(channels) and channels <= {"L", "1", "I;16", "I"}
    found.value_range = suggested_range(images)


def _other_image(found: Evidence, path: Path) -> None:
    """Add the size and channels of an image that Pillow does not read, such as a multi-band TIFF."""
    try:
        picture = open_image(path, MAX_PIXELS)
    except DataError:
        return  # check-data names it
    found.sizes[picture.size[1], picture.size[0]] += 1
    if picture.channels not in (1, 3):
        found.channels = picture.channels
