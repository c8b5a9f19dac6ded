"""Softmax cross-entropy averaged over the pixels that count."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from segzoo.losses.base import PixelLoss


@keras.saving.register_keras_serializable("segzoo")
class CrossEntropy(PixelLoss):
    """Cross-entropy of a softmax, its mean over valid pixels; 0 with a zero gradient where all are ignored.

    Class weights and label smoothing follow PyTorch's `torch.nn.CrossEntropyLoss`: the weighted mean is
    divided by the sum of the weights of the pixels' classes, so a weight says how much a class counts
    relative to the others and not how large the loss is. Label smoothing: Szegedy et al. 2016,
    https://arxiv.org/abs/1512.00567, section 7.

    Args:
        ignore_index: label of the pixels that take no part, or None.
        class_weights: one weight per class, not negative and not all 0, or None for equal ones.
        label_smoothing: share of the target that is spread evenly over all classes, 0 <= share < 1.
        name: name of the loss.
        dtype: dtype to compute in, float32 unless told.

    Raises:
        ValueError: a weight or a share outside these ranges; on call, a number of weights that is not C.
    """

    def __init__(
        self,
        ignore_index: int | None = None,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(ignore_index=ignore_index, name=name, dtype=dtype)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be at least 0 and below 1, not {label_smoothing!r}.")
        self.label_smoothing = float(label_smoothing)
        self.class_weights = None if class_weights is None else [float(weight) for weight in class_weights]
        if self.class_weights is not None and (
            not all(0 <= weight < math.inf for weight in self.class_weights) or not any(self.class_weights)
        ):
            raise ValueError(f"class_weights must be finite, not negative and not all 0: {self.class_weights}.")

    def value(self, labels: Any, logits: Any, weights: Any) -> Any:
        """Return the scalar loss; see `PixelLoss.value`."""
        classes = logits.shape[-1]
        if self.ignore_index is not None:
            # It is no class: TensorFlow's kernel raises on it on a CPU and returns NaN under XLA.
            labels = ops.where(ops.equal(labels, self.ignore_index), 0, labels)
        losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        pixels = ops.ones_like(losses) if weights is None else weights
        mass = pixels
        if self.class_weights is not None:
            if len(self.class_weights) != classes:
                raise ValueError(f"{len(self.class_weights)} class_weights for {classes} classes.")
            mass = pixels * ops.take(ops.convert_to_tensor(self.class_weights, dtype=logits.dtype), labels, axis=0)
        total = ops.sum(losses * mass)
        if self.label_smoothing:
            shares = ops.convert_to_tensor(self.class_weights or [1.0] * classes, dtype=logits.dtype) / classes
            # sum over c of -share_c log p_c, without keeping log p.
            even = ops.sum(shares) * ops.logsumexp(logits, axis=-1) - ops.sum(logits * shares, axis=-1)
            total = (1 - self.label_smoothing) * total + self.label_smoothing * ops.sum(even * pixels)
        return ops.divide_no_nan(total, ops.sum(mass))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the loss."""
        return {
            **super().get_config(),
            "class_weights": self.class_weights,
            "label_smoothing": self.label_smoothing,
        }
