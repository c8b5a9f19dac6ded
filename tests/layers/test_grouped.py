"""GroupedConv2D against one convolution for each group: values, gradients, strides, dilation, and a saved model."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from segzoo.layers import GroupedConv2D

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's CPU gradient")
IMAGES = np.random.default_rng(0).normal(size=(2, 9, 8, 16)).astype("float32")


def apart(layer: GroupedConv2D, x):
    """Return what the layer computes, by a convolution for each group."""
    arguments = {"strides": layer.strides, "padding": layer.padding, "dilation_rate": layer.dilation_rate}
    kernels = tf.split(layer.kernel, layer.groups, axis=-1)
    parts = zip(tf.split(x, layer.groups, axis=-1), kernels, strict=True)
    return tf.concat([keras.ops.conv(part, kernel, **arguments) for part, kernel in parts], -1) + layer.bias


@pytest.mark.parametrize("groups", [2, 4, 8, 16])
@pytest.mark.parametrize("options", [{}, {"strides": 2}, {"padding": "valid"}, {"dilation_rate": 2}], ids=str)
def test_equals_a_convolution_for_each_group(groups: int, options: dict) -> None:
    layer = GroupedConv2D(32, 3, groups=groups, **{"padding": "same", **options})
    layer.build(IMAGES.shape)
    layer.bias.assign(np.arange(32) / 10)
    images = tf.constant(IMAGES)

    def with_gradients(call):
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = call(images)
            loss = tf.reduce_sum(tf.sin(outputs))
        return outputs, *tape.gradient(loss, [images, layer.kernel, layer.bias])

    expected = with_gradients(lambda x: apart(layer, x))
    for found, wanted in zip(with_gradients(layer), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5, rtol=1e-4)


def test_trains_in_a_graph_with_a_normalization_behind_it_and_under_xla() -> None:
    """TensorFlow fuses both in a graph, by a kernel that refuses groups."""
    losses = {}
    for compiled in (False, True):
        keras.utils.set_random_seed(0)
        image = keras.Input((None, None, 16))
        x = GroupedConv2D(16, 3, groups=8, padding="same", use_bias=False)(image)
        model = keras.Model(image, keras.layers.ReLU()(keras.layers.BatchNormalization()(x)))
        model.compile("sgd", "mse", jit_compile=compiled)
        losses[compiled] = [model.train_on_batch(IMAGES, np.ones((2, 9, 8, 16))) for _ in range(3)]
        assert np.isfinite(model.predict(IMAGES, verbose=0)).all()
    assert losses[False][2] < losses[False][0]
    np.testing.assert_allclose(losses[True], losses[False], rtol=1e-4)


def test_is_saved_and_loaded(tmp_path, loaded_elsewhere) -> None:
    image = keras.Input((None, None, 16))
    model = keras.Model(image, GroupedConv2D(32, 3, groups=8, padding="same")(image))
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded_elsewhere(tmp_path / "model.keras", IMAGES).output, model(IMAGES))
