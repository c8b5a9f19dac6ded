"""Ensembles: the probabilities are the mean of the members', in every mode."""

from __future__ import annotations

import numpy as np
import pytest

from segzoo.errors import SegzooError
from segzoo.inference.ensemble import EnsembleNetwork, mean_logits
from segzoo.inference.network import Network
from segzoo.inference.predictor import Predictor
from segzoo.task import array_probabilities


class Fixed(Network):
    """Network whose logits are random numbers, the same for the same seed and shape of images."""

    def __init__(self, name: str, seed: int = 0, outputs: int = 3, mode: str = "multiclass", size=None):
        self.name, self.seed, self.outputs, self.mode, self.size, self.channels = name, seed, outputs, mode, size, 3

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Return the random numbers."""
        shape = (*images.shape[:3], self.outputs)
        return np.random.default_rng(self.seed).normal(0, 3, shape).astype(np.float32)

    def __str__(self) -> str:
        """Return the name."""
        return self.name


MODES = [("multiclass", 3), ("binary", 1), ("multilabel", 3)]


@pytest.mark.parametrize(("mode", "outputs"), MODES)
def test_probabilities_are_the_mean_of_the_members(mode, outputs):
    members = [Fixed(f"run{seed}", seed, outputs, mode) for seed in range(3)]
    image = np.zeros((40, 33, 3), np.uint8)

    found = Predictor(EnsembleNetwork(members))

    expected = np.mean([Predictor(member).probabilities(image) for member in members], axis=0)
    np.testing.assert_allclose(found.probabilities(image), expected, atol=1e-6)
    classes = expected > 0.5 if mode == "multilabel" else expected.argmax(axis=-1)
    np.testing.assert_array_equal(found.predict(image), classes)


@pytest.mark.parametrize(("mode", "outputs"), MODES)
def test_certain_members_give_finite_logits(mode, outputs):
    sure, against = np.zeros((2, 1, outputs), np.float32)
    sure[..., 0], against[..., 0] = 3000, -3000
    found = mean_logits([sure, against], mode)
    assert found.dtype == np.float32 and np.isfinite(found).all()
    expected = np.mean([array_probabilities(one, mode) for one in (sure, against)], axis=0)
    np.testing.assert_allclose(array_probabilities(found, mode), expected, atol=1e-6)
    np.testing.assert_allclose(array_probabilities(mean_logits([sure], mode), mode), array_probabilities(sure, mode))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Fixed("b", outputs=4), "the number of logits of a is 3, of b 4"),
        (Fixed("b", mode="multilabel"), "the mode of a is multiclass, of b multilabel"),
        (Fixed("b", size=(64, 96)), "fixed sizes that differ: 64x64 and 64x96"),
    ],
)
def test_members_that_differ_are_refused(other, message):
    with pytest.raises(SegzooError, match=message):
        EnsembleNetwork([Fixed("a", size=(64, 64)), other])


def test_a_member_of_a_fixed_size_makes_all_compute_on_it():
    ensemble = EnsembleNetwork([Fixed("a"), Fixed("b", size=(64, 96))])
    assert ensemble.size == (64, 96) and str(ensemble) == "a, b"
    assert Predictor(ensemble)._tiles(65, 96) and not Predictor(ensemble)._tiles(64, 96)
