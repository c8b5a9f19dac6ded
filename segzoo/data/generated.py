"""Pictures drawn in code: a data set without files, for first runs, examples and tests."""

from __future__ import annotations

import hashlib
import math
import zlib

import cv2
import numpy as np

from segzoo.data.sources import Sample
from segzoo.errors import DataError

CLASSES = ("background", "disc", "ring", "triangle", "box", "cross")
_SUBPIXEL_BITS = 4  # cv2 draws polygons on a grid of 1/16 pixel


class GeneratedShapes:
    """Textured discs, rings, triangles, boxes and crosses on a textured ground.

    Every object and the ground mix a dark and a light colour of any hue in about equal parts, so the colour of a pixel
    says nothing about its class; what does is the outline and the texture (wide or fine stripes or checks, or grain,
    each belonging to one class). Objects vary in size, rotation and texture period, and overlap. A contour one pixel
    wide around each object carries the ignore index, as in Pascal VOC.

    A sample is a pure function of (seed, split, index, size).

    Args:
        split: any name; splits of different names share no sample.
        count: number of samples.
        size: (height, width) in pixels, each at least 32.
        seed: another seed is another data set.
        ignore_index: the label of the contours; not one of 0..5.

    Raises:
        DataError: an argument out of range.
    """

    def __init__(
        self, split: str, count: int, size: tuple[int, int] = (128, 128), seed: int = 0, ignore_index: int = 255
    ):
        if count < 1 or seed < 0 or min(size) < 32 or 0 <= ignore_index < len(CLASSES):
            raise DataError(
                f"generated data: count={count} must be at least 1, seed={seed} at least 0, both sides of size="
                f"{tuple(size)} at least 32, and ignore_index={ignore_index} none of the labels 0..{len(CLASSES) - 1}."
            )
        self.ids = [f"{split}_{index:05d}" for index in range(count)]
        self.classes = list(CLASSES)
        self.ignore_index = ignore_index
        self._split = split
        self._size = (int(size[0]), int(size[1]))
        self._seed = seed
        self._dtype = np.uint8 if 0 <= ignore_index <= 255 else np.int32

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Draw sample `index`: image (H, W, 3) uint8, mask (H, W) uint8 (int32 if the ignore index needs it)."""
        if not 0 <= index < len(self.ids):
            raise IndexError(f"sample {index} of {len(self.ids)}")
        rng = np.random.default_rng([self._seed, zlib.crc32(self._split.encode()), index])
        image, mask = _ground(self._size, rng), np.zeros(self._size, self._dtype)
        for label, centre, radius in _places(self._size, rng):
            _draw(image, mask, label, centre, radius, self.ignore_index, rng)
        return Sample(_expose(image, rng), mask, self.ids[index])

    def gives_float(self, places: object = None) -> bool:
        """Return False: all images are uint8."""
        return False

    def fingerprint(self) -> str:
        """Return a sha256 (hex) over the parameters."""
        parameters = ("generated-3", self._split, len(self), self._size, self._seed, self.ignore_index)
        return hashlib.sha256(repr(parameters).encode()).hexdigest()


def _places(size: tuple[int, int], rng: np.random.Generator) -> list[tuple[int, tuple[float, float], float]]:
    """Choose (label, centre, radius) of each object; centres keep apart, so overlaps leave most of each visible."""
    short = min(size)
    low, high = max(8.0, 0.14 * short), max(10.0, 0.24 * short)
    wanted = int(rng.integers(3, 7)) * max(1, round(size[0] * size[1] / short**2))
    places: list[tuple[int, tuple[float, float], float]] = []
    for _ in range(4 * wanted):
        radius = rng.uniform(low, high)
        y, x = rng.uniform(0.6 * radius, size[0] - 0.6 * radius), rng.uniform(0.6 * radius, size[1] - 0.6 * radius)
        if all(math.hypot(y - v, x - u) > 0.78 * (radius + r) for _, (v, u), r in places):
            places.append((int(rng.integers(1, len(CLASSES))), (y, x), radius))
        if len(places) == wanted:
            break
    return places


def _draw(
    image: np.ndarray,
    mask: np.ndarray,
    label: int,
    centre: tuple[float, float],
    radius: float,
    ignore_index: int,
    rng: np.random.Generator,
) -> None:
    """Draw one object and its contour, in place."""
    reach = math.ceil(radius) + 3
    top, left = max(0, int(centre[0]) - reach), max(0, int(centre[1]) - reach)
    window = (slice(top, int(centre[0]) + reach + 1), slice(left, int(centre[1]) + reach + 1))
    y, x = centre[0] - top, centre[1] - left
    outline = np.zeros(mask[window].shape, np.uint8)
    _fill_outline(outline, CLASSES[label], y, x, radius, rng.uniform(0, 2 * math.pi))
    inside = outline > 0
    pattern = _texture(CLASSES[label], outline.shape, y, x, rng)
    first, second = _two_colours(rng)
    image[window][inside] = np.where(pattern[inside, None], first, second)
    mask[window][cv2.dilate(outline, np.ones((3, 3), np.uint8)) > 0] = ignore_index
    mask[window][inside] = label


def _fill_outline(canvas: np.ndarray, name: str, y: float, x: float, radius: float, angle: float) -> None:
    """Fill the object's outline in `canvas` with 1; `radius` is the radius of its circumscribed circle."""
    if name in ("disc", "ring"):
        centre = (round(x * 16), round(y * 16))
        cv2.circle(canvas, centre, round(0.85 * radius * 16), 1, -1, shift=_SUBPIXEL_BITS)
        if name == "ring":
            cv2.circle(canvas, centre, round(0.38 * radius * 16), 0, -1, shift=_SUBPIXEL_BITS)
        return
    if name == "cross":
        arms = 0.36
        corners = [(1, arms), (arms, arms), (arms, 1)]
        corners += [(-b, a) for a, b in corners]
        points = np.array([*corners, *[(-a, -b) for a, b in corners]]) / math.hypot(1, arms)
    else:
        turns = np.arange(3 if name == "triangle" else 4) * (2 * math.pi / (3 if name == "triangle" else 4))
        points = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    corners_at = (points @ turn.T * radius + (x, y)) * 16
    cv2.fillPoly(canvas, [np.rint(corners_at).astype(np.int32)], 1, shift=_SUBPIXEL_BITS)


