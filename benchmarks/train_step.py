"""One training step: segzoo's U-Net on EfficientNet-B3 beside segmentation_models.pytorch's, in time and peak memory.

    python benchmarks/train_step.py [--precision fp32 bf16] [--rounds 3] [--peer-python PATH]

Both: `taps: output` widths, 12 classes, batch 8 at 256x256 from memory, cross-entropy, AdamW, forward, backward and
update; the peer channels-last, and autocast for bf16. Each contender runs in a process of its own, in turn, for several
rounds; the median step and the largest peak memory (resident set) are printed, and their ratios. The peer is optional:
pip install torch==2.13.0 segmentation-models-pytorch (or name an interpreter that has them).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

BATCH, SIZE, CLASSES, WARM_UP = 8, 256, 12, 2


def batch() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH, SIZE, SIZE, 3), dtype=np.uint8)
    return images, rng.integers(0, CLASSES, (BATCH, SIZE, SIZE), dtype=np.int32)


def segzoo_step(precision: str) -> Callable[[], float]:
    import keras
    import tensorflow as tf

    import segzoo
    from segzoo import losses
    from segzoo.backend import start_backend
    from segzoo.optim.optimizers import AdamW

    start_backend()
    keras.config.set_dtype_policy({"fp32": "float32", "bf16": "mixed_bfloat16"}[precision])
    model = segzoo.build_model("unet", "efficientnet_b3", CLASSES, taps="output", weights="none")
    model.compile(AdamW(1e-3), losses.create({"cross_entropy": 1.0}, 255), jit_compile=False)
    model.optimizer.build(model.trainable_variables)  # as segzoo.train does
    images, masks = batch()
    iterator = iter(tf.data.Dataset.from_tensors((images, masks)).repeat())
    model.make_train_function()
    return lambda: float(model.train_function(iterator)["loss"])


def peer_step(precision: str) -> Callable[[], float]:
    import segmentation_models_pytorch as smp
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    model = smp.Unet("efficientnet-b3", encoder_weights=None, classes=CLASSES).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    images, masks = batch()
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float().div(255).contiguous(memory_format=torch.channels_last)
    y = torch.from_numpy(masks).long()

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = model(x)
        loss = torch.nn.functional.cross_entropy(logits.float(), y)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def measure(contender: str, precision: str, steps: int) -> dict[str, Any]:
    """Run in a process of its own; prints nothing, so the caller can read the result from the last line."""
    started = time.perf_counter()
    step = {"segzoo": segzoo_step, "peer": peer_step}[contender](precision)
    step()
    first = time.perf_counter() - started
    for _ in range(WARM_UP):
        step()
    times = []
    for _ in range(steps):
        before = time.perf_counter()
        step()
        times.append(time.perf_counter() - before)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"times": times, "first": first, "peak": peak}


def run(contender: str, precision: str, steps: int, python: str) -> dict[str, Any] | str:
    command = [python, __file__, "--child", contender, "--precision", precision, "--steps", str(steps)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["it failed"])[-1]
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"])
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender")
    parser.add_argument("--steps", type=int, default=6, help="timed steps in a turn")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has torch and SMP")
    parser.add_argument("--child", choices=("segzoo", "peer"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child, options.precision[0], options.steps)))
        return
    pythons = {"segzoo": sys.executable, "peer": options.peer_python}
    print(f"U-Net/EfficientNet-B3, batch {BATCH} at {SIZE}x{SIZE}, {os.cpu_count()} CPU cores, {options.rounds} rounds")
    for precision in options.precision:
        found: dict[str, list[dict[str, Any]]] = {"segzoo": [], "peer": []}
        for _ in range(options.rounds):
            for contender, results in found.items():
                result = run(contender, precision, options.steps, pythons[contender])
                if isinstance(result, str):
                    print(f"  {contender} cannot run: {result}")
                else:
                    results.append(result)
        summary = {}
        for contender, results in found.items():
            if results:
                step = statistics.median(t for result in results for t in result["times"])
                fastest = min(t for result in results for t in result["times"])
                peak = max(result["peak"] for result in results)
                summary[contender] = (step, peak)
                print(
                    f"  {precision} {contender:7} step {step:.2f} s (fastest {fastest:.2f}), peak {peak / 2**30:.2f} "
                    f"GiB, built and first step {statistics.median(r['first'] for r in results):.1f} s"
                )
        if len(summary) == 2:
            (ours, our_peak), (theirs, their_peak) = summary["segzoo"], summary["peer"]
            print(f"  {precision} ratio   time {ours / theirs:.2f}, memory {our_peak / their_peak:.2f}")


if __name__ == "__main__":
    main()
