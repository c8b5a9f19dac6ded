"""Parser of TIFF directories: number of pages, storage of their pixels, and completeness of the file.

Pillow, OpenCV and GDAL each read some kinds of TIFF right and others wrong without a word: Pillow takes signed bytes
for unsigned ones and the upper half of 16-bit colours, OpenCV multiplies colours by alpha and returns the first of
several bands alone, GDAL inverts CMYK. So what the directory says decides which of them gets a file.
"""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

_MAGIC = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}
# Bytes of a value by its type (TIFF 6.0, section 2; BigTIFF adds 16 to 18)
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_MOST_PAGES = 10_000
_MOST_TAGS = 4096

NEW_SUBFILE_TYPE, SUBFILE_TYPE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 255, 256, 257, 258, 259, 262
STRIP_OFFSETS, ORIENTATION, SAMPLES, STRIP_BYTES, PLANAR = 273, 274, 277, 279, 284
TILE_OFFSETS, TILE_BYTES, EXTRA_SAMPLES, SAMPLE_FORMAT, GEO_KEYS = 324, 325, 338, 339, 34735

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
UNSPECIFIED, PREMULTIPLIED, STRAIGHT = 0, 1, 2  # kinds of extra samples
_NUMBERS: dict[int, Literal["u", "i", "f", "c"]] = {1: "u", 2: "i", 3: "f", 4: "u", 5: "c", 6: "c"}


class TiffError(ValueError):
    """A TIFF whose directory is damaged, or whose pixels are not all in the file."""


class Page(NamedTuple):
    """Directory of a page.

    Attributes:
        size: width and height in pixels.
        bits: number of bits per sample.
        samples: number of samples per pixel.
        number: "u", "i", "f" or "c": unsigned, signed, floating or complex.
        photometric: interpretation of the samples: `WHITE_IS_ZERO`, ..., `LAB`, or another number.
        compression: 1 for none, 5 for LZW, 8 for Deflate, ...
        chunky: whether the samples of a pixel are stored together instead of band by band.
        tiled: whether the page is stored in tiles instead of strips.
        extra: kinds of the samples beyond those that the photometric needs.
        sparse: whether parts of the page are not stored, as GDAL leaves out empty ones.
        located: whether it states its place on Earth, as a GeoTIFF.
        directory: offset in the file at which its directory begins.
        misleading: where values stand in the file that decoders must not see, and their forms as `struct` has them: an
            orientation, which decoders apply or not, and the claim of a single band that it lies apart from the others,
            which leads Pillow astray. 1 in their place says nothing.
    """

    size: tuple[int, int]
    bits: int
    samples: int
    number: Literal["u", "i", "f", "c"]
    photometric: int
    compression: int
    chunky: bool
    tiled: bool
    extra: tuple[int, ...]
    sparse: bool
    located: bool
    directory: int
    misleading: tuple[tuple[int, str], ...]


class Tiff(NamedTuple):
    """Directories of a TIFF file.

    Attributes:
        pages: those at full resolution: neither overviews nor masks of transparency.
        first: whether the first of them is the first of the file, which is the one that decoders take.
        first_at: where in the file stands where its first directory begins, and its form as `struct` has it.
        little_endian, big: the order of bytes, and whether it is a BigTIFF.
    """

    pages: tuple[Page, ...]
    first: bool
    first_at: tuple[int, str]
    little_endian: bool
    big: bool

    @property
    def pictures(self) -> tuple[Page, ...]:
        """Pages of which each may be the picture.

        A whole-slide image (Aperio's SVS, generic pyramids) has its picture first, in tiles, and behind it reduced
        copies, a thumbnail and photographs of label and slide, which not all writers mark as such. So a first page in
        tiles is the only picture if all others have at most a quarter of its pixels.
        """
        first, *others = self.pages
        is_slide = first.tiled and all(4 * math.prod(page.size) <= math.prod(first.size) for page in others)
        return self.pages[:1] if is_slide else self.pages


