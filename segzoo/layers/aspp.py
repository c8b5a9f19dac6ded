"""Atrous spatial pyramid pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from segzoo.layers.base import Layer
from segzoo.layers.convolution import ConvBlock, SeparableConvBlock


@keras.saving.register_keras_serializable("segzoo")
class ASPP(Layer):
    """Atrous spatial pyramid pooling with image pooling: `(B, H, W, C)` to `(B, H, W, channels)`.

    A 1x1 convolution, one 3x3 convolution for each rate and the pooled image, concatenated and projected by a 1x1
    convolution and dropout. Source: Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation"
    (2017), section 3.3; separable form: Chen et al., "Encoder-Decoder with Atrous Separable Convolution" (2018).

    Args:
        rates: dilation rates of the 3x3 branches, in pixels of the input map.
        channels: channels of every branch and of the output.
        separable: use depthwise separable convolutions in the 3x3 branches.
        dropout: rate of the dropout after the projection.
        normalization: "batch", "group", "layer" or "none".
        activation: any Keras activation name.
        epsilon: epsilon of the normalisation; None: 1e-5, or 1e-6 for "layer".
        groups: number of groups for group normalisation; None: up to 32.
        **kwargs: arguments of the Keras layer, such as `name`.
    """

    def __init__(
        self,
        rates: Sequence[int],
        channels: int = 256,
        separable: bool = False,
        dropout: float = 0.5,
        normalization: str | None = "batch",
        activation: str | None = "relu",
        epsilon: float | None = None,
        groups: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.rates = tuple(rates)
        self.channels = channels
        self.separable = separable
        self.dropout = dropout
        self.normalization = normalization
        self.activation = activation
        self.epsilon = epsilon
        self.groups = groups
        common = {
            "normalization": normalization,
            "activation": activation,
            "epsilon": epsilon,
            "groups": groups,
            "dtype": self.dtype_policy,
        }
        branch = SeparableConvBlock if separable else ConvBlock
        self.branches = [ConvBlock(channels, 1, name="branch_1x1", **common)]
        self.branches += [branch(channels, 3, rate, name=f"branch_rate{rate}", **common) for rate in self.rates]
        self.pooled = ConvBlock(channels, 1, name="branch_pooled", **common)
        self.project = ConvBlock(channels, 1, name="project", **common)
        self.drop = keras.layers.Dropout(dropout, dtype=self.dtype_policy, name="dropout")

    def build(self, input_shape: tuple) -> None:
        """Create the weights for `(B, H, W, C)` inputs."""
        for branch in self.branches:
            branch.build(input_shape)
        self.pooled.build((input_shape[0], 1, 1, input_shape[3]))
        self.project.build((*input_shape[:3], self.channels * (len(self.branches) + 1)))
        self.built = True

    def call(self, x: Any, training: bool | None = None) -> Any:
        """Apply all branches and project their concatenation."""
        branches = [branch(x, training=training) for branch in self.branches]
        pooled = ops.cast(ops.mean(ops.cast(x, "float32"), axis=(1, 2), keepdims=True), self.compute_dtype)
        pooled = self.pooled(pooled, training=training)
        # One value per channel: resizing it to the map is broadcasting it.
        branches.append(ops.broadcast_to(pooled, (*ops.shape(branches[0])[:3], self.channels)))
        x = self.project(ops.concatenate(branches, axis=-1), training=training)
        return self.drop(x, training=training)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Shape `(B, H, W, channels)`."""
        return (*input_shape[:3], self.channels)
