"""One GPU: segzoo on JAX in bf16 beside segmentation-models-pytorch under torch.compile, bf16 and channels-last.

    python benchmarks/gpu.py [--peer-python PATH] [--camvid FOLDER --target 0.55 --epochs 60]

Four tables, each a ratio of contenders that ran in turn on the same card:

- images/s of a training step (forward, backward, update; AdamW; images go to the card anew for every step, as uint8)
  for the networks of `PAIRS` (or --pairs) at 512x512, batch 16, 12 classes. segzoo's through `Model.fit` with the
  loss read after every step, as train.py does; the peer's without such a stop. With it the most memory that tensors
  took on the card, by each framework's own count, and the seconds from building the network to the end of the first
  step, which compiles.
- the largest batch that fits, by doubling and then halving the gap, each try in a process of its own that compiles
  anew, which takes long. `--no-largest` leaves it out.
- milliseconds for the classes of one image of 2048x1024 in one piece, from uint8 in memory to uint8 in memory, by
  segzoo's `Predictor` and by the peer's network.
- with --camvid: seconds of training until the validation mIoU is --target, and the best within --epochs, for
  U-Net/EfficientNet-B0 from random weights on the batches of configs/camvid_unet_b0.yaml, the same for both.

It needs a GPU that JAX sees, and says so where there is none. TensorFlow is not needed: pip install "jax[cuda12]",
keras-hub and segzoo's other dependencies. The peer, in the same or another environment (--peer-python): torch and
segmentation-models-pytorch; for --camvid segzoo's dependencies too, whose reader and metric both contenders share.
Whoever runs this puts what it prints into docs/results.md.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
CLASSES, WARM_UP = 12, 5
PAIRS = {
    "unet/efficientnet_b3": ("unet", "efficientnet_b3", "Unet", "efficientnet-b3"),
    "fpn/resnet50": ("fpn", "resnet50", "FPN", "resnet50"),
    "unet/efficientnet_lite0": ("unet", "efficientnet_lite0", "Unet", "timm-tf_efficientnet_lite0"),
    "segformer/mit_b0": ("segformer", "hub_mit_b0", "Segformer", "mit_b0"),
    "dpt/vit_base_16": ("dpt", "hub_vit_base_16", "DPT", "tu-vit_base_patch16_224.augreg_in21k"),
}
KERAS_BACKENDS = {"segzoo": "jax", "peer": "torch"}
Steps = dict[str, Any]  # "seconds" of each step, "first": of building and the first, "gib": the most memory on the card


@dataclass(frozen=True)
class Scale:
    """Problem sizes; `--smoke` shrinks them to a test of the code on a CPU, whose figures mean nothing."""

    size: int = 512
    image: tuple[int, int] = (1024, 2048)  # height and width of what is predicted
    batch: int = 16
    steps: int = 30
    largest: int = 4096
    smoke: bool = False


def batch(scale: Scale, size: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (size, scale.size, scale.size, 3), dtype=np.uint8)
    return images, rng.integers(0, CLASSES, (size, scale.size, scale.size), dtype=np.int32)


def gpu_of_jax() -> str:
    """Return the name of the GPU; RuntimeError if JAX sees none."""
    import jax

    found = [device for device in jax.devices() if device.platform != "cpu"]
    if not found:
        raise RuntimeError("JAX sees no GPU")
    return found[0].device_kind


def segzoo_network(pair: str, scale: Scale) -> Any:
    """Build segzoo's network in bfloat16."""
    import keras

    import segzoo

    if not scale.smoke:
        gpu_of_jax()
    keras.config.set_dtype_policy("mixed_bfloat16")
    decoder, backbone, *_ = PAIRS[pair]
    taps = "output" if "efficientnet" in backbone else None
    return segzoo.build_model(decoder, backbone, CLASSES, taps=taps, weights="none")


