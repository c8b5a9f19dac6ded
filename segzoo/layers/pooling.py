"""Pooling layers: adaptive average, pyramid, average and dilated pooling."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal

import keras
from keras import ops

from segzoo.layers.base import Layer
from segzoo.layers.convolution import ConvBlock
from segzoo.layers.resize import ResizeTo

_LEAST = -65504.0  # that float16 holds


def adaptive_average(x: Any, bins: int) -> Any:
    """Adaptive average pooling of `(B, H, W, C)` to `(B, bins, bins, C)`, in float32.

    Field i of n covers rows floor(i H / n) to ceil((i + 1) H / n), as in PyTorch's `AdaptiveAvgPool2d`; fields of a map
    with fewer rows overlap. Two matrix products, so any size works, also one that is unknown when a graph is made,
    which `keras.layers.AdaptiveAveragePooling2D` refuses (Keras 3.15.1).
    """
    x = ops.cast(x, "float32")
    if bins == 1:
        return ops.mean(x, axis=(1, 2), keepdims=True)
    rows, columns = (_fields(size, bins) for size in ops.shape(x)[1:3])
    return ops.einsum("iy,byxc,jx->bijc", rows, x, columns)


def _fields(size: Any, bins: int) -> Any:
    """Return weights (bins, size) that average over each field."""
    place, field = ops.arange(size, dtype="int32")[None, :], ops.arange(bins, dtype="int32")[:, None]
    # Upwards without negative numbers: ONNX divides integers towards zero.
    first, end = field * size // bins, ((field + 1) * size + bins - 1) // bins
    inside = ops.cast((place >= first) & (place < end), "float32")
    return inside / ops.cast(end - first, "float32")


@keras.saving.register_keras_serializable("segzoo")
class PyramidPooling(Layer):
    """Pyramid pooling module: the map concatenated with its upsampled 1x1 convolutions of adaptive averages.

    `(B, H, W, C)` to `(B, H, W, C + len(bins) * channels)`. Source: Zhao et al., "Pyramid Scene Parsing Network"
    (2017), section 3.2.

    Args:
        channels: number of channels of each pooled branch.
        bins: sizes of the pooling grids, bins x bins cells each.
        normalization: "batch", "group", "layer" or "none".
        activation: any Keras activation name.
        normalize_single: whether to normalise the branch with a single bin (global pooling) as well.
        interpolation: how pooled maps are resized back to the input's size; see ResizeTo.
        epsilon: epsilon of the normalisation; None: 1e-5, or 1e-6 for "layer".
        groups: number of groups for group normalisation; None: up to 32.
        **kwargs: arguments of the Keras layer, such as `name`.
    """

    def __init__(
        self,
        channels: int,
        bins: Sequence[int] = (1, 2, 3, 6),
        normalization: str | None = "batch",
        activation: str | None = "relu",
        normalize_single: bool = True,
        interpolation: str = "bilinear",
        epsilon: float | None = None,
        groups: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if not bins or min(bins) < 1:
            raise ValueError(f"bins must be numbers from 1 on, got {bins!r}.")
        self.channels = channels
        self.bins = tuple(bins)
        self.normalization = normalization
        self.activation = activation
        self.normalize_single = normalize_single
        self.interpolation = interpolation
        self.epsilon = epsilon
        self.groups = groups
        self.branches = [
            ConvBlock(
                channels,
                1,
                normalization=normalization if count > 1 or normalize_single else "none",
                activation=activation,
                epsilon=epsilon,
                groups=groups,
                dtype=self.dtype_policy,
                name=f"bins{count}",
            )
            for count in self.bins
        ]
        self.resize = ResizeTo(interpolation, dtype=self.dtype_policy, name="resize")

    def build(self, input_shape: tuple) -> None:
        """Create the weights for `(B, H, W, C)` inputs."""
        for count, branch in zip(self.bins, self.branches, strict=True):
            branch.build((input_shape[0], count, count, input_shape[3]))
        self.built = True

    def call(self, x: Any, training: bool | None = None) -> Any:
        """Pool, convolve, resize and concatenate."""
        maps = [x]
        for count, branch in zip(self.bins, self.branches, strict=True):
            pooled = branch(ops.cast(adaptive_average(x, count), self.compute_dtype), training=training)
            maps.append(self.resize(pooled, x))
        return ops.concatenate(maps, axis=-1)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Shape `(B, H, W, C + len(bins) * channels)`."""
        return (*input_shape[:3], input_shape[3] + len(self.bins) * self.channels)


