"""Exports of segzoo beside segmentation_models.pytorch's network in PyTorch: latency of one image, and what int8 costs.

    python benchmarks/exports.py [--run runs/unet_b3] [--rounds 3] [--runs 20] [--peer-python PATH]

prints, for U-Net on EfficientNet-B3 and on EfficientNet-Lite0, a table in Markdown with the ratio of each export's
latency to the peer's, and whether the aim is met: int8 by ONNX Runtime or OpenVINO at most 0.35 of the peer's latency,
with at most one point of mean IoU lost on the validation split.

One image of 256x256, float32 input. Exports are those of `segzoo export`: ONNX and OpenVINO, float32 and int8, the size
of the input free. The peer is channels-last, in inference mode. Contenders run in processes of their own with one
thread for each core that this process may use, in turn; medians over all rounds.

Without `--run` weights are random, which does not change the time, and the accuracy is not known. With it, once for
each network, they are those of a trained run of that network, whose data must be there: int8 is calibrated on its
training split, and all are scored on its validation split. int8 by OpenVINO needs NNCF (pip install nncf). The peer is
optional: pip install torch==2.13.0 segmentation-models-pytorch, or name an interpreter that has them.
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
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

SIZE, CLASSES, WARM_UP, RUNS = 256, 12, 3, 20
# Name: our backbone, their encoder.
PAIRS = {
    "unet-efficientnet_b3": ("efficientnet_b3", "efficientnet-b3"),
    "unet-efficientnet_lite0": ("efficientnet_lite0", "timm-tf_efficientnet_lite0"),
}
FORMATS, PRECISIONS = ("onnx", "openvino"), ("float32", "int8")
PEER = "SMP, PyTorch"
MOST_RATIO, MOST_POINTS = 0.35, 1.0
HEADINGS = ("Network", "Contender", "Latency, ms", "Of the peer's", "mIoU, %", "Points lost", "Aim")


class Export(NamedTuple):
    """Exported file or folder, and its mean IoU on the validation split, 0..1; None where that is not known."""

    path: Path
    mean_iou: float | None = None


class Exports(NamedTuple):
    """Exports of a network by their names, its number of classes, and the mean IoU of the Keras model, 0..1."""

    files: dict[str, Export]
    classes: int
    mean_iou: float | None = None


def random_exports(pair: str, folder: Path) -> Exports:
    """Export a network with random weights."""
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
        for format in FORMATS:
            for precision in PRECISIONS:
                try:
                    found[f"{format} {precision}"] = Export(exports.write(format, folder, precision).path)
                except MissingPackageError as error:
                    print(f"{format} {precision}: {error}", file=sys.stderr)
    return Exports(found, CLASSES)


def trained_exports(run: str, folder: Path) -> Exports:
    """Export a trained run, calibrated on its training split and scored on its validation split."""
    import segzoo

    table = segzoo.export_all(run, folder, formats=FORMATS, precisions=PRECISIONS, max_drop=100)
    for row in table.rows:
        if row.failed:
            print(f"{row.format} {row.precision}: {row.remark}", file=sys.stderr)
    found = {f"{row.format} {row.precision}": Export(folder / row.file, row.mean_iou) for row in table.rows if row.file}
    keras = next((row.mean_iou for row in table.rows if row.format == "keras"), None)
    return Exports(found, len(segzoo.load_run(run).config.task.classes), keras)


def pair_of(run: str, pairs: Sequence[str]) -> str:
    """Return the name of the network that a run is of; SegzooError if it is none of those that are compared."""
    import segzoo
    from segzoo.errors import SegzooError

    model = segzoo.load_run(run).config.model
    name = f"{model.decoder}-{model.backbone}"
    if name not in pairs:
        raise SegzooError(f"{run} is of {name}, and these are compared: {', '.join(pairs)}.")
    return name


def peer_milliseconds(pair: str, classes: int, runs: int, threads: int) -> float:
    """Return the median latency of the peer's network in this process."""
    import segmentation_models_pytorch as smp
    import torch

    torch.set_num_threads(threads)
    _, encoder = PAIRS[pair]
    model = smp.Unet(encoder, encoder_weights=None, classes=classes).eval().to(memory_format=torch.channels_last)
    image = torch.rand(1, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    times = []
    with torch.inference_mode():
        for _ in range(WARM_UP + runs):
            before = time.perf_counter()
            model(image).numpy()
            times.append(time.perf_counter() - before)
    return 1000 * statistics.median(times[WARM_UP:])


def peer(pair: str, classes: int, runs: int, threads: int, python: str) -> float | None:
    """Time the peer in a process of its own; None where it cannot run."""
    numbers = ["--classes", str(classes), "--runs", str(runs), "--threads", str(threads)]
    done = subprocess.run([python, __file__, "--child", "--only", pair, *numbers], capture_output=True, text=True)
    if done.returncode:
        print((done.stderr.strip().splitlines() or ["the peer failed"])[-1], file=sys.stderr)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def contest(pair: str, run: str | None, given: argparse.Namespace) -> list[Sequence[str]]:
    """Time the contenders of a network in turn, and return the rows of the table."""
    from segzoo.export.benchmarking import benchmark

    times: dict[str, list[float]] = {PEER: []}
    with tempfile.TemporaryDirectory() as folder:
        exports = random_exports(pair, Path(folder)) if run is None else trained_exports(run, Path(folder))
        for _ in range(given.rounds):
            found = peer(pair, exports.classes, given.runs, given.threads, given.peer_python)
            times[PEER] += [] if found is None else [found]
            for name, export in exports.files.items():
                speed = benchmark(export.path, (1, SIZE, SIZE, 3), threads=given.threads, runs=given.runs)
                times.setdefault(name, []).append(speed.milliseconds)
    medians = {name: statistics.median(found) for name, found in times.items() if found}
    return [row(pair, name, medians, exports) for name in medians]


def row(pair: str, name: str, medians: dict[str, float], exports: Exports) -> Sequence[str]:
    """Return the cells of a contender; "" for what is not known or has no meaning."""
    ratio = medians[name] / medians[PEER] if PEER in medians else None
    score = exports.files[name].mean_iou if name in exports.files else None
    lost = None if score is None or exports.mean_iou is None else 100 * (exports.mean_iou - score)
    return (
        pair,
        name,
        f"{medians[name]:.1f}",
        "" if ratio is None else f"{ratio:.2f}",
        "" if score is None else f"{100 * score:.2f}",
        "" if lost is None else f"{lost:.2f}",
        verdict(ratio, lost) if name.endswith("int8") else "",
    )


def verdict(ratio: float | None, lost: float | None) -> str:
    """Return whether the aim is met, and what is not known of it."""
    if ratio is None:
        return "no peer"
    if ratio > MOST_RATIO or (lost is not None and not lost <= MOST_POINTS):
        return "missed"
    return "met" if lost is not None else "met in time; accuracy by --run"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PAIRS, default=list(PAIRS), help="which networks")
    parser.add_argument("--run", action="append", default=[], help="trained run of one of the networks")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender")
    parser.add_argument("--runs", type=int, default=RUNS, help="timed images in a turn")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has torch and SMP")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser.add_argument("--threads", type=int, default=cores, help="threads of each contender")
    parser.add_argument("--classes", type=int, default=CLASSES, help=argparse.SUPPRESS)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(peer_milliseconds(given.only[0], given.classes, given.runs, given.threads)))
        return
    from segzoo.errors import SegzooError  # which the interpreter of the peer may lack

    try:
        runs = {pair_of(run, given.only): run for run in given.run}
    except SegzooError as error:
        parser.error(str(error))
    rows = [line for pair in given.only for line in contest(pair, runs.get(pair), given)]
    print(f"{SIZE}x{SIZE}, one image, {given.threads} threads, {given.rounds} rounds of {given.runs} images")
    for cells in (HEADINGS, ["---"] * len(HEADINGS), *rows):
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
