"""Reports of a run: TensorBoard, trackers, and the summary at its end."""

import base64
import io
import json
import math
import re
import sys
import types

import keras
import pytest
import tensorflow as tf
from PIL import Image
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from segzoo import tracking
from segzoo.config import load_config
from segzoo.engine import train
from segzoo.engine.graph import layer_graph
from segzoo.errors import ConfigError, UnknownNameError
from segzoo.registry import Registry

RECIPE = """
name: tiny
model: {decoder: fpn, backbone: resnet18, weights: none}
data: {source: generated, size: [32, 32], train_count: 8, val_count: 5, batch_size: 4, eval_batch_size: 4}
training: {epochs: 3, schedule: {name: poly, warmup_steps: 1}}
output: {pictures: 3, pictures_every: 2}
"""


class Failing:
    """A tracker that fails at its second step."""

    package = "json"

    def __init__(self, run):
        self.id, self.where, self.facts = "id-1", "nowhere", run.facts
        type(self).told = []

    def scalars(self, step, values):
        self.told.append((step, values))
        if step == 4:
            raise TimeoutError("no answer")

    def picture(self, step, tag, path):
        self.told.append((step, tag))

    def finish(self, figures, files):
        self.told.append(("finish", figures, [path.name for path in files]))

    def close(self, finished):
        self.told.append(("close", finished))


