"""Thresholds of binary and multilabel runs: tuned on the validation split, stored, used and said everywhere."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import segzoo
from segzoo.cli import main
from segzoo.cli.options import parsed_threshold
from segzoo.engine.checkpoint.run import load_run
from segzoo.engine.checkpoint.thresholds import thresholds_of
from segzoo.errors import RunError, SegzooError, UnknownNameError
from segzoo.export import read_metadata

RECIPE = """
mode: {mode}
model: {{decoder: fpn, backbone: resnet18, weights: none}}
data:
  source: folder
  root: data
  classes: {classes}
  masks: {masks}
  batch_size: 4
loss: {{binary_cross_entropy: 1.0}}
training: {{epochs: 2, schedule: {{name: poly, warmup_steps: 1}}, optimizer: {{learning_rate: 0.01}}}}
"""
CLASSES = {"binary": ["rest", "bright"], "multilabel": ["bright", "dark"]}


def write_data(root, mode):
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for number in range(8):
            bright = np.zeros((32, 32), np.uint8)
            bright[:, : rng.integers(4, 14)] = 1
            image = rng.integers(0, 120, (32, 32, 3)) + 110 * bright[..., None]
            Image.fromarray(image.astype(np.uint8)).save(root / split / "images" / f"{number}.png")
            bright[:2] = 255  # ignored
            both = np.where(bright == 255, 255, 1 - bright)
            if mode == "binary":
                Image.fromarray(bright).save(root / split / "masks" / f"{number}.png")
            else:
                np.save(root / split / "masks" / f"{number}.npy", np.stack([bright, both], -1))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Folder of what the first test of each mode leaves for the others: its data and a finished run."""
    return tmp_path_factory.mktemp("finished")


@pytest.fixture(params=["binary", "multilabel"])
def run(request, finished, tmp_path, monkeypatch, quick):
    """A finished run of a small network in the working directory, a copy of the test's own."""
    made, mode = finished / request.param, request.param
    if not made.exists():
        made.mkdir()
        monkeypatch.chdir(made)
        write_data(made / "data", mode)
        masks = "array" if mode == "multilabel" else "index"
        (made / "tiny.yaml").write_text(RECIPE.format(mode=mode, classes=CLASSES[mode], masks=masks))
        segzoo.train("tiny.yaml")
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs" / "tiny"


def command(capsys, *arguments, code=0):
    """Run a command; returns what it printed, in one line."""
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, arguments)))
    assert stop.value.code == code
    printed = capsys.readouterr()
    return " ".join((printed.out + printed.err).split())


def masks_of(found, mode) -> tuple[np.ndarray, np.ndarray]:
    """Return the validation split's masks and the probabilities of the classes with thresholds, both (N, H, W, C)."""
    masks, probabilities = [], []
    for number in range(8):
        image = np.asarray(Image.open(f"data/val/images/{number}.png"))
        given = found.probabilities(image)
        if mode == "binary":
            masks.append(np.asarray(Image.open(f"data/val/masks/{number}.png"))[..., None])
            probabilities.append(given[..., 1:])
        else:
            masks.append(np.load(f"data/val/masks/{number}.npy"))
            probabilities.append(given)
    return np.stack(masks), np.stack(probabilities)


def f1(target, found) -> float:
    counted = target != 255
    target, found = target[counted] == 1, found[counted]
    return 2 * (target & found).sum() / max(1, target.sum() + found.sum())


