"""Activations whose gradient keeps their input alone, as PyTorch's does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("segzoo")
def light_silu(x: Any) -> Any:
    """Return `x * sigmoid(x)` (SiLU, also called swish: Elfwing et al., 2017), of the shape of `x`."""
    return _from_input(x, _silu, _silu_slope)


@keras.saving.register_keras_serializable("segzoo")
def light_hard_silu(x: Any) -> Any:
    """Return `x * relu6(x + 3) / 6` (hard swish: Howard et al., "Searching for MobileNetV3", 2019)."""
    return _from_input(x, ops.hard_silu, _hard_silu_slope)


@keras.saving.register_keras_serializable("segzoo")
def light_gelu(x: Any) -> Any:
    """Return x times the standard normal's distribution function at x (GELU: Hendrycks and Gimpel, 2016)."""
    return _from_input(x, _exact_gelu, _gelu_slope)


@keras.saving.register_keras_serializable("segzoo")
def tanh_gelu(x: Any) -> Any:
    """GELU in its approximation by tanh, as keras-cv and keras-hub compute it; Keras's "gelu" is the exact one."""
    return _from_input(x, ops.gelu, _tanh_gelu_slope)


def light(activation: str | Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    """Return an activation of Keras, by function or name, as the function of this module that computes the same.

    Where there is none, the activation itself is returned; None is the identity, as in Keras.
    """
    found = keras.activations.get(activation)
    return _LIGHT.get(found, found)


def _from_input(x: Any, function: Callable[[Any], Any], slope: Callable[[Any], Any]) -> Any:
    """Apply an activation; on TensorFlow with a gradient that is computed from the input when it is needed.

    TensorFlow keeps every intermediate map that a gradient reads, up to five times the input for GELU. `tf.nn.silu` is
    meant to keep only its input, but a part of its gradient (`beta * features`) does not wait for the gradient of the
    output, so it is computed during the forward pass and held as well: 0.46 of 3.2 GiB for a step of U-Net on
    EfficientNet-B3. XLA, which JAX uses too, and PyTorch's kernels need none of this.
    """
    if keras.backend.backend() != "tensorflow" or isinstance(x, keras.KerasTensor):
        return function(x)
    import tensorflow as tf

    source, again = getattr(x, _MADE_OF, (x, lambda x: x))

    @tf.custom_gradient
    def activate(x: Any) -> tuple[Any, Callable[[Any], Any]]:
        def gradient(upstream: Any) -> Any:
            return upstream * slope(again(after(upstream, source)))

        return function(x), gradient

    return activate(tf.convert_to_tensor(x))


_MADE_OF = "_segzoo_made_of"


def made_of(source: Any, function: Callable[[Any], Any], x: Any) -> Any:
    """Note at the TensorFlow tensor `x` that it is `function(source)`, and return it.

    An activation of this module then keeps `source` for its gradient, not `x`: a normalisation keeps its own input
    anyway, and is repeated in a few per cent of the time of a step.
    """
    setattr(x, _MADE_OF, (source, function))
    return x


def after(upstream: Any, x: Any) -> Any:
    """Return the TensorFlow tensor `x` as one that exists from the time that `upstream` does.

    In a graph, whatever is computed from `x` alone runs as soon as `x` is there: parts of a gradient during the
    forward pass, to be held until the backward pass.
    """
    import tensorflow as tf

    with tf.control_dependencies([upstream]):
        return tf.identity(x)


def _silu(x: Any) -> Any:
    if keras.backend.backend() == "tensorflow":
        return x * ops.sigmoid(x)  # tf.nn.silu multiplies by a beta of 1 as well
    return ops.silu(x)


def _exact_gelu(x: Any) -> Any:
    return ops.gelu(x, approximate=False)


def _silu_slope(x: Any) -> Any:
    sigmoid = ops.sigmoid(x)
    return sigmoid * (1.0 + x * (1.0 - sigmoid))


def _hard_silu_slope(x: Any) -> Any:
    # 0 below -3, 1 above 3, between them that of x (x + 3) / 6. At the ends as Keras's: relu6 has slope 0 there.
    inside = ops.cast(ops.abs(x) < 3.0, x.dtype)
    return ops.hard_sigmoid(x) + inside * x * (1.0 / 6.0)


def _gelu_slope(x: Any) -> Any:
    distribution = 0.5 * (1.0 + ops.erf(x * 0.7071067811865476))
    return distribution + x * ops.exp(-0.5 * ops.square(x)) * 0.3989422804014327


def _tanh_gelu_slope(x: Any) -> Any:
    square = ops.square(x)
    tanh = ops.tanh(x * (0.7978845608028654 + 0.035677408136300125 * square))
    inner = 0.7978845608028654 + 0.10703222440890037 * square
    return 0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - ops.square(tanh)) * inner


_LIGHT: dict[Any, Callable[[Any], Any]] = {
    keras.activations.silu: light_silu,
    keras.activations.hard_silu: light_hard_silu,
    keras.activations.gelu: light_gelu,
}
