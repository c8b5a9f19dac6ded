"""Checkpoints of segmentation_models.pytorch: logits of the converted model against the original's."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest

import segzoo
from segzoo.cli import main
from segzoo.convert import convert
from segzoo.errors import WeightsError
from segzoo.weights import save_file

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def smp():
    pytest.importorskip("torch")
    return pytest.importorskip("segmentation_models_pytorch")


def original(smp, architecture: str, encoder: str, **options):
    """A network of theirs whose tensors are all different from their initial values, in inference mode."""
    import torch

    torch.manual_seed(0)
    model = getattr(smp, architecture)(encoder, encoder_weights=None, classes=3, **options)
    # Statistics of real activations, so that values stay in range; dropped branches would make them others.
    model.train()
    model.encoder._drop_connect_rate = 0.0
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            # Small residual branches: a deep network of random ones magnifies rounding.
            size = 0.2 if name.endswith("_bn2") else 1.0
            torch.nn.init.uniform_(module.weight, 0.5 * size, size)
            torch.nn.init.normal_(module.bias, 0.0, 0.1)
            module.momentum = 1.0
    with torch.no_grad():
        model(torch.randn(4, 3, 128, 128))
    return model.eval()


def assert_logits_agree(model, theirs, size: tuple[int, int]) -> None:
    import torch

    pixels = np.random.default_rng(1).uniform(0, 255, (2, *size, 3)).astype("float32")
    prepared = ((pixels / 255 - MEAN) / STD).transpose(0, 3, 1, 2).astype("float32")
    with torch.no_grad():
        expected = theirs(torch.from_numpy(prepared)).numpy().transpose(0, 2, 3, 1)
    logits = np.asarray(model(pixels, training=False))
    assert expected.std() > 0.01
    # Untrained networks may give logits of hundreds, which float32 rounds accordingly.
    np.testing.assert_allclose(logits, expected, atol=1e-3 * max(1.0, expected.std()))


CASES = [(name, encoder) for name in ("Unet", "FPN", "DeepLabV3Plus", "PSPNet") for encoder in ("resnet18", "resnet50")]
CASES += [(name, "efficientnet-b0") for name in ("Unet", "FPN", "DeepLabV3Plus", "PSPNet")]
CASES += [("Unet", "resnet34"), ("Unet", "efficientnet-b1"), ("DeepLabV3Plus", "efficientnet-b3")]


@pytest.mark.parametrize(("architecture", "encoder"), CASES, ids=str)
def test_logits_agree(architecture: str, encoder: str, smp, tmp_path: Path) -> None:
    import torch

    theirs = original(smp, architecture, encoder)
    torch.save(theirs.state_dict(), tmp_path / "checkpoint.pth")
    found = convert(tmp_path / "checkpoint.pth", encoder)
    for size in ((64, 96), (128, 128)):
        assert_logits_agree(found.model, theirs, size)
    behind = ("encoder._conv_head", "encoder._bn1", "encoder.layer3", "encoder.layer4", "encoder._blocks")
    assert [name for name in found.unused if not name.startswith(behind)] == []

    # The settings and the file rebuild the model.
    save_file(found.model, tmp_path / "converted.weights.h5")
    settings = dict(found.settings)
    options = settings.pop("options")
    again = segzoo.build_model(classes=3, weights=str(tmp_path / "converted.weights.h5"), **settings, **options)
    assert again.weights_report.missing == []
    assert_logits_agree(again, theirs, (64, 64))


def test_the_command_writes_a_file_and_the_settings_for_it(smp, tmp_path: Path, capsys) -> None:
    original(smp, "FPN", "resnet18").save_pretrained(tmp_path / "saved")
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
    assert segzoo.load_config(recipe).model.imitate == "smp"
    for arguments, words in (
        ((str(tmp_path / "saved"), "--out", str(out)), "is there already"),
        ((str(tmp_path / "saved"), "--out", "x.h5"), "must end in"),
    ):
        with pytest.raises(SystemExit):
            main(["weights", "convert", *arguments])
        assert words in " ".join(capsys.readouterr().err.split())


def test_a_folder_says_its_encoder_and_options_are_read_off(smp, tmp_path: Path) -> None:
    theirs = original(smp, "Unet", "resnet18", decoder_channels=(64, 32, 16, 8), encoder_depth=4)
    theirs.save_pretrained(tmp_path / "saved")
    found = convert(tmp_path / "saved")
    assert found.settings["options"] == {"channels": [64, 32, 16, 8], "depth": 4}
    assert_logits_agree(found.model, theirs, (64, 64))


def test_what_cannot_be_converted_is_said(smp, tmp_path: Path) -> None:
    import torch

    path = tmp_path / "checkpoint.pth"
    with pytest.raises(WeightsError, match="There is no checkpoint"):
        convert(path, "resnet18")
    theirs = smp.Linknet("resnet18", encoder_weights=None)
    torch.save(theirs.state_dict(), path)
    with pytest.raises(WeightsError, match="is none of Unet, FPN, DeepLabV3Plus, PSPNet"):
        convert(path, "resnet18")
    with pytest.raises(WeightsError, match="does not say which encoder"):
        convert(path)
    with pytest.raises(WeightsError, match="Encoder 'vgg16' has no counterpart"):
        convert(path, "vgg16")
    torch.save(theirs, path)
    with pytest.raises(WeightsError, match="cannot be read as weights alone"):
        convert(path, "resnet18")
    theirs = smp.Unet("resnet18", encoder_weights=None, decoder_attention_type="scse")
    torch.save(theirs.state_dict(), path)
    with pytest.raises(WeightsError, match="attention has no counterpart"):
        convert(path, "resnet18")
    theirs = smp.Unet("resnet18", encoder_weights=None).state_dict()
    torch.save(theirs, path)
    with pytest.raises(WeightsError, match=r"lacks the tensor|holds nothing for"):
        convert(path, "resnet34")
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        convert(tmp_path / "torn.safetensors", "resnet18")


def test_aligned_corners_are_pytorchs(smp) -> None:
    import torch

    from segzoo.layers import ResizeTo

    x = np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype("float32")
    for size in ((10, 14), (9, 29), (3, 4), (5, 7)):
        expected = torch.nn.functional.interpolate(
            torch.from_numpy(x.transpose(0, 3, 1, 2)), size=size, mode="bilinear", align_corners=True
        )
        found = ResizeTo("aligned")(x, np.zeros((2, *size, 1), "float32"))
        np.testing.assert_allclose(keras.ops.convert_to_numpy(found), expected.numpy().transpose(0, 2, 3, 1), atol=1e-5)
