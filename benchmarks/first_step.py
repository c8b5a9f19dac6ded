"""Wall and CPU seconds from the command `python train.py --config unet_b3.yaml` to its first finished training step.

    python benchmarks/first_step.py [--runs 3] [--config unet_b3.yaml]

The command runs as a user types it, with `weights: none` so that no time goes into asking for pretrained weights; it is
stopped once the run's log tells of the first step. CPU seconds are user and system time of all its threads, which say
more than the clock where something else runs beside. The medians of several runs are printed.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def seconds_to_first_step(config: str, folder: Path) -> tuple[float, float]:
    """Return wall and CPU seconds of a command until its log tells of the first step."""
    command = [sys.executable, str(ROOT / "train.py"), "--config", config]
    command += ["--set", "model.weights=none", "--set", f"output.root={folder}", "--set", "name=first"]
    started, used = time.perf_counter(), children_cpu()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        while True:
            log = folder / "first" / "log.jsonl"
            if log.exists() and '"first_step"' in log.read_text(encoding="utf-8"):
                wall = time.perf_counter() - started
                break
            if process.poll() is not None:
                raise SystemExit(f"It ended before the first step: {process.stderr.read().decode()[-500:]}")
            time.sleep(0.05)
    finally:
        process.kill()
        process.communicate()
    return wall, children_cpu() - used


def children_cpu() -> float:
    """Return the CPU seconds of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--config", default="unet_b3.yaml")
    options = parser.parse_args()
    times = []
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory() as folder:
            times.append(seconds_to_first_step(options.config, Path(folder)))
    for unit, values in zip(("wall", "CPU"), zip(*times, strict=True), strict=True):
        each = ", ".join(f"{value:.1f}" for value in values)
        print(f"{options.config}: first step after {each} {unit} seconds, median {statistics.median(values):.1f}")


if __name__ == "__main__":
    main()
