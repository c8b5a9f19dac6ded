import dataclasses
import importlib.util
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

from segzoo.errors import SegzooError, UnknownNameError
from segzoo.export import FORMATS, ModelMetadata, export_model, read_metadata, saved_model
from segzoo.export.parity import TOLERANCE, _compare_batch, comparison_batches
from segzoo.extras import install_command

ALL = list(FORMATS)


@pytest.fixture
def fake():
    """Replace the SavedModel format's loader by one that changes what the exported model returns."""

    def fake(change):
        def load(path):
            run = saved_model.FORMAT.load(path)
            return lambda images: change(run(images))

        FORMATS.register("broken", dataclasses.replace(saved_model.FORMAT, load=load))

    yield fake
    FORMATS.unregister("broken")


@pytest.mark.parametrize("format", ALL)
def test_export_agrees_with_keras_at_even_and_odd_sizes(model, tmp_path, require, format):
    require(*FORMATS[format].packages)
    metadata = ModelMetadata(classes=("a", "b", "c"))
    report = export_model(model, tmp_path / "export", format, metadata=metadata)

    assert read_metadata(report.path) == metadata
    assert report.path == tmp_path / "export" / FORMATS[format].artefact and report.path.exists()
    assert [comparison.shape for comparison in report.comparisons] == [(2, 64, 96), (1, 75, 109)]
    assert report.difference < 1e-4 and report.agreement > 0.999
    assert report.input_shape == (None, None, None, 3)
    assert f"logits differ by at most {report.difference:.2g}" in str(report)
    # Nothing but the artefact: no temporary folder is left.
    assert [path.name for path in report.path.parent.iterdir()] == [report.path.name]


@pytest.mark.parametrize(
    "format", [pytest.param(name, marks=pytest.mark.nightly if name == "openvino" else ()) for name in ALL]
)
def test_class_maps_at_a_fixed_size(model, tmp_path, require, format):
    require(*FORMATS[format].packages)
    report = export_model(model, tmp_path, format, "classes", image_size=(45, 64))
    run = FORMATS[format].load(report.path)
    images = comparison_batches(None, (45, 64))[1]
    found = run(images)

    assert report.input_shape == (1, 45, 64, 3) and report.difference is None and report.agreement > 0.999
    assert found.dtype == np.int32 and found.shape == (1, 45, 64)
    expected = keras.ops.convert_to_numpy(model(images, training=False)).argmax(-1)
    assert (found == expected).mean() > 0.999
    if format != "saved_model":  # TensorFlow checks no shapes when a signature is called
        with pytest.raises(Exception, match=r"(?i)shape|dim|resize|size|expected"):
            run(np.zeros((1, 48, 64, 3), np.float32))


def test_wrong_logits_leave_nothing_behind(model, tmp_path, fake):
    fake(lambda logits: logits + 0.05 * np.abs(logits).max())
    with pytest.raises(SegzooError, match=r"did not pass its comparison.*logits differ by up to"):
        export_model(model, tmp_path, "broken")

    assert list(tmp_path.iterdir()) == []


def test_a_failed_export_keeps_the_earlier_one(model, tmp_path, fake):
    before = export_model(model, tmp_path, "saved_model").path
    stamp = (before / "saved_model.pb").stat().st_mtime_ns
    fake(lambda logits: logits * np.nan)

    with pytest.raises(SegzooError, match="logits differ by up to nan"):
        export_model(model, tmp_path, "broken")

    assert (before / "saved_model.pb").stat().st_mtime_ns == stamp
    assert [path.name for path in tmp_path.iterdir()] == ["saved_model"]


def test_a_converter_that_fails_leaves_nothing_behind(model, tmp_path):
    def write(graph, path):
        path.write_text("half")
        raise RuntimeError("unsupported operation Frobnicate")

    FORMATS.register("failing", dataclasses.replace(FORMATS["litert"], write=write))
    try:
        with pytest.raises(SegzooError, match=r"failing failed; nothing was written.*Frobnicate"):
            export_model(model, tmp_path, "failing")
    finally:
        FORMATS.unregister("failing")

    assert list(tmp_path.iterdir()) == []


def test_overwriting(model, tmp_path):
    first = export_model(model, tmp_path / "model.tflite", "litert").path
    assert first == tmp_path / "model.tflite"
    with pytest.raises(SegzooError, match="exists"):
        export_model(model, first, "litert", overwrite=False)

    export_model(model, tmp_path, "saved_model")
    export_model(model, tmp_path, "saved_model")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.tflite", "saved_model"]