def test_tuned_thresholds_are_the_best_and_are_used_and_said_everywhere(run, capsys):
    mode = load_run(run).config.mode
    names = CLASSES[mode][-1:] if mode == "binary" else CLASSES[mode]
    plain = segzoo.load(run)
    assert plain.thresholds is None
    masks, probabilities = masks_of(plain, mode)

    printed = command(capsys, "evaluate", run, "--tune-threshold", "f1")

    tuned = segzoo.load(run).thresholds
    assert tuned != (0.5,) * len(names)
    for index, name in enumerate(names):
        scores = [f1(masks[..., index], probabilities[..., index] > cut) for cut in np.arange(1, 100) / 100]
        assert f1(masks[..., index], probabilities[..., index] > tuned[index]) >= max(scores) > 0.3
        assert f"{name} {tuned[index]:.3g}" in printed
    assert "(tuned by f1 on the validation split)" in printed

    report = json.loads((run / "evaluation_val_best" / "report.json").read_text())
    assert report["thresholds"]["values"] == dict(zip(names, tuned, strict=True))
    dice = {row["class"]: row["dice"] for row in report["classes"]}
    for index, name in enumerate(names):  # the table is that of these thresholds
        expected = f1(masks[..., index], probabilities[..., index] > np.float32(tuned[index]))
        assert dice[name] == pytest.approx(expected, abs=2e-3)
        row = report["precision_recall"][index]
        harmonic = 2 * row["precision"] * row["recall"] / (row["precision"] + row["recall"])
        assert harmonic == pytest.approx(dice[name], abs=2e-3) and len(row["curve"]["recall"]) == 99
    assert min(Image.open(run / "evaluation_val_best" / "precision_recall.png").size) > 200
    assert "precision_recall.png" in (run / "evaluation_val_best" / "index.html").read_text()
    assert read_metadata(run / "model.keras").thresholds == tuned  # which was written before
    again = segzoo.evaluate(run, report=False)
    assert again.thresholds.numbers == tuned and again.mean_iou == pytest.approx(report["mean_iou"], abs=1e-6)

    printed = command(capsys, "predict", run, "data/val/images/0.png", "--out", "out", "--output", "classes")
    assert f"Thresholds: {names[0]} {tuned[0]:.3g}" in printed
    with Image.open(next((run.parents[1] / "out" / "classes").iterdir())) as written:
        np.testing.assert_array_equal(np.asarray(written) > 0, probabilities[0, ..., 0] > np.float32(tuned[0]))


def test_a_threshold_on_the_command_line_is_used_and_said(run, capsys):
    image, name = "data/val/images/0.png", CLASSES[load_run(run).config.mode][-1]
    predictor = segzoo.load(run, threshold={name: 0.62})
    expected = predictor.predict(np.asarray(Image.open(image)))
    printed = command(
        capsys, "predict", run, image, "--out", "out", "--output", "classes", "--threshold", f"{name}=0.62"
    )
    assert f"{name} 0.62" in printed.partition("Thresholds:")[2]
    with Image.open(next((run.parents[1] / "out" / "classes").iterdir())) as written:
        np.testing.assert_array_equal(np.asarray(written) > 0, expected[..., 0] if expected.ndim == 3 else expected)
    assert f"{name} 0.62" in command(capsys, "evaluate", run, "--threshold", f"{name}=0.62")
    assert not (run / "best.thresholds.json").exists()


def test_exports_carry_the_thresholds_and_decide_by_them(run, capsys):
    import tensorflow as tf

    mode = load_run(run).config.mode
    segzoo.evaluate(run, tune_threshold="iou", report=False)
    predictor = segzoo.load(run)
    command(capsys, "export", run, "--format", "saved_model", "--output", "classes", "--out", "exported")
    folder = run.parents[1] / "exported" / "saved_model"
    assert read_metadata(folder).thresholds == predictor.thresholds
    served = tf.saved_model.load(str(folder)).signatures["serving_default"]
    image = np.asarray(Image.open("data/val/images/0.png"))
    found = served(image=tf.constant(image[None], tf.float32))["classes"].numpy()[0]
    np.testing.assert_array_equal(found, predictor.predict(image))
    assert (found != segzoo.load(run, threshold=0.5).predict(image)).any(), mode
    of_file = segzoo.load(folder)  # which decides by itself
    np.testing.assert_array_equal(of_file.predict(image), found)
    assert of_file.thresholds == predictor.thresholds
    with pytest.raises(SegzooError, match="decided by the thresholds that it was exported with"):
        segzoo.load(folder, threshold=0.5)


