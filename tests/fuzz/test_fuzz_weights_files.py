"""Weights files of strangers: whatever bytes, links, types and descriptions they hold, only WeightsError comes out.

Reading needs no network, so none is built. Files are read here as in the child process that goes ahead of
each (tests/test_hdf5.py). HDF5 is C code: a process of its own reads those with mutated bytes, so that a crash is a
failing test that names the file, and not the end of the tests.
"""

import io
import json
import zipfile

import h5py
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from segzoo.errors import WeightsError
from segzoo.weights import content as weights_content

WANTED = {"head/conv/0": (3, 3, 4, 2), "head/conv/1": (2,), "stem/0": (4, 5)}
SIGNATURE = {"model": "fpn_resnet18", "backbone": "resnet18", "preprocessing": {"scale": 1.0, "mean": 0, "std": 1}}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def whole(compression=None):
    """A small file laid out as Keras does."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.attrs["segzoo_graph"] = json.dumps(SIGNATURE)
        for path, names, shapes in (
            ("layers/functional/layers/conv2d/vars", "conv", [(3, 3, 4, 2), (2,)]),
            ("layers/stem/vars", "stem", [(4, 5)]),
        ):
            group = file.create_group(path)
            group.attrs["name"] = names
            for number, shape in enumerate(shapes):
                data = np.arange(np.prod(shape), dtype="float32").reshape(shape)
                group.create_dataset(str(number), data=data, compression=compression)
        file.create_group("layers/functional/vars").attrs["name"] = "head"
    return content.getvalue()


def read(path, content):
    """Read a file of this content; WeightsError is one of the two ends that it may have."""
    path.write_bytes(content)
    try:
        return weights_content.read(path, WANTED, trusted=True)
    except WeightsError as error:
        assert str(path) in str(error) and "\n\n" not in str(error)
        return None


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("weights") / "some.weights.h5"


def test_the_file_that_is_mutated_is_read(path):
    for compression in (None, "gzip"):
        found = read(path, whole(compression))
        assert found.shapes.keys() == WANTED.keys() == found.values.keys() and found.signature == SIGNATURE
        np.testing.assert_array_equal(found.values["stem/0"], np.arange(20, dtype="float32").reshape(4, 5))


def mutated(content, rng):
    """Return the bytes with some flipped, replaced, filled, zeroed, cut out, copied over others, or the end cut off."""
    found = bytearray(content)
    for _ in range(int(rng.integers(1, 6))):
        place, length = int(rng.integers(len(found) or 1)), int(rng.integers(1, 9))
        other = int(rng.integers(len(found) or 1))
        new = (rng.bytes(length), b"\xff" * length, b"\0" * length, b"", bytes(found[other : other + length]))
        kind = int(rng.integers(len(new) + 2))
        if kind < len(new):
            found[place : place + length] = new[kind]
        elif kind == len(new) and found:
            found[place] ^= 1 << int(rng.integers(8))
        elif rng.random() < 0.2:
            del found[place:]
    return bytes(found)


_SECONDS = 20  # that reading a small file may take
_READER = """
import importlib.util, signal, sys
import numpy as np
from pathlib import Path
from segzoo import hdf5

spec = importlib.util.spec_from_file_location("cases", sys.argv[1])
cases = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cases)
wholes = [cases.whole(), cases.whole("gzip")]
hdf5.limit_process(10**6, 0)  # of memory above all: as in the child that `hdf5.try_out` starts for each file
for case in range(int(sys.argv[3])):
    print(case, flush=True)
    signal.alarm(cases._SECONDS)  # its default ends the process, in the midst of C code too
    cases.read(Path(sys.argv[2]), cases.mutated(wholes[case % 2], np.random.default_rng(case)))
"""


def test_mutated_bytes_end_in_weights_or_one_error_and_never_crash(path, forked):
    forked(_READER, __file__, path, settings().max_examples)


def built(tree):
    """A file of a tree of (name, what) where `what` is a tree, an index of an object made before, a type, or a link."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        made = [file]

        def add(group, branches):
            for name, what in branches:
                if name in group:
                    continue
                if isinstance(what, list):
                    made.append(group.create_group(name))
                    if name == "vars":
                        group[name].attrs["name"] = "conv"
                    add(group[name], what)
                elif isinstance(what, int):
                    group[name] = made[what % len(made)]
                elif isinstance(what, str):
                    group[name] = h5py.SoftLink(what) if what.startswith("/") else h5py.ExternalLink(what, "/")
                else:
                    group[name] = what

        add(file, tree)
    return content.getvalue()


