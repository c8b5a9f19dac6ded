"""Reader of image files: an image is decoded completely or refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from PIL import Image

from segzoo.data.arrays import array_type, check_finite, load_array
from segzoo.data.codecs import unlimited
from segzoo.data.decoding import open_image
from segzoo.data.refusals import reading
from segzoo.data.tiff import holds_wide_numbers
from segzoo.data.tiff_windows import TiffWindows
from segzoo.errors import DataError
from segzoo.files import regular

# The endings of images, lower case: what folders are searched for, in training, prediction and `init`.
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")
ARRAY_SUFFIXES = (".npy", ".npz")
IMAGE_SUFFIXES = (*PICTURE_SUFFIXES, *ARRAY_SUFFIXES)

Alpha = Literal["drop", "black", "white"]
ReadWindow = Callable[[tuple[int, int], tuple[int, int]], np.ndarray]
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


class ImageReader:
    """Reads images of any number of channels and bits: pictures, GeoTIFF with chosen bands, and .npy.

    Three channels of 8 bits without further wishes are read by `read_image`, which is the fastest.

    Args:
        channels: of the result. 1: grey, of colours their luma (ITU-R BT.601). 3: RGB; grey is repeated. 4: RGBA, or
            four bands. Any other number: bands, or the channels of an .npy.
        bands: bands of a GeoTIFF in the order wanted, the first being 1, read by rasterio; None: all.
        value_range: (low, high), which become 0 and 255 in float32, clipped: the range that networks take. None: 8
            bits stay as they are, 16 bits are cut to the upper 8, other numbers become float32 as they are.
        alpha: treatment of transparency if `channels` is not 4: "drop" shows the colours stored under it, "black"
            and "white" lay the image on such a ground.
        max_pixels: refuse larger images before decoding them.
        upright: turn images as their EXIF orientation says. `FolderSource` turns them itself, together with masks.

    Raises:
        DataError: the number of bands differs from that of the channels, or the range is empty.
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
        self.value_range = value_range
        self._alpha = alpha
        self._upright = upright

    @property
    def settings(self) -> str:
        """Options that decoded pixels depend on beside the file, as text."""
        return repr((self.channels, self._bands, self.value_range, self._alpha, self._upright))

    def __call__(self, path: Path) -> np.ndarray:
        """Read an image: (H, W, channels), uint8, or float32 if that is requested or stored.

        Raises:
            DataError: a missing, unreadable, truncated or too large file; several pictures; an unexpected number of
                channels; or values that are not finite.
        """
        image = self._scaled(self.stored(path), path)
        return turned(image, exif_orientation(path)) if self._upright else image

    def of_array(self, array: np.ndarray, path: Path) -> np.ndarray:
        """Convert pixels `(H, W)` or `(H, W, C)`, such as a frame of a video, as those of a picture.

        Args:
            array: grey, grey and alpha, RGB or RGBA.
            path: their file, for messages.

        Raises:
            DataError: an unexpected number of channels, or values that are not finite.
        """
        self._check_channels(array.shape[2] if array.ndim == 3 else 1, False, path)
        return self._scaled(self._arranged(array, path), path)

    def stored(self, path: Path) -> np.ndarray:
        """Read an image (H, W, channels) in the numbers that the file holds, before `value_range` or a cut to 8 bits.

        Raises:
            DataError: as when called.
        """
        if path.suffix.lower() in ARRAY_SUFFIXES:
            array = load_array(path, self.max_pixels, several="Write the image as the only array of its file.")
            if array.ndim == 3 and self._bands is not None:
                array = _chosen_channels(array, self._bands, path)
            self._check_channels(array.shape[2] if array.ndim == 3 else 1, False, path)
        else:
            picture = open_image(path, self.max_pixels, self._bands)
            self._check_channels(picture.channels, picture.bands, path)
            with reading(path):
                array = picture.read()
        return self._arranged(array, path)

    @contextmanager
    def windows(self, path: Path) -> Iterator[tuple[tuple[int, int], ReadWindow]]:
        """Open a TIFF of any size, which is read by windows; `max_pixels` does not count.

        Yields:
            height and width; and a function that reads a window `(h, w, channels)` as a call reads the image, of its
            rows and its columns, each as the first and the one after the last.

        Raises:
            MissingPackageError: rasterio is not installed.
            DataError: as when called; or a kind of file that is not read by windows, or one that would be turned.
        """
        if self._upright and exif_orientation(path) != 1:
            raise DataError(
                f"{path}: is to be turned as its orientation says, which reading by windows (of images over "
                "--max-pixels) does not. Write it without an orientation.",
                "unreadable",
            )
        with TiffWindows(path, self._bands) as windows:
            self._check_channels(windows.channels, windows.of_bands, path)

            def read(rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
                return self._scaled(self._arranged(windows.read(rows, columns), path), path)

            yield windows.size, read

    def gives_float(self, path: Path) -> bool:
        """Return whether an image comes as float32, and not as uint8; False too for a header that cannot be read.

        Pictures are told by their content, as reading tells them: a TIFF of floating-point numbers may be called .png.
        """
        if self.value_range is not None:
            return True
        try:
            if path.suffix.lower() in ARRAY_SUFFIXES:
                return array_type(path, self.max_pixels) not in (np.uint8, np.uint16)
            return holds_wide_numbers(regular(path))
        except (DataError, OSError):
            return False

    def _check_channels(self, given: int, bands: bool, path: Path) -> None:
        """Raise DataError unless `_arranged` can convert the given channels to the wanted ones."""
        if given == self.channels:
            return
        if self.channels not in ((1, 3) if given in (3, 4) else {1: (3,), 2: (1, 3, 4)}.get(given, ())):
            raise DataError(
                f"{path}: has {given} channels, where model.input_channels is {self.channels}. Change that, or choose "
                "among the bands of a GeoTIFF with data.bands."
            )
        if bands:
            raise DataError(
                f"{path}: has {given} bands that the file calls neither colours nor alpha, where model.input_channels "
                f"is {self.channels}. Name those to read by data.bands, such as {list(range(1, self.channels + 1))}."
            )

    def _arranged(self, array: np.ndarray, path: Path) -> np.ndarray:
        """Return (H, W, channels) of (H, W), (H, W, 3) RGB or (H, W, C)."""
        image = array[..., None] if array.ndim == 2 else array
        given = image.shape[2]
        if given == self.channels:
            return image
        if given == 2:  # grey and alpha
            image = np.concatenate([np.repeat(image[..., :1], 3, axis=2), image[..., 1:]], axis=2)
        if self.channels == 4:
            return image
        if image.shape[2] == 4:
            image = self._flat(image, path)
        if image.shape[2] == self.channels:
            return image
        if self.channels == 3:
            return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if image.dtype == np.uint8 else np.repeat(image, 3, axis=2)
        luma = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
        return (luma if image.dtype.kind == "f" else np.rint(luma).astype(image.dtype))[..., None]

    def _flat(self, image: np.ndarray, path: Path) -> np.ndarray:
        """Return the colours of an image with alpha as `alpha` says."""
        color = image[..., :3]
        if self._alpha == "drop":
            return color
        top = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1.0
        share = image[..., 3:].astype(np.float32) / top
        outside = int(((share < 0) | (share > 1)).sum())
        if outside:
            raise DataError(
                f"{path}: {outside} of {share.size} values of the fourth channel are outside of 0..1, so it is no "
                "alpha of such numbers. Set data.alpha: drop, or model.input_channels: 4."
            )
        mixed = color * share + (1 - share) * (top if self._alpha == "white" else 0)
        return mixed if image.dtype.kind == "f" else np.rint(mixed).astype(image.dtype)

    def _scaled(self, image: np.ndarray, path: Path) -> np.ndarray:
        """Return uint8, or float32."""
        if self.value_range is None:
            if image.dtype == np.uint8:
                return image
            if image.dtype == np.uint16:
                return (image >> 8).astype(np.uint8)
        with np.errstate(over="ignore"):  # what float32 does not hold becomes infinite, and is refused
            numbers = image.astype(np.float32)
        check_finite(numbers, path)
        if self.value_range is None:
            return numbers
        low, high = self.value_range
        return np.clip((numbers - low) * (255 / (high - low)), 0, 255)


def _chosen_channels(array: np.ndarray, bands: Sequence[int], path: Path) -> np.ndarray:
    """Return some channels of (H, W, C), the first being 1."""
    if max(bands) > array.shape[2] or min(bands) < 1:
        raise DataError(f"{path}: has the channels 1 to {array.shape[2]}, but data.bands is {list(bands)}.")
    return array[..., [band - 1 for band in bands]]


def turned(array: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation, 1 to 8, to an image or mask (H, W, ...)."""
    turn = _TURNS.get(orientation)
    return array if turn is None else np.ascontiguousarray(turn(array))


def exif_orientation(path: Path) -> int:
    """Return the EXIF orientation of an image file, 1 (as stored) to 8; 1 where there is none."""
    try:
        with unlimited(), Image.open(regular(path)) as picture:
            return int(picture.getexif().get(_EXIF_ORIENTATION, 1))
    except (OSError, SyntaxError, ValueError, TypeError):
        return 1
