"""Digests of the function that a network computes beyond its tensors, which are stored with weights.

Weights of one network can fit another one in every name and shape and still give other logits: convolutions padded or
dilated differently, another epsilon or activation, a layer without weights between two others. A digest for each layer
with weights covers the layer's own options and all that lies between it and the layers with weights before it, so that
two networks can be compared where they share layers, also when one was cut earlier or goes into another decoder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

# Options of layers that change what is computed. Others (initial values, momentum, rates of dropout, types of numbers)
# do not, and an option that a later version of Keras adds must not make yesterday's weights strange.
# tests/test_signature.py sees to it that each option of a backbone's layers is either here or known to be harmless.
OPTIONS = frozenset(
    {
        "activation", "average", "axis", "center", "cropping", "depth_multiplier", "dilation", "dilation_rate",
        "epsilon", "filters", "groups", "heads", "interleaved", "interpolation", "keepdims", "kernel_size", "max_value",
        "mean", "negative_slope", "padding", "pool_size", "reduction", "rms_scaling", "scale", "size", "std", "stride",
        "strides", "target_shape", "threshold", "units", "use_bias",
    }
)  # fmt: skip
DECODER = "decoder"  # name of the decoder's layer in `build_model`'s networks
_LIGHT = "segzoo>light_"  # what the names of activations of segzoo.layers.activation begin with, before Keras's
# Layers that return their input when a network is not trained.
_TRANSPARENT = {"Dropout", "SpatialDropout2D", "GaussianDropout", "GaussianNoise", "Identity"}


def digests(config: Mapping[str, Any], weighted: Collection[str]) -> dict[str, str]:
    """Return a digest (hexadecimal) for each layer in `weighted`.

    Args:
        config: configuration of a functional model, as `model.get_config()` or a `.keras` file gives it.
        weighted: names of the layers that have weights.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, LookupError: not the configuration of a functional model.
    """
    found: dict[str, str] = {}
    references: dict[str, Any] = {}
    for layer in config["layers"]:
        name, kind = layer["name"], layer["class_name"]
        inputs = [_resolved(node, references) for node in layer["inbound_nodes"]]
        if kind == "InputLayer":
            references[name] = "image"
        elif kind in _TRANSPARENT:
            references[name] = inputs[0]["args"][0][0]  # what its input comes from
        else:
            # A decoder's options are kept beside its weights and compared by itself, which knows those of 0.1.0.
            given = {} if name == DECODER else layer["config"]
            options = {key: _plain(value) for key, value in given.items() if key in OPTIONS}
            digest = _digest([_as_before(kind, options), options, inputs])
            references[name] = name if name in weighted else digest
            if name in weighted:
                found[name] = digest
    return found


def _as_before(kind: str, options: Mapping[str, Any]) -> str:
    """Return the class that layers of `kind` had when the first weights were signed; it computed the same."""
    if kind != "GroupedConv2D":
        return kind
    return "Conv2D" if set(options["dilation_rate"]) == {1} else "AtrousConv2D"


def _resolved(value: Any, references: Mapping[str, Any]) -> Any:
    """Replace each tensor of a call's arguments by its origin."""
    if isinstance(value, Mapping):
        if value.get("class_name") == "__keras_tensor__":
            name, _, index = value["config"]["keras_history"]
            return [references.get(name, name), index]
        return {key: _resolved(item, references) for key, item in value.items() if key not in ("training", "mask")}
    if isinstance(value, list | tuple):
        return [_resolved(item, references) for item in value]
    return value


def _plain(value: Any) -> Any:
    """Return the name of a serialized function or object, and other values as JSON gives them back.

    An activation of `segzoo.layers.activation` has the name of Keras's own, whose values are the same.
    """
    if isinstance(value, Mapping):
        if str(value.get("config")).startswith(_LIGHT):
            return value["config"].removeprefix(_LIGHT)
        return value.get("registered_name") or value.get("config") or value
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
