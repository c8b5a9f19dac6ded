"""Lower bound of the memory of a training run, to refuse one that cannot fit before anything is built."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from segzoo.backbones import BACKBONES
from segzoo.config.data_schema import GeneratedData
from segzoo.config.schema import Config
from segzoo.errors import ConfigError
from segzoo.levels import SMALLEST_SIDE

_SMALLEST = (SMALLEST_SIDE, SMALLEST_SIDE)  # assumed for a sample of unknown size
_ID_BYTES = 64  # per sample name
_TIMES_TAPS = 4  # bytes of activations per byte of taps, see `_activation_bytes`


def machine_bytes() -> int:
    """Return the bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def least_bytes(config: Config, on_processor: bool = True, processes: int = 1) -> dict[str, int]:
    """Return a lower bound of the memory of a training run: description of each part to its bytes.

    Only memory that every network needs is counted: a run above the limit cannot succeed, and one below it may still
    be too large. The parts are the batches in the input pipeline (batch x height x width x bytes of a pixel and its
    label, times the batches that `data.workers` prefetch); on a CPU the network's input, the logits and their
    gradient in float32 (batch x height x width x classes x 8), and the backbone's activations (`_activation_bytes`);
    the confusion matrix (classes x classes x 8); for generated samples their names and the order of an epoch.

    Args:
        config: the resolved configuration.
        on_processor: whether the network runs on the CPU, in the machine's main memory.
        processes: number of processes among which each batch is divided.
    """
    data, (height, width) = config.data, sample_size(config)
    task = config.task
    classes = len(task.classes)
    labels = 1 if max(classes - 1, data.ignore_index) <= 255 else 2
    labels *= classes if task.multilabel else 1
    if _is_soft(config):
        labels = 4 * task.channels
    pixels = -(-data.batch_size // processes) * height * width
    shape = f"{data.batch_size} x {height} x {width} x {config.model.input_channels}"
    ahead = 1 + 2 * data.workers
    pixel_bytes = config.model.input_channels + labels
    found = {f"{ahead} batches of {shape} in the input pipeline": ahead * pixels * pixel_bytes}
    if on_processor:
        logits = task.channels
        found[f"input and logits of the network, {data.batch_size} x {height} x {width} x {logits}"] = pixels * (
            2 * config.model.input_channels + 8 * logits
        )
        found[f"activations of {config.model.backbone}"] = round(pixels * _activation_bytes(config))
    if not task.multilabel:
        found[f"a confusion matrix of {classes:,} classes"] = 8 * classes**2
    if isinstance(data, GeneratedData):
        samples = data.train_count + data.val_count
        found[f"names and order of {samples:,} samples"] = _ID_BYTES * samples + 8 * data.train_count * data.repeats
    return found


def _activation_bytes(config: Config) -> float:
    """Return a lower bound of the backbone's activations in training, in bytes for each pixel of the input.

    The documented taps, the last feature map of each stride, are a small part of what the backward pass keeps. Even a
    stride with a single convolution keeps the outputs of convolution, normalisation and activation, and one gradient;
    hence four times the bytes of the taps (channels / stride^2 each) are counted. Whole networks were measured to take
    15 (FPN on ResNet-18) to 40 times as much as the taps (U-Net on EfficientNet-B3, 8 x 256 x 256: 2.4 GB). For a
    frozen or rematerialised backbone only the taps are counted, which the decoder reads. The decoder's own feature
    maps are not counted.
    """
    model, training = config.model, config.training
    deepest = model.options.get("depth")
    taps = BACKBONES[model.backbone].levels(model.taps, model.output_stride or 32).values()
    maps = [tap for tap in taps if tap.stride]  # a few prefix tokens are nothing
    used = [tap for tap in maps if not isinstance(deepest, int) or tap.stride <= 2**deepest]
    channels = sum(tap.channels / min(tap.stride, model.output_stride or 32) ** 2 for tap in used)
    number_bytes = 4 if training.precision == "float32" else 2
    is_kept = model.trainable is True and not training.remat
    return channels * number_bytes * (_TIMES_TAPS if is_kept else 1)


def refuse_what_cannot_fit(
    config: Config, on_processor: bool = True, processes: int = 1, memory: int | None = None
) -> None:
    """Raise ConfigError where `least_bytes` is over the machine's memory, with the numbers in GiB.

    Args:
        config: the resolved configuration.
        on_processor: see `least_bytes`.
        processes: see `least_bytes`.
        memory: available memory in bytes; None: that of this machine.
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
        "the number of samples or classes, or set training.remat: true."
    )


def sample_size(config: Config) -> tuple[int, int]:
    """Return (height, width) of training samples if the configuration determines it, else (32, 32)."""
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
    """Return the size of a sample after an albumentations transform, or `size` if its arguments do not determine it."""
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


def _is_soft(config: Config) -> bool:
    """Return whether a batch transform makes soft labels, one float32 per class and pixel."""
    from segzoo.data.batch_transforms import BATCH_TRANSFORMS, parsed

    return any(BATCH_TRANSFORMS[parsed(entry)[0]].makes_soft for entry in config.data.batch_transforms)
