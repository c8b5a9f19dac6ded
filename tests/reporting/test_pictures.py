"""Colours, overlays and the sheet of predictions, by their pixels."""

import cv2
import numpy as np
import pytest
from PIL import Image

from segzoo.reporting.pictures import IGNORED, WRONG, overlay, palette, prediction_sheet

IGNORE = 255
COLOURS = palette(3)


def lab(colours):
    return cv2.cvtColor((colours[None] / 255).astype("float32"), cv2.COLOR_RGB2LAB)[0]


def nearest_other(colours):
    distance = np.linalg.norm(lab(colours)[:, None] - lab(colours)[None], axis=-1)
    return (distance + 1e3 * np.eye(len(colours))).min()


def test_a_palette_is_distinct_and_begins_every_longer_one():
    long = palette(150)
    assert long.dtype == np.uint8
    assert long.shape == (150, 3)
    for n in (0, 2, 11, 40):
        np.testing.assert_array_equal(palette(n), long[:n])
    # A difference of 2.3 in CIELAB is just noticeable (Mahy et al. 1994).
    assert nearest_other(palette(11)) > 20
    assert nearest_other(long) > 8
    assert np.linalg.norm(lab(long) - lab(np.array([IGNORED], np.uint8)), axis=-1).min() > 8


def test_a_palette_that_was_changed_leaves_the_next_one_alone():
    palette(5)[:] = 0
    assert palette(5).any()


def test_a_palette_has_a_limit():
    with pytest.raises(ValueError, match="not 65537"):
        palette(65537)


def test_a_palette_of_thousands_of_classes_is_distinct_and_spares_the_reserved_colours():
    many = palette(65_536)
    assert len({colour.tobytes() for colour in many} | {bytes(IGNORED), bytes(3), b"\xff" * 3}) == 65_536 + 3
    for n in (512, 999, 1001, 3000):
        np.testing.assert_array_equal(palette(n), many[:n])


def test_an_overlay_mixes_and_leaves_ignored_pixels():
    image = np.full((1, 3, 3), 100, np.uint8)
    mixed = overlay(image, np.array([[0, 2, IGNORE]], np.uint8), COLOURS, alpha=0.25, ignore_index=IGNORE)
    for pixel, label in ((0, 0), (1, 2)):
        np.testing.assert_allclose(mixed[0, pixel], 0.75 * 100 + 0.25 * COLOURS[label], atol=0.51)
    np.testing.assert_array_equal(mixed[0, 2], image[0, 2])
    assert mixed.dtype == np.uint8


def test_the_background_stays_as_it_is_and_a_contour_has_the_full_colour():
    image = np.full((9, 12, 3), 100, np.uint8)
    labels = np.zeros((9, 12), int)
    labels[2:7, 3:9] = 2
    labels[:, 11] = IGNORE
    mixed = overlay(image, labels, COLOURS, 0.5, IGNORE, background=0, contours=True)
    inside = np.zeros(labels.shape, bool)
    inside[3:6, 4:8] = True
    border = (labels == 2) & ~inside
    assert (mixed[(labels == 0) | (labels == IGNORE)] == 100).all()
    assert (mixed[border] == COLOURS[2]).all()
    np.testing.assert_allclose(mixed[inside], np.broadcast_to(0.5 * 100 + 0.5 * COLOURS[2], (12, 3)), atol=0.51)
    # Without a background both sides of a border are drawn; the edge of the image is none.
    everything = overlay(image[:, :11], labels[:, :11], COLOURS, 0.5, contours=True)
    assert (everything[1, 3:9] == COLOURS[0]).all() and (everything[0, 0] != COLOURS[0]).any()


def test_overlapping_classes_have_contours_of_their_own_and_a_background_among_them_has_none():
    image = np.full((8, 8, 3), 100, np.uint8)
    layers = np.zeros((8, 8, 3), np.uint8)
    layers[..., 0] = 1
    layers[1:6, 1:6, 1] = 1
    layers[3:8, 3:8, 2] = 1
    mixed = overlay(image, layers, COLOURS, 0.5, background=0, contours=True)
    assert (mixed[0] == 100).all() and (mixed[:, 0] == 100).all()
    assert (mixed[1, 1:6] == COLOURS[1]).all() and (mixed[3, 3:8] == COLOURS[2]).all()
    np.testing.assert_allclose(mixed[6, 6], 50 + COLOURS[2] / 2, atol=0.51)
    np.testing.assert_allclose(mixed[4, 4], 50 + (COLOURS[1].astype(int) + COLOURS[2]) / 4, atol=1)
    assert (layers[..., 0] == 1).all()


def test_a_wide_image_has_wider_contours_and_labels_beyond_16_bits_are_exact():
    labels = np.zeros((4, 1700), np.int32)
    labels[:, 800:] = 40_001
    colours = np.zeros((40_002, 3), np.uint8)
    colours[40_001] = 200
    mixed = overlay(np.zeros((4, 1700, 3), np.uint8), labels, colours, 0.5, background=0, contours=True)
    assert np.flatnonzero((mixed == 200).all((0, 2))).tolist() == [800, 801, 802]


