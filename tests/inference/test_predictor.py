import json
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from segzoo.data.formats.pictures import read_indices
from segzoo.errors import DataError, SegzooError
from segzoo.inference.outputs import OutputOptions
from segzoo.inference.predictor import Predictor, find_images
from segzoo.reporting.pictures import overlay, palette
from segzoo.task import Task

COLOURS = palette(4)


def small_model(classes: int = 4, convolutions: int = 2) -> keras.Model:
    """A fully convolutional network whose pixels see `convolutions` pixels to each side."""
    image = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 64, -2)(image)
    for index in range(convolutions):
        x = keras.layers.Conv2D(
            8, 3, padding="same", activation="tanh", kernel_initializer=keras.initializers.GlorotNormal(seed=index)
        )(x)
    x = keras.layers.Conv2D(classes, 1, kernel_initializer=keras.initializers.GlorotNormal(seed=9))(x)
    return keras.Model(image, x)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return small_model()


@pytest.fixture(scope="module")
def predictor(model) -> Predictor:
    return Predictor(model)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def expected(model: keras.Model, image: np.ndarray) -> np.ndarray:
    logits = model(image[None].astype(np.float32), training=False)
    return keras.ops.convert_to_numpy(logits)[0].argmax(axis=-1)


def save(path: Path, image: np.ndarray, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **options)
    return path


@pytest.mark.parametrize("tile", [None, 64])
def test_a_single_logit_tells_two_classes_apart(tile):
    model, image = small_model(classes=1), picture(96, 130)
    found = Predictor(model, tile=tile, overlap=32).predict(image) if tile else Predictor(model).predict(image)
    logits = keras.ops.convert_to_numpy(model(image[None].astype(np.float32), training=False))[0, ..., 0]
    assert 0 < found.mean() < 1
    np.testing.assert_array_equal(found, logits > 0)


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (45, 71)])
def test_class_of_a_pixel_is_its_largest_logit(model, predictor, size):
    image = picture(*size)
    found = predictor.predict(image)

    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected(model, image))


@pytest.mark.parametrize("size", [(20, 50), (50, 7), (1, 1)])
def test_small_image_is_extended_by_reflection_and_cut(model, predictor, size):
    image = picture(*size)
    padding = [(0, max(0, 32 - side)) for side in size]
    extended = np.pad(image, [*padding, (0, 0)], mode="reflect")

    found = predictor.predict(image)

    np.testing.assert_array_equal(found, expected(model, extended)[: size[0], : size[1]])


def test_zoo_model_takes_any_size(model_of):
    model = model_of("fpn")
    image = picture(75, 33)

    np.testing.assert_array_equal(Predictor(model).predict(image), expected(model, image))


@pytest.mark.parametrize("size", [(300, 420), (97, 513), (40, 700)])
def test_tiles_equal_one_pass_where_the_receptive_field_is_below_a_quarter_of_the_overlap(size):
    model = small_model(convolutions=4)
    image = picture(*size)
    tiled = Predictor(model, tile=96, overlap=32, tile_above=1000)
    assert tiled._tiles(*size)

    # Blended logits differ in their last bits, so a pixel with two equal ones may flip; noise images have hardly any.
    assert (tiled.predict(image) != expected(model, image)).mean() < 1e-4


def test_tiles_keep_the_sampling_grid_of_a_strided_network():
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 2, strides=2, kernel_initializer=keras.initializers.GlorotNormal(seed=0))(image)
    x = keras.layers.Conv2DTranspose(4, 2, strides=2, kernel_initializer=keras.initializers.GlorotNormal(seed=1))(x)
    model = keras.Model(image, x)
    pixels = picture(256, 320)

    found = Predictor(model, tile=64, overlap=0, tile_above=1000).predict(pixels)

    assert (found != expected(model, pixels)).mean() < 1e-4


