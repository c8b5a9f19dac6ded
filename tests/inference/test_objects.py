"""Objects: connected components as scipy finds them, touching ones parted where borders were trained."""

import csv

import numpy as np
import pytest
from painted import painted_predictor, save
from PIL import Image
from scipy import ndimage

from segzoo.errors import SegzooError
from segzoo.inference import OutputOptions
from segzoo.inference.legend import Legend
from segzoo.inference.objects import find_objects

EIGHT = np.ones((3, 3))


def legend(*names, mode="multiclass", background=0) -> Legend:
    return Legend(names, np.zeros((len(names), 3), np.uint8), mode, background)


THREE = legend("ground", "tree", "house")


def blobs(seed: int = 0, classes: int = 3, size: tuple[int, int] = (60, 70)) -> np.ndarray:
    """A class map of smooth regions, with holes and with classes that touch."""
    fields = np.random.default_rng(seed).normal(size=(classes, *size))
    return np.stack([ndimage.gaussian_filter(field, 2) for field in fields]).argmax(0).astype(np.uint8)


def discs(*centres: tuple[int, int, int], size: tuple[int, int] = (60, 100)) -> np.ndarray:
    rows, columns = np.indices(size)
    return np.any([(rows - y) ** 2 + (columns - x) ** 2 <= r * r for y, x, r in centres], axis=0)


@pytest.mark.parametrize("seed", range(3))
def test_objects_are_the_components_that_scipy_finds(seed):
    class_map = blobs(seed)
    (layer,), classes = find_objects(class_map, THREE)
    for label in (1, 2):
        expected, count = ndimage.label(class_map == label, EIGHT)
        assert (classes == label).sum() == count > 2
        pairs = np.unique(np.stack([expected, np.where(class_map == label, layer, 0)]).reshape(2, -1), axis=1)
        assert pairs.shape[1] == count + 1  # one number for each component, and 0 for 0
    np.testing.assert_array_equal(layer > 0, class_map > 0)
    assert np.unique(layer).tolist() == list(range(len(classes) + 1))
    np.testing.assert_array_equal(classes[layer[layer > 0] - 1], class_map[layer > 0])


def test_without_a_background_every_class_has_objects():
    (layer,), classes = find_objects(blobs(), legend("a", "b", "c", background=None))
    assert layer.min() == 1 and set(classes) == {0, 1, 2}


def test_in_binary_mode_the_first_class_has_no_objects():
    class_map = (blobs() > 0).astype(np.uint8)
    plain = find_objects(class_map, legend("rest", "thing", mode="binary", background=None), fill_holes=3)
    named = find_objects(class_map, legend("rest", "thing", mode="binary", background=0), fill_holes=3)
    assert set(plain.classes) == {1}
    np.testing.assert_array_equal(plain.layers[0], named.layers[0])


def test_small_objects_are_left_out_and_the_others_numbered_without_gaps():
    class_map = blobs(1)
    (whole,), all_classes = find_objects(class_map, THREE)
    (layer,), classes = find_objects(class_map, THREE, min_area=40)
    areas = np.bincount(whole.ravel())[1:]
    assert 0 < (areas >= 40).sum() < len(areas)
    np.testing.assert_array_equal(classes, all_classes[areas >= 40])
    np.testing.assert_array_equal(np.bincount(layer.ravel())[1:], areas[areas >= 40])


def test_holes_are_filled_up_to_a_size_and_only_where_they_show_the_background():
    class_map = np.zeros((40, 40), np.uint8)
    class_map[5:35, 5:35] = 1
    class_map[8:10, 8:10] = 0  # 4 pixels
    class_map[15:20, 15:20] = 0  # 25 pixels
    class_map[25:29, 25:29] = 0  # 16 pixels, 4 of them a house
    class_map[26:28, 26:28] = 2
    class_map[33:35, 20:22] = 0  # a notch, no hole

    def area(most):
        (layer,), classes = find_objects(class_map, THREE, fill_holes=most)
        assert classes.tolist() == [1, 2] and (layer == 2).sum() == 4
        return int((layer == 1).sum())

    bare = int((class_map == 1).sum())
    assert [area(most) - bare for most in (0, 3, 4, 16, 24, 25)] == [0, 0, 4, 16, 16, 41]


def test_pixels_without_data_belong_to_no_object():
    class_map = np.ones((40, 40), np.uint8)
    valid = np.ones((40, 40), bool)
    valid[:, 10:12] = False
    (layer,), classes = find_objects(class_map, THREE, valid, fill_holes=1000)
    assert len(classes) == 2
    np.testing.assert_array_equal(layer > 0, valid)


