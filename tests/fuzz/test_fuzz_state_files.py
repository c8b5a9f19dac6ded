"""Run states of strangers, with the right checksum: bytes, keys and values mutated; only RunError comes out."""

import hashlib
import io
import json
import zipfile

import keras
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from segzoo.engine.checkpoint import checkpoint_file
from segzoo.engine.checkpoint.progress import Patience, Progress
from segzoo.engine.checkpoint.state import restore, restore_metrics, save_state
from segzoo.errors import RunError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
EPOCH = {"event": "epoch", "time": 1.5, "epoch": 1, "step": 3, "loss": 0.5, "seconds": 2.0, "val_iou/[/b]": None}
PROGRESS = Progress(step=3, epoch=1, best_counts=[[3, 1], [0, 2]], early_stopping=Patience(0.5, 1), events=[EPOCH])


@pytest.fixture(scope="module")
def network():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Dropout(0.5)(inputs)))
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("state") / "state.npz"


@pytest.fixture(scope="module")
def whole(network, path):
    save_state(path, network, PROGRESS)
    return path.read_bytes()


def signed(content):
    """The bytes with the checksum of all before it, as `checkpoint_file.write` leaves them."""
    body = content[:-64]
    return body + hashlib.sha256(body).hexdigest().encode()


def opened(path, content, network):
    """Everything that a resumed run reads of a state; RunError is one of its two ends. Returns whether it is whole."""
    path.write_bytes(content)
    before = [array.copy() for array in network.get_weights()]
    try:
        stored = checkpoint_file.read(path)
        progress = Progress.from_json(stored.facts)
        assert isinstance(progress.history, list) and isinstance(progress.origin, dict)
        restore(stored, network, path)
        return True
    except RunError as error:
        assert "\n" not in str(error).strip()
        for left, right in zip(before, network.get_weights(), strict=True):
            np.testing.assert_array_equal(left, right)
        return False


def test_the_state_that_is_mutated_is_restored(network, path, whole):
    assert opened(path, whole, network) and opened(path, signed(whole), network)
    assert Progress.from_json(checkpoint_file.read(path).facts) == PROGRESS


@given(st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), min_size=1, max_size=5), st.booleans())
def test_mutated_bytes(network, path, whole, changes, sign):
    content = bytearray(whole)
    for place, value in changes:
        content[place % len(content)] = value
    end = opened(path, signed(bytes(content)) if sign else bytes(content), network)
    assert sign or bytes(content) == whole or not end


@given(st.integers(0, 2**20))
def test_states_cut_off_anywhere(network, path, whole, size):
    assert not opened(path, signed(whole[: size % len(whole)]), network)


def rewritten(whole, **members):
    """The state with some of its arrays replaced, or left out where they are None."""
    with np.load(io.BytesIO(whole), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files} | members
    content = io.BytesIO()
    np.savez(content, **{name: array for name, array in arrays.items() if array is not None})
    with zipfile.ZipFile(content, "a") as archive:
        archive.comment = b"0" * 64
    return signed(content.getvalue())


KEYS = [*Progress.__dataclass_fields__, "format", "more"]


@given(st.dictionaries(st.sampled_from(KEYS), JSON | st.just(...), min_size=1, max_size=3) | JSON)
@example({"best_counts": [[1, 2], [3]]})
@example({"early_stopping": {"best": 1.0, "stale": 0, "more": 1}})
@example({"events": [{"event": "epoch"}]})
@example({"events": [{}]})
@example({"step": ...})
@example([1])
@example({"format": 2, "\n": 0})
def test_odd_and_missing_keys(network, path, whole, changes):
    facts = json.loads(json.dumps({"format": 2, **PROGRESS.to_json()}))
    if isinstance(changes, dict):
        facts = {key: value for key, value in {**facts, **changes}.items() if value is not ...}
    else:
        facts = changes
    end = opened(path, rewritten(whole, facts=np.array(json.dumps(facts))), network)
    assert not end or facts.keys() == {"format", *Progress.__dataclass_fields__}


ARRAYS = st.one_of(
    st.none(),
    st.sampled_from(["f2", "f4", "f8", "i8", "c8", "?", "U3", "S3", "V4", "M8[s]"]).map(
        lambda kind: np.zeros((3, 2), kind)
    ),
    JSON.map(lambda value: np.array(json.dumps(value))),
)


@given(st.data())
def test_odd_and_missing_arrays(network, path, whole, data):
    with np.load(io.BytesIO(whole)) as archive:
        kept = {name: archive[name] for name in archive.files if name != "facts"}
    names = st.sampled_from([*kept, "model/99999", "odd"])
    changes = data.draw(st.dictionaries(names, ARRAYS, min_size=1, max_size=3))
    if opened(path, rewritten(whole, **changes), network):  # the changes are none, or of equal type and shape
        for name, array in changes.items():
            assert (array is None) == (name not in kept)
            assert array is None or (array.dtype, array.shape) == (kept[name].dtype, kept[name].shape)


@pytest.mark.parametrize("kind", ["V4", "V2"])
def test_bytes_in_place_of_numbers_are_refused(network, path, whole, kind):
    assert not opened(path, rewritten(whole, **{"model/00001": np.zeros((3, 2), kind)}), network)


@given(JSON)
@example(["\n", [], None])
def test_odd_random_generators(network, path, whole, value):
    assert not opened(path, rewritten(whole, **{"random/python": np.array(json.dumps(value))}), network)
    assert not opened(path, rewritten(whole, **{"random/numpy": np.array(json.dumps(value))}), network)


def test_odd_metrics_are_refused(network):
    stored = checkpoint_file.Stored({}, {"metrics/00000": np.zeros(3)})
    with pytest.raises(RunError, match="other metrics"):
        restore_metrics(stored, network)
