"""`ohem_fraction` of the cross-entropy and its deprecated alias `hardest`, in Python, YAML and older files."""

from __future__ import annotations

import warnings
from pathlib import Path

import keras
import numpy as np
import pytest

import segzoo
from segzoo import losses
from segzoo.config import dump_config
from segzoo.engine.checkpoint.provenance import differences
from segzoo.errors import ConfigError
from segzoo.losses import CrossEntropy

BOTH = "ohem_fraction is 0.5, its deprecated alias hardest 0.25; give ohem_fraction alone"


def recipe(folder: Path, options: str) -> Path:
    path = folder / "recipe.yaml"
    rest = "model: {decoder: unet, backbone: resnet18}\ndata: {source: generated}\ntraining: {epochs: 1}"
    path.write_text(f"{rest}\nloss: {{cross_entropy: {{{options}}}}}\n")
    return path


def test_the_alias_builds_the_same_loss_with_a_warning() -> None:
    with pytest.warns(DeprecationWarning, match="call this option of the loss cross_entropy ohem_fraction") as caught:
        old = CrossEntropy(hardest=0.25)
    assert [Path(warning.filename) for warning in caught] == [Path(__file__)]
    with pytest.warns(DeprecationWarning):
        created = losses.create({"cross_entropy": {"hardest": 0.25}})
    new = CrossEntropy(ohem_fraction=0.25)
    for config in (old.get_config(), created.get_config()):
        assert {**config, "name": ""} == {**new.get_config(), "name": ""}
    assert new.get_config()["ohem_fraction"] == 0.25 and "hardest" not in new.get_config()
    # The mean over the four of sixteen pixels with the largest loss; in 0.1.0 the option was the fourth.
    logits = np.zeros((1, 4, 4, 2), "float32")
    logits[0, 0, :, 1] = 3.0
    wanted = np.log1p(np.exp(3.0))
    for loss in (old, new, CrossEntropy(None, None, 0.0, 0.25)):
        assert float(loss(np.zeros((1, 4, 4), "int32"), logits)) == pytest.approx(wanted, rel=1e-6)


def test_both_names_with_different_values_are_refused() -> None:
    with pytest.warns(DeprecationWarning), pytest.raises(ValueError, match=BOTH):
        CrossEntropy(ohem_fraction=0.5, hardest=0.25)
    with pytest.warns(DeprecationWarning), pytest.raises(ConfigError, match=f"'cross_entropy': {BOTH}"):
        losses.create({"cross_entropy": {"ohem_fraction": 0.5, "hardest": 0.25}})
    with pytest.warns(DeprecationWarning):
        assert CrossEntropy(ohem_fraction=0.5, hardest=0.5).ohem_fraction == 0.5
    with (
        pytest.warns(DeprecationWarning),
        pytest.raises(ValueError, match="ohem_fraction is 1"),
    ):
        CrossEntropy(ohem_fraction=1.0, hardest=0.25)


def test_the_alias_in_yaml_is_renamed_with_a_warning(tmp_path: Path) -> None:
    with pytest.warns(DeprecationWarning, match="call this option of the loss cross_entropy ohem_fraction"):
        config = segzoo.load_config(recipe(tmp_path, "hardest: 0.25"))
    assert config.loss == {"cross_entropy": {"weight": 1.0, "ohem_fraction": 0.25}}
    dump_config(config, tmp_path / "written.yaml")
    assert "hardest" not in (tmp_path / "written.yaml").read_text()
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        assert segzoo.load_config(tmp_path / "written.yaml") == config
    with pytest.warns(DeprecationWarning), pytest.raises(ConfigError, match=rf"recipe.yaml:4.*{BOTH}"):
        segzoo.load_config(recipe(tmp_path, "hardest: 0.25, ohem_fraction: 0.5"))
    with pytest.raises(ConfigError, match="did you mean ohem_fraction") as caught:
        segzoo.load_config(recipe(tmp_path, "ohem_fractoin: 0.5"))
    assert "hardest" not in str(caught.value)


def test_files_of_0_1_0_are_read_without_a_warning() -> None:
    saved = keras.saving.serialize_keras_object(CrossEntropy(ohem_fraction=0.25))
    saved["config"]["hardest"] = saved["config"].pop("ohem_fraction")
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        assert keras.saving.deserialize_keras_object(saved).ohem_fraction == 0.25


def test_a_run_of_0_1_0_is_resumed_under_the_present_name() -> None:
    def origin(**options: float) -> dict:
        return {"config": {"loss": {"cross_entropy": {"weight": 1.0, **options}, "dice": 1.0}}}

    assert differences(origin(hardest=0.5), origin(ohem_fraction=0.5)) == []
    assert differences(origin(hardest=0.5), origin(ohem_fraction=0.25)) == [
        "loss.cross_entropy.ohem_fraction was 0.5 and is 0.25"
    ]
    for odd in (None, [], {"loss": None}, {"loss": {"cross_entropy": 1.0}}, {"loss": {"cross_entropy": None}}):
        assert differences({"config": odd}, {"config": odd}) == []