def segzoo_steps(pair: str, size: int, scale: Scale) -> Steps:
    """Time each training step of segzoo."""
    import jax
    import keras

    from segzoo import losses
    from segzoo.optim.optimizers import AdamW

    started = time.perf_counter()
    model = segzoo_network(pair, scale)
    model.compile(AdamW(1e-3), losses.create({"cross_entropy": 1.0}, 255))
    times: list[float] = []
    ends: list[float] = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            self.began = time.perf_counter()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            float(logs["loss"])
            ends.append(time.perf_counter())
            times.append(ends[-1] - self.began)

    given = batch(scale, size)

    def endless() -> Iterator[Any]:
        while True:
            yield given

    model.fit(endless(), steps_per_epoch=WARM_UP + scale.steps, callbacks=[Watch()], verbose=0, shuffle=False)
    memory = jax.devices()[0].memory_stats() or {}  # None of a CPU
    return {"seconds": times[WARM_UP:], "first": ends[0] - started, "gib": memory.get("peak_bytes_in_use", 0) / 2**30}


def timed(call: Callable[[], Any], scale: Scale) -> list[float]:
    """Return the seconds of each call, after some that compile."""
    times = []
    for _ in range(WARM_UP + scale.steps):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return times[WARM_UP:]


def image_of(scale: Scale) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*scale.image, 3), dtype=np.uint8)


def segzoo_prediction(pair: str, scale: Scale) -> Steps:
    """Time the prediction of one image by segzoo, from array to classes."""
    from segzoo.inference import Predictor

    predictor, image = Predictor(segzoo_network(pair, scale)), image_of(scale)
    return {"seconds": timed(lambda: predictor.predict(image), scale)}


def peer_prediction(pair: str, scale: Scale) -> Steps:
    """Time the prediction of one image by the peer, from array to classes."""
    *_, architecture, encoder = PAIRS[pair]
    peer, image = Peer(architecture, encoder, CLASSES, 1e-3, 1e-4, scale.smoke), image_of(scale)
    peer.network.eval()

    def predict() -> np.ndarray:
        with peer.torch.inference_mode(), peer.torch.autocast(peer.device, peer.torch.bfloat16):
            return peer.compiled(peer.pixels(image[None])).argmax(1).to(peer.torch.uint8).cpu().numpy()

    return {"seconds": timed(predict, scale)}


