"""Preprocessing and ImageNet weights, by the real loading path with a download that the tests make themselves."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format
from keras.src.utils import file_utils

from segzoo import backbones
from segzoo.backbones import BACKBONES, reference
from segzoo.errors import SegzooError, WeightsError

pytestmark = pytest.mark.usefixtures("zero_weights")
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@pytest.fixture(scope="module")
def published(built, tmp_path_factory) -> Callable[..., Path]:
    """Write a weight file as keras.applications publishes them: legacy HDF5, without the top, with normalisation.

    Layers that none of `levels` needs are of zeros.
    """

    @functools.cache
    def published(name: str, levels: tuple[str, ...] | None = None) -> Path:
        variant = BACKBONES[name]
        ours = built(name, levels)
        model = reference.build(variant)
        names = reference.names(model)
        for layer in reference.flat(model):
            if names[id(layer)] in {layer.name for layer in ours.layers}:
                twin = ours.get_layer(names[id(layer)])
                values = twin.get_weights()
                if isinstance(twin, keras.layers.DepthwiseConv2D) and isinstance(layer, keras.layers.Conv2D):
                    values[0] = np.swapaxes(values[0], 2, 3)  # published as a convolution in groups
                if values and values[0].shape[2:3] == (3,) and variant.pixels.bgr:
                    values[0] = values[0][:, :, ::-1]
                if values:
                    layer.set_weights(values)
            elif isinstance(layer, keras.layers.Normalization) and layer.weights:
                # What the file calls variance is the standard deviation; the network's second Rescaling divides by
                # its root once more.
                layer.adapt_mean.assign(MEAN)
                layer.adapt_variance.assign(STD)
        path = tmp_path_factory.mktemp("published") / f"{name}_notop.h5"
        with h5py.File(path, "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, model)
        return path

    return published


@pytest.fixture(scope="module")
def read() -> dict[tuple, keras.Model]:
    """Reference networks with published weights, by their name and the file."""
    return {}


@pytest.fixture
def download(monkeypatch: pytest.MonkeyPatch, read: dict) -> Callable[[Path | Exception], None]:
    """Let the download of weights return this file, which is read once for all tests, or fail with this error."""
    build = reference.build

    def download(result: Path | Exception) -> None:
        def build_once(variant, weights=None, **options):
            key = (variant.name, weights, result, keras.config.dtype_policy().name)
            if weights is None:
                return build(variant, **options)
            if key not in read:
                read[key] = build(variant, weights, **options)
            return read[key]

        monkeypatch.setattr(reference, "build", build_once)

        def get_file(*args, **kwargs):
            if isinstance(result, Exception):
                raise result
            return str(result)

        monkeypatch.setattr(file_utils, "get_file", get_file)

    return download


FAMILIES = ["efficientnet_b0", "efficientnetv2_b0", "resnet50", "resnet50v2", "vgg16", "densenet121", "mobilenet"]
FAMILIES += ["mobilenetv2", "mobilenetv3_small", "convnext_tiny"]
# Their maps are not those of the reference, which pads nothing: the weights must be the file's all the same.
PADDED = ["xception", "inceptionv3", "nasnet_mobile"]
# Each way to prepare pixels: by the network and its file, by ImageNet's mean alone in BGR, to -1..1.
FEW = ("efficientnet_b0", "vgg16", "mobilenet")


@pytest.mark.parametrize(
    ("name", "count"),
    [
        *((name, 2) for name in FEW),
        *(pytest.param(name, 5, marks=pytest.mark.nightly) for name in FAMILIES),
    ],
)
def test_imagenet_weights_and_pixels_equal_keras_applications(
    name: str, count: int, published, download, pixels
) -> None:
    """In the default run on the first levels alone, of which there are `count`."""
    variant = BACKBONES[name]
    levels = tuple(variant.levels(None, 32))[:count]
    download(published(name, levels))
    ours = backbones.create(name, weights="imagenet", levels=levels)
    theirs = reference.build(variant, "imagenet")
    images = pixels(theirs.input.shape[1], theirs.input.shape[2])

    names = reference.names(theirs)
    operations = {names[id(operation)]: operation for operation in theirs.operations}
    taps = {tap.level: tap.layer for tap in backbones.taps(name) if tap.level in levels}
    expected = keras.Model(theirs.input, {level: operations[layer].output for level, layer in taps.items()})
    prepared = reference.preprocess(variant, images.copy())
    features, expected = ours(images, training=False), expected(prepared, training=False)
    for level, feature in features.items():
        values = np.asarray(feature)
        assert values.std() > 0.01, level
        np.testing.assert_allclose(values, expected[level], atol=1e-4 * max(1.0, np.abs(values).max()), err_msg=level)
    assert ours.weights_report.source == "imagenet"
    assert sorted(ours.weights_report.loaded) == sorted(weight.path for weight in ours.weights)
    assert ours.weights_report.reshaped == []


# Families whose networks begin with their preprocessing; the tests above and below compare them.
INSIDE = ("efficientnet", "efficientnet_v2", "mobilenet_v3", "convnext")


@pytest.mark.parametrize(
    "name", [name for name in BACKBONES if BACKBONES[name].published and not BACKBONES[name].package]
)
def test_pixels_are_those_of_the_family_s_own_function(name: str, pixels) -> None:
    images, variant = pixels(3, 5), BACKBONES[name]
    own = variant.pixels
    expected = images if variant.family in INSIDE else (images * own.scale - own.mean) / own.std
    expected = expected[..., ::-1] if own.bgr else expected
    np.testing.assert_allclose(reference.preprocess(variant, images.copy()), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["efficientnet_b0", pytest.param("efficientnetv2_b0", marks=pytest.mark.nightly)])
def test_prepared_pixels_equal_keras_applications_to_1e5(name: str, published, download, pixels) -> None:
    download(published(name, ("P1", "P2")))
    ours = backbones.create(name, weights="imagenet", levels=("P1",))
    theirs = reference.build(BACKBONES[name], "imagenet")
    images = pixels(256, 256)
    before_stem = keras.Model(theirs.input, theirs.get_layer("stem_conv").input)
    expected = np.asarray(before_stem(images))[:, :256, :256]  # V1 pads after preprocessing
    np.testing.assert_allclose(ours.get_layer("preprocessing")(images), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "levels"),
    [("xception", ("P1", "P2")), *(pytest.param(name, None, marks=pytest.mark.nightly) for name in PADDED)],
    ids=str,
)
def test_imagenet_weights_of_networks_that_are_padded_anew(
    name: str, levels: tuple[str, ...] | None, published, download
) -> None:
    download(published(name, levels))
    ours = backbones.create(name, weights="imagenet", levels=levels)
    assert sorted(ours.weights_report.loaded) == sorted(weight.path for weight in ours.weights)
    theirs = reference.build(BACKBONES[name], "imagenet")
    names = reference.names(theirs)
    published_weights = {names[id(layer)]: layer.get_weights() for layer in theirs.layers}
    for layer in ours.layers:
        for ours_value, value in zip(layer.get_weights(), published_weights.get(layer.name, []), strict=True):
            np.testing.assert_array_equal(ours_value, value)


def test_factors_of_batch_normalisation_are_one_where_published_weights_have_none(published, download, pixels) -> None:
    """The network of `compat: timm` computes with Keras's weights what Keras's network does."""
    download(published("inceptionresnetv2", ("P1",)))
    ours, theirs = (
        backbones.create("inceptionresnetv2", weights="imagenet", levels=("P1",), compat=compat)
        for compat in ("timm", None)
    )
    assert len(ours.weights) == len(theirs.weights) + 3
    image = pixels(32, 48)
    np.testing.assert_allclose(ours(image)["P1"], theirs(image)["P1"], atol=1e-5)


@pytest.mark.parametrize(
    "name", ["vgg16", *(pytest.param(name, marks=pytest.mark.nightly) for name in ("efficientnet_b0", "resnet50"))]
)
def test_other_channels_take_adapted_imagenet_weights(name: str, published, download, pixels) -> None:
    """A grey image gives the response that its RGB copy gives; more channels take the kernel's in turn."""
    download(published(name, ("P1", "P2")))
    options = {"weights": "imagenet", "levels": ("P1",), "mean": [100.0] * 3, "std": [50.0] * 3}
    colour = backbones.create(name, **options)
    grey = backbones.create(name, input_channels=1, **{**options, "mean": [100.0], "std": [50.0]})
    image = pixels(32, 48)[..., :1]
    repeated = np.repeat(image, 3, axis=-1)
    np.testing.assert_allclose(grey(image)["P1"], colour(repeated)["P1"], atol=1e-3)
    (reshaped,) = grey.weights_report.reshaped
    assert "to (" in reshaped

    five = backbones.create(name, input_channels=5, **{**options, "mean": [100.0] * 5, "std": [50.0] * 5})
    first = next(layer for layer in five.layers if isinstance(layer, keras.layers.Conv2D)).kernel
    kernel = next(layer for layer in colour.layers if isinstance(layer, keras.layers.Conv2D)).kernel
    np.testing.assert_allclose(first, np.asarray(kernel)[:, :, [0, 1, 2, 0, 1]] * 3 / 5, rtol=1e-6)


