"""Checkpoints of segmentation_models.pytorch: beside the original (marker `peers`), and what is refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import segzoo
from segzoo.cli import main
from segzoo.errors import WeightsError
from segzoo.weights import save_file
from segzoo.workflows.conversion import convert, convert_tensors

sys.path.insert(0, str(Path(__file__).parent / "smp_golden"))

import golden

pytestmark = pytest.mark.usefixtures("one_structure", "zero_weights", "no_trial")

ARCHITECTURES = (
    "Unet",
    "UnetPlusPlus",
    "MAnet",
    "Linknet",
    "FPN",
    "PSPNet",
    "PAN",
    "DeepLabV3",
    "DeepLabV3Plus",
    "UPerNet",
    "Segformer",
)
ENCODERS = ("resnet18", "resnet50", "efficientnet-b0", "efficientnet-b4")
OTHER_ENCODERS = (
    "resnext50_32x4d",
    "se_resnet50",
    "se_resnext50_32x4d",
    "vgg16",
    "vgg16_bn",
    "densenet121",
    "mobilenet_v2",
    "mit_b0",
    "inceptionresnetv2",
    "tu-resnet18",
    "tu-resnext50_32x4d",
    "tu-legacy_seresnet50",
    "tu-seresnet18",
    "tu-seresnext50_32x4d",
    "timm-efficientnet-b0",
    "timm-tf_efficientnet_lite0",
    "tu-efficientnet_b0",
    "tu-tf_efficientnet_b1",
    "tu-tf_efficientnetv2_b0",
    "tu-efficientnet_lite0",
    "tu-mobilenetv2_100",
    "tu-mobilenetv3_large_100",
    "timm-mobilenetv3_small_100",
)
_HALVES = ("timm-tf_efficientnet_lite0", "timm-mobilenetv3_small_100", "inceptionresnetv2")  # their pixels are -1 to 1
# Sizes of images; U-Net takes any, PAN halves its last map three times, the others want multiples of their stride.
SIZES = {"Unet": [(96, 128), (45, 67), (97, 130)], "PAN": [(128, 160), (144, 192)], "DeepLabV3": [(80, 112)]}
OPTIONS = [
    ("Unet", {"decoder_interpolation": "nearest-exact"}, [(45, 67)]),
    ("UnetPlusPlus", {"decoder_interpolation": "bilinear", "encoder_depth": 3, "decoder_channels": [24, 16, 16]}, []),
    ("MAnet", {"decoder_interpolation": "bilinear", "decoder_use_norm": False}, []),
    ("Linknet", {"encoder_depth": 4, "decoder_use_norm": {"type": "batchnorm", "eps": 1e-2}}, []),
    ("FPN", {"in_channels": 5}, []),
    ("PSPNet", {"encoder_depth": 4, "upsampling": 16, "decoder_use_norm": "identity"}, []),
    ("PAN", {"encoder_output_stride": 32, "decoder_interpolation": "nearest"}, [(256, 288)]),
    ("PAN", {"encoder_depth": 4}, [(128, 160)]),
    ("PAN", {"encoder_depth": 3}, [(72, 104)]),
    ("DeepLabV3", {"encoder_output_stride": 16, "decoder_aspp_separable": True}, []),
    ("DeepLabV3", {"encoder_depth": 3}, [(72, 104)]),
    ("DeepLabV3Plus", {"encoder_depth": 4}, []),
    ("DeepLabV3Plus", {"encoder_depth": 3, "encoder_output_stride": 8}, [(72, 104)]),
    ("UPerNet", {"encoder_depth": 4}, [(80, 112)]),
    ("Segformer", {"encoder_depth": 3}, [(72, 104)]),
]


def configuration(architecture: str, encoder: str = "resnet18", **options: Any) -> dict[str, Any]:
    common = {"encoder_name": encoder, "encoder_weights": None, "classes": 3}
    return {**common, **options, "_model_class": architecture}


def assert_logits_agree(
    model: keras.Model, original: Any, size: tuple[int, int], allowed: float, halves: bool = False
) -> None:
    """Compare logits, in units of their deviation; the original's pixels are ImageNet's, or in `halves` -1 to 1."""
    import torch

    channels = model.input.shape[3]
    pixels = golden.images(size, 2, 9)[..., [channel % 3 for channel in range(channels)]]
    mean, std = ([values[channel % 3] for channel in range(channels)] for values in (golden.MEAN, golden.STD))
    if halves:
        mean = std = [0.5] * channels
    with torch.no_grad():
        prepared = torch.from_numpy(((pixels / 255 - mean) / std).transpose(0, 3, 1, 2).astype("float32"))
        expected = original(prepared).numpy().transpose(0, 2, 3, 1)
    logits = keras.ops.convert_to_numpy(model(pixels, training=False))
    assert expected.std() > 0.05
    assert np.abs(logits - expected).max() < allowed * expected.std()


@pytest.mark.peers
@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_agree(architecture: str, encoder: str, tmp_path: Path) -> None:
    original = golden.original(configuration(architecture, encoder))
    original.save_pretrained(tmp_path / "saved")
    found = convert(tmp_path / "saved")
    assert found.assumed == {}
    for size in SIZES.get(architecture, [(96, 128), (160, 64)]):
        assert_logits_agree(found.model, original, size, 1e-4 if encoder == "resnet18" else 1e-3)


@pytest.mark.peers
@pytest.mark.parametrize("encoder", OTHER_ENCODERS)
@pytest.mark.parametrize("architecture", ["Unet", "Linknet", "FPN", "UPerNet"])
def test_logits_of_other_encoders_agree(architecture: str, encoder: str, tmp_path: Path) -> None:
    if (architecture, encoder[:3]) == ("Linknet", "mit"):
        pytest.skip("the original refuses it")
    original = golden.original(configuration(architecture, encoder))
    original.save_pretrained(tmp_path / "saved")
    found = convert(tmp_path / "saved")
    for size in ((96, 128), (160, 64)):
        assert_logits_agree(found.model, original, size, 1e-3, encoder in _HALVES)


@pytest.mark.peers
@pytest.mark.parametrize("encoder", ["tu-resnet18", "tu-efficientnet_b0", "tu-tf_efficientnet_b0"])
@pytest.mark.parametrize("architecture", ["Unet", "PSPNet"])
def test_encoders_of_timm_round_as_timm_does(architecture: str, encoder: str, tmp_path: Path) -> None:
    """Compare U-Net at odd sizes, and PSPNet."""
    assert_that_of_timm_agrees(configuration(architecture, encoder), tmp_path)


# Their decoders with dilated encoders, and output strides that are not the default.
DILATED = [
    ("DeepLabV3", {}),
    ("DeepLabV3", {"encoder_output_stride": 16}),
    ("DeepLabV3Plus", {}),
    ("DeepLabV3Plus", {"encoder_output_stride": 8}),
    ("PAN", {}),
]


@pytest.mark.peers
@pytest.mark.parametrize(
    # timm's legacy networks cannot be dilated.
    "encoder",
    [name for name in OTHER_ENCODERS if name.startswith(("tu-", "timm-")) and "legacy" not in name],
)
@pytest.mark.parametrize(("architecture", "options"), DILATED)
def test_encoders_of_timm_dilate_as_the_originals(
    architecture: str, options: dict, encoder: str, tmp_path: Path
) -> None:
    """Compare dilated encoders, whose strided convolution timm leaves undilated, and SMP's copies of timm's do not."""
    compat = assert_that_of_timm_agrees(configuration(architecture, encoder, **options), tmp_path)
    assert (compat == "smp-timm") == encoder.startswith(("timm-efficientnet", "timm-tf_efficientnet"))


def assert_that_of_timm_agrees(config: dict[str, Any], folder: Path) -> str | None:
    """Compare a network with an encoder of timm with the original; returns the word of `compat`."""
    original = golden.original(config)
    original.save_pretrained(folder / "saved")
    found = convert(folder / "saved")
    assert found.settings["compat"] != "smp"
    for size in SIZES.get(config["_model_class"], [(96, 128), (160, 64)]):
        assert_logits_agree(found.model, original, size, 1e-3, config["encoder_name"] in _HALVES)
    return found.settings["compat"]


@pytest.mark.peers
@pytest.mark.parametrize(
    ("encoder", "readout", "sizes"),
    [
        ("tu-vit_tiny_patch16_224", "cat", ((64, 96),)),
        ("tu-vit_small_patch8_224", "ignore", ((64, 96),)),
        ("tu-vit_base_patch16_224", "cat", ((64, 96), (96, 160), (224, 224))),
        ("tu-vit_base_patch32_384", "add", ((64, 128),)),
        ("tu-vit_large_patch16_384", "ignore", ((64, 96),)),
    ],
)
def test_logits_of_dpt_agree(encoder: str, readout: str, sizes: Sequence[tuple[int, int]], tmp_path: Path) -> None:
    options = {"decoder_readout": readout, "dynamic_img_size": True}
    original = golden.original(configuration("DPT", encoder, **options))
    original.save_pretrained(tmp_path / "saved")
    found = convert(tmp_path / "saved")
    for size in sizes:
        assert_logits_agree(found.model, original, size, 1e-3, halves=True)


@pytest.mark.peers
def test_a_cut_encoder_under_the_name_of_a_deeper_one_is_refused() -> None:
    """Refuse a cut encoder under the name of a deeper one."""
    cut = golden.original(configuration("PSPNet", "tu-resnet18"))
    tensors = {name: value.numpy() for name, value in cut.state_dict().items()}
    with pytest.raises(WeightsError, match=r"lacks the tensor encoder\.model\.layer2\.2|does not hold the encoder"):
        convert_tensors(tensors, configuration("PSPNet", "tu-resnet34"))


@pytest.mark.peers
@pytest.mark.parametrize(("architecture", "options", "sizes"), OPTIONS)
def test_logits_agree_with_options(architecture: str, options: dict, sizes: list, tmp_path: Path) -> None:
    config = configuration(architecture, **options)
    if config.get("in_channels", 3) == 3:
        original = golden.original(config, side=256 if (256, 288) in sizes else 128)
    else:
        import segmentation_models_pytorch as smp

        original = getattr(smp, config["_model_class"])(**{k: v for k, v in config.items() if k[0] != "_"}).eval()
    original.save_pretrained(tmp_path / "saved")
    found = convert(tmp_path / "saved")
    for size in sizes or [(96, 128)]:
        assert_logits_agree(found.model, original, size, 1e-4)


@pytest.mark.peers
def test_a_state_dict_alone_is_taken_for_the_defaults_and_says_so(tmp_path: Path) -> None:
    """Widths, depth and attention are read off the tensors; what they do not show is told."""
    import torch

    options = {"decoder_channels": [64, 32, 16, 16], "encoder_depth": 4, "decoder_attention_type": "scse"}
    original = golden.original(configuration("Unet", **options))
    torch.save(original.state_dict(), tmp_path / "checkpoint.pth")
    found = convert(tmp_path / "checkpoint.pth", "resnet18")
    assert found.settings["options"] == {"depth": 4, "channels": [64, 32, 16, 16], "attention": "scse"}
    assert found.assumed == {"decoder_use_norm": "batchnorm", "decoder_interpolation": "nearest"}
    assert_logits_agree(found.model, original, (64, 96), 1e-4)
    (tmp_path / "config.json").write_text(json.dumps({"encoder_name": "resnet18", "decoder_interpolation": "bilinear"}))
    told = convert(tmp_path / "checkpoint.pth", config=tmp_path / "config.json")
    assert (told.assumed, told.settings["options"]["upsampling"]) == ({}, "bilinear")
    torch.save(original, tmp_path / "whole.pth")
    with pytest.raises(WeightsError, match="which no state dict is made of"):
        convert(tmp_path / "whole.pth", "resnet18")


@pytest.mark.peers
def test_the_command_writes_a_file_and_the_settings_for_it(tmp_path: Path, capsys) -> None:
    original = golden.original(configuration("FPN"))
    original.save_pretrained(tmp_path / "saved")
    out = tmp_path / "fpn.weights.h5"
    with pytest.raises(SystemExit) as stop:
        main(["weights", "convert", str(tmp_path / "saved"), "--out", str(out)])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    section = json.loads(printed[printed.index("model: ") + 7 :])
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"name: converted\nmodel: {json.dumps(section)}\ndata: {{source: generated}}\ntraining: {{epochs: 1}}\n"
    )
    assert segzoo.load_config(recipe).model.compat == "smp"
    for arguments, words in (
        ((str(tmp_path / "saved"), "--out", str(out)), "is there already"),
        ((str(tmp_path / "saved"), "--out", "x.h5"), "must end in"),
    ):
        with pytest.raises(SystemExit):
            main(["weights", "convert", *arguments])
        assert words in " ".join(capsys.readouterr().err.split())


def test_a_weights_file_and_the_settings_rebuild_the_model(tmp_path: Path) -> None:
    tensors, config, logits = golden.read("linknet")
    found = convert_tensors(tensors, config)
    save_file(found.model, tmp_path / "converted.weights.h5")
    settings = dict(found.settings)
    options = settings.pop("options")
    again = segzoo.build_model(classes=3, weights=str(tmp_path / "converted.weights.h5"), **settings, **options)
    assert again.weights_report.missing == []
    (size, expected), *_ = logits.items()
    returned = golden.part(keras.ops.convert_to_numpy(again(golden.images(size, 1, 9), training=False)))
    assert np.abs(returned - expected).max() < 1e-4 * expected.std()


def test_tensors_of_another_encoder_are_refused() -> None:
    tensors, config, _ = golden.read("linknet")
    for encoder, words in (
        ("resnet34", "does not hold the encoder resnet34: its blocks are those of resnet18"),
        ("resnet50", "does not hold the encoder resnet50: its blocks are those of resnet18"),
        ("efficientnet-b0", "does not hold the encoder efficientnet-b0: its blocks are those of resnet18"),
    ):
        with pytest.raises(WeightsError, match=words):
            convert_tensors(tensors, {**config, "encoder_name": encoder})
    more = {name.replace("layer1.1.", "layer1.2."): value for name, value in tensors.items() if "layer1.1." in name}
    with pytest.raises(WeightsError, match="does not hold the encoder resnet18: its blocks are those of no other"):
        convert_tensors({**tensors, **more}, config)
    tensors, config, _ = golden.read("unet_b0")
    with pytest.raises(WeightsError, match=r"efficientnet-b1: its blocks are those of efficientnet-b0"):
        convert_tensors(tensors, {**config, "encoder_name": "efficientnet-b1"})


def test_tensors_that_no_layer_takes_are_refused() -> None:
    tensors, config, _ = golden.read("linknet")
    extra = {"decoder.blocks.0.block.3.0.weight": np.zeros((8, 8, 1, 1), "float32")}
    with pytest.raises(WeightsError, match=r"holds 1 tensors that belong to no layer of .*block\.3\.0\.weight"):
        convert_tensors({**tensors, **extra}, config)
    less = {name: value for name, value in tensors.items() if name != "decoder.blocks.2.block.1.1.running_var"}
    with pytest.raises(WeightsError, match=r"lacks the tensor decoder\.blocks\.2\.block\.1\.1\.running_var"):
        convert_tensors(less, config)
    wrong = {**tensors, "decoder.blocks.2.block.1.1.running_var": np.ones(3, "float32")}
    with pytest.raises(WeightsError, match=r"running_var has shape \(3,\), decoder/block3_norm needs \(32,\)"):
        convert_tensors(wrong, config)


def test_what_cannot_be_converted_is_said(tmp_path: Path) -> None:
    tensors, config, _ = golden.read("linknet")
    with pytest.raises(WeightsError, match="There is no checkpoint"):
        convert(tmp_path / "checkpoint.pth", "resnet18")
    with pytest.raises(WeightsError, match=r"does not say which encoder.*By its tensors it is resnet18\."):
        convert_tensors(tensors)
    other = {name.replace("encoder.", "encoder.vit."): value for name, value in tensors.items()}
    with pytest.raises(WeightsError, match="By its tensors it is none of those that are known here"):
        convert_tensors(other)
    with pytest.raises(WeightsError, match=r"'vgg11' has no counterpart here\. Did you mean vgg19.*in docs/smp\.md"):
        convert_tensors(tensors, encoder="vgg11")
    with pytest.raises(WeightsError, match="'tu-vgg16' has no counterpart here: of timm's networks, whole models"):
        convert_tensors(tensors, encoder="tu-vgg16")
    with pytest.raises(WeightsError, match="does not hold the encoder tu-efficientnet_b0: its blocks are those of"):
        convert_tensors(tensors, encoder="tu-efficientnet_b0")
    with pytest.raises(WeightsError, match="does not hold the encoder vgg16: its blocks are those of resnet18"):
        convert_tensors(tensors, encoder="vgg16")
    tensors, config, _ = golden.read("linknet")
    with pytest.raises(WeightsError, match="is of the encoder 'resnet18' by its configuration, but 'resnet34'"):
        convert_tensors(tensors, config, encoder="resnet34")
    with pytest.raises(WeightsError, match="its configuration is of a Unet, but its tensors are of a Linknet"):
        convert_tensors(tensors, {**config, "_model_class": "Unet"})
    encoder = {name: value for name, value in tensors.items() if name.startswith("encoder.")}
    with pytest.raises(WeightsError, match=r"is none of DPT, DeepLabV3, .* of segmentation_models.pytorch"):
        convert_tensors(encoder, config)


def test_networks_of_timm_are_named_with_their_weights() -> None:
    """The name of the weights follows a dot; `encoder_weights` is true for them, which says no normalisation."""
    tensors, config = golden.shapes("deeplabv3plus_tu_mobilenet"), golden.configuration("deeplabv3plus_tu_mobilenet")
    named = {**config, "encoder_name": "tu-mobilenetv3_small_100.lamb_in1k", "encoder_weights": True}
    found = convert_tensors(tensors, named)
    assert (found.settings["compat"], found.settings["taps"]) == ("timm", "timm")
    assert "normalised as the network's first weights in timm" in found.note


def test_aligned_corners_and_floored_pixels_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")

    from segzoo.layers import ResizeTo

    x = np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype("float32")
    theirs = torch.from_numpy(x.transpose(0, 3, 1, 2))
    for size in ((10, 14), (9, 29), (3, 4), (5, 7), (9, 13)):
        for kind, options in {
            "aligned": {"mode": "bilinear", "align_corners": True},
            "nearest_floor": {"mode": "nearest"},
            "nearest": {"mode": "nearest-exact"},
        }.items():
            expected = torch.nn.functional.interpolate(theirs, size=size, **options).numpy().transpose(0, 2, 3, 1)
            found = ResizeTo(kind)(x, np.zeros((2, *size, 1), "float32"))
            np.testing.assert_allclose(keras.ops.convert_to_numpy(found), expected, atol=1e-5)
