"""Class weights of losses, computed from the training split."""

from __future__ import annotations

from segzoo.config import Config
from segzoo.engine.class_pixels import ClassPixels
from segzoo.errors import DataError
from segzoo.losses import balance


def weight_schemes(config: Config) -> dict[str, str]:
    """Map losses with class weights computed from the training split to their scheme, such as "balanced"."""
    given = {name: term.get("class_weights") for name, term in config.loss.items() if isinstance(term, dict)}
    return {name: weights for name, weights in given.items() if isinstance(weights, str)}


def class_weights(config: Config, counted: ClassPixels) -> dict[str, list[float]]:
    """Compute the class weights of `weight_schemes`: name of the loss to one weight per class.

    Raises:
        DataError: no labelled pixels were counted.
    """
    schemes = weight_schemes(config)
    if schemes and not any(counted.pixels.values()):
        name, scheme = next(iter(schemes.items()))
        raise DataError(
            f"loss.{name}.class_weights is {scheme}, but no mask of the training split shows a pixel of any class "
            "to count. Add masks that show classes, or give class_weights as a list.",
            "class_weights",
        )
    names = config.task.classes
    pixels, shown_in = ([of[name] for name in names] for of in (counted.pixels, counted.shown_in))
    return {name: balance.class_weights(scheme, pixels, shown_in) for name, scheme in schemes.items()}
