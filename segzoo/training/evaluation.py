"""One pass over a split: the dataset-wide confusion matrix, the mean loss and a few predictions to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import ops

from segzoo.metrics import ConfusionMatrix


@dataclass
class Evaluation:
    """What an evaluation found.

    Attributes:
        confusion: counts of pixels over the whole split.
        loss: mean over the samples of the batch losses, or None where no loss was given.
        pictures: (image, truth, prediction, title) of the samples asked for.
    """

    confusion: ConfusionMatrix
    loss: float | None = None
    pictures: list[tuple[np.ndarray, np.ndarray, np.ndarray, str]] = field(default_factory=list)


def evaluate(
    model: keras.Model,
    batches: Iterable[tuple[np.ndarray, np.ndarray, list[str]]],
    classes: int,
    ignore_index: int,
    *,
    loss: Callable[[Any, Any], Any] | None = None,
    keep: frozenset[str] = frozenset(),
) -> Evaluation:
    """Run `model` over `batches` of images `(B, H, W, 3)` uint8, masks `(B, H, W)` and ids.

    Args:
        model: images to logits `(B, H, W, classes)`.
        batches: every sample once; samples of one size in a batch.
        classes: number of classes.
        ignore_index: label that no figure counts.
        loss: a function of masks and logits.
        keep: ids whose pictures are returned.

    Raises:
        DataError: a label that is neither a class nor the ignore index.
    """
    result = Evaluation(ConfusionMatrix(classes, ignore_index))
    total, seen, full = 0.0, 0, 0
    for images, masks, ids in batches:
        count = len(images)
        full = max(full, count)
        # A smaller last batch would make the model trace itself anew; repeated images cost less.
        padded = np.concatenate([images, np.repeat(images[-1:], full - count, axis=0)]) if count < full else images
        logits = model.predict_on_batch(padded)[:count]
        predictions = ops.convert_to_numpy(ops.argmax(logits, axis=-1))
        result.confusion.update(masks, predictions)
        if loss is not None:
            total += float(loss(ops.cast(masks, "int32"), logits)) * count
        seen += count
        for image, mask, prediction, name in zip(images, masks, predictions, ids, strict=True):
            if name in keep:
                result.pictures.append((image, mask, prediction, name))
    if loss is not None and seen:
        result.loss = total / seen
    return result


def evenly_spaced(ids: list[str], count: int) -> frozenset[str]:
    """`count` ids spread over the whole list: neighbours in a data set often look alike."""
    if count <= 0:
        return frozenset()
    positions = np.linspace(0, len(ids) - 1, min(count, len(ids))).round().astype(int)
    return frozenset(ids[position] for position in positions)
