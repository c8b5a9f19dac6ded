"""Conversion of logits to classes in binary, multiclass and multilabel mode."""

from __future__ import annotations

from typing import Any

import numpy as np


def class_logits(logits: Any) -> Any:
    """Return logits (..., C) as they are, and (..., 1) as (..., 2) with 0 for the rest.

    The softmax of (0, z) is the sigmoid of z, and its larger one the class where z is above 0: so what follows (class
    maps, probabilities, comparisons) needs no case of its own for binary models.

    Args:
        logits: a NumPy array or a tensor of Keras's backend.
    """
    if logits.shape[-1] != 1:
        return logits
    if isinstance(logits, np.ndarray):
        return np.concatenate([np.zeros_like(logits), logits], axis=-1)
    from keras import ops

    return ops.concatenate([ops.zeros_like(logits), logits], axis=-1)


def predict_classes(logits: Any, multilabel: bool = False) -> Any:
    """Convert logits (..., C) to predictions: class indices (...), or in multilabel 0 or 1 for each class (..., C).

    The class of a pixel is the one with the largest logit, with a single logit whether it is above 0; in multilabel
    each class is there where its own logit is above 0.

    Args:
        logits: a NumPy array or a tensor of Keras's backend.
        multilabel: whether classes may overlap.

    Returns:
        NumPy integers, or an int32 tensor.
    """
    if isinstance(logits, np.ndarray):
        return (logits > 0).astype(np.uint8) if multilabel else class_logits(logits).argmax(axis=-1)
    from keras import ops

    return ops.cast(logits > 0 if multilabel else ops.argmax(class_logits(logits), axis=-1), "int32")
