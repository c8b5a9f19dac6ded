"""Evaluation of splits whose images differ in size: results in the source's order, each image computed once."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from segzoo.data import EvalBatches, Sample
from segzoo.engine.evaluation import evaluate
from segzoo.engine.forward import Filler, Forward
from segzoo.losses import CrossEntropy
from segzoo.task import Task

TASK = Task(("dark", "bright"))
SIZES = [(32, 40), (33, 40), (32, 40), (40, 64), (32, 40), (33, 40)]


class Pictures:
    """A source of noise in several sizes, with a mask that is right for about half of the pixels."""

    ids, classes, ignore_index = [f"p{n}" for n in range(len(SIZES))], list(TASK.classes), 255

    def __len__(self) -> int:
        return len(SIZES)

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng(index)
        image = rng.integers(0, 256, (*SIZES[index], 3), dtype=np.uint8)
        mask = np.where(rng.random(SIZES[index]) < 0.5, image[..., 0] > 127, index % 2).astype(np.uint8)
        return Sample(image, mask, self.ids[index])

    def fingerprint(self) -> str:
        return "noise"


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """One convolution from pixels to two logits."""
    images = keras.Input((None, None, 3))
    scaled = keras.layers.Rescaling(1 / 64, -2)(images)
    return keras.Model(images, keras.layers.Conv2D(2, 3, padding="same", activation="elu")(scaled))


class Counting:
    """A network that notes how many images it was given, and the shapes of the batches."""

    def __init__(self, network: keras.Model):
        self.forward, self.shapes = Forward(network), []

    def predict_on_batch(self, images: np.ndarray) -> object:
        self.shapes.append(images.shape)
        return self.forward.predict_on_batch(images)


def test_mixed_sizes_give_the_results_of_single_images_in_their_order(network):
    source = Pictures()
    counting, loss = Counting(network), CrossEntropy(ignore_index=255)
    batches = EvalBatches(source, 4)
    found = evaluate(counting, batches, TASK, loss=loss, keep=frozenset({"p4", "p1"}), worst=2, order=batches.ids)
    assert [counts.name for counts in found.images] == source.ids
    assert [title for *_, title in found.pictures] == ["p1", "p4"]
    assert sum(shape[0] for shape in counting.shapes) == len(source) and len(counting.shapes) == 3

    single = [evaluate(Forward(network), [_one(source, n)], TASK, loss=loss) for n in range(len(source))]
    for counts, alone in zip(found.images, single, strict=True):
        np.testing.assert_array_equal(counts.hits, alone.images[0].hits)
        np.testing.assert_array_equal(counts.predicted, alone.images[0].predicted)
    np.testing.assert_array_equal(found.confusion.counts, sum(alone.confusion.counts for alone in single))
    assert found.loss == pytest.approx(np.mean([alone.loss for alone in single]), rel=1e-5)
    scores = sorted((alone.images[0].mean_iou(), name) for alone, name in zip(single, source.ids, strict=True))
    assert [title.partition(":")[0] for *_, title in found.worst] == [name for _, name in scores[:2]]


def _one(source: Pictures, index: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    sample = source[index]
    return sample.image[None], sample.mask[None], [sample.id]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="traces are TensorFlow's")
def test_one_trace_serves_all_sizes_and_sees_new_weights(network):
    traces = 0
    inner = network.call

    def counted(*args, **kwargs):
        nonlocal traces
        traces += 1
        return inner(*args, **kwargs)

    forward = Forward(network)
    network.call = counted
    try:
        results = [np.asarray(forward.predict_on_batch(np.full((n, 30 + n, 50, 3), 90, np.uint8))) for n in (1, 3, 2)]
    finally:
        del network.call
    assert traces == 1 and [result.shape for result in results] == [(n, 30 + n, 50, 2) for n in (1, 3, 2)]
    network.layers[-1].bias.assign([5.0, -5.0])
    moved = np.asarray(forward.predict_on_batch(np.full((1, 31, 50, 3), 90, np.uint8)))
    assert (moved[..., 0] > results[0][..., 0]).all()
    floats = np.asarray(forward.predict_on_batch(np.full((1, 31, 50, 3), 90, np.float32)))
    np.testing.assert_array_equal(floats, moved)


def test_batches_for_jax_are_filled_up_to_the_largest_of_their_size():
    filler = Filler()
    images = {n: np.arange(n, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 5, 3), np.uint8) for n in (1, 2, 3)}
    assert filler.fill(images[2]) is images[2]
    assert filler.fill(images[1]).shape[0] == 2 and filler.fill(images[3]).shape[0] == 3
    np.testing.assert_array_equal(filler.fill(images[2])[:, 0, 0, 0], [0, 1, 1])
    assert len(filler.fill(np.ones((1, 6, 5, 3), np.uint8))) == 1
