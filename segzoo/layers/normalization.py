"""Normalisation layers for pixels and activations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from segzoo.keras_compat import add_to
from segzoo.layers.activation import made_of
from segzoo.layers.base import Layer


@keras.saving.register_keras_serializable("segzoo")
class PixelNormalization(Layer):
    """Normalise pixels 0..255 as the backbone's weights expect: `(x * scale - mean) / std` per channel.

    Unlike `keras.layers.Normalization` it holds no state: its constants are part of the graph, so an exported model
    needs no further inputs, and they cannot be overwritten by a weight file. Computed in float32.

    Args:
        scale: factor on the pixel values, e.g. 1/255.
        mean: per channel, in scaled units.
        std: per channel, in scaled units.
    """

    def __init__(self, scale: float, mean: Sequence[float], std: Sequence[float], **kwargs: Any):
        # Keras would round the pixels to half precision before they are scaled.
        super().__init__(autocast=False, **kwargs)
        if len(mean) != len(std):
            raise ValueError(f"mean has {len(mean)} channels and std {len(std)}; they must be equal.")
        self.scale = float(scale)
        self.mean = [float(value) for value in mean]
        self.std = [float(value) for value in std]

    def call(self, x: Any) -> Any:
        """Normalise `(B, H, W, C)` pixels."""
        factor = [self.scale / std for std in self.std]
        offset = [-mean / std for mean, std in zip(self.mean, self.std, strict=True)]
        x = ops.cast(x, "float32")
        x = x * ops.convert_to_tensor(factor, dtype="float32") + ops.convert_to_tensor(offset, dtype="float32")
        return ops.cast(x, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Shape of the input."""
        return input_shape


@keras.saving.register_keras_serializable("segzoo")
class BatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation (Ioffe and Szegedy, 2015) over all but the last axis, with the backend's fused kernel.

    Three differences from `keras.layers.BatchNormalization`, whose weights and inference results are the same:

    - The default momentum is 0.9, PyTorch's, so that the moving statistics follow within tens of steps. With 0.99, 13 %
      of the initial value is left after 200 steps and a short run evaluates far worse than it trains.
    - On TensorFlow and PyTorch one fused kernel takes the place of a dozen operations; in bfloat16 and float16 it keeps
      half the activations in memory, with float32 statistics. (JAX compiles the plain form well.)
    - Normalising a single value per channel (a pooled branch at batch size 1) would return the offset alone and stop
      every gradient; there the moving statistics are used instead.
    """

    def __init__(self, axis: int = -1, momentum: float = 0.9, epsilon: float = 1e-3, **kwargs: Any):
        super().__init__(axis=axis, momentum=momentum, epsilon=epsilon, **kwargs)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise `(B, H, W, C)`."""
        last = self.axis in (-1, len(inputs.shape) - 1)
        if len(inputs.shape) != 4 or not last or mask is not None or self.synchronized:
            return super().call(inputs, training=training, mask=mask)
        if training and self.trainable and tuple(inputs.shape[1:3]) == (1, 1):
            return self._normalize_pooled(inputs)
        # TensorFlow's kernel has no double precision.
        if keras.backend.backend() == "tensorflow" and inputs.dtype != "float64":
            return self._normalize_fused(inputs, bool(training and self.trainable))
        if keras.backend.backend() == "torch" and not isinstance(inputs, keras.KerasTensor):
            return self._normalize_by_torch(inputs, bool(training and self.trainable))
        return super().call(inputs, training=training)

    def _normalize_fused(self, inputs: Any, training: bool) -> Any:
        import tensorflow as tf

        # Few graph operations: with a hundred of these layers each one costs time before the first step.
        unused = tf.constant([], "float32")
        affine = {
            "scale": tf.cast(self.gamma, "float32") if self.scale else tf.ones(self.moving_mean.shape),
            "offset": tf.cast(self.beta, "float32") if self.center else tf.zeros(self.moving_mean.shape),
            "epsilon": self.epsilon,
        }
        mean = unused if training else tf.cast(self.moving_mean, "float32")
        variance = unused if training else tf.cast(self.moving_variance, "float32")
        outputs = tf.raw_ops.FusedBatchNormV3(x=inputs, mean=mean, variance=variance, is_training=training, **affine)
        if training:
            # The kernel returns the unbiased variance n/(n-1); Keras's moving variance is the biased one.
            if None in inputs.shape:
                count = tf.cast(tf.size(inputs) / inputs.shape[-1], "float32")
            else:
                count = float(math.prod(inputs.shape[:-1]))
            mean, variance = outputs.batch_mean, outputs.batch_variance * ((count - 1.0) / count)
            self._update_statistics(mean, variance)

        def again(inputs: Any) -> Any:
            if training:
                return _normalize_again(inputs, mean, variance, **affine)
            return tf.raw_ops.FusedBatchNormV3(x=inputs, mean=mean, variance=variance, is_training=False, **affine).y

        return made_of(inputs, again, outputs.y)

    def _normalize_by_torch(self, inputs: Any, training: bool) -> Any:
        import torch

        exact = "float64" if inputs.dtype == torch.float64 else "float32"
        moving = [ops.cast(self.moving_mean, exact), ops.cast(self.moving_variance, exact)]
        # With a momentum of 1 what is passed as running statistics becomes the batch's.
        mean, variance = [torch.zeros_like(value) for value in moving] if training else moving
        outputs = torch.nn.functional.batch_norm(
            inputs.permute(0, 3, 1, 2),  # no copy: to PyTorch a map in the order of channels-last
            mean,
            variance,
            ops.cast(self.gamma, exact) if self.scale else None,
            ops.cast(self.beta, exact) if self.center else None,
            training=training,
            momentum=1.0,
            eps=self.epsilon,
        )
        if training:
            count = math.prod(inputs.shape[:-1])
            self._update_statistics(mean, variance * ((count - 1.0) / count))  # PyTorch's is the unbiased one
        return outputs.permute(0, 2, 3, 1)

    def _normalize_pooled(self, inputs: Any) -> Any:
        x = ops.cast(inputs, "float32")
        mean, variance = ops.moments(x, axes=[0, 1, 2])
        several = ops.shape(x)[0] > 1
        mean = ops.where(several, mean, ops.convert_to_tensor(self.moving_mean))
        variance = ops.where(several, variance, ops.convert_to_tensor(self.moving_variance))
        self._update_statistics(mean, variance)
        x = ops.batch_normalization(
            x, mean, variance, axis=-1, offset=self.beta, scale=self.gamma, epsilon=self.epsilon
        )
        return ops.cast(x, self.compute_dtype)

    def _update_statistics(self, mean: Any, variance: Any) -> None:
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            value = ops.cast(value, moving.dtype)
            if self.momentum == 0:  # the batch's own, to the last bit, whatever was there
                moving.assign(value)
            else:
                add_to(moving, (value - moving) * (1.0 - self.momentum))


