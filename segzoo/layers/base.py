"""Base class of segzoo's layers: their configuration."""

from __future__ import annotations

from typing import Any

import keras

from segzoo.arguments import given_arguments


class Layer(keras.layers.Layer):
    """A Keras layer that keeps every argument of its constructor in an attribute of the same name."""

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the layer."""
        inherited = super().get_config()
        return {**inherited, **given_arguments(self, keras.layers.Layer), **inherited}  # name, dtype: as Keras has them