@pytest.mark.parametrize("size", [(20, 50), (45, 71), (130, 301)])
@pytest.mark.parametrize(("mode", "logits"), [("multiclass", 4), ("binary", 1), ("multilabel", 3)])
def test_probabilities_are_of_the_logits_and_agree_with_the_class_map(mode, logits, size):
    model, image = small_model(classes=logits), picture(*size)
    tiled = Predictor(model, mode=mode, tile=96, overlap=32, tile_above=64 * 96)
    assert tiled._tiles(*size) == (size == (130, 301))

    found = tiled.probabilities(image)

    assert found.shape == (*size, max(2, logits)) and found.dtype == np.float32
    task = Task(("a", "b", "c", "d")[: tiled.classes], mode=mode)
    whole = keras.ops.convert_to_numpy(task.probabilities(model(image[None].astype(np.float32), training=False)))[0]
    inner = np.s_[: size[0] - 2, : size[1] - 2] if min(size) < 32 else np.s_[:]  # beyond: padding, here reflection
    np.testing.assert_allclose(found[inner], whole[inner], atol=1e-5)
    np.testing.assert_array_equal(tiled.predict(image), found > 0.5 if tiled.multilabel else found.argmax(axis=-1))


def test_bands_of_probabilities_follow_each_other_and_are_all_of_the_image(model):
    predictor, image = Predictor(model, tile=64, overlap=32, tile_above=1000), picture(150, 90)
    bands = list(predictor.probability_bands(image))
    assert len(bands) > 2
    assert [top for top, _ in bands] == [sum(len(band) for _, band in bands[:n]) for n in range(len(bands))]
    np.testing.assert_array_equal(np.concatenate([band for _, band in bands]), predictor.probabilities(image))


def test_images_below_the_limit_and_without_tiling_run_in_one_pass(model):
    assert not Predictor(model, tile=64, tile_above=200 * 200)._tiles(200, 200)
    assert not Predictor(model, tile=None, tile_above=0)._tiles(9000, 9000)


def test_images_read_by_windows_have_smaller_tiles_unless_the_user_says(model):
    tilings = [Predictor(model, **given).window_tiling for given in ({}, {"tile": 1024}, {"tile": None})]
    assert [tiling and tiling.size for tiling in tilings] == [(512, 512), (1024, 1024), None]


@pytest.mark.parametrize(("tile", "overlap"), [(100, 32), (96, 20), (96, 64), (0, 0), (96, -32)])
def test_tiles_that_do_not_fit_are_refused(model, tile, overlap):
    with pytest.raises(SegzooError, match="multiples of 32"):
        Predictor(model, tile=tile, overlap=overlap)


def test_sizes_and_batches_share_one_trace():
    traces = []

    class Counting(keras.layers.Layer):
        def call(self, x):
            if not isinstance(x, keras.KerasTensor):
                traces.append(x.shape)
            return x

    image = keras.Input((None, None, 3))
    predictor = Predictor(keras.Model(image, Counting()(keras.layers.Conv2D(2, 1)(image))))
    traces.clear()  # of the model's construction
    for size in ((32, 32), (48, 65), (33, 32)):
        predictor.predict(picture(*size))
    predictor.predict_batch(np.stack([picture(40, 40)] * 3))

    assert len(traces) == 1


@pytest.mark.parametrize(
    "image", [np.zeros((40, 40), np.uint8), np.zeros((40, 40, 4), np.uint8), np.zeros((40, 40, 3)), picture(0, 40)]
)
def test_other_arrays_are_refused(predictor, image):
    with pytest.raises(DataError, match="must be"):
        predictor.predict(image)


def test_models_without_class_logits_or_of_fixed_size_are_refused():
    for shape, filters in (((64, 64, 3), 4), ((None, 64, 3), 4)):
        image = keras.Input(shape)
        with pytest.raises(SegzooError, match="must take"):
            Predictor(keras.Model(image, keras.layers.Conv2D(filters, 1)(image)))
    image = keras.Input((None, None, 3))
    with pytest.raises(SegzooError, match="must return"):
        Predictor(keras.Model(image, keras.layers.GlobalAveragePooling2D()(image)))


