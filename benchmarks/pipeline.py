"""Training batches per second: segzoo's pipeline beside a torch DataLoader with the same files and transforms.

    python benchmarks/pipeline.py --data <folder with train/images and train/masks> --classes 11 --ignore-index 11

Both decode an image and a mask, scale by 0.7 to 1.5, pad and crop to 320 x 320, flip and change colours, and deliver
batches of 8 as uint8 arrays; "cached" is segzoo after its first epoch, with decoded samples in memory. They take turns
for several rounds, after one that is not counted, and the medians and their ratio are printed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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
    """What a torch user writes: cv2 decodes, an albumentations Compose augments, the DataLoader collates."""
    try:
        import torch
    except ImportError:
        return None
    import albumentations as A
    import cv2

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
    """The alternative to grain: tf.data runs the same reading and augmentation as a numpy_function per sample."""
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


def rate(batches: Iterator[Any], batch: int, seconds: float) -> float:
    """Images per second over about `seconds`."""
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        next(batches)
        count += batch
    return count / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds train/images and train/masks")
    parser.add_argument("--split", default="train")
    parser.add_argument("--classes", type=int, default=256, help="number of classes")
    parser.add_argument("--ignore-index", type=int, default=255)
    parser.add_argument("--peer", choices=("DataLoader", "tf.data"), default="DataLoader")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one measurement")
    given = parser.parse_args()

    names = [str(label) for label in range(given.classes)]
    source = FolderSource(given.data, given.split, names, given.ignore_index)
    peers: dict[str, Callable[..., Iterator[Any] | None]] = {"DataLoader": loader_batches, "tf.data": tf_batches}
    remembered = CachedSource(source, 2**30)
    for index in range(len(source)):
        remembered[index]  # as after the first epoch

    def cached_batches(_: Any, *arguments: int) -> Iterator[Any]:
        return segzoo_batches(remembered, *arguments)

    makers = {"segzoo": segzoo_batches, given.peer: peers[given.peer], "cached": cached_batches}
    rates: dict[str, list[float]] = {name: [] for name in makers}
    for round_ in range(given.rounds + 1):
        for name, make in makers.items():
            batches = make(source, given.batch, given.workers, given.ignore_index)
            if batches is None:
                continue
            next(batches)  # start-up of threads and processes is not what is compared
            measured = rate(batches, given.batch, given.seconds)
            del batches  # ends its workers before the other's turn
            if round_:
                rates[name].append(measured)
                print(f"round {round_}  {name:<10} {measured:6.1f} images/s", flush=True)
    medians = {name: statistics.median(found) for name, found in rates.items() if found}
    for name, median in medians.items():
        print(f"median   {name:<10} {median:6.1f} images/s ({given.workers} workers, batch {given.batch})")
    if given.peer in medians:
        for name in ("segzoo", "cached"):
            print(f"ratio    {name} / {given.peer} = {medians[name] / medians[given.peer]:.2f}")
    else:
        library = {"DataLoader": "torch", "tf.data": "tensorflow"}[given.peer]
        print(f"{library} is not installed, so there is no {given.peer} to compare with.")


if __name__ == "__main__":
    main()
