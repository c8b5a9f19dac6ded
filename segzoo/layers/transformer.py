"""Block of a plain vision transformer."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from segzoo.layers.activation import light_gelu
from segzoo.layers.base import Layer
from segzoo.layers.scale import LayerScale


@keras.saving.register_keras_serializable("segzoo")
class TransformerBlock(Layer):
    """Transformer block with normalisation first: tokens `(B, prefix + h w, C)` to the same shape.

    Self-attention and an MLP with GELU, both residual (Dosovitskiy et al., 2020). With `scale`, branches are scaled per
    channel; with `rotary`, queries and keys of patches are rotated by angles of their places in the image, whose sides
    are -1 and 1 (Heo et al., "Rotary Position Embedding for Vision Transformer", 2024, as in DINOv3, Siméoni et al.,
    2025). Attention weights are computed in float32.

    Args:
        heads: number of heads; it divides the channels.
        hidden: channels of the MLP's hidden layer.
        scale: initial value of the scales of branches; None: no scales.
        drop_path: rate of stochastic depth (Huang et al., 2016) of each branch, 0..1 (1 excluded).
        epsilon: constant added to the variance in normalisation.
        rotary: base of the rotary angles' periods; None: no rotation.
        prefix: number of tokens that have no place.
        key_bias: whether keys have a bias.
        **kwargs: arguments of the Keras layer, such as `name`.
    """

    def __init__(
        self,
        heads: int,
        hidden: int,
        scale: float | None = None,
        drop_path: float = 0.0,
        epsilon: float = 1e-6,
        rotary: float | None = None,
        prefix: int = 1,
        key_bias: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.heads = heads
        self.hidden = hidden
        self.scale = scale
        self.drop_path = drop_path
        self.epsilon = epsilon
        self.rotary = rotary
        self.prefix = prefix
        self.key_bias = key_bias

    def build(self, tokens_shape: tuple, patches_shape: tuple) -> None:
        """Create the weights for tokens `(B, N, C)`."""
        channels, policy = tokens_shape[-1], self.dtype_policy
        if channels % self.heads:
            raise ValueError(f"{self.heads} heads do not divide {channels} channels.")

        def dense(inputs: int, outputs: int, name: str, use_bias: bool = True) -> Any:
            normal = keras.initializers.TruncatedNormal(stddev=0.02)
            layer = keras.layers.Dense(outputs, use_bias=use_bias, kernel_initializer=normal, dtype=policy, name=name)
            layer.build((None, None, inputs))
            return layer

        def branch(number: int) -> tuple[Any, Any, Any]:
            norm = keras.layers.LayerNormalization(epsilon=self.epsilon, dtype=policy, name=f"norm{number}")
            norm.build((None, None, channels))
            scale = None
            if self.scale is not None:
                scale = LayerScale(self.scale, dtype=policy, name=f"scale{number}")
                scale.build((None, None, channels))
            drop = keras.layers.Dropout(self.drop_path, noise_shape=(None, 1, 1), dtype=policy, name=f"drop{number}")
            return norm, scale, drop

        self.norm1, self.scale1, self.drop1 = branch(1)
        self.query = dense(channels, channels, "query")
        self.key = dense(channels, channels, "key", self.key_bias)
        self.value = dense(channels, channels, "value")
        self.project = dense(channels, channels, "project")
        self.norm2, self.scale2, self.drop2 = branch(2)
        self.expand = dense(channels, self.hidden, "expand")
        self.contract = dense(self.hidden, channels, "contract")
        self.built = True

    def call(self, tokens: Any, patches: Any, training: bool | None = None) -> Any:
        """Transform the tokens; of the patches' map `(B, h, w, C)` only the size is read."""
        x = self._attend(self.norm1(tokens), patches)
        x = x if self.scale1 is None else self.scale1(x)
        tokens = tokens + self.drop1(x, training=training)
        x = self.contract(light_gelu(self.expand(self.norm2(tokens))))
        x = x if self.scale2 is None else self.scale2(x)
        return tokens + self.drop2(x, training=training)

    def _attend(self, x: Any, patches: Any) -> Any:
        batch, _, channels = ops.shape(x)
        query, key, value = (self._split(layer(x)) for layer in (self.query, self.key, self.value))
        if self.rotary is not None:
            angles = self._angles(patches)
            query, key = self._rotate(query, angles), self._rotate(key, angles)
        query = ops.cast(query * (channels // self.heads) ** -0.5, "float32")
        likeness = ops.matmul(query, ops.cast(ops.transpose(key, (0, 1, 3, 2)), "float32"))
        attended = ops.matmul(ops.cast(ops.softmax(likeness, axis=-1), self.compute_dtype), value)
        return self.project(ops.reshape(ops.transpose(attended, (0, 2, 1, 3)), (batch, -1, channels)))

    def _split(self, x: Any) -> Any:
        """`(B, N, C)` to `(B, heads, N, C / heads)`."""
        batch, _, channels = ops.shape(x)
        return ops.transpose(ops.reshape(x, (batch, -1, self.heads, channels // self.heads)), (0, 2, 1, 3))

    def _angles(self, patches: Any) -> Any:
        """Return the angles `(h w, C / heads / 2)` of the patches' centres: rows first, then columns."""
        _, height, width, channels = ops.shape(patches)
        size = channels // self.heads
        frequencies = ops.convert_to_tensor(
            [2 * math.pi * self.rotary ** (-4 * number / size) for number in range(size // 4)], dtype="float32"
        )

        def places(count: Any) -> Any:
            centres = ops.cast(ops.arange(count), "float32") + 0.5
            return (2 * centres / ops.cast(count, "float32") - 1)[:, None] * frequencies

        shape = (height, width, size // 4)
        rows = ops.broadcast_to(places(height)[:, None], shape)
        columns = ops.broadcast_to(places(width)[None], shape)
        return ops.reshape(ops.concatenate([rows, columns], axis=-1), (height * width, size // 2))

    def _rotate(self, x: Any, angles: Any) -> Any:
        """Rotate pairs of channels, half the channels apart, of the patches' `(B, heads, N, C / heads)`."""
        cosine, sine = (ops.cast(function(angles), self.compute_dtype) for function in (ops.cos, ops.sin))
        placed = x[:, :, self.prefix :]
        half = x.shape[-1] // 2
        first, second = placed[..., :half], placed[..., half:]
        turned = ops.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)
        return ops.concatenate([x[:, :, : self.prefix], turned], axis=2)

    def compute_output_shape(self, tokens_shape: tuple, patches_shape: tuple) -> tuple:
        """Shape of the tokens."""
        return tokens_shape

    def compute_output_spec(self, tokens: Any, patches: Any, training: bool | None = None) -> keras.KerasTensor:
        """Shape of the tokens, also where their number is unknown."""
        return keras.KerasTensor(tokens.shape, dtype=self.compute_dtype)
