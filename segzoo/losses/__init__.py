"""Losses on integer masks and logits; each supports an ignore index and works in a plain `model.compile`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from segzoo.arguments import arguments_of
from segzoo.errors import ConfigError, shortened, unknown_name
from segzoo.lazy import attach
from segzoo.losses.renamed import RENAMED, with_present_names
from segzoo.losses.table import LOSSES

if TYPE_CHECKING:
    import keras

    from segzoo.losses.balance import class_weights as class_weights
    from segzoo.losses.base import PixelLoss as PixelLoss
    from segzoo.losses.boundary import Boundary as Boundary
    from segzoo.losses.cldice import ClDice as ClDice
    from segzoo.losses.cross_entropy import BinaryCrossEntropy as BinaryCrossEntropy
    from segzoo.losses.cross_entropy import CrossEntropy as CrossEntropy
    from segzoo.losses.focal import SigmoidFocal as SigmoidFocal
    from segzoo.losses.focal import SoftmaxFocal as SoftmaxFocal
    from segzoo.losses.lovasz import LovaszHinge as LovaszHinge
    from segzoo.losses.lovasz import LovaszSoftmax as LovaszSoftmax
    from segzoo.losses.overlap import MCC as MCC
    from segzoo.losses.overlap import Dice as Dice
    from segzoo.losses.overlap import FocalTversky as FocalTversky
    from segzoo.losses.overlap import Jaccard as Jaccard
    from segzoo.losses.overlap import Tversky as Tversky
    from segzoo.losses.presence import ClassPresence as ClassPresence
    from segzoo.losses.weighted_sum import WeightedSum as WeightedSum

# The public names, but for those of this module.
_CLASSES = {
    "ClDice": "segzoo.losses.cldice",
    "ClassPresence": "segzoo.losses.presence",
    "MCC": "segzoo.losses.overlap",
    "Boundary": "segzoo.losses.boundary",
    "BinaryCrossEntropy": "segzoo.losses.cross_entropy",
    "CrossEntropy": "segzoo.losses.cross_entropy",
    "Dice": "segzoo.losses.overlap",
    "FocalTversky": "segzoo.losses.overlap",
    "Jaccard": "segzoo.losses.overlap",
    "LovaszHinge": "segzoo.losses.lovasz",
    "LovaszSoftmax": "segzoo.losses.lovasz",
    "PixelLoss": "segzoo.losses.base",
    "SigmoidFocal": "segzoo.losses.focal",
    "SoftmaxFocal": "segzoo.losses.focal",
    "Tversky": "segzoo.losses.overlap",
    "WeightedSum": "segzoo.losses.weighted_sum",
    "class_weights": "segzoo.losses.balance",
}

__all__ = ["LOSSES", "create", *_CLASSES]


def create(
    spec: Mapping[str, float | Mapping[str, Any]], ignore_index: int | None = None, mode: str = "multiclass"
) -> keras.losses.Loss:
    """Build the loss that a specification describes.

    Args:
        spec: name to weight, or name to a mapping of `weight` (default 1) and the loss's own options:
            `{"cross_entropy": 1.0, "dice": {"weight": 0.5, "per_image": True}}`.
        ignore_index: label of the pixels excluded from the loss, for every loss in the sum.
        mode: "multiclass", "binary" or "multilabel", for every loss in the sum; see `PixelLoss`.

    Returns:
        The loss itself if there is only one, of weight 1; otherwise a `WeightedSum`.

    Raises:
        UnknownNameError: an unknown loss or option.
        ConfigError: an empty specification, or an invalid weight or option.
    """
    if not spec:
        raise ConfigError(f"The loss is empty; name at least one of: {', '.join(LOSSES)}.")
    if not isinstance(spec, Mapping):
        raise ConfigError(
            f"The loss is a table of names and weights, such as {{'dice': 1.0}}, not {shortened(str(spec))}."
        )
    losses, weights = [], []
    for name, entry in spec.items():
        options = dict(entry) if isinstance(entry, Mapping) else {"weight": entry}
        weight = options.pop("weight", 1.0)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
            raise ConfigError(f"The weight of loss {name!r} must be a positive number, not {weight!r}.")
        cls = LOSSES[name]
        renamed = RENAMED.get(name, {})
        known = set(arguments_of(cls, {"ignore_index", "mode", "name", "dtype", *renamed}))
        for option in options:
            if option not in known and option not in renamed:
                raise unknown_name(f"option of loss {name!r}", option, known | {"weight"})
        try:
            options = with_present_names(name, options)
            losses.append(cls(ignore_index=ignore_index, mode=mode, **options))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"Loss {name!r}: {error}") from error
        weights.append(float(weight))
    if weights == [1.0]:
        return losses[0]
    from segzoo.losses.weighted_sum import WeightedSum

    return WeightedSum(losses, weights)


__getattr__, __dir__ = attach(__name__, _CLASSES)
