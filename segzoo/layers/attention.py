"""Attention layers: channel, spatial, position and spatial-reduction self-attention."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from segzoo.layers.base import Layer

# What squeeze-and-excitation of segzoo 0.1.0 computed with, whose configurations do not say it.
_LEGACY = {"activation": "swish"}


@keras.saving.register_keras_serializable("segzoo")
class SqueezeExcitation(Layer):
    """Squeeze-and-excitation gate: a factor in 0..1 per channel, `(B, H, W, C)` to `(B, 1, 1, C)`.

    Source: Hu et al., "Squeeze-and-Excitation Networks" (2018).

    Args:
        reduction: the hidden layer has `C / reduction` channels, at least one.
        activation: of the hidden layer: "relu" as in the paper; "swish" as in EfficientNet, which cannot fall silent on
            a narrow map with very few hidden channels. segzoo 0.1.0 computed with swish, and a configuration that it
            saved, which does not name the activation, comes back so.
        **kwargs: arguments of the Keras layer, such as `name`.
    """

    def __init__(self, reduction: int = 16, activation: str = "relu", **kwargs: Any):
        super().__init__(**kwargs)
        self.reduction = reduction
        self.activation = activation

    def build(self, input_shape: tuple) -> None:
        """Create the weights for `(B, H, W, C)` inputs."""
        channels = input_shape[-1]
        hidden = max(1, channels // self.reduction)
        self.squeeze = _pointwise(hidden, channels, "squeeze", self.dtype_policy, activation=self.activation)
        self.excite = _pointwise(channels, hidden, "excite", self.dtype_policy, activation="sigmoid")
        self.built = True

    def call(self, x: Any) -> Any:
        """Return the factors."""
        pooled = ops.mean(ops.cast(x, "float32"), axis=(1, 2), keepdims=True)
        return self.excite(self.squeeze(ops.cast(pooled, self.compute_dtype)))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Shape `(B, 1, 1, C)`."""
        return (input_shape[0], 1, 1, input_shape[3])

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SqueezeExcitation:
        """Create the layer of a configuration; one of segzoo 0.1.0 names no activation, and means swish."""
        return super().from_config({**_LEGACY, **config})


@keras.saving.register_keras_serializable("segzoo")
class ScSE(Layer):
    """Concurrent spatial and channel squeeze and excitation: `(B, H, W, C)` to the same shape.

    The map times a factor for each channel, plus the map times a factor for each pixel. Source: Roy et al., "Concurrent
    Spatial and Channel Squeeze & Excitation in Fully Convolutional Networks" (2018), which adds both;
    segmentation_models.pytorch does the same with 16 for the paper's reduction of 2.

    Args:
        reduction: reduction factor of the channels in the hidden layer.
        activation: activation of the hidden layer, see SqueezeExcitation.
        **kwargs: arguments of the Keras layer, such as `name`.
    """

    def __init__(self, reduction: int = 16, activation: str = "relu", **kwargs: Any):
        super().__init__(**kwargs)
        self.reduction = reduction
        self.activation = activation
        self.channels = SqueezeExcitation(reduction, activation, dtype=self.dtype_policy, name="channels")

    def build(self, input_shape: tuple) -> None:
        """Create the weights for `(B, H, W, C)` inputs."""
        self.channels.build(input_shape)
        self.pixels = _pointwise(1, input_shape[-1], "pixels", self.dtype_policy, activation="sigmoid")
        self.built = True

    def call(self, x: Any) -> Any:
        """Weigh the map."""
        return x * (self.channels(x) + self.pixels(x))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Shape of the input."""
        return input_shape

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ScSE:
        """Create the layer of a configuration; one of segzoo 0.1.0 names no activation, and means swish."""
        return super().from_config({**_LEGACY, **config})


@keras.saving.register_keras_serializable("segzoo")
class PositionAttention(Layer):
    """Position attention: adds to each pixel a similarity-weighted mean of all pixels; keeps the shape `(B, H, W, C)`.

    Source: the position-wise attention block of Fan et al., "MA-Net" (2020), after Fu et al., "Dual Attention Network"
    (2019). Memory grows with the square of the pixels: it belongs on the deepest map.

    Args:
        channels: in which the likeness is measured.
        softmax: "keys", each pixel's weights sum to one; or "pairs", those of all pairs of pixels do, as in
            segmentation_models.pytorch, which leaves next to nothing of the attention.
        interleaved: read the means, `(B, H * W, C)`, as if they were `(B, C, H, W)`, so that pixels and channels are
            mixed up, as segmentation_models.pytorch does; for weights trained so.
        **kwargs: arguments of the Keras layer, such as `name`.
    """

    def __init__(self, channels: int = 64, softmax: str = "keys", interleaved: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        if softmax not in ("keys", "pairs"):
            raise ValueError(f"softmax must be 'keys' or 'pairs', got {softmax!r}.")
        self.channels = channels
        self.softmax = softmax
        self.interleaved = interleaved

    def build(self, input_shape: tuple) -> None:
        """Create the weights for `(B, H, W, C)` inputs."""
        width, policy = input_shape[-1], self.dtype_policy
        self.query = _pointwise(self.channels, width, "query", policy)
        self.key = _pointwise(self.channels, width, "key", policy)
        self.value = keras.layers.Conv2D(width, 3, padding="same", dtype=policy, name="value")
        self.value.build((None, None, None, width))
        self.project = keras.layers.Conv2D(width, 3, padding="same", dtype=policy, name="project")
        self.project.build((None, None, None, width))
        self.built = True

    def call(self, x: Any) -> Any:
        """Attend."""
        query, key, value = (self._pixels(layer(x)) for layer in (self.query, self.key, self.value))
        likeness = ops.matmul(ops.cast(query, "float32"), ops.cast(ops.transpose(key, (0, 2, 1)), "float32"))
        weights = ops.cast(self._weights(likeness), self.compute_dtype)
        means = ops.matmul(weights, value)
        if not self.interleaved:
            return self.project(x + ops.reshape(means, ops.shape(x)))
        batch, height, width, channels = ops.shape(x)
        mixed = ops.transpose(ops.reshape(means, (batch, channels, height, width)), (0, 2, 3, 1))
        return self.project(x + mixed)

    def _weights(self, likeness: Any) -> Any:
        """Normalise the similarities of all pairs of pixels `(B, N, N)` to attention weights."""
        if self.softmax == "keys":
            return ops.softmax(likeness, axis=-1)
        batch, pixels, _ = ops.shape(likeness)
        flat = ops.reshape(likeness, (batch, pixels * pixels))
        return ops.reshape(ops.softmax(flat, axis=-1), (batch, pixels, pixels))

    @staticmethod
    def _pixels(x: Any) -> Any:
        batch, height, width, channels = ops.shape(x)
        return ops.reshape(x, (batch, height * width, channels))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Shape of the input."""
        return input_shape

    def compute_output_spec(self, x: Any) -> keras.KerasTensor:
        """Shape of the input, also where its size is unknown."""
        return keras.KerasTensor(x.shape, dtype=self.compute_dtype)


