"""Metrics of the tables by class: segzoo's own, options, and those that a user registers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml

from segzoo.config import json_schema, load_config
from segzoo.errors import ConfigError, UnknownNameError
from segzoo.metrics import METRICS, ConfusionMatrix, figures_by_class

COUNTS = [[6, 2, 0], [1, 3, 0], [0, 0, 0]]  # the third class is neither in target nor in prediction
RECIPE = """
model: {decoder: fpn, backbone: resnet18, weights: none}
data: {source: generated, size: [32, 32], train_count: 4, val_count: 2, batch_size: 2}
training: {epochs: 1}
output: {metrics: %s}
"""


@pytest.fixture
def registered():
    @METRICS.register("share_of_target")
    def share_of_target(counts, scale: float = 1.0):
        """Share of the target's pixels that are of the class."""
        return scale * counts.actual / counts.actual.sum()

    yield
    METRICS.unregister("share_of_target")


def test_figures_of_each_metric():
    found = figures_by_class(ConfusionMatrix(3, counts=COUNTS), [*METRICS])
    expected = {
        "iou": [6 / 9, 3 / 6],
        "dice": [12 / 15, 6 / 9],
        "precision": [6 / 7, 3 / 5],
        "recall": [6 / 8, 3 / 4],
        "specificity": [3 / 4, 6 / 8],
        "f_beta": [5 * 6 / (4 * 8 + 7), 5 * 3 / (4 * 4 + 5)],
    }
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], [*values, np.nan], err_msg=name)


def test_options_and_headings(registered):
    entries = ["share_of_target", {"share_of_target": {"scale": 100}}, {"f_beta": {"beta": 0.5}}]
    found = figures_by_class(ConfusionMatrix(3, counts=COUNTS), entries)
    assert list(found) == ["share_of_target", "share_of_target (scale 100)", "f_beta (beta 0.5)"]
    np.testing.assert_allclose(found["share_of_target (scale 100)"], [100 * 8 / 12, 100 * 4 / 12, 0])
    np.testing.assert_allclose(found["f_beta (beta 0.5)"][0], 1.25 * 6 / (0.25 * 8 + 7))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("specifity", r"output.metrics.0: .*'specifity'.*specificity"),
        ("{f_beta: {bta: 1}}", r"output.metrics.0.f_beta.bta: .*option of the metric f_beta.*beta"),
        ("{f_beta: {beta: -1}}", r"output.metrics.0: .*beta must be positive and finite, not -1"),
        ("{f_beta: 2}", r"output.metrics.0: .*is no metric\. Write"),
        ("3", r"output.metrics.0: .*3 is no metric"),
    ],
)
def test_a_mistake_in_the_configuration_is_placed(tmp_path, entry, message):
    (tmp_path / "r.yaml").write_text(RECIPE % f"[{entry}]")
    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path / "r.yaml")


def test_a_metric_that_cannot_be_computed_is_refused_before_training(tmp_path):
    for name, function in {"scalar": lambda counts: counts.mean_iou(), "broken": lambda counts: counts.nothing}.items():
        METRICS.register(name, function)
        try:
            (tmp_path / "r.yaml").write_text(RECIPE % f"[{name}]")
            message = rf"r.yaml:5: output.metrics.0: The metric {name} (returned \(\)|failed)"
            with pytest.raises(ConfigError, match=message):
                load_config(tmp_path / "r.yaml")
        finally:
            METRICS.unregister(name)
    with pytest.raises(UnknownNameError, match="scalar"):
        figures_by_class(ConfusionMatrix(3, counts=COUNTS), ["scalar"])


def test_a_registered_metric_is_in_the_schema_the_tables_and_the_report(registered, tmp_path, tiny_run, quick):
    import segzoo
    from segzoo.engine.callbacks.progress_display import class_table

    items = json_schema()["$defs"]["OutputConfig"]["properties"]["metrics"]["items"]
    assert {"share_of_target", "f_beta"} <= set(items["anyOf"][0]["enum"])
    change = "output.metrics=[share_of_target, {f_beta: {beta: 2}}]"
    found = segzoo.evaluate(tiny_run, overrides=[change], report=tmp_path / "report")
    rows = json.loads((tmp_path / "report" / "report.json").read_text())["classes"]
    shares = found.confusion.actual / found.confusion.actual.sum()
    assert [row["metrics"]["share_of_target"] for row in rows] == pytest.approx(list(shares))
    assert r"| f\_beta (beta 2) |" in (tmp_path / "report" / "report.md").read_text()
    assert "<th>f_beta (beta 2)</th>" in (tmp_path / "report" / "index.html").read_text()
    table = class_table(found.confusion, found.class_names, "", found.metrics)
    assert [str(column.header) for column in table.columns] == [
        "class", "IoU", "Dice", "precision", "recall", "share_of_target", "f_beta (beta 2)", "pixels",
    ]  # fmt: skip


def test_the_summary_of_a_run_shows_them(tmp_path, quick):
    from rich.console import Console

    from segzoo.engine import train

    (tmp_path / "r.yaml").write_text(RECIPE % "[specificity]")
    config = load_config(tmp_path / "r.yaml", [f"output.root={tmp_path}", "training.schedule.warmup_steps=0"])
    train(config, console=Console(quiet=True))
    assert yaml.safe_load((tmp_path / "r" / "config.yaml").read_text())["output"]["metrics"] == ["specificity"]
    assert "| specificity |" in (tmp_path / "r" / "summary.md").read_text()
