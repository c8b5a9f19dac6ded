"""Converted networks return the logits that segmentation_models.pytorch returned, which need not be installed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import segzoo
from segzoo.keras_compat import without_variables
from segzoo.workflows.conversion import convert_tensors

sys.path.insert(0, str(Path(__file__).parent / "smp_golden"))

import golden

pytestmark = pytest.mark.usefixtures("one_structure", "zero_weights")

# Of the deviation of the logits.
ALLOWED = {"resnet18": 1e-4, "vgg16_bn": 1e-4}


def cases() -> list:
    """Every decoder; other options are behind `zoo`, and EfficientNet, which the test of advprop compares.

    Of other encoders VGG, which is the quickest.
    """
    left_out = [case for case in golden.CASES if case.endswith(("_options", "_depth_4", "_b0", "_v2"))]
    left_out.append("unetplusplus_vgg16_bn")
    return [pytest.param(case, marks=pytest.mark.zoo if case in left_out else ()) for case in golden.CASES]


@pytest.mark.parametrize("case", cases())
def test_logits_are_the_originals(case: str) -> None:
    tensors, config, logits = golden.read(case)
    found = convert_tensors(tensors, config)
    for size, expected in logits.items():
        returned = golden.part(np.asarray(found.model(golden.images(size, 1, 9), training=False)))
        assert expected.std() > 0.1
        difference = np.abs(returned - expected).max() / expected.std()
        assert difference < ALLOWED.get(config["encoder_name"], 1e-3), (size, difference)


@pytest.mark.zoo
def test_the_settings_build_the_same_network() -> None:
    """(test_convert.py does so with defaults, and by a weights file.)"""
    tensors, config, logits = golden.read("fpn_options")
    found = convert_tensors(tensors, config)
    assert found.assumed == {}
    settings = dict(found.settings)
    options = settings.pop("options")
    again = segzoo.build_model(classes=3, weights="none", **settings, **options)
    again.set_weights(found.model.get_weights())
    (size, expected), *_ = logits.items()
    returned = golden.part(np.asarray(again(golden.images(size, 1, 9), training=False)))
    assert np.abs(returned - expected).max() < 1e-4 * expected.std()


def test_an_encoder_of_advprop_reads_other_pixels_and_the_settings_say_so() -> None:
    """The original prepares them by a half instead of ImageNet's mean and std; behind that the network is the same."""
    tensors, config, logits = golden.read("unet_b0")
    found = convert_tensors(tensors, {**config, "encoder_weights": "advprop"})
    assert (found.settings["mean"], found.settings["std"]) == ([127.5] * 3, [127.5] * 3)
    for size, expected in logits.items():
        prepared = (golden.images(size, 1, 9) / 255 - golden.MEAN) / golden.STD
        returned = golden.part(np.asarray(found.model(127.5 + 127.5 * prepared, training=False)))
        assert np.abs(returned - expected).max() < 1e-3 * expected.std()
    settings = dict(found.settings)
    with without_variables():
        again = segzoo.build_model(classes=3, weights="none", **settings.pop("options"), **settings)
    ours, theirs = (model.get_layer("preprocessing").get_config() for model in (again, found.model))
    assert (ours["mean"], ours["std"]) == (theirs["mean"], theirs["std"])


@pytest.mark.peers
@pytest.mark.parametrize("case", golden.CASES)
def test_the_file_is_what_the_installed_original_returns(case: str) -> None:
    pytest.importorskip("segmentation_models_pytorch")
    import torch

    network = golden.original(golden.configuration(case))
    tensors, _, logits = golden.read(case)
    # Statistics of activations depend on the processor's vector units, by a step of half precision here and there.
    for name, value in network.state_dict().items():
        if name in tensors:
            np.testing.assert_allclose(value.numpy(), tensors[name], rtol=2e-3, atol=1e-4, err_msg=name)
    stored = {name: torch.from_numpy(np.array(value)) for name, value in tensors.items()}
    network.load_state_dict({**network.state_dict(), **stored})
    network = network.double()
    for size, expected in logits.items():
        with torch.no_grad():
            returned = network(golden.prepared(golden.images(size, 1, 9)).double())
        difference = np.abs(golden.part(returned.numpy().transpose(0, 2, 3, 1)) - expected).max()
        assert difference < 1e-4 * expected.std(), size
