"""Metadata of model files: what goes in comes out, of every format, and nothing else is believed."""

import dataclasses
import json
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest

from segzoo.errors import SegzooError
from segzoo.export import FORMATS, export_model, format_of, is_model_file, keras_file, read_metadata, run_exported
from segzoo.export.metadata import MOST, ModelMetadata, Network, Reading, plain

ROADS = ModelMetadata(
    classes=("sky", "Straße \N{SNOWMAN}", 'a "quoted" <b>&amp;</b> name'),
    colours=((0, 0, 0), (255, 128, 7), (1, 2, 3)),
    background=0,
    reading=Reading(bands=(4, 3, 2), value_range=(0, 4095.5), alpha="white", upright=True),
    network=Network("unet", "efficientnet_b0", {"channels": [8, 4], "attention": None, "drop_path": 0.1}),
    license="cc-by-4.0",
    version="1.2.3",
)


def changed(**values):
    return json.dumps({**json.loads(ROADS.to_json()), **values})


def test_json_gives_back_what_it_was_made_of():
    tags = ModelMetadata(classes=("a", "b"), mode="multilabel", thresholds=(0.25, 0.5), output="classes", channels=1)
    for metadata in (ROADS, tags, dataclasses.replace(tags, mode="binary", thresholds=(0.9,))):
        assert ModelMetadata.from_json(metadata.to_json(), "here") == metadata
    assert ROADS.to_json().isascii() and "\n" not in ROADS.to_json()


def test_a_key_of_a_later_version_is_passed_over():
    assert ModelMetadata.from_json(changed(author="somebody"), "here") == ROADS


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "JSON"),
        ("[1]", "should be an object"),
        ("{}", "classes"),
        ('{"classes": ' + "[" * 100_000, "JSON"),
        (changed(format=2), "is of format '2'"),
        (changed(classes=[]), "classes"),
        (changed(classes="sky"), "classes"),
        (changed(classes=["sky", 1, "x"]), r"classes\.1"),
        (changed(classes=["sky", "sky", "x"]), "the same name"),
        (changed(classes=["sky", "\x1b[31m", "x"]), "control characters"),
        (changed(classes=["sky", "a" * 1001, "x"]), r"classes\.1"),
        (changed(mode="panoptic"), "mode"),
        (changed(mode="binary"), "two classes, not 3"),
        (changed(colours=[[0, 0, 256]] * 3), "colours"),
        (changed(colours=[[0, 0, 1.5]] * 3), "colours"),
        (changed(colours=[[0, 0, 0]]), "1 colours for 3 classes"),
        (changed(background=3), "background is class 3 of 3"),
        (changed(thresholds=[0.5]), "1 thresholds for 3 classes"),
        (changed(mode="multilabel", thresholds=[0.5, 1.0, 0.5]), r"thresholds\.1"),
        (changed(channels=True), "channels"),
        (changed(channels=10**30), "channels"),
        (changed(size=[0, 64]), r"size\.0"),
        (changed(value_range=[255, 0]), "255 to 0 is empty"),
        (changed(value_range=[0, float("nan")]), "value_range"),
        (changed(reading={"bands": [1]}), "1 bands for 3 channels"),
        (changed(reading={"alpha": "grey"}), r"reading\.alpha"),
        (changed(precision=8), "precision"),
        (changed(license=5), "license"),
        (changed(version="9" * MOST), "the most"),
    ],
)
def test_json_that_is_wrong_is_refused_in_a_sentence(text, reason):
    with pytest.raises(SegzooError, match=reason) as caught:
        ModelMetadata.from_json(text, "roads.onnx")
    message = str(caught.value)
    assert message.startswith("roads.onnx: its metadata") and "\n" not in message and len(message) < 500


def test_options_become_what_json_gives_back():
    assert plain({"channels": (8, 4), "of": {1: np.float32}}) == {"channels": [8, 4], "of": {"1": str(np.float32)}}