def test_touching_objects_are_parted_where_a_border_was_trained():
    touching = discs((30, 30, 18), (30, 64, 18))  # they overlap by two columns
    assert ndimage.label(touching, EIGHT)[1] == 1
    class_map = touching.astype(np.uint8)
    assert len(find_objects(class_map, legend("ground", "cell", "tissue")).classes) == 1

    (layer,), classes = find_objects(class_map, legend("ground", "cell", "Border"))

    assert classes.tolist() == [1, 1]
    np.testing.assert_array_equal(layer > 0, touching)
    assert abs(int((layer == 1).sum()) - int((layer == 2).sum())) < 40  # parted in the middle
    assert layer[30, 20] != layer[30, 74]


def test_border_pixels_go_to_the_nearest_object_and_are_none_by_themselves():
    class_map = discs((30, 28, 16), (30, 66, 16)).astype(np.uint8)
    gap = ndimage.binary_dilation(class_map, iterations=4) & (class_map == 0)
    class_map[gap] = 2
    class_map[2:5, 2:5] = 2  # far from all
    (layer,), classes = find_objects(class_map, legend("ground", "cell", "border"))
    assert classes.tolist() == [1, 1]
    np.testing.assert_array_equal(layer > 0, (class_map > 0) & ~discs((3, 3, 4)))
    assert set(np.unique(layer[:, :47])) == {0, layer[30, 28]} and set(np.unique(layer[:, 48:])) == {0, layer[30, 66]}


def test_a_small_object_without_a_peak_remains_where_a_border_was_trained():
    class_map = np.zeros((40, 40), np.uint8)
    class_map[3, 3] = class_map[10:12, 10:20] = 1
    (layer,), classes = find_objects(class_map, legend("ground", "cell", "border"))
    assert len(classes) == 2 and (layer > 0).sum() == 21


def test_objects_of_classes_that_overlap_lie_in_layers():
    layers = np.zeros((40, 40, 3), np.uint8)
    layers[:20, :20, 0] = layers[10:30, 10:30, 2] = layers[35:, 35:, 2] = 1
    found, classes = find_objects(layers, legend("a", "b", "c", mode="multilabel", background=None))
    assert classes.tolist() == [0, 2, 2]
    assert [np.unique(layer).tolist() for layer in found] == [[0, 1], [0], [0, 2, 3]]
    np.testing.assert_array_equal(np.stack(found, -1) > 0, layers > 0)


def rows_of(path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_files_of_objects_agree_with_each_other(tmp_path):
    class_map = np.zeros((40, 50), np.uint8)
    class_map[3:10, 5:9] = 1
    class_map[20:22, 30:40] = 2
    class_map[0, 49] = 2
    options = OutputOptions(["objects", "probabilities"], min_area=2)
    image = save(tmp_path / "a.png", class_map)
    picture, table = painted_predictor().predict_files([image], tmp_path / "out", outputs=options).written

    with Image.open(picture) as shown:
        numbers = np.asarray(shown)
        assert shown.mode == "I;16"
    assert np.unique(numbers).tolist() == [0, 1, 2] and (numbers == 1).sum() == 28
    rows = rows_of(table)
    assert [(row["object"], row["class"], row["pixels"]) for row in rows] == [("1", "tree", "28"), ("2", "house", "20")]
    box = [rows[1][key] for key in ("left", "top", "width", "height", "centre_x", "centre_y", "square_metres")]
    assert box == ["30", "20", "10", "2", "35", "21", ""]
    assert 0.99 < float(rows[0]["probability"]) <= 1


def test_more_objects_than_16_bits_hold_give_a_tiff_in_place_of_the_png(tmp_path, monkeypatch):
    class_map = blobs()
    image, predictor = save(tmp_path / "a.png", class_map), painted_predictor()
    (plain, _) = predictor.predict_files([image], tmp_path / "out", outputs=["objects"]).written
    numbers = np.asarray(Image.open(plain))
    monkeypatch.setattr("segzoo.inference.objects._MOST_IN_16_BITS", 3)
    with pytest.raises(SegzooError, match="2 results exist already"):
        predictor.predict_files([image], tmp_path / "out", outputs=["objects"])
    (large, _) = predictor.predict_files([image], tmp_path / "out", outputs=["objects"], overwrite=True).written
    assert large.suffix == ".tif" and not plain.exists()
    with Image.open(large) as stored:
        np.testing.assert_array_equal(np.asarray(stored), numbers)
        assert stored.mode == "I"


def test_in_multilabel_a_page_holds_the_objects_of_a_class(tmp_path):
    layers = np.zeros((40, 50, 3), np.uint8)
    layers[:20, :20, 0] = layers[10:30, 10:30, 2] = 1
    image = save(tmp_path / "a.png", layers)
    picture, _ = painted_predictor("multilabel").predict_files([image], tmp_path / "out", outputs=["objects"]).written
    with Image.open(picture) as shown:
        pages = []
        for number in range(shown.n_frames):
            shown.seek(number)
            pages.append(np.asarray(shown).copy())
    np.testing.assert_array_equal(np.stack(pages, -1), layers * np.array([1, 0, 2]))
