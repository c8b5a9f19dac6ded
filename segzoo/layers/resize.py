"""Resizing to the height and width of a reference tensor, so that every input size works."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("segzoo")
class ResizeTo(keras.layers.Layer):
    """Resize `(B, h, w, C)` to the height and width of a reference `(B, H, W, ...)`: returns `(B, H, W, C)`.

    Half-pixel centres, as `tf.image.resize` and PyTorch's `align_corners=False`. The interpolation itself runs in
    float32: a bilinear resize after an activation fails to compile under XLA in half precision (keras#20931).

    Args:
        interpolation: "bilinear" or "nearest".
    """

    def __init__(self, interpolation: str = "bilinear", **kwargs: Any):
        super().__init__(**kwargs)
        if interpolation not in ("bilinear", "nearest"):
            raise ValueError(f"interpolation must be 'bilinear' or 'nearest', got {interpolation!r}.")
        self.interpolation = interpolation

    def call(self, x: Any, reference: Any) -> Any:
        """Return `x` at the height and width of `reference`."""
        height, width = x.shape[1], x.shape[2]
        target_height, target_width = reference.shape[1], reference.shape[2]
        static = None not in (height, width, target_height, target_width)
        if static and (height, width) == (target_height, target_width):
            return x
        if self.interpolation == "nearest":
            return _resize(x, reference, "nearest")
        return ops.cast(_resize(ops.cast(x, "float32"), reference, "bilinear"), self.compute_dtype)

    def compute_output_shape(self, x_shape: tuple, reference_shape: tuple) -> tuple:
        """Shape `(B, H, W, C)`: the reference's height and width, the input's channels."""
        return (x_shape[0], reference_shape[1], reference_shape[2], x_shape[3])

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {**super().get_config(), "interpolation": self.interpolation}


def double(x: Any) -> Any:
    """Repeat every pixel of `(B, H, W, C)` twice in both directions: `(B, 2H, 2W, C)`, any H and W."""
    if keras.backend.backend() == "tensorflow":
        # 17 ms forward and backward for 8 x 64x64x192 on two cores; a broadcast takes 223 ms, tf.repeat 40 ms.
        import tensorflow as tf

        height, width = x.shape[1:3]
        size = 2 * tf.shape(x)[1:3] if None in (height, width) else (2 * height, 2 * width)
        return tf.image.resize(x, size, method="nearest")
    return ops.repeat(ops.repeat(x, 2, axis=1), 2, axis=2)


def _resize(x: Any, reference: Any, method: str) -> Any:
    if keras.backend.backend() == "tensorflow":
        # keras.ops.image.resize raises in a TensorFlow graph when height or width is dynamic (Keras 3.15.1).
        import tensorflow as tf

        return tf.image.resize(x, tf.shape(reference)[1:3], method=method)
    return ops.image.resize(
        x, ops.shape(reference)[1:3], interpolation=method, data_format="channels_last", antialias=False
    )
