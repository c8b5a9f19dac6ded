"""Cross-entropy averaged over the pixels that count: of a softmax, and of a sigmoid for each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from segzoo.losses import limits
from segzoo.losses.base import PixelLoss, Target
from segzoo.losses.renamed import with_present_names
from segzoo.losses.replicas import ratio_of_sums, replica_concatenation, replica_sum
from segzoo.losses.table import LOSSES
from segzoo.task import Mode


@LOSSES.register("cross_entropy")
class CrossEntropy(PixelLoss):
    """Cross-entropy of a softmax, its mean over valid pixels; 0 with a zero gradient where all are ignored.

    Class weights and label smoothing follow PyTorch's `torch.nn.CrossEntropyLoss`: the weighted mean is
    divided by the sum of the weights of the pixels' classes, so a weight says how much a class counts
    relative to the others and not how large the loss is. Label smoothing: Szegedy et al. 2016,
    https://arxiv.org/abs/1512.00567, section 7.

    Args:
        ignore_index: label of the pixels excluded from the loss, or None.
        class_weights: one weight per class, not negative and not all 0, or None for equal weights.
        label_smoothing: share of the target that is spread evenly over all classes, 0 <= share < 1.
        ohem_fraction: share of the batch's valid pixels, those of the largest loss, that the mean is over, above 0 and
            at most 1; None for all of them. Online hard example mining by rank: Wu et al. 2016,
            https://arxiv.org/abs/1605.06885, section 4.
        mode: "multiclass"; see `BinaryCrossEntropy` for the others.
        name: name of the loss.
        dtype: dtype of the computation, float32 by default.
        hardest: deprecated alias of `ohem_fraction`.

    Raises:
        ValueError: a weight or fraction out of range; on call, if the number of weights is not C.
    """

    modes = ("multiclass",)

    def __init__(
        self,
        ignore_index: int | None = None,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        ohem_fraction: float | None = None,
        mode: Mode | None = None,
        name: str | None = None,
        dtype: Any = None,
        hardest: float | None = None,
    ):
        super().__init__(ignore_index=ignore_index, class_weights=class_weights, mode=mode, name=name, dtype=dtype)
        if hardest is not None:
            given = {} if ohem_fraction is None else {"ohem_fraction": ohem_fraction}
            ohem_fraction = with_present_names("cross_entropy", {**given, "hardest": hardest})["ohem_fraction"]
        limits.check(limits.CROSS_ENTROPY, ohem_fraction=ohem_fraction, label_smoothing=label_smoothing)
        self.ohem_fraction = 1.0 if ohem_fraction is None else float(ohem_fraction)
        self.label_smoothing = float(label_smoothing)

    def value(self, target: Target, logits: Any) -> Any:
        """Return the scalar loss; see `PixelLoss.value`."""
        shares = self.weight_of_classes(logits)
        pixels = ops.ones_like(logits[..., 0]) if target.weights is None else target.weights
        if target.labels is not None:
            losses = keras.losses.sparse_categorical_crossentropy(target.labels, logits, from_logits=True)
            mass = ops.ones_like(losses) if self.class_weights is None else ops.take(shares, target.labels, axis=0)
            losses = losses * mass
        else:
            mass = ops.sum(target.values * shares, axis=-1)
            # - sum over c of w_c g_c log p_c, without keeping log p.
            losses = mass * ops.logsumexp(logits, axis=-1) - ops.sum(target.values * shares * logits, axis=-1)
        if self.label_smoothing:
            # The same sum with g_c = 1 / C.
            scores = logits if self.class_weights is None else logits * shares
            even = ops.mean(shares) * ops.logsumexp(logits, axis=-1) - ops.mean(scores, axis=-1)
            losses = (1 - self.label_smoothing) * losses + self.label_smoothing * even
        if self.ohem_fraction < 1:
            pixels = pixels * _ohem_mask(ops.stop_gradient(losses), pixels, self.ohem_fraction)
        return ratio_of_sums(losses * pixels, mass * pixels)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the loss, under their present names."""
        return {**super().get_config(), "label_smoothing": self.label_smoothing, "ohem_fraction": self.ohem_fraction}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> CrossEntropy:
        """Create the loss from a configuration; one of segzoo 0.1.0 has an option under its former name."""
        return cls(**with_present_names("cross_entropy", config, stacklevel=None))


@LOSSES.register("binary_cross_entropy")
class BinaryCrossEntropy(PixelLoss):
    """Cross-entropy of a sigmoid for each class apart, its mean over valid places.

    Args:
        ignore_index: value of the positions excluded from the loss, or None.
        pos_weight: factor on the loss where the target is 1, a number or one per class, positive; values above 1 favour
            recall. As in PyTorch's `BCEWithLogitsLoss`, the mean is over the number of places.
        class_weights: see `PixelLoss`.
        mode: "binary" or "multilabel".
        name: name of the loss.
        dtype: dtype of the computation, float32 by default.

    Raises:
        ValueError: a weight that is not positive and finite; on call, if the number of weights is not C.
    """

    modes = ("binary", "multilabel")

    def __init__(
        self,
        ignore_index: int | None = None,
        pos_weight: float | Sequence[float] | None = None,
        class_weights: Sequence[float] | None = None,
        mode: Mode | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(ignore_index=ignore_index, class_weights=class_weights, mode=mode, name=name, dtype=dtype)
        limits.check(limits.BINARY_CROSS_ENTROPY, pos_weight=pos_weight)
        self.pos_weight = limits.as_list(pos_weight)

    def value(self, target: Target, logits: Any) -> Any:
        """Return the scalar loss; see `PixelLoss.value`."""
        weights = target.place_weights(logits) * self.weight_of_classes(logits)
        g = target.shares(logits)
        if self.pos_weight is None:
            losses = ops.softplus(logits) - g * logits
        else:
            if len(self.pos_weight) not in (1, logits.shape[-1]):
                raise ValueError(f"{len(self.pos_weight)} pos_weight for {logits.shape[-1]} classes.")
            positive = ops.convert_to_tensor(self.pos_weight, dtype=logits.dtype)
            losses = positive * g * ops.softplus(-logits) + (1 - g) * ops.softplus(logits)
        return ratio_of_sums(losses * weights, ops.broadcast_to(weights, ops.shape(logits)))


def _ohem_mask(losses: Any, pixels: Any, share: float) -> Any:
    """Return 1 for the share of the batch's valid pixels whose loss is largest, at least one; 0 elsewhere."""
    valid = pixels > 0
    flat = replica_concatenation(ops.reshape(ops.where(valid, losses, -1.0), (-1,)))
    descending = ops.flip(ops.sort(flat), axis=0)
    count = replica_sum(ops.sum(ops.cast(valid, losses.dtype)))
    kept = ops.maximum(1, ops.cast(ops.ceil(share * count), "int32"))
    return ops.cast(losses >= ops.take(descending, kept - 1), losses.dtype)
