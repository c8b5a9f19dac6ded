"""Training batches per second and memory: segzoo's pipeline beside a torch DataLoader and beside tf.data.

    python benchmarks/pipeline.py --data <folder with train/images and train/masks> --classes 11 --ignore-index 11

All decode an image and a mask, scale by 0.7 to 1.5, pad and crop to 320 x 320, flip and change colours, and deliver
batches of 8 as uint8 arrays; "cached" is segzoo after its first epoch, with decoded samples in memory. The images are
written anew as PNG and as JPEG, so that both are the same pixels but for the compression. Every measurement runs in a
process of its own; the contenders take turns, and after the rounds the medians and the ratios to the DataLoader are
printed. Memory is the proportional set size (PSS) of the process and its children at the end, all libraries included:
what shared pages cost is divided among those who share them, so other Python programs should not run. Linux only.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2

from segzoo.data import Augmentation, CachedSource, FolderSource, Source, TrainBatches

TRANSFORMS = [
    {"RandomScale": {"scale_limit": [-0.3, 0.5], "p": 1.0}},
    {"PadIfNeeded": {"min_height": 320, "min_width": 320}},
    {"RandomCrop": {"height": 320, "width": 320}},
    {"HorizontalFlip": {"p": 0.5}},
    {"ColorJitter": {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.05, "p": 0.8}},
]


def segzoo_batches(source: Source, batch: int, workers: int, ignore_index: int) -> Iterator[Any]:
    augmentation = Augmentation(TRANSFORMS, ignore_index)
    return TrainBatches(source, batch, seed=0, augmentation=augmentation, workers=workers).batches()


def loader_batches(source: FolderSource, batch: int, workers: int, ignore_index: int) -> Iterator[Any] | None:
    """Yield batches of a typical torch pipeline: cv2, an albumentations Compose and a DataLoader."""
    try:
        import torch
    except ImportError:
        return None
    import albumentations as A

    class Files(torch.utils.data.Dataset):
        def __init__(self) -> None:
            self.pairs = list(zip(source._images, source._masks, strict=True))
            self.chain = A.Compose(
                [
                    A.RandomScale(scale_limit=(-0.3, 0.5), p=1.0),
                    A.PadIfNeeded(320, 320, fill_mask=ignore_index),
                    A.RandomCrop(320, 320),
                    A.HorizontalFlip(p=0.5),
                    A.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.05, p=0.8),
                ]
            )

        def __len__(self) -> int:
            return len(self.pairs)

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            image_path, mask_path = self.pairs[index]
            image = cv2.cvtColor(cv2.imread(str(image_path)), cv2.COLOR_BGR2RGB)
            mask = cv2.imread(str(mask_path), cv2.IMREAD_UNCHANGED)
            result = self.chain(image=image, mask=mask)
            return torch.from_numpy(result["image"]), torch.from_numpy(result["mask"])

    loader = torch.utils.data.DataLoader(
        Files(),
        batch_size=batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        worker_init_fn=lambda _: cv2.setNumThreads(0),
    )

    def endless() -> Iterator[Any]:
        while True:
            yield from loader

    return endless()


def tf_batches(source: FolderSource, batch: int, workers: int, ignore_index: int) -> Iterator[Any] | None:
    """Yield batches of tf.data, which runs the same reading and augmentation as a numpy_function per sample."""
    try:
        import tensorflow as tf
    except ImportError:
        return None
    augmentation = Augmentation(TRANSFORMS, ignore_index)

    def load(index: int) -> Any:
        sample = source[int(index) % len(source)]
        return augmentation(sample.image, sample.mask, int(index))

    def mapped(index: Any) -> Any:
        image, mask = tf.numpy_function(load, [index], [tf.uint8, tf.uint8], stateful=False)
        return tf.ensure_shape(image, (320, 320, 3)), tf.ensure_shape(mask, (320, 320))

    numbers = tf.data.Dataset.range(10**9).shuffle(len(source), seed=0)
    data = numbers.map(mapped, num_parallel_calls=workers).batch(batch, drop_remainder=True).prefetch(2)
    return iter(data.as_numpy_iterator())


def cached_batches(source: FolderSource, batch: int, workers: int, ignore_index: int) -> Iterator[Any]:
    remembered = CachedSource(source, 2**30)
    for index in range(len(source)):
        remembered[index]  # as after the first epoch
    return segzoo_batches(remembered, batch, workers, ignore_index)


CONTENDERS: dict[str, Callable[..., Iterator[Any] | None]] = {
    "segzoo": segzoo_batches,
    "cached": cached_batches,
    "DataLoader": loader_batches,
    "tf.data": tf_batches,
}
NEEDS = {"DataLoader": "torch", "tf.data": "tensorflow"}


def memory() -> float:
    """Return the proportional set size of this process and its descendants, in MB."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue  # it ended meanwhile
    family = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    total = 0
    for pid in family:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1000