class Peer:
    """SMP's network at its best: compiled, channels-last, bf16 by autocast, fused AdamW."""

    def __init__(self, architecture: str, encoder: str, classes: int, rate: float, decay: float, smoke: bool):
        import segmentation_models_pytorch as smp
        import torch

        if not smoke and not torch.cuda.is_available():
            raise RuntimeError("torch sees no GPU")
        self.torch = torch
        self.device = "cpu" if smoke else "cuda"
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
        network = smp.create_model(
            architecture, encoder_name=encoder, encoder_weights=None, classes=classes,
            **({"dynamic_img_size": True} if architecture == "DPT" else {}),
        )  # fmt: skip
        self.network = network.to(self.device, memory_format=torch.channels_last)
        self.compiled = torch.compile(self.network)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), rate, weight_decay=decay, fused=not smoke)

    def pixels(self, images: np.ndarray) -> Any:
        """Images `(B, H, W, C)` uint8 on the device as `(B, C, H, W)`, -1..1."""
        moved = self.torch.from_numpy(images)
        moved = moved if self.device == "cpu" else moved.pin_memory().to(self.device, non_blocking=True)
        # (B, H, W, C) seen as (B, C, H, W) is channels-last already.
        return moved.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)

    def step(self, images: np.ndarray, masks: np.ndarray, ignore_index: int = 255) -> Any:
        """Run one update; return the loss, still on the device."""
        torch = self.torch
        target = torch.from_numpy(masks).to(self.device, non_blocking=True).long()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device, torch.bfloat16):
            logits = self.compiled(self.pixels(images))
        loss = torch.nn.functional.cross_entropy(logits.float(), target, ignore_index=ignore_index)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def wait(self) -> None:
        """Synchronise with the device."""
        if self.device != "cpu":
            self.torch.cuda.synchronize()

    def predict_on_batch(self, images: np.ndarray) -> np.ndarray:
        """Logits `(B, H, W, classes)`; sides are padded to multiples of 32, which its networks need."""
        torch = self.torch
        height, width = images.shape[1:3]
        self.network.eval()
        with torch.no_grad(), torch.autocast(self.device, torch.bfloat16):
            x = torch.nn.functional.pad(self.pixels(images), (0, -width % 32, 0, -height % 32))
            logits = self.network(x)[:, :, :height, :width].float()
        self.network.train()
        return logits.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def peer_steps(pair: str, size: int, scale: Scale) -> Steps:
    """Time the peer's training steps as their mean, since they run without synchronisation in between."""
    *_, architecture, encoder = PAIRS[pair]
    import torch  # whose import is not part of the first step, as Keras's is not

    started = time.perf_counter()
    peer = Peer(architecture, encoder, CLASSES, 1e-3, 1e-4, scale.smoke)
    images, masks = batch(scale, size)
    float(peer.step(images, masks))
    first = time.perf_counter() - started
    for _ in range(WARM_UP - 1):
        peer.step(images, masks)
    peer.wait()
    began = time.perf_counter()
    for _ in range(scale.steps):
        peer.step(images, masks)
    peer.wait()
    seconds = (time.perf_counter() - began) / scale.steps
    peak = 0 if scale.smoke else torch.cuda.max_memory_allocated()
    return {"seconds": [seconds], "first": first, "gib": peak / 2**30}


def camvid_config(folder: str, epochs: int, output: str, scale: Scale) -> Any:
    from segzoo.config import load_config

    overrides = [
        f"data.root={folder}", f"training.epochs={epochs}", "training.precision=bfloat16", "model.weights=none",
        "loss={cross_entropy: 1.0}", f"output.root={output}", "name=camvid", "output.pictures=0",
        "training.evaluate_every=1",
    ]  # fmt: skip
    if scale.smoke:
        overrides += ["training.steps_per_epoch=2", "data.batch_size=2"]
    return load_config(ROOT / "configs" / "camvid_unet_b0.yaml", overrides)


def segzoo_camvid(folder: str, epochs: int, scale: Scale) -> list[tuple[float, float]]:
    """Train segzoo on CamVid; return for each epoch the seconds of training so far and the validation mIoU."""
    from rich.console import Console

    from segzoo.engine import train

    if not scale.smoke:
        gpu_of_jax()
    with tempfile.TemporaryDirectory() as output:
        result = train(camvid_config(folder, epochs, output, scale), console=Console(quiet=True))
        with (result.folder / "metrics.csv").open() as stream:
            rows = list(csv.DictReader(stream))
    seconds = np.cumsum([float(row["seconds"]) for row in rows])
    return [(float(at), float(row["val_mean_iou"])) for at, row in zip(seconds, rows, strict=True)]


def peer_camvid(folder: str, epochs: int, scale: Scale) -> list[tuple[float, float]]:
    """Train the peer on CamVid with segzoo's batches, schedule and metric, its own network, update and precision."""
    from segzoo.engine import builders
    from segzoo.engine.evaluation import evaluate

    with tempfile.TemporaryDirectory() as output:
        config = camvid_config(folder, epochs, output, scale)
    train_source, val_source = (builders.build_source(config, split) for split in ("train", "val"))
    batches = builders.train_batches(config, train_source)
    steps = config.training.steps_per_epoch or batches.steps_per_epoch
    settings, schedule = config.training.optimizer, config.training.schedule
    classes = config.task.channels
    peer = Peer("Unet", "efficientnet-b0", classes, settings.learning_rate, settings.weight_decay, scale.smoke)
    total, spent, found = steps * epochs, 0.0, []
    made = batches.batches()
    for epoch in range(epochs):
        began = time.perf_counter()
        for step in range(epoch * steps, (epoch + 1) * steps):
            warm = min(1.0, (step + 1) / max(1, schedule.warmup_steps))
            for group in peer.optimizer.param_groups:
                group["lr"] = settings.learning_rate * warm * (1 - step / total) ** schedule.power
            images, masks = next(made)
            peer.step(images, masks.astype("int32"), config.data.ignore_index)
        peer.wait()
        spent += time.perf_counter() - began
        matrix = evaluate(peer, builders.eval_batches(config, val_source), config.task).confusion
        found.append((spent, matrix.mean_iou()))
    return found


