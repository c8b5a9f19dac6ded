"""Tensors of a state dict saved by `torch.save`, read without PyTorch and without running what the pickle names.

A pickle can name any function to be called. Here the few names that a state dict is made of stand for plain data, and
every other name is refused. Both forms are read: the zip archive of PyTorch 1.6 and later (`torch/serialization.py`),
and the sequence of pickles before it, in which published weights of that time still are.
"""

from __future__ import annotations

import hashlib
import io
import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from segzoo.errors import WeightsError
from segzoo.files import check_digest

_MAGIC = 0x1950A86A20F9469CFC6C  # with which the old form begins
_OLD_PROTOCOL = 1001
# Kinds of storage to the number type of their elements.
_TYPES: dict[str, np.dtype[Any]] = {
    "Float": np.dtype("<f4"),
    "Double": np.dtype("<f8"),
    "Half": np.dtype("<f2"),
    "BFloat16": np.dtype("<u2"),  # the upper 16 bits of a float32, as NumPy has no such type
    "Long": np.dtype("<i8"),
    "Int": np.dtype("<i4"),
    "Short": np.dtype("<i2"),
    "Char": np.dtype("i1"),
    "Byte": np.dtype("u1"),
    "Bool": np.dtype("?"),
}
# Keys under which training scripts keep the state dict beside what else they save.
_HOLDERS = ("state_dict", "model", "model_state_dict")
_SAVE = "Save model.state_dict() by torch.save, or as safetensors."


class _Storage(NamedTuple):
    """Numbers of one or more tensors, still to be read."""

    kind: str
    key: str
    length: int


class _Tensor(NamedTuple):
    """View of a storage. A tuple, as a pickle cannot set the attributes of one."""

    storage: Any
    offset: Any
    shape: Any
    strides: Any


class _Kind(NamedTuple):
    """Class of storages, by the name of its number type."""

    name: str


# All that a pickle may name. What it gets is made anew each time: a pickle can set the attributes of a function.
_NAMES: dict[tuple[str, str], Callable[[], Any]] = {
    ("collections", "OrderedDict"): lambda: OrderedDict,
    ("torch", "Size"): lambda: lambda values: tuple(values),
    ("torch._utils", "_rebuild_tensor_v2"): lambda: (
        lambda storage, offset, shape, strides, *_: _Tensor(storage, offset, shape, strides)
    ),
    ("torch._utils", "_rebuild_parameter"): lambda: lambda tensor, *_: tensor,
    **{("torch", f"{kind}Storage"): partial(_Kind, kind) for kind in _TYPES},
}


class _NameRefused(pickle.UnpicklingError):
    """The pickle names something that no state dict is made of."""


class _Unpickler(pickle.Unpickler):
    """Unpickler that knows the names of a state dict alone."""

    def __init__(self, stream: BinaryIO):
        super().__init__(stream)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise _NameRefused(f"{module}.{name}")
        return _NAMES[module, name]()

    def persistent_load(self, reference: Any) -> _Storage:
        """Return the storage that a reference names: ("storage", kind, key, device, count)."""
        word, kind, key, _, count, *rest = reference
        if word != "storage" or not isinstance(kind, _Kind) or not isinstance(key, str) or any(rest):
            raise pickle.UnpicklingError("a reference to something else than a storage")
        storage = _Storage(kind.name, key, int(count))
        if self.storages.setdefault(key, storage) != storage:
            raise pickle.UnpicklingError(f"two storages of the name {key}")
        return storage


