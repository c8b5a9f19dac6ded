"""Samples from a folder of images and a folder of masks that share their names."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from segzoo.data.formats import FindsMasks, Labels, MaskFormat, create_format
from segzoo.data.formats.contract import MAX_PIXELS
from segzoo.data.images import IMAGE_SUFFIXES, ImageReader, exif_orientation, turned
from segzoo.data.listing import is_endless, list_irregular, list_unpaired, no_file, normal_form, same_letters
from segzoo.data.masks import check_labels
from segzoo.data.problems import Problem
from segzoo.data.sources import Sample
from segzoo.errors import DataError

Exif = Literal["neither", "both", "image"]
_LOOKED_AT = 16  # samples that are read at most when a source is built, where none has an ignored pixel


class Pair(NamedTuple):
    """Names of an image and its mask, as a list of samples holds them; mask None: all background."""

    name: str
    image: Path
    mask: Path | None


class _Affixes(NamedTuple):
    """Prefix and suffix of the file stems of one kind."""

    prefix: str = ""
    suffix: str = ""

    def fit(self, stem: str) -> bool:
        """Return True if a stem has the prefix and the suffix, and a name between them."""
        fits = stem.startswith(self.prefix) and stem.endswith(self.suffix)
        return fits and (not any(self) or len(stem) > len(self.prefix) + len(self.suffix))


class FolderSource:
    """Images `<root>/<split>/<image_dir>/NAME.jpg` with masks `<root>/<split>/<mask_dir>/NAME.png`.

    Images are JPEG, PNG, BMP, TIFF, WebP, GIF, .npy or .npz (docs/sample-types.md); masks are of the given format.
    Pairs are made, and files without a partner refused, when the source is built; each file is checked when it is read.
    Where `masks.missing` is "background", an image without a mask is one that shows nothing.

    In `image_dir` and `mask_dir` a star stands for the name of any folder that is not hidden ("*/images"), and {split}
    for the split: then the path starts at the root instead ("images/{split}"). With another format than one file for
    each image, `mask_dir` is what the format's `find` takes: a folder of folders, or a JSON.

    Args:
        root: the data set's folder.
        split: the folder in it ("train"); "" or "." where the data set has no splits.
        classes: class names; the index of a name is its label.
        ignore_index: the label of pixels that count in no loss and no metric.
        image_dir: the images' folder within the split.
        mask_dir: the masks' folder within the split.
        max_pixels: refuse larger pictures before decoding them.
        masks: how masks are read; None: class indices (see `IndexFormat`), with `classes` and `ignore_index`.
        images: how images are read; None: as RGB of 8 bits.
        image_suffix: ending of image stems that mask stems do not have ("_leftImg8bit"); others are left out.
        mask_suffix: ending of mask stems that image stems do not have ("_mask"); others are left out.
        image_prefix: beginning of image stems that mask stems do not have ("image_"); others are left out.
        mask_prefix: beginning of mask stems that image stems do not have ("mask_"); others are left out.
        exif: whether the orientation that a camera notes is applied: "neither", so masks were drawn on the pixel grid
            that the image file stores; to "both", each by the image's note; or to the "image" alone, because the masks
            were drawn on the image as viewers show it.
        pairs: samples to use in place of those found in folders.
        strict: refuse files without a partner and two of one stem; False leaves them out and lists them in `problems`.

    Attributes:
        problems: problems found while listing files, if not `strict`.
        remarks: what was taken as it is meant and may not be, a sentence each: images without a mask, annotations
            without an image.
        folders: where images and masks lie, as paths from `root`, where each split has one folder of either.

    Raises:
        DataError: a folder is missing or empty; and where `strict`, two files share a stem, or an image or
            mask has no partner.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        classes: Sequence[str],
        ignore_index: int = 255,
        image_dir: str = "images",
        mask_dir: str = "masks",
        max_pixels: int = MAX_PIXELS,
        *,
        masks: MaskFormat | None = None,
        images: ImageReader | None = None,
        image_suffix: str = "",
        mask_suffix: str = "",
        image_prefix: str = "",
        mask_prefix: str = "",
        exif: Exif = "neither",
        pairs: Sequence[Pair] | None = None,
        strict: bool = True,
    ):
        self.classes = list(classes)
        self.ignore_index = ignore_index
        self.format = masks or create_format("index", Labels(tuple(classes), ignore_index, max_pixels=max_pixels))
        self.reader = images or ImageReader(max_pixels=max_pixels)
        self._exif = exif
        self._strict = strict
        self.problems: list[Problem] = []
        self.remarks: list[str] = []
        self.folders = (Path(split) / image_dir, Path(split) / mask_dir)
        if pairs is None:
            image_name, mask_name = _Affixes(image_prefix, image_suffix), _Affixes(mask_prefix, mask_suffix)
            pairs = self._find(Path(root), split, (image_dir, image_name), (mask_dir, mask_name))
        self.ids = [pair.name for pair in pairs]
        self._images = [pair.image for pair in pairs]
        self._masks = [pair.mask for pair in pairs]
        self._is_refused = False
        self.refuse_ignored_objects(range(len(self.ids)))

    def _find(self, root: Path, split: str, image: tuple[str, _Affixes], mask: tuple[str, _Affixes]) -> list[Pair]:
        """Pair the files in folders; `image` and `mask` are (folder, what stems begin and end with)."""
        folder = root / split
        if not folder.is_dir() and not all("{split}" in place for place, _ in (image, mask)):
            raise DataError(_missing_folder(folder, "data.root and the name of the split"))
        image_dirs = _folders(root, split, image[0], "data.image_dir")
        mask_dirs = _folders(root, split, mask[0], "data.mask_dir")
        # In one folder with their images, masks are known by their prefix or suffix, and are no images
        of_masks = mask[1] if image_dirs == mask_dirs else _Affixes()
        problems = None if self._strict else self.problems
        images = _by_stem(image_dirs, IMAGE_SUFFIXES, "image", "data.image_dir", image[1], of_masks, problems)
        masks: dict[str, Path]
        if isinstance(self.format, FindsMasks):
            masks = self.format.find(mask_dirs, mask[0])
            self._remark("left_out", *self.format.remarks)
            if self.format.catalogue and (unseen := masks.keys() - images.keys()):
                self._remark("left_out", f"{mask_dirs[0]}: {_some(unseen)} listed there and not in {image_dirs[0]}.")
                masks = {name: place for name, place in masks.items() if name in images}
        else:
            masks = _by_stem(mask_dirs, self.format.suffixes, "mask", "data.mask_dir", mask[1], _Affixes(), problems)
        both = images.keys() & masks.keys()
        bare = images.keys() - both if both and self.format.missing == "background" else set()
        if bare:
            self._remark("no_mask", f"{image_dirs[0]}: {_some(bare)} without a mask, taken as background.")
        masked = {name: path for name, path in images.items() if name not in bare}
        if self._strict:
            _check_partners(masked, masks, image_dirs[0], mask_dirs[0])
        else:
            for place in dict.fromkeys([*image_dirs, *([] if isinstance(self.format, FindsMasks) else mask_dirs)]):
                suffixes = (*(IMAGE_SUFFIXES if place in image_dirs else ()), *self.format.suffixes)
                partners = tuple(suffix for suffix in self.format.suffixes if suffix not in IMAGE_SUFFIXES)
                self.problems += list_irregular(place, suffixes, root, partners)
            self.problems += list_unpaired(masked, masks, image_dirs[0], mask_dirs[0])
        if not both:
            why = ["no image has a mask of its own stem.", *_same_letters(images, masks)]
            raise DataError(f"{image_dirs[0]} and {mask_dirs[0]}: {' '.join(why)}")
        names = sorted(both | bare)
        return [Pair(name, images[name], masks.get(name)) for name in names]

    def _remark(self, kind: str, *sentences: str) -> None:
        """Collect a remark for the start of a training and `check-data` to print."""
        self.remarks += sentences
        if not self._strict:
            self.problems += [Problem(sentence.split(":")[0], sentence, kind) for sentence in sentences]

    def refuse_ignored_objects(self, places: Sequence[int], split: str = "") -> None:
        """Refuse masks of which none shows more than the first class and the ignore index, as those in white do not.

        Samples are read until one shows more, which is nearly always the first.

        Args:
            places: positions of the samples to read.
            split: what they are, where the samples were dealt to splits.

        Raises:
            DataError: the masks are of this kind, unless the source only lists its `problems`.
        """
        if not self.format.white or self._is_refused:
            return
        ignored = 0
        for number, index in enumerate(places):
            if number == _LOOKED_AT and not ignored:
                return
            try:
                mask = self[index].mask
            except DataError:
                continue  # which training and check-data raise again, for the sample
            if ((mask == 1) if mask.ndim == 3 else (mask != 0) & (mask != self.ignore_index)).any():
                return
            ignored += bool((mask == self.ignore_index).any())
        if ignored:
            of_split = f" of the split {split!r}" if split else ""
            message = (
                f"{self._masks[places[0]]} and {len(places) - 1} more: no mask{of_split} shows more than 0 and "
                f"{self.ignore_index}, which is the ignore index, so there is nothing to learn. Where "
                f"{self.ignore_index} is the object, set {self.format.white}; where it marks unlabelled pixels, add "
                "masks that show a class."
            )
            if self._strict:
                raise DataError(message, "label")
            self.problems.append(Problem(self.ids[places[0]], message, "label"))
            self._is_refused = True

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Read sample `index`.

        Returns:
            Image (H, W, C), uint8 or float32; mask (H, W) of classes and the ignore index, or in multilabel mode
            (H, W, classes) of 0, 1 and the ignore index; and id.

        Raises:
            IndexError: `index` is not in 0..len-1.
            DataError: a file is unreadable or too large, the sizes differ, or a label is not a class.
        """
        if not 0 <= index < len(self.ids):
            raise IndexError(f"sample {index} of {len(self.ids)}")
        image_path, mask_path = self._images[index], self._masks[index]
        for path in self.files(index):
            if what := no_file(path):
                raise DataError(f"{path}: is {what}, where a file is due. Replace or remove it.", "unreadable")
        image = self.reader(image_path)
        grid = self._grid(image, image_path)
        mask = self.format.blank(grid) if mask_path is None else self.format.read(mask_path, image_path, grid)
        if self._exif != "neither" and (orientation := exif_orientation(image_path)) != 1:
            image = turned(image, orientation)
            mask = turned(mask, orientation) if self._exif == "both" else mask
        if image.shape[:2] != mask.shape[:2] and mask_path is not None:
            raise DataError(_sizes_differ(image_path, image.shape, mask_path, mask.shape, self._exif), "size_mismatch")
        return Sample(image, self._checked(mask, mask_path or image_path), self.ids[index])

    def _checked(self, mask: np.ndarray, path: Path) -> np.ndarray:
        """Return a mask of labels in the smallest dtype that holds them; DataError where one is no class."""
        if mask.ndim == 2:
            check_labels(mask, len(self.classes), self.ignore_index, path)
            if mask.dtype.itemsize > 2 or mask.dtype.kind != "u":
                return mask.astype(self.format.labels.dtype)
        return mask

    def _grid(self, image: np.ndarray, path: Path) -> tuple[int, int]:
        """Return the (height, width) that the mask was drawn on."""
        height, width = image.shape[:2]
        return (width, height) if self._exif == "image" and exif_orientation(path) >= 5 else (height, width)

    def gives_float(self, places: Iterable[int] | None = None) -> bool:
        """Return whether images of these samples, or of any, come as float32, from what their headers say."""
        images = (self._images[place] for place in (range(len(self)) if places is None else places))
        return any(not no_file(path) and self.reader.gives_float(path) for path in images)

    def files(self, index: int) -> tuple[Path, ...]:
        """Return the files that sample `index` is read from: the image first."""
        mask = self._masks[index]
        return (self._images[index], *(() if mask is None else self.format.files(mask)))

    def fingerprint(self) -> str:
        """Return a sha256 (hex) of what samples are made from.

        That is the classes, how images and masks are read, and the names, sizes in bytes and modification times of all
        files.
        """
        read = (self.format.settings, self.reader.settings, self._exif)
        digest = hashlib.sha256(repr((self.classes, self.ignore_index, *read)).encode())
        for index, name in enumerate(self.ids):
            for path in self.files(index):
                try:
                    status = path.stat()
                except OSError:  # gone, or a link to nothing: reading the sample says so
                    digest.update(repr((name, path.suffix, None)).encode())
                    continue
                digest.update(repr((name, path.suffix, status.st_size, status.st_mtime_ns)).encode())
        return digest.hexdigest()


def _folders(root: Path, split: str, pattern: str, key: str) -> list[Path]:
    """Resolve an `image_dir` or `mask_dir`: one path, or if it has a star, the folders that it matches."""
    base = root if "{split}" in pattern else root / split
    place = pattern.replace("{split}", split)
    if "*" not in place:
        return [base / place]
    named = Path(place).parts
    found = sorted(
        path
        for path in base.glob(place)
        if path.is_dir() and not any(part[0] == "." and part not in named for part in path.relative_to(base).parts)
    )
    if not found:
        raise DataError(f"{base}: no folder is like {place}. Check {key}.")
    return found


def _by_stem(
    folders: Sequence[Path],
    suffixes: tuple[str, ...],
    kind: str,
    key: str,
    own: _Affixes,
    others: _Affixes,
    problems: list[Problem] | None = None,
) -> dict[str, Path]:
    """List pictures in folders by stem without the `own` affixes; those without them, or of `others`, are left out.

    Hidden files are left out too, as archives from macOS bring "._NAME.jpg". What cannot be used is raised, or where
    there is a list of `problems` left out and added to it, unless `list_irregular` finds it in its folder.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise DataError(_missing_folder(folder, key))
        for path in sorted(folder.iterdir(), key=attrgetter("name")):
            if path.suffix.lower() not in suffixes or path.name.startswith(".") or not own.fit(path.stem):
                continue
            if any(others) and others.fit(path.stem):
                continue
            if what := no_file(path):
                message = f"{path}: is {what}, where {kind}s are files. Replace or remove it."
                if problems is None:
                    raise DataError(message, "unreadable")
                if not is_endless(path):
                    problems.append(Problem(path.name, message, "unreadable"))
                continue
            stem = path.stem.removeprefix(own.prefix).removesuffix(own.suffix)
            if stem in found:
                other = found[stem].name if found[stem].parent == folder else found[stem]
                message = (
                    f"{folder}: {other} and {path.name} have the same stem, so one {kind} is ambiguous. "
                    "Rename or remove one."
                )
                if problems is None:
                    raise DataError(message, "same_stem")
                if found[stem].parent != folder:
                    problems.append(Problem(path.name, message, "same_stem"))
            found.setdefault(stem, path)
    if not found:
        endings = ", ".join(f"{f'{own.prefix}*' if own.prefix else ''}{own.suffix}{suffix}" for suffix in suffixes)
        raise DataError(f"{folders[0]}: no {kind} in this folder (looked for {endings}). Check {key}.")
    return found


