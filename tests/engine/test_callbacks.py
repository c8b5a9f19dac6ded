"""The user's callbacks in a run: called as Keras calls them, stopped by them, saved with the run."""

from __future__ import annotations

import json
import os
import signal

import keras
import numpy as np
import pytest

from segzoo.engine import train
from segzoo.engine.callbacks.stateful import is_stateful, set_states, states_of
from segzoo.errors import RunError, RunInterruptedError

SETTINGS = ("training.epochs=2", "data.train_count=6")

pytestmark = pytest.mark.usefixtures("quick")


class Recorder(keras.callbacks.Callback):
    """Notes all that it is told."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def on_train_begin(self, logs=None):
        self.calls.append("begin")

    def on_train_end(self, logs=None):
        self.calls.append("end")

    def on_epoch_begin(self, epoch, logs=None):
        self.calls.append(("epoch", epoch))

    def on_epoch_end(self, epoch, logs=None):
        self.calls.append(("evaluated", epoch, logs))

    def on_train_batch_begin(self, batch, logs=None):
        self.calls.append(("step", batch))

    def on_train_batch_end(self, batch, logs=None):
        self.calls.append(("done", batch, logs["loss"]))


class Counter(keras.callbacks.Callback):
    """Draws a number at each step from a generator of its own: the sum says whether a resumed run drew the same."""

    def __init__(self, stop_at: int | None = None):
        super().__init__()
        self.rng = np.random.default_rng(7)
        self.sum = np.float64(0)
        self.epochs = ()
        self.steps, self.stop_at = 0, stop_at

    def on_epoch_begin(self, epoch, logs=None):
        self.epochs += (epoch,)

    def on_train_batch_end(self, batch, logs=None):
        self.sum += self.rng.normal() * logs["loss"]
        self.steps += 1
        if self.steps == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    def get_state(self):
        return {"rng": json.dumps(self.rng.bit_generator.state), "sum": self.sum, "epochs": self.epochs}

    def set_state(self, state):
        self.rng.bit_generator.state = json.loads(state["rng"])
        self.sum, self.epochs = state["sum"], state["epochs"]


def test_callbacks_see_one_training(config, console) -> None:
    recorder = Recorder()
    result = train(config(), callbacks=[recorder], console=console)
    kinds = [call if isinstance(call, str) else call[:2] for call in recorder.calls]
    one = [("step", 0), ("done", 0), ("step", 1), ("done", 1), ("step", 2), ("done", 2)]
    epochs = [[("epoch", epoch), *one, ("evaluated", epoch)] for epoch in range(2)]
    assert kinds == ["begin", *(call for epoch in epochs for call in epoch), "end"]
    for call, row in zip([call for call in recorder.calls if call[0] == "evaluated"], result.history, strict=True):
        logs = call[2]
        for name in ("loss", "val_loss", "val_mean_iou", "val_pixel_accuracy", "learning_rate"):
            assert logs[name] == row[name]
        assert not logs.keys() & {"seconds", "val_seconds", "images_per_second", "epoch", "step"}
    assert recorder.params["epochs"] == 2 and recorder.params["steps"] == 3


def test_callbacks_see_each_evaluation(config, console) -> None:
    class Tested(keras.callbacks.Callback):
        def on_test_begin(self, logs=None):
            calls.append("begin")

        def on_test_batch_begin(self, batch, logs=None):
            calls.append(("batch", batch))

        def on_test_batch_end(self, batch, logs=None):
            calls.append(("done", batch))

        def on_test_end(self, logs=None):
            calls.append(logs)

    calls: list = []
    settings = config("training.epochs=2", "training.evaluate_every=2", "data.val_count=3", "data.eval_batch_size=2")
    result = train(settings, callbacks=[Tested()], console=console)
    assert calls[:-1] == ["begin", ("batch", 0), ("done", 0), ("batch", 1), ("done", 1)]
    row = result.history[-1]
    assert calls[-1] == {name: row[f"val_{name}"] for name in ("loss", "mean_iou", "pixel_accuracy")}


def test_keras_callbacks_work(config, console, tmp_path) -> None:
    """Early stopping on a figure that cannot improve, a log, and a rate that has a schedule."""
    result = train(
        config("training.epochs=3", "data.train_count=2"),
        callbacks=[
            keras.callbacks.EarlyStopping("val_mean_iou", patience=1, min_delta=1.0, mode="max"),
            keras.callbacks.CSVLogger(str(tmp_path / "keras.csv")),
            keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None),
        ],
        console=console,
    )
    assert [row["epoch"] for row in result.history] == [1, 2]
    assert json.loads((result.folder / "result.json").read_text())["stopped"] == "callback"
    assert (tmp_path / "keras.csv").read_text().splitlines()[0].startswith("epoch,learning_rate,loss,val_")


def test_a_stop_within_an_epoch_evaluates_it(config, console) -> None:
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 1

    result = train(config(), callbacks=[Stop()], console=console)
    assert [row["step"] for row in result.history] == [2]
    assert result.history[0]["val_mean_iou"] is not None


@pytest.mark.parametrize("steps", [4, *(pytest.param(steps, marks=pytest.mark.nightly) for steps in (1, 3, 5))])
def test_state_of_a_callback_is_resumed_bit_for_bit(config, console, steps, tmp_path) -> None:
    whole = Counter()
    expected = train(config("name=whole"), callbacks=[whole], console=console)
    with pytest.raises(RunInterruptedError):
        train(config(), callbacks=[Counter(stop_at=steps), Recorder()], console=console)
    with pytest.raises(RunError, match=r"callbacks.*Counter"):
        train(config(), console=console)
    resumed, recorder = Counter(), Recorder()
    result = train(config(), callbacks=[resumed, recorder], console=console)
    assert resumed.sum == whole.sum
    assert resumed.epochs == whole.epochs == (0, 1)
    assert resumed.rng.bit_generator.state == whole.rng.bit_generator.state
    for ours, other in zip(result.model.get_weights(), expected.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, other)
    console.file.flush()
    text = (tmp_path / "screen.txt").read_text()
    assert "The callback Recorder starts anew: it has no get_state() and set_state()." in " ".join(text.split())
    assert recorder.calls[:2] == ["begin", ("epoch", (steps - 1) // 3)]
    assert next(call for call in recorder.calls if call[0] == "step") == ("step", steps % 3)


def test_states_are_kept_bit_for_bit() -> None:
    class Kept(keras.callbacks.Callback):
        def __init__(self, state):
            super().__init__()
            self.state = state

        def get_state(self):
            return self.state

        def set_state(self, state):
            self.state = state

    state = {
        "none": None,
        "numbers": [True, 1, 10**30, 0.1, float("inf"), "ß\n"],
        "nested": ({"a": (1, [2])}, ()),
        "array": np.arange(6, dtype="float16").reshape(2, 3),
        "scalar": np.int64(3),
        "text": np.array(["a", "bc"]),
    }
    arrays = states_of([Kept(state), keras.callbacks.Callback()])
    assert all(name.startswith("callbacks/000/") for name in arrays)
    empty = Kept(None)
    set_states([keras.callbacks.Callback(), empty], arrays)
    found = empty.state
    assert is_stateful(empty) and not is_stateful(keras.callbacks.Callback())
    assert found.keys() == state.keys() and found["numbers"] == state["numbers"] and found["nested"] == state["nested"]
    assert found["array"].dtype == "float16" and type(found["scalar"]) is np.int64
    np.testing.assert_array_equal(found["array"], state["array"])
    np.testing.assert_array_equal(found["text"], state["text"])
    for odd in ({1: 2}, {"a": {3}}, object(), {"a": np.array([object()])}, {"__array__": 0}):
        with pytest.raises(RunError, match="which a run state cannot hold"):
            states_of([Kept(odd)])
    with pytest.raises(RunError, match="holds no state of the callback"):
        set_states([empty], {})
