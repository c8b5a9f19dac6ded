"""Drawings of predictions: tints by choice, and a legend that covers nothing and names what the image shows."""

import itertools

import numpy as np
import pytest
from painted import painted, painted_predictor, save
from PIL import Image

from segzoo.inference import OutputOptions
from segzoo.inference.drawing import draw
from segzoo.inference.legend import Legend
from segzoo.reporting.pictures import overlay, palette
from segzoo.reporting.swatches import flow

NAMES = ["background", "road", "tree", "sky"]
LEGEND = Legend(NAMES, palette(4), background=0)


def scene(height: int = 60, width: int = 90) -> tuple[np.ndarray, np.ndarray]:
    """Return a grey image and classes: background, road and sky, but no tree."""
    classes = np.zeros((height, width), np.uint8)
    classes[: height // 2, : width // 2], classes[height // 2 + 2 :, 5:] = 1, 3
    return np.full((height, width, 3), 120, np.uint8), classes


def swatches(strip: np.ndarray) -> list[int]:
    """Return the classes whose colour fills a swatch in a strip."""
    counts = [(strip == colour).all(axis=-1).sum() for colour in LEGEND.colours]
    return [label for label, count in enumerate(counts) if count > 120]


@pytest.mark.parametrize("size", [(12, 16), (60, 90), (480, 640)])
def test_the_legend_is_below_the_image_and_names_the_classes_that_it_shows(size):
    image, classes = scene(*size)
    plain, found = draw(image, classes, LEGEND), draw(image, classes, LEGEND, named="present")
    np.testing.assert_array_equal(plain, overlay(image, classes, LEGEND.colours, background=0, contours=True))
    np.testing.assert_array_equal(found[: size[0], : size[1]], plain)
    assert (found[: size[0], size[1] :] == 255).all()
    assert swatches(found[size[0] :]) == [1, 3]
    letters = (found[size[0] :] < 90).all(axis=-1)
    assert letters.sum() > 50 and not letters[:, [0, -1]].any()  # nothing is cut off


def test_pixels_without_data_and_hidden_classes_are_in_no_legend():
    image, classes = scene()
    valid = classes != 3
    found = draw(image, classes, LEGEND, valid=valid, named="present")
    assert swatches(found[60:]) == [1] and (found[:60, :90][~valid] == 120).all()
    assert swatches(draw(image, classes, LEGEND, shown=[2, 3], named="present")[60:]) == [3]
    assert draw(image, classes, LEGEND, shown=[2], named="present").shape == image.shape
    np.testing.assert_array_equal(draw(image, 0 * classes, LEGEND, named="present"), image)


def test_a_legend_of_all_classes_has_one_size_and_frames_those_that_are_absent():
    image, classes = scene(240, 320)
    some, none = (draw(image, shown, LEGEND, named="all") for shown in (classes, 0 * classes))
    assert some.shape == none.shape and some.shape[0] > 240
    assert swatches(some[240:]) == [1, 3] and swatches(none[240:]) == []
    assert all((none[240:] == colour).all(axis=-1).any() for colour in LEGEND.colours[1:])
    assert draw(*scene(40, 60), LEGEND, named="all").shape == (40, 60, 3)  # it would be taller than half the frame


def test_classes_that_overlap_are_named_each():
    layers = np.zeros((60, 90, 4), np.uint8)
    layers[10:40, 10:40, 1], layers[20:50, 20:50, 2] = 1, 1
    legend = Legend(NAMES, palette(4), mode="multilabel")
    found = draw(np.full((60, 90, 3), 120, np.uint8), layers, legend, valid=np.ones((60, 90), bool), named="present")
    assert swatches(found[60:]) == [1, 2]


def test_the_legend_grows_with_the_image_so_that_it_is_readable_when_all_of_it_is_on_a_screen():
    shapes = [draw(*scene(3 * side, 4 * side), LEGEND, named="present").shape for side in (250, 1000)]
    assert (shapes[1][0] - 3000) / (shapes[0][0] - 750) == pytest.approx(4, rel=0.1)


def test_entries_flow_in_lines_and_long_names_are_cut():
    names = ["a", "long name of a class", "b", "c"] * 3
    places, height = flow(names, 200)
    assert len(set(places)) == len(names) and height == places[-1][1] + 22
    for (left, top), (after, below) in itertools.pairwise(places):
        assert (after > left and below == top) or (after, below) == (8, top + 22)
    assert max(left for left, _ in places) < 200
    legend = Legend(["ground", "x" * 500], palette(2), background=0)
    found = draw(np.zeros((50, 50, 3), np.uint8), np.ones((50, 50), np.uint8), legend, named="present")
    assert 50 < found.shape[1] < 420


def test_predict_draws_by_its_options(tmp_path):
    classes = np.zeros((64, 80), np.uint8)
    classes[16:48, 16:64] = 1
    image, predictor = save(tmp_path / "a.png", classes), painted_predictor()
    found = {}
    for name, options in {
        "legend": {},
        "plain": {"legend": False},
        "bare": {"legend": False, "contours": False, "alpha": 0},
    }.items():
        wanted = OutputOptions(["overlay"], **options)
        (path,) = predictor.predict_files([image], tmp_path / name, outputs=wanted).written
        found[name] = np.asarray(Image.open(path)).astype(int)
    assert found["legend"].shape[0] > 64 == found["plain"].shape[0]
    assert np.abs(found["legend"][:64, :80] - found["plain"])[:56].mean() < 2  # JPEG's blocks differ below
    assert np.abs(found["bare"] - painted(classes)).mean() < 3 < np.abs(found["plain"] - painted(classes)).mean()
