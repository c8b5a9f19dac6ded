"""Findings of a data set check: figures of each split, problems, and thumbnails for its report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from segzoo.data.problems import Problem
from segzoo.errors import DataError


@dataclass(frozen=True)
class Report:
    """Statistics and unusable samples of one split.

    Attributes:
        samples: how many there are, unusable ones included.
        problems: the unusable ones, in the source's order.
        pixels: class name to its number of pixels, over the usable samples; every class is there, if with 0.
        images: class name to the number of samples that show it.
        shown_in: class name to the labelled pixels, of all classes, of the samples that show it.
        ignored: number of pixels that carry the ignore index.
        sizes: (height, width) to the number of samples, the most frequent first.
        fingerprint: the source's.
        labelled: number of labelled pixels, of which some may be of several classes, or of none, in multilabel masks.
    """

    samples: int
    problems: list[Problem]
    pixels: dict[str, int]
    images: dict[str, int]
    shown_in: dict[str, int]
    ignored: int
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)
    fingerprint: str = ""
    labelled: int = 0

    def share(self, name: str) -> float:
        """Return the fraction of the labelled pixels that are of a class, 0..1."""
        return self.pixels[name] / max(1, self.labelled)

    @property
    def ok(self) -> bool:
        """True if every sample can be used."""
        return not self.problems

    @property
    def absent(self) -> list[str]:
        """The classes that no usable sample shows."""
        return [name for name, count in self.pixels.items() if count == 0]

    def raise_if_bad(self, most: int = 5) -> None:
        """Raise DataError that lists the first `most` problems, if there are any."""
        if self.problems:
            lines = [f"- {problem.message}" for problem in self.problems[:most]]
            if len(self.problems) > most:
                lines.append(f"- and {len(self.problems) - most} more")
            raise DataError(f"{len(self.problems)} of {self.samples} samples cannot be used:\n" + "\n".join(lines))


class Thumbnail(NamedTuple):
    """Downscaled sample for the contact sheet.

    Attributes:
        split, id: whose it is.
        image: as the source gives it, but at most 240 pixels a side.
        mask: labels of the same size, taken and not mixed.
    """

    split: str
    id: str
    image: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True)
class Findings:
    """Reports of all splits, with the problems found across them.

    Attributes:
        splits: name of the split to its figures.
        problems: everything that is wrong, also across splits: errors, warnings and notes.
        thumbnails: some samples of every split, evenly spaced.
        twins: (split, id) of samples that are left out without loss, because another has the same pixels and labels.
    """

    splits: dict[str, Report]
    problems: list[Problem]
    thumbnails: list[Thumbnail]
    twins: frozenset[tuple[str, str]] = frozenset()

    @property
    def ok(self) -> bool:
        """True if there is no error; warnings and notes do not count."""
        return not any(problem.severity == "error" for problem in self.problems)
