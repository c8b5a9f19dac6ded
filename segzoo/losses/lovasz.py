"""Lovasz extension of the Jaccard loss: the gradient of IoU itself, by the order of the pixels' errors."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from segzoo.losses.base import PerImageLoss, Target
from segzoo.losses.replicas import replica_concatenation
from segzoo.losses.table import LOSSES

_FEWEST_PLACES, _MOST_PLACES = 2**12, 2**16  # steps of the largest error, as many as pixels in between


class _Lovasz(PerImageLoss):
    """The Lovasz extension of 1 - IoU at the pixels' errors, its mean over images or over the batch, and over classes.

    Berman et al. 2018, https://arxiv.org/abs/1705.08790. An ignored pixel has no error and is in no target, so it is
    in neither intersection nor union; a sample weight multiplies the pixel's error.

    Errors are not sorted but counted in up to 65,536 equal steps of the largest one, which takes a tenth of the time.
    Errors within a step count as equal and share the weights that they would have in either order, so that the loss
    moves by less than a step; against sorting 1e-6 is seen.

    Args:
        ignore_index: label of the pixels excluded from the loss, or None.
        per_image: False pools the pixels of the batch, True treats each image separately.
        class_weights: see `PixelLoss`.
        mode: see the class.
        name: name of the loss.
        dtype: dtype of the computation, float32 by default.
    """

    def errors(self, logits: Any, target: Any) -> Any:
        """Return the error of every place, (B, H, W, C), at most about 1 where it is right."""
        raise NotImplementedError(f"{type(self).__name__} must define errors.")

    def value(self, target: Target, logits: Any) -> Any:
        """Return the scalar loss; see `PixelLoss.value`."""
        shares = target.shares(logits)
        errors, valid = self.errors(logits, shares), ops.ones_like(logits[..., :1])
        if target.weights is not None:
            weights = target.place_weights(logits)
            valid = ops.cast(weights > 0, logits.dtype)
            errors, shares = errors * weights, shares * valid
        rows, truth = self._rows(errors, logits), self._rows(shares, logits)
        losses = ops.sum(rows * _steps(ops.stop_gradient(rows), ops.stop_gradient(truth)), axis=-1)
        counted = truth
        if self.mode != "multiclass":
            counted = self._rows(ops.broadcast_to(valid, ops.shape(logits)), logits)
        return self.mean_over_classes(losses, ops.sum(counted, axis=-1) > 0, logits)

    def _rows(self, places: Any, logits: Any) -> Any:
        """Return (B, H, W, C) as rows that are sorted together: (B, C, H W), or (1, C, B H W)."""
        if self.per_image:
            flat = ops.reshape(places, (ops.shape(logits)[0], -1, logits.shape[-1]))
        else:
            flat = ops.reshape(replica_concatenation(places), (1, -1, logits.shape[-1]))
        return ops.transpose(flat, (0, 2, 1))


@LOSSES.register("lovasz_softmax")
class LovaszSoftmax(_Lovasz):
    """Lovasz-Softmax: the errors are |g - p| of the softmax; the mean is over the classes that occur in the target.

    The other arguments: see `_Lovasz`. Mode: "multiclass".
    """

    modes = ("multiclass",)

    def errors(self, logits: Any, target: Any) -> Any:
        """Return |g - p|."""
        return ops.absolute(target - self.probabilities(logits))


@LOSSES.register("lovasz_hinge")
class LovaszHinge(_Lovasz):
    """Lovasz hinge: the errors are max(0, 1 - s z) for logits z and signs s = 1 in the target and -1 outside.

    An empty target has the loss of its largest error. Modes: "binary" and "multilabel".
    """

    modes = ("binary", "multilabel")

    def errors(self, logits: Any, target: Any) -> Any:
        """Return the hinge of each place."""
        return ops.relu(1 - (2 * target - 1) * logits)


def _steps(errors: Any, truth: Any) -> Any:
    """Return by how much the Jaccard loss rises as each pixel, from the largest error on, is added to the wrong ones.

    Args:
        errors: (..., N), at least 0.
        truth: the same shape: 1 in the target, 0 outside, or shares between them.
    """
    shape, pixels = ops.shape(errors), errors.shape[-1]
    dtype = errors.dtype
    errors, truth = (ops.reshape(ops.cast(values, "float32"), (-1, shape[-1])) for values in (errors, truth))
    places = _MOST_PLACES if pixels is None else min(_MOST_PLACES, max(_FEWEST_PLACES, 2 ** (pixels - 1).bit_length()))
    rows, largest = ops.shape(errors)[0], ops.max(errors, axis=-1, keepdims=True)
    # Clipped from below, too: what is not finite becomes any number, and the loss has to say so, not an index.
    rank = ops.cast(errors * (places / ops.maximum(largest, keras.config.epsilon())), "int32")
    rank = places - 1 - ops.clip(rank, 0, places - 1) + places * ops.arange(rows, dtype="int32")[:, None]
    place, inside = ops.reshape(rank, (-1,)), ops.reshape(truth, (-1,))

    def counted(values: Any) -> Any:
        return ops.reshape(ops.segment_sum(values, place, num_segments=rows * places), (-1, places))

    hits = counted(inside)
    others = counted(1 - inside)
    total = ops.sum(hits, axis=-1, keepdims=True)
    # Intersection and union before the pixels of a place are added, and the union thereafter.
    left = total - (ops.cumsum(hits, axis=-1) - hits)
    union = ops.maximum(total + ops.cumsum(others, axis=-1) - others, keras.config.epsilon())
    product = union * (union + others)
    of_hits, of_others = (union + others / 2) / product, (left - hits / 2) / product
    of_hits, of_others = (ops.take(ops.reshape(steps, (-1,)), place) for steps in (of_hits, of_others))
    steps = ops.reshape(of_others + (of_hits - of_others) * inside, ops.shape(errors))
    # Without a target the loss is 1 from the first wrong pixel on.
    first = ops.cast(errors >= largest, "float32")
    steps = ops.where(total > 0, steps, first / ops.sum(first, axis=-1, keepdims=True))
    return ops.reshape(ops.cast(steps, dtype), shape)
