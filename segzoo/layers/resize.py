"""Resizing layers that take the height and width of a reference tensor, so that every input size works."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from segzoo.keras_compat import in_xla
from segzoo.layers.base import Layer

UPSAMPLING = ("nearest", "bilinear", "transposed", "nearest_floor")


@keras.saving.register_keras_serializable("segzoo")
class ResizeTo(Layer):
    """Resize `(B, h, w, C)` to the height and width of a reference `(B, H, W, ...)`: returns `(B, H, W, C)`.

    Half-pixel centres, as `tf.image.resize` and PyTorch's `align_corners=False`. The interpolation itself runs in
    float32: a bilinear resize after an activation fails to compile under XLA in half precision (keras#20931).

    Args:
        interpolation: "bilinear" or "nearest"; or, for weights that were trained so, "aligned", bilinear with the
            corners of both maps on each other, as PyTorch's `align_corners=True`, and "nearest_floor", the pixel
            `floor(i h / H)`, as PyTorch's "nearest" (its "nearest-exact" is "nearest" here; both are the same where
            the size is doubled).
    """

    def __init__(self, interpolation: str = "bilinear", **kwargs: Any):
        super().__init__(**kwargs)
        if interpolation not in ("bilinear", "nearest", "aligned", "nearest_floor"):
            raise ValueError(
                f"interpolation must be 'bilinear' or 'nearest' or 'aligned' or 'nearest_floor', got {interpolation!r}."
            )
        self.interpolation = interpolation
        # There is nothing to build. While any layer of a model is not built, Keras's trainer on JAX and PyTorch calls
        # the whole model once more, on symbolic tensors, in every `fit` and `train_on_batch`; and this layer is never
        # called where maps have the right size already.
        self.built = True

    def call(self, x: Any, reference: Any) -> Any:
        """Return `x` at the height and width of `reference`."""
        height, width = x.shape[1], x.shape[2]
        target_height, target_width = reference.shape[1], reference.shape[2]
        static = None not in (height, width, target_height, target_width)
        if static and (height, width) == (target_height, target_width):
            return x
        if self.interpolation == "nearest_floor":
            if static and (2 * height, 2 * width) == (target_height, target_width):
                return double(x)
            rows, columns = (_floored(x, reference, axis) for axis in (1, 2))
            return ops.take(ops.take(x, rows, axis=1), columns, axis=2)
        if self.interpolation == "nearest":
            return _resize(x, reference, "nearest")
        x = ops.cast(x, "float32")
        if self.interpolation == "aligned":
            return ops.cast(_interpolated(x, reference, _aligned_places), self.compute_dtype)
        return ops.cast(_resize(x, reference, "bilinear"), self.compute_dtype)

    def compute_output_shape(self, x_shape: tuple, reference_shape: tuple) -> tuple:
        """Shape `(B, H, W, C)`: the reference's height and width, the input's channels."""
        return (x_shape[0], reference_shape[1], reference_shape[2], x_shape[3])


@keras.saving.register_keras_serializable("segzoo")
class ResizeToStride(Layer):
    """Resize `(B, h, w, C)` to `(B, ceil(H / stride), ceil(W / stride), C)`, bilinear, for images `(B, H, W, ...)`.

    Args:
        stride: image pixels per pixel of the output.
    """

    def __init__(self, stride: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.stride = stride
        self.resize = ResizeTo("bilinear", dtype=self.dtype_policy, name="resize")
        self.built = True  # see ResizeTo

    def call(self, x: Any, images: Any) -> Any:
        """Return `x` at the size that the level has for `images`."""
        return self.resize(x, images[:, :: self.stride, :: self.stride])

    def compute_output_shape(self, x_shape: tuple, images_shape: tuple) -> tuple:
        """Shape `(B, ceil(H / stride), ceil(W / stride), C)`."""
        height, width = (size and -(-size // self.stride) for size in images_shape[1:3])
        return (x_shape[0], height, width, x_shape[3])


@keras.saving.register_keras_serializable("segzoo")
class Upsample(Layer):
    """Upsample `(B, h, w, C)` to the height and width of a reference, or to twice its own where there is none.

    Args:
        kind: "nearest", "bilinear", or "transposed": a transposed 2x2 convolution with stride 2 as in U-Net
            (Ronneberger et al., 2015), resized where the reference is a pixel smaller; or "nearest_floor", see
            ResizeTo.
        channels: output channels of the transposed convolution; the other kinds keep the input's channels.
    """

    def __init__(self, kind: str, channels: int, **kwargs: Any):
        super().__init__(**kwargs)
        if kind not in UPSAMPLING:
            raise ValueError(f"upsampling must be one of {', '.join(UPSAMPLING)}, got {kind!r}.")
        self.kind = kind
        self.channels = channels
        method = "bilinear" if kind == "transposed" else kind
        self.resize = ResizeTo(method, dtype=self.dtype_policy, name="resize")
        self.transposed = None
        if kind == "transposed":
            self.transposed = keras.layers.Conv2DTranspose(
                channels, 2, strides=2, kernel_initializer="he_uniform", dtype=self.dtype_policy, name="transposed"
            )

    def build(self, x_shape: tuple, reference_shape: tuple | None = None) -> None:
        """Create the weights for `(B, h, w, C)` inputs."""
        if self.transposed is not None:
            self.transposed.build(x_shape)
        self.built = True

    def call(self, x: Any, reference: Any = None) -> Any:
        """Return `x` at the size of `reference`, or at twice its size."""
        if self.transposed is not None:
            x = self.transposed(x)
            return x if reference is None else self.resize(x, reference)
        if reference is not None:
            return self.resize(x, reference)
        return double(x, self.kind.removesuffix("_floor"))

    def compute_output_shape(self, x_shape: tuple, reference_shape: tuple | None = None) -> tuple:
        """Shape `(B, H, W, C)`."""
        channels = x_shape[3] if self.transposed is None else self.channels
        if reference_shape is not None:
            return (x_shape[0], *reference_shape[1:3], channels)
        return (x_shape[0], *(size and 2 * size for size in x_shape[1:3]), channels)


@keras.saving.register_keras_serializable("segzoo")
class SpaceToDepth(Layer):
    """Rearrange blocks of 2x2 pixels into channels: `(B, H, W, C)` to `(B, ceil(H / 2), ceil(W / 2), 4C)`.

    The channels of the upper left pixel first, then lower left, upper right, lower right. An odd last row or column is
    filled up with zeros. Source: the "focus" of YOLOv5 and YOLOX (Ge et al., 2021).
    """

    strides = 2

    def call(self, x: Any) -> Any:
        """Rearrange."""
        x = ops.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))
        first, second = slice(0, -1, 2), slice(1, None, 2)
        parts = [x[:, rows, columns] for columns in (first, second) for rows in (first, second)]
        return ops.concatenate(parts, axis=-1)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Shape `(B, ceil(H / 2), ceil(W / 2), 4C)`."""
        height, width = (size and -(-size // 2) for size in input_shape[1:3])
        return (input_shape[0], height, width, 4 * input_shape[3])


def double(x: Any, method: str = "nearest") -> Any:
    """Resize `(B, H, W, C)` to `(B, 2H, 2W, C)`, any H and W; method "nearest" repeats every pixel, or "bilinear"."""
    if keras.backend.backend() == "tensorflow":
        # 17 ms forward and backward for 8 x 64x64x192 on two cores; a broadcast takes 223 ms, tf.repeat 40 ms.
        import tensorflow as tf

        height, width = x.shape[1:3]
        size = 2 * tf.shape(x)[1:3] if None in (height, width) else (2 * height, 2 * width)
        if method == "nearest":
            return _compiled_double(x) if in_xla() else tf.image.resize(x, size, method="nearest")
        # In float32, because XLA does not compile a bilinear resize in half precision (keras#20931).
        return tf.cast(tf.image.resize(tf.cast(x, "float32"), size, method=method), x.dtype)
    if method == "nearest":
        return ops.repeat(ops.repeat(x, 2, axis=1), 2, axis=2)
    height, width = ops.shape(x)[1:3]
    doubled = ops.image.resize(
        ops.cast(x, "float32"), (2 * height, 2 * width), "bilinear", data_format="channels_last", antialias=False
    )
    return ops.cast(doubled, x.dtype)


def _floored(x: Any, reference: Any, axis: int) -> Any:
    """Return the pixel `floor(i old / new)` for each of `new` pixels along an axis, in float32 as PyTorch does."""
    old, new = ops.shape(x)[axis], ops.shape(reference)[axis]
    step = ops.cast(old, "float32") / ops.cast(new, "float32")
    places = ops.cast(ops.floor(ops.cast(ops.arange(new), "float32") * step), "int32")
    return ops.minimum(places, old - 1)


def _interpolated(x: Any, reference: Any, places: Callable[[Any, Any], Any]) -> Any:
    """Resize to the reference's height and width by linear interpolation at `places(old, new)` along each axis."""

    def weights(axis: int) -> Any:
        """Return (new, old) shares of each row or column of the input."""
        old, new = ops.shape(x)[axis], ops.shape(reference)[axis]
        distances = ops.abs(places(old, new)[:, None] - ops.cast(ops.arange(old), "float32")[None, :])
        return ops.maximum(0.0, 1.0 - distances)

    return ops.einsum("iy,byxc,jx->bijc", weights(1), x, weights(2))


def _aligned_places(old: Any, new: Any) -> Any:
    """Return source coordinates of `new` pixels among `old` ones with aligned corners."""
    step = ops.cast(old - 1, "float32") / ops.cast(ops.maximum(new - 1, 1), "float32")
    return ops.cast(ops.arange(new), "float32") * step


def _centred_places(old: Any, new: Any) -> Any:
    """Return source coordinates of `new` pixels among `old` ones with half-pixel centres, clamped to the map."""
    scale = ops.cast(old, "float32") / ops.cast(new, "float32")
    places = (ops.cast(ops.arange(new), "float32") + 0.5) * scale - 0.5
    return ops.clip(places, 0.0, ops.cast(old - 1, "float32"))


def _resize(x: Any, reference: Any, method: str) -> Any:
    if keras.backend.backend() == "tensorflow":
        # keras.ops.image.resize raises in a TensorFlow graph when height or width is dynamic (Keras 3.15.1).
        import tensorflow as tf

        if method == "nearest" and in_xla():
            doubles = None not in (*x.shape[1:3], *reference.shape[1:3]) and all(
                2 * old == new for old, new in zip(x.shape[1:3], reference.shape[1:3], strict=True)
            )
            return _compiled_double(x) if doubles else _gather_nearest(x, reference)
        if in_xla():
            # XLA's own kernel (TensorFlow 2.21, on a CPU) takes another pixel's value where a pixel of the result lies
            # on one of the input: 5 to 9 pixels, or 8 to 24.
            return _interpolated(x, reference, _centred_places)
        return tf.image.resize(x, tf.shape(reference)[1:3], method=method)
    return ops.image.resize(
        x, ops.shape(reference)[1:3], interpolation=method, data_format="channels_last", antialias=False
    )


def _compiled_double(x: Any) -> Any:
    """Repeat every pixel 2x2 times: `(B, H, W, C)` to `(B, 2H, 2W, C)`, with a gradient that XLA compiles.

    The gradient adds up the four: 24 ms for 8 x 128x128x192 on two cores, the kernel 19 ms, a sum over axes 332 ms.
    """
    import tensorflow as tf

    @tf.custom_gradient
    def repeat(x: Any) -> tuple[Any, Any]:
        def gradient(upstream: Any) -> Any:
            return 4 * tf.nn.avg_pool2d(upstream, 2, 2, "VALID")

        return tf.repeat(tf.repeat(x, 2, axis=1), 2, axis=2), gradient

    return repeat(x)


def _gather_nearest(x: Any, reference: Any) -> Any:
    """Resize to the nearest pixel, half-pixel centres, by gathering rows and columns; XLA adds gradients up itself."""
    import tensorflow as tf

    for axis in (1, 2):
        old, new = tf.shape(x)[axis], tf.shape(reference)[axis]
        # With the rounding of TensorFlow's kernel, so that a model predicts as it was trained.
        scale = tf.cast(old, "float32") / tf.cast(new, "float32")
        places = tf.cast((tf.cast(tf.range(new), "float32") + 0.5) * scale, "int32")
        x = tf.gather(x, tf.minimum(places, old - 1), axis=axis)
    return x