@pytest.mark.parametrize(  # OpenVINO takes seconds, and test_exporter.py has it
    "format", [pytest.param(name, marks=pytest.mark.nightly if name == "openvino" else ()) for name in FORMATS]
)
def test_every_format_carries_the_metadata(model, tmp_path, require, pixels, format):
    require(*FORMATS[format].packages)
    path = export_model(model, tmp_path / "described", format, metadata=ROADS).path
    stored = (FORMATS[format].marker and path / FORMATS[format].marker) or path

    assert read_metadata(path) == ROADS == read_metadata(stored)
    assert format_of(path) == format == format_of(stored) and is_model_file(path)
    images = pixels(45, 64)
    found = run_exported(stored)(images)
    np.testing.assert_allclose(found, model(images, training=False), atol=1e-4)


@pytest.mark.parametrize("format", ["litert", "saved_model"])
def test_mode_and_output_are_those_of_the_export(model, tmp_path, format):
    wrong = dataclasses.replace(ROADS, mode="multilabel", reading=Reading())
    path = export_model(model, tmp_path, format, "classes", metadata=wrong).path
    assert read_metadata(path) == dataclasses.replace(wrong, mode="multiclass", output="classes")


def test_a_fixed_size_is_that_of_the_export(model, tmp_path):
    path = export_model(model, tmp_path, "saved_model", image_size=(64, 96), metadata=ROADS).path
    assert read_metadata(path) == dataclasses.replace(ROADS, size=(64, 96))


def test_a_file_without_metadata_has_none(model, tmp_path):
    assert read_metadata(export_model(model, tmp_path, "litert").path) is None
    assert read_metadata(export_model(model, tmp_path, "saved_model").path) is None
    model.save(tmp_path / "model.keras")
    assert read_metadata(tmp_path / "model.keras") is None


def test_keras_loads_a_described_file_elsewhere(model, tmp_path, pixels):
    path = tmp_path / "model.keras"
    model.save(path)
    before = zipfile.ZipFile(path)
    keras_file.put_metadata(path, ROADS.to_json())
    after = zipfile.ZipFile(path)

    assert read_metadata(path) == ROADS and [each.name for each in tmp_path.iterdir()] == [path.name]
    assert after.testzip() is None and after.namelist() == before.namelist()
    assert json.loads(after.read("metadata.json"))["keras_version"] == keras.__version__
    images = pixels(45, 64)
    again = keras.models.load_model(path)(images, training=False)
    np.testing.assert_array_equal(again, model(images, training=False))


@pytest.mark.parametrize("name", ["model.onnx", "model.tflite", "model.keras", "openvino/model.xml"])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, require, name):
    require("onnx", "openvino")
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"<nothing of the kind>" * 9)
    with pytest.raises(SegzooError, match="cannot be read as") as caught:
        read_metadata(path)
    assert str(path) in str(caught.value) and len(str(caught.value)) < 700


def test_other_files_are_no_exports(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"x")
    for path, reason in ((tmp_path / "model.pt", "is no exported model"), (tmp_path / "a.onnx", "does not exist")):
        assert not is_model_file(path)
        with pytest.raises(
            SegzooError, match=rf"{reason}.*onnx \(a file \*.onnx\).*openvino \(a folder with model.xml"
        ):
            read_metadata(path)


def test_huge_metadata_is_not_unpacked(tmp_path):
    path = tmp_path / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", '{"segzoo": "' + "0" * (2 * MOST) + '"}')
    with pytest.raises(SegzooError, match="claims"):
        read_metadata(path)


@pytest.mark.nightly
def test_a_process_that_reads_a_litert_file_says_nothing_of_tensorflow(tmp_path, builder):
    export_model(builder, tmp_path / "a.tflite", "litert", metadata=ROADS)
    code = "import pathlib, sys, segzoo.export as e; print(e.read_metadata(pathlib.Path(sys.argv[1])).mode)"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.tflite"], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("multiclass\n", "")
