import itertools
import tracemalloc

import numpy as np
import pytest

from segzoo.errors import SegzooError
from segzoo.inference.tiling import Tiling, blend_weights, logit_bands, logit_windows, tile_spans, tops_of_rows


def class_map(*arguments) -> np.ndarray:
    """Join the bands of `logit_bands`, which must follow each other, to a class map."""
    bands = []
    for top, band in logit_bands(*arguments):
        assert top == sum(map(len, bands))
        bands.append(band.argmax(axis=-1))
    return np.concatenate(bands)


@pytest.mark.parametrize("length", [1, 127, 128, 129, 160, 191, 300, 1000, 1024, 4097])
@pytest.mark.parametrize("overlap", [0, 32, 64])
def test_spans_cover_the_axis_are_aligned_and_overlap(length, overlap):
    spans = tile_spans(length, 128, overlap)

    assert spans[0][0] == 0 and spans[-1][1] == length
    assert all(start % 32 == 0 and 0 < stop - start <= 128 for start, stop in spans)
    shared = [before[1] - after[0] for before, after in itertools.pairwise(spans)]
    assert all(pixels >= overlap for pixels in shared)
    assert max(shared, default=0) - min(shared, default=0) < 64  # spread evenly, up to the multiples of 32
    assert all(before[0] < after[0] for before, after in itertools.pairwise(spans))


@pytest.mark.parametrize("length", [100, 129, 300, 1000])
@pytest.mark.parametrize("overlap", [0, 32, 64])
def test_weights_add_up_to_one_everywhere(length, overlap):
    spans = tile_spans(length, 128, overlap)
    total = np.zeros(length)
    for (start, stop), weight in zip(spans, blend_weights(spans, length, overlap), strict=True):
        total[start:stop] += weight

    np.testing.assert_allclose(total, 1.0, atol=1e-6)


def test_outermost_quarter_of_an_overlap_counts_nothing_but_image_borders_count():
    spans = tile_spans(224, 128, 32)
    first, last = blend_weights(spans, 224, 32)

    assert spans == [(0, 128), (96, 224)]
    assert (first[-8:] == 0).all() and (last[:8] == 0).all()
    assert first[0] == 1 and last[-1] == 1


def test_of_a_wide_overlap_no_more_than_of_a_narrow_one_is_blended():
    spans = tile_spans(512, 128, 64)
    assert [before[1] - after[0] for before, after in itertools.pairwise(spans)] == [64] * 6
    spans = tile_spans(480, 128, 32)
    assert spans == [(0, 128), (64, 192), (160, 288), (256, 384), (352, 480)]
    first, second, third = blend_weights(spans, 480, 32)[:3]
    np.testing.assert_array_equal(first[120 - 16 :], 0)  # 24 of the 64 pixels that it shares, where 8 of 32 would be
    np.testing.assert_array_equal(second[:24], 0)
    np.testing.assert_allclose(first[88:104] + second[24:40], 1)
    assert (first[:88] == 1).all() and (np.diff(second[24:40]) > 0).all()
    np.testing.assert_array_equal(third[:8], 0)
    assert third[8] > 0


@pytest.mark.parametrize("side", [43, 63, 86, 95, 225])
def test_tiles_of_a_network_of_one_size_leave_no_gap(side):
    image = np.random.default_rng(0).integers(0, 256, (side, 3000, 3), np.uint8)
    found = class_map(lambda part: part.astype(np.float32), image, 3, Tiling.of_size((side, side)))
    np.testing.assert_array_equal(found, image.argmax(axis=-1))


