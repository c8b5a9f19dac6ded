"""Functions over a run: what they return, that they print nothing, and which network they take."""

import csv
import json
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

import segzoo
from segzoo.engine import builders
from segzoo.engine.checkpoint.run import load_run
from segzoo.errors import RunError, SegzooError, UnknownNameError, WeightsError
from segzoo.export import read_metadata

pytestmark = pytest.mark.usefixtures("small_network", "no_trial")


@pytest.fixture
def quiet(capfd):
    """Fail where anything was printed."""
    yield
    assert capfd.readouterr().out == ""


@pytest.fixture
def photo(tmp_path):
    """An RGB picture 41 x 50, as array and as file."""
    pixels = np.random.default_rng(0).integers(0, 256, (50, 41, 3), np.uint8)
    (tmp_path / "photos").mkdir()
    Image.fromarray(pixels).save(tmp_path / "photos" / "one.png")
    return pixels, tmp_path / "photos" / "one.png"


def test_evaluate_finds_what_training_found_and_writes_the_report(tiny_run, tmp_path, quiet):
    steps = []
    found = segzoo.evaluate(tiny_run, report=tmp_path / "here", progress=lambda *step: steps.append(step))
    finish = json.loads((tiny_run / "log.jsonl").read_text().splitlines()[-1])
    assert found.mean_iou == pytest.approx(finish["val_mean_iou"], abs=1e-6)
    source = builders.build_source(load_run(tiny_run).config, "val")
    labelled = sum(int((source[index].mask != 255).sum()) for index in range(5))
    assert found.title == "tiny: val split, best weights" and found.confusion.counts.sum() == labelled
    low, high = found.intervals.mean_iou
    assert 0 <= low <= found.mean_iou <= high <= 1 and found.loss > 0
    assert found.calibration.counts.sum() == labelled
    assert found.report == tmp_path / "here" / "index.html" and found.report.is_file()
    assert steps == [(0, 5), (4, 5), (5, 5)]
    with (tmp_path / "here" / "images.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["name"] for row in rows] == [image.name for image in found.images]
    assert sum(int(row["pixels"]) for row in rows) == labelled
    assert [float(row["mean_iou"]) for row in rows] == pytest.approx([i.mean_iou() for i in found.images], abs=1e-6)
    assert found.calibration.class_pixels.tolist() == [labelled] * 6
    assert 0 < np.mean(found.calibration.class_ece()) < 1


def test_evaluate_takes_an_open_run_with_more_overrides_and_can_leave_the_report_out(tiny_run, quiet):
    opened = load_run(tiny_run, ["data.val_count=4"])
    assert len(segzoo.evaluate(opened, report=False).images) == 4
    found = segzoo.evaluate(opened, "train", overrides=["data.train_count=3"], report=False)
    assert len(found.images) == 3 and found.report is None
    assert load_run(opened, ["seed=5"]).overrides == ("data.val_count=4", "seed=5") and load_run(opened) is opened
    assert not list(tiny_run.glob("evaluation_train*"))


def test_a_given_model_gets_the_weights_of_the_run_unless_it_brings_its_own(tiny_run, small_network, quiet):
    rebuilt = segzoo.evaluate(tiny_run, report=False)
    model = small_network(load_run(tiny_run).config)
    own = segzoo.evaluate(tiny_run, model=model, weights=None, report=False)
    assert own.network == "given model" and (own.confusion.counts != rebuilt.confusion.counts).any()
    given = segzoo.evaluate(tiny_run, model=model, report=False)
    np.testing.assert_array_equal(given.confusion.counts, rebuilt.confusion.counts)
    again = segzoo.evaluate(tiny_run, model=model, weights=None, report=False)  # it has the run's weights now
    np.testing.assert_array_equal(again.confusion.counts, rebuilt.confusion.counts)


def test_the_saved_model_is_that_of_the_best_weights(tiny_run, monkeypatch, quiet):
    rebuilt = segzoo.evaluate(tiny_run, report=False)
    monkeypatch.setattr(builders, "build_network", None)  # nothing is rebuilt
    saved = segzoo.evaluate(tiny_run, saved=True, report=False)
    assert saved.network == "model.keras"
    np.testing.assert_array_equal(saved.confusion.counts, rebuilt.confusion.counts)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"weights": "bset"}, UnknownNameError, "Unknown weights of a run 'bset'. Did you mean best"),
        ({"weights": None}, SegzooError, "give the model, or best or last"),
        ({"weights": "last", "saved": True}, SegzooError, "model.keras holds the best weights"),
        ({"model": 3, "saved": True}, SegzooError, "not both"),
        ({"model": 3}, SegzooError, "functional or sequential keras.Model.*not a int"),
    ],
)
@pytest.mark.parametrize("function", ["evaluate", "load"])
def test_options_that_do_not_go_together_are_refused(tiny_run, function, options, error, words):
    with pytest.raises(error, match=words):
        getattr(segzoo, function)(tiny_run, **options)