def test_with_a_background_a_sheet_shows_truth_and_prediction_on_the_image(tmp_path):
    prediction_sheet([sample()], ["a", "b", "c"], COLOURS, IGNORE, tmp_path / "sheet.png", background=0)
    assert pixels(tmp_path / "sheet.png", COLOURS[0]) == 0  # not even in the legend
    half = 0.5 * 90 + 0.5 * COLOURS[1].astype(float)
    assert pixels(tmp_path / "sheet.png", half, 2) > 300 * 225 * 0.5
    assert pixels(tmp_path / "sheet.png", COLOURS[1], 2) > 300


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (np.array([[0, 200]], np.uint8), [0, 200]),
        (np.array([[[0], [200]]], np.uint8), [0, 200]),
        (np.array([[[0, 9], [200, 9]]], np.uint8), [0, 200]),
        (np.array([[0.4, 200.6]], np.float32), [0, 201]),
        (np.array([[0, 65535]], np.uint16), [0, 255]),
        (np.array([[-1.0, 1.0]]), [0, 255]),
        (np.array([[np.nan, 255.0]]), [0, 255]),
        (np.arange(10, dtype=np.uint8).reshape(1, 2, 5) // 5 * 9, [0, 9]),
    ],
)
def test_images_of_any_dtype_and_depth_are_shown(image, expected):
    shown = overlay(image, np.zeros((1, 2), int), COLOURS, alpha=0)
    np.testing.assert_array_equal(shown[0], np.repeat(np.array(expected)[:, None], 3, 1))


def test_a_class_without_a_colour_and_a_wrong_size_are_refused():
    image = np.zeros((2, 2, 3), np.uint8)
    with pytest.raises(ValueError, match="Classes 0 to 3, but 3 colours"):
        overlay(image, np.array([[0, 1], [2, 3]]), COLOURS)
    with pytest.raises(ValueError, match="class map"):
        overlay(image, np.zeros((2, 3), int), COLOURS)


def sample(title="a", wrong=False, size=(30, 40)):
    truth = np.zeros(size, int)
    truth[10:, :20] = 1
    truth[:, 35:] = IGNORE
    prediction = np.where(truth == IGNORE, 1, truth)
    if wrong:
        prediction[20:] = 2
    return np.full((*size, 3), 90, np.uint8), truth, prediction, title


def pixels(path, colour, tolerance=0):
    picture = np.asarray(Image.open(path)).astype(int)
    return int((np.abs(picture - np.array(colour)).max(-1) <= tolerance).sum())


def test_the_sheet_shows_errors_only_where_there_are_any(tmp_path):
    # A third of the labelled pixels, 300 x 225 x 7/8 on the sheet; the rest of the red is the legend's swatch.
    prediction_sheet([sample()], ["a", "b", "c"], COLOURS, IGNORE, tmp_path / "right.png")
    prediction_sheet([sample(wrong=True)], ["a", "b", "c"], COLOURS, IGNORE, tmp_path / "wrong.png")
    faded = 0.8 * np.array(WRONG) + 0.2 * 90
    assert pixels(tmp_path / "right.png", faded, 3) == 0
    assert pixels(tmp_path / "wrong.png", faded, 3) == pytest.approx(300 * 225 * 7 / 8 / 3, rel=0.02)
    # Class c is only predicted wrongly; ignored pixels are grey in truth and errors, predicted ones are not.
    assert pixels(tmp_path / "right.png", COLOURS[2]) == 0
    assert pixels(tmp_path / "wrong.png", COLOURS[2]) >= 300 * 225 / 3
    assert pixels(tmp_path / "right.png", IGNORED) == pytest.approx(2 * 300 * 225 / 8, rel=0.05)


def test_a_sheet_grows_by_rows_and_takes_odd_sizes_names_and_depths(tmp_path):
    names = ["небо", "κτίριο", "a very long name of a class " * 3]
    image, truth, prediction, _ = sample(size=(64, 37))
    one = [(image[..., 0], truth, prediction, "long/" * 80 + "x.png\n")]
    many = [*one, sample(size=(37, 999))]
    prediction_sheet(one, names, COLOURS, IGNORE, tmp_path / "new" / "one.png")
    prediction_sheet(many, names, COLOURS, IGNORE, tmp_path / "two.png")
    one_size, two_size = (Image.open(tmp_path / name).size for name in ("new/one.png", "two.png"))
    assert one_size[0] == two_size[0]
    assert one_size[1] < two_size[1]
    with pytest.raises(ValueError, match="differ"):
        prediction_sheet([*many, (image, truth, prediction[1:], "")], names, COLOURS, IGNORE, tmp_path / "two.png")
    assert Image.open(tmp_path / "two.png").size == two_size
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "two.png"]


def test_ignored_pixels_are_white_where_a_class_is_grey(tmp_path):
    colours = np.array([IGNORED, (0, 0, 90), (90, 0, 0)], np.uint8)
    prediction_sheet([sample()], ["sky", "b", "c"], colours, IGNORE, tmp_path / "grey.png")
    prediction_sheet([sample()], ["a", "b", "c"], COLOURS, IGNORE, tmp_path / "usual.png")
    white = [pixels(tmp_path / name, (255, 255, 255)) for name in ("grey.png", "usual.png")]
    assert white[0] - white[1] == pytest.approx(2 * 300 * 225 / 8, rel=0.05)


def test_a_sheet_of_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one"):
        prediction_sheet([], ["a", "b"], COLOURS, None, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
