"""Writer of the proposed configuration: YAML with the reason for every value, and the alternatives as comments."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segzoo.autoconfig.evidence import Evidence
from segzoo.autoconfig.trial import FRACTION, mask_options
from segzoo.config import load_config
from segzoo.data.value_range import shown as as_range
from segzoo.errors import ConfigError
from segzoo.extras import install_command
from segzoo.files import replacing
from segzoo.progress import percent
from segzoo.weights.availability import Availability, imagenet

# Memory of a training step, bytes for each pixel of the input: estimates for a U-Net in float32, not measured.
_BYTES_PER_PIXEL = {
    "efficientnet_b0": 4_000,
    "efficientnet_b3": 9_000,
    "efficientnet_lite0": 4_000,
    "efficientnet_lite2": 6_000,
}
# Backbones for up to so many training samples and for more: the usual one, and one whose weights pip brings.
_MANY = 2000
_BATCH_NORM = "frozen where weights are found: mIoU 0.85, trained 0.81, in short fine-tuning (docs/results.md)"
_TAPS = "the widest maps as skips: mIoU 0.70 on CamVid; output: 0.69 in three quarters of the time (docs/results.md)"
_EMA = "averages the weights over a twentieth of the run: steadier from epoch to epoch (docs/results.md)"
_SMALL, _LARGE = ("efficientnet_b0", "efficientnet_lite0"), ("efficientnet_b3", "efficientnet_lite2")
_SMALLEST = 128  # side of crops of larger images
_STEPS = 3000  # after which recipes of this size have learnt most of what they learn
_IMBALANCE = 20.0  # most frequent over rarest class from which weights pay


def propose(
    found: Evidence,
    names: Sequence[str] | None = None,
    memory: int | None = None,
    group: str | None = None,
    pretrained: Callable[[str], Availability] = imagenet,
) -> str:
    """Return a configuration that fits the evidence, as YAML with comments.

    Args:
        found: the evidence.
        names: one name per class; None: background and object, or class_0, class_1, ...
        memory: bytes of the machine; None: what it has.
        group: `data.split.group`, where there are no split folders.
        pretrained: function from a backbone to the availability of its ImageNet weights.

    Raises:
        ConfigError: the number of names differs from that of the classes.
    """
    named = "in the order of the labels" if names is not None else ""
    if names is None:
        names, named = class_names(found)
    elif len(names) != found.classes:
        raise ConfigError(f"{len(names)} class names, but the masks hold {found.classes} classes: {found.why}.")
    plan = _Plan.of(found, memory or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), pretrained)
    lines = [
        "# Written by `segzoo init`. Each value has its evidence in a comment; CHANGE marks what is yours to say.",
        "#",
        "#   segzoo check-data THIS_FILE",
        "#   python train.py --config THIS_FILE",
        "",
        *(["mode: multilabel  # classes overlap: a sigmoid for each", ""] if found.mode == "multilabel" else []),
        *("model:", *_model(found, plan), ""),
        *("data:", *_folders(found), *_splits(found, group), *_masks(found, names, named)),
        *(*_batches(plan), *_augmentation(found, plan), ""),
        *("loss:", *_loss(found), ""),
        *("training:", *_training(plan)),
    ]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class _Plan:
    """Choices that several sections depend on.

    Attributes:
        train: training samples.
        backbone: name.
        weights: where its ImageNet weights are, for a comment.
        side: shorter side that 9 of 10 images have.
        crop: side of the crops.
        memory: bytes of the machine.
        batch: samples of a step.
        steps: of an epoch.
        epochs: of the run.
    """

    train: int
    backbone: str
    weights: str
    side: int
    crop: int
    memory: int
    batch: int
    steps: int
    epochs: int

    @classmethod
    def of(cls, found: Evidence, memory: int, pretrained: Callable[[str], Availability]) -> _Plan:
        train = found.train or (found.pairs if found.splits else max(1, round(found.pairs * (1 - FRACTION))))
        backbone, weights = _backbone(train, pretrained)
        side, crop = _crop(found)
        batch = _batch(crop, memory, train, _BYTES_PER_PIXEL[backbone])
        steps = max(1, train // batch)
        epochs = int(np.clip(round(_STEPS / steps), 5, 200))
        return cls(train, backbone, weights, side, crop, memory, batch, steps, epochs)


def _backbone(train: int, pretrained: Callable[[str], Availability]) -> tuple[str, str]:
    """Choose a backbone whose ImageNet weights can be had; return its name and a comment on them."""
    usual, other = _LARGE if train > _MANY else _SMALL
    there = pretrained(usual)
    if there.found:
        return usual, f"ImageNet's, {there.where}: with few images they are worth more than anything else"
    instead = pretrained(other)
    if instead.found:
        return other, f"ImageNet's, {instead.where}; those of {usual} are {there.where}"
    return usual, (
        f"ImageNet's are {there.where}, so training begins from random values. Those of {other} come with "
        f"{install_command('lite')}: better by far with few images"
    )


def _model(found: Evidence, plan: _Plan) -> list[str]:
    lines = [
        "  decoder: unet",
        f"  backbone: {plan.backbone}  # {plan.train} training samples; above {_MANY:,} a larger one pays",
        f"  weights: auto  # {_printable(plan.weights)}",
    ]
    lines.append(f"  taps: expansion  # {_TAPS}")
    if found.channels is not None:
        lines.append(f"  input_channels: {found.channels}  # as the arrays have them")
    lines.append(f"  batch_norm: auto  # {_BATCH_NORM}")
    return lines


def _folders(found: Evidence) -> list[str]:
    """Return where images and masks lie, and how they pair."""
    lines = [
        "  source: folder",
        _root(found.root),
        f"  image_dir: {_text(found.image_dir)}",
        f"  mask_dir: {_text(found.mask_dir)}",
    ]
    if found.value_range is not None and found.value_range.range is not None:
        lines.append(
            f"  value_range: {as_range(found.value_range.range)}  # {found.value_range.why}; networks take 0 to 255"
        )
    elif found.value_range is not None:
        lines.append(f"  # CHANGE: {found.value_range}")
    for key in ("image_prefix", "mask_prefix", "image_suffix", "mask_suffix"):
        if text := getattr(found, key):
            lines.append(f"  {key}: {_text(text)}")
    paired = f"{found.pairs} pairs in training" if found.splits else f"{found.pairs} pairs"
    lines.append(f"  # {paired}, {found.unpaired} files without a partner, which check-data names")
    return lines + [f"  # NOTE: {_printable(remark)}" for remark in found.remarks]


def _splits(found: Evidence, group: str | None) -> list[str]:
    if found.splits:
        return [f"  train_split: {found.splits[0]}  # folders", f"  val_split: {found.splits[1]}"]
    own = f"    group: {_text(group)}  # --group" if group else ""
    return [
        "  split:",
        f"    fraction: {FRACTION}  # no folders train and val: dealt at random, always alike",
        own or "    # group: '^([^_]+)_'  # CHANGE where images of one patient or scene belong together",
    ]


def _masks(found: Evidence, names: Sequence[str], named: str) -> list[str]:
    """Return the format of the masks and their classes."""
    shares = np.array(found.pixels, float) / max(1, found.labelled or sum(found.pixels))
    shown = ", ".join(f"{_printable(name)} {percent(share)} %" for name, share in zip(names, shares, strict=True))
    read = f"{found.read} of {found.total or found.pairs} masks were read"
    lines = [
        f"  masks: {_flow(mask_options(found, names))}  # {_printable(found.why)}; {read}",
        f"  classes: {_flow(list(names))}  # {_printable(named)}",
        f"  # pixels: {shown}",
    ]
    if found.palette is not None:
        lines.append(f"  palette: {_flow(found.palette)}  # as in the masks")
    if found.exif != "neither":
        lines.append(f"  exif: {found.exif}  # masks fit images only once these are turned as the camera noted")
    return [*lines, f"  ignore_index: {found.ignore_index}  # {found.ignored}"]


def _batches(plan: _Plan) -> list[str]:
    batch, crop, per_pixel = plan.batch, plan.crop, _BYTES_PER_PIXEL[plan.backbone]
    return [
        f"  batch_size: {batch}  # {batch} x {crop} x {crop} pixels x {per_pixel // 1000} kB (an estimate) "
        f"is {batch * crop * crop * per_pixel / 2**30:.2g} GiB, of {plan.memory / 2**30:.0f} GiB here a "
        "quarter is allowed; most 8",
        "  workers: 2",
    ]


def _augmentation(found: Evidence, plan: _Plan) -> list[str]:
    (height, width), count = found.sizes.most_common(1)[0]
    crop = plan.crop
    is_padded = crop > plan.side
    lines = [
        "  augment:",
        "    - RandomScale: {scale_limit: [-0.3, 0.5], p: 1.0}  # 0.7 to 1.5 times the size",
        f"    # crops of {crop}: shorter sides are {plan.side} or more in 9 of 10 images ({width} x {height} in "
        f"{count} of {sum(found.sizes.values())}), at most 512"
        + (f"; smaller ones are padded, as crops below {_SMALLEST} train too little of the deepest maps" * is_padded),
        f"    - PadIfNeeded: {{min_height: {crop}, min_width: {crop}}}",
        f"    - RandomCrop: {{height: {crop}, width: {crop}}}",
        "    - HorizontalFlip  # CHANGE: remove it if left and right differ in meaning, as in text",
        "    # - VerticalFlip  # CHANGE: add it where up and down mean nothing: microscopes, aerial views",
    ]
    if found.grey or found.channels is not None:
        return [*lines, "    - RandomBrightnessContrast: {p: 0.8}  # the images have no colours"]
    return [*lines, "    - ColorJitter: {brightness: 0.2, contrast: 0.2, saturation: 0.2, hue: 0.05, p: 0.8}"]


def _loss(found: Evidence) -> list[str]:
    shown = [pixels for pixels in found.pixels if pixels > 0]
    ratio = max(shown) / min(shown)
    if found.mode == "multilabel":
        first = "  binary_cross_entropy: 1.0"
    elif ratio >= _IMBALANCE:
        first = (
            f"  cross_entropy: {{weight: 1.0, class_weights: median_frequency}}  # the most frequent class has "
            f"{ratio:.0f} times the pixels of the rarest, {_IMBALANCE:.0f} or more"
        )
    else:
        first = (
            f"  cross_entropy: 1.0  # no class weights: the rarest class has 1/{ratio:.1f} of the pixels of the largest"
        )
    return [first, "  dice: 1.0  # counts every class alike, however few pixels it has"]


def _training(plan: _Plan) -> list[str]:
    updates = plan.steps * plan.epochs
    return [
        f"  epochs: {plan.epochs}  # of {plan.steps} steps: {updates:,} in all; {_STEPS:,} are wanted, in 5 to 200 "
        "epochs",
        "  optimizer: {name: adamw, learning_rate: 1e-3, weight_decay: 1e-4}  # 3e-4 if the loss jumps",
        f"  schedule: {{name: poly, warmup_steps: {min(50, max(1, updates // 10))}, power: 0.9}}",
        f"  ema: auto  # {_EMA}",
    ]


def save(text: str, path: Path, found: Evidence) -> None:
    """Write a proposed configuration; it is removed again if `load_config` refuses it.

    Raises:
        ConfigError: the configuration is invalid; the message says why.
        StorageError: the file cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
        try:
            load_config(temporary, ["name=proposed"])
        except ConfigError as error:
            seen = found.root / found.mask_dir
            raise ConfigError(
                f"What was found in {seen} ({found.why}) makes no configuration that can be used, so none was written: "
                f"{str(error).replace(str(temporary), str(path))}"
            ) from None


