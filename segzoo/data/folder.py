"""Samples from a folder of images and a folder of masks that share their names."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from segzoo.data.images import exif_orientation, read_image
from segzoo.data.listing import is_endless, list_oddities, list_unpaired
from segzoo.data.masks import check_labels, read_index_mask
from segzoo.data.problems import Problem
from segzoo.data.sources import Sample
from segzoo.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
MASK_SUFFIXES = (".png",)
MAX_PIXELS = 64 * 2**20  # 8192 x 8192: 200 MB decoded; a "decompression bomb" of a few kB can claim far more


class FolderSource:
    """Images `<root>/<split>/<image_dir>/NAME.jpg` with masks `<root>/<split>/<mask_dir>/NAME.png`.

    Images are JPEG, PNG, BMP or TIFF; masks are PNGs of class indices (see `read_index_mask`). Pairs are made, and
    files without a partner refused, when the source is built; each file is checked when it is read. An EXIF
    orientation is applied to neither, so masks must be drawn on the pixel grid that the image file stores.

    Args:
        root: the data set's folder.
        split: the folder in it ("train"); "" or "." where the data set has no splits.
        classes: class names; the index of a name is its label.
        ignore_index: the label of pixels that count in no loss and no metric.
        image_dir: the images' folder within the split.
        mask_dir: the masks' folder within the split.
        max_pixels: refuse larger pictures before decoding them.
        strict: refuse files without a partner and two of one stem; False leaves them out and lists them in `problems`.

    Attributes:
        problems: what the listing of files found wrong, where not `strict`.
        folders: where images and masks lie, as paths from `root`.

    Raises:
        DataError: a folder is missing or empty; and where `strict`, two files share a stem, or an image or mask has no
            partner.
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
        strict: bool = True,
    ):
        self.classes = list(classes)
        self.ignore_index = ignore_index
        self.max_pixels = max_pixels
        folder = Path(root) / split
        if not folder.is_dir():
            raise DataError(_missing_folder(folder, "data.root and the name of the split"))
        self.folders = (Path(split) / image_dir, Path(split) / mask_dir)
        image_folder, mask_folder = folder / image_dir, folder / mask_dir
        self.problems: list[Problem] = []
        if not strict:
            self.problems = [*list_oddities(image_folder, IMAGE_SUFFIXES, Path(root))]
            if mask_folder != image_folder:
                self.problems += list_oddities(mask_folder, MASK_SUFFIXES, Path(root))
        images = _by_stem(image_folder, IMAGE_SUFFIXES, "image", "data.image_dir", strict)
        masks = _by_stem(mask_folder, MASK_SUFFIXES, "mask", "data.mask_dir", strict)
        if strict:
            _check_partners(images, masks, image_folder, mask_folder)
        else:
            self.problems += list_unpaired(images, masks, image_folder, mask_folder)
        self.ids = sorted(images.keys() & masks.keys())
        if not self.ids:
            raise DataError(
                f"{image_folder} and {mask_folder}: no image has a mask of its own stem (0001.jpg, 0001.png)."
            )
        self._images = [images[name] for name in self.ids]
        self._masks = [masks[name] for name in self.ids]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Read sample `index`.

        Returns:
            image (H, W, 3) uint8, mask (H, W) uint8 or uint16 with every label a class or the ignore index, and id.

        Raises:
            IndexError: `index` is not in 0..len-1.
            DataError: a file is unreadable or too large, the sizes differ, or a label is no class.
        """
        if not 0 <= index < len(self.ids):
            raise IndexError(f"sample {index} of {len(self.ids)}")
        image_path, mask_path = self._images[index], self._masks[index]
        image = read_image(image_path, self.max_pixels)
        mask = read_index_mask(mask_path, self.max_pixels)
        if image.shape[:2] != mask.shape:
            raise DataError(_sizes_differ(image_path, image.shape, mask_path, mask.shape), "size_mismatch")
        check_labels(mask, len(self.classes), self.ignore_index, mask_path)
        return Sample(image, mask, self.ids[index])

    def files(self, index: int) -> tuple[Path, ...]:
        """Return the files that sample `index` is read from: image and mask."""
        return self._images[index], self._masks[index]

    def fingerprint(self) -> str:
        """Return a sha256 (hex) over the classes, and the names, sizes in bytes and modification times of all files."""
        digest = hashlib.sha256(repr((self.classes, self.ignore_index)).encode())
        for name, *paths in zip(self.ids, self._images, self._masks, strict=True):
            for path in paths:
                status = path.stat()
                digest.update(repr((name, path.suffix, status.st_size, status.st_mtime_ns)).encode())
        return digest.hexdigest()


def turned_image(source: FolderSource, index: int) -> np.ndarray | None:
    """Return an image turned by its EXIF orientation (1 to 8), where its mask fits it only then; else None.

    Raises nothing: a pair with any other fault gives None.
    """
    image_path, mask_path = source.files(index)
    orientation = exif_orientation(image_path)
    if orientation not in _TURNS:
        return None
    try:
        image = read_image(image_path, source.max_pixels)
        mask = read_index_mask(mask_path, source.max_pixels)
        check_labels(mask, len(source.classes), source.ignore_index, mask_path)
    except DataError:
        return None
    turned = _TURNS[orientation](image)
    return np.ascontiguousarray(turned) if turned.shape[:2] == mask.shape != image.shape[:2] else None


# How the stored pixels become those to look at; only those that swap height and width can mend a size mismatch.
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(image, 2).swapaxes(0, 1),
    8: lambda image: np.rot90(image),
}


def _by_stem(folder: Path, suffixes: tuple[str, ...], kind: str, key: str, strict: bool) -> dict[str, Path]:
    """List a folder's pictures by stem; hidden files are left out, as archives from macOS bring "._NAME.jpg"."""
    if not folder.is_dir():
        raise DataError(_missing_folder(folder, key))
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not strict and is_endless(path):
            continue
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        if path.stem in found and strict:
            raise DataError(
                f"{folder}: {found[path.stem].name} and {path.name} have the same stem, so one {kind} is ambiguous. "
                "Rename or remove one."
            )
        found.setdefault(path.stem, path)
    if not found:
        endings = ", ".join(suffixes)
        raise DataError(f"{folder}: no {kind} in this folder (looked for {endings}). Check {key}.")
    return found