def _check_partners(images: dict[str, Path], masks: dict[str, Path], image_dir: Path, mask_dir: Path) -> None:
    """Raise DataError when an image has no mask or a mask no image."""
    problems = []
    for kind, partner, unpaired, where in (
        ("image", "a mask", sorted(images.keys() - masks.keys()), mask_dir),
        ("mask", "an image", sorted(masks.keys() - images.keys()), image_dir),
    ):
        if unpaired:
            names = ", ".join(unpaired[:5]) + (", ..." if len(unpaired) > 5 else "")
            problems.append(f"{len(unpaired)} {kind}(s) without {partner} of the same stem in {where}: {names}.")
    if problems:
        problems += _same_letters(images, masks)
        raise DataError(
            " ".join(problems) + " Images and masks are paired by file name without its ending "
            "(0001.jpg with 0001.png): add the missing files, or rename or remove the others."
        )


def _same_letters(images: Mapping[str, Path], masks: Mapping[str, Path]) -> list[str]:
    """Return a sentence where names of images and masks differ in nothing but their Unicode form."""
    theirs = {normal_form(stem): path for stem, path in masks.items() if stem not in images}
    for stem, path in images.items():
        if stem not in masks and (other := theirs.get(normal_form(stem))) is not None:
            return [same_letters(path, other)]
    return []


