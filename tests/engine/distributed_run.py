"""Child process of test_distribution.py: the tiny runs named by its first argument, in a folder of its own.

A network of few layers, with normalisation and a pooled branch, stands in place of a backbone and decoder.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
from quick_runs import lighten
from rich.console import Console

from segzoo.config import load_config
from segzoo.decoders import SegmentationHead
from segzoo.engine import builders, distribution, epochs, train
from segzoo.errors import RunInterruptedError
from segzoo.layers import ConvBlock, PixelNormalization
from segzoo.weights import WeightsReport

RECIPE = """
name: whole
model: {decoder: fpn, backbone: resnet18, weights: none}
data: {source: generated, size: [32, 32], train_count: 16, val_count: 7, batch_size: 4, eval_batch_size: 2, workers: 0}
loss: {cross_entropy: {weight: 1.0, ohem_fraction: 0.5}, dice: 1.0, lovasz_softmax: 0.5}
training:
  epochs: 2
  steps_per_epoch: 3
  save_every: 0
  optimizer: {learning_rate: 1e-2, clip_norm: 0.5, lr_scale: {head: 1}}
  schedule: {name: poly, warmup_steps: 1}
output: {pictures: 0}
"""


def small(dropout: float) -> Any:
    """Stand-in for `builders.build_network`."""

    def build(config: Any, weights: str | None = None) -> Any:
        inputs = keras.Input((None, None, 3), name="image")
        x = PixelNormalization(1 / 255, [0.5] * 3, [0.25] * 3, name="preprocessing")(inputs)
        x = keras.layers.BatchNormalization(name="norm")(ConvBlock(8, name="conv")(x))  # segzoo's and Keras's own
        pooled = ConvBlock(8, 1, name="pooled")(keras.layers.GlobalAveragePooling2D(keepdims=True, name="pool")(x))
        x = keras.layers.Dropout(dropout, name="dropout")(keras.layers.Add(name="add")([x, pooled]))
        head = SegmentationHead(config.task.channels, name="head")
        model = keras.Model(inputs, head(x, inputs), name="small")
        model.weights_report = WeightsReport("none", note="random initial values")
        return model

    return build


def run(folder: Path, *overrides: str) -> Any:
    recipe = folder / "tiny.yaml"
    recipe.write_text(RECIPE)
    config = load_config(recipe, [f"output.root={folder / 'runs'}", *overrides])
    return train(config, console=Console(file=(folder / "screen.txt").open("a"), width=160))


def keep(folder: Path, name: str, result: Any) -> None:
    """The figures of every epoch and the best weights, for the test to compare."""
    history = [{key: row[key] for key in ("loss", "val_loss", "val_mean_iou")} for row in result.history]
    weights = {f"weight {index}": value for index, value in enumerate(result.model.get_weights())}
    np.savez(folder / f"{name}.npz", **{key: [row[key] for row in history] for key in history[0]}, **weights)


JOINED = "training.distribution=multi_host"


def killed(folder: Path) -> None:
    """Both processes die after step 5; the state is that of step 4, since this comes before it is saved."""
    builders.build_network = small(dropout=0.2)
    seen = epochs._StepCounter.on_train_batch_end

    def dies(self: Any, batch: int, logs: Any = None) -> None:
        if self.progress.step == 4 and float(logs["loss"]):  # whose value is there when all processes took the step
            os.kill(os.getpid(), signal.SIGKILL)
        seen(self, batch, logs)

    epochs._StepCounter.on_train_batch_end = dies
    run(folder, "name=killed", JOINED)


def multi_host(folder: Path) -> None:
    builders.build_network = small(dropout=0.2)
    distribution._ASKING_SECONDS = 0.0  # after every step
    keep(folder, "whole", run(folder, "name=whole", JOINED))
    keep(folder, "killed", run(folder, "name=killed", JOINED))

    seen = epochs._StepCounter.on_train_batch_end

    def interrupted(self: Any, batch: int, logs: Any = None) -> None:
        if self.progress.step == 3 and os.environ["JAX_PROCESS_ID"] == "1":  # the next is the second epoch's first
            os.kill(os.getpid(), signal.SIGTERM)
        seen(self, batch, logs)

    epochs._StepCounter.on_train_batch_end = interrupted
    try:
        run(folder, "name=broken", JOINED)
    except RunInterruptedError as error:
        (folder / "interrupted.txt").write_text(str(error))
    epochs._StepCounter.on_train_batch_end = seen
    keep(folder, "broken", run(folder, "name=broken", JOINED))
    if os.environ["JAX_PROCESS_ID"] == "0":
        keep(folder, "none", run(folder, "name=none", "training.distribution=none"))


if __name__ == "__main__":
    lighten(setattr)
    {"killed": killed, "multi_host": multi_host}[sys.argv[1]](Path(sys.argv[2]))
