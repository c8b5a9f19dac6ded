"""The page's view: classes are tinted by choice, and areas, confidences and files are those of the prediction."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "inference"))
from painted import NAMES, painted, painted_predictor
from PIL import Image

from segzoo.inference.outputs import OutputOptions
from segzoo.inference.writers.contract import Job, Prediction
from segzoo.serving.view import View

MAP = np.zeros((30, 40), np.uint8)
MAP[5:25, 5:25] = 1


def view_of(predictor, pixels, valid=None, probable=True) -> View:
    (found,) = predictor.predictions(pixels[None], probable)
    job = Job(Path("image"), Path("image"), "image")
    legend = predictor.legend(None, predictor.class_names)
    return View(Prediction(job, legend, OutputOptions(), pixels, *found, valid=valid))


@pytest.fixture(scope="module")
def predictor():
    return painted_predictor()


def test_rows_are_areas_and_mean_probabilities(predictor):
    rows = view_of(predictor, painted(MAP)).rows
    assert [(row.name, row.pixels) for row in rows] == [("ground", 800), ("tree", 400), ("house", 0)]
    assert [row.share for row in rows] == pytest.approx([2 / 3, 1 / 3, 0])
    expected = predictor.probabilities(painted(MAP))[MAP == 1, 1].mean()
    assert rows[1].confidence == pytest.approx(expected) and rows[2].confidence is None


def test_pixels_without_data_are_not_counted(predictor):
    valid = np.ones(MAP.shape, bool)
    valid[:15] = False
    rows = view_of(predictor, painted(MAP), valid).rows
    assert [row.pixels for row in rows] == [400, 200, 0]
    assert sum(row.share for row in rows) == pytest.approx(1)


def test_a_model_without_probabilities_has_areas_all_the_same(predictor):
    view = view_of(predictor, painted(MAP), probable=False)
    assert [row.confidence for row in view.rows] == [None] * 3 and [row.pixels for row in view.rows] == [800, 400, 0]


def test_only_chosen_classes_are_tinted(predictor):
    image = painted(MAP)
    view = view_of(predictor, image)
    assert view.tinted == ["tree"]
    np.testing.assert_array_equal(view.overlay([], 1.0), image)
    for names, label in ((["tree"], 1), (["ground"], 0)):
        changed = (view.overlay(names, 1.0) != image).any(axis=-1)
        np.testing.assert_array_equal(changed, label == MAP)
        np.testing.assert_array_equal(view.overlay(names, 0.0), image)
    colour = predictor.legend(None, None).colours[1]
    np.testing.assert_array_equal(view.overlay(["tree"], 1.0)[10, 10], colour)


def test_classes_that_overlap_are_chosen_one_by_one():
    layers = np.stack([MAP == 1, MAP == 1, MAP == 0], axis=-1)
    view = view_of(painted_predictor("multilabel"), painted(layers))
    assert view.tinted == NAMES
    one, both = view.overlay(["tree"], 1.0), view.overlay(["ground", "tree"], 1.0)
    assert (one[10, 10] != both[10, 10]).any()
    np.testing.assert_array_equal(one[0, 0], painted(layers)[0, 0])


def test_names_are_escaped_in_the_table():
    predictor = painted_predictor(names=["ground", "<script>", "house"])
    table = view_of(predictor, painted(MAP)).table()
    assert "&lt;script&gt;" in table and "<script>" not in table
    assert table.index("ground") < table.index("&lt;script") < table.index("house")  # the largest first
    assert "66.7%" in table and "400" in table


def test_files_are_those_of_predict(predictor, tmp_path):
    path = view_of(predictor, painted(MAP)).write("classes", tmp_path)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), MAP)
