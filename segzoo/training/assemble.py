"""From a Config to the parts of a run: sources, batches, network, loss, optimizer."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from segzoo import data, losses
from segzoo.backend import dtype_policy
from segzoo.config import Config, FolderData
from segzoo.data import Source
from segzoo.model import PRESENCE, build_model
from segzoo.training.class_pixels import ClassPixels
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


def output_channels(config: Config) -> int:
    """Channels of the network's logits: one for each class, a single one in binary mode."""
    return 1 if config.mode == "binary" else len(class_names(config))


def colours(config: Config) -> np.ndarray:
    """One colour per class `(classes, 3)`, 0..255: the configured palette or a distinct one."""
    from segzoo.inference.pictures import palette

    if isinstance(config.data, FolderData) and config.data.palette:
        return np.array(config.data.palette, dtype="uint8")
    return palette(len(class_names(config)))


def target_maker(config: Config) -> Callable[[np.ndarray], np.ndarray] | None:
    """What turns a mask into the target of the configured loss; None where that is the mask itself."""
    if "boundary" not in config.loss:
        return None
    return functools.partial(
        data.with_distances, classes=output_channels(config), ignore_index=config.data.ignore_index
    )


def train_batches(config: Config, source: Source, rows: range | None = None) -> data.TrainBatches:
    """Endless augmented batches of the training split, or of each the rows that this process makes."""
    section = config.data
    if section.cache_mb:
        source = data.CachedSource(source, section.cache_mb * 2**20)
    augmentation = data.Augmentation(section.augment, section.ignore_index) if section.augment else None
    return data.TrainBatches(
        source,
        section.batch_size,
        config.seed,
        augmentation=augmentation,
        workers=section.workers,
        target=target_maker(config),
        rows=rows,
    )


def eval_batches(config: Config, source: Source, part: tuple[int, int] = (0, 1)) -> data.EvalBatches:
    """Every sample once, in order, or (index, count) of several processes' shares of them."""
    section = config.data
    transforms = data.Augmentation(section.val_transforms, section.ignore_index) if section.val_transforms else None
    return data.EvalBatches(source, section.eval_batch_size, section.workers, transforms, part)


def build_network(config: Config, weights: str | None = None) -> keras.Model:
    """The network in the configured precision; `weights` overrides the configuration's."""
    section = config.model
    with dtype_policy(_POLICIES[config.training.precision]):
        return build_model(
            section.decoder,
            section.backbone,
            output_channels(config),
            taps=section.taps,
            output_stride=section.output_stride,
            weights=section.weights if weights is None else weights,
            weights_sha256=section.weights_sha256 if weights is None else None,
            input_channels=section.input_channels,
            mean=section.mean,
            std=section.std,
            drop_path=section.drop_path,
            trainable=section.trainable,
            batch_norm=section.batch_norm,
            imitate=section.imitate,
            auxiliary=tuple(section.auxiliary),
            classification=section.classification is not None,
            **section.options,
        )


def weight_schemes(config: Config) -> dict[str, str]:
    """Losses whose class weights are made from the training split's pixels: name of the loss to "balanced" or such."""
    given = {name: term.get("class_weights") for name, term in config.loss.items() if isinstance(term, dict)}
    return {name: weights for name, weights in given.items() if isinstance(weights, str)}


def class_weights(config: Config, counted: ClassPixels) -> dict[str, list[float]]:
    """The weights that `weight_schemes` stand for: name of the loss to one weight per class."""
    names = class_names(config)
    pixels, shown_in = ([of[name] for name in names] for of in (counted.pixels, counted.shown_in))
    return {name: losses.class_weights(scheme, pixels, shown_in) for name, scheme in weight_schemes(config).items()}


def build_loss(config: Config, counted: ClassPixels | None = None) -> keras.losses.Loss:
    """The configured loss or weighted sum of losses; `counted` is needed where there are `weight_schemes`."""
    terms: dict[str, Any] = dict(config.loss)
    if counted is not None:
        for name, weights in class_weights(config, counted).items():
            terms[name] = {**terms[name], "class_weights": weights}
    return losses.create(terms, config.data.ignore_index, config.mode)


def losses_of_outputs(
    config: Config, network: keras.Model, loss: keras.losses.Loss
) -> tuple[Any, dict[str, float] | None]:
    """What `compile` takes for the network's outputs: the losses and their weights.

    A network of one output takes the configured loss; of several, every segmentation takes it with its own weight (in
    deep supervision 1, as in U-Net++'s paper), and the classification that of present classes.
    """
    if not isinstance(network.output, dict):
        return loss, None
    weights = {f"auxiliary_{level}": weight for level, weight in config.model.auxiliary.items()}
    found, scales = {}, {}
    for name in network.output:
        found[name], scales[name] = loss, weights.get(name, 1.0)
    if config.model.classification is not None:
        found[PRESENCE] = losses.ClassPresence(config.data.ignore_index, config.mode)
        scales[PRESENCE] = config.model.classification
    return found, scales


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