def test_a_model_file_has_the_thresholds_of_its_metadata_and_an_ensemble_none(run):
    segzoo.evaluate(run, tune_threshold="iou", report=False)
    predictor = segzoo.load(run)
    file = segzoo.export_model(run, "saved_model", "logits").path
    assert segzoo.load(file).thresholds == predictor.thresholds
    assert segzoo.load(file, threshold=0.3).thresholds == (0.3,) * len(predictor.thresholds)
    found = segzoo.evaluate(file, data="tiny.yaml", report=False)
    assert "(of the model file)" in str(found.thresholds)
    assert found.mean_iou == pytest.approx(segzoo.evaluate(run, report=False).mean_iou, abs=1e-3)
    assert segzoo.load([run, file]).thresholds is None
    assert segzoo.load([run, file], threshold=0.3).thresholds == (0.3,) * len(predictor.thresholds)
    for sources, options in ((file, {"data": "tiny.yaml"}), ([run, file], {}), (run, {"tta": "mirror"})):
        with pytest.raises(SegzooError, match="best or last weights of one run"):
            segzoo.evaluate(sources, tune_threshold="f1", report=False, **options)


def test_a_pushed_run_takes_its_thresholds_along(run, tmp_path):
    segzoo.evaluate(run, tune_threshold="f2", report=False)
    pushed = segzoo.push(run, tmp_path / "pushed")
    assert "best.thresholds.json" in pushed.files
    assert "tuned by f2 on the validation split" in (tmp_path / "pushed" / "README.md").read_text()
    assert segzoo.load(tmp_path / "pushed").thresholds == segzoo.load(run).thresholds
    stale = (tmp_path / "pushed" / "best.thresholds.json").read_text()
    (tmp_path / "pushed" / "best.thresholds.json").write_text(stale.replace("f2", "f1"))
    with pytest.raises(SegzooError, match="sha256"):
        segzoo.load(tmp_path / "pushed")


def test_given_thresholds_take_the_place_of_tuned_ones(run):
    segzoo.evaluate(run, tune_threshold="f1", report=False)
    opened = load_run(run)
    stored = thresholds_of(opened, "best")
    first, *others = stored.values
    assert thresholds_of(opened, "best", 0.25).numbers == (0.25,) * len(stored.values)
    changed = thresholds_of(opened, "best", {first: 0.25})
    assert changed.numbers == (0.25, *(stored.values[name] for name in others)) and "(given)" in str(changed)
    rest = thresholds_of(opened, "best", {"*": 0.2, first: 0.3})
    assert rest.numbers == (0.3, *(0.2 for _ in others)) and "(given)" in str(rest)
    with pytest.raises(SegzooError, match=r"must be above 0 and below 1, got 2\."):
        thresholds_of(opened, "best", {"*": 2.0} if others else 2.0)
    assert thresholds_of(opened, None).numbers is None and thresholds_of(opened, "last").numbers is None
    with pytest.raises(UnknownNameError, match=r"class with a threshold 'brigt'\. Did you mean bright"):
        thresholds_of(opened, "best", {"brigt": 0.5})
    for value in (0.0, 1.0, float("nan")):
        with pytest.raises(SegzooError, match="must be above 0 and below 1"):
            thresholds_of(opened, "best", value)


def test_thresholds_of_other_weights_and_damaged_ones_are_refused_with_the_cure(run):
    segzoo.evaluate(run, tune_threshold="f1", report=False)
    path = run / "best.thresholds.json"
    text = path.read_text()
    digest = json.loads(text)["sha256"]
    changes = {
        "tuned for other weights": text.replace(digest, "0" * 64),
        "holds no thresholds": text[:40],
        "less than 1": text.replace('"bright": ', '"bright": 1'),
        "other classes": text.replace("bright", "brighter"),
    }
    for words, content in changes.items():
        path.write_text(content)
        with pytest.raises(RunError, match=rf"best.thresholds.json.*{words}.*--tune-threshold.*--threshold"):
            segzoo.load(run)
        assert segzoo.load(run, threshold=0.5).thresholds  # which reads no file


