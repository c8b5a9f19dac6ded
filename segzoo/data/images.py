"""Reading an image file completely or not at all."""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from segzoo.data.headers import header
from segzoo.data.masks import PNG_END, damage, too_many_pixels
from segzoo.errors import DataError
from segzoo.extras import install_command

Alpha = Literal["drop", "black", "white"]
_EXIF_ORIENTATION = 0x0112
# How the stored pixels (H, W, ...) become those to look at. EXIF 2.32, table 6, tag 274.
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(image, 2).swapaxes(0, 1),
    8: lambda image: np.rot90(image),
}
# The bytes that end a whole file. Entropy-coded JPEG data cannot contain its end marker, so a cut file has none.
_LAST_BYTES = {"JPEG": b"\xff\xd9", "PNG": PNG_END}


def read_image(path: Path, max_pixels: int) -> np.ndarray:
    """Read an image as RGB with the pixel grid of the file: EXIF orientation is applied neither here nor to masks.

    Transparency is dropped, grey is repeated over three channels, 16 bits are cut to the upper 8.

    OpenCV decodes (1.5 ms for a 480 x 360 JPEG, Pillow 2.0 ms), but some versions return a truncated JPEG half grey
    without a word. So the file's end marker is looked for, 1 microsecond, and where it is not at the very end (a cut
    file, or a camera that appends data) Pillow, which raises on missing data, gets to decide.

    Returns:
        (H, W, 3) uint8.

    Raises:
        DataError: the file is missing, unreadable or truncated, or has more than `max_pixels` pixels.
    """
    data = _whole(path, max_pixels)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise _unreadable(path, error) from error
    if image is None:
        raise _unreadable(path, "its data are damaged")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _whole(path: Path, max_pixels: int) -> bytes:
    """Return a picture's file; DataError where it is too large, no picture, or lacks its end."""
    data = None
    try:
        data = path.read_bytes()
        if (first := header(data)) is not None and data.endswith(_LAST_BYTES[first.format]):
            if first.size[0] * first.size[1] > max_pixels:
                raise too_many_pixels(path, first.size, max_pixels)
            return data
        with Image.open(io.BytesIO(data)) as picture:  # reads the header only
            if picture.width * picture.height > max_pixels:
                raise too_many_pixels(path, picture.size, max_pixels)
            ending = _LAST_BYTES.get(picture.format or "")
            if ending is None or not data.endswith(ending):
                picture.load()
    except DataError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error, damage(data, error)) from error
    return data


