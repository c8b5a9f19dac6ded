"""Speed and memory of an exported model, measured in a process that does nothing else."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segzoo.device import available_cores
from segzoo.errors import SegzooError

_MOST_SECONDS = 600  # a process that takes longer is ended
_WARM_UPS = 3
_CHILD = "from segzoo.export import benchmarking; benchmarking._child()"


@dataclass(frozen=True)
class Speed:
    """Speed and memory of an exported model, one image at a time.

    Attributes:
        milliseconds: median latency of an image.
        megabytes: largest resident memory of the process, in 10^6 bytes: Python, the runtime and the model.
        shape: `(1, H, W, C)` of the images.
        threads: number of threads of the runtime.
        runs: number of images that were timed, after 3 that were not.
    """

    milliseconds: float
    megabytes: float
    shape: tuple[int, ...]
    threads: int
    runs: int

    @property
    def images_per_second(self) -> float:
        """Images a second, one after another."""
        return 1000 / self.milliseconds


def benchmark(path: Path, shape: tuple[int, int, int, int], *, threads: int | None = None, runs: int = 30) -> Speed:
    """Time an exported model on random pixels, in a process of its own.

    Args:
        path: file or folder of an export.
        shape: `(1, H, W, C)` of the images.
        threads: number of threads; None: one for each core that this process may use.
        runs: number of images that are timed.

    Raises:
        SegzooError: no export, a package is missing, or the file does not run.
    """
    threads = available_cores() if threads is None else threads
    if threads < 1 or runs < 1:
        raise SegzooError(f"threads and runs must be 1 or more, got {threads} and {runs}.")
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        task = {"path": str(path), "answer": str(answer), "shape": shape, "threads": threads, "runs": runs}
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-c", _CHILD],
                input=json.dumps(task),
                capture_output=True,
                text=True,
                env=environment,
                timeout=_MOST_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise SegzooError(f"{path} was not timed: it took over {_MOST_SECONDS} seconds; time fewer runs.") from None
        if not answer.is_file():
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise SegzooError(f"{path} was not timed: the process that ran it ended ({last[:300]}).")
        found = json.loads(answer.read_text())
    return Speed(found["milliseconds"], found["megabytes"], shape, threads, runs)


def _child() -> None:
    """Time the model that is described on standard input, and write the figures to the file named there."""
    from segzoo.export.opening import run_exported

    task = json.load(sys.stdin)
    run = run_exported(Path(task["path"]), task["threads"])
    image = np.random.default_rng(0).uniform(0, 255, task["shape"]).astype(np.float32)
    for _ in range(_WARM_UPS):
        run(image)
    seconds = []
    for _ in range(task["runs"]):
        start = time.perf_counter()
        run(image)
        seconds.append(time.perf_counter() - start)
    found = {"milliseconds": 1000 * statistics.median(seconds), "megabytes": _peak_bytes() / 1e6}
    Path(task["answer"]).write_text(json.dumps(found))


def _peak_bytes() -> int:
    """Return the largest resident memory of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():  # rusage would count the process that this one was forked from
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
