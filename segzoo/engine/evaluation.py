"""Evaluation of a model on a split: confusion matrix of the data set, mean loss and some predictions."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from keras import ops

from segzoo.engine.forward import Predicts
from segzoo.metrics import (
    Calibration,
    ConfusionMatrix,
    ImageCounts,
    MultilabelCounts,
    ProbabilityHistogram,
    pixel_counts,
)
from segzoo.task import Task, predict_classes

Picture = tuple[np.ndarray, np.ndarray, np.ndarray, str]


@dataclass
class Evaluation:
    """Result of an evaluation.

    Attributes:
        confusion: counts of pixels over the whole split.
        loss: mean over the samples of the batch losses, or None where no loss was given.
        pictures: (image, truth, prediction, title) of the samples asked for.
        images: counts of each sample.
        worst: (image, truth, prediction, title) of the samples of lowest mean IoU, the worst first.
    """

    confusion: ConfusionMatrix | MultilabelCounts
    loss: float | None = None
    pictures: list[Picture] = field(default_factory=list)
    images: list[ImageCounts] = field(default_factory=list)
    worst: list[Picture] = field(default_factory=list)


def evaluate(
    network: Predicts,
    batches: Iterable[tuple[np.ndarray, np.ndarray, list[str]]],
    task: Task,
    *,
    loss: Callable[[Any, Any], Any] | None = None,
    target: Callable[[np.ndarray], np.ndarray] | None = None,
    keep: frozenset[str] = frozenset(),
    worst: int = 0,
    calibration: Calibration | None = None,
    order: Sequence[str] | None = None,
    thresholds: Sequence[float] | None = None,
    histogram: ProbabilityHistogram | None = None,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Run a network over `batches` of images `(B, H, W, C)`, masks `(B, H, W)` and ids.

    In multilabel masks and predictions are `(B, H, W, classes)` of 0 and 1.

    Args:
        network: from images to logits `(B, H, W, classes)`, or `(B, H, W, 1)` for two; see `Forward`.
        batches: every sample once; samples of one size in a batch.
        task: classes, mode, and the label that no figure counts.
        loss: a function of masks and logits.
        target: makes of each mask what the loss is given in its place.
        keep: ids whose pictures are returned.
        worst: how many samples of lowest mean IoU are returned with their pictures.
        calibration: filled with the confidences of the predictions, where it is given.
        order: ids in the order that samples have in the result; None: as they come.
        thresholds: probabilities above which a class is predicted, one for each logit; None: 0.5.
        histogram: filled with the probabilities of the classes that have a threshold, where it is given.
        progress: called after each batch with the number of samples done so far.

    Raises:
        DataError: a label that is neither a class nor the ignore index.
    """
    result = Evaluation(pixel_counts(task))
    lowest: list[tuple[float, int, Picture]] = []
    total, seen = 0.0, 0
    for images, masks, ids in batches:
        count = len(images)
        logits = network.predict_on_batch(images)
        predictions = ops.convert_to_numpy(predict_classes(logits, task.mode, thresholds))
        if calibration is not None or histogram is not None:
            probabilities = ops.convert_to_numpy(task.probabilities(logits))
        if calibration is not None:
            calibration.update(masks, probabilities)
        if histogram is not None:
            one = task.mode == "binary"  # of two classes whose probabilities add up to 1
            histogram.update(masks[..., None] if one else masks, probabilities[..., 1:] if one else probabilities)
        if loss is not None:
            given = masks.astype("int32") if target is None else np.stack([target(mask) for mask in masks])
            total += float(loss(given, logits)) * count
        seen += count
        for image, mask, prediction, name in zip(images, masks, predictions, ids, strict=True):
            counts = _counts_of(name, mask, prediction, result.confusion)
            result.images.append(counts)
            score = counts.mean_iou()
            if name in keep:
                result.pictures.append((image, mask, prediction, name))
            if worst and not math.isnan(score):
                # A heap keeps the pictures of the worst only; -score, because its first is the smallest.
                entry = (-score, -len(result.images), (image, mask, prediction, f"{name}: mean IoU {score:.3f}"))
                (heapq.heappush if len(lowest) < worst else heapq.heappushpop)(lowest, entry)
        if progress is not None:
            progress(seen)
    if loss is not None and seen:
        result.loss = total / seen
    if order is not None:
        places = {name: place for place, name in enumerate(order)}
        result.images.sort(key=lambda counts: places[counts.name])
        result.pictures.sort(key=lambda picture: places[picture[3]])
    result.worst = [picture for *_, picture in sorted(lowest, key=lambda entry: entry[:2], reverse=True)]
    return result


def merged(found: Evaluation, gather: Callable[[Any], list[Any]]) -> Evaluation:
    """Merge confusion and loss of the processes' parts of a split; pictures and image counts stay those of this one.

    Args:
        found: evaluation of this process's part of the split.
        gather: function that takes a JSON-serialisable value and returns the values of all processes.
    """
    parts = gather([found.confusion.counts.tolist(), found.loss, len(found.images)])
    counts = sum(np.array(c) for c, _, _ in parts)
    whole = type(found.confusion)(found.confusion.classes, found.confusion.ignore_index, counts)
    seen = sum(count for _, loss, count in parts if loss is not None)
    loss = sum(loss * count for _, loss, count in parts if loss is not None) / seen if seen else None
    return replace(found, confusion=whole, loss=loss)


def _counts_of(name: str, mask: np.ndarray, prediction: np.ndarray, confusion: Any) -> ImageCounts:
    """Count one sample, and add its counts to `confusion`."""
    own = type(confusion)(confusion.classes, confusion.ignore_index)
    own.update(mask, prediction)
    confusion.merge(own)
    return ImageCounts(name, own.hits.copy(), own.actual, own.predicted, int(np.max(own.valid)))
