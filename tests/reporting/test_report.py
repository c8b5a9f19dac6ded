"""The report of an evaluation: its figures, its words, its pictures."""

import csv
import json
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from segzoo.metrics import Calibration, ConfusionMatrix, ImageCounts, bootstrap
from segzoo.reporting.evaluation import Report

NAMES = ["road", "a <b> | class", "absent"]


@pytest.fixture
def report():
    """A report on six images of two classes of three."""
    rng = np.random.default_rng(2)
    confusion, calibration, images, worst = ConfusionMatrix(3, 255), Calibration(ignore_index=255), [], []
    for index in range(6):
        truth = rng.integers(0, 2, (20, 30))
        probabilities = rng.dirichlet([1, 1], (20, 30))
        prediction = probabilities.argmax(-1)
        own = ConfusionMatrix(3, 255)
        own.update(truth, prediction)
        confusion.merge(own)
        calibration.update(truth, np.concatenate([probabilities, np.zeros((20, 30, 1))], -1))
        images.append(ImageCounts(str(index), own.counts.diagonal(), own.counts.sum(1), own.counts.sum(0)))
        worst.append((np.full((20, 30, 3), 90, np.uint8), truth, prediction, f"{index}.png: mean IoU 0.3"))
    colours = np.array([[0, 0, 200], [0, 200, 0], [200, 0, 0]], np.uint8)
    return Report("run <1>: val split", NAMES, colours, confusion, bootstrap(images), calibration, worst, 6, 0.25)


class Text(HTMLParser):
    """Words, pictures and open tags of a page."""

    def __init__(self):
        super().__init__()
        self.words, self.pictures, self.open = [], [], []

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.pictures.append(dict(attributes)["src"])
        elif tag not in ("meta",):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_the_json_holds_the_figures_and_null_for_not_applicable(report, tmp_path):
    report.write(tmp_path / "new" / "folder")
    figures = json.loads((tmp_path / "new" / "folder" / "report.json").read_text())
    confusion = report.confusion
    assert figures["mean_iou"] == confusion.mean_iou()
    assert figures["mean_iou_interval"] == list(report.intervals.mean_iou)
    assert figures["expected_calibration_error"] == report.calibration.ece()
    assert figures["confusion_matrix"] == confusion.counts.tolist()
    road, _, absent = figures["classes"]
    assert (road["iou"], road["specificity"]) == (confusion.iou()[0], confusion.specificity()[0])
    assert road["iou_interval"][0] < road["iou"] < road["iou_interval"][1]
    assert absent["iou"] is None and absent["iou_interval"] == [None, None]
    assert len(figures["worst"]) == 6


def test_the_page_is_whole_says_what_is_left_out_and_escapes_names(report, tmp_path):
    page = report.write(tmp_path)
    reader = Text()
    reader.feed(page.read_text(encoding="utf-8"))
    assert reader.open == []
    words = " ".join(reader.words)
    assert "run <1>: val split" in words and "a <b> | class" in words
    assert "left out of the mean: absent." in words
    assert f"{report.confusion.mean_iou():.4f}" in words
    assert reader.pictures == ["confusion.png", "calibration.png", "worst.png"]
    for name in reader.pictures:
        assert min(Image.open(tmp_path / name).size) > 200


def test_the_markdown_tables_have_as_many_cells_in_every_row(report, tmp_path):
    report.write(tmp_path)
    lines = [line for line in (tmp_path / "report.md").read_text().splitlines() if line.startswith("| ")]
    cells = [line.replace("\\|", "").count("|") for line in lines]
    assert set(cells) == {3, 9}
    assert cells.count(9) == 1 + len(NAMES)


def test_images_foreground_and_errors_of_classes_are_shown_where_they_are_known(report, tmp_path):
    calibration = Calibration(ignore_index=255, classes=3)
    calibration.update(np.array([0, 1]), np.array([[0.75, 0.25, 0], [0.25, 0.75, 0]]))
    images = [
        ImageCounts("a, b.png", np.array([5, 0, 0]), np.array([10, 0, 0]), np.array([10, 0, 0]), 10),
        ImageCounts("\udcff", np.array([5, 1, 0]), np.array([5, 1, 0]), np.array([5, 1, 0])),
    ]
    page = replace(report, calibration=calibration, images=images, background=0).write(tmp_path)
    with (tmp_path / "images.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["name", "pixels", "mean_iou", *(f"iou/{name}" for name in NAMES)]
    assert list(rows[0].values()) == ["a, b.png", "10", "0.333333", "0.333333", "", ""]
    assert list(rows[1].values()) == ["\\udcff", "", "1.000000", "1.000000", "1.000000", ""]
    figures = json.loads((tmp_path / "report.json").read_text())
    assert figures["foreground_mean_iou"] == pytest.approx(report.confusion.iou()[1])
    assert [row["calibration_error"] for row in figures["classes"]] == pytest.approx([0.25, 0.25, 0])
    assert figures["class_wise_calibration_error"] == pytest.approx(0.5 / 3)
    for text in (page.read_text(encoding="utf-8"), (tmp_path / "report.md").read_text()):
        for words in ("foreground mean IoU", "class-wise calibration error", "images.csv", "0.1667"):
            assert words in text


def test_what_is_not_known_is_left_out_of_the_report(report, tmp_path):
    text = report.write(tmp_path).read_text(encoding="utf-8")
    assert "foreground_mean_iou" not in (tmp_path / "report.json").read_text()
    assert not (tmp_path / "images.csv").exists()
    assert not [word for word in ("foreground", "class-wise", "images.csv") if word in text]


def test_a_report_without_worst_samples_shows_none(report, tmp_path):
    page = replace(report, worst=[]).write(tmp_path)
    assert not (tmp_path / "worst.png").exists()
    assert "worst.png" not in page.read_text() + (tmp_path / "report.md").read_text()