def test_logits_are_held_where_two_rows_of_tiles_count():
    height, width, outputs, tiling = 224, 20_000, 4, Tiling((128, 128), (64, 64))
    tile = np.zeros((1, 128, 128, outputs), np.float32)

    def logits(tiles: np.ndarray) -> np.ndarray:
        return tile[:, : tiles.shape[1], : tiles.shape[2]]

    def read(rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
        return np.zeros((rows[1] - rows[0], columns[1] - columns[0], 1), np.uint8)

    tracemalloc.start()
    try:
        for _ in logit_windows(logits, read, (height, width), outputs, tiling):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [before[1] - after[0] for before, after in itertools.pairwise(tile_spans(height, 128, 64))] == [96, 64]
    assert peak < 4 * outputs * (32 + 16) * width + 6 * tile.nbytes  # half of an overlap, and up to a multiple of 32


def test_by_default_tiles_of_windows_are_smaller():
    whole, windows = Tiling.choose("auto", None, 2048**2)
    assert (whole.size, whole.overlap, whole.above) == ((1024, 1024), (256, 256), 2048**2)
    assert (windows.size, windows.overlap) == ((512, 512), (128, 128))
    assert [tiling.size[0] for tiling in Tiling.choose("auto", 256, 0)] == [1024, 512]
    assert [tiling.size[0] for tiling in Tiling.choose("auto", 288, 0)] == [1024, 1024]
    assert [tiling.size[0] for tiling in Tiling.choose(768, None, 0)] == [768, 768]
    assert Tiling.choose(None, None, 0) == (None, None)
    with pytest.raises(SegzooError, match="overlap at most half"):
        Tiling.choose("auto", 544, 0)


def test_pointwise_logits_come_out_of_tiles_unchanged():
    image = np.random.default_rng(0).integers(0, 256, (301, 450, 3), np.uint8)

    found = class_map(lambda part: part.astype(np.float32), image, 3, Tiling.square(128, 32, 0))

    np.testing.assert_array_equal(found, image.argmax(axis=-1))


def test_each_pixel_of_a_tile_is_asked_for_in_place():
    height, width = 200, 333
    rows, columns = np.indices((height, width), dtype=np.float32)
    image = np.stack([rows, columns, np.zeros_like(rows)], axis=-1)
    seen = np.zeros((height, width), int)

    def logits(part: np.ndarray) -> np.ndarray:
        top, left = map(int, part[0, 0, 0, :2])
        seen[top : top + part.shape[1], left : left + part.shape[2]] += 1
        return np.stack([part[..., 0], part[..., 1]], axis=-1)

    found = class_map(logits, image, 2, Tiling.square(96, 32, 0))

    assert seen.min() == 1
    np.testing.assert_array_equal(found, columns > rows)


@pytest.mark.parametrize(("height", "width"), [(301, 450), (292, 97), (60, 70), (128, 300)])
@pytest.mark.parametrize("overlap", [0, 32, 64])
def test_windows_are_those_of_bands_to_the_bit_whatever_row_they_begin_with(height, width, overlap):
    rng = np.random.default_rng(0)
    image = rng.normal(size=(height, width, 2)).astype(np.float32)
    tiling = Tiling((128, 128), (overlap, overlap))

    def logits(tiles: np.ndarray) -> np.ndarray:  # other values at each place of a tile
        return tiles * np.linspace(0.1, 3, tiles.shape[1], dtype=np.float32)[:, None, None] + tiles[:, :1, ::-1]

    def read(rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
        return image[slice(*rows), slice(*columns)]

    expected = np.concatenate([band.copy() for _, band in logit_bands(logits, image, 2, tiling)])
    rows = tile_spans(height, 128, overlap)
    for first, (top, _) in enumerate(rows):
        found = np.full_like(expected, np.nan)
        for window in logit_windows(logits, read, (height, width), 2, tiling, 2, first):
            assert window.row >= first and window.rows[0] == tops_of_rows(height, tiling)[window.row]
            place = slice(*window.rows), slice(*window.columns)
            assert np.isnan(found[place]).all()
            found[place] = window.logits
        np.testing.assert_array_equal(found[top:], expected[top:])
        assert np.isnan(found[:top]).all()


def test_windows_blend_by_the_weights_of_the_tiles():
    image = np.random.default_rng(0).normal(size=(250, 330, 1)).astype(np.float32)
    rows, columns = tile_spans(250, 128, 64), tile_spans(330, 128, 64)
    weights = blend_weights(rows, 250, 64), blend_weights(columns, 330, 64)
    expected = np.zeros_like(image)
    numbers = {}
    for (row, (top, bottom)), (column, (left, right)) in itertools.product(enumerate(rows), enumerate(columns)):
        numbers[float(image[top, left, 0])] = len(numbers)
        expected[top:bottom, left:right, 0] += (
            numbers[float(image[top, left, 0])] * weights[0][row][:, None] * weights[1][column]
        )

    def logits(tiles: np.ndarray) -> np.ndarray:  # the number of each tile
        return np.stack([np.full(tile.shape, numbers[float(tile[0, 0, 0])], np.float32) for tile in tiles])

    found = np.concatenate([band.copy() for _, band in logit_bands(logits, image, 1, Tiling((128, 128), (64, 64)))])
    np.testing.assert_allclose(found, expected, atol=1e-4)
