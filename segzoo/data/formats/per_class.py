"""Masks in several files, one for each class that an image shows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from segzoo.data.formats.binary import BinaryFormat, Channel, check_channel, read_grey
from segzoo.data.formats.contract import Labels, Missing, check_threshold, two_values
from segzoo.data.formats.table import MASK_FORMATS
from segzoo.errors import ConfigError, DataError, listed
from segzoo.task import MODES, Mode

_CURE = "Set masks.threshold: 128 to count values from there up as the class."


@MASK_FORMATS.register("per_class")
class PerClassFormat:
    """One picture of 0 and 1, or 0 and 255, for each class; a class without a file is not in the image.

    Args:
        labels: the classes.
        files: where the files lie in the masks' folder, with {name} for the image's name without ending and {class}
            for the class: "{class}/{name}.png", "{name}_{class}.png". Endings are the same in upper and lower case, and
            .* stands for any that pictures have.
        background: class, or "ignore", of pixels that no file marks (not in multilabel); None: the first class where
            it has no files, and an error where it has.
        threshold: see `BinaryFormat`.
        channel: see `BinaryFormat`.

    In multiclass masks, a pixel that two files mark is an error.
    """

    modes: tuple[Mode, ...] = MODES
    suffixes: tuple[str, ...] = ()
    settings = ""
    white = ""
    missing: Missing = "background"
    first_is_background = False
    catalogue = False

    def __init__(
        self,
        labels: Labels,
        files: str = "{class}/{name}.png",
        background: str | None = None,
        threshold: int | None = None,
        channel: Channel | None = None,
    ):
        if files.count("{name}") != 1 or files.count("{class}") != 1:
            raise ConfigError(f"masks.files must have {{name}} and {{class}} once each, got {files!r}.")
        check_threshold(threshold)
        check_channel(channel)
        self.labels = labels
        self.remarks: list[str] = []
        self._files = files
        self._threshold = threshold
        self._channel = channel
        self._background = None if background is None else labels.number(background, "masks.background")
        self._given: dict[Path, dict[int, Path]] = {}
        self._first_has_files = False

    def find(self, folders: Sequence[Path], pattern: str) -> dict[str, Path]:
        """Return by name the folder of the masks and the name in it; the files are remembered."""
        found: dict[str, Path] = {}
        for folder in folders:
            for label, name in enumerate(self.labels.classes):
                for stem, file in self._of_class(folder, name):
                    place = found.setdefault(stem, folder / stem)
                    other = self._given.setdefault(place, {}).setdefault(label, file)
                    if other != file:
                        raise DataError(
                            f"{file}: {other.name} has the same stem, so which is the mask is ambiguous. Remove one.",
                            "same_stem",
                        )
                    self._first_has_files |= label == 0
        if not found:
            raise DataError(
                f"{pattern}: no mask of any class here (looked for {self._files}, with {{class}} one of "
                f"{listed(self.labels.classes)}). Check data.mask_dir and masks.files."
            )
        return found

    def _of_class(self, folder: Path, name: str) -> Iterator[tuple[str, Path]]:
        """Yield the files of a class, each with its image's name."""
        path, dot, ending = self._files.rpartition(".")
        if not dot or "{" in ending or "/" in ending:
            path, dot, ending = self._files, "", ""
        path = path.replace("{class}", name)
        endings = [suffix[1:] for suffix in BinaryFormat.suffixes] if ending == "*" else [ending]
        expression = re.compile(re.escape(path).replace(re.escape("{name}"), "([^/]+)"))
        for file in sorted(folder.glob(_literal(path).replace("{name}", "*") + (".*" if dot else ""))):
            where = file.relative_to(folder).as_posix()
            inside, own = where.rsplit(".", 1) if dot else (where, "")
            match = expression.fullmatch(inside)
            if match is not None and own.lower() in map(str.lower, endings) and not file.name.startswith("."):
                yield match[1], file

    def read(self, place: Path, image: Path, size: tuple[int, int]) -> np.ndarray:
        """Return labels (H, W), or in multilabel 0 and 1 (H, W, C)."""
        layers = np.zeros((len(self.labels.classes), *size), self.labels.dtype)
        for label, file in self._given[place].items():
            grey = read_grey(file, self.labels.max_pixels, self._channel)
            if grey.shape != size:
                raise DataError(
                    f"{file} is {grey.shape[1]} x {grey.shape[0]} (width x height), its image {image} {size[1]} x "
                    f"{size[0]}. Make both the same size.",
                    "size_mismatch",
                )
            layers[label] = two_values(grey, file, self._threshold, _CURE)
        if self.labels.multilabel:
            return np.ascontiguousarray(np.moveaxis(layers, 0, -1))
        return self._flattened(layers, place)

    def files(self, place: Path) -> Iterable[Path]:
        """Return the files of the classes that the image shows."""
        return self._given[place].values()

    def blank(self, size: tuple[int, int]) -> np.ndarray:
        """Return the mask of an image that no file belongs to."""
        count = len(self.labels.classes)
        if self.labels.multilabel:
            return np.zeros((*size, count), self.labels.dtype)
        return self._flattened(np.zeros((count, *size), self.labels.dtype), "an image without a file")

    def _flattened(self, layers: np.ndarray, place: Path | str) -> np.ndarray:
        """Return labels (H, W) of layers (C, H, W) of 0 and 1: along the last axis NumPy would sum far slower."""
        marked = layers.sum(0, dtype=np.int64)
        twice = marked > 1
        if twice.any():
            names = [name for n, name in enumerate(self.labels.classes) if layers[n][twice].any()]
            raise DataError(
                f"{place}: {int(twice.sum())} pixels belong to several classes ({', '.join(names)}). Correct them, "
                "or train with mode: multilabel, where classes may overlap."
            )
        mask = layers.argmax(0).astype(self.labels.dtype)
        bare = marked == 0
        if self._background is not None:
            mask[bare] = self._background
        elif self._first_has_files and bare.any():
            raise DataError(
                f"{place}: {int(bare.sum())} pixels belong to no class. Set masks.background to the class that they "
                "have, or to ignore."
            )
        return mask


def _literal(path: str) -> str:
    """Return a glob pattern that matches `path` itself."""
    return re.sub(r"([*?\[])", r"[\1]", path)
