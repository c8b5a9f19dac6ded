"""Ten pairs of decoder and backbone beside segmentation_models.pytorch's: training step and inference, as ratios.

    python benchmarks/zoo.py [--peer-python PATH] [--rounds 3] [--only unet-resnet34]

Both float32, from random weights, 12 classes; the peer channels-last. A training step is forward, cross-entropy,
backward and AdamW for a batch of 4 at 256x256; inference one image of 256x256. The parameters that get a gradient must
be as many on both sides, or the pair is not compared (the peer keeps stages in memory that nothing reads). Contenders
run in processes of their own, in turn; medians over all rounds. The peer is optional: pip install torch==2.13.0
segmentation-models-pytorch, or name an interpreter that has them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

BATCH, SIZE, CLASSES, WARM_UP = 4, 256, 12, 2
DEEPLAB = {"compat": "smp"}
# Name: our decoder, backbone and options; their class and encoder.
PAIRS: dict[str, tuple[str, str, dict[str, Any], str, str]] = {
    "unet-resnet34": ("unet", "resnet34", {}, "Unet", "resnet34"),
    "unet-resnet50": ("unet", "resnet50_v1b", {}, "Unet", "resnet50"),
    "unet-efficientnet_b0": ("unet", "efficientnet_b0", {"compat": "smp"}, "Unet", "efficientnet-b0"),
    "unetplusplus-resnet34": ("unetplusplus", "resnet34", {}, "UnetPlusPlus", "resnet34"),
    "linknet-resnet18": ("linknet", "resnet18", {}, "Linknet", "resnet18"),
    "fpn-resnet34": ("fpn", "resnet34", {}, "FPN", "resnet34"),
    "fpn-resnet50": ("fpn", "resnet50_v1b", {}, "FPN", "resnet50"),
    "pspnet-resnet34": ("pspnet", "resnet34", {"depth": 3, "output_stride": 32}, "PSPNet", "resnet34"),
    "deeplabv3plus-resnet50": ("deeplabv3plus", "resnet50_v1b", DEEPLAB, "DeepLabV3Plus", "resnet50"),
    "deeplabv3plus-efficientnet_b0": ("deeplabv3plus", "efficientnet_b0", DEEPLAB, "DeepLabV3Plus", "efficientnet-b0"),
}
Contest = tuple[Callable[[], Any], Callable[[], Any], Callable[[], int]]


def batch() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH, SIZE, SIZE, 3), dtype=np.uint8)
    return images, rng.integers(0, CLASSES, (BATCH, SIZE, SIZE), dtype=np.int32)


def segzoo_contest(pair: str) -> Contest:
    """Return a training step, an inference, and the number of trainable parameters of segzoo."""
    import tensorflow as tf

    import segzoo
    from segzoo import losses
    from segzoo.backend import start_backend
    from segzoo.optim.optimizers import AdamW

    start_backend()
    decoder, backbone, options, *_ = PAIRS[pair]
    taps = "output" if backbone.startswith("efficientnet") else None
    model = segzoo.build_model(decoder, backbone, CLASSES, taps=taps, weights="none", **options)
    model.compile(AdamW(1e-3), losses.create({"cross_entropy": 1.0}, 255), jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    images, masks = batch()
    iterator = iter(tf.data.Dataset.from_tensors((images, masks)).repeat())
    model.make_train_function()
    one = tf.constant(images[:1], "float32")
    infer = tf.function(lambda x: model(x, training=False))
    return (
        lambda: float(model.train_function(iterator)["loss"]),
        lambda: infer(one).numpy(),
        lambda: sum(int(np.prod(weight.shape)) for weight in model.trainable_weights),
    )


def peer_contest(pair: str) -> Contest:
    """Time segmentation_models.pytorch in the same way."""
    import segmentation_models_pytorch as smp
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    *_, name, encoder = PAIRS[pair]
    model = getattr(smp, name)(encoder, encoder_weights=None, classes=CLASSES).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    images, masks = batch()
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float().div(255).contiguous(memory_format=torch.channels_last)
    y = torch.from_numpy(masks).long()

    def train() -> float:
        model.train()
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    def infer() -> np.ndarray:
        model.eval()
        with torch.inference_mode():
            return model(x[:1]).numpy()

    def learning() -> int:
        train()
        return sum(parameter.numel() for parameter in model.parameters() if parameter.grad is not None)

    return train, infer, learning


def timed(run: Callable[[], Any], count: int) -> list[float]:
    for _ in range(WARM_UP):
        run()
    times = []
    for _ in range(count):
        before = time.perf_counter()
        run()
        times.append(time.perf_counter() - before)
    return times


def child(contender: str, pair: str, steps: int) -> dict[str, Any]:
    train, infer, learning = {"segzoo": segzoo_contest, "peer": peer_contest}[contender](pair)
    return {"train": timed(train, steps), "infer": timed(infer, 3 * steps), "parameters": learning()}


def contend(contender: str, pair: str, steps: int, python: str) -> dict[str, Any] | str:
    command = [python, __file__, "--child", contender, "--only", pair, "--steps", str(steps)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["it failed"])[-1]
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PAIRS, default=list(PAIRS), help="which pairs")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender")
    parser.add_argument("--steps", type=int, default=4, help="timed training steps in a turn")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has torch and SMP")
    parser.add_argument("--child", choices=("segzoo", "peer"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(options.child, options.only[0], options.steps)))
        return
    print(f"batch {BATCH} (training) and 1 (inference) at {SIZE}x{SIZE}, float32, {os.cpu_count()} CPU cores")
    print("| pair | parameters | training step, s | peer | ratio | inference, ms | peer | ratio |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    pythons = {"segzoo": sys.executable, "peer": options.peer_python}
    for pair in options.only:
        found: dict[str, list[dict[str, Any]]] = {"segzoo": [], "peer": []}
        for _ in range(options.rounds):
            for contender, results in found.items():
                result = contend(contender, pair, options.steps, pythons[contender])
                if isinstance(result, str):
                    print(f"{contender} cannot run {pair}: {result}", file=sys.stderr)
                else:
                    results.append(result)
        report(pair, found)


def report(pair: str, found: dict[str, list[dict[str, Any]]]) -> None:
    """Print a row of the table."""
    medians = {
        contender: [statistics.median(t for result in results for t in result[kind]) for kind in ("train", "infer")]
        for contender, results in found.items()
        if results
    }
    if "segzoo" not in medians:
        return
    parameters = found["segzoo"][0]["parameters"]
    train, infer = medians["segzoo"]
    if "peer" not in medians:
        print(f"| {pair} | {parameters:,} | {train:.2f} | | | {infer * 1e3:.0f} | | |", flush=True)
        return
    theirs = found["peer"][0]["parameters"]
    if theirs != parameters:
        print(f"{pair}: {parameters:,} parameters learn here, {theirs:,} there; not compared", file=sys.stderr)
        return
    peer_train, peer_infer = medians["peer"]
    print(
        f"| {pair} | {parameters:,} | {train:.2f} | {peer_train:.2f} | {train / peer_train:.2f} | {infer * 1e3:.0f} | "
        f"{peer_infer * 1e3:.0f} | {infer / peer_infer:.2f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
