"""Boundary loss: predicted mass weighted by its signed distance to the true outline."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from segzoo.losses.base import PixelLoss, Target, marked_distances
from segzoo.losses.distances import with_distances
from segzoo.losses.replicas import ratio_of_sums
from segzoo.losses.table import LOSSES


@LOSSES.register("boundary")
class Boundary(PixelLoss):
    """Mean over places of `distance * p`: signed distances to the class's outline, in pixels, and probabilities p.

    Outside a class the distance is positive, inside negative, so the least value, that of a perfect prediction, is
    negative. A class that an image lacks, or fills, has no outline and distance 0 there. Meant to be added with a small
    weight (the paper begins with 0.01) to an overlap loss: alone it has a poor minimum where everything is empty.
    Kervadec et al. 2019, https://arxiv.org/abs/1812.07032, equation 5.

    The distances come with the target, so that they are computed where samples are read and not in the step: they are
    C further channels and a mark behind the target's own, as `make_target` and `segzoo.data.with_distances` make them
    of a mask. Without the mark the loss is NaN: a one-hot mask of as many channels is no mask with distances.
    In a `WeightedSum` with this loss the others get the target without them; a loss that stands alone refuses such
    channels.

    Args:
        ignore_index: label of the pixels excluded from the loss, or None.
        class_weights: see `PixelLoss`.
        mode: "multiclass", "binary" or "multilabel".
        name: name of the loss.
        dtype: dtype of the computation, float32 by default.

    Raises:
        ValueError: on call, a target without distances.
    """

    takes_distances = True
    takes_soft = False  # shares of classes have no outline

    def extra_channels(self, classes: int) -> int:
        """Return the number of channels: a distance to each class's outline, and the mark of `with_distances`."""
        return classes + 1

    def make_target(self, mask: np.ndarray, classes: int) -> np.ndarray:
        """Return the mask with its signed distances behind; see `PixelLoss.make_target`."""
        return with_distances(mask, classes, self.ignore_index)

    def value(self, target: Target, logits: Any) -> Any:
        """Return the scalar loss; see `PixelLoss.value`."""
        weights = target.place_weights(logits) * self.weight_of_classes(logits)
        weights = ops.broadcast_to(weights, ops.shape(logits))
        return ratio_of_sums(marked_distances(target.extra) * self.probabilities(logits) * weights, weights)
