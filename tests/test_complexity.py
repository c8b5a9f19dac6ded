"""GFLOPs against hand counts and against those published for segmentation_models.pytorch."""

from __future__ import annotations

import keras
import pytest

import segzoo
from segzoo.complexity import gflops

pytestmark = [
    pytest.mark.usefixtures("zero_weights"),
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="counted in TensorFlow's graph"),
]


def count(*layers: keras.layers.Layer) -> float:
    """Multiply-adds of layers in a row on an image of 10 x 20."""
    images = x = keras.Input((None, None, 3))
    for layer in layers:
        x = layer(x)
    return gflops(keras.Model(images, x), (10, 20)) * 1e9 / 2


def test_counts_by_hand() -> None:
    assert count(keras.layers.Conv2D(5, 3, padding="same")) == 10 * 20 * 9 * 3 * 5
    assert count(keras.layers.Conv2D(5, 3, 2, padding="same")) == 5 * 10 * 9 * 3 * 5
    assert count(keras.layers.DepthwiseConv2D(3, padding="same")) == 10 * 20 * 9 * 3
    assert count(keras.layers.Conv2DTranspose(5, 2, 2)) == 10 * 20 * 4 * 3 * 5
    assert count(keras.layers.Dense(7)) == 10 * 20 * 3 * 7
    assert count(keras.layers.MaxPooling2D(2), keras.layers.Conv2D(4, 1)) == 5 * 10 * 3 * 4


@pytest.mark.parametrize(
    ("decoder", "published"),
    [
        pytest.param("unet", 7.63, marks=pytest.mark.zoo),
        pytest.param("fpn", 6.45, marks=pytest.mark.zoo),
        pytest.param("deeplabv3plus", 5.93, marks=pytest.mark.zoo),
    ],
)
def test_whole_models_equal_those_of_smp(decoder: str, published: float) -> None:
    """EfficientNet-B3 at 256x256, one class; within the rounding of the published figures and SMP's pooled branches.

    (tests/backbones/test_taps.py counts a whole backbone by default.)
    """
    model = segzoo.build_model(decoder, "efficientnet_b3", 1, taps="output", weights="none")
    assert gflops(model, (256, 256)) == pytest.approx(published, rel=0.02)
