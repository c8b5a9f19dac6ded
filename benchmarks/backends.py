"""One training step on TensorFlow, JAX and PyTorch: time, peak memory, and the seconds before it.

    python benchmarks/backends.py [--backbone efficientnet_b0] [--batch 4] [--size 256] [--steps 8]

U-Net, 12 classes, float32, a batch from memory, cross-entropy, AdamW: `train_on_batch`, compiled on JAX, as segzoo
trains on each backend. Every backend runs in a process of its own; one that is not installed is left out. "first" is
from the start of Python to the end of the first step, without JAX's cache of compiled programs.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import time

import numpy as np

BACKENDS = ("tensorflow", "jax", "torch")


def measure(backbone: str, batch: int, size: int, steps: int) -> dict[str, float]:
    started = time.perf_counter()
    import keras

    import segzoo
    from segzoo import losses
    from segzoo.backend import start_backend, use_xla
    from segzoo.optim.optimizers import AdamW

    start_backend()
    model = segzoo.build_model("unet", backbone, 12, weights="none")
    model.compile(AdamW(1e-3), losses.create({"cross_entropy": 1.0}, 255), jit_compile=use_xla())
    model.optimizer.build(model.trainable_variables)  # as segzoo.train does
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
    masks = rng.integers(0, 12, (batch, size, size), dtype=np.int32)
    float(keras.ops.convert_to_numpy(model.train_on_batch(images, masks)))
    first = time.perf_counter() - started
    model.train_on_batch(images, masks)
    times = []
    for _ in range(steps):
        before = time.perf_counter()
        float(keras.ops.convert_to_numpy(model.train_on_batch(images, masks)))
        times.append(time.perf_counter() - before)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"first": first, "step": statistics.median(times), "fastest": min(times), "peak": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="efficientnet_b0")
    parser.add_argument("--batch", type=int, default=4, help="images of a batch")
    parser.add_argument("--size", type=int, default=256, help="pixels of a side")
    parser.add_argument("--steps", type=int, default=8, help="timed steps")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.backbone, options.batch, options.size, options.steps)))
        return
    print(f"U-Net/{options.backbone}, {options.batch} x {options.size}x{options.size}, {os.cpu_count()} CPU cores")
    print("| backend | step, s | fastest | peak, GiB | first step, s |\n|---|---:|---:|---:|---:|")
    for backend in filter(importlib.util.find_spec, BACKENDS):
        environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(
            [sys.executable, __file__, "--child", *sys.argv[1:]], env=environment, capture_output=True, text=True
        )
        if done.returncode:
            print(f"| {backend} | {(done.stderr.strip().splitlines() or ['failed'])[-1]} | | | |", flush=True)
            continue
        found = json.loads(done.stdout.strip().splitlines()[-1])
        figures = (f"{found[key]:.2f}" for key in ("step", "fastest", "peak"))
        print(f"| {backend} | {' | '.join(figures)} | {found['first']:.1f} |", flush=True)


if __name__ == "__main__":
    main()
