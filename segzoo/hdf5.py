"""Safe reading of tensors from untrusted HDF5 weights files, first in a child process.

HDF5 is C code. Some damaged files crash it, send it into an endless loop, or make it fill gigabytes for a text that
they claim to hold; Python can stop none of that. So a child process without a framework, limited in memory and
processor time, reads a file once, which takes a third of a second; only where it comes through is the file read here.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

SIGNATURE = "segzoo_graph"
LAYERS = "segzoo_layers"  # digests of layers, as JSON in a data set: an attribute holds 64 kB
FUNCTION = "function"  # a data set beside a decoder's weights: `Decoder.function` as JSON
DECODER_FUNCTION = f"decoder/{FUNCTION}"
_MOST_NOTES = 2**20  # bytes of what is kept beside the tensors
_HDF5 = b"\x89HDF\r\n\x1a\n"
_HEAP = b"GCOL\x01\0\0\0"  # with the three reserved bytes: five bytes alone come by chance in a gigabyte of weights
# The largest network here has some thousand layers, nested a dozen deep.
_MOST_OBJECTS, _DEEPEST = 10**6, 100
# Processor time of the child: its start, and 20 MB a second, which is slow even for packed tensors.
_START_SECONDS, _BYTES_A_SECOND = 10, 2e7
_SLOWER = 20  # times as long on the clock, where processor time cannot be limited: other programs run, disks are slow
_SPARE_MEMORY = 2**28  # bytes of the child, beside the file and the tensors that are read from it
_REFUSED = 3  # exit code of the child where reading raised
_CHECK = "from segzoo import hdf5; hdf5._check()"


class Content(NamedTuple):
    """Content of a weights file: all shapes, the values of matching tensors, and the description of its network.

    Attributes:
        shapes: shapes of all tensors.
        values: values of the matching tensors, float32.
        signature: signature of the graph, as JSON, or None if the file has none.
        function: the decoder's options, as bytes of JSON (uint8); None where it has none or they were not kept.
        layers: digests of layers, as bytes of JSON (uint8); None where there are none.
    """

    shapes: dict[str, tuple[int, ...]]
    values: dict[str, np.ndarray]
    signature: str | None
    function: np.ndarray | None
    layers: np.ndarray | None


def try_out(path: Path, wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Read a file as `read` does, in a child process with limits.

    Raises:
        ValueError: what was raised there, as text; or reading crashes HDF5, has no end, or takes too much memory.
    """
    if not sys.executable:  # Python inside of another program: there is nothing to start
        return
    seconds = math.ceil(_START_SECONDS + path.stat().st_size / _BYTES_A_SECOND)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _CHECK],
            input=json.dumps({"path": str(path), "wanted": wanted, "seconds": seconds}),
            capture_output=True,
            encoding="ascii",  # of JSON, which escapes the rest
            env=environment,
            timeout=seconds * _SLOWER if sys.platform == "win32" else None,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _endless(seconds * _SLOWER) from None
    except OSError:  # the system starts no more processes
        return
    if done.returncode == _REFUSED:
        raise ValueError(json.loads(done.stdout))
    if done.returncode < 0:  # a signal; another code is a child that could not start, which says nothing of the file
        if -done.returncode in (signal.SIGXCPU, signal.SIGKILL):
            raise _endless(seconds)
        raise ValueError(f"it is damaged in a way that crashes HDF5 ({signal.Signals(-done.returncode).name})")


def _endless(seconds: int) -> ValueError:
    return ValueError(f"it is damaged in a way that HDF5 reads without an end (stopped after {seconds} seconds)")


def _check() -> None:
    """Read the file named on standard input; print any exception and exit with a dedicated code."""
    task = json.load(sys.stdin)
    path, wanted = Path(task["path"]), {name: tuple(shape) for name, shape in task["wanted"].items()}
    limit_process(task["seconds"], path.stat().st_size + 8 * sum(map(math.prod, wanted.values())))
    try:
        read(path, wanted)
    except Exception as error:
        reason = str(error).strip() or type(error).__name__
        if isinstance(error, MemoryError) or "memory allocation" in reason:
            reason = "it is damaged: something in it claims more memory than the whole file and the network need"
        print(json.dumps(reason))
        sys.exit(_REFUSED)


