"""Memory that a training run needs at the least, to refuse what cannot fit before anything is built."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from segzoo.config.data_schema import GeneratedData
from segzoo.config.schema import Config
from segzoo.errors import ConfigError

_SMALLEST = (32, 32)  # pixels of a sample whose size nothing says: no model takes less
_ID_BYTES = 64  # of a sample's name


def machine_bytes() -> int:
    """Return the bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def least_bytes(config: Config, on_processor: bool = True, processes: int = 1) -> dict[str, int]:
    """Return a lower bound of the memory of a training run, in bytes for each of its parts, in words.

    It counts what no network can do without, so what is over the limit cannot run, and what is under it may still be
    too large: batches in the input pipeline (batch x height x width x bytes of a pixel and its label, times the batches
    that `data.workers` read ahead); on a processor the network's input and the logits with their gradient in
    float32 (batch x height x width x classes x 8); the confusion matrix (classes x classes x 8); of generated samples
    their names and the order of an epoch. Intermediate activations, which are most of it, are not counted: they
    depend on the network.

    Args:
        config: the resolved configuration.
        on_processor: whether the network computes in the machine's own memory.
        processes: how many share each batch.
    """
    data, (height, width) = config.data, sample_size(config)
    classes = _classes(config)
    labels = 1 if max(classes - 1, data.ignore_index) <= 255 else 2
    labels *= classes if config.mode == "multilabel" else 1
    pixels = -(-data.batch_size // processes) * height * width
    shape = f"{data.batch_size} x {height} x {width} x {config.model.input_channels}"
    ahead = 1 + 2 * data.workers
    pixel_bytes = config.model.input_channels + labels
    found = {f"{ahead} batches of {shape} in the input pipeline": ahead * pixels * pixel_bytes}
    if on_processor:
        logits = 1 if config.mode == "binary" else classes
        found[f"input and logits of the network, {data.batch_size} x {height} x {width} x {logits}"] = pixels * (
            2 * config.model.input_channels + 8 * logits
        )
    if config.mode != "multilabel":
        found[f"a confusion matrix of {classes:,} classes"] = 8 * classes**2
    if isinstance(data, GeneratedData):
        samples = data.train_count + data.val_count
        found[f"names and order of {samples:,} samples"] = _ID_BYTES * samples + 8 * data.train_count * data.repeats
    return found


def refuse_what_cannot_fit(
    config: Config, on_processor: bool = True, processes: int = 1, memory: int | None = None
) -> None:
    """Raise ConfigError where `least_bytes` is over the machine's memory, with the numbers in GiB.

    Args:
        config: the resolved configuration.
        on_processor: see `least_bytes`.
        processes: see `least_bytes`.
        memory: bytes that there are; None: those of this machine.
    """
    memory = machine_bytes() if memory is None else memory
    needed = least_bytes(config, on_processor, processes)
    if sum(needed.values()) <= memory:
        return
    parts = [
        f"{size / 2**30:,.1f} GiB for {words}"
        for words, size in sorted(needed.items(), key=lambda part: -part[1])
        if size > memory / 100
    ]
    raise ConfigError(
        f"{config.name}: this run needs at least {sum(needed.values()) / 2**30:,.1f} GiB of memory, and this machine "
        f"has {memory / 2**30:,.1f} GiB: {'; '.join(parts)}. Lower data.batch_size, the size of crops, data.workers or "
        "the number of samples or classes."
    )


def sample_size(config: Config) -> tuple[int, int]:
    """Return (height, width) of training samples as far as the configuration says it, else 32 x 32."""
    data = config.data
    size = _SMALLEST
    if isinstance(data, GeneratedData):
        size = data.size
    if data.crop is not None:
        size = data.crop.size
    for transform in data.augment:
        size = _resized(transform, size)
    return size


def _resized(transform: Any, size: tuple[int, int]) -> tuple[int, int]:
    """Return the size of a sample of `size` after an albumentations transform, where its arguments say it."""
    if not isinstance(transform, Mapping):
        return size
    for name, arguments in transform.items():
        if not isinstance(arguments, Mapping):
            continue
        given = arguments.get("size", (arguments.get("height"), arguments.get("width")))
        if "Pad" in name:
            least = (arguments.get("min_height"), arguments.get("min_width"))
            given = tuple(max(a, b) if isinstance(a, int) else b for a, b in zip(least, size, strict=True))
        if "Dropout" not in name and isinstance(given, list | tuple) and len(given) == 2:
            height, width = given
            if isinstance(height, int) and isinstance(width, int) and min(height, width) > 0:
                return height, width
    return size


def _classes(config: Config) -> int:
    if isinstance(config.data, GeneratedData):
        from segzoo.data.generated import CLASSES

        return len(CLASSES)
    return len(config.data.classes)
