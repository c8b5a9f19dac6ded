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
from keras.src.applications import efficientnet, efficientnet_v2
from keras.src.legacy.saving import legacy_h5_format

from segzoo import backbones
from segzoo.backbones import BACKBONES
from segzoo.errors import WeightsError

pytestmark = pytest.mark.usefixtures("zero_weights")
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@pytest.fixture(scope="module")
def published(shake, tmp_path_factory) -> Callable[[str], Path]:
    """Write a weight file as keras.applications publishes them: legacy HDF5, without the top, with normalisation."""

    @functools.cache
    def published(name: str) -> Path:
        ours = shake(backbones.create(name, weights="none"))
        model = getattr(keras.applications, BACKBONES[name].constructor)(include_top=False, weights=None)
        for layer in model.layers:
            if layer.name in {layer.name for layer in ours.layers}:
                layer.set_weights(ours.get_layer(layer.name).get_weights())
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


@pytest.fixture
def download(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path | Exception], None]:
    """Let the download of weights return this file, or fail with this error."""

    def download(result: Path | Exception) -> None:
        def get_file(*args, **kwargs):
            if isinstance(result, Exception):
                raise result
            return str(result)

        for module in (efficientnet, efficientnet_v2):
            monkeypatch.setattr(module.file_utils, "get_file", get_file)

    return download


@pytest.mark.parametrize("name", ["efficientnet_b0", "efficientnetv2_b0"])
def test_imagenet_weights_and_pixels_equal_keras_applications(name: str, published, download, pixels) -> None:
    download(published(name))
    ours = backbones.create(name, weights="imagenet")
    theirs = getattr(keras.applications, BACKBONES[name].constructor)(include_top=False, weights="imagenet")
    images = pixels(64, 64)

    first = next(layer for layer in theirs.layers if layer.name.startswith("stem_conv"))
    np.testing.assert_allclose(
        ours.get_layer("preprocessing")(images), keras.Model(theirs.input, first.input)(images), atol=1e-5
    )
    taps = {tap.level: tap.layer for tap in backbones.taps(name) if tap.level}
    expected = keras.Model(theirs.input, {level: theirs.get_layer(layer).output for level, layer in taps.items()})
    features, expected = ours(images, training=False), expected(images, training=False)
    for level, feature in features.items():
        values = np.asarray(feature)
        assert values.std() > 0.01, level
        np.testing.assert_allclose(values, expected[level], atol=1e-4 * max(1.0, np.abs(values).max()), err_msg=level)
    assert ours.weights_report.source == "imagenet"
    assert sorted(ours.weights_report.loaded) == sorted(weight.path for weight in ours.weights)


def test_v2_s_pixels_equal_keras_applications(pixels) -> None:
    """S, M and L want -1..1, unlike the B variants; nothing of it is in their weight file."""
    ours = backbones.create("efficientnetv2_s", weights="none", levels=("P1",))
    theirs = keras.applications.EfficientNetV2S(include_top=False, weights=None)
    before_stem = keras.Model(theirs.input, theirs.get_layer("stem_conv").input)
    images = pixels(33, 47)
    np.testing.assert_allclose(ours.get_layer("preprocessing")(images), before_stem(images), atol=1e-5)
    assert {BACKBONES[f"efficientnetv2_{size}"].pixels for size in "sml"} == {BACKBONES["efficientnetv2_s"].pixels}


def test_a_published_file_with_another_normalization_is_refused(published, download, tmp_path: Path) -> None:
    """Were the file repaired to hold true variances, pixels would be divided by another number."""
    repaired = Path(shutil.copy(published("efficientnet_b0"), tmp_path))
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
        backbones.create("efficientnet_b0", weights="auto")


def test_half_precision_takes_imagenet_weights(published, download, dtype_policy) -> None:
    """The pixel check must not mistake rounding to half precision for another preprocessing."""
    download(published("efficientnet_b0"))
    dtype_policy("mixed_bfloat16")
    model = backbones.create("efficientnet_b0", weights="imagenet", levels=("P2",))
    assert model.weights_report.source == "imagenet"


def test_auto_without_network_warns_and_goes_on(download, pixels) -> None:
    download(Exception("URL fetch failure on https://storage.googleapis.com/x.h5: None -- name resolution"))
    with pytest.warns(UserWarning, match=r"ImageNet weights of efficientnet_b0 could not be reached.*name resolution"):
        model = backbones.create("efficientnet_b0", weights="auto", levels=("P2",))
    report = model.weights_report
    assert report.source == "none"
    assert report.loaded == []
    assert "random" in str(report)
    assert np.isfinite(np.asarray(model(pixels(32, 32))["P2"])).all()


def test_imagenet_without_network_fails_and_names_the_cure(download) -> None:
    download(Exception("URL fetch failure on https://storage.googleapis.com/x.h5: None -- name resolution"))
    with pytest.raises(WeightsError, match=r"efficientnetv2_b0.*name resolution.*~/\.keras/models.*weights: none"):
        backbones.create("efficientnetv2_b0", weights="imagenet", levels=("P2",))


def test_none_asks_nobody(download) -> None:
    download(AssertionError("weights: none must not touch the network"))
    model = backbones.create("efficientnetv2_b0", weights="none", levels=("P1",))
    assert model.weights_report.source == "none"
    assert "as asked for" in str(model.weights_report)
