"""The size, channels and number of pictures of a file from its first bytes, in microseconds.

Pillow takes a third of a millisecond. That counts double where threads read: it is Python's own, during which no other
thread decodes.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

_PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
# Colour type of a PNG to its channels (ISO/IEC 15948, section 11.2.2); a palette is expanded.
_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_GREY, _PALETTE = 0, 3
# Start of frame: the segments that hold the size (ITU-T T.81, table B.1); C4, C8 and CC are others.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD8)))


class Header(NamedTuple):
    """What the first bytes of a picture say.

    Attributes:
        format: "PNG" or "JPEG", as Pillow calls them.
        size: width and height in pixels.
        grey_bits: bits of a pixel of a PNG without colours, palette and alpha; 0 for all others.
        channels: of a pixel: 1 grey, 2 grey and alpha, 3 colours, 4 colours and alpha, or in JPEG those of CMYK.
        bits: of a channel.
        palette: whether pixels are entries of a table of colours.
        frames: pictures in the file, more than one in an animated PNG.
        transparent: the one grey value that is transparent, in a grey PNG with such a value; None in all others.
    """

    format: str
    size: tuple[int, int]
    grey_bits: int
    channels: int = 3
    bits: int = 8
    palette: bool = False
    frames: int = 1
    transparent: int | None = None


def header(data: bytes) -> Header | None:
    """Return what a file's bytes say at their beginning; None for other formats and what is out of the ordinary."""
    if data.startswith(_PNG) and len(data) >= 26:
        return _png(data)
    if data.startswith(b"\xff\xd8"):
        return _jpeg(data)
    return None


def _png(data: bytes) -> Header | None:
    width, height, bits, color = struct.unpack_from(">IIBB", data, 16)
    if not width or not height or color not in _CHANNELS:
        return None
    frames, transparent = 1, None
    at = 33  # the chunk after the header; all of interest come before the pixels
    while at + 8 <= len(data) and data[at + 4 : at + 8] != b"IDAT":
        (length,) = struct.unpack_from(">I", data, at)
        if data[at + 4 : at + 8] == b"acTL" and at + 12 <= len(data):
            (frames,) = struct.unpack_from(">I", data, at + 8)
        if data[at + 4 : at + 8] == b"tRNS" and color == _GREY and length == 2 and at + 10 <= len(data):
            (transparent,) = struct.unpack_from(">H", data, at + 8)
        at += 12 + length
    grey_bits = bits if color == _GREY else 0
    return Header(
        "PNG", (width, height), grey_bits, _CHANNELS[color], bits, color == _PALETTE, max(1, frames), transparent
    )


def _jpeg(data: bytes) -> Header | None:
    at = 2
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _WITHOUT_LENGTH:
            at += 2
        elif marker in _FRAMES:
            bits, height, width, channels = struct.unpack_from(">BHHB", data, at + 4)
            return Header("JPEG", (width, height), 0, channels, bits) if width and height else None
        else:
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None


class GifError(ValueError):
    """A GIF that ends before its end."""


def gif_frames(data: bytes) -> list[tuple[int, int, int, int]]:
    """Return left, top, width and height of the frames of a GIF (GIF89a specification, sections 17 to 27).

    Raises:
        GifError: the file is cut, or no GIF.
    """
    try:
        at = 13 + _table(data[10])
        frames = []
        while data[at] != 0x3B:  # the trailer
            if data[at] == 0x21:  # an extension
                at = _skipped(data, at + 2)
            elif data[at] == 0x2C:
                frames.append(struct.unpack_from("<HHHH", data, at + 1))
                at = _skipped(data, at + 11 + _table(data[at + 9]))
            else:
                raise GifError("its blocks are damaged")
    except (IndexError, struct.error) as error:
        raise GifError("it is truncated: its end is missing") from error
    return frames


def _table(flags: int) -> int:
    """Return the bytes of the table of colours that a descriptor with these flags is followed by."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _skipped(data: bytes, at: int) -> int:
    """Return where the sub-blocks that begin at `at` end."""
    while data[at]:
        at += data[at] + 1
    return at + 1
