"""Reading a whole data set once and listing everything that is wrong with it, instead of stopping at the first."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from segzoo.data.sources import Source
from segzoo.errors import DataError


@dataclass(frozen=True)
class Problem:
    """A sample that cannot be used: its id, and what is wrong where and what to do about it."""

    id: str
    message: str


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        samples: how many there are, unusable ones included.
        problems: the unusable ones, in the source's order.
        pixels: class name to its number of pixels, over the usable samples; every class is there, if with 0.
        images: class name to the number of samples that show it.
        shown_in: class name to the labelled pixels, of all classes, of the samples that show it.
        ignored: number of pixels that carry the ignore index.
        sizes: (height, width) to the number of samples, the most frequent first.
        fingerprint: the source's.
    """

    samples: int
    problems: list[Problem]
    pixels: dict[str, int]
    images: dict[str, int]
    shown_in: dict[str, int]
    ignored: int
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)
    fingerprint: str = ""

    @property
    def ok(self) -> bool:
        """Whether every sample can be used."""
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


def check_source(source: Source, workers: int = 2, progress: Callable[[int], None] | None = None) -> Report:
    """Read every sample once.

    Args:
        source: what to check.
        workers: threads that read.
        progress: called after each sample with the number read so far, in the calling thread.
    """
    classes = len(source.classes)

    def read(index: int) -> Problem | tuple[np.ndarray, int, tuple[int, int]]:
        try:
            mask = source[index].mask
        except DataError as error:
            return Problem(source.ids[index], str(error))
        valid = mask[mask != source.ignore_index]
        counts = np.bincount(valid, minlength=classes)[:classes]
        return counts, mask.size - valid.size, (mask.shape[0], mask.shape[1])

    problems: list[Problem] = []
    pixels, images, shown_in = (np.zeros(classes, np.int64) for _ in range(3))
    ignored, sizes = 0, dict[tuple[int, int], int]()
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for done, found in enumerate(pool.map(read, range(len(source))), 1):
            if isinstance(found, Problem):
                problems.append(found)
            else:
                counts, unlabelled, size = found
                pixels += counts
                images += counts > 0
                shown_in += np.where(counts > 0, counts.sum(), 0)
                ignored += unlabelled
                sizes[size] = sizes.get(size, 0) + 1
            if progress is not None:
                progress(done)
    return Report(
        samples=len(source),
        problems=problems,
        pixels={name: int(n) for name, n in zip(source.classes, pixels, strict=True)},
        images={name: int(n) for name, n in zip(source.classes, images, strict=True)},
        shown_in={name: int(n) for name, n in zip(source.classes, shown_in, strict=True)},
        ignored=ignored,
        sizes=dict(sorted(sizes.items(), key=lambda item: -item[1])),
        fingerprint=source.fingerprint(),
    )