def test_progress_counts_images_that_fail_too_and_the_background_stays_untinted(predictor, tmp_path):
    grey = np.full((40, 50, 3), 90, np.uint8)
    paths = [save(tmp_path / f"{number}.png", grey) for number in range(2)]
    for name in ("0a.png", "9.png"):
        (tmp_path / name).write_bytes(b"no image")
        paths.append(tmp_path / name)
    seen = []
    label = int(predictor.predict(grey)[20, 25])
    options = {"background": label, "progress": seen.append}
    summary = predictor.predict_files(sorted(paths), tmp_path / "out", COLOURS, **options)
    assert len(summary.failed) == 2 and seen[-1] == 4 and seen == sorted(seen) and len(seen) >= 3
    drawn = np.asarray(Image.open(tmp_path / "out" / "overlays" / "0.jpg")).astype(int)
    assert np.abs(drawn[20, 25] - 90).max() <= 4


def test_folder_gives_index_maps_overlays_and_a_legend_under_the_same_sub_paths(predictor, tmp_path):
    images = {name: picture(40, 50, seed) for seed, name in enumerate(("a.png", "deep/er/a.png", "deep/b.tif"))}
    for name, image in images.items():
        save(tmp_path / "in" / name, image)
    out = tmp_path / "out"

    summary = predictor.predict_folder(
        tmp_path / "in", out, COLOURS, ["sky", "road", "café", "tree"], outputs=OutputOptions(legend=False)
    )

    assert not summary.failed and len(summary.written) == 3
    for name, image in images.items():
        stored = out / "classes" / Path(name).with_suffix(".png")
        np.testing.assert_array_equal(read_indices(stored, 10**6), predictor.predict(image))
        with Image.open(stored) as picture_file:
            shown = np.asarray(picture_file.convert("RGB"))
        np.testing.assert_array_equal(shown, COLOURS[predictor.predict(image)])
        truth = save(
            tmp_path / "truth.jpg", overlay(image, predictor.predict(image), COLOURS, contours=True), quality=92
        )
        assert (out / "overlays" / Path(name).with_suffix(".jpg")).read_bytes() == truth.read_bytes()
    legend = json.loads((out / "classes.json").read_text(encoding="utf-8"))
    assert legend[2] == {"index": 2, "name": "café", "colour": COLOURS[2].tolist()}
    assert not [path for path in out.rglob("*") if path.name.startswith(".")]


def test_images_that_differ_only_in_their_endings_do_not_overwrite_each_other(predictor, tmp_path):
    paths = [save(tmp_path / name, picture(40, 50, seed)) for seed, name in enumerate(("a.png", "a.bmp", "B.png"))]

    summary = predictor.predict_files(paths, tmp_path / "out")

    assert [path.name for path in summary.written] == ["a.png.png", "a.bmp.png", "B.png"]
    for path, written in zip(paths, summary.written, strict=True):
        np.testing.assert_array_equal(read_indices(written, 10**6), predictor.predict(np.asarray(Image.open(path))))


def test_names_that_collide_all_the_same_are_refused(predictor, tmp_path):
    paths = [save(tmp_path / name, picture(40, 40)) for name in ("a.png", "a.bmp", "a.bmp.tif")]

    with pytest.raises(DataError, match="same result file"):
        predictor.predict_files(paths, tmp_path / "out")