def child(task: str, contender: str, options: argparse.Namespace, scale: Scale) -> Any:
    """Run a task in a child process."""
    if task == "gpu":
        return gpu_of_jax()
    if task == "camvid":
        return {"segzoo": segzoo_camvid, "peer": peer_camvid}[contender](options.camvid, options.epochs, scale)
    if task == "prediction":
        return {"segzoo": segzoo_prediction, "peer": peer_prediction}[contender](options.pair, scale)
    return {"segzoo": segzoo_steps, "peer": peer_steps}[contender](options.pair, options.batch, scale)


def run(task: str, contender: str, options: argparse.Namespace, *arguments: Any) -> Any:
    """Run a task in a child process; return its result, or a line with the reason of its failure."""
    python = options.peer_python if contender == "peer" else sys.executable
    command = [python, __file__, "--child", task, contender, *map(str, arguments)]
    command += ["--smoke"] if options.smoke else []
    environment = {
        **os.environ,
        "KERAS_BACKEND": KERAS_BACKENDS[contender],
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.95",  # JAX takes three quarters by default, torch all that there is
    }
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    with contextlib.suppress(ValueError, IndexError):
        return json.loads(done.stdout.strip().splitlines()[-1])
    return (done.stderr.strip().splitlines() or ["it failed without a word"])[-1]


