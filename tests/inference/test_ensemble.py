"""Ensembles: the probabilities are the mean of the members', in every mode."""

from __future__ import annotations

import numpy as np
import pytest
from painted import painted_predictor
from PIL import Image
from scipy import stats

from segzoo.errors import SegzooError
from segzoo.inference import OutputOptions
from segzoo.inference.ensemble import EnsembleNetwork, mean_logits
from segzoo.inference.network import Network
from segzoo.inference.predictor import Predictor
from segzoo.inference.uncertainty import disagreement, entropy
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


def mutual_information(members: np.ndarray, mode: str) -> np.ndarray:
    """Return SciPy's entropy of the mean minus the mean entropy, of probabilities (members, H, W, classes)."""

    def of(probabilities: np.ndarray) -> np.ndarray:
        if mode == "multilabel":
            return stats.entropy([probabilities, 1 - probabilities], base=2).mean(axis=-1)
        return stats.entropy(probabilities, base=probabilities.shape[-1], axis=-1)

    return of(members.mean(axis=0)) - np.mean([of(one) for one in members], axis=0)


@pytest.mark.parametrize(("mode", "outputs"), MODES)
@pytest.mark.parametrize("batch", [1, 2])
def test_disagreement_is_the_mutual_information_of_prediction_and_member(mode, outputs, batch):
    members = [Fixed(f"run{seed}", seed, outputs, mode) for seed in range(3)]
    images = np.zeros((batch, 40, 33, 3), np.uint8)
    predictor = Predictor(EnsembleNetwork(members))

    found = list(predictor.predictions(images, with_disagreement=True))

    for index, one in enumerate(found):
        each = np.array([array_probabilities(member.logits(images)[index], mode) for member in members], np.float64)
        expected = mutual_information(each, mode)
        np.testing.assert_allclose(one.disagreement, expected, atol=2e-6)
        assert 0.02 < expected.min(initial=1, where=expected > 0.02) < expected.max() < 1
        assert (one.disagreement <= entropy(one.probabilities, mode == "multilabel") + 1e-6).all()
        np.testing.assert_array_equal(one.class_map, predictor.predict_batch(images)[index])
    np.testing.assert_array_equal(predictor.disagreement(images[0]), found[0].disagreement)


def test_members_that_are_uncertain_alike_do_not_disagree_and_certain_opposites_do_as_far_as_can_be():
    even, one, other = np.full((1, 1, 2), 0.5), np.array([[[1.0, 0]]]), np.array([[[0.0, 1]]])
    assert disagreement([even, even, even])[0, 0] == 0 and entropy(even)[0, 0] == 1
    assert disagreement([one, other])[0, 0] == pytest.approx(1, abs=1e-6)
    assert disagreement([one, other], multilabel=True)[0, 0] == pytest.approx(1, abs=1e-6)
    assert disagreement([one, one])[0, 0] == 0


@pytest.mark.parametrize("options", [{"tile": 64, "overlap": 32, "tile_above": 0}, {"tta": "d4"}])
def test_disagreement_of_tiles_and_views_is_that_of_the_image_where_pixels_are_computed_one_by_one(options):
    shades = np.random.default_rng(1).integers(0, 256, (70, 90, 3), np.uint8)
    members = [painted_predictor().network, painted_predictor().network]
    members[1].model.layers[-1].set_weights([np.full((1, 1, 3, 3), 0.01), np.arange(3.0)])
    whole = Predictor(EnsembleNetwork(members)).disagreement(shades)
    assert whole.max() > 0.2
    np.testing.assert_allclose(Predictor(EnsembleNetwork(members), **options).disagreement(shades), whole, atol=1e-5)


def test_disagreement_is_written_as_picture_and_numbers_and_refused_of_a_single_network(tmp_path):
    shades = np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(shades).save(tmp_path / "a.png")
    wanted = OutputOptions(["uncertainty", "classes"], uncertainty="disagreement")
    members = [painted_predictor().network, painted_predictor().network]
    members[1].model.layers[-1].set_weights([np.full((1, 1, 3, 3), 0.01), np.arange(3.0)])
    ensemble = Predictor(EnsembleNetwork(members))
    picture, numbers = ensemble.predict_files([tmp_path / "a.png"], tmp_path / "out", outputs=wanted).written
    expected = ensemble.disagreement(shades)
    with np.load(numbers) as stored:
        np.testing.assert_allclose(stored["uncertainty"], expected, atol=1e-3)
    with Image.open(picture) as shown:
        np.testing.assert_allclose(np.asarray(shown) / 255, expected, atol=0.002)
    with pytest.raises(SegzooError, match="A single network has no members that could disagree: add one by --ensemble"):
        painted_predictor().predict_files([tmp_path / "a.png"], tmp_path / "none", outputs=wanted)
    assert not (tmp_path / "none").exists()
    with pytest.raises(SegzooError, match="is a single network"):
        painted_predictor().disagreement(shades)
