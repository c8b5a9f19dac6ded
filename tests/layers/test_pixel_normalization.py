"""PixelNormalization: constants that are part of the graph and of no weight file."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from segzoo.layers import PixelNormalization

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    images = keras.Input((None, None, 3))
    return keras.Model(images, PixelNormalization(1 / 255, MEAN, STD, name="preprocessing")(images))


def test_values_by_numpy(model: keras.Model, pixels) -> None:
    images = pixels(5, 7)
    expected = (images.astype("float64") / 255 - MEAN) / STD
    np.testing.assert_allclose(model(images), expected, atol=1e-6)
    assert model.weights == []


def test_uint8_pixels_are_not_wrapped() -> None:
    layer = PixelNormalization(1.0, (128.0,), (1.0,))
    np.testing.assert_array_equal(np.ravel(layer(np.array([[[[0], [255]]]], "uint8"))), [-128, 127])


def test_half_precision_rounds_only_the_result(pixels, dtype_policy) -> None:
    """Keras casts a layer's inputs to half precision first, where a pixel of 200.4 is 200 in bfloat16."""
    images = pixels(16, 16)
    full = keras.ops.cast(PixelNormalization(1 / 255, MEAN, STD)(images), "bfloat16")
    dtype_policy("mixed_bfloat16")
    inputs = keras.Input((None, None, 3))
    layer = PixelNormalization(1 / 255, MEAN, STD)
    for half in (layer(images), keras.Model(inputs, layer(inputs))(images)):
        assert keras.backend.standardize_dtype(half.dtype) == "bfloat16"
        np.testing.assert_array_equal(*(keras.ops.convert_to_numpy(keras.ops.cast(x, "float32")) for x in (half, full)))


def test_keras_file_round_trip(model: keras.Model, pixels, tmp_path: Path, loaded_elsewhere) -> None:
    model.save(tmp_path / "model.keras")
    again = loaded_elsewhere(tmp_path / "model.keras", pixels(5, 7))
    np.testing.assert_array_equal(again.output, model(pixels(5, 7)))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a SavedModel is TensorFlow's")
def test_saved_model_round_trip(model: keras.Model, pixels, tmp_path: Path) -> None:
    import tensorflow as tf

    model.export(tmp_path / "saved", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "saved"))
    assert len(served.signatures["serving_default"].structured_input_signature[1]) == 1  # the image, no constant
    np.testing.assert_allclose(served.serve(pixels(5, 7)), model(pixels(5, 7)), atol=1e-6)


def test_unequal_lengths_are_an_error() -> None:
    with pytest.raises(ValueError, match="mean has 3 channels and std 1"):
        PixelNormalization(1.0, (0, 0, 0), (1,))
