"""Sample, and the interface of a source of samples."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

Size = tuple[int, int]  # height and width in pixels


class Sample(NamedTuple):
    """One image with its labels.

    Attributes:
        image: (H, W, C) uint8 or float32; three channels are RGB, and networks take values in 0..255.
        mask: (H, W) integers (uint8, uint16 or int32); each is an index into the source's classes or its ignore index.
            In multilabel (H, W, classes) of 0, 1 and the ignore index.
        id: a name that is unique within the source and stable between runs.
    """

    image: np.ndarray
    mask: np.ndarray
    id: str


@runtime_checkable
class Source(Protocol):
    """A finite, random-access collection of samples; reading is safe from several threads at once.

    Attributes:
        ids: one name per sample, in order.
        classes: class names; the index of a name is its label.
        ignore_index: the label of pixels that count in no loss and no metric.
    """

    ids: list[str]
    classes: list[str]
    ignore_index: int

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def __getitem__(self, index: int) -> Sample:
        """Read sample `index`; IndexError outside 0..len-1, DataError where its files cannot be used."""
        ...

    def fingerprint(self) -> str:
        """Return a sha256 (hex) that changes when the samples do; it is cheap, so it reads no pixels."""
        ...


def may_give_float(source: Source, places: Iterable[int] | None = None) -> bool:
    """Return whether images of these samples, or of any, may come as float32; True where a source does not tell.

    A source tells by a method `gives_float(places)`.
    """
    tells = getattr(source, "gives_float", None)
    return True if tells is None else bool(tells(places))


def remarks(source: Source) -> list[str]:
    """Return the remarks of a source for the user, also of one that is wrapped by a subset or a cache."""
    while not hasattr(source, "remarks") and hasattr(source, "source"):
        source = source.source
    return list(getattr(source, "remarks", ()))
