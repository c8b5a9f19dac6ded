"""The whole road on a tiny run: folder, figures, resume, early stop, NaN, and what is refused."""

import csv
import json
import math

import keras
import numpy as np
import pytest
from rich.console import Console

from segzoo.config import load_config
from segzoo.errors import RunError
from segzoo.training import assemble, load_run, train
from segzoo.training.state import load_progress

RECIPE = """
name: tiny
model: {decoder: fpn, backbone: efficientnet_b0, taps: output, weights: none, options: {pyramid_channels: 32}}
data: {source: generated, size: [32, 32], train_count: 8, val_count: 5, batch_size: 4, eval_batch_size: 4}
training: {epochs: 3, schedule: {name: poly, warmup_steps: 1}}
"""


@pytest.fixture
def config(tmp_path, small_network):
    return recipe_loader(tmp_path)


@pytest.fixture
def real_config(tmp_path):
    return recipe_loader(tmp_path)


def recipe_loader(tmp_path):
    """Loader of the tiny recipe with a run folder of the test's own."""
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return lambda *overrides: load_config(path, [f"output.root={tmp_path / 'runs'}", *overrides])


@pytest.fixture
def console(tmp_path):
    with (tmp_path / "screen.txt").open("w") as stream:
        yield Console(file=stream, width=120)


