"""Lovasz extension of the Jaccard loss: the gradient of IoU itself, by sorting the pixels' errors."""

from __future__ import annotations

from typing import Any

from keras import ops

from segzoo.losses.base import PerImageLoss, Target
from segzoo.losses.replicas import replica_concatenation
from segzoo.losses.table import LOSSES


class _Lovasz(PerImageLoss):
    """The Lovasz extension of 1 - IoU at the pixels' errors, its mean over images or over the batch, and over classes.

    Berman et al. 2018, https://arxiv.org/abs/1705.08790. An ignored pixel has no error and is in no target, so it is
    in neither intersection nor union; a sample weight multiplies the pixel's error.

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
        order = ops.argsort(-ops.stop_gradient(rows), axis=-1)
        losses = ops.sum(
            ops.take_along_axis(rows, order, axis=-1) * _steps(ops.take_along_axis(truth, order, axis=-1)), axis=-1
        )
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


def _steps(truth: Any) -> Any:
    """Return the differences of the Jaccard loss as pixels, sorted by error, are added to the wrong ones: (..., N)."""
    total = ops.sum(truth, axis=-1, keepdims=True)
    missed, extra = ops.cumsum(truth, axis=-1), ops.cumsum(1 - truth, axis=-1)
    # An empty target's union grows from 1, and so never divides by 0.
    jaccard = 1 - (total - missed) / ops.maximum(total + extra, 1)
    return jaccard - ops.concatenate([ops.zeros_like(jaccard[..., :1]), jaccard[..., :-1]], axis=-1)
