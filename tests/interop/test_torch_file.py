"""State dicts of `torch.save` are read without PyTorch; whatever else a pickle names is refused and never run."""

import hashlib
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
from torch_files import archive, both, legacy, named, pickled, several, state, tensor, text, whole

from segzoo.errors import WeightsError
from segzoo.interop.torch_file import _NAMES, read_state_dict

RNG = np.random.default_rng(0)
TENSORS = {
    "stem.weight": RNG.normal(size=(4, 3, 3, 3)).astype("f4"),
    "stem.half": RNG.normal(size=(5,)).astype("f2"),
    "stem.double": RNG.normal(size=(2, 2)),
    "bn.num_batches_tracked": np.array(7),
    "mask": np.array([True, False]),
    "empty": np.zeros((0, 3), "f4"),
}


@pytest.fixture
def written(tmp_path):
    def written(data):
        path = tmp_path / "weights.pth"
        path.write_bytes(data)
        return path

    return written


@pytest.mark.parametrize("form", [0, 1], ids=["archive", "legacy"])
def test_values_are_those_written_and_floating_point_is_float32(written, form):
    found = read_state_dict(written(both(TENSORS)[form]))
    assert list(found) == list(TENSORS)
    for name, value in TENSORS.items():
        kind = np.float32 if value.dtype.kind == "f" else value.dtype
        assert found[name].dtype == kind and found[name].shape == value.shape
        np.testing.assert_array_equal(found[name], value.astype(kind))


def test_views_share_a_storage_and_bfloat16_is_widened(written):
    numbers = np.arange(12, dtype="f4")
    rounded = np.array([1.5, -2.0], "f4").view("u4") >> 16
    entries = {
        "transposed": tensor("Float", "a", 12, (4, 3), (1, 4)),
        "end": tensor("Float", "a", 12, (2,), (1,), offset=10),
        "brain": tensor("BFloat16", "b", 2, (2,), (1,)),
        "parameter": named("torch._utils", "_rebuild_parameter")
        + b"("
        + tensor("Float", "a", 12, (1,), (1,))
        + b"\x88}tR",
    }
    storages = {"a": numbers.tobytes(), "b": rounded.astype("<u2").tobytes()}
    found = read_state_dict(written(archive(state(entries), storages)))
    np.testing.assert_array_equal(found["transposed"], numbers.reshape(3, 4).T)
    np.testing.assert_array_equal(found["end"], [10, 11])
    np.testing.assert_array_equal(found["brain"], [1.5, -2.0])
    np.testing.assert_array_equal(found["parameter"], [0])


def test_a_training_checkpoint_gives_its_state_dict(written):
    data, numbers = pickled({"a": np.ones(2, "f4")})
    outer = b"\x80\x02}(" + text("epoch") + whole(3) + text("state_dict") + data[2:-1] + b"u."
    np.testing.assert_array_equal(read_state_dict(written(archive(outer, numbers)))["a"], [1, 1])


NAMES = [
    ("os", "system"),
    ("builtins", "eval"),
    ("functools", "partial"),
    ("numpy.core.multiarray", "scalar"),
    ("torch.nn.modules.conv", "Conv2d"),
    ("torch._utils", "_rebuild_tensor_v2.__globals__"),
]


@pytest.mark.parametrize("form", ["archive", "legacy"])
@pytest.mark.parametrize(("module", "name"), NAMES)
def test_other_names_are_refused_and_not_run(written, tmp_path, form, module, name):
    touched = tmp_path / "touched"
    data = state({"a": named(module, name) + b"(" + text(f"touch {touched}") + b"tR"})
    path = written(archive(data, {}) if form == "archive" else legacy(data, {}, {}))
    with pytest.raises(WeightsError, match=rf"names {module}\.{name}, which no state dict is made of.*state_dict\(\)"):
        read_state_dict(path)
    assert not touched.exists()


def test_a_pickle_changes_nothing_of_what_it_may_name(written):
    """BUILD with (None, {name: value}) sets an attribute: of a function that is made anew for it, or it fails."""
    rebuild = named("torch._utils", "_rebuild_tensor_v2")
    others = named("torch", "FloatStorage"), named("collections", "OrderedDict"), tensor("Float", "0", 2, (2,), (1,))
    for target in (rebuild, *others):
        changes = b"\x80\x02" + target + b"N}" + text("__name__") + text("changed") + b"s\x86b."
        with pytest.raises(WeightsError):
            read_state_dict(written(archive(changes, {})))
    assert _NAMES["torch._utils", "_rebuild_tensor_v2"]().__name__ != "changed"
    assert OrderedDict.__name__ == "OrderedDict"


