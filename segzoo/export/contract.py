"""Interface of an export format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from segzoo.errors import MissingPackageError
from segzoo.extras import cure_of, missing_packages

if TYPE_CHECKING:
    from segzoo.export.graph import Graph
    from segzoo.export.samples import Calibration

FLOAT32 = "float32"
# Largest difference of logits, as a fraction of the largest logit, where weights were rounded to float16, each by up to
# 2^-11 of itself: 5e-4 to 1e-3 is seen.
HALF_TOLERANCE = 1e-2

Run = Callable[[np.ndarray], np.ndarray]


class Loader(Protocol):
    """Function that opens an exported file or folder in its runtime."""

    def __call__(self, path: Path, /, *, threads: int | None = None) -> Run:
        """Return a function from images to what the file returns; `threads` None leaves their number to the runtime."""
        ...


@dataclass(frozen=True)
class Reduced:
    """Writer of a format in fewer bits than float32.

    Attributes:
        write: writes a graph to a path that does not exist; the calibration is empty unless `calibrated`.
        tolerance: largest difference of logits, as a fraction of the largest logit; None: whether they are good enough
            is said by the accuracy on labelled images, which are then required.
        calibrated: whether it needs images to measure ranges of activations.
        packages: names of packages beside those of the format.
        extras: extras that install these packages.
    """

    write: Callable[[Graph, Path, Calibration], None]
    tolerance: float | None = None
    calibrated: bool = False
    packages: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()


@dataclass(frozen=True)
class Format:
    """Export format: a writer of graphs, and a loader that runs them.

    Attributes:
        artefact: default name of what is written: a file, or a folder where it has no ending.
        marker: a file that only a folder of this format holds; "" for a file.
        packages: names of the packages that it imports beside segzoo's own requirements.
        runtime: those of them that reading and running a file takes; None: all.
        reduced: writers for other precisions, by their names: "float16", "int8", "dynamic".
        put_metadata: writes a line of JSON into what `write` wrote; None: the format has no place for it.
        get_metadata: returns that line; None for a file without one.
        write: writes a graph in float32 to a path that does not exist.
        load: opens a path in the format's own runtime, in float32 on the CPU, and with a number of threads where
            `threads` is given; returns a function from images `(B, H, W, 3)` float32 to what the graph returns.
    """

    artefact: str
    write: Callable[[Graph, Path], None]
    load: Loader
    marker: str = ""
    packages: tuple[str, ...] = ()
    runtime: tuple[str, ...] | None = None
    reduced: Mapping[str, Reduced] = field(default_factory=dict)
    put_metadata: Callable[[Path, str], None] | None = None
    get_metadata: Callable[[Path], str | None] | None = None

    @property
    def precisions(self) -> tuple[str, ...]:
        """Names of the precisions that it can be written in."""
        return (FLOAT32, *self.reduced)

    def check_packages(self, precision: str = FLOAT32, *, running: bool = False) -> None:
        """Raise MissingPackageError, naming the cure, if a package is missing; imports none of them.

        Args:
            precision: precision in which a file is to be written.
            running: whether a file is only to be read and run, not written.
        """
        needed = self.packages if not running or self.runtime is None else self.runtime
        extras: tuple[str, ...] = ("export",)
        if precision in self.reduced:
            needed += self.reduced[precision].packages
            extras += self.reduced[precision].extras
        if missing := missing_packages(needed):
            raise MissingPackageError(cure_of("Reading this file" if running else "This export", missing, *extras))

    def target(self, path: Path, precision: str = FLOAT32) -> Path:
        """Return the path of the artefact: `path` if it has the right suffix, else a file in the folder `path`.

        In another precision than float32 its default name says so: model-int8.onnx.
        """
        artefact = Path(self.artefact)
        if artefact.suffix and path.suffix == artefact.suffix:
            return path
        return path / (self.artefact if precision == FLOAT32 else f"{artefact.stem}-{precision}{artefact.suffix}")
