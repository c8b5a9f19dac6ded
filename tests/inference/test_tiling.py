import itertools

import numpy as np
import pytest

from segzoo.inference.tiling import Tiling, blend_weights, logit_bands, tile_spans


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
