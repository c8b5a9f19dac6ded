"""Facts of decoders, losses and optimizers, read from their sources where these say them, so that no framework starts.

A class that is registered from outside, or says something by a computation, is imported, and the framework with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segzoo.arguments import arguments_of
from segzoo.backend import start_backend
from segzoo.declared import Declared, UndeclaredError, declared
from segzoo.decoders.table import DECODERS
from segzoo.losses import limits
from segzoo.losses.table import LOSSES
from segzoo.optim import options
from segzoo.registry import Registry
from segzoo.task import MODES

# What every Keras layer or loss takes, or what segzoo fills in from the rest of the configuration.
FILLED_IN = frozenset({"name", "dtype", "trainable", "ignore_index", "mode", "num_classes", "reduction"})


def decoder_options(name: str) -> list[str]:
    """Return the names of a decoder's options."""
    found = _declared(DECODERS, name, "Decoder")
    return list(DECODERS[name].options() if found is None else found.defaults)


def loss_arguments(name: str) -> list[str]:
    """Return the names of a loss's own arguments."""
    found = _declared(LOSSES, name, "PixelLoss")
    if found is None:
        return arguments_of(LOSSES[name], FILLED_IN)
    return [argument for argument in found.defaults if argument not in FILLED_IN]


def check_loss(name: str, values: Mapping[str, Any]) -> bool:
    """Check the values of a loss's arguments; return False, unchecked, where only building the loss tells.

    Args:
        name: a registered loss.
        values: values of some of its arguments.

    Raises:
        ValueError: a value out of range.
        TypeError: a value that is no number where one is needed.
    """
    found = _declared(LOSSES, name, "PixelLoss")
    if found is None:
        return False
    limited = limits.of_loss(name)
    ranged = {argument for limit in limited for argument in limit.arguments}
    for argument, value in values.items():
        is_switch = isinstance(value, bool) and isinstance(found.defaults.get(argument), bool)
        if argument not in ranged and not is_switch:
            start_backend()
            return False
    for limit in limited:
        if any(argument in values for argument in limit.arguments):
            limit.check({**found.defaults, **values})
    return True


def modes(name: str) -> tuple[str, ...]:
    """Return the modes that a loss supports."""
    found = _declared(LOSSES, name, "PixelLoss")
    return tuple(LOSSES[name].modes if found is None else found.attributes.get("modes", MODES))


def takes_soft(name: str) -> bool:
    """Return True if a loss can take shares of classes."""
    return bool(_attribute(name, "takes_soft"))


def takes_distances(name: str) -> bool:
    """Return True if the target of a loss is the mask with its signed distances."""
    return bool(_attribute(name, "takes_distances"))


def takes_masks(name: str) -> bool:
    """Return True if the target of a loss is the mask itself; False where it has to be asked."""
    found = _declared(LOSSES, name, "PixelLoss")
    return found is not None and "make_target" not in found.methods


def optimizer_options(name: str) -> dict[str, Any]:
    """Return names and defaults of an optimizer's own arguments."""
    found = options.defaults(name)
    if found is not None:
        return found
    start_backend()
    from segzoo.optim import optimizers

    return optimizers.options(name)


def _attribute(name: str, attribute: str) -> Any:
    found = _declared(LOSSES, name, "PixelLoss")
    if found is not None and attribute in found.attributes:
        return found.attributes[attribute]
    start_backend()
    return getattr(LOSSES[name], attribute)


def _declared(registry: Registry, name: str, root: str) -> Declared | None:
    """Return what the source says of a class; None where it has to be imported, for which the backend is started."""
    try:
        return declared(registry, name, root)
    except UndeclaredError:
        start_backend()  # before the module imports it, so that TensorFlow's messages are suppressed
        return None
