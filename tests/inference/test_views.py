"""Test-time augmentation: views lie in the image's grid again, at odd sizes too, and their logits are averaged."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from segzoo.errors import SegzooError, UnknownNameError
from segzoo.inference.augmented import ViewsNetwork
from segzoo.inference.network import Network
from segzoo.inference.predictor import Predictor
from segzoo.inference.views import VIEWS, View, views_of

ODD = (37, 51)


class Toy(Network):
    """Network that applies a NumPy function from images to logits, and records the shapes of what it gets."""

    def __init__(self, function: Callable[[np.ndarray], np.ndarray], size: tuple[int, int] | None = None):
        self.function, self.size, self.seen = function, size, []
        self.channels, self.outputs, self.mode = 3, 3, "multiclass"

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Apply the function."""
        self.seen.append(images.shape)
        return self.function(np.asarray(images, np.float32))

    def __str__(self) -> str:
        """Return a name."""
        return "the toy"


def blurred(images: np.ndarray) -> np.ndarray:
    """Convolve with a kernel that turning and mirroring do not change, with zeros beyond the borders."""
    kernel = np.array([[1, 3, 1], [3, -5, 3], [1, 3, 1]], np.float32)[None, :, :, None]
    return np.tanh(ndimage.convolve(images / 255, kernel, mode="constant")).astype(np.float32)


def sideways(images: np.ndarray) -> np.ndarray:
    """Differ to the right: no view gives the same."""
    return np.asarray(ndimage.correlate1d(images, [0.0, 0, -1, 1, 2], axis=2, mode="constant"), np.float32)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (2, height, width, 3), np.uint8)


@pytest.mark.parametrize("names", ["mirror", "flips", "d4"])
@pytest.mark.parametrize("size", [ODD, (1, 7), (64, 33)])
def test_views_of_an_equivariant_network_change_nothing(names, size):
    images = noise(*size)
    found = ViewsNetwork(Toy(blurred), names).logits(images)
    np.testing.assert_allclose(found, blurred(images.astype(np.float32)), atol=1e-6)


@pytest.mark.parametrize("names", ["scales", "mirror+scales", "scales+d4"])
@pytest.mark.parametrize("size", [ODD, (64, 33), (101, 99)])
def test_scaled_views_of_a_ramp_lie_where_the_ramp_is(names, size):
    """A shift by a tenth of a pixel would be seen: the ramps rise by 1 and 2 a pixel."""
    rows, columns = np.indices(size, np.float32)
    images = np.stack([rows, 2 * columns, rows - columns], axis=-1)[None]
    found = ViewsNetwork(Toy(lambda pixels: pixels), names).logits(images)
    np.testing.assert_allclose(found[:, 2:-2, 2:-2], images[:, 2:-2, 2:-2], atol=1e-3)


def test_the_eight_views_of_a_square_differ_and_are_undone_pixel_by_pixel():
    image = np.arange(5 * 7 * 3, dtype=np.float32).reshape(1, 5, 7, 3)
    views = VIEWS["d4"]
    assert len({view.of(image).tobytes() + str(view.of(image).shape).encode() for view in views}) == 8
    for view in views:
        np.testing.assert_array_equal(view.undone(view.of(image), 5, 7), image)


def test_logits_are_the_mean_over_the_views():
    images = noise(*ODD).astype(np.float32)
    mirrored = sideways(images[:, :, ::-1])[:, :, ::-1]
    upside = sideways(images[:, ::-1])[:, ::-1]
    half = sideways(images[:, ::-1, ::-1])[:, ::-1, ::-1]
    straight = sideways(images)
    assert np.abs(straight - mirrored).max() > 50
    np.testing.assert_allclose(ViewsNetwork(Toy(sideways), "mirror").logits(images), (straight + mirrored) / 2)
    np.testing.assert_allclose(
        ViewsNetwork(Toy(sideways), "flips").logits(images), (straight + mirrored + upside + half) / 4, atol=1e-4
    )


def test_networks_see_the_sizes_of_the_views():
    toy = Toy(blurred)
    ViewsNetwork(toy, "scales").logits(noise(*ODD))
    assert toy.seen == [(2, 37, 51, 3), (2, 28, 38, 3), (2, 46, 64, 3)]


def test_kinds_are_combined_each_view_with_each():
    assert views_of("mirror+scales") == (
        View(), View(scale=0.75), View(scale=1.25), View(True), View(True, 0, 0.75), View(True, 0, 1.25),
    )  # fmt: skip
    assert set(views_of("scales+d4")) == set(views_of("d4+scales")) and len(views_of("d4+scales")) == 24


def test_tiles_are_viewed_one_by_one():
    image = noise(150, 203)[0]
    whole = Predictor(Toy(sideways), tile=None, tta="d4").probabilities(image)
    tiled = Predictor(Toy(sideways), tile=96, overlap=32, tile_above=0, tta="d4")
    assert tiled._tiles(150, 203)
    np.testing.assert_allclose(tiled.probabilities(image), whole, atol=1e-4)


def test_views_that_cannot_be_are_refused():
    with pytest.raises(UnknownNameError, match=r"'flip'.*flips"):
        views_of("flip")
    with pytest.raises(SegzooError, match="only scales can be joined to another kind"):
        views_of("mirror+d4")
    for names, size in (("scales", (64, 64)), ("d4", (64, 96))):
        with pytest.raises(SegzooError, match=f"the toy takes images of 64x{size[1]} pixels alone"):
            ViewsNetwork(Toy(blurred, size), names)
    assert len(ViewsNetwork(Toy(blurred, (64, 64)), "d4").views) == 8
