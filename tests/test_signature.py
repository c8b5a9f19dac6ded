"""Weights go into the network that they were made for, or into none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import pytest
from networks import small_backbone

from segzoo import backbones, build_model
from segzoo.errors import WeightsError
from segzoo.keras_compat import without_variables
from segzoo.signature import _TRANSPARENT, OPTIONS, digests
from segzoo.weights import WeightsWarning, load_file, save_file

pytestmark = pytest.mark.usefixtures("one_structure", "zero_weights", "no_trial")
# Options of Keras's layers that leave the logits of a trained network as they are.
_HARMLESS = {
    "name", "trainable", "dtype", "momentum", "synchronized", "renorm", "renorm_clipping", "renorm_momentum", "rate",
    "seed", "noise_shape", "quantization_config", "batch_shape", "sparse", "ragged", "optional", "data_format",
    "initial",
}  # fmt: skip


def described(model: keras.Model) -> dict[str, str]:
    return digests(model.get_config(), {layer.name for layer in model.layers if layer.weights})


@pytest.mark.parametrize(
    "name",
    [
        "convnext_tiny",
        "xception",
        "mobilenetv3_small",
        *(pytest.param(name, marks=pytest.mark.nightly) for name in ("efficientnet_b0", "resnet18", "resnet50v2")),
    ],
)
def test_every_option_of_a_layer_is_covered_or_harmless(name: str) -> None:
    with without_variables():
        config = backbones.create(name, weights="none", levels=("P3",), output_stride=8).get_config()
    odd = {
        (layer["class_name"], key)
        for layer in config["layers"]
        for key in layer["config"]
        if not key.endswith(("_initializer", "_regularizer", "_constraint")) and key not in OPTIONS | _HARMLESS
    }
    assert not odd


@pytest.mark.parametrize("name", ["efficientnet_b0", "convnext_tiny", "mobilenetv3_small"])
def test_activations_with_a_lighter_gradient_are_those_of_keras(name: str) -> None:
    """Weights that were signed when the networks had Keras's own fit as before."""
    model = backbones.create(name, weights="none", levels=("P3",))
    config, weighted = model.get_config(), {layer.name for layer in model.layers if layer.weights}
    found = digests(config, weighted)
    lighter = [layer for layer in config["layers"] if isinstance(layer["config"].get("activation"), dict)]
    assert lighter
    for layer in lighter:
        layer["config"]["activation"] = layer["config"]["activation"]["config"].removeprefix("segzoo>light_")
        assert keras.activations.get(layer["config"]["activation"])
    assert digests(config, weighted) == found


def test_what_does_not_change_logits_changes_no_digest() -> None:
    first = described(backbones.create("resnet18", weights="none", levels=("P3",)))
    other = backbones.create("resnet18", weights="none", levels=("P2", "P4"), drop_path=0.0, batch_norm="frozen")
    shared = first.keys() & described(other).keys()
    assert len(shared) == len(first) >= 20
    assert all(described(other)[name] == first[name] for name in shared)
    with_drops = backbones.create("efficientnet_b0", weights="none", levels=("P3",), taps="output", drop_path=0.5)
    without = backbones.create("efficientnet_b0", weights="none", levels=("P3",), taps="output", drop_path=0.0)
    assert any(layer["class_name"] in _TRANSPARENT for layer in with_drops.get_config()["layers"])
    assert described(with_drops) == described(without)


def plain(padding: str = "same", epsilon: float = 1e-3, between: str = "relu", dilation: int = 1) -> keras.Model:
    x = images = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", name="first")(x)
    x = keras.layers.Activation(between)(x)
    x = keras.layers.Conv2D(4, 3, padding=padding, dilation_rate=dilation, name="second")(x)
    x = keras.layers.BatchNormalization(epsilon=epsilon, name="norm")(x)
    return keras.Model(images, x, name="plain")


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"padding": "valid"}, {"second"}),
        ({"dilation": 2}, {"second"}),
        ({"between": "swish"}, {"second"}),
        ({"epsilon": 1e-5}, {"norm"}),
    ],
)
def test_what_changes_logits_changes_the_digest_of_the_layer(change, names, tmp_path: Path) -> None:
    before, after = described(plain()), described(plain(**change))
    assert {name for name in before if before[name] != after[name]} == names
    save_file(plain(), tmp_path / "plain.weights.h5")
    with pytest.raises(WeightsError, match=rf"computes something else: 1 layers differ.*first {names.pop()}"):
        load_file(plain(**change), tmp_path / "plain.weights.h5")
    plain().save(tmp_path / "plain.keras")
    with pytest.raises(WeightsError, match="computes something else"):
        load_file(plain(**change), tmp_path / "plain.keras")
    assert not load_file(plain(), tmp_path / "plain.keras").missing


def test_another_output_stride_is_said_and_other_padding_refused(tmp_path: Path) -> None:
    path = tmp_path / "resnet.weights.h5"
    save_file(build_model("fpn", "resnet18", 2, weights="none", pyramid_channels=8, segmentation_channels=8), path)
    with pytest.warns(WeightsWarning, match="output_stride 32 there and 16 here.*set model.output_stride: 32"):
        report = load_file(build_model("deeplabv3plus", "resnet18", 2, weights="none", channels=8), path)
    assert "made at another output stride" in report.note
    dilated = {"weights": "none", "levels": ("P1", "P3"), "output_stride": 8}
    save_file(backbones.create("resnet18", **dilated), path)
    with pytest.raises(WeightsError, match="compat None there and 'smp' here"):
        load_file(backbones.create("resnet18", **dilated, compat="smp"), path)


def test_options_of_a_decoder_are_kept_with_its_weights(tmp_path: Path) -> None:
    def unet(**options: Any) -> keras.Model:
        return build_model("unet", small_backbone(), 2, **{"depth": 3, "channels": [4, 4, 4], **options})

    path, nearest, bilinear = tmp_path / "unet.weights.h5", unet(upsampling="nearest"), unet(upsampling="bilinear")
    for save in (save_file, lambda network, place: network.save_weights(place)):  # Keras's own way keeps them, too
        save(nearest, path)
        assert not load_file(nearest, path).missing
        with pytest.raises(
            WeightsError, match=r"upsampling: 'nearest' there and 'bilinear' here.*upsampling: 'nearest' \("
        ):
            load_file(bilinear, path)
        with pytest.raises(Exception, match="upsampling: 'nearest' there and 'bilinear' here"):
            bilinear.load_weights(path)
    # A start for another decoder, listed tensor by tensor.
    report = load_file(unet(channels=[8, 4, 4]), path)
    assert any(line.startswith("decoder/") for line in report.skipped)
