"""Interface of an export format."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segzoo.errors import SegzooError
from segzoo.export.graph import Graph
from segzoo.extras import install_command

Run = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Format:
    """Export format: a writer of graphs, and a loader that runs them.

    Attributes:
        artefact: default name of what is written: a file, or a folder where it has no ending.
        marker: a file that only a folder of this format holds; "" for a file.
        packages: names of the packages that it imports beside segzoo's own requirements.
        write: writes a graph to a path that does not exist.
        load: opens a path in the format's own runtime, in float32 on the CPU; returns a function from images
            `(B, H, W, 3)` float32 to what the graph returns.
    """

    artefact: str
    write: Callable[[Graph, Path], None]
    load: Callable[[Path], Run]
    marker: str = ""
    packages: tuple[str, ...] = ()

    def check_packages(self) -> None:
        """Raise SegzooError, naming the cure, if a package is missing; imports none of them."""
        missing = [name for name in self.packages if importlib.util.find_spec(name) is None]
        if missing:
            raise SegzooError(
                f"This export needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not "
                f"installed: {install_command('export')}"
            )

    def target(self, path: Path) -> Path:
        """Return the path of the artefact: `path` if it has the right suffix, else a file in the folder `path`."""
        suffix = Path(self.artefact).suffix
        if suffix and path.suffix == suffix:
            return path
        return path / self.artefact
