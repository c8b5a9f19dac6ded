"""Exports of a run in fewer bits: calibrated on its training split, measured on its validation split."""

import dataclasses
import json
import shutil

import pytest

import segzoo
from segzoo.cli import main
from segzoo.errors import RunError, SegzooError, UnknownNameError
from segzoo.export import FORMATS, read_metadata

pytestmark = pytest.mark.usefixtures("small_network", "no_trial")


def test_int8_is_measured_on_the_validation_split(tiny_run, tmp_path):
    report = segzoo.export_model(
        tiny_run, "litert", tmp_path, precision="int8", calibration_images=3, max_drop=100, license="mit"
    )
    assert report.path == tmp_path / "model-int8.tflite"
    assert report.accuracy.keras == pytest.approx(segzoo.evaluate(tiny_run, report=False).mean_iou, abs=1e-4)
    assert report.accuracy.images == 5 and 0 <= report.accuracy.exported <= 1
    metadata = read_metadata(report.path)
    assert (metadata.precision, metadata.license, metadata.version) == ("int8", "mit", segzoo.__version__)


def test_the_command_prints_what_was_measured(tiny_run, tmp_path, capsys):
    out = str(tmp_path / "small.tflite")
    words = ["export", str(tiny_run), "--format", "litert", "--precision", "dynamic", "--max-drop", "100"]
    with pytest.raises(SystemExit, match="0"):
        main([*words, "--size", "64x96", "--out", out])
    printed = capsys.readouterr().out
    assert f"litert dynamic: {out}" in printed and "mean IoU on 5 validation images: " in printed
    assert read_metadata(tmp_path / "small.tflite").size == (64, 96)


@pytest.fixture
def undescribed(tiny_run, tmp_path):
    """A run whose validation data was given to `train`."""
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    facts = json.loads((run / "environment.json").read_text())
    (run / "environment.json").write_text(json.dumps({**facts, "given": {"val_data": "a list"}}))
    return run


def test_data_that_the_run_does_not_describe_is_asked_for(undescribed, tmp_path):
    run = undescribed
    with pytest.raises(RunError, match=r"val_data that was given.*calibration and validation"):
        segzoo.export_model(run, "litert", tmp_path / "out", precision="dynamic")
    found = segzoo.export_model(
        run, "litert", tmp_path / "out", precision="dynamic", overrides=["data.val_count=2"], max_drop=100
    )
    assert found.accuracy.images == 2


def test_options_are_checked_before_anything_is_built(tiny_run, tmp_path):
    with pytest.raises(
        UnknownNameError, match=r"precision of onnx.*float16, float32, int8\. Formats with dynamic: litert\."
    ):
        segzoo.export_model(tiny_run, "onnx", tmp_path, precision="dynamic")
    for wrong in ({"calibration_images": 0}, {"max_drop": -1}, {"max_drop": float("nan")}):
        with pytest.raises(SegzooError, match="calibration_images must be 1 or more and max_drop 0 or more"):
            segzoo.export_model(tiny_run, "onnx", tmp_path, precision="int8", **wrong)
    with pytest.raises(SegzooError, match=r"all.onnx is the name of a file, and several exports are written into a fo"):
        segzoo.export_all(tiny_run, tmp_path / "all.onnx")
    assert [*tmp_path.iterdir()] == []


def test_a_table_of_exports_scores_each_and_goes_on_after_one_that_fails(tiny_run, tmp_path, monkeypatch):
    steps = []
    given = {"formats": ["saved_model", "litert"], "calibration_images": 3, "max_drop": 100}
    failing = dataclasses.replace(FORMATS["litert"].reduced["float16"], write=lambda *_: 1 / 0)
    monkeypatch.setitem(FORMATS["litert"].reduced, "float16", failing)
    table = segzoo.export_all(tiny_run, tmp_path, **given, progress=lambda *step: steps.append(step))
    keras, whole, lite, half, int8, dynamic = table.rows

    assert [(row.format, row.precision) for row in (whole, lite, half, int8, dynamic)] == [
        ("saved_model", "float32"), ("litert", "float32"), ("litert", "float16"), ("litert", "int8"),
        ("litert", "dynamic"),
    ]  # fmt: skip
    assert steps == [(done, 5) for done in range(6)]
    assert table.failed == [half] and half.file is None and "ZeroDivisionError" in half.remark
    names = {"saved_model", "model.tflite", "model-int8.tflite", "model-dynamic.tflite"}
    assert {path.name for path in tmp_path.iterdir()} == names | {"exports.html", "exports.json", "exports.md"}
    assert keras.mean_iou == pytest.approx(segzoo.evaluate(tiny_run, report=False).mean_iou, abs=1e-4)
    assert whole.mean_iou == pytest.approx(keras.mean_iou, abs=1e-4) and whole.difference < 1e-3
    assert 0 < int8.megabytes < 1 and int8.milliseconds is None
    stored = json.loads((tmp_path / "exports.json").read_text())
    assert stored["exports"][4]["mean_iou"] == int8.mean_iou and stored["title"] == "Exports of tiny, best weights"


def test_without_data_the_rest_is_exported_and_the_reason_given(undescribed, tmp_path):
    table = segzoo.export_all(undescribed, tmp_path / "out", formats=["litert"])
    assert [row.file for row in table.rows] == ["model.tflite", "model-float16.tflite", None, None]
    assert "Mean IoU was not measured" in table.notes[0] and all(row.mean_iou is None for row in table.rows)


def test_the_command_times_exports_in_processes_of_their_own(tiny_run, tmp_path, capsys):
    words = ["export", str(tiny_run), "--format", "onnx", "--benchmark", "--runs", "2", "--threads", "1"]
    with pytest.raises(SystemExit, match="0"):
        main([*words, "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "Exports of tiny" in printed and f"Table: {tmp_path / 'exports.html'}" in printed
    keras, onnx = json.loads((tmp_path / "exports.json").read_text())["exports"]
    assert (keras["format"], onnx["format"], onnx["file"]) == ("keras", "onnx", "model.onnx")
    assert onnx["milliseconds"] == pytest.approx(1000 / onnx["images_per_second"]) and onnx["memory"] > 20
    page, text = ((tmp_path / f"exports.{ending}").read_text() for ending in ("html", "md"))
    for shown in ("Latency, ms", "median of 2 images of 32 x 32 pixels", "on 1 threads of"):
        assert shown in page and shown.replace("_", "\\_") in text


def test_a_precision_that_no_format_has_is_refused(tiny_run, tmp_path):
    with pytest.raises(UnknownNameError, match="precision of saved_model, onnx"):
        segzoo.export_all(tiny_run, tmp_path, formats=["saved_model", "onnx"], precisions=["dynamic"])
    with pytest.raises(UnknownNameError, match="export format"):
        segzoo.export_all(tiny_run, tmp_path, formats=["onxx"])
