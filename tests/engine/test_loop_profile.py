"""The profile of a training loop: it changes nothing, and its parts add up to the time that passed."""

import json
import re
import time

import keras
import numpy as np
import pytest

from segzoo.engine import loop_profile, train
from segzoo.engine.loop_profile import MEASURED, SKIPPED, TRACED
from segzoo.reporting.time_table import AUGMENTING, CALLBACKS, COMPUTING, READING, WAITING, TimeTable

STEPS = SKIPPED + TRACED + MEASURED + 2
SETTINGS = (f"data.train_count={STEPS}", "data.batch_size=2", "training.epochs=2", "output.keep_state=true")
SLOW = 0.03  # seconds of the callback below


class Slow(keras.callbacks.Callback):
    """A callback that takes its time after every step."""

    def on_train_batch_end(self, batch, logs=None):
        time.sleep(SLOW)


def arrays(folder):
    with np.load(folder / "state.npz") as state:
        return {key: state[key] for key in state.files}


def test_a_profiled_run_has_the_same_bits_and_tells_where_its_time_goes(config, console, quick, tmp_path):
    augment = "data.augment=[{HorizontalFlip: {p: 0.5}}]"
    plain = train(config("name=plain", augment), console=console)
    assert not (plain.folder / "profile.json").exists()
    profiled = train(config(augment), console=console, profile=True, callbacks=[Slow()])
    ours, others = arrays(profiled.folder), arrays(plain.folder)
    same = [key for key in others if key.startswith(("model/", "optimizer/"))]
    assert len(same) > 10
    for key in same:
        np.testing.assert_array_equal(ours[key], others[key], err_msg=key)
    assert [row["val_loss"] for row in profiled.history] == [row["val_loss"] for row in plain.history]

    table = TimeTable(**json.loads((profiled.folder / "profile.json").read_text()))
    assert table.steps == MEASURED
    assert SLOW <= table.step[CALLBACKS] < table.step[CALLBACKS] + table.step[COMPUTING] < 2
    assert table.step[COMPUTING] > 0 and table.step[WAITING] >= 0 and table.copying > 0
    assert set(table.making) >= {READING, AUGMENTING} and all(seconds > 0 for seconds in table.making.values())
    assert sum(table.evaluation.values()) > 0
    console.file.flush()
    screen = (tmp_path / "screen.txt").read_text()
    assert screen.count("Where the time goes") == 1 and "waiting for batches" in screen
    assert list((profiled.folder / "tensorboard").rglob("*.xplane.pb"))
    summary = (profiled.folder / "summary.md").read_text()
    assert f"## Training step, mean of {MEASURED}" in summary
    assert re.search(r"\| callbacks +\| +\d", summary), summary


def test_waiting_is_what_a_step_waits_for_its_batch(config, console, quick, monkeypatch):
    class Sluggish(list):
        def __getitem__(self, index):
            time.sleep(0.4)
            return super().__getitem__(index)

    monkeypatch.setattr(loop_profile, "MEASURED", 4)
    rng = np.random.default_rng(0)
    batch = rng.integers(0, 256, (2, 32, 32, 3), np.uint8), rng.integers(0, 2, (2, 32, 32), np.int32)
    given = Sluggish([batch] * (SKIPPED + TRACED + 4))
    found = train(config("training.epochs=1"), train_data=given, console=console, profile=True)
    table = TimeTable(**json.loads((found.folder / "profile.json").read_text()))
    assert table.steps == 4 and not table.making
    assert sum(table.step.values()) == pytest.approx(0.4, abs=0.1)  # a batch is read while the step before computes
    assert table.step[WAITING] > 0.2


def test_a_run_too_short_for_a_profile_says_so(config, console, quick, tmp_path):
    train(config("training.epochs=1", "data.train_count=4"), console=console, profile=True)
    console.file.flush()
    assert "No step was measured" in (tmp_path / "screen.txt").read_text()
