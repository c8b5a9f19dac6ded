"""Masks of two values, 0 and 1 or 0 and 255: the thing and the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from segzoo.data.formats.contract import PICTURE_SUFFIXES, Labels, OneFile, check_threshold, two_values
from segzoo.data.formats.pictures import GREY_STRETCH, Picture, alpha_of, load_picture, read_plain_grey, stored_numbers
from segzoo.data.formats.table import MASK_FORMATS
from segzoo.errors import ConfigError, DataError

Channel = Literal["grey", "alpha"]
_CURE = (
    "Edges were smoothed, or the file went through JPEG. If it holds one thing and the rest, set masks.threshold: 128 "
    "(values from there up are the thing); if its values are class indices, use masks: index."
)


@MASK_FORMATS.register("binary")
class BinaryFormat(OneFile):
    """One picture (PNG, TIFF, BMP, GIF, WebP, JPEG) for each image: 0 is the first class, 1 or the white the second.

    Args:
        labels: two classes.
        threshold: values from it up are the second class; None: any value but 0 and 1, or 0 and 255, is an error that
            says how many pixels have it.
        invert: 0 is the second class instead.
        channel: where the mask is in a picture with transparency: "grey" for its grey values or equal colours, "alpha"
            for its alpha channel; None: the former, and an error where parts are transparent and the two differ.
    """

    suffixes = PICTURE_SUFFIXES

    def __init__(
        self, labels: Labels, threshold: int | None = None, invert: bool = False, channel: Channel | None = None
    ):
        super().__init__(labels)
        if len(labels.classes) != 2:
            raise ConfigError(f"masks: binary tells two classes apart, not {len(labels.classes)}; see masks: index.")
        check_threshold(threshold)
        check_channel(channel)
        if not isinstance(invert, bool):
            raise ConfigError(f"masks.invert must be true or false, got {invert!r}.")
        self._threshold = threshold
        self._invert = invert
        self._channel = channel

    def read(self, place: Path, image: Path, size: tuple[int, int]) -> np.ndarray:
        """Return labels 0 and 1 (H, W)."""
        mask = two_values(read_grey(place, self.labels.max_pixels, self._channel), place, self._threshold, _CURE)
        return (1 - mask if self._invert else mask).astype(self.labels.dtype)


def check_channel(channel: str | None) -> None:
    """Raise ConfigError unless a channel is None, "grey" or "alpha"."""
    if channel not in (None, "grey", "alpha"):
        raise ConfigError(f"masks.channel must be grey or alpha, got {channel!r}.")


def read_grey(path: Path, max_pixels: int, channel: Channel | None = None) -> np.ndarray:
    """Read a picture of one channel, or of three equal ones, or its alpha channel: (H, W) integers.

    Args:
        path: its file.
        max_pixels: refuse larger ones before decoding them.
        channel: as in `BinaryFormat`.

    Raises:
        DataError: an unreadable or truncated file, colours, fractions, transparency that might be the mask, or more
            than `max_pixels` pixels.
    """
    if channel != "alpha" and (plain := read_plain_grey(path, max_pixels)) is not None:
        return plain
    picture = load_picture(path, max_pixels)
    alpha = alpha_of(picture.image)
    if channel == "alpha":
        if alpha is None:
            raise DataError(f"{path}: has no alpha channel, which masks.channel: alpha reads. Write it with one.")
        return alpha
    if alpha is None or int(alpha.min(initial=255)) == 255:
        return _grey(picture, path)
    premultiplied = "a" in picture.packing.split(";")[0]  # the colours under transparency are lost
    if not premultiplied:
        if channel == "grey":
            return _grey(picture, path)
        if np.array_equal(_grey(picture, path), alpha):
            return alpha
    cure = "alpha" if premultiplied else "alpha where the alpha channel shows the thing, or grey where the colours do"
    raise DataError(
        f"{path}: {int((alpha < 255).sum())} of {alpha.size} pixels are transparent"
        f"{', which leaves nothing of their colours' if premultiplied else ''}, and the alpha channel and the colours "
        f"say different things. Set masks.channel: {cure}."
    )


def _grey(picture: Picture, path: Path) -> np.ndarray:
    """Return the grey values of a picture (H, W)."""
    image = picture.image
    if image.mode == "1":  # white is 255, so that a threshold means the same in pictures of 1 and of 8 bits
        return np.asarray(image).astype(np.uint8) * np.uint8(255)
    if picture.packing in GREY_STRETCH and picture.array().max() == 255:  # few bits, of which the largest is white
        return picture.array()
    if picture.is_grey and image.mode != "P":
        return stored_numbers(picture, path)
    if image.mode in ("P", "PA"):
        # Two-coloured palettes name black and white in either order; other palettes hold indices.
        image = image.convert("RGB")
    if image.mode not in ("LA", "La", "RGB", "RGBA", "RGBa"):
        raise DataError(f"{path}: a picture of mode {image.mode}, which has no grey values. Write it as grey PNG.")
    array = np.asarray(image)
    color = array[..., :3] if array.shape[2] >= 3 else array[..., :1]
    # JPEG keeps grey pictures of three channels grey to a level or two
    if np.ptp(color.astype(np.int16), axis=2).max(initial=0) > 4:
        raise DataError(f"{path}: the mask has colours, where one thing and the rest were expected; see masks: rgb.")
    return color[..., 0]
