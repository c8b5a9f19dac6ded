"""Depthwise convolution as a sum of shifted maps under JAX: values and gradients of XLA's own."""

import numpy as np
import pytest

jax = pytest.importorskip("jax")

CASES = [  # kernel, stride, rate, padding
    (3, 1, 1, "same"),
    (5, 2, 1, "same"),
    (2, 2, 1, "same"),
    (3, 1, 2, "same"),
    (3, 2, 1, "valid"),
    (5, 1, 2, "valid"),
]


def of_xla(inputs, kernel, stride, rate, padding):
    return jax.lax.conv_general_dilated(
        inputs,
        kernel.reshape(*kernel.shape[:2], 1, -1),
        (stride, stride),
        padding.upper(),
        rhs_dilation=(rate, rate),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=inputs.shape[-1],
    )


@pytest.mark.parametrize(("kernel", "stride", "rate", "padding"), CASES)
def test_values_and_gradients_are_those_of_xla(kernel, stride, rate, padding):
    from segzoo.layers.depthwise import depthwise_convolution

    rng = np.random.default_rng(kernel)
    inputs = rng.standard_normal((2, 11, 12, 3)).astype("float32")
    weights = rng.standard_normal((kernel, kernel, 3, 1)).astype("float32")

    def results(function):
        def loss(inputs, weights):
            outputs = function(inputs, weights)
            return jax.numpy.sum(jax.numpy.sin(outputs)), outputs

        (_, outputs), gradients = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(inputs, weights)
        return outputs, *gradients

    ours = results(lambda x, k: depthwise_convolution(x, k, (stride, stride), padding, (rate, rate)))
    theirs = results(lambda x, k: of_xla(x, k, stride, rate, padding))
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(our, their, atol=1e-4)


def test_half_precision_is_added_up_in_float32():
    from segzoo.layers.depthwise import depthwise_convolution

    inputs = jax.numpy.full((1, 64, 64, 1), 1.0, "bfloat16")
    kernel = jax.numpy.full((3, 3, 1, 1), 1.0, "bfloat16")
    outputs, pull = jax.vjp(lambda x, k: depthwise_convolution(x, k, (1, 1), "valid", (1, 1)), inputs, kernel)
    for_inputs, for_kernel = pull(jax.numpy.ones_like(outputs))
    assert outputs.dtype == for_inputs.dtype == for_kernel.dtype == "bfloat16"
    assert float(for_kernel[1, 1, 0, 0]) == float(jax.numpy.bfloat16(62 * 62))  # added up in bfloat16 it stops at 256
