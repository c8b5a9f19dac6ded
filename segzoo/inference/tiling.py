"""Tiled inference for images that are too large for one pass: overlapping tiles whose logits are blended."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from numbers import Integral
from typing import Literal, NamedTuple

import numpy as np

from segzoo.errors import SegzooError, wrong_type

# Tiles start at multiples of the deepest stride, so that a strided network samples the same pixels as in one pass.
ALIGNMENT = 32
TILE = 1024  # height and width of tiles where nobody says
# By windows: activations take a fourth of what they take in tiles of 1024, and half as many logits are held, so that
# memory stays below 600 MB beside a usual network at 30,000 pixels and 12 classes (docs/results.md).
WINDOW_TILE = 512


def tile_spans(length: int, tile: int, overlap: int) -> list[tuple[int, int]]:
    """Cut 0..length into spans (start, stop) of at most `tile`, with at least `overlap` in common, in pixels.

    Spans are spread evenly, so that none has much more in common with the next than the others: what overlaps of a
    wide image is held in memory. Starts are multiples of 32; to keep them so, the last span may be up to 31 pixels
    shorter than the others.

    Args:
        length: pixels along one axis.
        tile: pixels of a span, 32 or more.
        overlap: below `tile`.
    """
    if length <= tile:
        return [(0, length)]
    last = -(-(length - tile) // ALIGNMENT) * ALIGNMENT
    step = max(ALIGNMENT, (tile - overlap) // ALIGNMENT * ALIGNMENT)
    gaps = -(-last // step)
    starts = [number * last // gaps // ALIGNMENT * ALIGNMENT for number in range(gaps + 1)]
    return [(start, min(start + tile, length)) for start in starts]


def blend_weights(spans: list[tuple[int, int]], length: int, overlap: int) -> list[np.ndarray]:
    """Return for each span the float32 weights of its pixels along the axis; at every pixel the weights sum to 1.

    From one span to the next they change linearly, over half of `overlap` pixels in the middle of what the two share.
    The rest of it, at least a quarter of the overlap at either end, counts nothing: there the network has seen padding
    where the image goes on. The image's own borders are not faded.
    """
    middles = [(after + stop) / 2 for (_, stop), (after, _) in itertools.pairwise(spans)]
    half = max(overlap / 2, 1e-9)  # without an overlap, from one pixel to the next
    weights = []
    for (start, stop), before, after in zip(spans, [-np.inf, *middles], [*middles, np.inf], strict=True):
        centres = np.arange(start, stop) + 0.5
        weights.append(np.clip(np.minimum(centres - before, after - centres) / half + 0.5, 0.0, 1.0))
    total = np.zeros(length)
    for (start, stop), weight in zip(spans, weights, strict=True):
        total[start:stop] += weight
    return [
        (weight / total[start:stop]).astype(np.float32) for (start, stop), weight in zip(spans, weights, strict=True)
    ]


def _counted(span: tuple[int, int], weights: np.ndarray) -> tuple[int, int]:
    """Return the part (start, stop) of a span whose weights are not 0; it starts at a multiple of 32.

    Rasters that are written window by window are stored in blocks of multiples of 32.
    """
    above = np.flatnonzero(weights)
    return (span[0] + int(above[0])) // ALIGNMENT * ALIGNMENT, span[0] + int(above[-1]) + 1


def _check_pixels(name: str, pixels: object) -> None:
    """Raise SegzooError unless a size that a user gives is a whole number or None."""
    if isinstance(pixels, bool) or not isinstance(pixels, Integral | None):
        raise wrong_type(name, "a number of pixels", pixels)


@dataclass(frozen=True)
class Tiling:
    """Tiles of large images, and what counts as large.

    Attributes:
        size: height and width of a tile.
        overlap: pixels that neighbouring tiles share, downwards and sideways.
        above: images with at most this many pixels are not tiled, even if they are larger than a tile.
    """

    size: tuple[int, int]
    overlap: tuple[int, int]
    above: int = 0

    @classmethod
    def square(cls, tile: int, overlap: int | None, above: int) -> Tiling:
        """Check the sizes that a user gives; `overlap` is by default a quarter of `tile`.

        Raises:
            SegzooError: no multiples of 32, or an overlap above half of the tile.
        """
        _check_pixels("tile", tile)
        _check_pixels("overlap", overlap)
        shared = tile // (4 * ALIGNMENT) * ALIGNMENT if overlap is None else overlap
        if tile < ALIGNMENT or tile % ALIGNMENT or shared % ALIGNMENT or not 0 <= shared <= tile // 2:
            raise SegzooError(
                f"tile and overlap must be multiples of {ALIGNMENT}, and overlap at most half of tile; got tile {tile} "
                f"and overlap {shared}."
            )
        return cls((tile, tile), (shared, shared), above)

    @classmethod
    def of_size(cls, size: tuple[int, int]) -> Tiling:
        """Tile for a network that computes on one size alone: whatever is larger, with a quarter of it in common."""
        return cls(size, (size[0] // 4, size[1] // 4))

    @classmethod
    def choose(
        cls, tile: int | Literal["auto"] | None, overlap: int | None, above: int
    ) -> tuple[Tiling | None, Tiling | None]:
        """Return the tilings of images that memory holds, and of those read by windows; None: they are never tiled.

        Args:
            tile: height and width of all tiles; "auto": 1024, and by windows 512, or 1024 where `overlap` is above 256.
            overlap: pixels that neighbouring tiles share; by default a quarter of the tile.
            above: see the attributes.

        Raises:
            SegzooError: as `square`.
        """
        _check_pixels("overlap", overlap)
        if tile is None:
            return None, None
        if tile != "auto":
            return (cls.square(tile, overlap, above),) * 2
        by_windows = WINDOW_TILE if overlap is None or 2 * overlap <= WINDOW_TILE else TILE
        return cls.square(TILE, overlap, above), cls.square(by_windows, overlap, above)

    def applies(self, height: int, width: int) -> bool:
        """Return whether an image of this size is tiled."""
        return height * width > self.above and (height > self.size[0] or width > self.size[1])


def grid_of(size: tuple[int, int], tiling: Tiling) -> tuple[int, int]:
    """Return the numbers of rows and columns of tiles in an image of this height and width."""
    rows, columns = (len(tile_spans(*sides)) for sides in zip(size, tiling.size, tiling.overlap, strict=True))
    return rows, columns


def tops_of_rows(height: int, tiling: Tiling) -> list[int]:
    """Return the first row of pixels of the windows of each row of tiles, in an image of this height."""
    rows = tile_spans(height, tiling.size[0], tiling.overlap[0])
    weights = blend_weights(rows, height, tiling.overlap[0])
    return [_counted(*row)[0] for row in zip(rows, weights, strict=True)]


class Window(NamedTuple):
    """Part of an image whose blending is complete.

    Attributes:
        row: number of the row of tiles, the first being 0.
        rows: first row of pixels and the one after the last.
        columns: first column of pixels and the one after the last.
        logits: `(h, w, outputs)` float32.
    """

    row: int
    rows: tuple[int, int]
    columns: tuple[int, int]
    logits: np.ndarray


def logit_windows(
    logits: Callable[[np.ndarray], np.ndarray],
    read: Callable[[tuple[int, int], tuple[int, int]], np.ndarray],
    size: tuple[int, int],
    outputs: int,
    tiling: Tiling,
    batch: int = 1,
    first: int = 0,
) -> Iterator[Window]:
    """Iterate over the logits of an image from top to bottom, and from left to right: one window for each tile.

    Beside a row's tile or two, logits are held where two rows of tiles count, over half of their overlap and the pixels
    up to a multiple of 32 above: with 21 classes, tiles of 512 and images 30,000 pixels wide 200 MB.

    Args:
        logits: from `(B, h, w, C)` to `(B, h, w, outputs)`.
        read: returns a window `(h, w, C)` of the image, of its rows and its columns.
        size: height and width of the image.
        outputs: number of logits of a pixel.
        tiling: size and overlap of the tiles.
        batch: most tiles that are computed at once; all are of one row and one width.
        first: row of tiles to begin with. What earlier ones add to it is computed again, so that its windows are the
            same to the bit, wherever a prediction goes on.
    """
    height, width = size
    rows, columns = (tile_spans(*sides) for sides in zip(size, tiling.size, tiling.overlap, strict=True))
    row_weights = blend_weights(rows, height, tiling.overlap[0])
    column_weights = blend_weights(columns, width, tiling.overlap[1])
    counted = [_counted(*row) for row in zip(rows, row_weights, strict=True)]
    tops, bottoms = zip(*counted, strict=True)
    ends = [*tops[1:], height]  # no later tile counts in the rows above
    lefts = [start for start, _ in columns]
    carried = np.zeros((max(np.subtract(bottoms, ends)), width, outputs), np.float32)
    reaching = next(row for row, bottom in enumerate(bottoms) if bottom > tops[first])
    known = 0  # rows of `carried` in which the rows of tiles above count
    for row in range(reaching, len(rows)):
        top, bottom = counted[row]
        done = ends[row] - top
        inside = slice(top - rows[row][0], bottom - rows[row][0])  # of a tile
        weights = row_weights[row][inside, None, None]
        blended = np.zeros((bottom - top, 0, outputs), np.float32)  # from the left of the tile on
        for group in _groups(columns, batch):
            found = logits(np.stack([read(rows[row], columns[column]) for column in group]))
            for column, of_tile in zip(group, found, strict=True):
                left, right = columns[column]
                fresh = np.zeros((bottom - top, right - left - blended.shape[1], outputs), np.float32)
                fresh[:known] = carried[:known, left + blended.shape[1] : right]
                blended = np.concatenate([blended, fresh], axis=1)
                blended += of_tile[inside] * (weights * column_weights[column][None, :, None])
                end = (*lefts, width)[column + 1]
                carried[: bottom - ends[row], left:end] = blended[done:, : end - left]
                if row >= first:
                    yield Window(row, (top, ends[row]), (left, end), blended[:done, : end - left])
                blended = blended[:, end - left :]
        known = bottom - ends[row]


def logit_bands(
    logits: Callable[[np.ndarray], np.ndarray], image: np.ndarray, outputs: int, tiling: Tiling, batch: int = 1
) -> Iterator[tuple[int, np.ndarray]]:
    """Iterate over the logits of `image` `(H, W, C)` from top to bottom, one band of rows for each row of tiles.

    Logits are held for one row of tiles only, `tile x W x outputs` float32: with 21 classes, tiles of 1024 and
    images 8192 pixels wide 700 MB, where the logits of a square image would take 5.6 GB.

    Args:
        logits: from `(B, h, w, C)` to `(B, h, w, outputs)`.
        image: pixels.
        outputs: number of logits of a pixel.
        tiling: size and overlap of the tiles.
        batch: most tiles that are computed at once; all are of one row and one width.

    Yields:
        the first row of a band, and its logits `(h, W, outputs)` float32, which the next band overwrites.
    """
    height, width = image.shape[:2]
    band = np.empty((min(tiling.size[0], height), width, outputs), np.float32)

    def read(rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
        return image[slice(*rows), slice(*columns)]

    for window in logit_windows(logits, read, (height, width), outputs, tiling, batch):
        (top, bottom), (left, right) = window.rows, window.columns
        band[: bottom - top, left:right] = window.logits
        if right == width:
            yield top, band[: bottom - top]


def _groups(spans: list[tuple[int, int]], most: int) -> Iterator[list[int]]:
    """Group the numbers of neighbouring spans of one length, at most `most` together."""
    for _, numbers in itertools.groupby(range(len(spans)), lambda number: spans[number][1] - spans[number][0]):
        same = list(numbers)
        yield from (same[first : first + most] for first in range(0, len(same), most))