class ImageReader:
    """Reads images of any number of channels and bits: pictures, GeoTIFF with chosen bands, and .npy.

    Three channels of 8 bits without further wishes are read by `read_image`, which is the fastest.

    Args:
        channels: of the result. 1: grey, of colours their luma (ITU-R BT.601). 3: RGB; grey is repeated. 4: RGBA, or
            four bands. Any other number: bands, or the channels of an .npy.
        bands: bands of a GeoTIFF in the order wanted, the first being 1, read by rasterio; None: all.
        value_range: (low, high), which become 0 and 255 in float32, clipped: the range that networks take. None: 8
            bits stay as they are, 16 bits are cut to the upper 8, other numbers become float32 as they are.
        alpha: what becomes of transparency where `channels` is not 4: "drop" shows the colours stored under it, "black"
            and "white" lay the image on such a ground.
        max_pixels: refuse larger images before decoding them.
        upright: turn images as their EXIF orientation says. `FolderSource` turns them itself, together with masks.

    Raises:
        DataError: bands that are not one for each channel, or an empty range.
    """

    def __init__(
        self,
        channels: int = 3,
        bands: Sequence[int] | None = None,
        value_range: tuple[float, float] | None = None,
        alpha: Alpha = "drop",
        max_pixels: int = 64 * 2**20,
        upright: bool = False,
    ):
        if bands is not None and len(bands) != channels:
            raise DataError(f"{len(bands)} bands for images of {channels} channels: give one band for each channel.")
        if value_range is not None and not value_range[0] < value_range[1]:
            raise DataError(f"The range {list(value_range)} is empty: give [low, high] with low below high.")
        self.channels = channels
        self.max_pixels = max_pixels
        self._bands = None if bands is None else list(bands)
        self._range = value_range
        self._alpha = alpha
        self._upright = upright

    @property
    def settings(self) -> str:
        """What the pixels of an image depend on beside its file, as text."""
        return repr((self.channels, self._bands, self._range, self._alpha, self._upright))

    def __call__(self, path: Path) -> np.ndarray:
        """Read an image: (H, W, channels), uint8, or float32 where that is asked for or stored.

        Raises:
            DataError: missing, unreadable, truncated, too large, or of other channels than asked for.
        """
        image = self._read(path)
        return turned(image, exif_orientation(path)) if self._upright else image

    def _read(self, path: Path) -> np.ndarray:
        if path.suffix.lower() == ".npy":
            from segzoo.data.formats.array import load_array

            return self._scaled(self._arranged(load_array(path, self.max_pixels), path))
        if self._bands is not None or self.channels not in (1, 3, 4):
            return self._scaled(self._arranged(self._raster(path), path))
        if self.channels == 3 and self._range is None and self._alpha == "drop":
            return read_image(path, self.max_pixels)
        return self._scaled(self._arranged(_decoded(path, self.max_pixels), path))

    def _raster(self, path: Path) -> np.ndarray:
        """Read bands (H, W, bands) of a GeoTIFF."""
        try:
            rasterio = _rasterio()
        except ImportError as error:
            raise DataError(
                f"{path}: bands are read by rasterio, which is not installed: {install_command('geo')}."
            ) from error
        try:
            with rasterio.open(path) as raster:
                if raster.width * raster.height > self.max_pixels:
                    raise too_many_pixels(path, (raster.width, raster.height), self.max_pixels)
                wanted = self._bands or list(range(1, raster.count + 1))
                if max(wanted) > raster.count or min(wanted) < 1:
                    raise DataError(f"{path}: has the bands 1 to {raster.count}, but data.bands is {wanted}.")
                return np.ascontiguousarray(raster.read(wanted).transpose(1, 2, 0))
        except rasterio.errors.RasterioError as error:
            raise _unreadable(path, error) from error

    def _arranged(self, array: np.ndarray, path: Path) -> np.ndarray:
        """Return (H, W, channels) of (H, W), (H, W, 3) RGB or (H, W, C)."""
        image = array[..., None] if array.ndim == 2 else array
        given = image.shape[2]
        if given == self.channels:
            return image
        if given == 4 and self.channels in (1, 3):
            image = self._flat(image)
        elif given == 2 and self.channels in (1, 3):  # grey and alpha
            image = self._flat(np.concatenate([np.repeat(image[..., :1], 3, axis=2), image[..., 1:]], axis=2))
        if image.shape[2] == 1 and self.channels == 3:
            return np.repeat(image, 3, axis=2)
        if image.shape[2] == 3 and self.channels == 1:
            luma = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
            return (luma if image.dtype.kind == "f" else np.rint(luma).astype(image.dtype))[..., None]
        if image.shape[2] == self.channels:
            return image
        raise DataError(
            f"{path}: has {given} channels, where model.input_channels is {self.channels}. Change that, or choose "
            "among the bands of a GeoTIFF with data.bands."
        )

    def _flat(self, image: np.ndarray) -> np.ndarray:
        """Return the colours of an image with alpha as `alpha` says."""
        color = image[..., :3]
        if self._alpha == "drop":
            return color
        top = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1.0
        share = image[..., 3:].astype(np.float32) / top
        mixed = color * share + (1 - share) * (top if self._alpha == "white" else 0)
        return mixed if image.dtype.kind == "f" else np.rint(mixed).astype(image.dtype)

    def _scaled(self, image: np.ndarray) -> np.ndarray:
        """Return uint8, or float32."""
        if self._range is not None:
            low, high = self._range
            scaled = (image.astype(np.float32) - low) * (255 / (high - low))
            return np.clip(np.nan_to_num(scaled), 0, 255)
        if image.dtype == np.uint16:
            return (image >> 8).astype(np.uint8)
        return image if image.dtype == np.uint8 else image.astype(np.float32)


@functools.cache
def _rasterio() -> Any:
    """Import rasterio, without its remark that a picture has no place on Earth: filters are not for each thread."""
    import rasterio
    import rasterio.errors

    warnings.filterwarnings("ignore", category=rasterio.errors.NotGeoreferencedWarning)
    return rasterio


def _decoded(path: Path, max_pixels: int) -> np.ndarray:
    """Decode a picture whole, with the channels and bits of the file: (H, W), or (H, W, C) RGB(A)."""
    data = _whole(path, max_pixels)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise _unreadable(path, error) from error
    if image is None:
        raise _unreadable(path, "its data are damaged")
    if image.ndim == 3 and image.shape[2] in (3, 4):
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)
    return image


def turned(array: np.ndarray, orientation: int) -> np.ndarray:
    """Return an image or mask (H, W, ...) as viewers show it that obey the EXIF orientation, 1 to 8."""
    turn = _TURNS.get(orientation)
    return array if turn is None else np.ascontiguousarray(turn(array))


def exif_orientation(path: Path) -> int:
    """Return the EXIF orientation of an image file, 1 (as stored) to 8; 1 where there is none."""
    try:
        with Image.open(path) as picture:
            return int(picture.getexif().get(_EXIF_ORIENTATION, 1))
    except (OSError, SyntaxError, ValueError, TypeError):
        return 1


def _unreadable(path: Path, why: object, kind: str = "unreadable") -> DataError:
    if isinstance(why, UnidentifiedImageError):  # Pillow would name an object in memory
        why = "it is empty" if kind == "zero_byte" else "it is in no known picture format"
    return DataError(
        f"{path}: cannot be read as an image ({why}). The file is probably truncated or no image: "
        "copy it again, or remove it together with its mask.",
        kind,
    )
