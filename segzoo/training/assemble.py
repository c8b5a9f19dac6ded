"""From a Config to the parts of a run: sources, batches, network, loss, optimizer."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from segzoo import data, losses
from segzoo.backend import dtype_policy
from segzoo.config import Config, FolderData
from segzoo.data import Source
from segzoo.model import build_model
from segzoo.training.optimizers import AdamW
from segzoo.training.schedules import WarmUpDecay

_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


def build_source(config: Config, split: str) -> Source:
    """The samples of the "train" or "val" split."""
    section = config.data
    name = section.train_split if split == "train" else section.val_split
    if isinstance(section, FolderData):
        return data.create_source(
            "folder",
            root=section.root,
            split=name,
            classes=section.classes,
            ignore_index=section.ignore_index,
            image_dir=section.image_dir,
            mask_dir=section.mask_dir,
        )
    count = section.train_count if split == "train" else section.val_count
    return data.create_source(
        "generated", split=name, count=count, size=section.size, seed=config.seed, ignore_index=section.ignore_index
    )


def class_names(config: Config) -> list[str]:
    """Names of the classes, in the order of their labels; reads no samples."""
    if isinstance(config.data, FolderData):
        return list(config.data.classes)
    from segzoo.data.generated import CLASSES

    return list(CLASSES)


def colours(config: Config) -> np.ndarray:
    """One colour per class `(classes, 3)`, 0..255: the configured palette or a distinct one."""
    from segzoo.inference.pictures import palette

    if isinstance(config.data, FolderData) and config.data.palette:
        return np.array(config.data.palette, dtype="uint8")
    return palette(len(class_names(config)))


def train_batches(config: Config, source: Source) -> data.TrainBatches:
    """Endless augmented batches of the training split."""
    section = config.data
    if section.cache_mb:
        source = data.CachedSource(source, section.cache_mb * 2**20)
    augmentation = data.Augmentation(section.augment, section.ignore_index) if section.augment else None
    return data.TrainBatches(
        source, section.batch_size, config.seed, augmentation=augmentation, workers=section.workers
    )


def eval_batches(config: Config, source: Source) -> data.EvalBatches:
    """Every sample once, in order."""
    section = config.data
    transforms = data.Augmentation(section.val_transforms, section.ignore_index) if section.val_transforms else None
    return data.EvalBatches(source, section.eval_batch_size, augmentation=transforms, workers=section.workers)


def build_network(config: Config, weights: str | None = None) -> keras.Model:
    """The network in the configured precision; `weights` overrides the configuration's."""
    section = config.model
    with dtype_policy(_POLICIES[config.training.precision]):
        return build_model(
            section.decoder,
            section.backbone,
            len(class_names(config)),
            taps=section.taps,
            output_stride=section.output_stride,
            weights=section.weights if weights is None else weights,
            input_channels=section.input_channels,
            drop_path=section.drop_path,
            **section.options,
        )


def build_loss(config: Config) -> keras.losses.Loss:
    """The configured loss or weighted sum of losses."""
    return losses.create(config.loss, config.data.ignore_index)


def build_optimizer(config: Config, total_steps: int) -> AdamW:
    """AdamW with the configured schedule over `total_steps`."""
    settings, schedule = config.training.optimizer, config.training.schedule
    rate = WarmUpDecay(
        settings.learning_rate,
        total_steps,
        schedule.warmup_steps,
        schedule.name,
        schedule.power,
        schedule.final_fraction,
    )
    extra: dict[str, Any] = {} if settings.clip_norm is None else {"global_clipnorm": settings.clip_norm}
    return AdamW(rate, settings.weight_decay, **extra)