def _some(names: Collection[str]) -> str:
    """Return the number of images and the first of them, as "3 image(s) (a, b, c)"."""
    return f"{len(names)} image(s) ({', '.join(sorted(names)[:3])}{', ...' if len(names) > 3 else ''})"


def _missing_folder(folder: Path, key: str) -> str:
    parent = folder.parent
    near = sorted(entry.name for entry in parent.iterdir() if entry.is_dir()) if parent.is_dir() else []
    there = f"{parent} holds the folders {', '.join(near)}" if near else f"{parent} holds no folder"
    return f"{folder}: no such folder ({there if parent.is_dir() else f'{parent} does not exist'}). Check {key}."


def _sizes_differ(image_path: Path, image: tuple[int, ...], mask_path: Path, mask: tuple[int, ...], exif: Exif) -> str:
    message = (
        f"{image_path} is {image[1]} x {image[0]} (width x height), but its mask {mask_path} is {mask[1]} x {mask[0]}."
    )
    orientation = exif_orientation(image_path)
    if orientation >= 5 and image[:2] == mask[1::-1]:
        applied = "not applied" if exif == "neither" else f"applied as data.exif: {exif} says"
        other = "image" if exif == "neither" else "neither"
        return message + (
            f" The image has an EXIF orientation of {orientation}, which is {applied}: set data.exif: {other}, which "
            "fits masks of this size, or rotate the mask to match."
        )
    return message + " Make both the same size; resize masks with nearest-neighbour interpolation."
