"""Losses on soft counts of pixels, class by class: Dice, Jaccard, Tversky and the Matthews correlation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from segzoo.losses import limits
from segzoo.losses.base import PerImageLoss, Target
from segzoo.losses.replicas import replica_sum
from segzoo.losses.table import LOSSES
from segzoo.task import Mode


class CountLoss(PerImageLoss):
    """Base class of losses on soft counts per class: sums of p g, p, g and 1, for probabilities p and target g.

    Args:
        ignore_index: label of the pixels excluded from all sums, or None.
        per_image: False sums over the batch, so that a class counts once per batch; True takes the mean over all pairs
            of an image and a class that counts.
        class_weights: see `PixelLoss`.
        mode: "multiclass", "binary" or "multilabel".
        name: name of the loss.
        dtype: dtype of the computation, float32 by default.
    """

    def counts(self, target: Target, logits: Any) -> tuple[Any, Any, Any, Any]:
        """Return the sums of p g, of p, of g and of 1, each (B, C) or (1, C)."""
        return self._of_softmax(target, logits) if self.mode == "multiclass" else self._of_sigmoid(target, logits)

    def _of_softmax(self, target: Target, logits: Any) -> tuple[Any, Any, Any, Any]:
        flat = (ops.shape(logits)[0], -1, logits.shape[-1])
        shares = target.shares(logits)
        if target.weights is not None:
            shares = shares * target.weights[..., None]
        # Soft confusion matrix (B, predicted, target): one product holds all sums, and neither it nor its gradient
        # needs another tensor of the logits' size. Ignored pixels are rows of zeros in it.
        p = ops.transpose(ops.reshape(self.probabilities(logits), flat), (0, 2, 1))
        matrix = ops.matmul(p, ops.reshape(shares, flat))
        if not self.per_image:
            matrix = replica_sum(ops.sum(matrix, axis=0, keepdims=True))
        predicted, actual = ops.sum(matrix, axis=2), ops.sum(matrix, axis=1)
        valid = ops.broadcast_to(ops.sum(actual, axis=1, keepdims=True), ops.shape(actual))
        return ops.diagonal(matrix, axis1=1, axis2=2), predicted, actual, valid

    def _of_sigmoid(self, target: Target, logits: Any) -> tuple[Any, Any, Any, Any]:
        axes = (1, 2) if self.per_image else (0, 1, 2)
        weights = ops.broadcast_to(target.place_weights(logits), ops.shape(logits))
        p = self.probabilities(logits) * weights
        shares = target.shares(logits)
        sums = [ops.sum(each, axis=axes) for each in (p * shares, p, shares * weights, weights)]
        overlap, predicted, actual, valid = sums if self.per_image else replica_sum(sums)
        return overlap, predicted, actual, valid


class OverlapLoss(CountLoss):
    """Base class of overlap losses: means over classes, and the treatment of empty targets.

    In multiclass mode the mean leaves out a class without a target pixel, because its own term is 0 or 1 whatever
    else is right: kept, it would lower the loss of a prediction that is wrong everywhere and have no useful gradient.
    False positives of an absent class still cost: the softmax takes them from the classes that are there, so their
    overlap falls and the gradient pushes the absent class down.

    In binary and multilabel mode no softmax does that, so the term of an empty target is that of the complement, of
    1 - p and 1 - g: it grows with everything predicted and has a gradient at every pixel.

    Hence 0 for a perfect prediction, 1 (with smooth = 0) where every pixel is wrong, and 0 with a zero gradient where
    all pixels are ignored.

    Args:
        ignore_index: label of the pixels excluded from all sums, or None.
        per_image: False sums over the batch before dividing, so that a class counts once per batch; True takes
            the mean over all pairs of an image and a class that counts.
        smooth: constant, in pixels, added to numerator and denominator; reduces the influence of classes with few
            pixels.
        class_weights: see `PixelLoss`.
        mode: "multiclass", "binary" or "multilabel".
        name: name of the loss.
        dtype: dtype of the computation, float32 by default.

    Raises:
        ValueError: `smooth` negative or not finite.
    """

    def __init__(
        self,
        ignore_index: int | None = None,
        per_image: bool = False,
        smooth: float = 0.0,
        class_weights: Sequence[float] | None = None,
        mode: Mode | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(ignore_index, per_image, class_weights, mode, name, dtype)
        limits.check(limits.OVERLAP, smooth=smooth)
        self.smooth = float(smooth)

    def loss_of(self, overlap: Any, predicted: Any, actual: Any) -> Any:
        """Return the loss of each class from the sums of p g, of p and of g, all of one shape."""
        raise NotImplementedError(f"{type(self).__name__} must define loss_of.")

    def value(self, target: Target, logits: Any) -> Any:
        """Return the scalar loss; see `PixelLoss.value`."""
        overlap, predicted, actual, valid = self.counts(target, logits)
        if self.mode == "multiclass":
            counted = actual > 0
        else:
            empty = actual <= 0
            # Of the complement: sum (1 - p)(1 - g) = sum (1 - p) where g is 0 everywhere.
            overlap = ops.where(empty, valid - predicted, overlap)
            predicted = ops.where(empty, valid - predicted, predicted)
            actual = ops.where(empty, valid, actual)
            counted = valid > 0
        return self.mean_over_classes(self.loss_of(overlap, predicted, actual), counted, logits)


@LOSSES.register("dice")
class Dice(OverlapLoss):
    """One minus the soft Dice coefficient: `1 - (2 sum(p g) + smooth) / (sum(p) + sum(g) + smooth)`.

    Milletari et al. 2016 (V-Net, https://arxiv.org/abs/1606.04797), with plain sums in the denominator as in Drozdzal
    et al. 2016 (https://arxiv.org/abs/1608.04117) in place of V-Net's squares. Arguments and empty targets: see
    `OverlapLoss`.
    """

    def loss_of(self, overlap: Any, predicted: Any, actual: Any) -> Any:
        """Return 1 - Dice."""
        size = predicted + actual
        return ops.divide_no_nan(size - 2 * overlap, size + self.smooth)


@LOSSES.register("jaccard")
class Jaccard(OverlapLoss):
    """One minus the soft Jaccard index (IoU): `1 - (sum(p g) + smooth) / (sum(p) + sum(g) - sum(p g) + smooth)`.

    Rahman and Wang 2016, https://doi.org/10.1007/978-3-319-50835-1_22. Arguments and empty targets: see
    `OverlapLoss`.
    """

    def loss_of(self, overlap: Any, predicted: Any, actual: Any) -> Any:
        """Return 1 - IoU."""
        union = predicted + actual - overlap
        return ops.divide_no_nan(union - overlap, union + self.smooth)


@LOSSES.register("tversky")
class Tversky(OverlapLoss):
    """One minus the soft Tversky index, Dice with separate weights for both kinds of error, to a power.

    `(1 - (TP + smooth) / (TP + alpha FP + beta FN + smooth)) ^ gamma`, with TP = sum(p g), FP = sum(p) - TP and FN =
    sum(g) - TP. With alpha = beta = 0.5 it is Dice, with 1 and 1 Jaccard. Salehi et al. 2017,
    https://arxiv.org/abs/1706.05721, whose best beta is the default. Empty targets: see `OverlapLoss`.

    Args:
        ignore_index: label of the pixels excluded from all sums, or None.
        alpha: weight of false positives, not negative.
        beta: weight of false negatives, not negative; not both 0.
        gamma: exponent of each class's loss, positive; 1 is the plain Tversky loss.
        per_image: see `OverlapLoss`.
        smooth: see `OverlapLoss`.
        class_weights: see `PixelLoss`.
        mode: "multiclass", "binary" or "multilabel".
        name: name of the loss.
        dtype: dtype of the computation, float32 by default.

    Raises:
        ValueError: values out of range.
    """

    def __init__(
        self,
        ignore_index: int | None = None,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 1.0,
        per_image: bool = False,
        smooth: float = 0.0,
        class_weights: Sequence[float] | None = None,
        mode: Mode | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(ignore_index, per_image, smooth, class_weights, mode, name, dtype)
        limits.check(limits.TVERSKY, smooth=smooth, alpha=alpha, beta=beta, gamma=gamma)
        self.alpha, self.beta, self.gamma = float(alpha), float(beta), float(gamma)

    def loss_of(self, overlap: Any, predicted: Any, actual: Any) -> Any:
        """Return (1 - Tversky index) ^ gamma."""
        errors = self.alpha * (predicted - overlap) + self.beta * (actual - overlap)
        loss = ops.divide_no_nan(errors, overlap + errors + self.smooth)
        if self.gamma == 1:
            return loss
        # A root has an infinite slope at 0, where rounding may also leave a negative loss.
        return ops.power(ops.maximum(loss, keras.config.epsilon()), self.gamma)


@LOSSES.register("focal_tversky")
class FocalTversky(Tversky):
    """The Tversky loss to the power of 3/4, which raises the gradient of classes that are nearly right.

    Abraham and Khan 2019, https://arxiv.org/abs/1810.07842, with their weights (0.3 for false positives, 0.7 for false
    negatives) and their power 1 / (4/3). Arguments: see `Tversky`.
    """

    def __init__(
        self,
        ignore_index: int | None = None,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 0.75,
        per_image: bool = False,
        smooth: float = 0.0,
        class_weights: Sequence[float] | None = None,
        mode: Mode | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(ignore_index, alpha, beta, gamma, per_image, smooth, class_weights, mode, name, dtype)


@LOSSES.register("mcc")
class MCC(CountLoss):
    """One minus the soft Matthews correlation coefficient, 0 to 2, its mean over the classes where it is defined.

    `1 - (TP TN - FP FN) / sqrt((TP + FP)(TP + FN)(TN + FP)(TN + FN))` for the soft counts of each class against the
    rest; it is not defined where the target holds no pixel of the class or no other. Unlike the overlap losses it
    values true negatives. Abhishek and Hamarneh 2021, https://arxiv.org/abs/2010.13454. Arguments: see `CountLoss`.
    """

    def value(self, target: Target, logits: Any) -> Any:
        """Return the scalar loss; see `PixelLoss.value`."""
        overlap, predicted, actual, valid = self.counts(target, logits)
        # As shares of the valid pixels: their products stay within float32 whatever the image's size.
        overlap, predicted, actual = (ops.divide_no_nan(count, valid) for count in (overlap, predicted, actual))
        covariance = overlap - predicted * actual
        variances = predicted * (1 - predicted) * actual * (1 - actual)
        # The epsilon keeps the root's slope finite where everything or nothing is predicted.
        losses = 1 - covariance / ops.sqrt(ops.maximum(variances, keras.config.epsilon() ** 2))
        return self.mean_over_classes(losses, (actual > 0) & (actual < 1), logits)