def read_state_dict(path: Path, sha256: str | None = None) -> dict[str, np.ndarray]:
    """Read the tensors of a state dict, or of the one under a key of `_HOLDERS`: name to array.

    Numbers of floating point are returned as float32, all others as they are.

    Args:
        path: a file of `torch.save`.
        sha256: digest in hexadecimal that is compared before anything of the file is parsed.

    Raises:
        WeightsError: a file that is missing, damaged, truncated or has another digest, or contains more than a state
            dict.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.") from error
    if sha256 is not None:
        check_digest(path, hashlib.sha256(data).hexdigest(), sha256)
    try:
        found, numbers = _from_archive(data) if data.startswith(b"PK") else _from_pickles(data)
        state = _state(found)
        if state is None:
            keys = f", but {_keys(found)}" if isinstance(found, dict) and found else ""
            raise WeightsError(f"{path} holds no state dict of tensors{keys}. {_SAVE}")
        return {str(name): _array(tensor, numbers) for name, tensor in state.items()}
    except WeightsError:
        raise
    except _NameRefused as error:
        raise WeightsError(
            f"{path} names {error}, which no state dict is made of: it holds a whole model, an optimizer or other "
            f"objects, which can run code when read. It was not read. {_SAVE}"
        ) from None
    except Exception as error:  # of a damaged file, anything
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise WeightsError(f"{path} is no whole file of torch.save ({reason}). Copy it again. {_SAVE}") from error


def _state(found: Any) -> dict[Any, _Tensor] | None:
    """Return the state dict that a pickle holds, itself or under a key; None if there is none."""
    if not isinstance(found, dict):
        return None
    held = [found[key] for key in _HOLDERS if isinstance(found.get(key), dict)]
    return next((state for state in (*held, found) if all(isinstance(one, _Tensor) for one in state.values())), None)


def _keys(found: dict[Any, Any]) -> str:
    """Return the first keys of a dictionary, for messages."""
    shown = ", ".join(ascii(key)[:40] for key in list(found)[:5])
    return f"a dictionary of {shown}{' and more' if len(found) > 5 else ''}"


# Function from a storage to the bytes of its numbers.
_Numbers = Callable[[_Storage], bytes]


def _from_archive(data: bytes) -> tuple[Any, _Numbers]:
    """Read the zip archive that `torch.save` writes since PyTorch 1.6."""
    archive = zipfile.ZipFile(io.BytesIO(data))
    entries = {entry.filename: entry for entry in archive.infolist()}
    root = next((name.removesuffix("data.pkl") for name in entries if name.endswith("/data.pkl")), None)
    if root is None:
        raise ValueError("an archive without data.pkl")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
        raise ValueError("a compressed archive, which torch.save does not write")
    order = f"{root}byteorder"
    if order in entries and archive.read(order) != b"little":
        raise ValueError("numbers that are not little-endian")
    found = _Unpickler(io.BytesIO(archive.read(f"{root}data.pkl"))).load()
    return found, lambda storage: archive.read(f"{root}data/{storage.key}")


def _from_pickles(data: bytes) -> tuple[Any, _Numbers]:
    """Read the form of before: magic number, protocol, system, object, keys, and each storage's count and numbers."""
    stream = io.BytesIO(data)
    magic, protocol, system = (_Unpickler(stream).load() for _ in range(3))
    if magic != _MAGIC or protocol != _OLD_PROTOCOL:
        raise ValueError("it does not begin as one")
    if not system["little_endian"]:
        raise ValueError("numbers that are not little-endian")
    loader = _Unpickler(stream)
    found = loader.load()
    numbers: dict[str, bytes] = {}
    for key in _Unpickler(stream).load():
        storage = loader.storages[key]
        if stream.read(8) != struct.pack("<q", storage.length):
            raise ValueError(f"storage {key} has another length than is said of it")
        numbers[key] = stream.read(storage.length * _TYPES[storage.kind].itemsize)
    return found, lambda storage: numbers[storage.key]


def _array(tensor: _Tensor, numbers: _Numbers) -> np.ndarray:
    """Return the values of a tensor; ValueError unless they lie in its storage, each number once at most."""
    storage, shape, strides = tensor.storage, tensor.shape, tensor.strides
    dtype = _TYPES[storage.kind]
    flat = np.frombuffer(numbers(storage), dtype)
    if flat.size != storage.length:
        raise ValueError(f"storage {storage.key} is cut: {flat.size} of {storage.length} numbers")
    whole = (tensor.offset, *shape, *strides)
    if len(shape) != len(strides) or any(type(value) is not int or value < 0 for value in whole):
        raise ValueError(f"a tensor of shape {shape} and strides {strides}")
    count = math.prod(shape)
    last = tensor.offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if count > flat.size or (count and last >= flat.size):
        raise ValueError(f"a tensor of shape {shape} in a storage of {flat.size} numbers")
    steps = [stride * dtype.itemsize for stride in strides]
    found = np.lib.stride_tricks.as_strided(flat[tensor.offset :], shape, steps, writeable=False) if count else flat[:0]
    found = found.reshape(shape)
    if storage.kind == "BFloat16":  # the upper half of a float32
        return (found.astype(np.uint32) << 16).view(np.float32)
    return found.astype(np.float32) if dtype.kind == "f" else found.copy()
