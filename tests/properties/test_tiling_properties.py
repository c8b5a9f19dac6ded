"""Tiles cover an image, their weights sum to 1, and what they give is what one pass gives."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from segzoo.inference.tiling import Tiling, blend_weights, logit_bands, tile_spans

# Tile and overlap in units of 32 pixels; the overlap is smaller.
TILES = st.integers(2, 5).flatmap(
    lambda tile: st.tuples(st.just(32 * tile), st.integers(0, tile - 1).map((32).__mul__))
)
EXAMPLES = settings(max_examples=100, deadline=None, derandomize=True)  # the same ones every time


@EXAMPLES
@given(st.integers(1, 2000), TILES)
def test_spans_cover_the_length_with_weights_that_sum_to_one(length: int, sizes: tuple[int, int]) -> None:
    tile, overlap = sizes
    spans = tile_spans(length, tile, overlap)
    assert spans[0][0] == 0 and spans[-1][1] == length
    for (start, stop), (following, _) in itertools.pairwise(spans):
        assert start % 32 == following % 32 == 0 and start < following
        assert stop - following >= overlap and stop - start == tile
    assert all(0 < stop - start <= tile for start, stop in spans)
    total = np.zeros(length)
    for (start, stop), weight in zip(spans, blend_weights(spans, length, overlap), strict=True):
        assert weight.shape == (stop - start,) and (weight >= 0).all()
        total[start:stop] += weight
    np.testing.assert_allclose(total, 1, rtol=1e-6)


@EXAMPLES
@given(st.integers(1, 200), st.integers(1, 200), TILES, st.integers(0, 2**32 - 1))
def test_tiles_give_what_one_pass_gives(height: int, width: int, sizes: tuple[int, int], seed: int) -> None:
    """A 3x3 mean sees one pixel beyond its own, less than the quarter of an overlap that counts nothing."""
    tile, overlap = sizes
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 1)).astype(np.float32)

    def mean(pixels: np.ndarray) -> np.ndarray:
        side = 3 if overlap else 1
        found = ndimage.uniform_filter(pixels[..., 0].astype(np.float64), (0, side, side), mode="constant")
        return np.stack([found, np.full(found.shape, 120.0)], axis=-1)

    whole = mean(image[None])[0]
    close = np.abs(whole[..., 0] - whole[..., 1]) < 1e-3  # blending rounds
    tiled = np.concatenate(
        [band.argmax(-1) for _, band in logit_bands(mean, image, 2, Tiling((tile, tile), (overlap, overlap)))]
    )
    np.testing.assert_array_equal(tiled[~close], whole.argmax(-1)[~close])
