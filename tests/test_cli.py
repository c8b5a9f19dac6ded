"""The command line as a user meets it: what is printed, what is written, and one paragraph for each error."""

import io
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import segzoo
from segzoo.backbones.figures import figures
from segzoo.cli import main

RECIPE = """
model: {decoder: fpn, backbone: resnet18, weights: none}
data: {source: generated, size: [32, 32], train_count: 8, val_count: 5, batch_size: 4, eval_batch_size: 4}
training: {epochs: 2, schedule: {name: poly, warmup_steps: 1}}
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory with one recipe in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Folder of a finished run that the first test that needs it leaves for the others."""
    return tmp_path_factory.mktemp("finished") / "tiny"


@pytest.fixture
def run(here, finished, quick, capsys):
    """A finished run of the small network, a copy of the test's own."""
    if not finished.exists():
        main_quietly("train", "--config", "tiny.yaml")
        shutil.copytree(here / "runs" / "tiny", finished)
    shutil.copytree(finished, here / "runs" / "tiny", dirs_exist_ok=True)
    capsys.readouterr()
    return here / "runs" / "tiny"


def main_quietly(*arguments):
    """Run a command that should succeed."""
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert stop.value.code == 0


def refused(capsys, *arguments):
    """Run a command that should fail with one paragraph on the standard error; returns the paragraph."""
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert stop.value.code == 1
    message = capsys.readouterr().err
    assert message.startswith("Error: ") and "Traceback" not in message
    return message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            "model: {decoder: unet, backbone: efficientnet_b0}\ndataa: {source: generated}\n",
            r"bad\.yaml:2.*dataa.*data",
        ),
        (RECIPE.replace("epochs: 2", "epochs: two"), r"bad\.yaml:4.*training\.epochs"),
        (RECIPE + "seed: 1\nseed: 2\n", r"bad\.yaml:\d+.*seed"),
        (RECIPE.replace("resnet18", "efficientnetv2_b4"), r"efficientnetv2_b3"),
        (RECIPE.replace("fpn", "unett"), r"unet"),
    ],
)
def test_a_bad_config_is_one_paragraph(here, capsys, content, expected):
    (here / "bad.yaml").write_text(content)
    assert re.search(expected, refused(capsys, "train", "--config", "bad.yaml"))
    assert not (here / "runs").exists()


def test_a_missing_config_names_the_places_and_the_recipes(here, capsys):
    message = refused(capsys, "train", "--config", "unet_b33.yaml")
    assert "unet_b33.yaml" in message and "unet_b3" in message


def test_bad_data_leaves_no_run_folder(here, capsys):
    data = "{source: folder, root: nowhere, classes: [a, b]}"
    (here / "bad.yaml").write_text(re.sub(r"data: \{.*\}", f"data: {data}", RECIPE))
    assert "nowhere" in refused(capsys, "train", "--config", "bad.yaml")
    assert not (here / "runs").exists()


def test_a_folder_with_a_run_is_refused_on_the_command_line(run, capsys):
    assert "--resume" in refused(capsys, "train", "--config", "tiny.yaml")


def test_evaluate_finds_what_training_found(run, capsys):
    main_quietly("evaluate", str(run))
    assert "mean IoU" in capsys.readouterr().out
    folder = run / "evaluation_val_best"
    report = json.loads((folder / "report.json").read_text())
    finish = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    assert report["mean_iou"] == pytest.approx(finish["val_mean_iou"], abs=1e-6)
    assert np.array(report["confusion_matrix"]).shape == (6, 6)
    pictures = {"confusion.png", "calibration.png", "worst.png"}
    assert {path.name for path in folder.iterdir()} == {
        "report.json",
        "report.md",
        "index.html",
        "images.csv",
        *pictures,
    }
    assert "is not a run folder" in refused(capsys, "evaluate", str(run.parent))


def test_predict_writes_a_class_map_and_an_overlay_for_each_image(run, here, capsys):
    photos = here / "photos" / "sub"
    photos.mkdir(parents=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 41, 3), dtype=np.uint8)).save(photos / "one.png")
    main_quietly("predict", str(run), "photos", "--out", "out")
    class_map = np.asarray(Image.open(here / "out" / "classes" / "sub" / "one.png"))
    assert class_map.shape == (50, 41) and class_map.max() < 6
    assert (here / "out" / "overlays" / "sub" / "one.jpg").is_file()
    assert "overwrite" in refused(capsys, "predict", str(run), "photos", "--out", "out")
    (photos / "two.jpg").write_bytes(b"no image")
    with pytest.raises(SystemExit) as stop:
        main(["predict", str(run), "photos", "--out", "again"])
    assert stop.value.code == 1
    assert "1 failed" in capsys.readouterr().out
    assert (here / "again" / "classes" / "sub" / "one.png").is_file()