@keras.saving.register_keras_serializable("segzoo")
class SpatialReductionAttention(Layer):
    """Self-attention of the pixels of a map `(B, H, W, C)`, with fewer keys and values: to the same shape.

    Source: efficient self-attention of Xie et al., "SegFormer" (2021), section 3.1: keys and values come from a map
    that a convolution with kernel and stride `reduction` made smaller.

    Args:
        heads: number of heads; it divides the channels.
        reduction: image pixels per key along an axis; 1 takes the map itself.
        interleaved: as keras-cv 0.9.0, which reads the transposed sequence `(B, C, H * W)` as if it were the map before
            it reduces it, and the same way back, so that pixels and channels are mixed up; for weights trained so.
    """

    def __init__(self, heads: int, reduction: int = 1, interleaved: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.heads = heads
        self.reduction = reduction
        self.interleaved = interleaved
        self.reduce: keras.layers.Layer | None = None
        self.norm: keras.layers.Layer | None = None

    def build(self, input_shape: tuple) -> None:
        """Create the weights for `(B, H, W, C)` inputs."""
        channels, policy = input_shape[-1], self.dtype_policy
        for name in ("query", "key", "value", "project"):
            layer = keras.layers.Dense(channels, dtype=policy, name=name)
            layer.build((None, None, channels))
            setattr(self, name, layer)
        if self.reduction > 1:
            # Rows and columns that fill no kernel are left out, as in the paper's code; keras-cv pads.
            padding = "same" if self.interleaved else "valid"
            self.reduce = keras.layers.Conv2D(
                channels, self.reduction, self.reduction, padding=padding, dtype=policy, name="reduce"
            )
            self.reduce.build((None, None, None, channels))
            epsilon = 1e-3 if self.interleaved else 1e-5
            self.norm = keras.layers.LayerNormalization(epsilon=epsilon, dtype=policy, name="norm")
            self.norm.build((None, None, channels))
        self.built = True

    def call(self, x: Any) -> Any:
        """Attend."""
        shape = ops.shape(x)
        batch, height, width, channels = shape
        pixels = ops.reshape(x, (batch, height * width, channels))
        query, keys = self._split(self.query(pixels)), self._fewer(x, pixels)
        key, value = self._split(self.key(keys)), self._split(self.value(keys))
        scale = (channels // self.heads) ** -0.5
        likeness = ops.matmul(ops.cast(query * scale, "float32"), ops.cast(ops.transpose(key, (0, 1, 3, 2)), "float32"))
        weights = ops.cast(ops.softmax(likeness, axis=-1), self.compute_dtype)
        attended = ops.transpose(ops.matmul(weights, value), (0, 2, 1, 3))
        return ops.reshape(self.project(ops.reshape(attended, (batch, height * width, channels))), shape)

    def _fewer(self, x: Any, pixels: Any) -> Any:
        """Return the reduced sequence that keys and values are projected from: `(B, N, C)`."""
        if self.reduce is None or self.norm is None:
            return pixels
        batch, _, _, channels = ops.shape(x)
        if self.interleaved:
            mixed = self.reduce(ops.reshape(ops.transpose(pixels, (0, 2, 1)), ops.shape(x)))
            return self.norm(ops.transpose(ops.reshape(mixed, (batch, channels, -1)), (0, 2, 1)))
        return self.norm(ops.reshape(self.reduce(x), (batch, -1, channels)))

    def _split(self, x: Any) -> Any:
        """`(B, N, C)` to `(B, heads, N, C / heads)`."""
        batch, _, channels = ops.shape(x)
        return ops.transpose(ops.reshape(x, (batch, -1, self.heads, channels // self.heads)), (0, 2, 1, 3))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Shape of the input."""
        return input_shape

    def compute_output_spec(self, x: Any) -> keras.KerasTensor:
        """Shape of the input, also where its size is unknown."""
        return keras.KerasTensor(x.shape, dtype=self.compute_dtype)


def _pointwise(channels: int, inputs: int, name: str, policy: Any, activation: str | None = None) -> Any:
    layer = keras.layers.Conv2D(channels, 1, activation=activation, dtype=policy, name=name)
    layer.build((None, None, None, inputs))
    return layer
