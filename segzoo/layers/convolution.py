"""Convolution, normalisation and activation as one block, plain and depthwise separable."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from segzoo.layers.activation import light
from segzoo.layers.base import Layer
from segzoo.layers.normalization import normalization_layer


@keras.saving.register_keras_serializable("segzoo")
class DepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """keras.layers.DepthwiseConv2D in a fraction of the time on a CPU.

    - Under TensorFlow large kernels leave half precision: its bfloat16 kernel is faster at 3x3, but at 5x5 takes twice
      as long as casting to float32 and back (forward and backward at 8 x 32x32x288 on two cores: 55 ms, and 27 ms with
      the casts).
    - Under JAX it is a sum of shifted maps where the size is known: XLA's own is seven to fourteen times as slow
      (forward and backward of 3x3 at 4 x 128x128x96: 667 ms of processor time, and 75 ms as a sum).
    """

    def call(self, inputs: Any) -> Any:
        """Convolve `(B, H, W, C)`."""
        half = self.compute_dtype in ("bfloat16", "float16")
        is_plain = self.data_format == "channels_last" and self.depth_multiplier == 1
        if is_plain and _computes_on_jax_cpu() and all(isinstance(size, int) for size in inputs.shape[1:3]):
            from segzoo.layers.depthwise import depthwise_convolution

            kernel = ops.convert_to_tensor(self.kernel)
            outputs = depthwise_convolution(inputs, kernel, self.strides, self.padding, self.dilation_rate)
        elif max(self.kernel_size) > 3 and half and _computes_on_tensorflow_cpu():
            outputs = ops.depthwise_conv(
                ops.cast(inputs, "float32"),
                ops.cast(self.kernel, "float32"),
                strides=self.strides,
                padding=self.padding,
                data_format=self.data_format,
                dilation_rate=self.dilation_rate,
            )
        else:
            return super().call(inputs)
        if self.use_bias:
            outputs = ops.add(outputs, ops.cast(self.bias, outputs.dtype))
        return ops.cast(self.activation(outputs), self.compute_dtype)


@keras.saving.register_keras_serializable("segzoo")
class AtrousConv2D(keras.layers.Conv2D):
    """keras.layers.Conv2D for dilation rates above 1, with an efficient gradient on a CPU.

    TensorFlow's convolution has no dilated gradient on a CPU, so Keras cuts the padded map into rate x rate small ones.
    Far-apart kernel points make that padding many times the map: forward and backward of 3x3x320x256 at 8 x 16x16 took
    1.3 s at rate 12 and 10.3 s at rate 36 on two cores. Here the forward pass is TensorFlow's own kernel, and the
    gradient a matrix product for each kernel point over the pixels that it meets: 40 ms and 30 ms.

    Even kernels, strides and "valid" padding are left to Keras, as are all other backends and devices.
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Convolve `(B, H, W, C)`."""
        fits = (
            max(self.dilation_rate) > 1
            and self.padding == "same"
            and inputs.shape[-1] == kernel.shape[2]
            and self.data_format == "channels_last"
            and set(self.strides) == {1}
            and all(size % 2 for size in self.kernel_size)
        )
        if not fits or not _computes_on_tensorflow_cpu():
            return super().convolution_op(inputs, kernel)
        from segzoo.layers.atrous import atrous_convolution

        return atrous_convolution(inputs, kernel, tuple(self.dilation_rate))


@keras.saving.register_keras_serializable("segzoo")
class GroupedConv2D(AtrousConv2D):
    """keras.layers.Conv2D for `groups` above 1 (Krizhevsky et al., 2012), with an efficient gradient on a CPU.

    TensorFlow's CPU kernel has no gradient for groups, so Keras takes one of another kernel (forward and backward of
    3x3x128 in 32 groups at 2 x 64x64: 17 s on two cores), and graphs in which a normalisation follows fail. Here up to
    four neighbouring groups are one convolution, whose kernel is zero between them: 11 ms; with one convolution for
    each group 33 ms, with one for all of them 36 ms.

    "channels_first" is left to Keras, as are all other backends and devices.
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Convolve `(B, H, W, C)`."""
        if self.groups == 1 or self.data_format != "channels_last" or not _computes_on_tensorflow_cpu():
            return super().convolution_op(inputs, kernel)
        joined = next(number for number in (4, 3, 2, 1) if self.groups % number == 0)
        parts = self.groups // joined
        pairs = zip(ops.split(inputs, parts, axis=-1), ops.split(kernel, parts, axis=-1), strict=True)
        convolve = super().convolution_op
        return ops.concatenate([convolve(part, _joined(each, joined)) for part, each in pairs], axis=-1)


def _joined(kernel: Any, groups: int) -> Any:
    """Return the kernel `(h, w, groups * C, D)` of one convolution that computes what `(h, w, C, D)` does in groups."""
    height, width, channels, filters = kernel.shape
    apart = ops.reshape(kernel, (height, width, 1, channels, groups, filters // groups))
    # Of NumPy, so that it is a constant in the graph: OpenVINO does not convert the operation that makes a diagonal.
    diagonal = np.eye(groups).reshape(1, 1, groups, 1, groups, 1)
    return ops.reshape(
        apart * ops.convert_to_tensor(diagonal, kernel.dtype), (height, width, groups * channels, filters)
    )


def _computes_on_jax_cpu() -> bool:
    if keras.backend.backend() != "jax":
        return False
    import jax

    return jax.default_backend() == "cpu"


def _computes_on_tensorflow_cpu() -> bool:
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.config.list_physical_devices("GPU")


@keras.saving.register_keras_serializable("segzoo")
class ConvBlock(Layer):
    """Convolution, normalisation, activation: `(B, H, W, C)` to `(B, H, W, channels)`, "same" padding.

    Args:
        channels: output channels.
        kernel_size: height and width of the kernel.
        dilation_rate: spacing of the kernel's points.
        normalization: "batch", "group", "layer" or "none"; without one the convolution has a bias.
        activation: any Keras activation name, or None.
        epsilon: epsilon of the normalisation; None: 1e-5, or 1e-6 for "layer".
        groups: number of groups for group normalisation; None: up to 32.
        **kwargs: arguments of the Keras layer, such as `name`.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 3,
        dilation_rate: int = 1,
        normalization: str | None = "batch",
        activation: str | None = "relu",
        epsilon: float | None = None,
        groups: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.channels = channels
        self.kernel_size = kernel_size
        self.dilation_rate = dilation_rate
        self.normalization = normalization
        self.activation = activation
        self.epsilon = epsilon
        self.groups = groups
        self.convolutions = self._make_convolutions()
        self.norm = normalization_layer(normalization, channels, epsilon, groups, dtype=self.dtype_policy, name="norm")
        self.activate = keras.layers.Activation(light(activation), dtype=self.dtype_policy, name="activation")

    def _make_convolutions(self) -> list[keras.layers.Layer]:
        return [self._convolution(self.kernel_size, self.dilation_rate, bias=self._has_bias, name="conv")]

    @property
    def _has_bias(self) -> bool:
        return self.normalization in (None, "none")

    def _convolution(self, kernel_size: int, dilation_rate: int, bias: bool, name: str) -> keras.layers.Layer:
        kind = keras.layers.Conv2D if dilation_rate == 1 else AtrousConv2D
        return kind(
            self.channels,
            kernel_size,
            padding="same",
            dilation_rate=dilation_rate,
            use_bias=bias,
            kernel_initializer="he_uniform",
            dtype=self.dtype_policy,
            name=name,
        )

    def build(self, input_shape: tuple) -> None:
        """Create the weights for `(B, H, W, C)` inputs."""
        shape = tuple(input_shape)
        for convolution in self.convolutions:
            convolution.build(shape)
            shape = convolution.compute_output_shape(shape)
        if self.norm is not None:
            self.norm.build(shape)
        self.built = True

    def call(self, x: Any, training: bool | None = None) -> Any:
        """Apply the block."""
        for convolution in self.convolutions:
            x = convolution(x)
        if self.norm is not None:
            x = self.norm(x, training=training)
        return self.activate(x)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Shape `(B, H, W, channels)`."""
        return (*input_shape[:3], self.channels)


@keras.saving.register_keras_serializable("segzoo")
class SeparableConvBlock(ConvBlock):
    """A ConvBlock whose convolution is depthwise, then pointwise (Chollet, 2017); arguments as in ConvBlock."""

    def _make_convolutions(self) -> list[keras.layers.Layer]:
        depthwise = DepthwiseConv2D(
            self.kernel_size,
            padding="same",
            dilation_rate=self.dilation_rate,
            use_bias=False,
            depthwise_initializer="he_uniform",
            dtype=self.dtype_policy,
            name="depthwise",
        )
        return [depthwise, self._convolution(1, 1, bias=self._has_bias, name="pointwise")]