def test_options_of_the_computation_reach_predict_and_evaluate(run, here, capsys):
    pixels = np.random.default_rng(0).integers(0, 256, (70, 100, 3), np.uint8)
    Image.fromarray(pixels).save(here / "one.png")
    options = ("--tta", "mirror+scales", "--tile", "64", "--overlap", "32", "--batch", "2", "--device", "cpu")
    file = segzoo.export_model(run, "saved_model").path

    main_quietly("predict", str(file), "one.png", "--out", "out", "--ensemble", "runs/tiny", *options)

    expected = segzoo.load([file, run], tta="mirror+scales", tile=64, overlap=32, batch=2).predict(pixels)
    np.testing.assert_array_equal(np.asarray(Image.open(here / "out" / "classes" / "one.png")), expected)
    capsys.readouterr()
    main_quietly("evaluate", str(file), "--data", "tiny.yaml", "--ensemble", "runs/tiny", *options)
    printed = " ".join(capsys.readouterr().out.split())
    assert "val split, saved_model, tta mirror+scales, tile 64, overlap 32" in printed and "mean IoU" in printed
    folder = run / "export" / "saved_model_evaluation_val_with_tiny_tta-mirror+scales_tile-64_overlap-32"
    assert (folder / "index.html").is_file()
    message = refused(capsys, "predict", "runs/tiny", "one.png", "--out", "more", "--device", "GPU:3")
    assert "tensorflow has no device 'GPU:3' here. There is: CPU:0" in message


def test_predict_writes_the_outputs_that_were_asked_for(run, here, capsys):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 41, 3), dtype=np.uint8)).save(here / "one.png")
    asked = ["--output", "probabilities, objects,table", "--probabilities", "top", "--min-area", "2000"]
    main_quietly("predict", str(run), "one.png", "--out", "out", *asked)
    files = {path.relative_to(here / "out").as_posix() for path in (here / "out").rglob("*") if path.is_file()}
    images = {"probabilities/one.npz", "objects/one.png", "objects/one.csv"}
    assert files == {"classes.json", "table.csv", *images}
    with np.load(here / "out" / "probabilities" / "one.npz") as stored:
        assert stored["probabilities"].shape == (50, 41) and len(stored["classes"]) == 6
    assert len((here / "out" / "objects" / "one.csv").read_text().splitlines()) <= 2  # 2,050 pixels hold one at most
    capsys.readouterr()
    assert "Did you mean polygons?" in refused(
        capsys, "predict", str(run), "one.png", "--out", "x", "--output", "polygon"
    )
    crs = ["--output", "polygons", "--coordinates", "crs"]
    assert "one.png: CRS missing" in refused(capsys, "predict", str(run), "one.png", "--out", "x", *crs)
    assert not (here / "x").exists()


@pytest.mark.parametrize("separator", ["\n", "\0"])
def test_paths_come_from_arguments_patterns_and_standard_input(run, here, monkeypatch, separator):
    pixels = np.zeros((40, 40, 3), np.uint8)
    (here / "in").mkdir()
    for name in ("1.png", "2.png", "a b.png", "left.bmp"):
        Image.fromarray(pixels).save(here / "in" / name)
    listed = io.TextIOWrapper(io.BytesIO(separator.join(["in/a b.png", "in/1.png", ""]).encode()))
    monkeypatch.setattr(sys, "stdin", listed)
    main_quietly("predict", str(run), "in/*.bmp", "-", "in/2.png", "--out", "out")
    assert sorted(path.name for path in (here / "out" / "classes").iterdir()) == [
        "1.png", "2.png", "a b.png", "left.png",
    ]  # fmt: skip


def test_an_image_over_the_limit_names_the_option_that_raises_it(run, here, capsys):
    Image.fromarray(np.zeros((40, 50), np.uint8)).save(here / "big.png")
    for override in ("1999", "2000"):
        with pytest.raises(SystemExit) as stop:
            main(["predict", str(run), "big.png", "--out", f"out{override}", "--max-pixels", override])
        assert stop.value.code == (1 if override == "1999" else 0)
    printed = " ".join(capsys.readouterr().out.split())
    assert "50 x 40 is 2000 pixels, over the limit of 1999" in printed
    assert "raise the limit to 2000" in printed and "predict --max-pixels" in printed
    assert np.asarray(Image.open(here / "out2000" / "classes" / "big.png")).shape == (40, 50)


def test_the_test_split_is_evaluated_under_its_own_title_and_in_its_own_folder(run, capsys):
    message = refused(capsys, "evaluate", str(run), "--split", "test")
    assert "There is no test split" in message and "data.test_split" in message
    main_quietly("evaluate", str(run), "--split", "test", "--set", "data.test_split=test", "--set", "data.val_count=3")
    printed = capsys.readouterr().out
    assert "test split, best weights" in printed and "Device: " in printed
    assert "evaluating: 3 images\n" in printed  # before the first batch, for whoever reads a log
    report = json.loads((run / "evaluation_test_best" / "report.json").read_text())
    assert report["title"] == "tiny: test split, best weights" and report["samples"] == 3
    main_quietly("evaluate", str(run))
    other = json.loads((run / "evaluation_val_best" / "report.json").read_text())
    assert other["confusion_matrix"] != report["confusion_matrix"]