def rows(folder):
    with (folder / "metrics.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_a_run_leaves_all_that_the_contract_names(config, console, tmp_path):
    result = train(config(), console=console)
    names = {path.name for path in result.folder.iterdir()}
    assert names == {
        "config.yaml", "environment.json", "log.jsonl", "metrics.csv", "state.npz", "best.weights.h5",
        "last.weights.h5", "model.keras", "figures", "tensorboard",
    }  # fmt: skip
    assert {path.name for path in (result.folder / "figures").iterdir()} == {"curves.png", "predictions.png"}
    assert any((result.folder / "tensorboard").iterdir())
    assert [row["epoch"] for row in rows(result.folder)] == ["1", "2", "3"]
    events = [json.loads(line)["event"] for line in (result.folder / "log.jsonl").read_text().splitlines()]
    assert events == ["start", "first_step", "epoch", "epoch", "epoch", "finish"]
    environment = json.loads((result.folder / "environment.json").read_text())
    assert environment["seed"] == 0 and "keras" in environment["packages"]
    assert set(environment["data_fingerprints"]) == {"train", "val"}
    screen = (tmp_path / "screen.txt").read_text()
    assert "mean IoU" in screen and "Run folder:" in screen and "background" in screen


def test_the_run_folder_rebuilds_the_best_model(real_config, console):
    result = train(real_config(), console=console)
    image = np.random.default_rng(0).integers(0, 256, (1, 40, 33, 3), dtype=np.uint8)
    expected = result.model.predict_on_batch(image)
    rebuilt = load_run(result.folder).model()
    np.testing.assert_allclose(rebuilt.predict_on_batch(image), expected, atol=1e-5)
    reloaded = keras.models.load_model(result.folder / "model.keras")
    np.testing.assert_allclose(reloaded.predict_on_batch(image), expected, atol=1e-5)
    best = max(range(3), key=lambda index: result.history[index]["val_mean_iou"]) + 1
    assert result.best_epoch == best
    masks = assemble.build_source(real_config(), "val")
    assert result.confusion.counts.sum() == sum((masks[index].mask != 255).sum() for index in range(5))


def test_resume_after_a_crash_equals_the_uninterrupted_run(config, console, monkeypatch):
    whole = train(config("name=whole"), console=console)

    from segzoo.training import loop

    save, saves = loop.save_state, []

    def crash_after_the_second(path, network, progress):
        save(path, network, progress)
        saves.append(progress.epoch)
        if len(saves) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_state", crash_after_the_second)
    with pytest.raises(KeyboardInterrupt):
        train(config("name=broken"), console=console)
    monkeypatch.setattr(loop, "save_state", save)
    resumed = train(config("name=broken"), resume=True, console=console)
    assert len(rows(resumed.folder)) == 3
    with np.load(whole.folder / "state.npz") as left, np.load(resumed.folder / "state.npz") as right:
        assert set(left.files) == set(right.files)
        for key in set(left.files) - {"meta"}:
            np.testing.assert_array_equal(left[key], right[key], err_msg=key)
    figures = [
        [{key: row[key] for key in ("step", "loss", "val_loss", "val_mean_iou")} for row in run.history]
        for run in (whole, resumed)
    ]
    assert figures[0] == figures[1]


def test_a_finished_run_resumes_to_its_own_result(config, console):
    first = train(config("training.epochs=1"), console=console)
    again = train(config("training.epochs=1"), resume=True, console=console)
    assert again.history == first.history
    np.testing.assert_array_equal(again.confusion.counts, first.confusion.counts)


def test_a_folder_with_a_run_is_never_overwritten_silently(config, console):
    folder = train(config("training.epochs=1"), console=console).folder
    before = (folder / "state.npz").read_bytes()
    with pytest.raises(RunError, match=r"already holds a run.*--resume.*--set name=.*--overwrite"):
        train(config("training.epochs=1"), console=console)
    assert (folder / "state.npz").read_bytes() == before
    with pytest.raises(RunError, match=r"training\.optimizer\.learning_rate was 0\.001 and is 0\.01"):
        train(config("training.epochs=1", "training.optimizer.learning_rate=0.01"), resume=True, console=console)
    train(config("training.epochs=1", "seed=1"), overwrite=True, console=console)
    assert load_run(folder).config.seed == 1


def test_overwrite_leaves_a_folder_alone_that_is_no_run(config, console, tmp_path):
    precious = tmp_path / "runs" / "tiny" / "thesis.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("years of work")
    with pytest.raises(RunError, match=r"not a run folder"):
        train(config(), overwrite=True, console=console)
    assert precious.read_text() == "years of work"


def test_nothing_to_resume(config, console):
    with pytest.raises(RunError, match="no run to resume"):
        train(config(), resume=True, console=console)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_weights(config, console, monkeypatch):
    schedule = assemble.WarmUpDecay

    class Explodes(schedule):
        def __call__(self, step):
            return keras.ops.where(keras.ops.cast(step, "int32") < 2, super().__call__(step), math.nan)

    monkeypatch.setattr(assemble, "WarmUpDecay", Explodes)
    # Step 3 applies the bad rate, step 4 is the first with a loss that is not finite.
    with pytest.raises(RunError, match=r"nan at step 4 \(epoch 2\).*last\.weights\.h5 holds the last good"):
        train(config(), console=console)
    folder = config().output.root + "/tiny"
    assert load_progress(load_run(folder).folder.state).epoch == 1
    for weights in ("best", "last"):
        assert all(np.isfinite(value).all() for value in load_run(folder).model(weights).get_weights())
    events = [json.loads(line)["event"] for line in load_run(folder).folder.log.read_text().splitlines()]
    assert events[-1] == "not_finite"


def test_early_stopping_ends_the_run_and_says_so(config, console, tmp_path):
    stop = ("training.epochs=9", "training.early_stopping.patience=1", "training.early_stopping.min_delta=1.0")
    result = train(config(*stop), console=console)
    assert len(result.history) == 2  # the first epoch sets the score, the second does not beat it by 1.0
    assert "Stopped early" in (tmp_path / "screen.txt").read_text()


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_trains_with_float32_weights(real_config, console, precision):
    result = train(real_config(f"training.precision={precision}", "training.epochs=1"), console=console)
    assert math.isfinite(result.history[0]["loss"])
    assert {str(weight.dtype) for weight in result.model.trainable_variables} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"  # the caller's policy is as it was
