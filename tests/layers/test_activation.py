"""Activations whose gradient keeps their input alone: values, gradients, and what a graph holds until it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from segzoo.layers import BatchNormalization, activation, light
from segzoo.layers.atrous import atrous_convolution

PAIRS = {
    "light_silu": keras.activations.silu,
    "light_hard_silu": keras.activations.hard_silu,
    "light_gelu": keras.activations.gelu,
    "tanh_gelu": lambda x: keras.activations.gelu(x, approximate=True),
}
VALUES = np.concatenate([np.linspace(-12, 12, 481), [-3, 0, 3]]).astype("float64")


def value_and_gradient(function, x, jit_compile=None):
    """Return `function(x)` and its gradient for an upstream gradient of 2, in a graph."""

    @tf.function(jit_compile=jit_compile)
    def both(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        return y, tape.gradient(y, x, output_gradients=tf.fill(tf.shape(y), tf.cast(2, y.dtype)))

    return both(x)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("name", PAIRS)
def test_values_and_gradients_are_those_of_keras(name, jit_compile):
    x = tf.constant(VALUES)
    expected = value_and_gradient(PAIRS[name], x)
    found = value_and_gradient(getattr(activation, name), x, jit_compile)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)  # Keras writes constants of GELU in float32


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("name", PAIRS)
def test_half_precision_stays_near_float64(name, dtype):
    x = tf.cast(VALUES, dtype)
    expected = value_and_gradient(PAIRS[name], tf.cast(x, "float64"))
    rounding = {"bfloat16": 2**-8, "float16": 2**-11, "float32": 2**-24}[dtype]
    for one, other in zip(value_and_gradient(getattr(activation, name), x), expected, strict=True):
        assert one.dtype == dtype
        assert np.all(np.isfinite(tf.cast(one, "float64")))
        # At least 1e-5: TensorFlow's tanh in float32 is -1 from about -5 on.
        np.testing.assert_allclose(tf.cast(one, "float64"), other, rtol=8 * rounding, atol=max(24 * rounding, 1e-5))


def test_activations_of_keras_are_replaced_by_name_and_by_function():
    assert light("swish") is light("silu") is light(keras.activations.silu) is activation.light_silu
    assert light("gelu") is activation.light_gelu
    assert light("hard_swish") is activation.light_hard_silu
    assert light("relu") is keras.activations.relu
    assert light(None) is keras.activations.linear


@pytest.mark.parametrize("name", PAIRS)
def test_a_saved_layer_names_the_function_itself(name):
    """A function of the name of one of Keras's would be stored, and read back, as Keras's."""
    layer = keras.layers.Activation(getattr(activation, name))
    assert keras.layers.Activation.from_config(layer.get_config()).activation is getattr(activation, name)


def held(function, shape):
    """Return the kinds of operations whose maps are computed before the upstream gradient is there, and read after it.

    These maps are what a step holds from the forward to the backward pass.
    """

    @tf.function
    def step(x, upstream):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        return tape.gradient(y, x, output_gradients=upstream)

    spec = tf.TensorSpec(shape)
    graph = step.get_concrete_function(spec, spec).graph
    backward, kinds = {graph.inputs[1].op.name}, set()
    for op in graph.get_operations():  # in the order in which they were made
        before = [origin(tensor) for tensor in op.inputs]
        if backward & {*(tensor.op.name for tensor in before), *(one.name for one in op.control_inputs)}:
            backward.add(op.name)
            kinds |= {tensor.op.type for tensor in before if tensor.op.name not in backward and tensor.shape.rank == 4}
    return kinds - {"Const"}


def origin(tensor):
    """Return the tensor of which this one is a mere alias."""
    while tensor.op.type in ("Identity", "IdentityN") and not tensor.op.control_inputs:
        tensor = tensor.op.inputs[tensor.value_index]
    return tensor


@pytest.mark.parametrize("name", PAIRS)
def test_a_graph_holds_only_the_input(name):
    assert held(getattr(activation, name), (2, 4, 4, 3)) == {"Placeholder"}
    assert held(PAIRS[name], (2, 4, 4, 3)) != {"Placeholder"}  # why there are functions of our own


@pytest.mark.parametrize("training", [False, True])
def test_a_graph_holds_the_input_of_a_normalisation_instead_of_its_output(training):
    layer = BatchNormalization()
    layer.build((None, None, None, 3))
    assert held(lambda x: activation.light_silu(layer(x, training=training)), (2, 4, 4, 3)) == {"Placeholder"}


@pytest.mark.parametrize("training", [False, True])
def test_the_gradient_through_a_normalisation_is_that_of_keras(training):
    rng = np.random.default_rng(0)
    ours, theirs = BatchNormalization(epsilon=1e-3), keras.layers.BatchNormalization(epsilon=1e-3)
    for layer in (ours, theirs):
        layer.build((None, None, None, 5))
        layer.set_weights([np.linspace(0.5, 2, 5), np.linspace(-1, 1, 5), np.linspace(-2, 2, 5), np.linspace(1, 3, 5)])
    x = tf.constant(rng.normal(1, 2, (3, 6, 7, 5)), "float32")

    def gradients(layer, function):
        @tf.function
        def step(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.reduce_sum(function(layer(x, training=training)) ** 3)
            return tape.gradient(loss, [x, *layer.trainable_variables])

        return step(x)

    expected = gradients(theirs, keras.activations.silu)
    for one, other in zip(gradients(ours, activation.light_silu), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_second_derivatives_through_a_normalisation_are_those_of_keras(training, jit_compile):
    """As of a penalty on gradients: the statistics of a batch depend on it in the second derivative as in the first."""
    rng = np.random.default_rng(0)
    layer = BatchNormalization(epsilon=1e-3)
    layer.build((None, None, None, 5))
    layer.set_weights([np.linspace(0.5, 2, 5), np.linspace(-1, 1, 5), np.linspace(-2, 2, 5), np.linspace(1, 3, 5)])
    x, weights = (tf.constant(rng.normal(1, 2, (3, 4, 4, 5)), "float32") for _ in range(2))

    def gradients(function, jit_compile=None):
        @tf.function(jit_compile=jit_compile)
        def step(x):
            with tf.GradientTape() as outer:
                outer.watch(x)
                with tf.GradientTape() as inner:
                    inner.watch(x)
                    y = tf.reduce_sum(function(layer(x, training=training)) * weights)
                penalty = tf.reduce_sum(inner.gradient(y, x) ** 2)
            return outer.gradient(penalty, [x, *layer.trainable_variables])

        return step(x)

    expected = gradients(keras.activations.silu)
    for one, other in zip(gradients(activation.light_silu, jit_compile), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


def test_a_dilated_convolution_cuts_its_input_when_the_gradient_is_there():
    kernel = tf.random.stateless_normal((3, 3, 4, 5), (0, 0))
    x = tf.TensorSpec((2, 8, 8, 4))
    graph = tf.function(lambda x, upstream: tf.gradients(atrous_convolution(x, kernel, (2, 2)), x, upstream))
    graph = graph.get_concrete_function(x, tf.TensorSpec((2, 8, 8, 5))).graph
    early = {graph.inputs[0].op.name}
    for op in graph.get_operations():
        if op.inputs and not op.control_inputs and all(tensor.op.name in early for tensor in op.inputs):
            early.add(op.name)
    assert not [op for op in graph.get_operations() if op.type == "StridedSlice" and op.inputs[0].op.name in early]
