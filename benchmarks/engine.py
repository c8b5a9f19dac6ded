"""Overhead of `segzoo.train` over a hand-written training step in TensorFlow.

    python benchmarks/engine.py [--data <CamVid folder>] [--decoder fpn] [--backbone efficientnet_b0] [--rounds 20]

One process and one batch from memory, 4 crops of 256x256 as in camvid_fpn_b0.yaml, without XLA. In turn, a step each:
"bare" is `tf.GradientTape` and Keras's AdamW in a `tf.function`, on the same network with the same loss; "engine" what
`segzoo.train` compiles; "metric" the engine's step with `segzoo.metrics.MeanIoU` within. The ratios printed are medians
over the rounds of the ratio to the bare step of the same round. With --data the recipe is then trained for four epochs,
pipeline, progress and run state included; its images/s from the end of the first epoch on, which traces the step, to
that of the last stand beside those of the bare step, measured before and after it.
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
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import segzoo
from segzoo import losses, metrics
from segzoo.backend import start_backend
from segzoo.optim.optimizers import AdamW

ROOT = Path(__file__).resolve().parents[1]
BATCH, SIZE, CLASSES, IGNORE, EPOCHS = 4, 256, 11, 11, 4
LOSS = {"cross_entropy": 1.0, "dice": 1.0}
Step = Callable[[], float]


def batch() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH, SIZE, SIZE, 3), dtype=np.uint8)
    return images, rng.integers(0, CLASSES + 1, (BATCH, SIZE, SIZE), dtype=np.int32)


def network(options: argparse.Namespace) -> keras.Model:
    taps = "output" if options.backbone.startswith("efficientnet") else None
    return segzoo.build_model(options.decoder, options.backbone, CLASSES, taps=taps, weights="none", drop_path=0.0)


def bare(options: argparse.Namespace) -> Step:
    model, loss = network(options), losses.create(LOSS, IGNORE)
    optimizer = keras.optimizers.AdamW(1e-3, weight_decay=1e-4)
    optimizer.build(model.trainable_variables)
    images, masks = (tf.constant(array) for array in batch())

    @tf.function(autograph=False, jit_compile=False)
    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            value = loss(masks, model(images, training=True))
        optimizer.apply_gradients(
            zip(tape.gradient(value, model.trainable_variables), model.trainable_variables, strict=True)
        )
        return value

    return lambda: float(step())


def engine(options: argparse.Namespace, metric: bool = False) -> Step:
    model = network(options)
    watched = [metrics.MeanIoU(CLASSES, IGNORE)] if metric else None
    model.compile(AdamW(1e-3, weight_decay=1e-4), losses.create(LOSS, IGNORE), metrics=watched, jit_compile=False)
    model.optimizer.build(model.trainable_variables)  # as segzoo.train does
    iterator = iter(tf.data.Dataset.from_tensors(batch()).repeat())
    model.make_train_function()
    return lambda: float(model.train_function(iterator)["loss"])


def seconds(step: Step) -> float:
    before = time.perf_counter()
    step()
    return time.perf_counter() - before


def end_to_end(data: Path) -> float:
    """Images per second of the recipe over all epochs but the first, from the moments in its log."""
    with tempfile.TemporaryDirectory() as folder:
        settings = [
            "model.weights=none", f"data.root={data}", f"output.root={folder}", "name=engine",
            f"training.epochs={EPOCHS}", "training.evaluate_every=100",
        ]  # fmt: skip
        command = [sys.executable, str(ROOT / "train.py"), "--config", str(ROOT / "configs" / "camvid_fpn_b0.yaml")]
        subprocess.run([*command, *(f"--set={one}" for one in settings)], check=True, stdout=subprocess.DEVNULL)
        lines = (Path(folder) / "engine" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    events = [event for event in map(json.loads, lines) if event["event"] == "epoch"]
    first, last = events[0], events[-2]  # the last epoch is followed by an evaluation
    return (last["step"] - first["step"]) * BATCH / (last["time"] - first["time"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="CamVid, for the end to end figure")
    parser.add_argument("--decoder", default="fpn")
    parser.add_argument("--backbone", default="efficientnet_b0")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    if keras.backend.backend() != "tensorflow":
        sys.exit("The hand-written step is TensorFlow's: run this with KERAS_BACKEND=tensorflow.")
    start_backend()
    steps = {"bare": bare(options), "engine": engine(options), "metric": engine(options, metric=True)}
    for step in steps.values():  # traced, and its memory taken
        for _ in range(3):
            step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(options.rounds):
        names = list(steps) if turn % 2 else list(steps)[::-1]
        for name in names:
            times[name].append(seconds(steps[name]))
    print(
        f"{options.decoder} on {options.backbone}, batch {BATCH} at {SIZE}x{SIZE}, {len(os.sched_getaffinity(0))} CPU "
        f"cores, {options.rounds} rounds"
    )
    for name, found in times.items():
        print(f"  {name:7} {1000 * statistics.median(found):6.0f} ms a step (fastest {1000 * min(found):.0f})")
    for above, below in (("engine", "bare"), ("metric", "engine")):
        ratio = statistics.median(a / b for a, b in zip(times[above], times[below], strict=True))
        print(f"  {above} / {below}: {ratio:.3f}")
    if options.data:
        whole = end_to_end(options.data.resolve())
        after = [seconds(steps["bare"]) for _ in range(options.rounds)]
        alone = BATCH / statistics.median(times["bare"] + after)
        print(f"  train.py {whole:.2f} images/s, bare step {alone:.2f} images/s: {whole / alone:.3f}")


if __name__ == "__main__":
    main()
