"""Pillow and OpenCV as decoders: pixels of files in memory, and the limits of both."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from segzoo.data.headers import Header

# Others are not even tried: Pillow runs Ghostscript on EPS, and reads 16 bits of JPEG 2000 as 8.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF")

# Pillow's modes, and those that they are converted to: grey or RGB, with or without alpha, as viewers show them.
_MODES = {
    "1": "L", "L": "L", "LA": "LA", "La": "LA", "P": "RGB", "PA": "RGBA", "RGB": "RGB", "RGBA": "RGBA", "CMYK": "RGB",
    "YCbCr": "RGB",
}  # fmt: skip

_WITH_ALPHA = {"L": "LA", "RGB": "RGBA"}

# OpenCV decodes no more, whatever is asked for (its CV_IO_MAX_IMAGE_PIXELS and CV_IO_MAX_IMAGE_WIDTH)
_OPENCV_PIXELS, _OPENCV_SIDE = 2**30, 2**20

STRETCHED = {1: 255, 2: 85, 4: 17}  # bits of a sample to the factor that makes them 0..255


class Picture(NamedTuple):
    """Image file with a parsed header and pixels that are not decoded yet.

    Attributes:
        size: width and height in pixels.
        channels: number of channels that `read` returns.
        bands: whether channels are bands, each with a meaning of its own, and not grey or colours and perhaps alpha.
        read: decodes, (H, W) or (H, W, channels), in the type of numbers that the file holds; raises anything.
    """

    size: tuple[int, int]
    channels: int
    bands: bool
    read: Callable[[], np.ndarray]


class _PillowsLimit:
    """Reference-counted removal of Pillow's pixel limit, which is global to the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers = 0
        self._limit: int | None = None

    @contextmanager
    def lifted(self) -> Iterator[None]:
        with self._lock:
            if not self._readers:
                self._limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._readers += 1
        try:
            yield
        finally:
            with self._lock:
                self._readers -= 1
                if not self._readers:
                    Image.MAX_IMAGE_PIXELS = self._limit


_pillows_limit = _PillowsLimit()


def unlimited() -> AbstractContextManager[None]:
    """Lift Pillow's limit of 89 million pixels (twice that is an error), so that `max_pixels` is the only one.

    What reads under it compares the size that the header states with `max_pixels` before it decodes.
    """
    return _pillows_limit.lifted()


def opencv_holds(size: tuple[int, int]) -> bool:
    """Return True if OpenCV accepts a picture of (width, height) `size`."""
    return size[0] * size[1] <= _OPENCV_PIXELS and max(size) <= _OPENCV_SIDE


def pillow(data: bytes) -> np.ndarray:
    """Decode a picture as viewers show it: (H, W), or (H, W, C) of grey and alpha, RGB or RGBA, uint8."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
        mode = mode_of(picture)
        picture.load()
        return np.asarray(picture if picture.mode == mode else picture.convert(mode))


def mode_of(picture: Image.Image) -> str:
    """Return the mode that a picture is converted to."""
    if picture.mode not in _MODES:
        raise ValueError(f"its pixels are of the kind {picture.mode}, which is not read")
    mode = _MODES[picture.mode]
    return _WITH_ALPHA.get(mode, mode) if picture.has_transparency_data else mode


def opencv(data: bytes, first: Header) -> np.ndarray:
    """Decode a PNG or JPEG: (H, W), or (H, W, C) with colours as RGB."""
    pixels = in_rgb(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))
    if pixels.shape[:2] != first.size[::-1]:
        raise ValueError("its data are damaged")
    if first.format == "PNG" and first.channels == 2:  # OpenCV repeats the grey
        return pixels[..., [0, 3]]
    if first.transparent is not None:
        most = np.iinfo(pixels.dtype).max
        key = first.transparent * STRETCHED.get(first.bits, 1)
        return np.stack([pixels, np.where(pixels == key, 0, most).astype(pixels.dtype)], axis=-1)
    return pixels


def in_rgb(pixels: np.ndarray | None) -> np.ndarray:
    """Return what OpenCV decoded with its colours as RGB or RGBA; ValueError for None, which means damaged data."""
    if pixels is None:
        raise ValueError("its data are damaged")
    if pixels.ndim == 3 and pixels.shape[2] in (3, 4):
        order = cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
        if pixels.dtype in (np.uint8, np.uint16, np.float32):
            return cv2.cvtColor(pixels, order)
        return pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    return pixels
