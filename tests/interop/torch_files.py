"""State dicts as `torch.save` writes them, assembled opcode by opcode: tests of reading them need no PyTorch."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Mapping

import numpy as np

KINDS = {"f4": "Float", "f8": "Double", "f2": "Half", "i8": "Long", "i4": "Int", "u1": "Byte", "b1": "Bool"}


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def whole(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def several(values) -> bytes:
    return b"(" + b"".join(map(whole, values)) + b"t"


def named(module: str, name: str) -> bytes:
    return b"c" + f"{module}\n{name}\n".encode()


def tensor(kind: str, key: str, length: int, shape, strides, offset: int = 0) -> bytes:
    storage = (
        b"(" + text("storage") + named("torch", f"{kind}Storage") + text(key) + text("cpu") + whole(length) + b"tQ"
    )
    rest = whole(offset) + several(shape) + several(strides) + b"\x89" + named("collections", "OrderedDict") + b")R"
    return named("torch._utils", "_rebuild_tensor_v2") + b"(" + storage + rest + b"tR"


def strides_of(shape) -> list[int]:
    return [int(np.prod(shape[axis + 1 :], dtype=int)) for axis in range(len(shape))]


def state(entries: Mapping[str, bytes]) -> bytes:
    """Pickle of an OrderedDict of names to what the opcodes make."""
    items = b"".join(text(name) + value for name, value in entries.items())
    return b"\x80\x02" + named("collections", "OrderedDict") + b")R(" + items + b"u."


def pickled(tensors: Mapping[str, np.ndarray]) -> tuple[bytes, dict[str, bytes]]:
    """Pickle of a state dict, and the bytes of its storages by key."""
    entries, numbers = {}, {}
    for number, (name, value) in enumerate(tensors.items()):
        kind = KINDS[value.dtype.str[1:]]
        entries[name] = tensor(kind, str(number), value.size, value.shape, strides_of(value.shape))
        numbers[str(number)] = value.tobytes()
    return state(entries), numbers


def archive(data: bytes, numbers: Mapping[str, bytes], compression=zipfile.ZIP_STORED, order=b"little") -> bytes:
    """The form of PyTorch 1.6 and later."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as file:
        for name, content in {"data.pkl": data, "byteorder": order, "version": b"3\n"}.items():
            file.writestr(f"archive/{name}", content)
        for key, content in numbers.items():
            file.writestr(f"archive/data/{key}", content)
    return stream.getvalue()


def legacy(data: bytes, numbers: Mapping[str, bytes], sizes: Mapping[str, int], little: bool = True) -> bytes:
    """The form of before; `sizes` are bytes of a number in each storage."""
    begin = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": little, "type_sizes": {}}]
    parts = [*(pickle.dumps(value, 2) for value in begin), data, pickle.dumps(list(numbers), 2)]
    return b"".join(parts) + b"".join(
        struct.pack("<q", len(content) // sizes[key]) + content for key, content in numbers.items()
    )


def both(tensors: Mapping[str, np.ndarray]) -> tuple[bytes, bytes]:
    """A state dict in both forms."""
    data, numbers = pickled(tensors)
    sizes = {str(number): value.itemsize for number, value in enumerate(tensors.values())}
    return archive(data, numbers), legacy(data, numbers, sizes)
