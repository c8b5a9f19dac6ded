"""Files that HDF5's C code cannot stand are refused by a process that may crash, hang or run out of memory."""

import struct
import sys
import time

import h5py
import numpy as np
import pytest

from segzoo import hdf5

WANTED = {"stem/0": (4, 5)}
VALUES = np.arange(20, dtype="float32").reshape(4, 5)


@pytest.fixture
def path(tmp_path):
    """A weights file of one layer."""
    path = tmp_path / "stem äöü.weights.h5"
    with h5py.File(path, "w") as file:
        file.attrs[hdf5.SIGNATURE] = "{}" * 50
        group = file.create_group("layers/stem/vars")
        group.attrs["name"] = "stem"
        group["0"] = VALUES
    return path


def test_a_good_file_comes_through_the_child_process(path):
    hdf5.try_out(path, WANTED)
    found = hdf5.read(path, WANTED)
    assert found.shapes == WANTED and found.signature == "{}" * 50
    np.testing.assert_array_equal(found.values["stem/0"], VALUES)


def test_a_text_that_claims_gigabytes_is_refused_before_they_are_filled(path):
    content = bytearray(path.read_bytes())
    claim = content.index(struct.pack("<I", 100))  # bytes of the text, before the address of the heap that it lies in
    assert content[struct.unpack_from("<Q", content, claim + 4)[0] :].startswith(b"GCOL")
    struct.pack_into("<I", content, claim, 2**32 - 16)
    path.write_bytes(content)
    start = time.perf_counter()
    with pytest.raises(ValueError, match="claims more memory" if sys.platform == "linux" else "past end"):
        hdf5.try_out(path, WANTED)
    assert time.perf_counter() - start < 5 or sys.platform != "linux"


def test_weights_that_look_like_a_heap_are_read(tmp_path):
    values = np.frombuffer(b"GCOL\x01\x07" + bytes(range(1, 75)), "float32").reshape(4, 5)
    with h5py.File(tmp_path / "w.weights.h5", "w") as file:
        group = file.create_group("layers/stem/vars")
        group.attrs["name"] = "stem"
        group["0"] = values
    np.testing.assert_array_equal(hdf5.read(tmp_path / "w.weights.h5", WANTED).values["stem/0"], values)


def test_what_is_raised_in_the_child_process_is_raised_here(path):
    path.write_bytes(b"no HDF5 file at all")
    with pytest.raises(ValueError, match="does not begin as HDF5 files do"):
        hdf5.try_out(path, WANTED)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to tell a crash by")
def test_a_crash_in_c_code_is_an_error_here(path, monkeypatch):
    monkeypatch.setattr(hdf5, "_CHECK", "import ctypes; ctypes.string_at(0)")
    with pytest.raises(ValueError, match=r"crashes HDF5 \(SIGSEGV\)"):
        hdf5.try_out(path, WANTED)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not limit the processor time of a process")
def test_a_loop_without_an_end_is_an_error_after_a_limit_of_processor_time(path, monkeypatch):
    loop = "from segzoo import hdf5\nhdf5.read = lambda *given: sum(0 for _ in iter(int, 1))\nhdf5._check()"
    monkeypatch.setattr(hdf5, "_CHECK", loop)
    monkeypatch.setattr(hdf5, "_START_SECONDS", 0.5)
    with pytest.raises(ValueError, match=r"without an end \(stopped after 1 seconds\)"):
        hdf5.try_out(path, WANTED)


def test_a_child_process_that_cannot_start_says_nothing_of_the_file(path, monkeypatch):
    monkeypatch.setattr(hdf5, "_CHECK", "import no_such_module")
    hdf5.try_out(path, WANTED)
    monkeypatch.setattr(sys, "executable", "")
    hdf5.try_out(path, WANTED)
