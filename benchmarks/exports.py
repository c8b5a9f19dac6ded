"""Exports of segzoo beside segmentation_models.pytorch's network in PyTorch: latency of one image, as ratios.

    python benchmarks/exports.py [--rounds 3] [--only unet-efficientnet_b3] [--peer-python PATH]

One image of 256x256, 12 classes, random weights (which do not change the time), float32 input. Exports are those of
`segzoo export`: ONNX and OpenVINO, float32 and int8, the size of the input free. The peer is channels-last, in
inference mode. Contenders run in processes of their own with one thread for each core, in turn; medians over all
rounds. int8 by OpenVINO needs NNCF (pip install nncf). What int8 costs in mean IoU is a matter of trained weights:
`segzoo export RUN --format all --benchmark` says it. The peer is optional: pip install torch==2.13.0
segmentation-models-pytorch, or name an interpreter that has them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SIZE, CLASSES, WARM_UP, RUNS = 256, 12, 3, 20
# Name: our backbone, their encoder.
PAIRS = {
    "unet-efficientnet_b3": ("efficientnet_b3", "efficientnet-b3"),
    "unet-efficientnet_lite0": ("efficientnet_lite0", "timm-tf_efficientnet_lite0"),
}
EXPORTS = [("onnx", "float32"), ("onnx", "int8"), ("openvino", "float32"), ("openvino", "int8")]


def write(pair: str, folder: Path) -> dict[str, Path]:
    """Export a network; return the path of each export by its name."""
    import segzoo
    from segzoo.errors import MissingPackageError
    from segzoo.export.exporter import exporter
    from segzoo.export.parity import comparison_batches

    backbone, _ = PAIRS[pair]
    model = segzoo.build_model("unet", backbone, CLASSES, weights="none")
    images = [batch[0] for batch in comparison_batches(None, (SIZE, SIZE))]
    labels = [np.zeros(image.shape[:2], np.uint8) for image in images]
    found = {}
    given = {"calibration": images, "validation": list(zip(images, labels, strict=True)), "max_drop": 100}
    with exporter(model, **given) as exports:
        for format, precision in EXPORTS:
            try:
                found[f"{format} {precision}"] = exports.write(format, folder, precision).path
            except MissingPackageError as error:
                print(f"{format} {precision}: {error}", file=sys.stderr)
    return found


def peer_milliseconds(pair: str, runs: int) -> float:
    """Return the median latency of the peer's network in this process."""
    import segmentation_models_pytorch as smp
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    _, encoder = PAIRS[pair]
    model = smp.Unet(encoder, encoder_weights=None, classes=CLASSES).eval().to(memory_format=torch.channels_last)
    image = torch.rand(1, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    times = []
    with torch.inference_mode():
        for _ in range(WARM_UP + runs):
            before = time.perf_counter()
            model(image).numpy()
            times.append(time.perf_counter() - before)
    return 1000 * statistics.median(times[WARM_UP:])


def peer(pair: str, runs: int, python: str) -> float | None:
    """Time the peer in a process of its own; None where it cannot run."""
    command = [python, __file__, "--child", "--only", pair, "--runs", str(runs)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print((done.stderr.strip().splitlines() or ["the peer failed"])[-1], file=sys.stderr)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def contest(pair: str, rounds: int, runs: int, python: str) -> dict[str, list[float]]:
    """Return the milliseconds of each contender, one for each round."""
    from segzoo.export.benchmarking import benchmark

    times: dict[str, list[float]] = {"peer": []}
    with tempfile.TemporaryDirectory() as folder:
        paths = write(pair, Path(folder))
        for _ in range(rounds):
            found = peer(pair, runs, python)
            times["peer"] += [] if found is None else [found]
            for name, path in paths.items():
                speed = benchmark(path, (1, SIZE, SIZE, 3), runs=runs)
                times.setdefault(name, []).append(speed.milliseconds)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PAIRS, default=list(PAIRS), help="which pairs")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender")
    parser.add_argument("--runs", type=int, default=RUNS, help="timed images in a turn")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has torch and SMP")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(peer_milliseconds(given.only[0], given.runs)))
        return
    for pair in given.only:
        times = contest(pair, given.rounds, given.runs, given.peer_python)
        theirs = statistics.median(times["peer"]) if times["peer"] else None
        for name, found in times.items():
            if found:
                ratio = "" if theirs is None else f"  {statistics.median(found) / theirs:5.2f} of the peer's"
                print(f"{pair:26} {name:18} {statistics.median(found):8.1f} ms{ratio}")


if __name__ == "__main__":
    main()
