"""Duration and memory of an evaluation, beside a plain loop over single images with the same network.

    python benchmarks/evaluation.py [--sizes mixed|equal] [--count 133] [--batch 8] [--rounds 3] [--backbone ...]
    python benchmarks/evaluation.py --config configs/camvid_lite0.yaml --data <CamVid folder>

The images are PNG files in a folder, generated here: "mixed" have the nine sizes of the 2018 Data Science Bowl from
256x256 to 1040x1388 pixels in random order, "equal" are all 360x480. Both sides read the files with the run's source.
"engine" is the evaluation of a training run: what `segzoo.train` does at the end of an epoch, with the loss. "plain"
calls the network on one image after another in a graph for any size, and counts the confusion matrix with NumPy: no
loss, no batches, no reading ahead. Each side is a process of its own that evaluates `--rounds` times and once before,
which traces. Given are medians over the rounds, and by how much the resident memory grew, at its peak and at the end.
The processor's seconds tell more than the clock's on a machine that others use.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

CLASSES = 11
# Heights and widths of the 2018 Data Science Bowl's pictures, and how many of its training set have each.
_COUNTS = {
    (256, 256): 334, (256, 320): 112, (520, 696): 92, (360, 360): 91, (1024, 1024): 16, (512, 640): 13,
    (603, 1272): 6, (260, 347): 5, (1040, 1388): 1,
}  # fmt: skip
MIXED = list(_COUNTS)
SHARES = np.array(list(_COUNTS.values())) / sum(_COUNTS.values())
LOSS = "{cross_entropy: 1.0, dice: 1.0}"


def write_images(folder: Path, sizes: str, count: int) -> None:
    """Write `count` images and masks for validation, and two for training."""
    import cv2

    rng = np.random.default_rng(0)
    for split, number in (("train", 2), ("val", count)):
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True, exist_ok=True)
        for index in range(number):
            height, width = (360, 480) if sizes == "equal" else MIXED[rng.choice(len(MIXED), p=SHARES)]
            coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            image = cv2.resize(coarse, (int(width), int(height)), interpolation=cv2.INTER_CUBIC)
            mask = cv2.resize(
                rng.integers(0, CLASSES, (6, 6), dtype=np.uint8), (int(width), int(height)), None, 0, 0, 0
            )
            cv2.imwrite(str(folder / split / "images" / f"{index:04}.png"), image)
            cv2.imwrite(str(folder / split / "masks" / f"{index:04}.png"), mask)


def settings(options: argparse.Namespace, folder: Path) -> tuple[str, list[str]]:
    if options.config:
        return str(options.config), [f"data.root={options.data}", f"data.eval_batch_size={options.batch}"]
    text = f"""
name: evaluation
model: {{decoder: unet, backbone: {options.backbone}, weights: none}}
data: {{source: folder, root: "{folder}", train_split: train, val_split: val, image_dir: images, mask_dir: masks,
  classes: [{", ".join(f"c{n}" for n in range(CLASSES))}], eval_batch_size: {options.batch}}}
loss: {LOSS}
training: {{epochs: 1}}
"""
    path = folder / "evaluation.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path), []


def engine(config) -> Callable[[], None]:
    from segzoo.engine import builders
    from segzoo.engine.evaluation import evaluate
    from segzoo.engine.forward import Forward

    network = builders.build_network(config, weights="none")
    batches = builders.eval_batches(config, builders.build_source(config, "val"))
    loss = builders.build_loss(config)
    target = builders.target_maker(config)
    forward = Forward(network)
    return lambda: evaluate(forward, batches, config.task, loss=loss, target=target)


def plain(config) -> Callable[[], None]:
    import tensorflow as tf

    from segzoo.engine import builders
    from segzoo.metrics import ConfusionMatrix

    network = builders.build_network(config, weights="none")
    source = builders.build_source(config, "val")

    @tf.function(input_signature=[tf.TensorSpec((1, None, None, 3), tf.uint8)], autograph=False, jit_compile=False)
    def classes(images):
        return tf.argmax(network(tf.cast(images, tf.float32), training=False), axis=-1, output_type=tf.int32)

    def run() -> None:
        matrix = ConfusionMatrix(len(config.task.classes), config.task.ignore_index)
        for index in range(len(source)):
            sample = source[index]
            matrix.update(sample.mask[None], classes(sample.image[None]).numpy())

    return run


def measure(options: argparse.Namespace, folder: Path) -> None:
    """Evaluate with one of the sides and print the figures as JSON."""
    import psutil

    import segzoo
    from segzoo.backend import start_backend

    start_backend()
    path, overrides = settings(options, folder)
    config = segzoo.config.load_config(path, overrides)
    run = {"engine": engine, "plain": plain}[options.side](config)
    process = psutil.Process()
    gc.collect()
    before = peak = process.memory_info().rss
    over = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.02):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    seconds, cpu = [], []
    for _ in range(options.rounds + 1):
        started, used = time.perf_counter(), sum(process.cpu_times()[:2])
        run()
        seconds.append(time.perf_counter() - started)
        cpu.append(sum(process.cpu_times()[:2]) - used)
    over.set()
    watcher.join()
    after = process.memory_info().rss
    print(json.dumps({
        "first": seconds[0], "seconds": statistics.median(seconds[1:]), "cpu": statistics.median(cpu[1:]),
        "peak": (peak - before) / 2**30, "after": (after - before) / 2**30,
    }))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", choices=("mixed", "equal"), default="mixed")
    parser.add_argument("--count", type=int, default=133)
    parser.add_argument("--batch", default="auto", help="data.eval_batch_size")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--backbone", default="efficientnet_b0")
    parser.add_argument("--config", type=Path, help="a recipe instead of generated images")
    parser.add_argument("--data", type=Path, help="the recipe's data")
    parser.add_argument("--side", choices=("engine", "plain"), help="only this one, in this process")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        with tempfile.TemporaryDirectory() as folder:
            place = options.folder or Path(folder)
            if options.folder is None and not options.config:
                write_images(place, options.sizes, options.count)
            measure(options, place)
        return
    with tempfile.TemporaryDirectory() as folder:
        if not options.config:
            write_images(Path(folder), options.sizes, options.count)
        print(
            "| side | first, s | later, s | processor, s | peak, GiB | after, GiB |\n"
            "| --- | --: | --: | --: | --: | --: |"
        )
        found = {}
        for side in ("plain", "engine"):
            command = [sys.executable, __file__, *sys.argv[1:], "--side", side, "--folder", folder]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            row = found[side] = json.loads(output.splitlines()[-1])
            print(
                f"| {side} | "
                + " | ".join(f"{row[key]:.2f}" for key in ("first", "seconds", "cpu", "peak", "after"))
                + " |"
            )
        print(f"\nengine / plain: {found['engine']['seconds'] / found['plain']['seconds']:.2f} of the time, "
              f"{found['engine']['cpu'] / found['plain']['cpu']:.2f} of the processor's")  # fmt: skip


if __name__ == "__main__":
    main()