def default_groups(channels: int) -> int:
    """Return the largest number of groups of 32, 16, 8, 4 and 2 with two or more channels each, else 1.

    A pooled branch has one value in each channel; alone in its group it would become zero.
    """
    return next((groups for groups in (32, 16, 8, 4, 2) if channels % (2 * groups) == 0), 1)


def normalization_layer(
    kind: str | None, channels: int, epsilon: float | None = None, groups: int | None = None, **kwargs: Any
) -> keras.layers.Layer | None:
    """Return the normalisation layer named "batch", "group", "layer" or None.

    Args:
        kind: its name.
        channels: number of channels of its input.
        epsilon: added to the variance; None: 1e-5, of "layer" 1e-6.
        groups: of "group"; None: the most of 32, 16, 8, 4 and 2 that leave two channels or more in each.
        **kwargs: arguments of the Keras layer, such as `name`.

    Raises:
        ValueError: an unknown name, or groups that do not divide the channels.
    """
    if kind is None or kind == "none":
        return None
    if kind == "batch":
        return BatchNormalization(epsilon=1e-5 if epsilon is None else epsilon, **kwargs)
    if kind == "group":
        groups = default_groups(channels) if groups is None else groups
        if groups < 1 or channels % groups:
            raise ValueError(f"groups must divide the {channels} channels that are normalised, got {groups}.")
        return keras.layers.GroupNormalization(groups=groups, epsilon=1e-5 if epsilon is None else epsilon, **kwargs)
    if kind == "layer":
        return keras.layers.LayerNormalization(epsilon=1e-6 if epsilon is None else epsilon, **kwargs)
    raise ValueError(f"normalization must be 'batch', 'group', 'layer' or 'none', got {kind!r}.")


def _normalize_again(inputs: Any, mean: Any, variance: Any, scale: Any, offset: Any, epsilon: float) -> Any:
    """Normalise a batch by its own statistics, which are known, on TensorFlow.

    The kernel takes given statistics for constants, but they depend on the batch. That counts for second derivatives,
    such as those of a penalty on gradients: in them this is differentiated as the normalisation that it repeats.
    """
    import tensorflow as tf

    @tf.custom_gradient
    def normalize(*given: Any) -> tuple[Any, Any]:
        def gradient(upstream: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(given)
                unused = tf.constant([], "float32")
                x, scale, offset = given
                outputs = tf.raw_ops.FusedBatchNormV3(
                    x=x, scale=scale, offset=offset, mean=unused, variance=unused, epsilon=epsilon, is_training=True
                )
            return tape.gradient(outputs.y, given, upstream)

        x, scale, offset = given
        outputs = tf.raw_ops.FusedBatchNormV3(
            x=x, scale=scale, offset=offset, mean=mean, variance=variance, epsilon=epsilon, is_training=False
        )
        return outputs.y, gradient

    return normalize(inputs, scale, offset)
