"""The figure that decides which epoch is the best."""

from __future__ import annotations

import json
import math

import keras
import numpy as np
import pytest

from segzoo.engine import train
from segzoo.engine.evaluation import Evaluation
from segzoo.engine.monitor import Monitor
from segzoo.errors import ConfigError, RunError
from segzoo.metrics import ConfusionMatrix, MultilabelCounts

SETTINGS = ("training.epochs=2",)
COUNTS = np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]])  # IoU 6/9, 3/6 and none


@pytest.mark.parametrize(
    ("name", "figure", "score"),
    [
        ("mean_iou", (6 / 9 + 3 / 6) / 2, (6 / 9 + 3 / 6) / 2),
        ("foreground_mean_iou", 3 / 6, 3 / 6),
        ("pixel_accuracy", 9 / 12, 9 / 12),
        ("loss", 0.7, -0.7),
        ("iou/cat", 3 / 6, 3 / 6),
        ("iou/dog", math.nan, -math.inf),
    ],
)
def test_figures(name: str, figure: float, score: float) -> None:
    monitor = Monitor(name, ("background", "cat", "dog"), 0)
    found = Evaluation(ConfusionMatrix(3, 255, COUNTS), loss=0.7)
    assert monitor.figure(found) == pytest.approx(figure, nan_ok=True)
    assert monitor.score(monitor.figure(found)) == pytest.approx(score)


def test_foreground_of_classes_that_overlap_is_all_of_them() -> None:
    counts = np.array([[[4, 0], [2, 2]], [[4, 2], [0, 2]]])
    found = Evaluation(MultilabelCounts(2, 255, counts))
    assert Monitor("foreground_mean_iou", ("a", "b"), None).figure(found) == pytest.approx(found.confusion.mean_iou())


def test_the_lowest_loss_is_the_best(config, quick, console) -> None:
    result = train(config("training.monitor=val_loss"), console=console)
    losses = [row["val_loss"] for row in result.history]
    assert result.best_epoch == 1 + losses.index(min(losses))
    facts = json.loads((result.folder / "result.json").read_text())
    assert facts["monitor"] == "loss" and facts["val_mean_iou"] == pytest.approx(result.confusion.mean_iou())


def test_another_figure_is_a_column_and_decides(config, quick, console, tmp_path) -> None:
    settings = config(
        "training.monitor=foreground_mean_iou",
        "training.early_stopping={patience: 1, min_delta: 1.0}",
        "training.epochs=3",
    )
    result = train(settings, console=console)
    assert len(result.history) == 2  # a gain of 1 is out of reach
    scores = [row["val_foreground_mean_iou"] for row in result.history]
    assert result.best_epoch == 1 + scores.index(max(scores))
    for row in result.history:
        ious = [row[f"val_iou/{name}"] for name in ("disc", "ring", "triangle", "box", "cross")]
        expected = np.mean([value for value in ious if value is not None])
        assert row["val_foreground_mean_iou"] == pytest.approx(expected)
    console.file.flush()
    assert "no better val_foreground_mean_iou for 1 epochs" in (tmp_path / "screen.txt").read_text()


def test_a_class_that_never_occurs_leaves_the_first_epoch_the_best(config, quick, console) -> None:
    images = keras.Input((32, 32, 3))
    never = np.array([0, 0, 0, 0, 0, -1e4], "float32")  # the class cross is neither shown nor predicted
    model = keras.Model(images, keras.layers.Conv2D(6, 1)(images / 255.0) + never)
    rng = np.random.default_rng(0)
    batch = rng.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8), rng.integers(0, 5, (4, 32, 32), dtype=np.uint8)
    settings = config("training.monitor=iou/cross")
    result = train(settings, model=model, train_data=[batch], val_data=[batch], console=console)
    assert [row["val_iou/cross"] for row in result.history] == [None] * 2
    assert result.best_epoch == 1
    assert "epoch 1 of 2, the best by val_iou/cross." in (result.folder / "summary.md").read_text().replace("\\", "")


def test_unknown_figures_are_refused(config) -> None:
    with pytest.raises(ConfigError, match=r"training.monitor: 'iou/cros' is no figure.*did you mean iou/cross"):
        config("training.monitor=iou/cros")
    folder = ["data={source: folder, root: ., classes: [a, b], masks: {format: index}}"]
    with pytest.raises(RunError, match="no class is known to be it"):
        Monitor.of(config(*folder, "training.monitor=foreground_mean_iou"))