def _texture(name: str, shape: tuple[int, ...], y: float, x: float, rng: np.random.Generator) -> np.ndarray:
    """Return a boolean pattern of `shape`, about half True, that selects one of the object's two colours.

    Discs have wide stripes, rings fine circles, boxes wide checks, crosses fine checks, triangles grain.
    """
    if name == "triangle":
        grains = rng.random((shape[0] // 2 + 1, shape[1] // 2 + 1), dtype=np.float32) > 0.5
        return grains.repeat(2, axis=0).repeat(2, axis=1)[: shape[0], : shape[1]]
    # Coarse and fine lie an octave apart, so the two kinds of stripes and of checks are told apart when scaled too.
    wave = 2 * math.pi / (rng.uniform(4.0, 5.0) if name in ("ring", "cross") else rng.uniform(9.0, 11.0))
    phase = rng.uniform(0, 2 * math.pi)
    rows = np.arange(shape[0], dtype=np.float32)[:, None] - y
    columns = np.arange(shape[1], dtype=np.float32)[None, :] - x
    if name == "ring":
        return np.sin(wave * np.sqrt(rows * rows + columns * columns) + phase) > 0
    u = wave * (math.cos(phase) * columns + math.sin(phase) * rows)
    v = wave * (math.cos(phase) * rows - math.sin(phase) * columns)
    if name == "disc":
        return np.sin(u + phase) > 0
    return (np.sin(u) > 0) ^ (np.sin(v) > 0)  # box, cross


def _ground(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Return the ground, (H, W, 3) uint8: soft patches of two colours."""
    coarse = rng.standard_normal((max(3, size[0] // 18), max(3, size[1] // 18)), dtype=np.float32)
    field = cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
    first, second = _two_colours(rng)
    return np.where(field[..., None] > 0, first, second)


def _two_colours(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw a dark and a light colour of any hue, in random order; (3,) uint8 each."""
    dark, light = rng.integers(10, 120, 3), rng.integers(136, 246, 3)
    pair = (dark.astype(np.uint8), light.astype(np.uint8))
    return pair if rng.random() < 0.5 else pair[::-1]


def _expose(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Soften the edges as a lens does and add the noise of a sensor (standard deviation 5 of 0..255)."""
    soft = cv2.GaussianBlur(image, (3, 3), 0.6)
    noise = rng.integers(-9, 10, (image.shape[0], image.shape[1], 3), dtype=np.int16)
    return np.clip(soft + noise, 0, 255).astype(np.uint8)
