"""A single logit, of one class against the rest, as the logits of two classes."""

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
