"""Block of a Swin transformer: self-attention within windows."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from segzoo.layers.activation import light_gelu
from segzoo.layers.base import Layer
from segzoo.layers.tokens import PatchPadding

# Of epsilon, and of the logit between pixels that are no neighbours.
_EPSILON, _APART = 1e-5, -100.0


@keras.saving.register_keras_serializable("segzoo")
class WindowBlock(Layer):
    """Swin transformer block: `(B, H, W, C)` to the same shape (Liu et al., 2021, https://arxiv.org/abs/2103.14030).

    Self-attention of the pixels of each window and an MLP with GELU, both residual and normalised first. As in the
    authors' code for segmentation the normalised map is padded with zeros below and on the right to whole windows,
    which are then shifted, and the padding is cut off afterwards. A map that one window covers along a side is not
    shifted, as in their classifier.

    Args:
        heads: number of heads; it divides the channels.
        window: side of a window in pixels of the map.
        shift: pixels by which windows are shifted; pixels from opposite borders that meet in one do not attend to each
            other.
        ratio: channels of the MLP's hidden layer for each channel.
        drop_path: rate of stochastic depth (Huang et al., 2016) of each branch, 0..1 (1 excluded).
        **kwargs: arguments of the Keras layer, such as `name`.
    """

    def __init__(
        self, heads: int, window: int = 7, shift: int = 0, ratio: int = 4, drop_path: float = 0.0, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.heads = heads
        self.window = window
        self.shift = shift
        self.ratio = ratio
        self.drop_path = drop_path
        self.pad = PatchPadding(window, dtype=self.dtype_policy, name="pad")

    def build(self, input_shape: tuple) -> None:
        """Create the weights for maps `(B, H, W, C)`."""
        channels, policy = input_shape[-1], self.dtype_policy
        if channels % self.heads:
            raise ValueError(f"{self.heads} heads do not divide {channels} channels.")

        def dense(inputs: int, outputs: int, name: str) -> Any:
            normal = keras.initializers.TruncatedNormal(stddev=0.02)
            layer = keras.layers.Dense(outputs, kernel_initializer=normal, dtype=policy, name=name)
            layer.build((None, None, inputs))
            return layer

        def branch(number: int) -> tuple[Any, Any]:
            norm = keras.layers.LayerNormalization(epsilon=_EPSILON, dtype=policy, name=f"norm{number}")
            norm.build((None, None, None, channels))
            noise = (None, 1, 1, 1)
            return norm, keras.layers.Dropout(self.drop_path, noise, dtype=policy, name=f"drop{number}")

        self.norm1, self.drop1 = branch(1)
        self.qkv = dense(channels, 3 * channels, "qkv")
        self.bias = self.add_weight(
            ((2 * self.window - 1) ** 2, self.heads),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            autocast=False,
            name="position_embedding",
        )
        self.project = dense(channels, channels, "project")
        self.norm2, self.drop2 = branch(2)
        self.expand = dense(channels, self.ratio * channels, "expand")
        self.contract = dense(self.ratio * channels, channels, "contract")
        self.built = True

    def call(self, x: Any, training: bool | None = None) -> Any:
        """Attend within windows, then mix channels."""
        x = x + self.drop1(self._attend(self.norm1(x)), training=training)
        hidden = light_gelu(self.expand(self.norm2(x)))
        return x + self.drop2(self.contract(hidden), training=training)

    def _attend(self, x: Any) -> Any:
        """Return the attended map of a normalised one."""
        height, width = ops.shape(x)[1:3]
        padded = self.pad(x)
        tall, wide = ops.shape(padded)[1:3]
        shift: Any = self.shift
        if self.shift:
            is_larger = ops.minimum(height, width) > self.window
            # An integer where sizes are known, as slices of JAX and of static graphs have to be.
            static = isinstance(height, int) and isinstance(width, int)
            shift = self.shift * (int(min(height, width) > self.window) if static else ops.cast(is_larger, "int32"))
            padded = _rolled(padded, shift, shift)
        windows = self._split(padded)
        query, key, value = (self._heads(part) for part in ops.split(self.qkv(windows), 3, axis=-1))
        size = x.shape[-1] // self.heads
        likeness = ops.matmul(
            ops.cast(query * size**-0.5, "float32"), ops.cast(ops.transpose(key, (0, 1, 3, 2)), "float32")
        )
        likeness = likeness + self._positions()
        if self.shift:
            likeness = likeness + _APART * self._apart(ops.shape(x)[0], tall, wide, shift)
        weights = ops.cast(ops.softmax(likeness, axis=-1), self.compute_dtype)
        attended = ops.transpose(ops.matmul(weights, value), (0, 2, 1, 3))
        attended = self.project(ops.reshape(attended, (-1, self.window**2, x.shape[-1])))
        joined = self._join(attended, padded)
        if self.shift:
            joined = _rolled(joined, tall - shift, wide - shift)
        return joined[:, :height, :width]

    def _apart(self, batch: Any, height: Any, width: Any, shift: Any) -> Any:
        """Return 1 for pixels of a window `(windows, 1, N, N)` that a shifted map's old borders lie between, else 0."""

        def parts(size: Any) -> Any:
            places = ops.arange(size)
            first, second = (ops.cast(places >= size - begin, "float32") for begin in (self.window, shift))
            return ops.reshape(first + second, (-1, self.window))

        rows = ops.expand_dims(parts(height), (1, 3))
        columns = ops.expand_dims(parts(width), (0, 2))
        regions = ops.reshape(3 * rows + columns, (-1, self.window**2))
        apart = ops.cast(ops.not_equal(ops.expand_dims(regions, 2), ops.expand_dims(regions, 1)), "float32")
        return ops.expand_dims(ops.tile(apart, (batch, 1, 1)), 1)

    def _positions(self) -> Any:
        """Return the learnt likeness `(heads, N, N)` of pixels of a window by their relative place."""
        places = np.stack(np.meshgrid(*[np.arange(self.window)] * 2, indexing="ij"), axis=-1).reshape(-1, 2)
        apart = places[:, None] - places[None, :] + self.window - 1
        index = apart[..., 0] * (2 * self.window - 1) + apart[..., 1]
        found = ops.take(ops.convert_to_tensor(self.bias), index.reshape(-1).astype("int32"), axis=0)
        return ops.transpose(ops.reshape(found, (self.window**2, self.window**2, self.heads)), (2, 0, 1))

    def _split(self, x: Any) -> Any:
        """`(B, H, W, C)` to the windows `(B H / w W / w, w w, C)`; with one unknown size in each step."""
        side, channels = self.window, x.shape[-1]
        rows = ops.reshape(x, (-1, side, ops.shape(x)[2], channels))
        windows = ops.reshape(ops.transpose(rows, (0, 2, 1, 3)), (-1, side, side, channels))
        return ops.reshape(ops.transpose(windows, (0, 2, 1, 3)), (-1, side * side, channels))

    def _join(self, windows: Any, padded: Any) -> Any:
        """Windows `(B H / w W / w, w w, C)` to the map `(B, H, W, C)` that they are of."""
        side, channels = self.window, windows.shape[-1]
        columns = ops.transpose(ops.reshape(windows, (-1, side, side, channels)), (0, 2, 1, 3))
        rows = ops.transpose(ops.reshape(columns, (-1, ops.shape(padded)[2], side, channels)), (0, 2, 1, 3))
        return ops.reshape(rows, ops.shape(padded))

    def _heads(self, x: Any) -> Any:
        """`(N, w w, C)` to `(N, heads, w w, C / heads)`."""
        size = x.shape[-1] // self.heads
        return ops.transpose(ops.reshape(x, (-1, self.window**2, self.heads, size)), (0, 2, 1, 3))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Shape of the input."""
        return input_shape

    def compute_output_spec(self, x: Any, training: bool | None = None) -> keras.KerasTensor:
        """Shape of the input, also where its size is unknown."""
        return keras.KerasTensor(x.shape, dtype=self.compute_dtype)


def _rolled(x: Any, rows: Any, columns: Any) -> Any:
    """Move a map `(B, H, W, C)` up and to the left; what leaves it comes back on the other side."""
    x = ops.concatenate([x[:, rows:], x[:, :rows]], axis=1)
    return ops.concatenate([x[:, :, columns:], x[:, :, :columns]], axis=2)
