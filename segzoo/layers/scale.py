"""Learnt scale per channel (LayerScale)."""

from __future__ import annotations

from typing import Any

import keras

from segzoo.layers.base import Layer


@keras.saving.register_keras_serializable("segzoo")
class LayerScale(Layer):
    """Multiply `(B, H, W, C)` by one learnt number per channel (Touvron et al., 2021, https://arxiv.org/abs/2103.17239).

    Args:
        initial: initial value of the scale.
    """

    def __init__(self, initial: float = 1e-6, **kwargs: Any):
        super().__init__(**kwargs)
        self.initial = initial

    def build(self, input_shape: tuple) -> None:
        """Create the scale."""
        self.gamma = self.add_weight(
            (input_shape[-1],), initializer=keras.initializers.Constant(self.initial), name="gamma"
        )
        self.built = True

    def call(self, x: Any) -> Any:
        """Scale."""
        return x * self.gamma

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Shape of the input."""
        return input_shape
