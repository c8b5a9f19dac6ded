"""The picture of a run: what it shows, for complete and for incomplete logs."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from segzoo.reporting import curves


def log(epochs):
    return [
        {
            "epoch": e,
            "step": 45 * e,
            "loss": 2.0 / e,
            "val_loss": 2.5 / e,
            "val_mean_iou": [0.1, 0.3, 0.42, 0.42, 0.4][e % 5],
            "learning_rate": 1e-3 / e,
        }
        for e in range(1, epochs + 1)
    ]


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were written."""
    figures = []
    original = Figure.savefig

    def savefig(figure, *args, **options):
        figures.append(figure)
        return original(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return figures


def panels(figure):
    return {axes.get_title(loc="left"): axes for axes in figure.axes}


def test_losses_scores_and_rate_are_drawn_as_logged(drawn, tmp_path):
    rows = log(5)
    curves.plot_curves(rows, tmp_path / "figures" / "curves.png")
    found = panels(drawn[0])
    train, validation = found["loss"].lines
    np.testing.assert_array_equal(train.get_data(), [range(1, 6), [row["loss"] for row in rows]])
    np.testing.assert_array_equal(validation.get_data(), [range(1, 6), [row["val_loss"] for row in rows]])
    assert [text.get_text() for text in found["loss"].get_legend().get_texts()] == ["train", "validation"]
    assert found["loss"].get_xlabel() == "epoch"
    np.testing.assert_array_equal(found["learning rate"].lines[0].get_ydata(), [row["learning_rate"] for row in rows])
    picture = np.asarray(Image.open(tmp_path / "figures" / "curves.png"))
    assert picture.shape[1] > 1000
    assert picture[..., :3].std() > 5


def test_the_first_of_equal_bests_is_marked(drawn, tmp_path):
    curves.plot_curves(log(5), tmp_path / "curves.png")
    scores = panels(drawn[0])["validation mIoU in %"]
    assert [text.get_text() for text in scores.texts] == ["best 42.0 % (epoch 2)"]
    assert scores.lines[-1].get_xydata().tolist() == [[2.0, 42.0]]
    assert scores.get_ylim()[1] > 42


def test_a_first_epoch_that_towers_lies_outside_and_is_told_of(drawn, tmp_path):
    rows = log(8)
    rows[0]["val_loss"] = 91.0
    curves.plot_curves(rows, tmp_path / "curves.png")
    losses = panels(drawn[-1])["loss"]
    assert losses.get_ylim() == pytest.approx((0, 1.05 * 2.0))  # the highest of the others
    assert losses.get_title(loc="right") == "outside: 91 at epoch 1"
    np.testing.assert_array_equal(losses.lines[1].get_ydata(), [row["val_loss"] for row in rows])
    rows[0]["loss"], rows[1]["val_loss"] = 75.0, 60.0
    curves.plot_curves(rows, tmp_path / "curves.png")
    assert panels(drawn[-1])["loss"].get_title(loc="right") == "outside: 3 points, up to 91"


def test_a_loss_that_falls_or_is_below_zero_is_shown_whole(drawn, tmp_path):
    for rows in (log(12), [{**row, "loss": -row["loss"], "val_loss": 0.0} for row in log(4)], log(1)):
        curves.plot_curves(rows, tmp_path / "curves.png")
        losses = panels(drawn[-1])["loss"]
        values = [row[key] for row in rows for key in ("loss", "val_loss")]
        assert losses.get_title(loc="right") == ""
        assert losses.get_ylim()[0] <= min(values) and losses.get_ylim()[1] >= max(values)


@pytest.mark.parametrize(
    ("rows", "loss", "score", "unit"),
    [
        ([], 0, 0, "row"),
        (log(1), 1, 1, "epoch"),
        ([{"loss": 1.0}, {"loss": 0.5}], 2, 0, "row"),
        ([{"step": 10, "loss": 1.0}, {"step": 20, "epoch": 1, "val_mean_iou": 1.0}], 1, 1, "step"),
        ([{"epoch": 1, "loss": float("nan"), "val_mean_iou": None}, {"epoch": 2, "loss": 3}], 1, 0, "epoch"),
    ],
)
def test_missing_figures_leave_points_out(rows, loss, score, unit, drawn, tmp_path):
    curves.plot_curves(rows, tmp_path / "curves.png")
    found = panels(drawn[0])
    lines = found["loss"].lines
    assert len(lines[0].get_xdata() if lines else []) == loss
    lines = found["validation mIoU in %"].lines
    assert len(lines[0].get_xdata() if lines else []) == score
    assert found["loss"].get_xlabel() == unit
    if not score:
        assert [text.get_text() for text in found["validation mIoU in %"].texts] == ["no figures yet"]
    assert ("learning rate" in found) == any("learning_rate" in row for row in rows)


def test_a_failed_picture_leaves_the_last_one(tmp_path, monkeypatch):
    path = tmp_path / "curves.png"
    curves.plot_curves(log(2), path)
    before = path.read_bytes()

    def broken(figure, name, **options):
        name.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", broken)
    with pytest.raises(OSError, match="disk full"):
        curves.plot_curves(log(3), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_no_global_state_of_matplotlib_is_touched(tmp_path):
    # pyplot would choose a backend for the whole process and keep the figure alive.
    code = (
        "import sys; from pathlib import Path; from segzoo.reporting.curves import plot_curves; "
        f"plot_curves([{{'epoch': 1, 'loss': 1.0}}], Path({str(tmp_path / 'c.png')!r})); "
        "assert 'matplotlib.pyplot' not in sys.modules and 'keras' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