def damaged():
    data, numbers = pickled({"a": np.ones((2, 3), "f4")})
    new, old = both({"a": np.ones((2, 3), "f4")})

    nothing = named("torch._utils", "_rebuild_tensor_v2") + b"(N" + whole(0) + several((1,)) + several((1,)) + b"tR"

    def one(**changes):
        given = {"kind": "Float", "key": "0", "length": 6, "shape": (2, 3), "strides": (3, 1), **changes}
        return archive(state({"a": tensor(**given)}), numbers)

    return {
        "empty": b"",
        "text": b"hello",
        "archive cut": new[:-30],
        "legacy cut": old[:-4],
        "legacy cut in the pickle": old[:60],
        "larger than its storage": one(shape=(3, 3)),
        "repeated numbers": one(shape=(1000, 1000, 1000), strides=(0, 0, 0)),
        "beyond its storage": one(offset=1),
        "negative strides": one(strides=(-3, 1)),
        "too few strides": one(strides=(1,)),
        "storage missing": archive(data, {}),
        "storage cut": archive(data, {"0": b"1234"}),
        "compressed": archive(data, numbers, zipfile.ZIP_DEFLATED),
        "big-endian": archive(data, numbers, order=b"big"),
        "legacy big-endian": legacy(data, numbers, {"0": 4}, little=False),
        "no pickle": archive(b"", {}).replace(b"data.pkl", b"data.bin"),
        "reference to a module": archive(b"\x80\x02(" + text("module") + b"NNNNtQ.", {}),
        "no storage": archive(state({"a": nothing}), {}),
    }


@pytest.mark.parametrize("name", damaged())
def test_damage_is_one_paragraph(written, name):
    path = written(damaged()[name])
    with pytest.raises(WeightsError, match=r"is no whole file of torch\.save \(.*\)\. Copy it again") as error:
        read_state_dict(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_something_else_than_tensors_is_refused(written):
    for entries in ({"a": whole(3)}, {"a": text("word")}, {"a": several((1, 2))}):
        with pytest.raises(WeightsError, match=r"holds no state dict of tensors, but a dictionary of 'a'\. Save"):
            read_state_dict(written(archive(state(entries), {})))


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict"])
def test_the_checkpoint_of_a_training_script_has_it_under_a_key(written, key):
    data, numbers = pickled(TENSORS)
    held = data.removeprefix(b"\x80\x02").removesuffix(b".")
    checkpoint = state({"epoch": whole(3), key: held, "optimizer": state({})[2:-1]})
    found = read_state_dict(written(archive(checkpoint, numbers)))
    assert list(found) == list(TENSORS)
    with pytest.raises(WeightsError, match=r"a dictionary of 'epoch', 'net', 'optimizer'\. Save"):
        read_state_dict(written(archive(checkpoint.replace(text(key), text("net")), numbers)))


def test_the_digest_is_compared_before_anything_is_parsed(written):
    path = written(both(TENSORS)[0])
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    assert list(read_state_dict(path, right.upper())) == list(TENSORS)
    path.write_bytes(state({"a": named("os", "system") + b"(tR"}))
    with pytest.raises(WeightsError, match=rf"its sha256 is .*, expected was {right}\. It was not read"):
        read_state_dict(path, right)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(WeightsError, match="No such file"):
        read_state_dict(tmp_path / "none.pth")


@pytest.mark.parametrize("archived", [True, False])
def test_files_of_torch_itself(tmp_path, archived):
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    given = {**module.state_dict(), "turned": torch.arange(6.0).reshape(2, 3).t(), "brain": torch.randn(3).bfloat16()}
    path = tmp_path / "a.pt"
    torch.save(given, path, _use_new_zipfile_serialization=archived)
    found = read_state_dict(path)
    assert list(found) == list(given)
    for name, value in given.items():
        np.testing.assert_array_equal(found[name], value.float().numpy())
    torch.save(module, path, _use_new_zipfile_serialization=archived)
    with pytest.raises(WeightsError, match=r"names torch\.nn\.modules\.container\.Sequential"):
        read_state_dict(path)
