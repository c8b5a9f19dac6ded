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
        runtime: those of them that reading and running a file takes; None: all.
        put_metadata: writes a line of JSON into what `write` wrote; None: the format has no place for it.
        get_metadata: returns that line; None for a file without one.
        write: writes a graph to a path that does not exist.
        load: opens a path in the format's own runtime, in float32 on the CPU; returns a function from images
            `(B, H, W, 3)` float32 to what the graph returns.
    """

    artefact: str
    write: Callable[[Graph, Path], None]
    load: Callable[[Path], Run]
    marker: str = ""
    packages: tuple[str, ...] = ()
    runtime: tuple[str, ...] | None = None
    put_metadata: Callable[[Path, str], None] | None = None
    get_metadata: Callable[[Path], str | None] | None = None

    def check_packages(self, *, running: bool = False) -> None:
        """Raise SegzooError, naming the cure, if a package is missing; imports none of them.

        Args:
            running: whether a file is only to be read and run, not written.
        """
        needed = self.packages if not running or self.runtime is None else self.runtime
        missing = [name for name in needed if importlib.util.find_spec(name) is None]
        if missing:
            raise SegzooError(
                f"{'Reading this file' if running else 'This export'} needs {' and '.join(missing)}, which "
                f"{'is' if len(missing) == 1 else 'are'} not installed: {install_command('export')}"
            )

    def target(self, path: Path) -> Path:
        """Return the path of the artefact: `path` if it has the right suffix, else a file in the folder `path`."""
        suffix = Path(self.artefact).suffix
        if suffix and path.suffix == suffix:
            return path
        return path / self.artefact
