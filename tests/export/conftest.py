import importlib.util

import keras
import pytest

from segzoo.layers import ConvBlock, ResizeTo


@keras.saving.register_keras_serializable("segzoo_tests")
class Halve(keras.layers.Layer):
    """A strided convolution in a named sub-layer, as decoders have them."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = keras.layers.Conv2D(8, 3, strides=2, padding="same", dtype=self.dtype_policy, name="conv")

    def build(self, shape):
        self.conv.build(shape)
        self.built = True

    def call(self, x):
        return self.conv(x)

    def compute_output_shape(self, shape):
        return self.conv.compute_output_shape(shape)


def small_model(classes: int = 3, name: str = "small") -> keras.Model:
    """Strides, batch normalisation and both kinds of resizing, in a network that converts within seconds."""
    keras.utils.set_random_seed(0)
    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.Rescaling(1 / 64, -2, name="scale")(image)
    x = skip = Halve(name="halve")(x)
    x = ConvBlock(8, activation="swish", name="block")(keras.layers.AveragePooling2D(3, 2, "same", name="pool")(x))
    x = ResizeTo("nearest", name="up")(x, skip)
    x = keras.layers.Conv2D(classes, 3, padding="same", name="logits")(x)
    return keras.Model(image, ResizeTo("bilinear", dtype="float32", name="full")(x, image), name=name)


@pytest.fixture(scope="session")
def model() -> keras.Model:
    return small_model()


@pytest.fixture
def builder():
    return small_model


def needs(*packages: str) -> None:
    """Skip a test unless these packages are there."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f'{package} is not installed: pip install "keras-segzoo[export]"')


@pytest.fixture
def require():
    return needs