def test_a_folder_with_other_content_is_never_replaced(model, tmp_path):
    (tmp_path / "saved_model").mkdir()
    (tmp_path / "saved_model" / "thesis.txt").write_text("years of work")
    with pytest.raises(SegzooError, match="something else"):
        export_model(model, tmp_path, "saved_model")

    assert (tmp_path / "saved_model" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(("format", "package"), [("onnx", "tf2onnx"), ("openvino", "openvino")])
def test_missing_package_is_named_with_its_cure(model, tmp_path, monkeypatch, format, package):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    with pytest.raises(SegzooError, match=rf"{package}.* not installed: {re.escape(install_command('export'))}"):
        export_model(model, tmp_path, format)


def test_wrong_arguments(model, tmp_path):
    with pytest.raises(UnknownNameError, match="LiteRT"):
        export_model(model, tmp_path, "tflite")
    with pytest.raises(UnknownNameError, match="onnx"):
        export_model(model, tmp_path, "onxx")
    with pytest.raises(UnknownNameError, match="logits"):
        export_model(model, tmp_path, "litert", "logit")
    with pytest.raises(SegzooError, match="32 x 32"):
        export_model(model, tmp_path, "litert", image_size=(16, 64))
    for size in ((0, 0), (64, 8193), (1_000_000, 1_000_000)):
        with pytest.raises(SegzooError, match=f"at most 8192 x 8192, got {size[0]} x {size[1]}"):
            export_model(model, tmp_path, "litert", image_size=size)
    with pytest.raises(SegzooError, match=r"keras\.Model"):
        export_model("unet", tmp_path, "litert")
    dense = keras.Sequential([keras.Input((5,)), keras.layers.Dense(2)])
    with pytest.raises(SegzooError, match="must take one batch of images"):
        export_model(dense, tmp_path, "litert")


def test_builder_runs_under_the_float32_policy(tmp_path, dtype_policy, builder):
    dtype_policy("mixed_bfloat16")
    report = export_model(builder, tmp_path, "saved_model")

    assert not report.from_half
    assert keras.config.dtype_policy().name == "mixed_bfloat16"


def test_samples_are_compared_as_they_are_and_one_pixel_smaller(model, tmp_path):
    sample = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
    report = export_model(model, tmp_path, "saved_model", samples=[sample])
    assert [comparison.shape for comparison in report.comparisons] == [(1, 50, 60), (1, 49, 59)]

    report = export_model(model, tmp_path, "saved_model", samples=[sample], image_size=(32, 40))
    assert [comparison.shape for comparison in report.comparisons] == [(1, 32, 40)]
    for samples in ([], [np.zeros((32, 32, 3))], [np.zeros((64, 64))]):
        with pytest.raises(SegzooError, match="samples"):
            export_model(model, tmp_path, "saved_model", samples=samples)


def test_comparison_of_classes_forgives_ties_only():
    expected = np.array([[[[1.0, 1.0 + TOLERANCE / 2], [0.0, 1.0]]]], np.float32)
    right = expected.argmax(-1).astype(np.int32)
    tie = right.copy()
    tie[0, 0, 0] = 0
    wrong = right.copy()
    wrong[0, 0, 1] = 0

    assert _compare_batch(expected, right, "classes", (1, 1, 2)).agreement == 1
    assert _compare_batch(expected, tie, "classes", (1, 1, 2)).agreement == 0.5
    with pytest.raises(SegzooError, match="1 pixels of 2 got another class"):
        _compare_batch(expected, wrong, "classes", (1, 1, 2))


@pytest.mark.parametrize(
    "found", [np.zeros((1, 1, 2, 2)), np.zeros((1, 2, 1, 2), np.float32), np.zeros((1, 1, 2), int)]
)
def test_comparison_refuses_another_type_or_shape(found):
    with pytest.raises(SegzooError, match="is due"):
        _compare_batch(np.ones((1, 1, 2, 2), np.float32), found, "logits", (1, 1, 2))


def test_comparison_refuses_a_model_that_returns_nan():
    logits = np.full((1, 1, 2, 2), np.nan, np.float32)
    with pytest.raises(SegzooError, match="Keras model itself"):
        _compare_batch(logits, logits, "logits", (1, 1, 2))


def test_listing_formats_imports_no_framework():
    code = "import sys; from segzoo.export import FORMATS, is_model_file; from pathlib import Path; print(*FORMATS); "
    code += "assert not is_model_file(Path('x')); assert not {'keras', 'tensorflow', 'onnx', 'cv2'} & {*sys.modules}"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.split() == ALL


@pytest.mark.parametrize("output", ["logits", "classes"])
def test_a_single_logit_is_exported(tmp_path, output):
    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.Conv2D(1, 3, padding="same")(keras.layers.Rescaling(1 / 64, -2)(image)))
    report = export_model(model, tmp_path, "saved_model", output)
    assert report.agreement == 1.0
