"""Masks as NumPy files: .npy and .npz."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from segzoo.data.formats.contract import Labels, OneFile, two_values
from segzoo.errors import DataError


class ArrayFormat(OneFile):
    """One .npy or .npz for each image: labels (H, W), or in multilabel 0, 1 and the ignore index (H, W, C).

    Args:
        labels: the classes.
        key: name of the array in an .npz; None: the only one.
    """

    multilabel = (False, True)
    suffixes = (".npy", ".npz")

    def __init__(self, labels: Labels, key: str | None = None):
        super().__init__(labels)
        self._key = key

    def read(self, place: Path, image: Path, size: tuple[int, int]) -> np.ndarray:
        """Return labels (H, W), or in multilabel (H, W, C)."""
        mask = load_array(place, self.labels.max_pixels, self._key)
        if mask.dtype == bool:
            mask = mask.astype(np.uint8)
        if mask.dtype.kind == "f":
            wrong = int((mask != np.rint(mask)).sum())
            if wrong:
                raise DataError(f"{place}: {wrong} of {mask.size} values of the mask are no whole numbers.")
            mask = mask.astype(np.int64)
        if mask.dtype.kind not in "iu":
            raise DataError(f"{place}: a mask holds whole numbers, not {mask.dtype}.")
        if self.labels.multilabel:
            return layered(mask, self.labels, place)
        if mask.ndim == 3 and mask.shape[2] == 1:
            mask = mask[..., 0]
        if mask.ndim != 2:
            raise DataError(
                f"{place}: a mask of shape {mask.shape}, where (H, W) is due. Masks of one channel per class "
                "go with mode: multilabel."
            )
        return mask if mask.dtype.itemsize <= 4 else mask.astype(np.int32)


def layered(mask: np.ndarray, labels: Labels, place: Path) -> np.ndarray:
    """Return a mask (H, W, C) of 0 and 1, or 0 and 255, and the ignore index as 0, 1 and the ignore index.

    Raises:
        DataError: another number of channels than classes, or other values.
    """
    if mask.ndim != 3 or mask.shape[2] != len(labels.classes):
        raise DataError(
            f"{place}: a mask of shape {mask.shape}, where multilabel needs (H, W, {len(labels.classes)}): one "
            f"channel for each class ({', '.join(labels.classes)})."
        )
    # 255 is "yes" beside 0 alone; with ones in the file it can only be the ignore index
    ignored = (mask == labels.ignore_index) & bool((mask == 1).any() or labels.ignore_index != 255)
    cure = "Each channel must hold 0 and 1, or 0 and 255, and the ignore index (data.ignore_index)."
    result = two_values(np.where(ignored, 0, mask), place, None, cure).astype(labels.dtype)
    result[ignored] = labels.ignore_index
    return result


def load_array(path: Path, max_pixels: int, key: str | None = None) -> np.ndarray:
    """Read an array (H, W) or (H, W, C) from .npy or .npz, its shape before its data; never anything pickled.

    Raises:
        DataError: missing, damaged, truncated or pickled; another number of axes; over `max_pixels` pixels; or an .npz
            without that key.
    """
    try:
        if path.suffix.lower() == ".npy":
            with path.open("rb") as stream:
                _check_shape(stream, path, max_pixels)
                stream.seek(0)
                return np.load(stream, allow_pickle=False)
        with zipfile.ZipFile(path) as archive:
            keys = [name.removesuffix(".npy") for name in archive.namelist()]
            if len(keys) != 1 if key is None else key not in keys:
                wanted = "no single one" if key is None else f"none called {key!r}"
                raise DataError(f"{path}: of its arrays ({', '.join(keys)}) {wanted}. Set masks.key to one of them.")
            with archive.open(f"{key or keys[0]}.npy") as stream:
                _check_shape(stream, path, max_pixels)
        with np.load(path, allow_pickle=False) as arrays:
            return arrays[key or keys[0]]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise DataError(f"{path}: cannot be read as an array ({error}). Write the file again or remove it.") from error


def _check_shape(stream: IO[bytes], path: Path, max_pixels: int) -> None:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if dtype.hasobject:
        raise DataError(f"{path}: holds Python objects, which are not read. Save plain numbers.")
    if len(shape) not in (2, 3):
        raise DataError(f"{path}: an array of shape {shape}, where (H, W) or (H, W, C) is due.")
    if shape[0] * shape[1] > max_pixels:
        raise DataError(
            f"{path}: {shape[1]} x {shape[0]} is {shape[0] * shape[1]} pixels, over the limit of {max_pixels} that "
            "guards memory. Cut the picture into tiles, or raise max_pixels."
        )
