"""Lossless image decoding: choice of a decoder for each file, and refusal of files that decoders would misread.

docs/sample-types.md says what each kind of sample becomes. OpenCV decodes PNG and JPEG (a JPEG of
480 x 360 in 1.5 ms, Pillow in 2.0 ms), Pillow what else has 8 bits, OpenCV TIFFs of more bits where it reads them
right, and GDAL, by rasterio, those that remain.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from segzoo.data.codecs import FORMATS, Picture, mode_of, opencv, opencv_holds, pillow
from segzoo.data.headers import bmp_bits, gif_frames, header, stated_size
from segzoo.data.refusals import check_bands, check_single, check_size, is_whole, reading, refused
from segzoo.data.tiff import is_tiff
from segzoo.data.tiff_decoding import open_tiff
from segzoo.files import regular


def open_image(path: Path, max_pixels: int, bands: Sequence[int] | None = None) -> Picture:
    """Read the header of a PNG, JPEG, BMP, WebP, GIF or TIFF, and choose how its pixels are decoded.

    Palettes are applied, CMYK and YCbCr become RGB, white that is zero is turned round, and 1, 2 and 4 bits are
    stretched to 0..255, all as viewers show them. An orientation is applied neither here nor to masks.

    Args:
        path: the file.
        max_pixels: refuse larger images before decoding them.
        bands: those to read, the first being 1; of a TIFF as they are stored, with nothing applied.

    Raises:
        DataError: a missing, unreadable, truncated or too large file; several pictures in one file; or a kind of file
            that no decoder reads correctly.
    """
    with reading(path), regular(path).open("rb", buffering=0) as stream:
        start = stream.read(4)
        stream.seek(0)
        if is_tiff(start):
            return open_tiff(path, stream, max_pixels, bands)
        data = stream.read()
        picture = _open_plain(path, data, max_pixels)
        return picture if bands is None else _chosen(path, picture, data, bands)


def _open_plain(path: Path, data: bytes, max_pixels: int) -> Picture:
    """Open a file other than TIFF."""
    if (size := stated_size(data)) is not None:
        check_size(path, size, max_pixels)
    first = header(data)
    if first is not None:
        check_single(path, first.frames, "frames")
        if first.format == "JPEG" and (first.bits != 8 or first.channels not in (1, 3, 4)):
            held = f"is a JPEG of {first.channels} channels of {first.bits} bits"
            raise refused(path, held, "Write it as PNG or TIFF, in 16 bits where it has more than 8.")
        large = not opencv_holds(first.size)
        if large and first.bits > 8:
            raise refused(path, f"has {first.bits} bits and more pixels than OpenCV decodes", "Write it as TIFF.")
        if not large and (first.format == "PNG" or first.channels != 4):  # OpenCV's CMYK is another than Pillow's
            if not is_whole(data):
                with Image.open(io.BytesIO(data), formats=(first.format,)) as picture:
                    picture.load()  # where pixels are missing Pillow raises; OpenCV may return them grey
            channels = 2 if first.transparent is not None else first.channels
            return Picture(first.size, channels, False, functools.partial(opencv, data, first))
    with Image.open(io.BytesIO(data), formats=FORMATS) as picture:  # reads the header only
        check_size(path, picture.size, max_pixels)
        check_picture(path, picture, data)
        channels = len(mode_of(picture))  # a letter each
        return Picture(picture.size, channels, False, functools.partial(pillow, data))


def _chosen(path: Path, picture: Picture, data: bytes, bands: Sequence[int]) -> Picture:
    """Return a picture with some of its channels, the first being 1."""
    first = header(data)
    if data.startswith(b"GIF") or (first is not None and first.palette) or (data[:2] == b"BM" and bmp_bits(data) <= 8):
        raise refused(path, "has a palette, so its channels are no bands", "Leave data.bands out.")
    check_bands(path, bands, picture.channels)
    chosen = [band - 1 for band in bands]

    def read() -> np.ndarray:
        pixels = picture.read()
        return (pixels[..., None] if pixels.ndim == 2 else pixels)[..., chosen]

    return Picture(picture.size, len(chosen), True, read)


def check_picture(path: Path, picture: Image.Image, data: bytes) -> None:
    """Raise DataError for a picture that Pillow opened and that holds several, or that Pillow would misread.

    Of a JPEG with others appended (MPO), as cameras write them, the first is the picture and those are previews.
    """
    check_bmp(path, picture, data)
    if picture.format == "GIF":
        frames = gif_frames(data)
        check_single(path, len(frames), "frames")
        if not frames or frames[0] != (0, 0, *picture.size):
            raise refused(path, "has a frame smaller than itself", "Write it with a frame of its whole size.")
    elif picture.format != "MPO":
        check_single(path, getattr(picture, "n_frames", 1), "frames")


def check_bmp(path: Path, picture: Image.Image, data: bytes) -> None:
    """Raise DataError for a BMP whose palette makes Pillow assume a wrong number of bits per pixel."""
    if picture.format not in ("BMP", "DIB") or picture.mode not in ("1", "L"):
        return
    bits = bmp_bits(data)
    if bits != (1 if picture.mode == "1" else 8):
        held = (
            f"is a BMP of {bits} bits with a palette of {'black and white alone' if picture.mode == '1' else 'greys'}"
        )
        raise refused(path, held, "Write it as PNG.")