def test_the_saved_model_takes_those_of_the_best_weights_and_needs_no_others(run):
    segzoo.evaluate(run, tune_threshold="f1", saved=True, report=False)
    assert segzoo.load(run, saved=True).thresholds == segzoo.load(run).thresholds is not None
    assert segzoo.load(run, "last").thresholds is None
    (run / "best.thresholds.json").unlink()
    (run / "best.weights.h5").unlink()
    assert segzoo.load(run, saved=True).thresholds is None


def test_what_cannot_be_tuned_is_refused_before_any_work(run, tiny_run, capsys):
    for options, words in (
        (["--tune-threshold", "accuracy"], "tuned by f1, f2"),
        (["--tune-threshold", "f1", "--split", "train"], "on the validation split, not on train"),
        (["--tune-threshold", "f1", "--threshold", "0.4"], "not both"),
        (["--threshold", "bright=x"], "must be a number for all classes"),
    ):
        assert words in command(capsys, "evaluate", run, *options, code=1)
    for options in (["--tune-threshold", "f1"], ["--threshold", "0.4"]):
        assert "multiclass mode, where the largest logit" in command(capsys, "evaluate", tiny_run, *options, code=1)
    assert not list(run.glob("*.thresholds.json"))


def test_a_class_that_the_split_does_not_show_stays_at_a_half(run, capsys):
    mode = load_run(run).config.mode
    for path in sorted((run.parents[1] / "data" / "val" / "masks").iterdir()):
        if mode == "binary":
            Image.fromarray(np.zeros((32, 32), np.uint8)).save(path)
        else:
            mask = np.load(path)
            mask[..., 0] = 0
            np.save(path, mask)
    printed = command(capsys, "evaluate", run, "--tune-threshold", "f1")
    assert "bright 0.5" in printed and "bright: the validation split does not show it" in printed


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (None, None),
        (["0.4"], 0.4),
        (["a=0.4", "b = c=1e-2"], {"a": 0.4, "b = c": 0.01}),
        (["0.2", "bar=0.3"], {"*": 0.2, "bar": 0.3}),
        (["bar=0.3", "0.2"], {"*": 0.2, "bar": 0.3}),
    ],
)
def test_thresholds_on_the_command_line(texts, expected):
    assert parsed_threshold(texts) == expected


@pytest.mark.parametrize("texts", [["a"], ["a="], ["=0.4"], ["0.4", "0.5"], ["a=0.4", "a=0.5"], ["0.4", "a=b"]])
def test_other_texts_are_no_thresholds(texts):
    with pytest.raises(SegzooError, match="--threshold must be a number"):
        parsed_threshold(texts)


def test_another_threshold_is_compared_and_shows_in_the_metrics_of_images_and_classes(run, tmp_path):
    """Compare a run with an evaluation of it in which one class needs a probability of 0.9999."""
    mode = load_run(run).config.mode
    strict = segzoo.evaluate(run, threshold={"bright": 0.9999}, report=tmp_path / "strict")
    found = segzoo.compare([strict, run], report=False)
    bright = CLASSES[mode].index("bright")
    assert found.names == ["tiny", "tiny (2)"] and strict.confusion.iou()[bright] == 0
    assert found.differences[0].iou[bright].value == pytest.approx(found.evaluations[1].confusion.iou()[bright])
    rows = (tmp_path / "strict" / "images.csv").read_text().splitlines()
    assert rows[0] == "name,pixels,mean_iou,iou/{},iou/{}".format(*CLASSES[mode])
    assert [row.split(",")[:2] for row in rows[1:]] == [[str(number), str(30 * 32)] for number in range(8)]
    report = json.loads((tmp_path / "strict" / "report.json").read_text())
    assert ("foreground_mean_iou" in report) == (mode == "binary")
    if mode == "binary":
        assert report["foreground_mean_iou"] == 0
    assert strict.calibration.class_pixels.tolist() == [8 * 30 * 32] * 2
    masks, probabilities = masks_of(segzoo.load(run), mode)
    counted = masks[..., 0] != 255
    gap = abs(probabilities[counted].mean(0) - (masks[counted] == 1).mean(0))
    assert (strict.calibration.class_ece()[-len(gap) :] >= gap - 1e-4).all()  # bins cannot hide the gap of the whole
