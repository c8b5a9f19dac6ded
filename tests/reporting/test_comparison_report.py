"""The report of a comparison: its page, its words, and the training curves of several runs."""

import json

import numpy as np
import pytest
from PIL import Image

from segzoo.metrics import ConfusionMatrix, ImageCounts, bootstrap, paired_bootstrap
from segzoo.reporting.comparison import Compared, ComparisonReport, differing, flattened
from segzoo.reporting.curves import plot_runs

NAMES = ["road", "a <b> | class", "absent"]


@pytest.fixture
def report() -> ComparisonReport:
    """A report on two models of three classes, one of which is absent."""
    models, counts = [], []
    for seed, name in ((1, "first"), (2, "<second>")):
        rng = np.random.default_rng(seed)
        confusion, images = ConfusionMatrix(3), []
        for index in range(8):
            truth = np.random.default_rng(index).integers(0, 2, (20, 30))
            own = ConfusionMatrix(3)
            own.update(truth, np.where(rng.uniform(size=truth.shape) < 0.3 * seed, 1 - truth, truth))
            confusion.merge(own)
            images.append(ImageCounts(str(index), own.hits.copy(), own.actual, own.predicted))
        history = [{"epoch": n, "loss": 1 / n, "val_mean_iou": seed * n / 10} for n in (1, 2)]
        settings = {"model.decoder": name, "seed": 1}
        models.append(Compared(name, f"{name}: val split", confusion, bootstrap(images), history, settings))
        counts.append(images)
    return ComparisonReport("two models", NAMES, models, [paired_bootstrap(counts[1], counts[0])], 8)


def test_the_page_names_what_is_foreign_as_it_is_and_shows_every_table(report, tmp_path):
    text = report.write(tmp_path).read_text(encoding="utf-8")
    assert "&lt;second&gt;" in text and "<second>" not in text and "a &lt;b&gt; | class" in text
    for heading in ("Models", "IoU", "Differences", "Configurations", "Training curves"):
        assert f"<h2>{heading}</h2>" in text
    assert "8 images." in text and "IoU minus that of first" in text and 'src="curves.png"' in text
    assert min(Image.open(tmp_path / "curves.png").size) > 300
    assert "model.decoder" in text and ">seed<" not in text


def test_the_json_and_the_tables_hold_the_same_figures(report, tmp_path):
    report.write(tmp_path)
    first, second = json.loads((tmp_path / "report.json").read_text())["models"]
    found = report.differences[0]
    assert second["difference"]["to"] == "first" and "difference" not in first
    assert second["difference"]["classes"]["road"]["interval"] == list(found.iou[0].interval)
    assert second["difference"]["classes"]["absent"] == {"value": None, "interval": [None, None], "p": None}
    assert second["mean_iou"] - first["mean_iou"] == pytest.approx(second["difference"]["mean_iou"]["value"])
    rows = report.difference_rows()
    assert rows[0] == ["class", "<second>", "p"] and rows[3] == ["absent", "n/a", "n/a"]
    assert rows[4][1].startswith(f"{found.mean_iou.value:+.4f} (")
    lines = (tmp_path / "report.md").read_text().splitlines()
    assert "| mean IoU | " in "\n".join(lines) and lines[0] == "# two models"


def test_keys_that_differ_are_those_of_nested_sections():
    one = flattened({"seed": 1, "model": {"decoder": "unet", "options": {}}, "loss": {"dice": {"weight": 1.0}}})
    assert one == {"seed": 1, "model.decoder": "unet", "loss.dice.weight": 1.0}
    other = {**one, "model.decoder": "fpn"}
    del other["loss.dice.weight"]
    assert differing([one, other]) == [("loss.dice.weight", ["1.0", "not set"]), ("model.decoder", ['"unet"', '"fpn"'])]
    assert differing([one, one]) == []


def test_curves_of_runs_differ_in_colour_and_survive_missing_figures(tmp_path):
    runs = {f"run {n}": [{"epoch": e, "loss": n / e, "val_mean_iou": None} for e in (1, 2, 3)] for n in range(1, 10)}
    runs["of nothing"] = []
    plot_runs(runs, tmp_path / "curves.png")
    pixels = np.asarray(Image.open(tmp_path / "curves.png").convert("RGB"))
    found = {tuple(colour) for colour in np.unique(pixels.reshape(-1, 3), axis=0).tolist()}
    assert {(0, 0x72, 0xB2), (0xD5, 0x5E, 0), (0, 0x9E, 0x73), (0xE6, 0x9F, 0)} <= found