def measure(given: argparse.Namespace) -> None:
    """Measure one contender in this process and print {images/s, MB} as JSON."""
    names = [str(label) for label in range(given.classes)]
    source = FolderSource(given.data, given.split, names, given.ignore_index)
    batches = CONTENDERS[given.measure](source, given.batch, given.workers[0], given.ignore_index)
    assert batches is not None
    for _ in range(4):
        next(batches)  # start-up of threads and processes is not what is compared
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < given.seconds:
        next(batches)
        count += given.batch
    print(json.dumps({"rate": count / (time.perf_counter() - start), "memory": memory()}), flush=True)
    os._exit(0)  # workers that read ahead need not finish


def write_images(source: FolderSource, folder: Path, ending: str, split: str) -> None:
    """Write a copy of the data set with its images in one format."""
    for kind in ("images", "masks"):
        (folder / split / kind).mkdir(parents=True)
    for image, mask, name in (source[index] for index in range(len(source))):
        stem = name.replace("/", "_")
        cv2.imwrite(str(folder / split / "images" / f"{stem}{ending}"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        cv2.imwrite(str(folder / split / "masks" / f"{stem}.png"), mask)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds train/images and train/masks")
    parser.add_argument("--split", default="train")
    parser.add_argument("--classes", type=int, default=256, help="number of classes")
    parser.add_argument("--ignore-index", type=int, default=255)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--formats", nargs="+", choices=("png", "jpg"), default=["png", "jpg"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one measurement")
    parser.add_argument("--only", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--measure", choices=list(CONTENDERS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure(given)
    names = [name for name in given.only if name not in NEEDS or importlib.util.find_spec(NEEDS[name])]
    for name in sorted(set(given.only) - set(names)):
        print(f"{NEEDS[name]} is not installed, so {name} is not measured.")
    source = FolderSource(given.data, given.split, [str(n) for n in range(given.classes)], given.ignore_index)
    print(f"{len(source)} samples, batch {given.batch}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        for ending in given.formats:
            write_images(source, Path(folder) / ending, f".{ending}", given.split)
            for workers in given.workers:
                compare(given, names, Path(folder) / ending, ending, workers)


def compare(given: argparse.Namespace, names: list[str], data: Path, ending: str, workers: int) -> None:
    """Run the contenders alternately on one format and number of workers; print medians and ratios."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    options = ["--classes", given.classes, "--ignore-index", given.ignore_index, "--batch", given.batch]
    options += ["--split", given.split, "--seconds", given.seconds, "--data", data, "--workers", workers]
    for _ in range(given.rounds):
        for name in names:
            command = [sys.executable, __file__, "--measure", name, *map(str, options)]
            quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=quiet)
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
    figures = {
        name: [statistics.median(each[key] for each in runs) for key in ("rate", "memory")]
        for name, runs in found.items()
    }
    peer = figures.get("DataLoader")
    for name, (rate, megabytes) in figures.items():
        ratio = "" if peer is None else f"  {rate / peer[0]:5.2f} x rate  {megabytes / peer[1]:5.2f} x memory"
        print(f"{ending}  {workers} worker(s)  {name:<10} {rate:7.1f} images/s  {megabytes:7.0f} MB{ratio}", flush=True)


if __name__ == "__main__":
    main()
