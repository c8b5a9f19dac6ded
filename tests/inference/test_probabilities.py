"""Probabilities and uncertainty as files: the numbers of `Predictor.probabilities`, and scipy's entropy of them."""

import json

import numpy as np
import pytest
from painted import NAMES, painted, painted_predictor, save
from PIL import Image
from scipy import stats

from segzoo.errors import SegzooError
from segzoo.inference import OutputOptions
from segzoo.inference.uncertainty import entropy

MAP = np.random.default_rng(0).integers(0, 3, (40, 50)).astype(np.uint8)


@pytest.mark.parametrize("mode", ["multiclass", "binary", "multilabel"])
def test_probabilities_of_all_classes_or_of_the_top_one(mode, tmp_path):
    predictor = painted_predictor(mode)
    image = save(tmp_path / "a.png", MAP)
    expected = predictor.probabilities(painted(MAP))
    names = NAMES[: expected.shape[-1]]

    for kept, numbers in (("all", expected), ("top", expected.max(axis=-1))):
        options = OutputOptions(["probabilities", "classes"], probabilities=kept)
        done = predictor.predict_files([image], tmp_path / kept, outputs=options)
        with np.load(done.written[0]) as stored:
            assert stored["probabilities"].dtype == np.float16 and stored["classes"].tolist() == names
            np.testing.assert_allclose(stored["probabilities"], numbers, rtol=1e-3, atol=1e-6)
        plain = predictor.predict_files([image], tmp_path / f"{kept}_plain", outputs=["classes"])
        assert done.files["classes"][0].read_bytes() == plain.written[0].read_bytes()


def test_probabilities_of_a_batch_are_those_of_its_images(tmp_path):
    predictor, rng = painted_predictor(), np.random.default_rng(4)
    images = [save(tmp_path / f"{n}.png", rng.integers(0, 3, (40, 50))) for n in range(3)]
    one = predictor.predict_files(images, tmp_path / "one", outputs=["probabilities"])
    two = predictor.predict_files(images, tmp_path / "two", outputs=["probabilities"], batch_size=2)
    assert one.predicted == two.predicted == images
    for first, second in zip(one.written, two.written, strict=True):
        with np.load(first) as a, np.load(second) as b:
            np.testing.assert_allclose(a["probabilities"], b["probabilities"], atol=1e-3)


def test_entropy_is_that_of_scipy_to_the_number_of_classes_as_base():
    found = np.random.default_rng(1).dirichlet([0.3] * 5, (6, 7)).astype(np.float32)
    np.testing.assert_allclose(entropy(found), stats.entropy(found, base=5, axis=-1), atol=1e-5)
    overlapping = np.random.default_rng(2).random((6, 7, 3), np.float32)
    expected = stats.entropy([overlapping, 1 - overlapping], base=2).mean(axis=-1)
    np.testing.assert_allclose(entropy(overlapping, multilabel=True), expected, atol=1e-5)
    assert entropy(np.float32([[[1, 0, 0], [1 / 3] * 3]]))[0].tolist() == pytest.approx([0, 1], abs=1e-6)


def test_uncertainty_is_a_picture_and_numbers(tmp_path):
    shades = np.dstack([np.full((40, 50), 120), np.tile(np.arange(50) * 5, (40, 1)), np.zeros((40, 50))])
    Image.fromarray(shades.astype(np.uint8)).save(tmp_path / "a.png")
    predictor = painted_predictor()
    picture, numbers = predictor.predict_files([tmp_path / "a.png"], tmp_path / "out", outputs=["uncertainty"]).written

    expected = entropy(predictor.probabilities(shades.astype(np.uint8)))
    assert expected.max() > 0.6 and expected.min() < 0.2
    with np.load(numbers) as stored:
        np.testing.assert_allclose(stored["uncertainty"], expected, atol=1e-3)
    with Image.open(picture) as shown:
        np.testing.assert_allclose(np.asarray(shown) / 255, expected, atol=0.002)
        luma = np.asarray(shown.convert("L")).astype(int)
    row = expected[0].argsort()
    assert np.corrcoef(luma[0][row], expected[0][row])[0, 1] > 0.98  # brighter is less certain


@pytest.mark.parametrize(("mode", "thresholds"), [("binary", (0.9,)), ("multilabel", (0.2, 0.6, 0.97))])
@pytest.mark.parametrize("tile", [None, 64])
def test_thresholds_decide_with_and_without_probabilities_and_tiles(mode, thresholds, tile, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    options = {"tile": tile, "overlap": 32, "tile_above": 1000} if tile else {}
    predictor = painted_predictor(mode, thresholds=thresholds, **options)
    found, probabilities = predictor.predict(image), predictor.probabilities(image)
    expected = probabilities > np.float32(thresholds) if mode == "multilabel" else probabilities[..., 1] > 0.9
    assert (found != painted_predictor(mode).predict(image)).mean() > 0.05
    np.testing.assert_array_equal(found, expected)
    Image.fromarray(image).save(tmp_path / "a.png")
    for outputs in (["classes"], ["classes", "probabilities"]):
        done = predictor.predict_files([tmp_path / "a.png"], tmp_path / "-".join(outputs), outputs=outputs)
        with Image.open(done.written[0]) as stored:
            first = np.asarray(stored) > 0
        np.testing.assert_array_equal(first, found[..., 0] if mode == "multilabel" else found)
        legend = json.loads((done.out / "classes.json").read_text())
        assert [row["threshold"] for row in legend if "threshold" in row] == list(thresholds)


@pytest.mark.parametrize(
    ("mode", "thresholds"), [("multiclass", (0.5,)), ("binary", (0.5, 0.5)), ("multilabel", (0.5, 1.0, 0.5))]
)
def test_thresholds_that_a_mode_does_not_have_are_refused(mode, thresholds):
    with pytest.raises(SegzooError, match=f"{mode} mode has .* thresholds, above 0 and below 1; got 0.5"):
        painted_predictor(mode, thresholds=thresholds)
