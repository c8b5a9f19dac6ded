"""`compat`, its deprecated alias `imitate`, and what segzoo 0.1.0 meant by it."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

import segzoo
from segzoo import backbones
from segzoo.compat import resolve
from segzoo.config import dump_config
from segzoo.decoders import DECODERS, names
from segzoo.errors import ConfigError, SegzooError

pytestmark = pytest.mark.usefixtures("one_structure")


def recipe(folder: Path, model: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(f"model: {{{model}}}\ndata: {{source: generated}}\ntraining: {{epochs: 1}}\n")
    return path


def test_imitate_is_compat_with_a_warning() -> None:
    with pytest.warns(DeprecationWarning, match="say compat instead"):
        assert resolve(None, "smp") == "smp"
    with pytest.warns(DeprecationWarning), pytest.raises(SegzooError, match="give compat alone"):
        resolve("smp-0.1.0", "smp")
    with pytest.raises(SegzooError, match=r"compat must be 'smp' or 'smp-0\.1\.0' or .* or None, got 'caffe'"):
        segzoo.build_model("unet", "resnet18", 2, weights="none", compat="caffe")
    with pytest.warns(DeprecationWarning):
        model = segzoo.build_model("pspnet", "resnet18", 2, weights="none", imitate="smp")
    assert model.get_layer("decoder").get_config()["depth"] == 3


def test_imitate_in_yaml_is_compat_with_a_warning(tmp_path: Path) -> None:
    common = "decoder: unet, backbone: resnet18"
    with pytest.warns(DeprecationWarning, match="say compat instead"):
        config = segzoo.load_config(recipe(tmp_path, f"{common}, imitate: smp"))
    assert config.model.compat == "smp"
    dump_config(config, tmp_path / "written.yaml")
    assert "imitate" not in (tmp_path / "written.yaml").read_text()
    assert segzoo.load_config(tmp_path / "written.yaml") == config
    assert segzoo.load_config(recipe(tmp_path, f"{common}, imitate: null")).model.compat is None
    with pytest.raises(ConfigError, match=r"recipe.yaml:1.*imitate"):
        segzoo.load_config(recipe(tmp_path, f"{common}, imitate: timm"))
    with pytest.warns(DeprecationWarning), pytest.raises(ConfigError, match="give compat alone"):
        segzoo.load_config(recipe(tmp_path, f"{common}, imitate: smp, compat: smp-0.1.0"))


def test_compat_fills_in_what_is_not_given() -> None:
    for name in names():
        known = DECODERS[name].options()
        assert set(DECODERS[name].compat["smp"]) <= {*known, "output_stride"}, name
    model = segzoo.build_model("deeplabv3plus", "resnet18", 2, weights="none", compat="smp", rates=[2, 4])
    config = model.get_layer("decoder").get_config()
    assert (config["rates"], config["align_corners"]) == ([2, 4], True)
    assert model.get_layer("head").get_config()["interpolation"] == "aligned"


def test_pan_reads_both_stages_of_stride_16() -> None:
    model = segzoo.build_model("pan", "resnet18", 2, weights="none", compat="smp")
    shapes = {level: tuple(x.shape) for level, x in _features(model, (128, 160)).items()}
    assert shapes["C4"] == (1, 8, 10, 256)
    assert shapes["P4"] == (1, 8, 10, 512)
    plain = segzoo.build_model("pan", "resnet18", 2, weights="none", output_stride=16)
    assert sorted(_features(plain, (64, 64))) == ["P2", "P3", "P4"]


def test_unet_ends_at_the_size_of_the_image() -> None:
    model = segzoo.build_model("unet", "resnet18", 2, weights="none", compat="smp")
    decoded = keras.Model(model.input, model.get_layer("decoder").output)(np.zeros((1, 45, 67, 3), "float32"))
    assert decoded.shape == (1, 45, 67, 16)


def _features(model: keras.Model, size: tuple[int, int]) -> dict:
    arguments = model.get_layer("decoder")._inbound_nodes[0].arguments.args[0]
    return keras.Model(model.input, arguments)(np.zeros((1, *size, 3), "float32"))


@pytest.mark.parametrize(("compat", "expected"), [("smp", (22, 33)), ("smp-0.1.0", (23, 34)), (None, (23, 34))])
def test_efficientnet_pads_for_its_own_size(compat: str | None, expected: tuple[int, int]) -> None:
    """A side of 45 is 22 after the stem there, which pads for an even size, and 23 in every other network."""
    backbone = backbones.create("efficientnet_b0", taps="output", levels=("P1",), weights="none", compat=compat)
    assert backbone(np.zeros((1, 45, 67, 3), "float32"))["P1"].shape[1:3] == expected
