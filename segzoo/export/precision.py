"""Conversion of a network to float32, for formats and runtimes without mixed precision."""

from __future__ import annotations

from typing import Any

import keras

from segzoo.backend import dtype_policy
from segzoo.errors import SegzooError

_HALF = {"mixed_bfloat16", "mixed_float16", "bfloat16", "float16"}


def in_float32(model: keras.Model) -> keras.Model:
    """Rebuild the model with all layers in float32 and the same weights; a float32 model is returned as it is.

    Args:
        model: any model that Keras can rebuild from its configuration.

    Raises:
        SegzooError: the model cannot be rebuilt, or comes back with other weights.
    """
    config = keras.saving.serialize_keras_object(model)
    config.pop("compile_config", None)
    replaced = _replace(config)
    if replaced == config:
        return model
    try:
        with dtype_policy("float32"):  # for what takes its policy from nowhere else, such as the model itself
            # safe_mode guards against code in files; this configuration comes from an object in memory.
            rebuilt = keras.saving.deserialize_keras_object(replaced, safe_mode=False)
    except (TypeError, ValueError) as error:
        raise SegzooError(
            f"Model {model.name!r} cannot be rebuilt in float32 from its configuration ({error}). Register its own "
            "layers with keras.saving.register_keras_serializable, or give a function that builds it."
        ) from error
    # By name as well as shape: weights in another order would fit and give wrong results.
    if _names(rebuilt) != _names(model):
        raise SegzooError(f"Model {model.name!r}, rebuilt in float32, has other weights than before.")
    rebuilt.set_weights([keras.ops.convert_to_numpy(keras.ops.cast(w, "float32")) for w in model.weights])
    return rebuilt


def _names(model: keras.Model) -> list[tuple[str, tuple]]:
    return [(weight.name, tuple(weight.shape)) for weight in model.weights]


def _replace(value: Any) -> Any:
    """Copy a configuration with every half-precision dtype policy set to float32; other dtypes (of casts) stay."""
    if isinstance(value, dict):
        if value.get("class_name") == "DTypePolicy" and value["config"]["name"] in _HALF:
            return {**value, "config": {**value["config"], "name": "float32"}}
        return {key: _replace(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_replace(item) for item in value)
    return value
