"""What the losses on integer masks share: shape checks, the ignore index and per-pixel weights."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


class PixelLoss(keras.losses.Loss):
    """A loss from integer labels and logits to one number that is a ratio over the valid pixels.

    Keras multiplies a loss by `sample_weight` after `call`, which is wrong for a ratio: the weights belong in
    the numerator and in the denominator. So they travel with the labels, and a weight of 0 is the same as an
    ignored pixel. Under `tf.distribute` each replica takes the ratio over its own pixels, and the replicas'
    mean is minimised.

    A label that is neither a class nor the ignore index is not looked for here (a graph cannot raise, and a
    count would cost every step); segzoo checks labels where masks are read.

    Args:
        ignore_index: label of the pixels that take no part, or None.
        name: name of the loss.
        dtype: dtype to compute in; float32 unless told, whatever the logits' dtype and Keras's `floatx` are.
    """

    def __init__(self, ignore_index: int | None = None, name: str | None = None, dtype: Any = None):
        super().__init__(name=name, reduction="sum_over_batch_size", dtype=dtype or "float32")
        self.ignore_index = None if ignore_index is None else int(ignore_index)

    def value(self, labels: Any, logits: Any, weights: Any) -> Any:
        """Return the scalar loss.

        Args:
            labels: int32 (B, H, W).
            logits: (B, H, W, C) in the loss's dtype.
            weights: (B, H, W) in the loss's dtype, 0 at ignored pixels; None where every pixel counts 1.
        """
        raise NotImplementedError

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Return the scalar loss.

        Args:
            y_true: integer labels (B, H, W) or (B, H, W, 1).
            y_pred: logits (B, H, W, C), C >= 2, any float dtype.
            sample_weight: None, a weight per image (B,) or (B, 1), or per pixel (B, H, W) or (B, H, W, 1).

        Raises:
            ValueError: shapes other than these.
        """
        targets = (y_true,) if sample_weight is None else (y_true, sample_weight)
        return super().__call__(targets, y_pred)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss as a tensor (1,), which Keras reduces to a scalar and scales for replicas."""
        labels, *rest = y_true if isinstance(y_true, tuple | list) else (y_true,)
        labels = ops.cast(_labels_of(labels, y_pred), "int32")
        weights = _pixel_weights(rest[0], labels) if rest else None
        if self.ignore_index is not None:
            valid = ops.cast(ops.not_equal(labels, self.ignore_index), y_pred.dtype)
            weights = valid if weights is None else weights * valid
        return ops.reshape(self.value(labels, y_pred, weights), (1,))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the loss."""
        return {"ignore_index": self.ignore_index, "name": self.name, "dtype": self.dtype}


def _labels_of(y_true: Any, y_pred: Any) -> Any:
    """Return the labels as (B, H, W), or raise ValueError where the shapes do not belong together."""
    if len(y_pred.shape) != 4 or (y_pred.shape[-1] or 2) < 2:
        raise ValueError(f"Logits must be (B, H, W, C) with at least 2 classes; got {tuple(y_pred.shape)}.")
    labels = y_true
    if len(labels.shape) == 4 and labels.shape[-1] == 1:
        labels = ops.squeeze(labels, axis=-1)
    pairs = zip(labels.shape, y_pred.shape[:3], strict=False)
    if len(labels.shape) != 3 or any(a != b for a, b in pairs if a is not None and b is not None):
        raise ValueError(
            f"Labels must be integers (B, H, W) or (B, H, W, 1) of the logits' size {tuple(y_pred.shape)}; "
            f"got {tuple(y_true.shape)}. One-hot masks are not taken: pass class indices."
        )
    return labels


def _pixel_weights(sample_weight: Any, labels: Any) -> Any:
    """Return weights per image or per pixel as (B, H, W)."""
    weights = sample_weight
    if len(weights.shape) in (2, 4) and weights.shape[-1] == 1:
        weights = ops.squeeze(weights, axis=-1)
    if len(weights.shape) == 1:
        weights = weights[:, None, None]
    pairs = zip(weights.shape, labels.shape, strict=False)
    if len(weights.shape) != 3 or any(a not in (1, b) for a, b in pairs if a is not None and b is not None):
        raise ValueError(
            "sample_weight must hold one weight per image (B,) or per pixel (B, H, W) for labels "
            f"{tuple(labels.shape)}; got {tuple(sample_weight.shape)}."
        )
    return ops.broadcast_to(weights, ops.shape(labels))
