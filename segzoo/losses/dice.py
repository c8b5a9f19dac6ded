"""Soft Dice loss, the overlap of predicted probabilities and target per class."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from segzoo.losses.base import PixelLoss


@keras.saving.register_keras_serializable("segzoo")
class Dice(PixelLoss):
    """One minus the soft Dice coefficient, its mean over the classes that occur in the target.

    For a class c with probabilities p (softmax) and target g (0 or 1) over the valid pixels:
    `1 - (2 sum(p g) + smooth) / (sum(p) + sum(g) + smooth)`. The loss is from Milletari et al. 2016 (V-Net,
    https://arxiv.org/abs/1606.04797), with plain sums in the denominator as in Drozdzal et al. 2016
    (https://arxiv.org/abs/1608.04117) in place of V-Net's squares.

    The mean leaves out a class without a target pixel, because its own term is 0 or 1 whatever else is right:
    kept, it would lower the loss of a prediction that is wrong everywhere and have no useful gradient. False
    positives of an absent class still cost: the softmax takes them from the classes that are there, so their
    overlap falls and the gradient pushes the absent class down. Hence 0 for a perfect prediction, 1 (with
    smooth = 0) where every pixel is wrong, a gradient also where a mask is background only, and 0 with a zero
    gradient where all pixels are ignored.

    Args:
        ignore_index: label of the pixels that take no part in any sum, or None.
        per_image: False sums over the batch before dividing, so that a class counts once per batch; True takes
            the mean over all pairs of an image and a class in its target.
        smooth: a number of pixels added above and below the fraction, to damp classes of few pixels.
        name: name of the loss.
        dtype: dtype to compute in, float32 unless told.

    Raises:
        ValueError: `smooth` negative or not finite.
    """

    def __init__(
        self,
        ignore_index: int | None = None,
        per_image: bool = False,
        smooth: float = 0.0,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(ignore_index=ignore_index, name=name, dtype=dtype)
        if not 0 <= smooth < math.inf:
            raise ValueError(f"smooth must be finite and not negative, not {smooth!r}.")
        self.per_image = bool(per_image)
        self.smooth = float(smooth)

    def value(self, labels: Any, logits: Any, weights: Any) -> Any:
        """Return the scalar loss; see `PixelLoss.value`."""
        classes = logits.shape[-1]
        flat = (ops.shape(logits)[0], -1, classes)
        if self.ignore_index is not None:
            # A negative label is an empty row of the one-hot on every backend; a too large one raises on torch.
            labels = ops.where(ops.equal(labels, self.ignore_index), -1, labels)
        target = ops.one_hot(labels, classes, dtype=logits.dtype)
        if weights is not None:
            target = target * weights[..., None]
        # Soft confusion matrix (B, predicted, target): one product holds all three sums of the fraction, and
        # neither it nor its gradient needs another tensor of the logits' size. Ignored pixels are rows of
        # zeros in it.
        probabilities = ops.transpose(ops.reshape(ops.softmax(logits, axis=-1), flat), (0, 2, 1))
        matrix = ops.matmul(probabilities, ops.reshape(target, flat))
        if not self.per_image:
            matrix = ops.sum(matrix, axis=0, keepdims=True)
        overlap = ops.diagonal(matrix, axis1=1, axis2=2)
        actual = ops.sum(matrix, axis=1)
        size = ops.sum(matrix, axis=2) + actual
        losses = ops.divide_no_nan(size - 2 * overlap, size + self.smooth)
        present = ops.cast(actual > 0, losses.dtype)
        return ops.divide_no_nan(ops.sum(losses * present), ops.sum(present))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the loss."""
        return {**super().get_config(), "per_image": self.per_image, "smooth": self.smooth}