def test_default_normalization_of_other_channels() -> None:
    def config(channels: int, name: str = "resnet50v2", **options) -> dict:
        model = backbones.create(name, weights="none", levels=("P1",), input_channels=channels, **options)
        return model.get_layer("preprocessing").get_config()

    assert config(4, "densenet121")["mean"] == [0.485, 0.456, 0.406, 0.485]
    assert config(1, "densenet121")["mean"] == pytest.approx([(0.485 + 0.456 + 0.406) / 3])
    own = config(2, mean=[100, 2000], std=[10, 300])
    assert (own["scale"], own["mean"], own["std"]) == (1.0, [100.0, 2000.0], [10.0, 300.0])
    with pytest.raises(SegzooError, match="mean has 3 and std 2 numbers for images of 2 channels"):
        config(2, mean=[1, 2, 3], std=[1, 2])
    with pytest.raises(SegzooError, match="given together"):
        config(2, mean=[1, 2])
    with pytest.raises(SegzooError, match="above 0"):
        config(2, mean=[1, 2], std=[1, 0])


def test_v2_s_pixels_equal_keras_applications(pixels) -> None:
    """S, M and L want -1..1, unlike the B variants; nothing of it is in their weight file."""
    ours = backbones.create("efficientnetv2_s", weights="none", levels=("P1",))
    theirs = reference.structure(BACKBONES["efficientnetv2_s"])
    before_stem = reference.part(theirs, theirs.get_layer("stem_conv").input)
    images = pixels(256, 256)
    np.testing.assert_allclose(ours.get_layer("preprocessing")(images), before_stem(images), atol=1e-5)
    assert {BACKBONES[f"efficientnetv2_{size}"].pixels for size in "sml"} == {BACKBONES["efficientnetv2_s"].pixels}


