"""Memory and time that an export takes, beside the size of the weights.

    python benchmarks/export_memory.py [--networks unet/resnet101 dpt/hub_dinov2_small] [--formats onnx openvino ...]
        [--precisions float32] [--size HEIGHTxWIDTH]

Each export is made in a process of its own, of a network with random weights. The peak is the largest resident memory
from tracing to the comparison with Keras, less what the process held before, with the Keras model in it; the ratio is
to the weights in float32. Linux alone: the system counts the peak from when it is told to.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

NETWORKS = ("unet/resnet101", "dpt/hub_dinov2_small")
HEADINGS = ("Network", "Weights, MB", "Export", "Peak, MB", "Of the weights'", "Seconds")
CLASSES, SIDE = 5, 96


def resident(key: str) -> float:
    """Return a line of /proc/self/status in MB: VmRSS, or VmHWM for the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) * 1024 / 1e6


def measure(network: str, format: str, precision: str, size: tuple[int, int] | None) -> dict[str, float]:
    """Export a network in this process; return the megabytes of its weights and of the peak, and the seconds."""
    import segzoo
    from segzoo.export import export_model
    from segzoo.export.memory import release

    decoder, _, backbone = network.partition("/")
    model = segzoo.build_model(decoder, backbone, CLASSES, weights="none")
    images = np.random.default_rng(0).integers(0, 256, (4, *(size or (SIDE, SIDE)), 3), np.uint8)
    given = {} if precision in ("float32", "float16") else {"validation": [(images, images[..., 0] % CLASSES)]}
    if precision == "int8":
        given["calibration"] = images
    model(images[:1].astype(np.float32))
    release()
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        export_model(model, folder, format, image_size=size, precision=precision, max_drop=100, **given)
    return {
        "weights": 4e-6 * sum(int(np.prod(weight.shape)) for weight in model.weights),
        "peak": resident("VmHWM") - before,
        "seconds": time.perf_counter() - began,
    }


def row(network: str, format: str, precision: str, size: str | None) -> tuple[str, ...]:
    """Measure in a process of its own, and return the cells of the table."""
    command = [sys.executable, __file__, "--child", "--networks", network, "--formats", format]
    command += ["--precisions", precision, *(["--size", size] if size else [])]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return network, "", f"{format} {precision}", (done.stderr.strip().splitlines() or ["failed"])[-1], "", ""
    found = json.loads(done.stdout.strip().splitlines()[-1])
    ratio = found["peak"] / found["weights"]
    weights, peak, seconds = f"{found['weights']:.0f}", f"{found['peak']:.0f}", f"{found['seconds']:.0f}"
    return network, weights, f"{format} {precision}", peak, f"{ratio:.1f}", seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, help="decoder/backbone")
    parser.add_argument("--formats", nargs="+", default=("onnx", "openvino", "litert", "saved_model"), help="formats")
    parser.add_argument("--precisions", nargs="+", default=("float32",), help="those that a format lacks are left out")
    parser.add_argument("--size", help="height and width to fix, such as 512x512; by default all sizes are free")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        height, _, width = (given.size or "").partition("x")
        size = (int(height), int(width)) if given.size else None
        print(json.dumps(measure(given.networks[0], given.formats[0], given.precisions[0], size)))
        return
    from segzoo.export import FORMATS

    for cells in (HEADINGS, ["---"] * len(HEADINGS)):
        print(f"| {' | '.join(cells)} |", flush=True)
    for network in given.networks:
        for format in given.formats:
            for precision in given.precisions:
                if precision in FORMATS[format].precisions:
                    print(f"| {' | '.join(row(network, format, precision, given.size))} |", flush=True)


if __name__ == "__main__":
    main()
