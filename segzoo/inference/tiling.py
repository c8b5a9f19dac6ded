"""Tiled inference for images that are too large for one pass: overlapping tiles whose logits are blended."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from segzoo.errors import SegzooError

# Tiles start at multiples of the deepest stride, so that a strided network samples the same pixels as in one pass.
ALIGNMENT = 32
TILE = 1024  # height and width of tiles where nobody says


def tile_spans(length: int, tile: int, overlap: int) -> list[tuple[int, int]]:
    """Cut 0..length into spans (start, stop) of at most `tile`, with at least `overlap` in common, in pixels.

    Starts are multiples of 32; to keep them so, the last span may be up to 31 pixels shorter than the others.

    Args:
        length: pixels along one axis.
        tile: a multiple of 32.
        overlap: a multiple of 32, below `tile`.
    """
    if length <= tile:
        return [(0, length)]
    last = -(-(length - tile) // ALIGNMENT) * ALIGNMENT
    starts = [*range(0, last, tile - overlap), last]
    return [(start, min(start + tile, length)) for start in starts]


def blend_weights(spans: list[tuple[int, int]], length: int, overlap: int) -> list[np.ndarray]:
    """Return for each span the float32 weights of its pixels along the axis; at every pixel the weights sum to 1.

    Inside an overlap a weight rises linearly. The outermost quarter of the overlap counts nothing: there the
    network has seen padding where the image goes on. The image's own borders are not faded.
    """
    margin = overlap // 4
    weights = []
    for start, stop in spans:
        centres = np.arange(stop - start) + 0.5
        before = centres if start > 0 else np.inf
        after = centres[::-1] if stop < length else np.inf
        distance = np.minimum(before, after) * np.ones(stop - start)
        ramp = (distance - margin) / (overlap - 2 * margin) if overlap else distance + 1
        weights.append(np.clip(ramp, 0.0, 1.0))
    total = np.zeros(length)
    for (start, stop), weight in zip(spans, weights, strict=True):
        total[start:stop] += weight
    return [
        (weight / total[start:stop]).astype(np.float32) for (start, stop), weight in zip(spans, weights, strict=True)
    ]


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

    def applies(self, height: int, width: int) -> bool:
        """Return whether an image of this size is tiled."""
        return height * width > self.above and (height > self.size[0] or width > self.size[1])


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
    rows, columns = (tile_spans(*sides) for sides in zip((height, width), tiling.size, tiling.overlap, strict=True))
    row_weights = blend_weights(rows, height, tiling.overlap[0])
    column_weights = blend_weights(columns, width, tiling.overlap[1])
    band = np.zeros((min(tiling.size[0], height), width, outputs), np.float32)
    next_tops = [top for top, _ in rows[1:]] + [height]
    for (top, bottom), next_top, row_weight in zip(rows, next_tops, row_weights, strict=True):
        for group in _groups(columns, batch):
            tiles = np.stack([image[top:bottom, slice(*columns[number])] for number in group])
            for number, found in zip(group, logits(tiles), strict=True):
                weight = row_weight[:, None, None] * column_weights[number][None, :, None]
                band[: bottom - top, slice(*columns[number])] += found * weight
        done = next_top - top  # no later tile reaches these rows
        yield top, band[:done]
        kept = len(band) - done
        band[:kept] = band[done:].copy()
        band[kept:] = 0


def _groups(spans: list[tuple[int, int]], most: int) -> Iterator[list[int]]:
    """Group the numbers of neighbouring spans of one length, at most `most` together."""
    for _, numbers in itertools.groupby(range(len(spans)), lambda number: spans[number][1] - spans[number][0]):
        same = list(numbers)
        yield from (same[first : first + most] for first in range(0, len(same), most))
