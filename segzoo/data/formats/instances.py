"""Masks in several files, one for each object, as in the 2018 Data Science Bowl: their union is the class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from segzoo.data.formats.binary import Channel, check_channel, read_grey
from segzoo.data.formats.contract import PICTURE_SUFFIXES, Labels, Missing, check_threshold, two_values
from segzoo.data.formats.table import MASK_FORMATS
from segzoo.errors import ConfigError, DataError
from segzoo.task import Mode

_CURE = "Set masks.threshold: 128 to count values from there up as the object."


@MASK_FORMATS.register("instances")
class InstancesFormat:
    """A folder of pictures of 0 and 1, or 0 and 255, for each image; an empty folder is an image without objects.

    With `mask_dir: masks` the folder of an image NAME.png is masks/NAME; with a star, as in `mask_dir: "*/masks"`, the
    star stands for NAME.

    Args:
        labels: the first class is what no file marks.
        label: the class of the objects; None: the second of two classes.
        gap: pixels around the outlines of objects that touch or overlap, which become the class `gap_label`, so that a
            network learns to part them (Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597); 0: none.
        gap_label: class name, or "ignore".
        threshold: see `BinaryFormat`.
        channel: see `BinaryFormat`.
    """

    modes: tuple[Mode, ...] = ("multiclass", "binary")
    suffixes: tuple[str, ...] = ()
    settings = ""
    white = ""
    missing: Missing = "background"
    first_is_background = True
    catalogue = False

    def __init__(
        self,
        labels: Labels,
        label: str | None = None,
        gap: int = 0,
        gap_label: str = "ignore",
        threshold: int | None = None,
        channel: Channel | None = None,
    ):
        if label is None and len(labels.classes) != 2:
            raise ConfigError("masks.label must say which class the objects are of, where there are not two classes.")
        if not isinstance(gap, int) or isinstance(gap, bool) or not 0 <= gap <= 32:
            raise ConfigError(f"masks.gap must be 0 to 32 pixels, got {gap!r}.")
        check_threshold(threshold)
        check_channel(channel)
        self.labels = labels
        self.remarks: list[str] = []
        self._label = 1 if label is None else labels.number(label, "masks.label")
        self._gap = gap
        self._gap_label = labels.number(gap_label, "masks.gap_label")
        self._threshold = threshold
        self._channel = channel

    def find(self, folders: Sequence[Path], pattern: str) -> dict[str, Path]:
        """Return by name the folder of an image's masks."""
        found: dict[str, Path] = {}
        if "*" in pattern:
            parts = Path(pattern).parts
            depth = len(parts) - next(n for n, part in enumerate(parts) if "*" in part)
            found = {folder.parts[-depth]: folder for folder in folders}
        else:
            for folder in folders:
                found |= {entry.name: entry for entry in _visible(folder) if entry.is_dir()}
        if not found:
            raise DataError(f"{pattern}: no folder of masks for any image here. Check data.mask_dir.")
        return found

    def read(self, place: Path, image: Path, size: tuple[int, int]) -> np.ndarray:
        """Return labels (H, W)."""
        mask = np.zeros(size, self.labels.dtype)
        near: np.ndarray = np.zeros(size, np.uint8)
        for file in self.files(place):
            grey = read_grey(file, self.labels.max_pixels, self._channel)
            if grey.shape != size:
                raise DataError(
                    f"{file} is {grey.shape[1]} x {grey.shape[0]} (width x height), its image {image} {size[1]} x "
                    f"{size[0]}. Make both the same size.",
                    "size_mismatch",
                )
            thing = two_values(grey, file, self._threshold, _CURE)
            np.copyto(mask, self._label, where=thing.view(bool))
            if self._gap:
                self._add_near(near, thing)
        if self._gap:
            mask[near > 1] = self._gap_label
        return mask

    def _add_near(self, near: np.ndarray, thing: np.ndarray) -> None:
        """Count an object, 0 and 1 (H, W), at the pixels within the gap of it; most of an image is far from it."""
        x, y, width, height = cv2.boundingRect(thing)
        box = slice(max(0, y - self._gap), y + height + self._gap), slice(max(0, x - self._gap), x + width + self._gap)
        if width:
            grown = cv2.dilate(np.ascontiguousarray(thing[box]), np.ones((2 * self._gap + 1,) * 2, np.uint8))
            near[box] = cv2.add(np.ascontiguousarray(near[box]), grown)

    def files(self, place: Path) -> Iterable[Path]:
        """Return the files of an image's objects, sorted."""
        return [path for path in _visible(place) if path.suffix.lower() in PICTURE_SUFFIXES]

    def blank(self, size: tuple[int, int]) -> np.ndarray:
        """Return the mask of an image without a folder: it shows no object."""
        return np.zeros(size, self.labels.dtype)


def _visible(folder: Path) -> list[Path]:
    """Return the sorted entries of a folder, except hidden ones; DataError if it cannot be listed."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}). Check data.mask_dir.") from error