def test_unreadable_images_are_reported_by_name_and_the_rest_goes_on(predictor, tmp_path):
    for name in ("a.jpg", "b.jpg", "d.jpg"):
        save(tmp_path / "in" / name, picture(64, 64))
    data = (tmp_path / "in" / "b.jpg").read_bytes()
    (tmp_path / "in" / "b.jpg").write_bytes(data[: len(data) // 2])
    (tmp_path / "in" / "c.png").write_text("not an image")

    summary = predictor.predict_folder(tmp_path / "in", tmp_path / "out")

    assert [path.stem for path in summary.written] == ["a", "d"]
    assert sorted(path.name for path in summary.failed) == ["b.jpg", "c.png"]
    assert "2 of 4 images predicted, 2 failed" in str(summary)
    assert all(str(path) in reason for path, reason in summary.failed.items())
    assert not (tmp_path / "out" / "classes" / "b.png").exists()


def test_results_are_replaced_only_on_request_and_checked_before_any_work(predictor, tmp_path):
    first, second = (save(tmp_path / "in" / name, picture(40, 40)) for name in ("a.png", "b.png"))
    out = tmp_path / "out"
    predictor.predict_files([second], out)
    kept = out / "classes" / "b.png"
    kept.write_bytes(b"mine")

    with pytest.raises(SegzooError, match=r"2 results exist already.*overwrite"):
        predictor.predict_files([first, second], out)
    assert not (out / "classes" / "a.png").exists() and kept.read_bytes() == b"mine"

    predictor.predict_files([first, second], out, overwrite=True)
    assert read_indices(kept, 10**6).shape == (40, 40)


def test_legend_of_other_classes_is_not_replaced_silently(predictor, tmp_path):
    first, second = (save(tmp_path / "in" / name, picture(40, 40)) for name in ("a.png", "b.png"))
    predictor.predict_files([first], tmp_path / "out", class_names=list("abcd"))
    predictor.predict_files([second], tmp_path / "out", class_names=list("abcd"))

    with pytest.raises(SegzooError, match="other classes"):
        predictor.predict_files(
            [save(tmp_path / "in" / "c.png", picture(40, 40))], tmp_path / "out", None, list("abcx")
        )


def test_exif_orientation_is_not_applied_as_in_training(predictor, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "a.jpg", picture(40, 60), exif=exif)

    (written,) = predictor.predict_files([path], tmp_path / "out").written

    assert read_indices(written, 10**6).shape == (40, 60)


def test_batches_of_equal_neighbours_give_the_same_maps(predictor, tmp_path):
    sizes = [(40, 40), (40, 40), (40, 40), (48, 40), (40, 40)]
    paths = [save(tmp_path / f"{i}.png", picture(*size, seed=i)) for i, size in enumerate(sizes)]
    one = predictor.predict_files(paths, tmp_path / "one").written
    two = predictor.predict_files(paths, tmp_path / "two", batch_size=2).written

    assert [path.name for path in two] == [path.name for path in one]
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(read_indices(a, 10**6), read_indices(b, 10**6))


def test_more_than_256_classes_are_stored_in_16_bits(tmp_path):
    predictor = Predictor(small_model(classes=700))
    image = picture(64, 64)
    found = predictor.predict(image)
    (written,) = predictor.predict_files([save(tmp_path / "a.png", image)], tmp_path / "out").written

    assert found.dtype == np.uint16 and found.max() > 255
    np.testing.assert_array_equal(read_indices(written, 10**6), found)


def test_colours_and_names_must_match_the_classes(predictor, tmp_path):
    path = save(tmp_path / "a.png", picture(40, 40))
    with pytest.raises(SegzooError, match="4 classes"):
        predictor.predict_files([path], tmp_path / "out", palette(3))
    with pytest.raises(SegzooError, match="4 classes"):
        predictor.predict_files([path], tmp_path / "out", COLOURS, ["a"])


def test_own_results_are_no_input(predictor, tmp_path):
    save(tmp_path / "a.png", picture(40, 40))
    predictor.predict_folder(tmp_path, tmp_path)

    with pytest.raises(DataError, match="itself a result"):
        predictor.predict_folder(tmp_path, tmp_path, overwrite=True)


def test_find_images_is_recursive_sorted_and_leaves_hidden_files_out(tmp_path):
    for name in ("b/2.JPG", "b/1.png", "a.tiff", "._a.png", ".hidden/c.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    assert find_images(tmp_path) == [tmp_path / name for name in ("a.tiff", "b/1.png", "b/2.JPG")]
    assert find_images(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]
    with pytest.raises(DataError, match="no such image or folder"):
        find_images(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image in this folder"):
        find_images(tmp_path / "empty")