class _Value(NamedTuple):
    """Whole numbers of a tag, with their offset and their `struct` format."""

    numbers: tuple[int, ...]
    at: tuple[int, str]


def is_tiff(start: bytes) -> bool:
    """Return True if the first bytes of a file are those of a TIFF or BigTIFF."""
    return start[:4] in _MAGIC


def read_tiff(stream: BinaryIO) -> Tiff:
    """Read the directories of a TIFF or BigTIFF; its pixels stay unread.

    Args:
        stream: the file, which can be sought in.

    Raises:
        TiffError: the directories are damaged, form a loop, or refer to data beyond the end of the file.
    """
    try:
        return _Reader(stream).read()
    except (struct.error, OverflowError) as error:
        raise TiffError(f"its directory is damaged: {error}") from error


def holds_wide_numbers(path: Path) -> bool:
    """Return whether a page of a TIFF has samples with a sign, floating ones, or more than 16 bits.

    False too for a file that is no TIFF, or whose directories are damaged; OSError where it cannot be opened.
    """
    with path.open("rb", buffering=0) as stream:
        if not is_tiff(stream.read(4)):
            return False
        try:
            return any(page.number != "u" or page.bits > 16 for page in read_tiff(stream).pages)
        except TiffError:
            return False


def names_a_place(path: Path) -> bool:
    """Return whether a TIFF is a GeoTIFF, whose keys name a place on Earth; False for one that is damaged."""
    with path.open("rb", buffering=0) as stream:
        try:
            return read_tiff(stream).pages[0].located
        except TiffError:
            return False


def cut_tiles(stream: BinaryIO, length: int) -> None:
    """Cut a TIFF that grew by appending tiles to an earlier length; its first directory forgets the tiles beyond.

    Args:
        stream: the file, opened for reading and writing.
        length: bytes that are kept, its first directory among them.

    Raises:
        TiffError: the directory is damaged, or names no tiles.
    """
    stream.truncate(length)
    try:
        reader = _Reader(stream)
        offsets, counts = reader.tiles()
        for number, (offset, count) in enumerate(zip(offsets.numbers, counts.numbers, strict=True)):
            if offset + count > length:
                for place, form in (offsets.at, counts.at):
                    stream.seek(place + number * struct.calcsize(form))
                    stream.write(struct.pack(form, 0))
    except (struct.error, OverflowError, KeyError, ValueError) as error:
        raise TiffError(f"its directory is damaged: {error}") from error


class _Reader:
    """Reads numbers from a stream; `length` is its number of bytes."""

    def __init__(self, stream: BinaryIO):
        self._stream = stream
        self.length = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        self._order, self._big = _MAGIC.get(stream.read(4), ("<", False))

    def _numbers(self, form: str, at: int) -> tuple[int, ...]:
        """Unpack the numbers at an offset with `struct`; struct.error beyond the end."""
        self._stream.seek(at)
        form = self._order + form
        return struct.unpack(form, self._stream.read(struct.calcsize(form)))

    def tiles(self) -> tuple[_Value, _Value]:
        """Return the offsets and the numbers of bytes of the tiles of the first directory; KeyError without tiles."""
        first_at, form = (8, "Q") if self._big else (4, "I")
        tags, _ = self._directory(*self._numbers(form, first_at))
        return tags[TILE_OFFSETS], tags[TILE_BYTES]

    def read(self) -> Tiff:
        if self._big and self._numbers("HH", 4) != (8, 0):
            raise TiffError("its header is damaged")
        first_at, form = (8, "Q") if self._big else (4, "I")
        (at,) = self._numbers(form, first_at)
        seen: set[int] = set()
        pages: list[Page] = []
        first = True
        while at:
            if at in seen or len(seen) >= _MOST_PAGES:
                raise TiffError("its directories lead in circles" if at in seen else "it has more than 10,000 pages")
            seen.add(at)
            here = at
            tags, at = self._directory(here)
            if _full_size(tags):
                pages.append(_page(tags, here, self.length))
                first = first and (len(pages) > 1 or len(seen) == 1)
        if not pages:
            raise TiffError("it has no page")
        return Tiff(tuple(pages), first, (first_at, self._order + form), self._order == "<", self._big)

    def _directory(self, at: int) -> tuple[dict[int, _Value], int]:
        """Return the tags that hold whole numbers, and where the next directory begins."""
        (count,) = self._numbers("Q" if self._big else "H", at)
        if not 0 < count <= _MOST_TAGS:
            raise TiffError(f"its directory claims {count} entries")
        at += 8 if self._big else 2
        size, inline, offset = (20, 8, "Q") if self._big else (12, 4, "I")
        tags = {}
        for _ in range(count):
            tag, kind, length = self._numbers("HH" + offset, at)
            place = at + size - inline
            if length * _BYTES.get(kind, 0) > inline:
                (place,) = self._numbers(offset, place)
                if place + length * _BYTES[kind] > self.length:
                    raise TiffError(f"it is truncated: the values of tag {tag} lie beyond its end")
            if length and kind in _WHOLE_NUMBERS:
                form = f"{length}{_WHOLE_NUMBERS[kind]}"
                tags[tag] = _Value(self._numbers(form, place), (place, self._order + _WHOLE_NUMBERS[kind]))
            at += size
        return tags, self._numbers(offset, at)[0]


