"""Pushed runs, taken from a folder and from a Hugging Face Hub by every function and command."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import segzoo
from segzoo.cli import app
from segzoo.config import load_config
from segzoo.engine import builders
from segzoo.engine import train as train_run
from segzoo.engine.start import Start
from segzoo.errors import HubError, RunError, WeightsError

pytestmark = pytest.mark.usefixtures("small_network", "no_trial")
RUN = "hf://user/tiny"
FILES = {"README.md", "best.weights.h5", "config.yaml", "environment.json", "segzoo.json"}


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)


@pytest.fixture
def pushed(hub, log_in, tiny_run) -> str:
    """The tiny run on the hub; returns its commit."""
    log_in("read", "write")
    return segzoo.push(tiny_run, RUN, license="mit").address.partition("@")[2]


def test_a_pushed_folder_predicts_as_the_run_does(tiny_run, tmp_path, image) -> None:
    done = segzoo.push(tiny_run, tmp_path / "out" / "tiny", license="mit")
    assert {path.name for path in (tmp_path / "out" / "tiny").iterdir()} == FILES
    assert done.address == str(tmp_path / "out" / "tiny") and done.files.keys() == FILES - {"README.md", "segzoo.json"}
    expected = segzoo.load(tiny_run).model.predict(image[None], verbose=0)
    found = segzoo.load(tmp_path / "out" / "tiny").model.predict(image[None], verbose=0)
    np.testing.assert_array_equal(found, expected)


def test_a_hub_takes_a_run_and_every_function_takes_it_from_there(hub, pushed, tiny_run, tmp_path, image, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pinned = f"{RUN}@{pushed}"
    expected = segzoo.load(tiny_run)(image)
    np.testing.assert_array_equal(segzoo.load(RUN)(image), expected)
    evaluated, own = segzoo.evaluate(RUN), segzoo.evaluate(tiny_run, report=False)
    np.testing.assert_array_equal(evaluated.confusion.counts, own.confusion.counts)
    assert evaluated.title == f"{pinned}: val split, best weights"
    place = tmp_path / "runs" / "hf" / "user" / "tiny" / pushed[:12]
    assert evaluated.report == place.relative_to(tmp_path) / "evaluation_val_best" / "index.html"
    assert pinned in (place / "evaluation_val_best" / "report.md").read_text()
    assert {path.name for path in segzoo.load_run(RUN).folder.path.iterdir()} == FILES - {"README.md"}
    assert segzoo.load_run(segzoo.load_run(RUN), ["seed=3"]).name == pinned


def test_predict_and_export_commands_take_addresses(hub, pushed, tiny_run, tmp_path, image, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(image).save("photo.png")
    for run, out in ((RUN, "a"), (str(tiny_run), "b")):
        found = CliRunner().invoke(app, ["predict", run, "photo.png", "--out", out])
        assert found.exit_code == 0, found.output
    read = [np.asarray(Image.open(tmp_path / out / "classes" / "photo.png")) for out in "ab"]
    np.testing.assert_array_equal(*read)
    found = CliRunner().invoke(app, ["export", RUN, "--format", "saved_model"])
    assert found.exit_code == 0, found.output
    assert (tmp_path / "runs" / "hf" / "user" / "tiny" / pushed[:12] / "export").is_dir()


def test_training_starts_from_a_hub_and_records_the_commit(hub, pushed, tiny_run, tmp_path, console_of, eager, light):
    settings = [f"output.root={tmp_path / 'runs'}", "training.epochs=1", "data.val_count=2", "data.train_count=4"]
    config = load_config(tiny_run / "config.yaml", [*settings, "name=next", f"training.init_from={RUN}"])
    start = Start.of(config)
    network = builders.build_network(config)
    start.load_into(network)
    for found, expected in zip(network.weights, segzoo.load_run(tiny_run).model().weights, strict=True):
        np.testing.assert_array_equal(found, expected)
    train_run(config, console=console_of(tmp_path))
    folder = tmp_path / "runs" / "next"
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["weights"].startswith(f"weights {RUN}@{pushed}/best.weights.h5: ")
    assert RUN in (folder / "config.yaml").read_text()
    token = next(iter(hub.tokens))
    texts = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert not [text for text in texts if token.encode() in text]
    hub.repositories.clear()  # a run that has begun needs the hub no more
    shutil.rmtree(tmp_path / "hf")
    train_run(config.model_copy(update={"training": config.training}), resume=True, console=console_of(tmp_path))


def test_a_resumed_run_asks_no_hub_for_its_first_weights(tiny_run, tmp_path, monkeypatch, console_of, quick):
    asked = []

    def build(config, weights=None):
        asked.append((weights, config.model.batch_norm))
        network = quick(config)
        network.batch_norm = "frozen" if weights is None else config.model.batch_norm
        return network

    monkeypatch.setattr(builders, "build_network", build)
    settings = [f"output.root={tmp_path / 'runs'}", "training.epochs=1", "data.val_count=2", "data.train_count=4"]
    config = load_config(tiny_run / "config.yaml", [*settings, f"model.weights={RUN}"])
    train_run(config, console=console_of(tmp_path))
    train_run(config, resume=True, console=console_of(tmp_path))
    assert asked == [(None, "auto"), ("none", "frozen")]
    assert segzoo.load_run(tmp_path / "runs" / config.name).config.model.batch_norm == "auto"


def test_an_initial_weights_file_of_a_hub_has_no_classes_of_its_own(hub, pushed, tiny_run) -> None:
    config = load_config(tiny_run / "config.yaml", [f"training.init_from={RUN}/best.weights.h5"])
    start = Start.of(config)
    assert start.classes is None and start.origin == f"{RUN}@{pushed}/best.weights.h5"
    hub.repositories["user/tiny"].private = True
    hub.tokens.clear()
    config = load_config(tiny_run / "config.yaml", ["training.init_from=hf://user/other"])
    with pytest.raises(HubError, match=r"^training.init_from: "):
        Start.of(config)


def test_weights_of_a_model_come_from_a_hub_with_the_digest_that_the_user_states(hub, pushed, tiny_run, small_network):
    from segzoo.weights import apply_weights

    expected = segzoo.load_run(tiny_run).model()
    for weights in (RUN, f"{RUN}@{pushed}/best.weights.h5"):
        model = small_network(segzoo.load_run(tiny_run).config)
        apply_weights(model, weights)
        assert model.weights_report.source == f"{RUN}@{pushed}/best.weights.h5" and not model.weights_report.missing
        for found, wanted in zip(model.weights, expected.weights, strict=True):
            np.testing.assert_array_equal(found, wanted)
    with pytest.raises((WeightsError, HubError), match="0" * 64):
        apply_weights(model, f"{RUN}/best.weights.h5", sha256="0" * 64)


def test_kaggle_serves_every_function_too(kaggle, tiny_run, small_network, tmp_path, image, monkeypatch) -> None:
    from segzoo.weights import apply_weights

    monkeypatch.chdir(tmp_path)
    kaggle.tokens["KGAT_secret"] = {"read", "write"}
    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_secret")
    place = "kaggle://owner/model/keras/tiny"
    assert segzoo.push(tiny_run, place, license="MIT").address == place  # Kaggle numbers versions later
    pinned = f"{place}/1"
    np.testing.assert_array_equal(segzoo.load(place)(image), segzoo.load(tiny_run)(image))
    assert segzoo.evaluate(place, report=False).title == f"{pinned}: val split, best weights"
    Image.fromarray(image).save("photo.png")
    assert not segzoo.predict(place, ["photo.png"], "out").failed
    config = load_config(tiny_run / "config.yaml", [f"training.init_from={place}"])
    assert Start.of(config).origin == f"{pinned}/best.weights.h5"
    model = small_network(config)
    apply_weights(model, place)
    assert (model.weights_report.source, model.weights_report.missing) == (f"{pinned}/best.weights.h5", [])


def test_a_run_pushed_from_a_hub_to_a_folder_is_the_same(hub, pushed, tmp_path) -> None:
    segzoo.push(RUN, tmp_path / "copy")
    there = segzoo.load_run(RUN).pushed.files
    assert segzoo.load_run(tmp_path / "copy").pushed.files == there


def test_pickles_whole_models_and_plugins_are_not_read(hub, pushed, tiny_run) -> None:
    with pytest.raises(RunError, match=r"only configuration and weights are read, not model.keras"):
        segzoo.load(RUN, saved=True)
    with pytest.raises(RunError, match=r"was pushed with its best weights alone"):
        segzoo.load(RUN, "last")


def test_a_configuration_of_a_hub_runs_no_plugin_and_chooses_no_cache(hub, pushed, tmp_path) -> None:
    repository = hub.repositories["user/tiny"]
    text = repository.commits[pushed]["config.yaml"].decode()
    for changed, check in (
        (text.replace("plugins: []", "plugins: [antigravity]"), None),
        (text.replace("disk_cache: null", f"disk_cache: {{folder: {tmp_path / 'cache'}}}"), "disk_cache"),
    ):
        listed = json.loads(repository.commits[pushed]["segzoo.json"])
        listed["files"]["config.yaml"] = hashlib.sha256(changed.encode()).hexdigest()
        repository.commit({"config.yaml": changed.encode(), "segzoo.json": json.dumps(listed).encode()})
        if check is None:
            with pytest.raises(segzoo.SegzooError, match=r"antigravity"):
                segzoo.load(RUN)
            assert "antigravity" not in sys.modules
        else:
            assert segzoo.load_run(RUN).config.data.disk_cache is None


def test_another_process_loads_it_by_its_environment_online_and_then_offline(
    hub, pushed, tiny_run, tmp_path, image, forked
) -> None:
    code = """
import os, sys
home, url, image, out, offline = sys.argv[1:]
os.environ |= {"HF_HOME": home, "HF_ENDPOINT": url, "NO_PROXY": "127.0.0.1", "HF_HUB_OFFLINE": offline}
import numpy as np
import segzoo
from conftest import build_small_network
from segzoo.engine import builders
builders.build_network = build_small_network
np.save(out, segzoo.load("hf://user/tiny")(np.load(image)))
"""
    np.save(tmp_path / "image.npy", image)
    tests = Path(__file__).parents[1]

    def load(home: str, offline: int, status: int = 0):
        arguments = (tmp_path / home, hub.url, tmp_path / "image.npy", tmp_path / "out.npy", offline)
        return forked(code, *arguments, path=(tests,), status=status)

    assert "HF_HUB_OFFLINE forbids" in load("new", 1, status=1).stderr
    for offline in (0, 1):
        hub.requests.clear()
        load("new", offline)
        np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), segzoo.load(tiny_run)(image))
        assert bool(hub.requests) == (not offline)
        (tmp_path / "out.npy").unlink()