@keras.saving.register_keras_serializable("segzoo")
class AveragePooling2D(keras.layers.AveragePooling2D):
    """keras.layers.AveragePooling2D whose means exclude the padding on torch, too: `(B, H, W, C)` to `(B, h, w, C)`.

    Where "same" padding adds a row at one side only, Keras 3.15.1 repeats the last one on torch, and counts it.
    """

    def call(self, x: Any) -> Any:
        """Pool."""
        if keras.backend.backend() != "torch" or self.padding != "same":
            return super().call(x)
        sides = [(0, 0)]
        for size, window, stride in zip(x.shape[1:3], self.pool_size, self.strides, strict=True):
            missing = max(0, (-(-size // stride) - 1) * stride + window - size)
            sides.append((missing // 2, missing - missing // 2))
        sides.append((0, 0))
        sums, counts = (
            ops.average_pool(ops.pad(values, sides), self.pool_size, self.strides, "valid")
            for values in (x, ops.ones_like(x[:1, :, :, :1]))
        )
        return sums / counts


@keras.saving.register_keras_serializable("segzoo")
class CentredMaxPooling2D(Layer):
    """Maximum over windows of an odd size that lie around every second (third, ...) pixel: `(B, H, W, C)` to smaller.

    PyTorch's `MaxPool2d` with a padding of half the window, where "same" padding begins at another pixel if H or W is
    even.

    Args:
        pool_size: height and width of the window, odd.
        strides: pixels from one window to the next.
    """

    def __init__(self, pool_size: int, strides: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.pool_size = pool_size
        self.strides = strides

    def call(self, x: Any) -> Any:
        """Pool."""
        sides = (self.pool_size // 2, self.pool_size // 2)
        x = ops.pad(x, ((0, 0), sides, sides, (0, 0)), constant_values=_LEAST)
        return ops.max_pool(x, self.pool_size, self.strides, "valid")

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Shape `(B, ceil(H / strides), ceil(W / strides), C)`."""
        batch, *sizes, channels = input_shape
        return (batch, *(None if size is None else -(-size // self.strides) for size in sizes), channels)


@keras.saving.register_keras_serializable("segzoo")
class DilatedPooling2D(Layer):
    """Maximum or average over a dilated window, at stride 1: `(B, H, W, C)` to the same shape.

    Replaces a pooling layer after a stride that was replaced by dilation (Chen et al., 2017). A window of even size
    starts at the pixel itself, as in a strided pooling layer.

    Args:
        pool_size: height and width of the pooling window, in sampled pixels.
        dilation_rate: spacing between sampled pixels, in pixels.
        average: whether to average instead of taking the maximum: True over the pixels of the map alone, "padded" over
            the zeros around it, too, as PyTorch does unless it is told otherwise.

    Raises:
        ValueError: another value of `average`.
    """

    def __init__(self, pool_size: int, dilation_rate: int, average: bool | Literal["padded"] = False, **kwargs: Any):
        super().__init__(**kwargs)
        if average not in (True, False, "padded"):
            raise ValueError(f"average must be True, False or 'padded', got {average!r}.")
        self.pool_size = pool_size
        self.dilation_rate = dilation_rate
        self.average = average

    def call(self, x: Any) -> Any:
        """Pool."""
        if self.average == "padded":
            return self._sum(x) / self.pool_size**2
        if self.average:
            inside = ops.ones_like(x[:1, :, :, :1])
            return self._sum(x) / self._sum(inside)
        windows = self._windows(x, _LEAST)
        return functools.reduce(ops.maximum, windows)

    def _sum(self, x: Any) -> Any:
        return functools.reduce(ops.add, self._windows(x, 0.0))

    def _windows(self, x: Any, outside: float) -> list[Any]:
        """Return the map shifted to each pixel of the window."""
        before = (self.pool_size - 1) // 2 * self.dilation_rate
        after = (self.pool_size - 1) * self.dilation_rate - before
        height, width = ops.shape(x)[1:3]
        x = ops.pad(x, ((0, 0), (before, after), (before, after), (0, 0)), constant_values=outside)
        shifts = [index * self.dilation_rate for index in range(self.pool_size)]
        return [x[:, row : row + height, column : column + width] for row in shifts for column in shifts]

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Shape of the input."""
        return input_shape