class Noting(Failing):
    """A tracker that never fails."""

    def scalars(self, step, values):
        self.told.append((step, values))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run with two trackers, one of which failed, and what stood on the screen."""
    from segzoo.decoders import SegmentationHead
    from segzoo.engine import builders
    from segzoo.weights import WeightsReport

    def build(config, weights=None):
        inputs = keras.Input((None, None, 3), name="image")
        x = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="block_conv")(inputs)
        x = keras.layers.BatchNormalization(name="block_bn")(x)
        model = keras.Model(inputs, SegmentationHead(6, name="head")(x, inputs), name="small")
        model.weights_report = WeightsReport("none", note="random initial values")
        return model

    module = types.ModuleType("trackers_of_the_test")
    module.Failing, module.Noting = Failing, Noting
    names = {"mlflow": f"{module.__name__}:Failing", "wandb": f"{module.__name__}:Noting"}
    folder = tmp_path_factory.mktemp("reports")
    (folder / "run.yaml").write_text(RECIPE)
    screen = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builders, "build_network", build)
        patch.setitem(sys.modules, module.__name__, module)
        patch.setattr(tracking, "TRACKERS", Registry("tracker", names))
        config = load_config(folder / "run.yaml", [f"output.root={folder}", "tracking={mlflow: {}, wandb: {}}"])
        tf.config.run_functions_eagerly(True)  # tracing takes longer than these steps
        try:
            result = train(config, console=Console(file=screen, width=200))
        finally:
            tf.config.run_functions_eagerly(False)
    return result, screen.getvalue()


@pytest.fixture(scope="module")
def events(finished):
    sizes = {"images": 0, "scalars": 0, "graph": 1}  # 0: keep all
    found = EventAccumulator(str(finished[0].folder / "tensorboard"), size_guidance=sizes)
    found.Reload()
    return found


def test_tensorboard_has_scalars_sheets_of_every_second_epoch_and_of_better_ones_and_the_graph(finished, events):
    history = finished[0].history
    assert [event.step for event in events.Scalars("loss")] == [row["step"] for row in history]
    assert [event.step for event in events.Images("predictions")] == [4]
    scores = [row["val_mean_iou"] for row in history]
    better = [row["step"] for index, row in enumerate(history) if scores[index] > max(scores[:index], default=-1.0)]
    assert [event.step for event in events.Images("predictions_best")] == better
    nodes = {node.name: node for node in events.Graph().node}
    assert list(nodes["block/bn"].input) == ["block/conv"]
    assert sorted(nodes["head"].input) == ["block/bn", "image"]


def test_a_tracker_that_fails_is_warned_of_and_the_run_ends_well(finished):
    result, screen = finished
    assert len(result.history) == 3
    assert "Warning: Tracker mlflow failed (TimeoutError: no answer)" in screen
    assert [entry for entry in Failing.told if entry[0] in ("finish", "close")] == []
    told = Noting.told
    assert [entry[0] for entry in told if entry[0] not in ("finish", "close") and isinstance(entry[1], dict)] == [
        row["step"] for row in result.history
    ]
    (_, figures, files), last = told[-2:]
    assert last == ("close", True) and figures["best/val_mean_iou"] == result.confusion.mean_iou()
    assert files == ["summary.html", "config.yaml", "environment.json", "metrics.csv", "log.jsonl"]
    assert json.loads((result.folder / "trackers.json").read_text())["wandb"]["step"] == result.history[-1]["step"]


def test_the_page_needs_no_other_file_and_holds_all_that_matters(finished):
    result, screen = finished
    text = (result.folder / "summary.html").read_text(encoding="utf-8")
    assert f"Summary: {result.folder / 'summary.html'}" in screen.replace("\n", "")
    sources = re.findall(r'<img src="([^"]+)"', text)
    assert len(sources) == 4 and all(source.startswith("data:image/png;base64,") for source in sources)
    for source, name in zip(sources, ("curves", "confusion", "worst", "predictions"), strict=True):
        data = base64.b64decode(source.partition(",")[2])
        assert data == (result.folder / "figures" / f"{name}.png").read_bytes()
        assert min(Image.open(io.BytesIO(data)).size) > 200
    assert not re.search(r'(href|src)="(?!data:)', text)
    assert f"<td>{result.confusion.mean_iou():.4f}</td>" in text
    for row in result.confusion.table(["background", "disc", "ring", "triangle", "box", "cross"]):
        assert f"<td>{row['class']}</td>" in text and f"<td>{row['pixels']:,}</td>" in text
    assert "pictures_every: 2" in text and "data fingerprints, val" in text


def test_the_markdown_says_the_same_and_its_pictures_are_there(finished):
    folder = finished[0].folder
    text = (folder / "summary.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
    assert len(pictures) == 4 and all((folder / path).is_file() for path in pictures)
    assert (folder / "config.yaml").read_text().rstrip() in text
    assert f"| mean IoU | {finished[0].confusion.mean_iou():.4f} |" in text
    assert f"| steps | {finished[0].history[-1]['step']} |" in text


def test_worst_samples_come_from_the_best_epoch(finished):
    assert math.isfinite(finished[0].confusion.mean_iou())
    figures = {path.name for path in (finished[0].folder / "figures").iterdir()}
    assert figures <= {"curves.png", "confusion.png", "worst.png", "predictions.png", "predictions_latest.png"}
    assert "worst.png" in figures


def test_the_graph_shows_a_shared_layer_at_each_call_and_the_edges_of_a_dict():
    class Sum(keras.layers.Layer):
        def call(self, features):
            return features["P1"] + features["P2"]

    image = keras.Input((None, None, 3), name="image")
    shared = keras.layers.Conv2D(3, 1, name="shared")
    outputs = Sum(name="decoder")({"P1": shared(image), "P2": shared(shared(image))})
    nodes = {node.name: node for node in layer_graph(keras.Model(image, outputs)).node}
    assert len(nodes) == 5
    assert len(nodes["decoder"].input) == 2 and set(nodes["decoder"].input) < {"shared", "shared_1", "shared_2"}
    assert nodes["shared_1"].attr["parameters"].i == 12
    sizes = [dim.size for dim in nodes["shared"].attr["_output_shapes"].list.shape[0].dim]
    assert sizes == [-1, -1, -1, 3]


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("{wand: {}}", ["tracker 'wand'", "mean wandb"]),
        ("{mlflow: {experment: x}}", ["setting of the tracker mlflow", "experiment"]),
        ("{wandb: {mode: ofline}}", ["tracking.wandb.mode", "'online' or 'offline'"]),
        ("{wandb: {project: 3}}", ["tracking.wandb.project", "valid string"]),
    ],
)
def test_a_wrong_tracker_or_setting_is_refused_with_what_is_allowed(tmp_path, section, said):
    (tmp_path / "run.yaml").write_text(RECIPE)
    with pytest.raises((ConfigError, UnknownNameError)) as error:
        load_config(tmp_path / "run.yaml", [f"tracking={section}"])
    for words in said:
        assert words in str(error.value)


def test_a_tracker_is_taken_out_by_null(tmp_path):
    (tmp_path / "run.yaml").write_text(RECIPE + "tracking: {mlflow: {experiment: x}}\n")
    assert load_config(tmp_path / "run.yaml").trackers == {"mlflow": {"experiment": "x"}}
    assert load_config(tmp_path / "run.yaml", ["tracking.mlflow=null"]).trackers == {}
