"""The size, channels and number of pictures of a file from its bytes, in microseconds.

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
    """Header of a PNG or JPEG file.

    Attributes:
        format: "PNG" or "JPEG", as Pillow calls them.
        size: width and height in pixels.
        grey_bits: bits of a pixel of a PNG without colours, palette and alpha; 0 for all others.
        channels: number per pixel: 1 grey, 2 grey and alpha, 3 colours, 4 colours and alpha or, in JPEG, CMYK. Alpha
            counts, but for `transparent`, also where a PNG keeps it beside the pixels (tRNS).
        bits: number of bits per channel.
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
    """Parse the header of a PNG or JPEG from its first bytes; None for other formats and unusual headers."""
    if data.startswith(_PNG) and len(data) >= 26:
        return _png(data)
    if data.startswith(b"\xff\xd8"):
        return _jpeg(data)
    return None


def _png(data: bytes) -> Header | None:
    width, height, bits, color = struct.unpack_from(">IIBB", data, 16)
    if not width or not height or color not in _CHANNELS:
        return None
    channels, frames, transparent = _CHANNELS[color], 1, None
    at = 33  # the chunk after the header; all of interest come before the pixels
    while at + 8 <= len(data) and data[at + 4 : at + 8] != b"IDAT":
        (length,) = struct.unpack_from(">I", data, at)
        if data[at + 4 : at + 8] == b"acTL" and at + 12 <= len(data):
            (frames,) = struct.unpack_from(">I", data, at + 8)
        if data[at + 4 : at + 8] == b"tRNS" and color == _GREY and length == 2 and at + 10 <= len(data):
            (transparent,) = struct.unpack_from(">H", data, at + 8)
        if data[at + 4 : at + 8] == b"tRNS" and channels == 3:
            channels = 4
        at += 12 + length
    grey_bits = bits if color == _GREY else 0
    return Header("PNG", (width, height), grey_bits, channels, bits, color == _PALETTE, max(1, frames), transparent)


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


def stated_size(data: bytes) -> tuple[int, int] | None:
    """Return the width and height that a PNG, JPEG, GIF, BMP or WebP claims; None for others and damaged ones."""
    if (first := header(data)) is not None:
        return first.size
    try:
        if data.startswith((b"GIF87a", b"GIF89a")):
            width, height = struct.unpack_from("<HH", data, 6)
        elif data.startswith(b"BM"):
            width, height = _bmp_size(data)
        elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            width, height = _webp_size(data)
        else:
            return None
    except struct.error:
        return None
    return (width, height) if width and height else None


def bmp_bits(data: bytes) -> int:
    """Return the bits of a pixel of a BMP; 0 where it is cut."""
    at = 24 if data[14:18] == b"\x0c\0\0\0" else 28  # the older header, BITMAPCOREHEADER, is shorter
    return int.from_bytes(data[at : at + 2], "little")


def _bmp_size(data: bytes) -> tuple[int, int]:
    core = data[14:18] == b"\x0c\0\0\0"
    width, height = struct.unpack_from("<HH" if core else "<ii", data, 18)
    return abs(width), abs(height)  # a negative height: the first row comes first


def _webp_size(data: bytes) -> tuple[int, int]:
    """Return the size of a WebP's canvas (RFC 9649, sections 2.5 to 2.7)."""
    if data[12:16] == b"VP8X":
        width, width_high, height, height_high = struct.unpack_from("<HBHB", data, 24)
        return 1 + width + (width_high << 16), 1 + height + (height_high << 16)
    if data[12:16] == b"VP8L":
        (packed,) = struct.unpack_from("<I", data, 21)
        return 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


class GifError(ValueError):
    """Truncated GIF."""


def gif_frames(data: bytes) -> list[tuple[int, int, int, int]]:
    """Return left, top, width and height of the frames of a GIF (GIF89a specification, sections 17 to 27).

    Raises:
        GifError: the file is truncated or not a GIF.
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
    """Return the length in bytes of the colour table that follows a descriptor with these flags."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _skipped(data: bytes, at: int) -> int:
    """Return the end of the sub-blocks that begin at `at`."""
    while data[at]:
        at += data[at] + 1
    return at + 1