LEAVES = st.one_of(
    st.integers(0, 9),
    st.sampled_from(["/layers", "other.h5"]),
    st.sampled_from(["f2", "f4", "f8", "i1", "u8", "c8", "?", "S3", "V4", [("a", "f4"), ("b", "S2")]]).map(
        lambda kind: np.zeros((3, 3, 4, 2), kind)
    ),
    st.sampled_from([np.dtype("f4"), np.dtype("S5")]),
    st.floats(),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=4),
)
NAMES = st.sampled_from(["vars", "layers", "functional", "conv", "0", "1", "x"])
TREES = st.recursive(
    st.lists(st.tuples(NAMES, LEAVES), max_size=3),
    lambda inner: st.lists(st.tuples(NAMES, LEAVES | inner), max_size=4),
    max_leaves=12,
)


@given(TREES)
@example([("head", 0)])
@example([("a", [("b", 0)])])
@example([("layers", [("conv", [("vars", [("0", np.dtype("f4"))])])])])
def test_links_types_and_mazes_are_read_or_refused(path, tree):
    read(path, built(tree))


def test_a_maze_of_hard_links_takes_no_longer_than_its_size(path):
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        here = file
        for _ in range(60):  # 2 to the power of 60 ways from the first to the last
            here["a"] = below = file.create_group(None)
            here["b"] = below
            here = below
    path.write_bytes(content.getvalue())
    with pytest.raises(WeightsError, match="another name of something else"):
        weights_content.read(path, WANTED, trusted=True)


@pytest.mark.parametrize("kind", ["S3", "c8", "V4", [("a", "f4")], h5py.ref_dtype])
def test_a_tensor_of_something_else_than_numbers_is_refused(path, kind):
    content = io.BytesIO(whole())
    with h5py.File(content, "r+") as file:
        del file["layers/stem/vars/0"]
        file["layers/stem/vars"].create_dataset("0", (4, 5), kind)
    path.write_bytes(content.getvalue())
    with pytest.raises(WeightsError, match=r"some\.weights\.h5 cannot be read .* not numbers"):
        weights_content.read(path, WANTED, trusted=True)


@given(JSON)
@example({"model": 3, "backbone": None, "preprocessing": {}})
def test_signatures_of_any_json_are_read_or_refused(path, value):
    content = io.BytesIO(whole())
    with h5py.File(content, "r+") as file:
        file.attrs["segzoo_graph"] = json.dumps(value)
    found = read(path, content.getvalue())
    assert found is None or found.signature["model"] == value["model"]


def archived(config, weights_bytes, compression=zipfile.ZIP_DEFLATED):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        archive.writestr("config.json", config)
        archive.writestr("model.weights.h5", weights_bytes)
    return content.getvalue()


def read_archive(path, content):
    path = path.with_name("some.keras")
    path.write_bytes(content)
    for old in path.parent.glob("archive.weights.h5"):
        old.unlink()
    try:
        return weights_content.read_archive(path, path.parent, WANTED, 10_000, trusted=True)
    except WeightsError as error:
        assert str(path) in str(error)
        return None


LAYER = st.fixed_dictionaries({"name": st.just("preprocessing") | JSON, "config": JSON | st.just({"scale": 1.0})})
DESCRIBED = JSON | st.fixed_dictionaries(
    {"config": JSON | st.fixed_dictionaries({"name": JSON, "layers": JSON | st.lists(LAYER | JSON, max_size=3)})}
)


@given(DESCRIBED)
@example({"config": {"layers": [{"config": []}]}})
@example({"config": {"layers": 3}})
def test_archives_with_any_description_are_read_or_refused(path, description):
    found = read_archive(path, archived(json.dumps(description), whole()))
    assert found is None or found.shapes.keys() == WANTED.keys()


@given(st.integers(0, 2**32), st.sampled_from([0, 8, 12, 14]))
def test_archives_with_mutated_bytes_are_refused(path, seed, compression):
    # Only the zip's own structures: the weights inside have a test of their own.
    content = archived("{}", b"no weights" * 20, compression)
    assert read_archive(path, mutated(content, np.random.default_rng(seed))) is None