def _crop(found: Evidence) -> tuple[int, int]:
    """Return the shorter side that 9 of 10 images have, and the side of crops, a multiple of 32 up to 512.

    It fits in that side, but is no smaller than 128 where most images are larger, and the others are padded. In a crop
    of 64 the deepest maps are 2 x 2, all of it border, and statistics of batch normalisation do not hold for whole
    images: U-Net/EfficientNet-B0 from random weights on 32 photographs of 90 to 300 pixels came to mIoU 0.47 in 120
    steps, with crops of 128 to 0.98.
    """
    sides = np.repeat([min(size) for size in found.sizes], list(found.sizes.values()))
    side = int(np.quantile(sides, 0.1, method="lower"))
    half = int(np.quantile(sides, 0.5, method="lower"))
    return side, int(np.clip(max(side // 32 * 32, min(-(-half // 32) * 32, _SMALLEST)), 32, 512))


def _batch(crop: int, memory: int, train: int, bytes_per_pixel: int) -> int:
    """Return the largest power of two up to 8 that fits in a quarter of the memory, and in the training split."""
    batch = 8
    while batch > 1 and (batch * crop * crop * bytes_per_pixel > memory / 4 or batch > train):
        batch //= 2
    return batch


def class_names(found: Evidence) -> tuple[list[str], str]:
    """Return a name for each class, and where the names come from."""
    if found.names is not None:
        return found.names, found.named
    names = ["background", "object"] if found.classes == 2 else [f"class_{n}" for n in range(found.classes)]
    return names, "CHANGE: names made up, in the order of the labels"


def _root(root: Path) -> str:
    """Return the line of `data.root`: relative where the data lie in the working folder, and can move with it."""
    here = Path.cwd().resolve()
    if root.is_relative_to(here):
        return f"  root: {_text(root.relative_to(here).as_posix())}  # from the folder that commands are started in"
    return f"  root: {_text(str(root))}  # outside of the folder that init was started in"


def _printable(text: str) -> str:
    """Return text for a comment, which ends where the line does."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _flow(value: object) -> str:
    """Return plain values as YAML in one line."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)