def test_a_published_file_with_another_normalization_is_refused(published, download, tmp_path: Path) -> None:
    """Were the file repaired to hold true variances, pixels would be divided by another number."""
    repaired = Path(shutil.copy(published("efficientnet_b0", ("P1", "P2")), tmp_path))
    with h5py.File(repaired, "r+") as file:
        found = []
        file.visititems(
            lambda path, item: found.append(item) if path.endswith("variance") and item.shape == (3,) else None
        )
        (variance,) = found
        np.testing.assert_allclose(variance[...], STD)
        variance[...] = np.square(STD)
    download(repaired)
    with pytest.raises(WeightsError, match="efficientnet_b0 were made for other pixel values"):
        # "auto" forgives a missing network, not wrong weights.
        backbones.create("efficientnet_b0", weights="auto", levels=("P1",))


def test_half_precision_takes_imagenet_weights(published, download, dtype_policy) -> None:
    """The pixel check must not mistake rounding to half precision for another preprocessing."""
    download(published("efficientnet_b0", ("P1", "P2")))
    dtype_policy("mixed_bfloat16")
    model = backbones.create("efficientnet_b0", weights="imagenet", levels=("P2",))
    assert model.weights_report.source == "imagenet"


def test_auto_without_network_warns_and_goes_on(download, pixels) -> None:
    download(Exception("URL fetch failure on https://storage.googleapis.com/x.h5: None -- name resolution"))
    with pytest.warns(UserWarning, match=r"ImageNet weights of mobilenet could not be reached.*name resolution"):
        model = backbones.create("mobilenet", weights="auto", levels=("P2",))
    report = model.weights_report
    assert report.source == "none"
    assert report.loaded == []
    assert "random" in str(report)
    assert np.isfinite(np.asarray(model(pixels(32, 32))["P2"])).all()


def test_imagenet_without_network_fails_and_names_the_cure(download) -> None:
    download(Exception("URL fetch failure on https://storage.googleapis.com/x.h5: None -- name resolution"))
    with pytest.raises(WeightsError, match=r"mobilenet.*name resolution.*~/\.keras/models.*weights: none"):
        backbones.create("mobilenet", weights="imagenet", levels=("P2",))


def test_none_asks_nobody(download) -> None:
    download(AssertionError("weights: none must not touch the network"))
    model = backbones.create("mobilenet", weights="none", levels=("P1",))
    assert model.weights_report.source == "none"
    assert "as asked for" in str(model.weights_report)
