"""Interface of a mask format, and the mapping from class names to labels."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from segzoo.errors import ConfigError, DataError, unknown_name
from segzoo.progress import percent
from segzoo.task import Mode, Task, takes_multilabel

# In tables of values, colours and categories: the name that stands for the ignore index.
IGNORE = "ignore"
MAX_PIXELS = 64 * 2**20  # 8192 x 8192: 200 MB decoded; a "decompression bomb" of a few kB can claim far more
LOSSLESS_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif", ".webp")
_JPEG_SUFFIXES = (".jpg", ".jpeg")
PICTURE_SUFFIXES = (*LOSSLESS_SUFFIXES, *_JPEG_SUFFIXES)
Missing = Literal["error", "background"]
HOLE = -(2**40)  # in place of a label: what is painted is background again; no dtype of labels holds it


@dataclass(frozen=True)
class Labels(Task):
    """A task as mask formats take it: the values that mask pixels can have, and how many pixels are read.

    Attributes:
        max_pixels: refuse larger masks before decoding them.
    """

    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if isinstance(self.mode, bool):  # what stood in this place in segzoo 0.1.0
            message = 'Labels takes the mode in place of multilabel; give "multilabel" or "multiclass".'
            warnings.warn(message, DeprecationWarning, stacklevel=4)
            object.__setattr__(self, "mode", "multilabel" if self.mode else "multiclass")
        super().__post_init__()

    @property
    def settings(self) -> str:
        """The labels as text, the same as in segzoo 0.1.0, since fingerprints of data sets are made from it."""
        return (
            f"Labels(classes={self.classes!r}, ignore_index={self.ignore_index!r}, multilabel={self.multilabel!r}, "
            f"max_pixels={self.max_pixels!r})"
        )

    def number(self, name: str, where: str) -> int:
        """Return the label of a class name, and the ignore index for "ignore"; ConfigError names `where`."""
        if name == IGNORE:
            return self.ignore_index
        if name not in self.classes:
            raise ConfigError(f"{where}: {unknown_name('class', name, [*self.classes, IGNORE])}")
        return self.classes.index(name)


Labels.__init__ = takes_multilabel(Labels.__init__)  # type: ignore[method-assign]


class MaskFormat(Protocol):
    """Reads masks.

    Attributes:
        modes: the modes whose masks the format can give.
        suffixes: endings of mask files where each image has one, by which `FolderSource` pairs them; empty where
            the format is one of `FindsMasks`.
        labels: labels that its pixels can have.
        settings: the format, its options and the classes as text, which `create_format` writes: other settings read
            other masks from the same files, so they are part of a source's fingerprint.
        white: the settings to try, in words, where a whole data set shows nothing but background and the ignore index,
            as pictures of one thing in white do to a format of labels; "" where that is no sign of a mistake.
        missing: what an image without a mask is, unless the option `missing` of every format says otherwise: "error",
            or "background" for formats of objects, where it is an image that shows none.
        first_is_background: whether a pixel that no object covers is of the first class, unless the option `background`
            says another.
    """

    modes: tuple[Mode, ...]
    suffixes: tuple[str, ...]
    settings: str
    white: str
    missing: Missing
    first_is_background: bool
    labels: Labels

    def read(self, place: Path, image: Path, size: tuple[int, int]) -> np.ndarray:
        """Return the mask of an image, (H, W) or (H, W, C) integers.

        Args:
            place: its file, or what `FindsMasks.find` gave.
            image: path of the image.
            size: (height, width) of the image.

        Raises:
            DataError: the file, its values or its size are unusable.
        """
        ...

    def files(self, place: Path) -> Iterable[Path]:
        """Return the files that the mask is read from."""
        ...

    def blank(self, size: tuple[int, int]) -> np.ndarray:
        """Return the mask of an image of (height, width) `size` that has none, all background."""
        ...


@runtime_checkable
class FindsMasks(Protocol):
    """Additional interface of formats whose masks are several files per image, or one file for all images.

    Attributes:
        catalogue: whether masks without an image are no mistake, because one file may list images of several folders.
        remarks: what `find` left out, a sentence each, to be told to the user.
    """

    catalogue: bool
    remarks: list[str]

    def find(self, folders: Sequence[Path], pattern: str) -> dict[str, Path]:
        """Return the place of each mask by its image's stem: a file, a folder or a stem of files.

        Args:
            folders: folders that `data.mask_dir` refers to.
            pattern: `data.mask_dir` itself, for messages.

        Raises:
            DataError: there is no such file.
        """
        ...


class OneFile:
    """Base class of formats with one mask file per image, at the path that `FolderSource` paired."""

    modes: tuple[Mode, ...] = ("multiclass", "binary")
    suffixes: tuple[str, ...] = LOSSLESS_SUFFIXES
    settings = ""
    white = ""
    missing: Missing = "error"
    first_is_background = False

    def __init__(self, labels: Labels):
        self.labels = labels

    def files(self, place: Path) -> Iterable[Path]:
        """Return the mask file."""
        return (place,)

    def blank(self, size: tuple[int, int]) -> np.ndarray:
        """Return the mask of an image that has none: the first class, or in multilabel no class."""
        return painted((), size, self.labels, 0, "")


def two_values(array: np.ndarray, name: object, threshold: int | None, cure: str) -> np.ndarray:
    """Return an array of 0 and 1, 0 and 255, or 0 and 65535, as 0 and 1 (uint8).

    Grey edges, as antialiasing and JPEG leave them, are an error that counts them, unless `threshold` is given: then
    values from it up are 1.

    Args:
        array: integers, any shape.
        name: its name in the message: its file.
        threshold: 1 to the largest value, or None.
        cure: the end of the message.

    Raises:
        DataError: other values occur, which are counted, or only 0 and 1 with a threshold above 1.
    """
    high = int(array.max(initial=0))
    if threshold is not None:
        smeared = Path(str(name)).suffix.lower() in (*_JPEG_SUFFIXES, ".webp")  # where 1 can be a dark 0
        if high == 1 < threshold and not smeared:
            raise DataError(
                f"{name}: its values are 0 and 1 ({int((array == 1).sum())} pixels), all below masks.threshold: "
                f"{threshold}, so nothing would be left. Take the threshold out, or set it to 1.",
                "label",
            )
        return (array >= threshold).astype(np.uint8)
    if high <= 1 and int(array.min(initial=0)) >= 0:
        return array.astype(np.uint8)
    one = 65535 if high == 65535 else 255 if high >= 128 else 1  # of smooth edges, or of class indices
    if array.dtype == np.uint8 and np.count_nonzero(array) == np.count_nonzero(array == one):
        return np.minimum(array, np.uint8(1))
    between = (array != 0) & (array != one)
    wrong = int(between.sum())
    if not wrong:
        return (array != 0).astype(np.uint8)
    values, counts = np.unique(array[between], return_counts=True)
    most = np.argsort(-counts, kind="stable")[:5]
    shown = ", ".join(f"{values[n]} ({counts[n]} pixels)" for n in most)
    raise DataError(
        f"{name}: {wrong} of {array.size} pixels ({percent(wrong / array.size)} %) are neither 0 nor {one}: {shown}"
        f"{', ...' if len(values) > 5 else ''}. {cure}",
        "label",
    )


def white_hint(labels: Labels, setting: str, guessed: bool) -> str:
    """Return `MaskFormat.white` for a setting that takes 255 for yes.

    Args:
        labels: the classes; two, unless in multilabel, where one thing in white is meant.
        setting: setting that reads these masks.
        guessed: whether nothing in the configuration says that 255 is the ignore index.
    """
    return setting if guessed and labels.ignore_index == 255 else ""


def check_threshold(threshold: int | None) -> None:
    """Raise ConfigError unless a threshold is None or 1 to 65535."""
    whole = isinstance(threshold, int) and not isinstance(threshold, bool) and 1 <= threshold <= 65535
    if threshold is not None and not whole:
        raise ConfigError(f"masks.threshold must be a whole number from 1 to 65535, got {threshold!r}.")


def painted(
    shapes: Iterable[tuple[int, np.ndarray]],
    size: tuple[int, int],
    labels: Labels,
    background: int,
    name: object,
    holes: bool = False,
) -> np.ndarray:
    """Paint shapes over each other into a mask; later ones cover earlier ones.

    Args:
        shapes: (label, where) of each, with `where` (H, W) bool; the ignore index as label in multilabel ignores the
            pixels of all classes, and `HOLE` clears them.
        size: (height, width).
        labels: the classes.
        background: label of the pixels that no shape covers (not in multilabel).
        name: name of the mask in messages.
        holes: whether shapes of the background's class may be drawn, over what lies beneath them.

    Raises:
        DataError: without `holes`, a shape of the background class, which could not be distinguished from uncovered
            pixels.
    """
    if labels.multilabel:
        mask = np.zeros((*size, len(labels.classes)), labels.dtype)
        for label, where in shapes:
            if label in (labels.ignore_index, HOLE):
                mask[where] = 0 if label == HOLE else label
            else:
                mask[..., label][where] = 1
        return mask
    mask = np.full(size, background, labels.dtype)
    for label, where in shapes:
        if label == background and label != labels.ignore_index and not holes:
            raise DataError(
                f"{name}: the class {labels.classes[label]!r} is drawn, and is also what pixels without a shape are. "
                "Set masks.background to the class that they have, or to ignore."
            )
        mask[where] = background if label == HOLE else label
    return mask
