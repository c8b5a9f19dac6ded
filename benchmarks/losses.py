"""Forward and backward of each loss beside segmentation_models.pytorch's and MONAI's, in time and peak memory.

    python benchmarks/losses.py [--batch 8] [--classes 21] [--size 512] [--rounds 3] [--peer-python PATH]

All get the same float32 logits and labels from memory, in the layout that they train in (segzoo channels last,
PyTorch as a contiguous NCHW tensor), and return the gradient for the logits; segzoo's as the compiled graph that
`fit` makes, PyTorch's eager as its users run them. Each loss runs in a process of its own; the contenders take turns
for several rounds. Printed are the fastest of all calls and the growth of the resident set over that before the first
call. The peers are optional: pip install torch==2.13.0 segmentation-models-pytorch monai (or name an interpreter).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# Ours: name and options. Theirs, by library: what `peer_loss` builds.
LOSSES: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "cross_entropy": ("cross_entropy", {}, ("torch",)),
    "cross_entropy, label smoothing": ("cross_entropy", {"label_smoothing": 0.1}, ("torch", "smp")),
    "dice": ("dice", {}, ("smp", "monai")),
    "jaccard": ("jaccard", {}, ("smp", "monai")),
    "tversky": ("tversky", {}, ("smp", "monai")),
    "softmax_focal": ("softmax_focal", {}, ("monai",)),
    "sigmoid_focal": ("sigmoid_focal", {"alpha": None}, ("smp",)),
    "lovasz_softmax": ("lovasz_softmax", {}, ("smp",)),
    "focal_tversky": ("focal_tversky", {}, ()),
    "mcc": ("mcc", {}, ()),
    "cldice": ("cldice", {}, ()),
    "boundary": ("boundary", {}, ()),
}


def arrays(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Logits (B, H, W, C) float32 and labels (B, H, W) in patches of 32x32, as masks are and noise is not."""
    rng = np.random.default_rng(0)
    shape = (options.batch, options.size, options.size)
    logits = rng.standard_normal((*shape, options.classes), dtype=np.float32)
    patches = rng.integers(0, options.classes, (options.batch, options.size // 32, options.size // 32), dtype=np.int32)
    return logits, np.kron(patches, np.ones((1, 32, 32), np.int32))


def our_call(case: str, options: argparse.Namespace) -> Callable[[], Any]:
    from segzoo.backend import start_backend

    start_backend()
    import tensorflow as tf

    from segzoo import losses
    from segzoo.data import with_distances

    name, arguments, _ = LOSSES[case]
    loss = losses.LOSSES[name](**arguments)
    logits, labels = arrays(options)
    if name == "boundary":
        labels = np.stack([with_distances(mask, options.classes) for mask in labels])
    x, y = tf.constant(logits), tf.constant(labels)
    del logits, labels

    @tf.function
    def call() -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = loss(y, x)
        return value, tape.gradient(value, x)

    return lambda: float(call()[0])


def peer_call(case: str, library: str, options: argparse.Namespace) -> Callable[[], Any]:
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    logits, labels = arrays(options)
    x = torch.from_numpy(logits).permute(0, 3, 1, 2).contiguous().requires_grad_()
    y = torch.from_numpy(labels).long()
    loss = peer_loss(case, library)
    if library == "monai":
        y = y[:, None]

    def call() -> float:
        x.grad = None
        value = loss(x, y)
        value.backward()
        return float(value.detach())

    return call


def peer_loss(case: str, library: str) -> Callable[[Any, Any], Any]:
    import torch

    if library == "torch":
        smoothing = 0.1 if "smoothing" in case else 0.0
        return torch.nn.CrossEntropyLoss(label_smoothing=smoothing)
    if library == "smp":
        from segmentation_models_pytorch import losses as smp

        return {
            "cross_entropy, label smoothing": lambda: smp.SoftCrossEntropyLoss(smooth_factor=0.1),
            "dice": lambda: smp.DiceLoss("multiclass"),
            "jaccard": lambda: smp.JaccardLoss("multiclass"),
            "tversky": lambda: smp.TverskyLoss("multiclass", alpha=0.3, beta=0.7),
            "sigmoid_focal": lambda: smp.FocalLoss("multiclass"),
            "lovasz_softmax": lambda: smp.LovaszLoss("multiclass"),
        }[case]()
    from monai import losses as monai

    common = {"softmax": True, "to_onehot_y": True, "batch": True}
    return {
        "dice": lambda: monai.DiceLoss(**common),
        "jaccard": lambda: monai.DiceLoss(jaccard=True, **common),
        "tversky": lambda: monai.TverskyLoss(alpha=0.3, beta=0.7, **common),
        "softmax_focal": lambda: monai.FocalLoss(use_softmax=True, to_onehot_y=True),
    }[case]()


def measure(case: str, contender: str, options: argparse.Namespace) -> dict[str, Any]:
    call = our_call(case, options) if contender == "segzoo" else peer_call(case, contender, options)
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    value = call()
    times = []
    for _ in range(options.calls):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"value": value, "time": min(times), "memory": max(0, peak - before)}


def run(case: str, contender: str, options: argparse.Namespace) -> dict[str, Any] | str:
    python = sys.executable if contender == "segzoo" else options.peer_python
    command = [python, __file__, "--child", contender, "--only", case, "--calls", str(options.calls)]
    for name in ("batch", "classes", "size"):
        command += [f"--{name}", str(getattr(options, name))]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["it failed"])[-1]
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--classes", type=int, default=21)
    parser.add_argument("--size", type=int, default=512, help="height and width, a multiple of 32")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender")
    parser.add_argument("--calls", type=int, default=3, help="timed calls in a turn")
    parser.add_argument("--only", nargs="+", choices=LOSSES, default=list(LOSSES))
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has torch, SMP and MONAI")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.only[0], options.child, options)))
        return
    shape = f"{options.batch} x {options.classes} x {options.size}x{options.size}"
    print(f"forward and backward at {shape}, {os.cpu_count()} CPU cores, fastest of {options.rounds} x {options.calls}")
    for case in options.only:
        best: dict[str, dict[str, Any]] = {}
        for _ in range(options.rounds):
            for contender in ("segzoo", *LOSSES[case][2]):
                result = run(case, contender, options)
                if isinstance(result, str):
                    print(f"  {case}: {contender} cannot run: {result}")
                    continue
                kept = best.setdefault(contender, result)
                kept["time"] = min(kept["time"], result["time"])
                kept["memory"] = min(kept["memory"], result["memory"])
        for contender, found in best.items():
            line = f"  {case:30} {contender:7} {found['time']:6.2f} s  {found['memory'] / 2**30:5.2f} GiB"
            if contender != "segzoo" and "segzoo" in best:
                ours = best["segzoo"]
                line += f"   segzoo / {contender}: time {ours['time'] / found['time']:.2f}"
                line += f", memory {ours['memory'] / found['memory']:.2f}" if found["memory"] else ""
            print(f"{line}   (value {found['value']:.5f})", flush=True)


if __name__ == "__main__":
    main()
