import keras
import numpy as np
import pytest

from segzoo.errors import SegzooError
from segzoo.export import export_model, in_float32
from segzoo.models.build import build_model

HALF = {"mixed_bfloat16", "mixed_float16", "bfloat16", "float16"}


def test_float32_model_is_returned_as_it_is(model):
    assert in_float32(model) is model


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_model_becomes_the_float32_model_of_the_same_weights(model, builder, dtype_policy, pixels, policy):
    dtype_policy(policy)
    mixed = builder()
    mixed.set_weights(model.get_weights())
    found = in_float32(mixed)

    images = pixels(45, 64)
    np.testing.assert_array_equal(found(images, training=False), model(images, training=False))
    assert np.abs(np.subtract(mixed(images, training=False), model(images, training=False))).max() > 1e-5
    assert not HALF & {layer.dtype_policy.name for layer in found._flatten_layers()}


def test_zoo_model_in_bfloat16_exports_as_float32(tmp_path, dtype_policy, shake, pixels):
    dtype_policy("mixed_bfloat16")
    mixed = shake(build_model("fpn", "resnet18", 3, weights="none", depth=2))
    dtype_policy("float32")
    plain = build_model("fpn", "resnet18", 3, weights="none", depth=2)
    plain.set_weights(mixed.get_weights())

    report = export_model(mixed, tmp_path, "saved_model")

    found = in_float32(mixed)
    assert not HALF & {layer.dtype_policy.name for layer in found._flatten_layers()}
    np.testing.assert_array_equal(found(pixels(64, 64), training=False), plain(pixels(64, 64), training=False))
    assert report.from_half and report.difference < 1e-3 and "half precision" in str(report)
    # The model that was given keeps its own precision.
    assert mixed.get_layer("decoder").compute_dtype == "bfloat16"


def test_model_that_cannot_be_rebuilt_is_an_error_with_a_way_out(dtype_policy):
    class Unregistered(keras.layers.Layer):
        def __init__(self, needed, **kwargs):
            super().__init__(**kwargs)
            self.needed = needed

        def call(self, x):
            return x

    dtype_policy("mixed_bfloat16")
    image = keras.Input((None, None, 3))
    with pytest.raises(SegzooError, match="give a function that builds it"):
        in_float32(keras.Model(image, Unregistered(1)(keras.layers.Conv2D(2, 1)(image))))
