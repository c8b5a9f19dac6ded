"""Batches of training and of evaluation, and their rehearsal by `segzoo check-data`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from segzoo import data
from segzoo.backend import backend_name
from segzoo.config import Config
from segzoo.data import Source
from segzoo.data.sources import Size, may_give_float
from segzoo.engine.builders.targets import target_maker, training_target_maker
from segzoo.engine.builders.weighting import class_weights
from segzoo.engine.class_pixels import ClassPixels
from segzoo.errors import DataError


def train_batches(config: Config, source: Source, rows: range | None = None, loss: Any = None) -> data.TrainBatches:
    """Build the endless augmented batches of the training split, or the rows of each that this process makes.

    Their targets are those of the configured loss, or of `loss` in its place.
    """
    section = config.data
    factors = _factors(config, source)
    image_type = np.float32 if may_give_float(source) else None  # TensorFlow takes one type for all batches
    if section.disk_cache is not None:
        source = data.DiskCachedSource(source, section.disk_cache.folder, section.disk_cache.max_mb * 2**20)
    if section.cache_mb:
        source = data.CachedSource(source, section.cache_mb * 2**20)
    return _augmented(config, source, factors, rows, image_type, loss)


def _augmented(
    config: Config,
    source: Source,
    factors: np.ndarray | None,
    rows: range | None = None,
    image_type: type[np.generic] | None = None,
    loss: Any = None,
) -> data.TrainBatches:
    section = config.data
    augmentation = data.Augmentation(section.augment, section.ignore_index) if section.augment else None
    return data.TrainBatches(
        source,
        section.batch_size,
        config.seed,
        augmentation=augmentation,
        workers=section.workers,
        target=training_target_maker(config, loss),
        crop=_crop(config),
        factors=factors,
        rows=rows,
        batch_transforms=_batch_transforms(config),
        image_type=image_type,
    )


def _batch_transforms(config: Config) -> data.BatchTransforms | None:
    """Return the configured changes to whole training batches."""
    section = config.data
    if not section.batch_transforms:
        return None
    return data.BatchTransforms.of(section.batch_transforms, config.task)


def _factors(config: Config, source: Source) -> np.ndarray | None:
    """Return the repeat factor of each training sample in an epoch; None: once."""
    section = config.data
    if section.oversample is not None:
        return section.repeats * data.repeat_factors(data.presence(source, section.workers), section.oversample)
    return _repeated(config, source)


def _repeated(config: Config, source: Source) -> np.ndarray | None:
    """Return `data.repeats` as factors, the same for each training sample; None: once."""
    return None if config.data.repeats == 1 else np.full(len(source), float(config.data.repeats))


def _crop(config: Config) -> data.Crop | None:
    """Build the configured crop of training samples."""
    settings = config.data.crop
    if settings is None:
        return None
    names = config.task.classes
    fraction = settings.fraction if settings.strategy == "foreground" else 0.0
    background = tuple(names.index(name) for name in settings.background)
    return data.Crop(settings.size, config.data.ignore_index, fraction, background)


def eval_batches(config: Config, source: Source, part: tuple[int, int] = (0, 1)) -> data.EvalBatches:
    """Build the batches of an evaluation: every sample once, in order, or one of several processes' parts."""
    section = config.data
    transforms = None
    if section.val_transforms:
        transforms = data.Augmentation(section.val_transforms, section.ignore_index, "data.val_transforms")
    return data.EvalBatches(source, section.eval_batch_size, section.workers, transforms, part)


def steps_per_epoch(config: Config, of_one_pass: int | None) -> int:
    """Return the steps of an epoch: the configured number or `of_one_pass`, rounded down to whole updates.

    As with a batch `accumulate` times as large, which drops the samples that are left over too.

    Raises:
        DataError: neither determines it.
    """
    steps = config.training.steps_per_epoch or of_one_pass
    if steps is None:
        raise DataError("train_data does not say how many batches an epoch has; set training.steps_per_epoch.")
    accumulate = config.training.accumulate
    return max(1, steps // accumulate) * accumulate


def rehearsals(config: Config, sources: Mapping[str, Source]) -> dict[str, data.Rehearsal]:
    """Build the preprocessing of each split's samples as the run does it, for `data.check_splits`."""
    one_size = backend_name() == "tensorflow"  # see `fit_dataset.FitDataset`
    found = {}
    for split, source in sources.items():
        if split == "train":  # without `oversample`, which would read all masks once more
            batches = _augmented(config, source, _repeated(config, source))
            check_sizes = functools.partial(batches.check_sizes, one_size=one_size)
            found[split] = data.Rehearsal(batches.rehearse, check_sizes, functools.partial(_check_weights, config))
        else:
            rehearse = functools.partial(_rehearsed, eval_batches(config, source), target_maker(config))
            found[split] = data.Rehearsal(rehearse)
    return found


def _rehearsed(
    batches: data.EvalBatches, target: Callable[[np.ndarray], np.ndarray], index: int, sample: data.Sample
) -> list[Size]:
    """Prepare a sample as an evaluation does, and make its target."""
    target(sample.mask)
    return batches.rehearse(index, sample)


def _check_weights(config: Config, report: data.Report) -> None:
    """Raise DataError if class weights cannot be computed from the pixel counts of the training split."""
    class_weights(config, ClassPixels(report.fingerprint, report.pixels, report.shown_in))
