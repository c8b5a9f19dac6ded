"""The run state: exact, checked, two generations deep, and written whole or not at all."""

import errno
import random

import keras
import numpy as np
import pytest

from segzoo import files
from segzoo.engine.checkpoint import checkpoint_file
from segzoo.engine.checkpoint.progress import Patience, Progress
from segzoo.engine.checkpoint.state import NotFiniteError, load_progress, restore, restore_metrics, save_state
from segzoo.errors import RunError, StorageError
from segzoo.optim.optimizers import AdamW
from segzoo.optim.plateau import PlateauFactor
from segzoo.optim.schedules import WarmUpDecay


def compiled(units=2):
    inputs = keras.Input((6,))
    x = keras.layers.Dropout(0.5)(keras.layers.BatchNormalization()(keras.layers.Dense(5)(inputs)))
    model = keras.Model(inputs, keras.layers.Dense(units)(x))
    model.compile(AdamW(), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def test_the_round_trip_is_exact_and_another_network_is_refused(tmp_path):
    path = tmp_path / "state.npz"
    model = compiled()
    model.train_on_batch(np.ones((4, 6), "float32"), np.ones((4, 2), "float32"))
    extra = {"average": [keras.Variable([1.5, 2.5])]}
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    progress = Progress(step=1, position=1, best_score=0.1 + 0.2, early_stopping=Patience(0.5, 2))
    progress.events.append({"event": "start"})
    save_state(path, model, progress, extra)
    drawn = random.random(), np.random.random()  # noqa: NPY002

    other, again = compiled(), {"average": [keras.Variable([0.0, 0.0])]}
    stored = checkpoint_file.read(path)
    restore(stored, other, path, again)
    assert Progress.from_json(stored.facts) == progress == load_progress(path)
    assert (random.random(), np.random.random()) == drawn  # noqa: NPY002
    pairs = zip(
        [*model.variables, *model.optimizer.variables, *extra["average"]],
        [*other.variables, *other.optimizer.variables, *again["average"]],
        strict=True,
    )
    for left, right in pairs:
        np.testing.assert_array_equal(left.numpy(), right.numpy())
    seeds = [variable for variable in other.variables if "seed" in variable.path]
    assert len(seeds) == 1  # dropout's, which neither `.keras` nor `.weights.h5` holds
    restore_metrics(stored, other)
    assert other.get_metrics_result()["loss"] == model.get_metrics_result()["loss"] > 0

    stranger = compiled(units=3)
    kept = stranger.get_weights()
    with pytest.raises(RunError, match=r"belongs to another network: model/0000\d is"):
        restore(stored, stranger, path, again)
    with pytest.raises(RunError, match="belongs to another network: 1 variables differ, first average/00000"):
        restore(stored, compiled(), path)
    for left, right in zip(stranger.get_weights(), kept, strict=True):
        np.testing.assert_array_equal(left, right)


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    model = compiled()
    model.layers[1].kernel.assign(np.full((6, 5), np.nan))
    with pytest.raises(NotFiniteError, match="kernel"):
        save_state(tmp_path / "state.npz", model, Progress())
    assert list(tmp_path.iterdir()) == []


def write(path, number):
    checkpoint_file.write(path, {"number": number}, {"values": np.full(1000, number)})


def test_one_flipped_bit_anywhere_is_noticed_and_the_previous_generation_used(tmp_path):
    path = tmp_path / "state.npz"
    assert checkpoint_file.read(path) is None
    write(path, 1)
    write(path, 2)
    assert checkpoint_file.read(path).facts == {"number": 2}
    with np.load(path) as archive:  # a plain file for whoever wants to look into it
        assert (archive["values"] == 2).all()
    whole = path.read_bytes()
    for place in (0, 60, len(whole) // 2, len(whole) - 70, len(whole) - 1):
        torn = bytearray(whole)
        torn[place] ^= 1
        path.write_bytes(torn)
        with pytest.warns(checkpoint_file.DamagedStateWarning, match=r"state\.npz.*state\.previous\.npz, is used"):
            stored = checkpoint_file.read(path)
        assert stored.facts == {"number": 1} and (stored.arrays["values"] == 1).all()
    for size in (0, 10, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.warns(checkpoint_file.DamagedStateWarning):
            assert checkpoint_file.read(path).facts == {"number": 1}
    # A damaged file must not become the previous generation, in place of the good one.
    with pytest.warns(checkpoint_file.DamagedStateWarning):
        checkpoint_file.read(path, mend=True)
    write(path, 3)
    assert checkpoint_file.read(checkpoint_file.previous_of(path)).facts == {"number": 1}
    path.write_bytes(b"")
    checkpoint_file.previous_of(path).write_bytes(whole[:-1])
    with pytest.raises(RunError, match=r"No generation .*state\.npz.*state\.previous\.npz.*--overwrite"):
        checkpoint_file.read(path)


def test_a_state_of_an_older_version_says_so(tmp_path):
    np.savez(tmp_path / "state.npz", meta=np.array("{}"))
    with pytest.raises(RunError, match="another version of segzoo"):
        checkpoint_file.read(tmp_path / "state.npz")


class Faults:
    """Fails at the n-th file operation, once as a full disk or for good as a killed process."""

    def __init__(self, at, error):
        self.at, self.error, self.seen = at, error, []

    def __call__(self, name, path):
        self.seen.append(name)
        killed = isinstance(self.error, Killed)
        if len(self.seen) == self.at or (killed and len(self.seen) > self.at):
            raise self.error


class Killed(BaseException):
    pass


@pytest.mark.parametrize("error", [Killed(), OSError(errno.ENOSPC, "full"), PermissionError(errno.EROFS, "read-only")])
def test_a_write_cut_off_at_any_operation_leaves_a_whole_generation(tmp_path, monkeypatch, error):
    operations = 0
    for at in range(1, 99):
        path = tmp_path / str(at) / "state.npz"
        write(path, 1)
        write(path, 2)
        faults = Faults(at, error)
        monkeypatch.setattr(files, "fault", faults)
        expected = StorageError if isinstance(error, OSError) else Killed
        try:
            write(path, 3)
        except expected as caught:
            if expected is StorageError:
                assert str(path.parent) in str(caught) and str(caught).count("\n") == 0
                assert not any(files.is_temporary(entry) for entry in path.parent.iterdir())
        else:
            operations = at - 1
        finally:
            monkeypatch.setattr(files, "fault", None)
        replaced = "replace" in faults.seen[: at - 1]
        assert checkpoint_file.read(path).facts["number"] == (3 if replaced else 2)
        files.remove_temporaries(path.parent)
        write(path, 4)
        assert {entry.name for entry in path.parent.iterdir()} == {"state.npz", "state.previous.npz"}
        assert checkpoint_file.read(path).facts["number"] == 4
        if operations:
            break
    assert operations == len(["make folder", "write", "flush", "keep", "replace", "flush folder"])


def test_patience_counts_from_the_last_gain_that_was_large_enough():
    patience = Patience()
    scores = [(0.5, 0), (0.505, 1), (0.509, 2), (0.511, 0), (0.4, 1)]  # a slow rise by more than 0.01 is a gain too
    assert [patience.wait(score, 0.01, 1) for score, _ in scores] == [stale for _, stale in scores]
    assert patience.wait(0.4, 0.01, 3) == 4


def test_the_plateau_factor_scales_the_schedule_and_is_among_the_variables():
    optimizer = AdamW(WarmUpDecay(0.5, 100, shape="constant"))
    factor = PlateauFactor.of(optimizer)
    variable = keras.Variable(np.zeros(3, "float32"))
    optimizer.build([variable])
    assert any(entry is factor.factor for entry in optimizer.variables)
    assert float(optimizer.learning_rate) == 0.5
    assert factor.lower(0.5, 0.3) == 0.5 and float(optimizer.learning_rate) == 0.25
    assert factor.lower(0.5, 0.3) == pytest.approx(0.3)
    assert factor.lower(0.5, 0.3) == pytest.approx(0.3)
    assert float(optimizer.learning_rate) == pytest.approx(0.15)