def test_a_run_says_on_which_device_it_trained(run):
    environment = json.loads((run / "environment.json").read_text())
    assert "core" in environment["device"] and environment["xla"] is False
    assert environment["device"] in (run / "summary.md").read_text()
    sessions = [json.loads(line) for line in (run / "sessions.jsonl").read_text().splitlines()]
    assert sessions[0]["device"] == environment["device"]


def test_export_says_how_far_it_agrees(run, capsys):
    main_quietly("export", str(run), "--format", "saved_model")
    assert re.search(r"logits differ by at most .*100\.00 % of pixels", capsys.readouterr().out, re.DOTALL)
    assert (run / "export" / "saved_model").is_dir()
    assert "litert" in refused(capsys, "export", str(run), "--format", "tflite")
    assert "512x768" in refused(capsys, "export", str(run), "--format", "saved_model", "--size", "512")


def test_check_data_lists_every_problem(here, capsys):
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (here / "set" / split / kind).mkdir(parents=True)
        for name in ("a", "b"):
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(here / "set" / split / "images" / f"{name}.png")
            Image.fromarray(np.zeros((8, 8), np.uint8)).save(here / "set" / split / "masks" / f"{name}.png")
    data = "{source: folder, root: set, classes: [sky, road]}"
    (here / "mine.yaml").write_text(re.sub(r"data: \{.*\}", f"data: {data}", RECIPE))
    main_quietly("check-data", "mine.yaml")
    capsys.readouterr()
    bad = np.zeros((8, 8), np.uint8)
    bad[:2, :3] = 7
    Image.fromarray(bad).save(here / "set" / "val" / "masks" / "a.png")
    Image.fromarray(np.zeros((9, 8), np.uint8)).save(here / "set" / "val" / "masks" / "b.png")
    with pytest.raises(SystemExit) as stop:
        main(["check-data", "mine.yaml"])
    assert stop.value.code == 1
    printed = capsys.readouterr().out
    assert "a.png" in printed and "6 pixel" in printed and "b.png" in printed
    page = (here / "runs" / "mine_data" / "report.html").read_text()
    assert "label out of range" in page and "data:image/jpeg;base64," in page and "http" not in page
    listed = json.loads((here / "runs" / "mine_data" / "report.json").read_text())
    assert {p["id"] for p in listed["problems"] if p["severity"] == "error"} == {"a", "b"}
    with pytest.raises(SystemExit):
        main(["check-data", "mine.yaml", "--fix", "mended", "--report", "here"])
    assert (here / "here" / "report.html").is_file()
    assert (here / "mended" / "train" / "images" / "a.png").is_file()


def test_check_data_reads_the_test_split_too(here, capsys):
    for split in ("train", "val", "exam"):
        for kind in ("images", "masks"):
            (here / "set" / split / kind).mkdir(parents=True)
        rng = np.random.default_rng(len(split))
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(here / "set" / split / "images" / "a.png")
        mask = np.eye(40, dtype=np.uint8) * (7 if split == "exam" else 1)
        Image.fromarray(mask).save(here / "set" / split / "masks" / "a.png")
    data = "{source: folder, root: set, classes: [sky, road], test_split: exam}"
    (here / "mine.yaml").write_text(re.sub(r"data: \{.*\}", f"data: {data}", RECIPE))
    with pytest.raises(SystemExit) as stop:
        main(["check-data", "mine.yaml"])
    assert stop.value.code == 1 and "label 7 (40 pixels)" in capsys.readouterr().out
    main_quietly("check-data", "mine.yaml", "--set", "data.test_split=null")
    both = "data.split={fraction: 0.5, test_fraction: 0.2}"
    assert "leave one of the two out" in refused(capsys, "check-data", "mine.yaml", "--set", both)


def test_lists_and_schema(here, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    main_quietly("backbones")
    listed = capsys.readouterr().out
    assert [name for name in segzoo.backbones.names() if f" {name} " not in listed] == []
    main_quietly("backbones", "efficientnet_b3", "--size", "512x512")
    shown = capsys.readouterr().out
    assert "block6a_expand_activation" in shown and "resnet50" not in shown
    four_times = f"{figures('efficientnet_b3').gflops * 4:.1f}"
    assert "GFLOPs at 512x512" in shown and four_times in shown
    main_quietly("backbones", "nasnet_mobile")
    assert "Output stride 32 only" in " ".join(capsys.readouterr().out.split())
    main_quietly("backbones", "--markdown", "page.md")
    assert Path("page.md").read_text() == (Path(__file__).parents[1] / "docs" / "backbones.md").read_text()
    main_quietly("decoders")
    assert "deeplabv3plus" in capsys.readouterr().out
    main_quietly("schema")
    assert "efficientnetv2_s" in capsys.readouterr().out
