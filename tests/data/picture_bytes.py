"""Image files written byte by byte, for kinds of samples that no library here writes, or each writes otherwise."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np

_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
_FORMATS = {"u": 1, "i": 2, "f": 3, "c": 6}


def packed(rows: np.ndarray, bits: int) -> bytes:
    """Pack unsigned numbers (rows, numbers) of some bits, the first bit being the highest; each row ends a byte."""
    numbers = rows.astype(np.uint32)
    digits = (numbers[..., None] >> np.arange(bits - 1, -1, -1, dtype=np.uint32)) & 1
    return np.packbits(digits.reshape(len(rows), -1).astype(np.uint8), axis=1).tobytes()


def png(
    stored: np.ndarray, bits: int = 8, palette: bytes = b"", interlaced: bool = False, chunks: Sequence[bytes] = ()
) -> bytes:
    """Return a PNG of (H, W) or (H, W, 2 to 4) numbers (ISO/IEC 15948).

    Args:
        stored: the numbers; entries of the palette where there is one.
        bits: of a sample.
        palette: red, green and blue of each entry.
        interlaced: as Adam7 has it.
        chunks: made by `png_chunk`, between the header and the pixels, behind the palette.
    """
    pixels = stored[..., None] if stored.ndim == 2 else stored
    height, width, channels = pixels.shape
    color = 3 if palette else {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    passes = [pixels[y::down, x::right] for y, x, down, right in _ADAM7] if interlaced else [pixels]
    lines = b"".join(_png_lines(part, bits) for part in passes if part.size)
    head = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, interlaced)
    parts = [png_chunk(b"IHDR", head), *([png_chunk(b"PLTE", palette)] if palette else []), *chunks]
    parts += [png_chunk(b"IDAT", zlib.compress(lines)), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """Return a chunk of a PNG with its length and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png_lines(pixels: np.ndarray, bits: int) -> bytes:
    rows = pixels.reshape(len(pixels), -1)
    return b"".join(b"\0" + (row.astype(">u2").tobytes() if bits == 16 else packed(row[None], bits)) for row in rows)


def tiff(
    stored: np.ndarray,
    bits: int | None = None,
    photometric: int | None = None,
    extra: Sequence[int] = (),
    order: str = "<",
    big: bool = False,
    planar: bool = False,
    rows: int | None = None,
    tile: int | None = None,
    deflate: bool = False,
    orientation: int | None = None,
    palette: Sequence[int] = (),
    tags: Sequence[tuple[int, int, Sequence[int]]] = (),
) -> bytes:
    """Return a TIFF (TIFF 6.0) or BigTIFF of (H, W) or (H, W, C) numbers.

    Args:
        stored: the numbers, in the type that they are stored in.
        bits: of a sample, where that is other than the type has: unsigned ones are packed.
        photometric: what the samples stand for; None: grey, or RGB where there are three or four.
        extra: kinds of the samples beyond the colours: 0 unknown, 1 alpha that colours were multiplied by, 2 alpha.
        order: "<" or ">", of bytes.
        big: a BigTIFF.
        planar: band after band.
        rows: of a strip; None: all.
        tile: side of a tile, a multiple of 16; None: strips.
        deflate: whether strips and tiles are compressed.
        orientation: value of its tag; None: no such tag.
        palette: red of all entries, green, blue, 16 bits.
        tags: others, as (tag, type, values).
    """
    pixels = stored[..., None] if stored.ndim == 2 else stored
    height, width, samples = pixels.shape
    bits = bits or stored.dtype.itemsize * 8
    if photometric is None:
        photometric = 2 if samples in (3, 4) else 1
    planes = [pixels[..., n : n + 1] for n in range(samples)] if planar else [pixels]
    parts = [_tiff_numbers(part, bits, order) for plane in planes for part in _tiff_parts(plane, rows, tile)]
    parts = [zlib.compress(part) for part in parts] if deflate else parts
    entries: list[tuple[int, int, Sequence[int]]] = [
        (256, 4, [width]), (257, 4, [height]), (258, 3, [bits] * samples), (259, 3, [8 if deflate else 1]),
        (262, 3, [photometric]), (277, 3, [samples]), (284, 3, [2 if planar else 1]),
        (339, 3, [_FORMATS[stored.dtype.kind]] * samples), *tags,
    ]  # fmt: skip
    if tile:
        entries += [(322, 3, [tile]), (323, 3, [tile]), (325, 4, [len(part) for part in parts])]
    else:
        entries += [(278, 4, [rows or height]), (279, 4, [len(part) for part in parts])]
    if extra:
        entries.append((338, 3, extra))
    if orientation:
        entries.append((274, 3, [orientation]))
    if palette:
        entries.append((320, 3, palette))
    return _tiff_file(sorted([*entries, (324 if tile else 273, 4, [0] * len(parts))]), parts, order, big)


