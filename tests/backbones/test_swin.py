"""Swin transformers: equal to keras-hub's at its size; else, windows padded and shifted as the authors' code does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest
from checks import check_network
from networks import NARROW

import segzoo
from segzoo import backbones
from segzoo.backbones import BACKBONES
from segzoo.backbones.families.hub import swin
from segzoo.backbones.spec import tap_table
from segzoo.errors import WeightsError
from segzoo.layers import WindowBlock

NAME, WIDTH, DEPTHS, HEADS = "small_swin", 8, (2, 2, 2, 2), 1


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Callable[..., keras.Model]:
    """Register a narrow network of the smallest variant's form."""
    network = partial(swin.build, NAME, WIDTH, DEPTHS, HEADS)
    table = tap_table(*(f"P{n + 2} {'norm' if n == 3 else f'stage{n}_block1'} {WIDTH * 2**n} stage" for n in range(4)))
    monkeypatch.setitem(swin.NETWORKS, NAME, network)
    constructor = f"segzoo.backbones.families.hub.swin:NETWORKS[{NAME}]"
    own = dataclasses.replace(BACKBONES["hub_swin_tiny"], name=NAME, constructor=constructor, tables={"output": table})
    monkeypatch.setitem(BACKBONES._entries, NAME, own)
    return network


@pytest.fixture(scope="module")
def packaged() -> keras.Model:
    """keras-hub's network of the same size for images of 224x224, with random weights."""
    hub = pytest.importorskip("keras_hub", reason="compares with keras-hub's network")
    heads = tuple(HEADS * 2**stage for stage in range(4))
    network = hub.models.SwinTransformerBackbone((224, 224, 3), WIDTH, DEPTHS, heads, 7)
    rng = np.random.default_rng(0)
    for weight in network.weights:
        if "seed" not in weight.path:
            spread = 1.0 if "table" in weight.path or len(weight.shape) < 2 else np.sqrt(np.prod(weight.shape[:-1]))
            weight.assign(rng.normal(1.0 if weight.name == "gamma" else 0.0, 0.5 / spread, weight.shape))
    return network


def test_features_are_keras_hubs(small, packaged, pixels) -> None:
    """Three stages of shifted windows, and a last one that a window covers."""
    ours = small(input_shape=(None, None, 3))
    swin.assign(ours, packaged)
    images = (pixels(224, 224) / 100 - 1).astype("float32")
    ends = [ours.get_layer(f"stage{stage}_block1").output for stage in range(3)]
    *found, last = keras.Model(ours.input, [*ends, ours.output])(images, training=False)
    expected = np.asarray(packaged(images, training=False))
    assert expected.std() > 0.1
    np.testing.assert_allclose(np.reshape(last, expected.shape), expected, atol=1e-4 * np.abs(expected).max())
    assert [tuple(one.shape[1:]) for one in found] == [(56, 56, 8), (28, 28, 16), (14, 14, 32)]


def attended(block: WindowBlock, x: np.ndarray) -> np.ndarray:
    """The block's attention in loops over pixels: which of the padded and shifted map share a window and a region."""
    size, heads = block.window, block.heads
    height, width, channels = x.shape
    tall, wide = (-(-side // size) * size for side in (height, width))
    shift = block.shift if min(height, width) > size else 0
    padded = np.zeros((tall, wide, channels))
    padded[:height, :width] = x
    kernel, bias = block.qkv.get_weights()
    query, key, value = np.split(padded @ kernel + bias, 3, axis=-1)
    table, part = np.asarray(block.bias), channels // heads
    result = np.zeros_like(padded)

    def place(row: int, column: int) -> tuple:
        """Window of a pixel, whether it came around each border, and its place in the window."""
        moved = ((row - shift) % tall, (column - shift) % wide)
        around = (row < shift, column < shift)
        return (moved[0] // size, moved[1] // size), around, (moved[0] % size, moved[1] % size)

    pixels = [(row, column) for row in range(tall) for column in range(wide)]
    for one in pixels:
        window, around, inside = place(*one)
        seen = [other for other in pixels if place(*other)[:2] == (window, around)]
        for head in range(heads):
            own = slice(head * part, (head + 1) * part)
            logits = []
            for other in seen:
                there = place(*other)[2]
                index = (inside[0] - there[0] + size - 1) * (2 * size - 1) + inside[1] - there[1] + size - 1
                logits.append(query[one][own] @ key[other][own] / np.sqrt(part) + table[index, head])
            weights = np.exp(np.array(logits) - max(logits))
            result[one][own] = weights / weights.sum() @ np.array([value[other][own] for other in seen])
    kernel, bias = block.project.get_weights()
    return (result @ kernel + bias)[:height, :width]


@pytest.mark.parametrize(("shift", "size"), [(0, (5, 7)), (1, (5, 7)), (1, (6, 9)), (1, (3, 8)), (1, (2, 2))])
def test_windows_are_padded_shifted_and_kept_apart(shift: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    block = WindowBlock(2, 3, shift)
    x = rng.normal(size=(1, *size, 4)).astype("float32")
    block(x)
    for weight in block.weights:
        weight.assign(rng.normal(0, 0.5, weight.shape))
    np.testing.assert_allclose(np.asarray(block._attend(x))[0], attended(block, x[0]), atol=1e-4)
    symbolic = keras.Input((None, None, 4))
    dynamic = keras.Model(symbolic, block(symbolic))
    dynamic.compile(jit_compile=False)
    np.testing.assert_allclose(dynamic.predict_on_batch(x), block(x), atol=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="gradients by tf.GradientTape")
def test_a_model_of_any_size(small, pixels, tmp_path: Path, loaded_elsewhere) -> None:
    keras.utils.set_random_seed(0)
    model = segzoo.build_model("upernet", NAME, 3, weights="none", drop_path=0.0, **NARROW["upernet"])
    check_network(model, tmp_path, pixels, loaded_elsewhere)


def test_features_round_up_and_depth_is_dropped_to_the_rate(small, pixels) -> None:
    model = backbones.create(NAME, weights="none", drop_path=0.7)
    for size in ((32, 32), (33, 47), (97, 131)):
        for level, feature in model(pixels(*size), training=False).items():
            assert feature.shape[1:3] == tuple(-(-side // 2 ** int(level[1])) for side in size)
    rates = [layer.drop_path for layer in model.layers if isinstance(layer, WindowBlock)]
    np.testing.assert_allclose(rates, np.arange(8) / 10, atol=1e-6)


def test_another_network_is_refused(small, packaged, monkeypatch) -> None:
    import keras_hub

    monkeypatch.setattr(keras_hub.models.SwinTransformerBackbone, "from_preset", lambda name: packaged)
    with pytest.raises(WeightsError, match=r"preset swin is not of hub_swin_small: it has 8 blocks, not 24"):
        swin.build("hub_swin_small", 8, (2, 2, 18, 2), 1, weights="swin")
    with pytest.raises(ValueError, match="3 heads do not divide 8 channels"):
        WindowBlock(3).build((None, 7, 7, 8))