def largest_batch(pair: str, contender: str, options: argparse.Namespace, scale: Scale) -> int:
    """Largest multiple of `scale.batch` / 4 that trains."""

    def fits(size: int) -> bool:
        return isinstance(run("steps", contender, options, "--pair", pair, "--batch", size), dict)

    unit = max(1, scale.batch // 4)
    good, bad = 0, scale.batch
    while bad <= scale.largest and fits(bad):
        good, bad = bad, bad * 2
    while bad - good > unit and bad <= scale.largest:
        middle = (good + bad) // 2 // unit * unit
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def compare_steps(options: argparse.Namespace, scale: Scale) -> None:
    for pair in options.pairs:
        times: dict[str, list[float]] = {"segzoo": [], "peer": []}
        peaks = dict.fromkeys(times, 0.0)
        for _ in range(options.rounds):
            for contender, found in times.items():
                began = time.perf_counter()
                result = run("steps", contender, options, "--pair", pair, "--batch", scale.batch)
                if isinstance(result, str):
                    said = f"cannot run: {result}"
                else:
                    found += result["seconds"]
                    peaks[contender] = max(peaks[contender], result["gib"])
                    said = f"{scale.batch / statistics.median(result['seconds']):.1f} images/s"
                    said += f", first step after {result['first']:.0f} s"
                # At once: compiling takes minutes, and a card lent for a quarter of an hour may be gone before the end.
                print(f"    {pair} {contender}: {said}; {time.perf_counter() - began:.0f} s in all", flush=True)
        speed = {name: scale.batch / statistics.median(found) for name, found in times.items() if found}
        line = ", ".join(f"{name} {value:.1f} images/s, {peaks[name]:.1f} GiB" for name, value in speed.items())
        ratio = f", ratio {speed['segzoo'] / speed['peer']:.2f}" if len(speed) == 2 else ""
        print(f"  {pair} at {scale.size}x{scale.size}, batch {scale.batch}: {line or 'nothing'}{ratio}", flush=True)
        if speed and not options.no_largest:
            sizes = {name: largest_batch(pair, name, options, scale) for name in speed}
            print(f"  {pair} largest batch: " + ", ".join(f"{n} {size}" for n, size in sizes.items()), flush=True)


def compare_predictions(options: argparse.Namespace, scale: Scale) -> None:
    for pair in options.pairs:
        times: dict[str, list[float]] = {"segzoo": [], "peer": []}
        for _ in range(options.rounds):
            for contender, found in times.items():
                result = run("prediction", contender, options, "--pair", pair)
                if isinstance(result, str):
                    print(f"    {pair} {contender} cannot predict: {result}", flush=True)
                else:
                    found += result["seconds"]
        speed = {name: 1000 * statistics.median(found) for name, found in times.items() if found}
        line = ", ".join(f"{name} {value:.1f} ms" for name, value in speed.items())
        ratio = f", ratio {speed['segzoo'] / speed['peer']:.2f}" if len(speed) == 2 else ""
        print(f"  {pair}, one image of {scale.image[1]}x{scale.image[0]}: {line or 'nothing'}{ratio}", flush=True)


def compare_camvid(options: argparse.Namespace) -> None:
    reached = {}
    for contender in ("segzoo", "peer"):
        arguments = ("--camvid", options.camvid, "--epochs", options.epochs)
        found = run("camvid", contender, options, *arguments)
        if isinstance(found, str):
            print(f"  CamVid {contender} cannot run: {found}", flush=True)
            continue
        best = max(score for _, score in found)
        at = next((seconds for seconds, score in found if score >= options.target), None)
        when = f"after {at:.0f} s" if at is not None else "never"
        print(
            f"  CamVid {contender}: mIoU {options.target} {when}, best {best:.4f} in {found[-1][0]:.0f} s", flush=True
        )
        if at is not None:
            reached[contender] = at
    if len(reached) == 2:
        print(f"  CamVid time to mIoU {options.target}: ratio {reached['segzoo'] / reached['peer']:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender")
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS), help="networks; default: all")
    parser.add_argument("--no-largest", action="store_true", help="do not look for the largest batch")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has torch and SMP")
    parser.add_argument("--camvid", help="folder of CamVid, as configs/camvid_unet_b0.yaml describes")
    parser.add_argument("--target", type=float, default=0.55, help="validation mIoU, 0 to 1")
    parser.add_argument("--epochs", type=int, default=60, help="epochs on CamVid, at most")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--pair", choices=PAIRS, help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--smoke", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    scale = Scale(size=64, image=(64, 128), batch=2, steps=2, largest=2, smoke=True) if options.smoke else Scale()
    if options.child:
        print(json.dumps(child(*options.child, options, scale)))
        return
    if options.smoke:
        print("Smoke run on the CPU: it shows that the code runs, the figures mean nothing.")
    else:
        name = run("gpu", "segzoo", options)
        if "Error" in name:
            sys.exit(
                f"No GPU is at hand for JAX ({name}). This benchmark measures one GPU and says nothing about a CPU, "
                "for which there is benchmarks/train_step.py. Run it where an NVIDIA card and the extra jax-cuda are."
            )
        print(f"{name}, {options.rounds} rounds")
    with tempfile.TemporaryDirectory() as compiled:
        # What a turn compiled serves the later ones, and no other benchmark: CamVid's seconds include compiling.
        os.environ.update(JAX_COMPILATION_CACHE_DIR=compiled, TORCHINDUCTOR_CACHE_DIR=compiled)
        compare_steps(options, scale)
        compare_predictions(options, scale)
        if options.camvid:
            compare_camvid(options)


if __name__ == "__main__":
    main()