def _tiff_parts(plane: np.ndarray, rows: int | None, tile: int | None) -> list[np.ndarray]:
    height, width = plane.shape[:2]
    if not tile:
        return [plane[at : at + (rows or height)] for at in range(0, height, rows or height)]
    full = np.pad(plane, ((0, -height % tile), (0, -width % tile), (0, 0)))
    places = [(y, x) for y in range(0, height, tile) for x in range(0, width, tile)]
    return [full[y : y + tile, x : x + tile] for y, x in places]


def _tiff_numbers(part: np.ndarray, bits: int, order: str) -> bytes:
    if bits == part.dtype.itemsize * 8:
        return part.astype(part.dtype.newbyteorder(order)).tobytes()
    return packed(part.reshape(len(part), -1), bits)


def _tiff_file(
    entries: Sequence[tuple[int, int, Sequence[int]]], parts: Sequence[bytes], order: str, big: bool
) -> bytes:
    """Lay out header, directory, values that do not fit into it, and pixels."""
    offset, inline, size = ("Q", 8, 20) if big else ("I", 4, 12)
    start = 16 if big else 8
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    head += struct.pack(order + "HHQ", 8, 0, start) if big else struct.pack(order + "I", start)
    values_at = start + struct.calcsize(order + ("Q" if big else "H")) + size * len(entries) + inline
    lengths = [len(numbers) * {3: 2, 4: 4}[kind] for _, kind, numbers in entries]
    pixels_at = values_at + sum(length + length % 2 for length in lengths if length > inline)
    starts = np.cumsum([pixels_at, *map(len, parts)])[:-1].tolist()
    directory, values = struct.pack(order + ("Q" if big else "H"), len(entries)), b""
    for (tag, kind, numbers), length in zip(entries, lengths, strict=True):
        body = struct.pack(
            f"{order}{len(numbers)}{'H' if kind == 3 else 'I'}", *(starts if tag in (273, 324) else numbers)
        )
        directory += struct.pack(order + "HH" + offset, tag, kind, len(numbers))
        if length > inline:
            directory += struct.pack(order + offset, values_at + len(values))
            values += body + b"\0" * (length % 2)
        else:
            directory += body.ljust(inline, b"\0")
    return head + directory + b"\0" * inline + values + b"".join(parts)


def bmp(stored: np.ndarray, bits: int, palette: Sequence[tuple[int, int, int]] = ()) -> bytes:
    """Return a BMP (BITMAPINFOHEADER) of (H, W) entries of a palette, or of (H, W, 3 or 4) RGB or RGBX numbers."""
    height, width = stored.shape[:2]
    if stored.ndim == 3:
        order = [2, 1, 0, 3][: stored.shape[2]]
        lines = [row[:, order].astype(np.uint8).tobytes() for row in stored]
    else:
        lines = [packed(row[None], bits) for row in stored]
    body = b"".join(line + b"\0" * (-len(line) % 4) for line in reversed(lines))
    colors = b"".join(bytes((blue, green, red, 0)) for red, green, blue in palette)
    start = 54 + len(colors)
    head = struct.pack("<2sIHHI", b"BM", start + len(body), 0, 0, start)
    head += struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, len(body), 2835, 2835, len(palette), 0)
    return head + colors + body


def ycck(jpeg: bytes) -> bytes:
    """Return a CMYK JPEG with the mark of Adobe that says that its samples are YCCK (transform 2)."""
    at = jpeg.index(b"\xff\xee\x00\x0eAdobe") + 15
    return jpeg[:at] + b"\x02" + jpeg[at + 1 :]