def _check_partners(images: dict[str, Path], masks: dict[str, Path], image_dir: Path, mask_dir: Path) -> None:
    """Raise DataError when an image has no mask or a mask no image."""
    problems = []
    for kind, partner, lonely, where in (
        ("image", "a mask", sorted(images.keys() - masks.keys()), mask_dir),
        ("mask", "an image", sorted(masks.keys() - images.keys()), image_dir),
    ):
        if lonely:
            names = ", ".join(lonely[:5]) + (", ..." if len(lonely) > 5 else "")
            problems.append(f"{len(lonely)} {kind}(s) without {partner} of the same stem in {where}: {names}.")
    if problems:
        raise DataError(
            " ".join(problems) + " Images and masks are paired by file name without its ending "
            "(0001.jpg with 0001.png): add the missing files, or rename or remove the others."
        )


def _missing_folder(folder: Path, key: str) -> str:
    parent = folder.parent
    near = sorted(entry.name for entry in parent.iterdir() if entry.is_dir()) if parent.is_dir() else []
    there = f"{parent} holds the folders {', '.join(near)}" if near else f"{parent} holds no folder"
    return f"{folder}: no such folder ({there if parent.is_dir() else f'{parent} does not exist'}). Check {key}."


def _sizes_differ(image_path: Path, image: tuple[int, ...], mask_path: Path, mask: tuple[int, ...]) -> str:
    message = (
        f"{image_path} is {image[1]} x {image[0]} (width x height), but its mask {mask_path} is {mask[1]} x {mask[0]}."
    )
    orientation = exif_orientation(image_path)
    if orientation >= 5 and image[:2] == mask[::-1]:
        return message + (
            f" The image has an EXIF orientation of {orientation}, which is not applied: rotate the image's pixels "
            "and drop the tag, or rotate the mask to match."
        )
    return message + " Make both the same size; resize masks with nearest-neighbour interpolation."