def _full_size(tags: dict[int, _Value]) -> bool:
    """Return True if a directory describes a page, rather than an overview or a transparency mask."""
    kind = _one(tags, NEW_SUBFILE_TYPE, 0)
    return not kind & 0b101 and _one(tags, SUBFILE_TYPE, 1) != 2


def _page(tags: dict[int, _Value], directory: int, length: int) -> Page:
    samples = _one(tags, SAMPLES, 1)
    bits = set(tags[BITS].numbers if BITS in tags else (1,))
    formats = set(tags[SAMPLE_FORMAT].numbers if SAMPLE_FORMAT in tags else (1,))
    if len(bits) > 1 or len(formats) > 1:
        raise TiffError("its bands differ in their types of numbers")
    size = (_one(tags, WIDTH, 0), _one(tags, HEIGHT, 0))
    if not size[0] or not size[1] or not samples:
        raise TiffError("it has no pixels")
    return Page(
        size,
        bits.pop(),
        samples,
        _NUMBERS.get(formats.pop(), "c"),
        _one(tags, PHOTOMETRIC, BLACK_IS_ZERO),
        _one(tags, COMPRESSION, 1),
        samples == 1 or _one(tags, PLANAR, 1) == 1,
        TILE_OFFSETS in tags,
        tags[EXTRA_SAMPLES].numbers if EXTRA_SAMPLES in tags else (),
        _parts(tags, length),
        GEO_KEYS in tags,
        directory,
        tuple(
            tags[tag].at
            for tag, wrong in ((ORIENTATION, True), (PLANAR, samples == 1))
            if wrong and _one(tags, tag, 1) != 1
        ),
    )


def _parts(tags: dict[int, _Value], length: int) -> bool:
    """Check that all strips or tiles lie in the file; return whether some are not stored at all."""
    offsets, counts = (TILE_OFFSETS, TILE_BYTES) if TILE_OFFSETS in tags else (STRIP_OFFSETS, STRIP_BYTES)
    if offsets not in tags:
        raise TiffError("its directory names no pixels")
    starts = tags[offsets].numbers
    sizes = tags[counts].numbers if counts in tags else (1,) * len(starts)  # the count may be left out without tiles
    if len(starts) != len(sizes):
        raise TiffError("its directory is damaged: numbers of strips differ")
    if any(start + size > length for start, size in zip(starts, sizes, strict=True)):
        raise TiffError("it is truncated: pixels lie beyond its end")
    return not all(sizes)


def _one(tags: dict[int, _Value], tag: int, default: int) -> int:
    return tags[tag].numbers[0] if tag in tags else default
