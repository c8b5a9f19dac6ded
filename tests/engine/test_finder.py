"""The learning-rate finder: its ramp, its reading of known curves, and a real run of it."""

import math

import numpy as np
import pytest
from PIL import Image

from segzoo import cli, workflows
from segzoo.engine.lr_finder import Finding, Ramp, find_learning_rate, judge
from segzoo.errors import RunError


def test_the_ramp_grows_by_one_factor_from_start_to_end():
    ramp = Ramp(1e-5, 10.0, 7)
    rates = [float(ramp(step)) for step in range(7)]
    np.testing.assert_allclose(rates, np.geomspace(1e-5, 10.0, 7), rtol=1e-5)
    assert float(Ramp.from_config(ramp.get_config())(3)) == rates[3]


def curve(rate):
    """Flat at 2, falling to 1 around a rate of 1e-3, blowing up from 0.3 on."""
    x = math.log10(rate)
    return 2.0 - 1.0 / (1.0 + math.exp(-4.0 * (x + 3.0))) + max(0.0, x + 0.5) ** 2 * 400.0


def test_the_steepest_fall_is_suggested_and_divergence_ends_the_reading():
    rates = np.geomspace(1e-6, 10.0, 200)
    finding = judge(rates.tolist(), [curve(rate) for rate in rates])
    assert finding.suggested == pytest.approx(1e-3, rel=0.15)  # where the curve is steepest
    assert 1e-2 < finding.lowest < 0.6 and finding.diverged and finding.rates[-1] < 10.0
    noise = np.random.default_rng(0).normal(0, 0.03, 200)
    noisy = judge(rates.tolist(), [curve(rate) + extra for rate, extra in zip(rates, noise, strict=True)])
    assert 4e-4 < noisy.suggested < 2.5e-3


def test_a_curve_that_never_falls_gives_no_suggestion():
    assert judge([1e-3, 1e-2, 1e-1, 1.0], [1.0, 1.1, 1.2, 1.3]).suggested is None
    assert judge([1e-3, 1e-2], [math.nan, 1.0]).smoothed == []
    ended = judge([1e-3, 1e-2, 1e-1, 1.0], [1.0, 0.9, 0.8, math.inf])
    assert ended.diverged and len(ended.losses) == 3


RECIPE = """
model: {decoder: fpn, backbone: resnet18, weights: none}
data: {source: generated, size: [32, 32], train_count: 8, val_count: 4, batch_size: 4}
training: {epochs: 1, accumulate: 2}
"""


def test_the_command_draws_and_suggests_and_leaves_no_run(tmp_path, monkeypatch, small_network, eager, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    once = ("--set", "loss={cross_entropy: 1.0}", "--set", "training.accumulate=1")
    with pytest.raises(SystemExit) as ended:
        cli.main(["find-lr", "tiny.yaml", "--updates", "12", "--end", "100", *once])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "trying learning rates: 12 updates\n" in shown
    assert "learning_rate: " in shown and "tiny.lr.png" in shown
    assert Image.open(tmp_path / "runs" / "tiny.lr.png").size[0] > 500
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["tiny.lr.png"]


@pytest.mark.parametrize(("lowest", "shown"), [(0.031, "between that and 0.0031, a tenth"), (1e-4, None)])
def test_a_steepest_fall_far_below_the_lowest_loss_is_no_upper_end(monkeypatch, capsys, lowest, shown):
    """New weights fall most steeply at once, by their last biases: a recipe's rate can be 25 times the suggestion."""
    finding = Finding([1e-6, 1.0], [2.0, 1.0], [2.0, 1.0], 3.8e-5, lowest, False)
    monkeypatch.setattr(workflows, "find_learning_rate", lambda *_, **__: finding)
    with pytest.raises(SystemExit):
        cli.main(["find-lr", "tiny.yaml"])
    output = " ".join(capsys.readouterr().out.split())
    assert "learning_rate: 3.8e-05" in output and ("good peak" in output) == (shown is not None)
    assert shown is None or shown in output


def test_losses_are_those_of_single_updates(config, small_network, eager):
    settings = config("loss={cross_entropy: 1.0}", "data.train_count=8", "data.batch_size=4", "training.accumulate=2")
    reports = []
    finding = find_learning_rate(
        settings, start=1e-9, end=1e-8, updates=10, progress=lambda done, total: reports.append((done, total))
    )
    assert reports == [(done, 10) for done in range(11)]
    # At rates that change nothing every update sees the same two batches of the epoch: the loss stays as it is.
    assert len(finding.losses) == 10 and not finding.diverged
    np.testing.assert_allclose(finding.losses, finding.losses[0], rtol=0.05)
    with pytest.raises(RunError, match="0 < start < end"):
        find_learning_rate(settings, start=1.0, end=0.1)


@pytest.mark.parametrize(
    "given",
    [{"end": math.inf}, {"end": math.nan}, {"start": math.nan}, {"end": 1e300}, {"updates": 10**12}, {"updates": 9}],
)
def test_ramps_that_cannot_be_tried_are_refused_at_once(given):
    with pytest.raises(RunError, match=r"0 < start < end <= 1,000,000 and 10 to 10,000 updates"):
        find_learning_rate(None, **given)
