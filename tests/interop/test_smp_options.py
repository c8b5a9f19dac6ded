"""Every key of a configuration of segmentation_models.pytorch is an option here, or is refused with the reason."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segzoo.errors import WeightsError
from segzoo.interop.backbones.table import source_of
from segzoo.interop.smp_architectures import ARCHITECTURES
from segzoo.interop.smp_options import architecture_of, pixels_of, settings_of

sys.path.insert(0, str(Path(__file__).parents[1] / "smp_golden"))

import golden

RESNET18, B0, B4, VGG16 = map(source_of, ("smp/resnet18", "smp/efficientnet-b0", "smp/efficientnet-b4", "smp/vgg16"))


def settings(case: str, without: tuple[str, ...] = (), **changes: Any) -> dict[str, Any]:
    """The section that a golden case becomes with a changed configuration."""
    tensors, config = golden.shapes(case), golden.configuration(case)
    config = {key: value for key, value in {**config, **changes}.items() if key not in without}
    found, assumed = settings_of(architecture_of(tensors, config, "x"), tensors, config, "x")
    assert assumed == {}
    return found


CONVERTED = [
    ("unet", {}, {"options": {"depth": 5, "channels": [32, 24, 16, 16, 16]}}),
    ("unet", {"decoder_interpolation": "bilinear"}, {"options.upsampling": "bilinear"}),
    ("unet", {"decoder_interpolation": "nearest-exact"}, {"options.upsampling": "nearest"}),
    ("unet", {"decoder_use_norm": {"type": "batchnorm", "eps": 0.01}}, {"options.epsilon": 0.01}),
    ("unet", {"decoder_use_norm": True, "encoder_weights": "imagenet"}, {"options": {"depth": 5}}),
    ("unet", {"decoder_use_norm": {"type": "batchnorm", "momentum": 0.01}}, {"options": {"depth": 5}}),
    ("unet", {"decoder_use_batchnorm": True, "activation": "identity"}, {"options": {"depth": 5}}),
    ("unet_depth_4", {}, {"options.normalization": "none", "options.depth": 4}),
    ("unet_depth_4", {"decoder_use_norm": False}, {"options.normalization": "none"}),
    ("unet_options", {}, {"options.attention": "scse", "options.upsampling": "bilinear", "options.epsilon": 0.01}),
    (
        "unetplusplus",
        {"decoder_interpolation": "bilinear"},
        {"options.upsampling": "bilinear", "options.attention": "scse"},
    ),
    ("manet", {}, {"options.attention_channels": 8}),
    ("linknet", {"decoder_use_norm": {"type": "batchnorm", "eps": 1e-3}}, {"options": {"depth": 5, "epsilon": 1e-3}}),
    ("fpn", {"decoder_dropout": 0.0}, {"options.dropout": 0.0, "options.merge": "add"}),
    (
        "fpn_options",
        {},
        {"options.merge": "concat", "options.segmentation_channels": 32, "options.upsampling": "bilinear"},
    ),
    ("pspnet", {"psp_dropout": 0.5}, {"output_stride": 32, "options.depth": 3, "options.dropout": 0.5}),
    ("pspnet", {"psp_use_batchnorm": True, "upsampling": 8}, {"options.channels": 32}),
    ("pan", {}, {"output_stride": 16, "options": {"channels": 32}}),
    ("pan", {"encoder_output_stride": 32}, {"output_stride": 32}),
    ("pan", {"upscale_mode": "nearest"}, {"options.upsampling": "nearest"}),
    ("deeplabv3", {}, {"output_stride": 8, "options.rates": [12, 24, 36]}),
    ("deeplabv3", {"encoder_output_stride": 16, "upsampling": 16}, {"output_stride": 16}),
    ("deeplabv3", {"encoder_depth": 3}, {"output_stride": 32, "options.depth": 3}),
    ("deeplabv3", {"decoder_atrous_rates": [6, 12, 18]}, {"options.rates": [6, 12, 18]}),
    ("deeplabv3plus", {"decoder_aspp_dropout": 0.1}, {"output_stride": 16, "options.dropout": 0.1}),
    ("deeplabv3plus_options", {}, {"output_stride": 8, "options.rates": [2, 4, 6], "options.aspp_separable": False}),
    ("upernet", {}, {"options": {"depth": 5, "channels": 24}}),
    ("segformer", {}, {"options": {"depth": 5, "channels": 24}}),
]


@pytest.mark.parametrize(("case", "changes", "expected"), CONVERTED)
def test_a_key_becomes_an_option(case: str, changes: dict, expected: dict) -> None:
    found = settings(case, **changes)
    for key, value in expected.items():
        if key == "options":
            assert value.items() <= found["options"].items()
            # What is not said is an option of `compat: smp` already.
            assert set(found["options"]) - set(value) <= {"channels"}
        elif key.startswith("options."):
            assert found["options"][key.removeprefix("options.")] == value
        else:
            assert found[key] == value


REFUSED = [
    ("unet", {"_center": True}, "the key _center of its configuration is not known of a Unet"),
    ("unet", {"_x": 1}, "the key _x of its configuration is not known of a Unet"),
    ("unet", {"decoder_foo": 1}, "the key decoder_foo of its configuration is not known of a Unet"),
    ("unet", {"activation": "sigmoid"}, "activation sigmoid is an activation after the logits"),
    ("unet", {"aux_params": {"classes": 4}}, "aux_params .* is a classification head, which is not converted"),
    ("unet", {"classes": 4}, "classes is 4 in its configuration, but its tensors are of 3"),
    ("unet", {"in_channels": 1}, "in_channels is 1 in its configuration, but its tensors are of 3"),
    ("unet", {"encoder_depth": 4}, "encoder_depth is 4 in its configuration, but its tensors are of 5"),
    ("unet", {"encoder_depth": 5.0}, "encoder_depth 5.0 must be 5 or 4 or 3"),
    ("unet", {"encoder_depth": "5"}, "encoder_depth 5 must be 5 or 4 or 3"),
    (
        "unet",
        {"decoder_channels": [8, 8]},
        r"decoder_channels is \[8, 8\] in its configuration, but its tensors are of",
    ),
    ("unet", {"decoder_channels": 8}, "decoder_channels 8 must be a list of whole numbers"),
    ("unet", {"decoder_channels": ["a"]}, "decoder_channels .* must be a whole number of 1 or more"),
    (
        "unet",
        {"decoder_interpolation": "bicubic"},
        "decoder_interpolation bicubic has no counterpart here; these",
    ),
    ("unet", {"decoder_interpolation": ["nearest"]}, "decoder_interpolation .* has no counterpart here"),
    (
        "unet",
        {"decoder_attention_type": "cbam"},
        "decoder_attention_type cbam has no counterpart here; these have: null",
    ),
    ("unet", {"decoder_use_norm": "layernorm"}, "decoder_use_norm layernorm has no counterpart here"),
    (
        "unet",
        {"decoder_use_norm": {"type": "batchnorm", "affine": False}},
        "decoder_use_norm .* has no counterpart here",
    ),
    ("unet", {"decoder_use_norm": {"type": "batchnorm", "eps": 0}}, "has an eps that is no number above 0"),
    ("unet", {"decoder_use_norm": []}, "decoder_use_norm .* has no counterpart here"),
    ("unet_depth_4", {"decoder_use_norm": "batchnorm"}, "decoder_use_norm is batchnorm .* tensors are of identity"),
    ("fpn", {"encoder_depth": 4}, "encoder_depth 4 must be 5, because at another depth its logits are larger"),
    ("fpn", {"upsampling": 2}, "upsampling 2 gives logits of another size than the image's, which takes 4"),
    (
        "fpn",
        {"decoder_merge_policy": "cat"},
        "decoder_merge_policy is cat .* its tensors are of add",
    ),
    ("fpn", {"decoder_segmentation_channels": 64}, "decoder_segmentation_channels is 64 .* tensors are of 96"),
    ("fpn", {"decoder_dropout": 1.5}, "decoder_dropout 1.5 must be a number from 0 to below 1"),
    ("pspnet", {"upsampling": 4}, "upsampling 4 gives logits of another size .* takes 8"),
    ("pan", {"encoder_output_stride": 8}, "encoder_output_stride 8 must be 16 or 32"),
    ("pan", {"decoder_interpolation": "bicubic"}, "decoder_interpolation bicubic has no counterpart"),
    ("deeplabv3", {"encoder_depth": 4}, "encoder_depth 4 with encoder_output_stride 8 has no counterpart"),
    ("deeplabv3", {"decoder_atrous_rates": [6, 6, 6]}, "decoder_atrous_rates .* must be different numbers"),
    ("deeplabv3", {"decoder_atrous_rates": [6, 12]}, "decoder_atrous_rates .* must be a list of 3 numbers"),
    ("deeplabv3", {"decoder_aspp_separable": True}, "decoder_aspp_separable is true .* tensors are of false"),
    ("upernet", {"decoder_use_norm": "identity"}, "decoder_use_norm identity has no counterpart here but batchnorm"),
    ("linknet", {"decoder_channels": [1]}, "the key decoder_channels of its configuration is not known of a Linknet"),
]


@pytest.mark.parametrize(("case", "changes", "words"), REFUSED)
def test_what_has_no_counterpart_is_refused_by_name(case: str, changes: dict, words: str) -> None:
    with pytest.raises(WeightsError, match=words) as error:
        settings(case, **changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("weights", [None, "imagenet", "ssl", "swsl", "instagram", "noisy-student"])
@pytest.mark.parametrize("encoder", ["resnet18", "efficientnet-b0"])
def test_weights_for_pixels_as_imagenets_say_nothing(encoder: str, weights: str | None) -> None:
    assert pixels_of(encoder, source_of(f"smp/{encoder}"), {"encoder_weights": weights}, 3, "x") == ({}, {}, "")
    assert pixels_of(encoder, source_of(f"smp/{encoder}"), {}, 3, "x") == ({}, {}, "")


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_advprop_is_for_pixels_from_minus_one_to_one(channels: int) -> None:
    middle = [127.5] * channels
    assert pixels_of("efficientnet-b4", B4, {"encoder_weights": "advprop"}, channels, "x") == (
        {"mean": middle, "std": middle},
        {},
        "",
    )


def test_weights_that_are_not_known_are_said_and_those_of_other_networks_refused() -> None:
    section, assumed, note = pixels_of("resnet18", RESNET18, {"encoder_weights": "mine"}, 3, "x")
    assert (section, assumed) == ({}, {}) and "encoder_weights mine are not known here" in note
    assert pixels_of("efficientnet-b0", B0, None, 3, "x") == ({}, {"encoder_weights": "imagenet"}, "")
    assert pixels_of("resnet18", RESNET18, None, 3, "x") == ({}, {}, "")
    section, *_ = pixels_of("vgg16", VGG16, None, 4, "x")  # whose backbone has the pixels of Keras's weights
    assert section == {"mean": [123.675, 116.28, 103.53, 123.675], "std": [58.395, 57.12, 57.375, 58.395]}
    for encoder, weights in (("resnet18", "advprop"), ("efficientnet-b0", 3), ("resnet18", True), ("resnet18", [])):
        with pytest.raises(WeightsError, match=r"^x: encoder_weights .* has no counterpart here for the encoder"):
            pixels_of(encoder, source_of(f"smp/{encoder}"), {"encoder_weights": weights}, 3, "x")


@pytest.mark.parametrize("case", golden.CASES)
@pytest.mark.parametrize("value", [None, 0, -1, 10**30, 1.5, "word", [], [[]], {}, {"a": 1}, True])
def test_a_value_of_any_type_is_taken_or_refused(case: str, value: Any) -> None:
    tensors, config = golden.shapes(case), golden.configuration(case)
    architecture = architecture_of(tensors, config, "x")
    for key in (*architecture.keys, "encoder_depth", "encoder_output_stride", "upsampling", "classes", "aux_params"):
        try:
            settings_of(architecture, tensors, {**config, key: value}, "x")
        except WeightsError as error:
            assert key in str(error)


def test_what_neither_tensors_nor_a_configuration_say_is_told() -> None:
    tensors = golden.shapes("deeplabv3plus_options")
    found, assumed = settings_of(architecture_of(tensors, None, "x"), tensors, None, "x")
    assert assumed == {
        "encoder_depth": 5,
        "encoder_output_stride": 16,
        "decoder_atrous_rates": [12, 24, 36],
        "decoder_aspp_dropout": 0.5,
    }
    assert found["options"]["aspp_separable"] is False


def test_a_classification_head_is_refused() -> None:
    config = golden.configuration("linknet")
    tensors = {**golden.shapes("linknet"), "classification_head.3.weight": np.zeros((3, 512), "float32")}
    with pytest.raises(WeightsError, match="holds a classification head"):
        settings_of(architecture_of(tensors, config, "x"), tensors, config, "x")


@pytest.mark.peers
@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda architecture: architecture.name)
def test_every_argument_of_the_original_is_known(architecture: Any) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    arguments = inspect.signature(getattr(smp, architecture.name).__init__).parameters
    case = next(case for case, (name, *_) in golden.CASES.items() if name == architecture.name)
    tensors, config = golden.shapes(case), golden.configuration(case)
    for name, argument in arguments.items():
        if argument.default is not argument.empty and name not in config:
            default = list(argument.default) if isinstance(argument.default, tuple) else argument.default
            try:
                settings_of(architecture, tensors, {**config, name: default}, "x")
            except WeightsError as error:  # the golden networks are narrower than the default
                assert "is not known" not in str(error)