def limit_process(seconds: int, size: int) -> None:
    """Limit this process to `seconds` more of processor time, and to `size` more bytes of memory.

    Linux alone limits the memory, and Windows neither.
    """
    if sys.platform == "win32":
        return
    import resource

    used = math.ceil(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
    resource.setrlimit(resource.RLIMIT_CPU, (used + seconds, used + seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + size + _SPARE_MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def read(path: Path, wanted: Mapping[str, tuple[int, ...]]) -> Content:
    """Read all shapes, and the values of layers whose tensors all have the wanted shapes.

    Args:
        path: path of the file.
        wanted: shapes by the names of `named_datasets`. A small file may claim a tensor of any size, so no other is
            read. A layer is taken whole or not at all: a bias without its kernel means nothing, and the tensors of a
            layer that has more in the file are others than those of the same numbers.

    Raises:
        Exception: of any kind; what HDF5 and its filters raise on bytes that are no such file has no end.
    """
    _check_heaps(path)
    with h5py.File(path, "r") as file:
        signature = file.attrs.get(SIGNATURE)
        layers = _bytes(file[LAYERS]) if LAYERS in file else None
        datasets = dict(named_datasets(file))
        noted = datasets.pop(DECODER_FUNCTION, None)
        function = None if noted is None else _bytes(noted)
        shapes = {name: dataset.shape for name, dataset in datasets.items()}
        broken = {layer_of(name) for name, shape in wanted.items() if shapes.get(name) != shape}
        broken |= {layer_of(name) for name in shapes.keys() - wanted.keys()}
        fitting = {name for name in wanted if layer_of(name) not in broken}
        values = {name: _values(datasets[name]) for name in fitting}
        return Content(shapes, values, signature, function, layers)


def layer_of(name: str) -> str:
    """Return the name of the layer that a tensor belongs to."""
    return name.rpartition("/")[0]


def named_datasets(file: h5py.File) -> list[tuple[str, h5py.Dataset]]:
    """Map datasets by the names of their layers ("decoder/aspp/project/conv/0"), which Keras keeps as attributes.

    Keras's own paths count classes ("conv2d_3") and shift when a layer is added, so they cannot be matched.
    """
    found = []
    seen = {h5py.h5o.get_info(file.id).addr}

    def walk(group: h5py.Group, names: tuple[str, ...]) -> None:
        if len(seen) > _MOST_OBJECTS or group.name.count("/") > _DEEPEST:
            raise OSError(f"{group.name} is one group of too many or too deep for the weights of a network")
        own = group.get("vars")
        if own is not None and "name" in own.attrs and group.name != "/":
            names = (*names, str(own.attrs["name"]))
        for key in group:
            # Links and external storage would read other files of this machine as if they were weights.
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise OSError(f"{group.name}/{key} is a link")
            item = group[key]
            # An object under two names is none of Keras's; groups that hold each other are a walk without an end.
            place = h5py.h5o.get_info(item.id).addr
            if place in seen:
                raise OSError(f"{group.name}/{key} is another name of something else")
            seen.add(place)
            if not isinstance(item, h5py.Group | h5py.Dataset):
                raise OSError(f"{group.name}/{key} is neither a group nor a tensor")
            if isinstance(item, h5py.Dataset):
                if item.external or item.is_virtual:
                    raise OSError(f"{item.name} lies in another file")
                if group.name.endswith("/vars"):
                    found.append(("/".join((*names, key)), item))
            else:
                walk(item, names)

    walk(file, ())
    return found


def _bytes(dataset: object) -> np.ndarray:
    """Return bytes that are stored beside the tensors; ValueError unless they are an array of plausible size."""
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype != np.uint8 or dataset.nbytes > _MOST_NOTES:
        raise ValueError("what it says of its network is not in the form of segzoo")
    return np.asarray(dataset[...])


def _values(dataset: h5py.Dataset) -> np.ndarray:
    """Read a tensor as float32; TypeError unless it holds real numbers."""
    if dataset.dtype.kind not in "fiub" and dataset.attrs.get("dtype") != "bfloat16":
        raise TypeError(f"{dataset.name} holds {dataset.dtype}, not numbers")
    if dataset.chunks is not None and math.prod(dataset.chunks) > max(1, dataset.size):
        raise ValueError(f"{dataset.name} has pieces larger than itself")  # each would be unpacked as a whole
    return np.asarray(dataset[...], "float32")


def _check_heaps(path: Path) -> None:
    """Raise ValueError for a heap with an object of length zero, on which HDF5 would loop without end.

    Its C code (H5HG, up to 2.0) takes the length of free space in a global heap, which texts lie in, as the way to the
    next object; at 0 it stays where it is for good. This is most of what `try_out` would find, but at once.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        widths = content[13:15] if content[8] < 2 else content[9:11]
        if content[:8] != _HDF5 or widths != b"\x08\x08":
            raise ValueError("it does not begin as HDF5 files do, with addresses and lengths of 8 bytes")
        start = content.find(_HEAP)
        while start >= 0:
            end = min(start + int.from_bytes(content[start + 8 : start + 16], "little"), len(content))
            place = start + 16
            while place + 16 <= end:
                index = int.from_bytes(content[place : place + 2], "little")
                length = int.from_bytes(content[place + 8 : place + 16], "little")
                step = 16 + -(-length // 8) * 8 if index else length
                if not 16 <= step <= end - place:
                    raise ValueError(f"a heap of texts at byte {start} is damaged")
                place += step
            start = content.find(_HEAP, start + 1)