def test_a_model_that_does_not_fit_the_run_is_refused(tiny_run):
    def model(channels, logits):
        images = keras.Input((None, None, channels))
        return keras.Model(images, keras.layers.Conv2D(logits, 1)(images), name="mine")

    with pytest.raises(
        SegzooError, match=r"mine returns \(None, None, None, 4\); it should return logits \(B, H, W, 6\)"
    ):
        segzoo.load(tiny_run, model=model(3, 4))
    with pytest.raises(SegzooError, match=r"mine takes \(None, None, None, 5\), but the images are \(B, H, W, 3\)"):
        segzoo.load(tiny_run, model=model(5, 6))
    with pytest.raises(WeightsError, match="made for"):
        segzoo.load(tiny_run, model=model(3, 6))


def test_a_model_of_several_outputs_predicts_by_its_logits(tiny_run):
    images = keras.Input((None, None, 3))
    logits = keras.layers.Conv2D(6, 1, name="own")(images)
    several = keras.Model(images, {"logits": logits, "features": images}, name="several")
    image = np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    labels = segzoo.load(tiny_run, weights=None, model=several).predict(image)
    expected = keras.ops.convert_to_numpy(several(image[None].astype("float32"))["logits"])[0].argmax(-1)
    np.testing.assert_array_equal(labels, expected)


def test_what_is_no_run_is_refused_with_the_cure(tiny_run, tmp_path):
    with pytest.raises(RunError, match="not a run folder"):
        segzoo.load(tmp_path)
    with pytest.raises(RunError, match=r"what segzoo\.load_run returns, not 3"):
        segzoo.evaluate(3)
    with pytest.raises(SegzooError, match=r"segzoo.export.export_model\(model, path, format\)"):
        segzoo.export_model(keras.Sequential(), "onnx")
    with pytest.raises(UnknownNameError, match=r"Unknown split 'vall'\. Did you mean val"):
        segzoo.evaluate(tiny_run, "vall")


def test_a_saved_model_that_is_missing_damaged_or_of_unknown_layers(tiny_run, tmp_path):
    run = tmp_path / "copy"
    run.mkdir()
    shutil.copy(tiny_run / "config.yaml", run)
    with pytest.raises(RunError, match=r"holds no model.keras yet"):
        segzoo.load(run, saved=True)
    (run / "model.keras").write_bytes(b"no archive")
    with pytest.raises(WeightsError, match=r"model.keras cannot be loaded"):
        segzoo.load(run, saved=True)

    @keras.saving.register_keras_serializable("mine")
    class Own(keras.layers.Layer):
        def call(self, inputs):
            return inputs

    images = keras.Input((None, None, 3))
    keras.Model(images, keras.layers.Conv2D(6, 1)(Own()(images))).save(run / "model.keras")
    assert segzoo.load(run, saved=True).classes == 6
    keras.saving.get_custom_objects().pop("mine>Own")
    with pytest.raises(WeightsError, match=r"cannot be loaded \(Could not locate class 'Own'.*--plugin MODULE"):
        segzoo.load(run, saved=True)


