"""Sources of a model: runs, exported files and model.keras predict the same, and say of which classes they are."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import segzoo
from segzoo.cli import app
from segzoo.engine.checkpoint.run import load_run
from segzoo.errors import RunError, SegzooError
from segzoo.export import FORMATS, export_model, keras_file
from segzoo.export.metadata import ModelMetadata, Network
from segzoo.workflows import prediction

OPTIONS = {"pyramid_channels": 16, "segmentation_channels": 8}
pytestmark = pytest.mark.usefixtures("small_network", "no_trial")


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """A picture of odd height and width."""
    return np.random.default_rng(0).integers(0, 256, (75, 101, 3), np.uint8)


@pytest.fixture(scope="module")
def exported(tiny_run, tmp_path_factory):
    """Return an export of the run in a format, made once; skip the test where its packages are missing."""
    made: dict[str, Path] = {}

    def export(format: str, **options) -> Path:
        for package in FORMATS[format].packages:
            pytest.importorskip(package)
        key = json.dumps([format, options])
        if key not in made:
            folder = tmp_path_factory.mktemp("exported")
            made[key] = segzoo.export_model(tiny_run, format, folder, **options).path
        return made[key]

    return export


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[keras.Model, Path]:
    """A network of the zoo with random weights, and the file that Keras writes of it."""
    model = segzoo.build_model("fpn", "resnet18", 3, weights="none", **OPTIONS)
    for weight in model.weights:  # none of which may keep the value that every new network has
        weight.assign_add(0.01 * np.random.default_rng(7).random(weight.shape))
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    model.save(path)
    return model, path


@pytest.fixture
def described(saved, tmp_path) -> tuple[keras.Model, Path]:
    """The network, and the file that a run would write of it."""
    model, path = saved
    path = Path(shutil.copy(path, tmp_path))
    put(path, ModelMetadata(classes=("a", "b", "c"), network=Network("fpn", "resnet18", OPTIONS)))
    return model, path


def put(path: Path, metadata: ModelMetadata) -> None:
    keras_file.put_metadata(path, metadata.to_json())


@pytest.mark.parametrize(
    "format",
    [pytest.param(name, marks=[pytest.mark.nightly] if name == "openvino" else []) for name in FORMATS],
)
def test_an_exported_file_predicts_as_its_run(tiny_run, exported, photo, format):
    of_run, of_file = segzoo.load(tiny_run), segzoo.load(exported(format))
    assert (of_file.class_names, of_file.mode, of_file.background) == (of_run.class_names, "multiclass", 0)
    np.testing.assert_array_equal(of_file.palette, of_run.palette)
    assert of_file.reader.settings == of_run.reader.settings
    expected = of_run.probabilities(photo)
    np.testing.assert_allclose(of_file.probabilities(photo), expected, atol=1e-4)
    assert (of_file.predict_batch(np.stack([photo, photo[::-1]]))[0] != expected.argmax(-1)).mean() < 1e-3
    np.testing.assert_allclose(of_file.probabilities(photo[:5, :9]), of_run.probabilities(photo[:5, :9]), atol=1e-4)
    with pytest.raises(SegzooError, match=r"is no Keras model; `network.logits` computes its logits"):
        of_file.model  # noqa: B018


def test_an_export_of_a_fixed_size_predicts_smaller_images_and_tiles_larger_ones(tiny_run, exported, photo):
    found = segzoo.load(exported("litert", size=(64, 96)))
    small = photo[:60, :90]
    extended = np.pad(small, ((0, 4), (0, 6), (0, 0)), mode="reflect")
    expected = segzoo.load(tiny_run).probabilities(extended)[:60, :90]
    np.testing.assert_allclose(found.probabilities(small), expected, atol=1e-4)
    assert found.predict_batch(np.stack([small] * 3)).shape == (3, 60, 90)
    # The small network sees few pixels around each, so tiles that overlap by a quarter agree with one pass.
    whole = segzoo.load(tiny_run).predict(photo)
    assert (found.predict(photo) != whole).mean() < 0.02
    with pytest.raises(SegzooError, match=r"64 x 96 .height x width. alone.*leave --tile and --overlap out"):
        segzoo.load(exported("litert", size=(64, 96)), tile=32)


def test_an_export_that_returns_classes_gives_class_maps_alone(tiny_run, exported, photo):
    found = segzoo.load(exported("litert", output="classes"))
    assert (found.predict(photo) != segzoo.load(tiny_run).predict(photo)).mean() < 1e-3
    with pytest.raises(SegzooError, match=r"returns classes alone.*export the model with --output logits"):
        found.probabilities(photo)


def test_a_keras_file_is_rebuilt_from_its_description_without_running_it(described, photo, monkeypatch):
    model, path = described
    monkeypatch.setattr(keras.models, "load_model", None)
    monkeypatch.setattr(keras.saving, "load_model", None)
    monkeypatch.setattr(keras.saving, "deserialize_keras_object", None)
    found = segzoo.load(path)
    assert found.class_names == ["a", "b", "c"] and found.palette is None
    images = photo[None].astype("float32")
    np.testing.assert_array_equal(found.model.predict_on_batch(images), model.predict_on_batch(images))


def test_a_keras_file_predicts_in_another_process(described, photo, tmp_path):
    model, path = described
    np.save(tmp_path / "photo.npy", photo)
    code = (
        "import sys, numpy, segzoo; path, photo, out = sys.argv[1:]; "
        "numpy.save(out, segzoo.load(path).logits(numpy.load(photo)[None]))"
    )
    out = tmp_path / "logits.npy"
    subprocess.run([sys.executable, "-c", code, path, tmp_path / "photo.npy", out], check=True, timeout=300)
    expected = model.predict_on_batch(photo[None].astype("float32"))
    np.testing.assert_allclose(np.load(out), expected, atol=1e-4 * np.abs(expected).max())


def test_keras_files_that_no_description_rebuilds_are_refused(saved, described, tmp_path):
    _, path = described
    put(path, ModelMetadata(classes=("a", "b", "c")))
    with pytest.raises(SegzooError, match=r"a network that was given to segzoo.train.*--saved-model"):
        segzoo.load(path)
    put(path, ModelMetadata(classes=("a", "b", "c"), network=Network("fpn", "resnet18", {"pyramid_channels": 24})))
    with pytest.raises(SegzooError, match=r"model.keras lacks \d+ tensors|made for"):
        segzoo.load(path)
    put(path, ModelMetadata(classes=("a", "b", "c"), value_range=(0, 1)))
    with pytest.raises(SegzooError, match="takes pixels from 0 to 1"):
        segzoo.load(path)
    shutil.copy(saved[1], path)
    with pytest.raises(SegzooError, match=r"has no metadata of segzoo.*of an older run take the run folder"):
        segzoo.load(path)
    image = keras.Input((None, None, 3))
    bare = export_model(keras.Model(image, keras.layers.Conv2D(3, 1)(image)), tmp_path, "saved_model").path
    with pytest.raises(SegzooError, match=r"saved_model has no metadata of segzoo.*Export it again by segzoo export"):
        segzoo.load(bare)


def test_sources_that_are_nothing_are_refused(exported, tiny_run, tmp_path, monkeypatch):
    with pytest.raises(RunError, match=r"none.onnx does not exist. A model is a run folder"):
        segzoo.load(tmp_path / "none.onnx")
    with pytest.raises(SegzooError, match="Give a run or a model file"):
        segzoo.load([])
    path = exported("litert")
    with pytest.raises(SegzooError, match="leave weights, model and saved out"):
        segzoo.load(path, "last")
    with pytest.raises(SegzooError, match=r"no configuration: leave seed=3 \(--set\) out"):
        segzoo.load(path, overrides=["seed=3"])
    monkeypatch.setattr("segzoo.device.devices", lambda: ["CPU:0", "GPU:0", "GPU:1"])
    with pytest.raises(SegzooError, match="exported files are computed on the processor; leave --device out"):
        segzoo.load(path, device="/GPU:1")
    for options, words in (
        ({"tile": 100}, "multiples of 32"),
        ({"batch": 0}, "batch must be 1 or more"),
        ({"tile": 0, "overlap": 32}, "overlap is of tiles"),
        ({"tta": "d5"}, "Unknown test-time augmentation 'd5'"),
        ({"device": "GPU:7"}, r"has no device 'GPU:7' here. There is: CPU:0, GPU:0, GPU:1"),
    ):
        with pytest.raises(SegzooError, match=words):
            segzoo.load(tiny_run, **options)


def test_a_file_is_measured_with_the_data_of_a_configuration(tiny_run, exported, tmp_path):
    of_run = segzoo.evaluate(tiny_run, report=False)
    path, data = exported("litert"), tiny_run / "config.yaml"
    found = segzoo.evaluate(path, data=data, report=tmp_path / "report")
    assert found.title == f"{path}: val split, model.tflite" and found.class_names == of_run.class_names
    assert np.abs(found.confusion.counts - of_run.confusion.counts).sum() <= 2
    assert found.loss == pytest.approx(of_run.loss, rel=1e-4)
    assert "model.tflite" in found.report.read_text(encoding="utf-8")
    few = segzoo.evaluate(path, "train", data=data, overrides=["data.train_count=3"])
    assert len(few.images) == 3 and few.report == path.parent / "model_evaluation_train" / "index.html"
    with pytest.raises(SegzooError, match=r"is a model file, which has no data.*--data CONFIG"):
        segzoo.evaluate(path)


def test_data_of_other_classes_or_pixels_are_refused(tiny_run, exported, tmp_path):
    other, names = tmp_path / "other.yaml", load_run(tiny_run).classes
    for classes, of_range, words in (
        (["sky", *names[1:]], "null", rf"class 0 is '{names[0]}' in .*model.tflite and 'sky' in {other}"),
        (names, "[0, 9]", r"trained with data.value_range: None, and the configuration of the data has \(0.0, 9.0\)"),
    ):
        other.write_text(
            "model: {decoder: fpn, backbone: resnet18, weights: none}\ntraining: {epochs: 1}\n"
            f"data: {{source: folder, root: {tmp_path}, batch_size: 1, value_range: {of_range}, classes: {classes}}}\n"
        )
        with pytest.raises(SegzooError, match=words):
            segzoo.evaluate(exported("litert"), data=other)


def test_figures_of_augmented_and_tiled_predictions_have_their_own_name_and_report(tiny_run):
    plain = segzoo.evaluate(tiny_run, report=False)
    found = segzoo.evaluate(tiny_run, tta="d4", tile=64)
    assert found.network == "best weights, tta d4, tile 64"
    assert found.report == tiny_run / "evaluation_val_best_tta-d4_tile-64" / "index.html"
    assert found.confusion.counts.sum() == plain.confusion.counts.sum()
    assert (found.confusion.counts != plain.confusion.counts).any()
    on_processor = segzoo.evaluate(tiny_run, device="cpu", report=False)
    np.testing.assert_array_equal(on_processor.confusion.counts, plain.confusion.counts)


def test_an_ensemble_averages_probabilities_of_runs_and_files(tiny_run, exported, photo):
    last = load_run(tiny_run)
    members = [segzoo.load(tiny_run), segzoo.load(last, "last"), segzoo.load(exported("litert"))]
    found = segzoo.load([tiny_run, last])
    np.testing.assert_allclose(found.probabilities(photo), members[0].probabilities(photo), atol=1e-6)
    mixed = segzoo.load([tiny_run, exported("litert")], tta="mirror").probabilities(photo)
    apart = [segzoo.load(source, tta="mirror").network for source in (tiny_run, exported("litert"))]
    assert [type(network).__name__ for network in apart] == ["ViewsNetwork"] * 2
    straight = segzoo.load([tiny_run, exported("litert")])
    both = np.mean([members[0].probabilities(photo), members[2].probabilities(photo)], axis=0)
    np.testing.assert_allclose(straight.probabilities(photo), both, atol=1e-6)
    assert np.abs(mixed - straight.probabilities(photo)).max() > 1e-3
    measured = segzoo.evaluate([tiny_run, exported("litert")])
    assert measured.run == f"tiny, {exported('litert')}"
    assert measured.report == tiny_run / "evaluation_val_best_with_model" / "index.html"
    with pytest.raises(SegzooError, match="of one run; give one run"):
        segzoo.load([tiny_run, last], model=keras.Sequential())


def test_members_of_other_classes_are_refused_with_the_first_difference(tiny_run, described):
    _, path = described
    names = load_run(tiny_run).classes
    with pytest.raises(SegzooError, match=f"class 0 is '{names[0]}' in tiny and 'a' in .*model.keras"):
        segzoo.load([tiny_run, path])
    put(path, ModelMetadata(classes=(*names[:-1],)))
    with pytest.raises(SegzooError, match=rf"class 5 is '{names[-1]}' in tiny and missing in"):
        segzoo.load([tiny_run, path])
    put(path, ModelMetadata(classes=tuple(names), mode="multilabel"))
    with pytest.raises(SegzooError, match=r"tiny is multiclass, .*model.keras multilabel"):
        segzoo.load([tiny_run, path])


def test_wrong_paths_are_found_before_a_framework_is_imported(tiny_run, tmp_path):
    (tmp_path / "runs").symlink_to(tiny_run)
    calls = ("load('missing')", "predict('runs', 'photos', 'out')", "evaluate(['runs', 'x.onnx'])")
    code = "import sys, segzoo\n" + "".join(
        f"try: segzoo.{call}\nexcept segzoo.SegzooError as error: print(error)\n" for call in calls
    )
    code += "print([name for name in ('keras', 'tensorflow', 'jax', 'torch') if name in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True)
    *messages, imported = printed.stdout.splitlines()
    assert imported == "[]" and len(messages) == 3
    assert "no such folder" in messages[0] and "no such image" in messages[1] and "does not exist" in messages[2]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model.bin", "weights of an OpenVINO model alone: give the model.xml beside it, or their folder"),
        ("best.weights.h5", "a weights file, which does not describe its network: give the run folder"),
        ("model.pth", "a checkpoint of PyTorch: segzoo weights convert"),
        ("run.yaml", "a configuration: give the run folder"),
    ],
)
def test_files_that_are_no_models_are_named_with_what_to_give(tmp_path, name, words):
    (tmp_path / name).write_bytes(b"1234")
    for given in (tmp_path / name, [tmp_path / name]):
        with pytest.raises(RunError, match=f"{name} .*{words}"):
            segzoo.load(given)


def test_a_folder_of_exports_is_refused_with_those_that_it_holds(tmp_path):
    folder = tmp_path / "export"
    (folder / "openvino").mkdir(parents=True)
    (folder / "openvino" / "model.xml").touch()
    (folder / "model.onnx").touch()
    (folder / "notes.txt").touch()
    with pytest.raises(RunError, match=r"folder of model files.* such as .*model\.onnx \(of model.onnx, openvino\)"):
        segzoo.load(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="config"):
        segzoo.load(tmp_path / "empty")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tta": "mirrors"}, "Unknown test-time augmentation 'mirrors'. Did you mean mirror"),
        ({"tta": "d4+flips"}, "only scales can be joined"),
        ({"tile": 100}, "tile and overlap must be multiples of 32"),
        ({"tile": 64, "overlap": 64}, "overlap at most half of tile; got tile 64 and overlap 64"),
        ({"overlap": 33}, "got tile 1024 and overlap 33"),
    ],
)
def test_views_and_tiles_that_cannot_be_are_found_before_a_run_is_opened(options, message):
    for call in (segzoo.load, segzoo.evaluate, lambda run, **given: segzoo.compare([run, run], **given)):
        with pytest.raises(SegzooError, match=message):
            call("no run", **options)


def test_an_ensemble_of_one_run_twice_does_not_disagree_and_a_single_run_is_refused_before_it_is_built(
    tiny_run, tmp_path, monkeypatch
):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)).save(tmp_path / "a.png")
    command = ["predict", str(tiny_run), str(tmp_path / "a.png"), "--output", "uncertainty"]
    command += ["--uncertainty", "disagreement", "--out"]
    app([*command, str(tmp_path / "out"), "--ensemble", str(tiny_run)], standalone_mode=False)
    with np.load(tmp_path / "out" / "uncertainty" / "a.npz") as stored:
        assert stored["uncertainty"].shape == (40, 50) and stored["uncertainty"].max() < 1e-5
    monkeypatch.setattr(prediction, "_started", lambda *given: pytest.fail("the network was built"))
    with pytest.raises(SegzooError, match="A single network has no members that could disagree"):
        app([*command, str(tmp_path / "none")], standalone_mode=False)
