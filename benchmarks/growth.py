"""Growth of time and memory with image size, batch, classes, files, size of a prediction, devices and processes.

    python benchmarks/growth.py [--axes size batch classes files prediction devices processes] [--steps 6]

Each value of an axis is measured in a process of its own. Training is the whole of `segzoo.train` on a U-Net with
EfficientNet-Lite0 and one repeated picture (generated ones for "processes"), so no file is read: the median of its
steps after the second, the CPU seconds of one of them (all cores together), and by how much the peak of resident memory
exceeds the memory before the network was built. "files" is what a run does with a folder before its first step: list,
pair and fingerprint. "prediction" is one picture by `Predictor.predict`, whole or in tiles. Devices are parts of the
processor (TensorFlow's logical devices) and processes share its cores, so with the same global batch they show what
synchronisation costs.

The exponent is the slope of log(CPU seconds) over log(value) between two neighbouring rows: 1 is linear.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

SIZE, BATCH, CLASSES = 128, 4, 12
AXES: dict[str, list[int]] = {
    "size": [64, 128, 256, 512],
    "batch": [1, 2, 4, 8, 16, 32],
    "classes": [2, 10, 100, 1000],
    "files": [1_000, 10_000, 100_000, 200_000],
    "prediction": [512, 1024, 2048, 4096],
    "tiles": [512, 1024, 2048, 4096, 8192],
    "devices": [1, 2, 4],
    "processes": [1, 2],
}
TITLES = {
    "size": "pixels of a side, batch 4, 12 classes",
    "batch": f"images of a batch at {SIZE}x{SIZE}, 12 classes",
    "classes": f"classes, batch 4 at {SIZE}x{SIZE}",
    "files": "images with masks in a folder",
    "prediction": "pixels of a side, predicted whole",
    "tiles": "pixels of a side, predicted in tiles of 512",
    "devices": f"devices of one process (TensorFlow), batch 4 at {SIZE}x{SIZE}",
    "processes": f"processes (JAX), batch 4 at {SIZE}x{SIZE}",
}


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def picture(size: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
    return image, rng.integers(0, classes, (size, size), dtype=np.uint16 if classes > 255 else np.uint8)


def train(
    steps: int, size: int = SIZE, batch: int = BATCH, classes: int = CLASSES, devices: int = 1, generated: bool = False
) -> dict[str, Any]:
    """Train and evaluate; `devices` above 1 are parts of the processor, and `generated` pictures are drawn."""
    if devices > 1:
        import tensorflow as tf

        processor = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * devices)
    import keras

    import segzoo
    from segzoo.data import Sample

    image, mask = picture(size, classes)

    class Repeated:
        """One picture under many names."""

        def __init__(self, count: int):
            self.ids = [f"{index:05}" for index in range(count)]
            self.classes = [f"c{index}" for index in range(classes)]
            self.ignore_index = 65535 if classes > 255 else 255

        def __len__(self) -> int:
            return len(self.ids)

        def __getitem__(self, index: int) -> Sample:
            return Sample(image, mask, self.ids[index])

        def fingerprint(self) -> str:
            return f"{len(self)} {size} {classes}"

    class Clock(keras.callbacks.Callback):
        """Notes when each step ended, and the CPU seconds used by then."""

        def __init__(self) -> None:
            super().__init__()
            self.wall: list[float] = []
            self.cpu: list[float] = []

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            float(logs["loss"])  # on JAX, wait for the step
            self.wall.append(time.perf_counter())
            self.cpu.append(time.process_time())

    distribution = "multi_host" if os.getenv("JAX_NUM_PROCESSES") else "none" if devices == 1 else "mirrored"
    clock, data = Clock(), Repeated(batch * (steps + 2))
    with tempfile.TemporaryDirectory() as folder:
        described: dict[str, Any] = {"source": "folder", "root": folder, "classes": data.classes}
        described["ignore_index"] = data.ignore_index
        if generated:  # processes share the samples of a configuration, not given ones
            described = {"source": "generated", "size": [size, size]}
        config = {
            "name": "growth",
            "model": {"decoder": "unet", "backbone": "efficientnet_lite0", "weights": "none"},
            "data": {**described, "batch_size": batch, "workers": 0},
            "training": {"epochs": 1, "steps_per_epoch": steps + 2, "distribution": distribution, "save_every": 0},
            "loss": {"cross_entropy": 1.0, "dice": 1.0},
            "output": {"root": folder, "pictures": 0},
        }
        path = Path(folder) / "growth.yaml"
        path.write_text(json.dumps(config), encoding="utf-8")
        before = peak()
        began = time.process_time()
        given = {} if generated else {"train_data": data, "val_data": Repeated(8)}
        segzoo.train(path, callbacks=[clock], **given)
    used = [after - earlier for earlier, after in itertools.pairwise(clock.cpu)][1:]
    taken = [after - earlier for earlier, after in itertools.pairwise(clock.wall)][1:]
    return {
        "seconds": statistics.median(taken),
        "cpu": statistics.median(used),
        "gib": peak() - before,
        "whole": time.process_time() - began,
    }


def files(steps: int, count: int) -> dict[str, Any]:
    """List, pair and fingerprint a folder; its files are hard links to a few pictures."""
    import cv2

    from segzoo.data import FolderSource

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        image, mask = picture(64, CLASSES)
        for kind, pixels in (("images", image), ("masks", mask)):
            (root / "train" / kind).mkdir(parents=True)
            for start in range(0, count, 1000):  # file systems limit the links to one file
                first = root / "train" / kind / f"{start:06}.png"
                cv2.imwrite(str(first), pixels)
                for index in range(start + 1, min(count, start + 1000)):
                    os.link(first, root / "train" / kind / f"{index:06}.png")
        before = peak()
        began, used = time.perf_counter(), time.process_time()
        source = FolderSource(root, "train", [f"c{index}" for index in range(CLASSES)])
        source.fingerprint()
        return {
            "seconds": time.perf_counter() - began,
            "cpu": time.process_time() - used,
            "gib": peak() - before,
        }


def predict(steps: int, size: int, tile: int | None = None) -> dict[str, Any]:
    import segzoo
    from segzoo.inference import Predictor

    model = segzoo.build_model("unet", "efficientnet_lite0", CLASSES, weights="none")
    predictor = Predictor(model, tile=tile) if tile else Predictor(model)
    image, _ = picture(size, CLASSES)
    predictor.predict(image[:512, :512])
    before = peak()
    seconds, cpu = [], []
    for _ in range(2):
        began, used = time.perf_counter(), time.process_time()
        predictor.predict(image)
        seconds.append(time.perf_counter() - began)
        cpu.append(time.process_time() - used)
    return {"seconds": min(seconds), "cpu": min(cpu), "gib": peak() - before}


CHILDREN = {
    "size": lambda steps, value: train(steps, size=value),
    "batch": lambda steps, value: train(steps, batch=value),
    "classes": lambda steps, value: train(steps, classes=value),
    "files": files,
    "prediction": predict,
    "tiles": lambda steps, value: predict(steps, value, tile=512),
    "devices": lambda steps, value: train(steps, devices=value),
    "processes": lambda steps, value: train(steps, generated=True),
}


def run(axis: str, value: int, steps: int) -> dict[str, Any] | str:
    """Run a child, or as many as there are processes; returns the figures, or the last line of what went wrong."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    copies = value if axis == "processes" else 1
    if axis == "processes":
        environment["KERAS_BACKEND"] = "jax"
    if copies > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            environment["JAX_COORDINATOR_ADDRESS"] = f"127.0.0.1:{free.getsockname()[1]}"
        environment["JAX_NUM_PROCESSES"] = str(copies)
    command = [sys.executable, __file__, "--child", axis, "--value", str(value), "--steps", str(steps)]
    children = [
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**environment, **({"JAX_PROCESS_ID": str(index)} if copies > 1 else {})},
        )
        for index in range(copies)
    ]
    outputs = [child.communicate() for child in children]
    if any(child.returncode for child in children):
        return (outputs[0][1].strip().splitlines() or ["it failed"])[-1]
    found = [json.loads(output.strip().splitlines()[-1]) for output, _ in outputs]
    return {key: max(row[key] for row in found) if key == "seconds" else sum(row[key] for row in found)
            for key in found[0]}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axes", nargs="+", choices=AXES, default=list(AXES), help="what grows")
    parser.add_argument("--steps", type=int, default=6, help="timed training steps")
    parser.add_argument("--child", choices=AXES, help=argparse.SUPPRESS)
    parser.add_argument("--value", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(CHILDREN[options.child](options.steps, options.value)))
        return
    for axis in options.axes:
        print(f"\n| {TITLES[axis]} | s | CPU s | exponent | memory, GiB |\n|---:|---:|---:|---:|---:|")
        earlier: tuple[int, float] | None = None
        for value in AXES[axis]:
            row = run(axis, value, options.steps)
            if isinstance(row, str):
                print(f"| {value:,} | {row} | | | |", flush=True)
                continue
            slope = ""
            if earlier:
                slope = f"{math.log(row['cpu'] / earlier[1]) / math.log(value / earlier[0]):.2f}"
            print(f"| {value:,} | {row['seconds']:.2f} | {row['cpu']:.2f} | {slope} | {row['gib']:.2f} |", flush=True)
            earlier = value, row["cpu"]


if __name__ == "__main__":
    main()