def test_load_gives_class_maps_of_arrays_and_files_and_describes_itself(tiny_run, photo, quiet):
    pixels, path = photo
    predictor = segzoo.load(tiny_run)
    logits = predictor.model.predict_on_batch(pixels[None].astype("float32"))
    np.testing.assert_array_equal(predictor(pixels), logits[0].argmax(-1))
    np.testing.assert_array_equal(predictor(path), predictor(pixels))
    np.testing.assert_array_equal(predictor(str(path)), predictor(pixels))
    opened = load_run(tiny_run)
    assert (predictor.class_names, predictor.mode, predictor.classes) == (opened.classes, "multiclass", 6)
    np.testing.assert_array_equal(predictor.palette, opened.palette)
    summary = predictor.predict_folder(path.parent, path.parent.parent / "maps")
    legend = json.loads((summary.out / "classes.json").read_text())
    assert [row["name"] for row in legend] == opened.classes
    assert [row["colour"] for row in legend] == opened.palette.tolist()


def test_predict_takes_a_folder_or_paths_and_lists_what_failed(tiny_run, photo, tmp_path, quiet):
    pixels, path = photo
    (path.parent / "two.jpg").write_bytes(b"no image")
    steps = []
    done = segzoo.predict(tiny_run, path.parent, tmp_path / "out", progress=lambda *step: steps.append(step))
    (class_map,) = done.written
    np.testing.assert_array_equal(np.asarray(Image.open(class_map)), segzoo.load(tiny_run)(pixels))
    assert [failed.name for failed in done.failed] == ["two.jpg"]
    assert steps[0] == (0, 2) and steps[-1] == (2, 2)
    with pytest.raises(SegzooError, match="overwrite"):
        segzoo.predict(tiny_run, path.parent, tmp_path / "out")
    assert segzoo.predict(tiny_run, [path], tmp_path / "out", overwrite=True).failed == {}
    with pytest.raises(SegzooError, match="1 or more"):
        segzoo.predict(tiny_run, path, tmp_path / "out", max_pixels=0)


def test_predict_reads_a_tiff_over_the_limit_by_windows_and_counts_its_tiles(tiny_run, photo, tmp_path, quiet):
    rasterio = pytest.importorskip("rasterio")
    pixels, path = photo
    large = np.tile(pixels, (3, 3, 1))
    Image.fromarray(large).save(path.with_name("city.tif"))
    steps = []
    done = segzoo.predict(
        tiny_run,
        path.parent,
        tmp_path / "out",
        tile=64,
        max_pixels=50 * 41,
        progress=lambda *step: steps.append(step),
    )
    assert [file.name for file in done.written] == ["city.tif", "one.png"] and not done.failed
    with rasterio.open(done.written[0]) as raster:
        np.testing.assert_array_equal(raster.read(1), segzoo.load(tiny_run, tile=64)(large))
    assert steps[0] == (0, 7) and steps[-1] == (7, 7)  # 3 x 2 tiles, and one picture
    assert segzoo.predict(tiny_run, path.parent, tmp_path / "no", tile=0, max_pixels=50 * 41).failed


def test_an_export_agrees_and_a_given_model_can_be_exported(tiny_run, small_network, tmp_path):
    first = segzoo.export_model(tiny_run, "saved_model", tmp_path / "first")
    assert first.path == tmp_path / "first" / "saved_model" and first.path.is_dir() and first.agreement == 1.0
    model = small_network(load_run(tiny_run).config)
    fixed = segzoo.export_model(tiny_run, "saved_model", tmp_path / "b", model=model, size=(64, 96), output="classes")
    assert fixed.input_shape == (1, 64, 96, 3) and fixed.output == "classes" and fixed.agreement == 1.0
    described, given = read_metadata(first.path), read_metadata(fixed.path)
    assert described == builders.model_metadata(load_run(tiny_run).config)
    assert described.network.decoder == "fpn"
    assert given.output == "classes" and given.network is None and given.classes == described.classes
    best = segzoo.load(tiny_run).model
    for given, rebuilt in zip(model.get_weights(), best.get_weights(), strict=True):
        np.testing.assert_array_equal(given, rebuilt)
    with pytest.raises(UnknownNameError, match="use litert"):
        segzoo.export_model(tiny_run, "tflite")
