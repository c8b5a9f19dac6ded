"""Decoders that segzoo 0.1.0 saved compute what they computed then."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from legacy_decoders import SMALL, decode

from segzoo.decoders import DECODERS, legacy_options, names
from segzoo.errors import UnknownNameError
from segzoo.layers import ScSE, SqueezeExcitation

GOLDEN = Path(__file__).parent / "data" / "decoders_0.1.0.npz"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if legacy_options(name) else pytest.mark.nightly) for name in SMALL]
)
def test_a_configuration_of_0_1_0_gives_its_result(name: str) -> None:
    """(tests/legacy has a whole network of each decoder, as 0.1.0 saved it.)"""
    with np.load(GOLDEN) as golden:
        config, expected = json.loads(str(golden[f"{name}/config"])), golden[f"{name}/decoded"]
    np.testing.assert_allclose(decode(DECODERS[name].from_config(config)), expected, atol=1e-5 * expected.std())
    if not legacy_options(name):
        return  # the configuration differs in nothing from these options: test_what_0_1_0_computed_is_no_difference
    # The same by options, as a run folder of 0.1.0 is built again.
    decoder = DECODERS[name](name="decoder", **legacy_options(name), **SMALL[name])
    np.testing.assert_allclose(decode(decoder), expected, atol=1e-5 * expected.std())


@pytest.mark.parametrize("name", ["unet", "manet", "pan"])
def test_a_new_decoder_says_what_it_computes_with(name: str) -> None:
    """The defaults of these are others since 0.1.0; what is saved now must not be taken for what was saved then."""
    with np.load(GOLDEN) as golden:
        before = golden[f"{name}/decoded"]
    decoder = DECODERS[name](name="decoder", **SMALL[name])
    decoded = decode(decoder)
    assert np.abs(decoded - before).max() > 1e-4 * before.std()
    again = DECODERS[name].from_config(decoder.get_config())
    assert again.get_config() == decoder.get_config()


def test_legacy_options_name_what_has_changed() -> None:
    assert legacy_options("unet") == legacy_options("manet") == {"squeeze_activation": "swish"}
    assert legacy_options("pan") == {"pyramid_activation": "swish"}
    assert [name for name in names() if legacy_options(name)] == ["unet", "manet", "pan"]
    with pytest.raises(UnknownNameError, match="unetz"):
        legacy_options("unetz")


@pytest.mark.parametrize("name", SMALL)
def test_a_decoder_knows_which_options_0_1_0_had(name: str) -> None:
    with np.load(GOLDEN) as golden:
        before = json.loads(str(golden[f"{name}/config"]))
    assert set(DECODERS[name].added) == set(DECODERS[name].options()) - set(before)


@pytest.mark.parametrize("name", SMALL)
def test_what_0_1_0_computed_is_no_difference(name: str) -> None:
    then = DECODERS[name](**legacy_options(name), **SMALL[name])
    assert then.differences(None) == {}
    with np.load(GOLDEN) as golden:
        assert then.differences(json.loads(str(golden[f"{name}/config"]))) == {}
    assert list(DECODERS[name](epsilon=0.1, **legacy_options(name)).differences(None)) == ["epsilon"]


def test_groups_are_compared_by_what_they_come_to() -> None:
    fpn = DECODERS["fpn"]
    assert fpn(groups=32).differences(None) == {}  # of 128 channels
    assert fpn(groups=16).differences(None) == {"groups": (None, 16)}
    assert fpn(groups=16, normalization="batch").differences(None) == {}
    assert fpn(groups=32, segmentation_channels=32).differences(None) == {"groups": (None, 32)}


@pytest.mark.parametrize("kind", [SqueezeExcitation, ScSE])
def test_attention_layers_of_0_1_0_have_swish(kind: type) -> None:
    config = kind(reduction=4).get_config()
    assert config.pop("activation") == "relu"
    assert kind.from_config(config).activation == "swish"
    assert kind.from_config({**config, "activation": "gelu"}).activation == "gelu"
