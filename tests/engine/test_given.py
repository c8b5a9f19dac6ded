"""A model, data and a loss of one's own in a run, in place of what the configuration would build."""

from __future__ import annotations

import csv
import json
import os
import signal

import keras
import numpy as np
import pytest

import segzoo
from segzoo.data import create_source
from segzoo.decoders import SegmentationHead
from segzoo.engine import train
from segzoo.engine.batched import Batched
from segzoo.engine.checkpoint.run import load_run
from segzoo.errors import DataError, RunError, RunInterruptedError
from segzoo.export import read_metadata

SETTINGS = ("name=own", "data.train_count=6", "training.epochs=2", "loss={cross_entropy: 1.0}", "output.pictures=2")
CLASSES = 6

pytestmark = pytest.mark.usefixtures("quick")


def made(seed: int = 0, count: int = 3, size: tuple[int, int] = (32, 32)) -> list[tuple[np.ndarray, np.ndarray]]:
    """Batches of two images, 0..255, and masks."""
    rng = np.random.default_rng(seed)
    return [
        (rng.uniform(0, 255, (2, *size, 3)).astype("float32"), rng.integers(0, CLASSES, (2, *size)))
        for _ in range(count)
    ]


def small(classes: int = CLASSES, channels: int = 3) -> keras.Model:
    """A model of one's own: two convolutions."""
    keras.utils.set_random_seed(3)
    images = keras.Input((None, None, channels))
    x = keras.layers.Rescaling(1 / 255)(images)
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="conv")(x)
    x = keras.layers.BatchNormalization(name="norm")(x)
    return keras.Model(images, SegmentationHead(classes, name="head")(x, images), name="own_model")


class Passes:
    """Batches that can be read again, of a length that nobody says."""

    def __init__(self, batches):
        self.all = batches

    def __iter__(self):
        return iter(self.all)


class Shuffled(keras.utils.PyDataset):
    """Batches in another order in every epoch."""

    def __init__(self, batches):
        super().__init__()
        self.all, self.order, self.rng = batches, list(range(len(batches))), np.random.default_rng(5)

    def __len__(self):
        return len(self.all)

    def __getitem__(self, index):
        return self.all[self.order[index]]

    def on_epoch_end(self):
        self.rng.shuffle(self.order)


class Seen(keras.callbacks.Callback):
    """Asks for a stop after a step."""

    def __init__(self, stop_at):
        super().__init__()
        self.left = stop_at

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)


def data_of(kind: str, batches: list, images: str = "float32"):
    import tensorflow as tf

    if kind == "tf":
        types = (tf.TensorSpec((None, 32, 32, 3), images), tf.TensorSpec((None, 32, 32), "int64"))
        return tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=types)
    if kind == "tf repeated":
        return data_of("tf", batches).repeat()
    return {"list": list, "passes": Passes, "PyDataset": Shuffled, "generator": lambda all: (b for b in all * 9)}[kind](
        batches
    )


KINDS = ("generator", "tf", "PyDataset", "list", "passes", "tf repeated")


@pytest.mark.parametrize(
    ("kind", "start"), [("generator", 0), *((kind, start) for kind in KINDS[1:] for start in (0, 2, 4))]
)
def test_batches_of_each_kind_are_read_in_order_from_any_step(config, kind: str, start: int) -> None:
    masks = [mask for _, mask in made()]
    second = [masks[index] for index in second_pass(kind)]
    batches = Batched.of(data_of(kind, made()), config(), "train").batches(start)
    for expected in [*masks, *second][start:]:
        np.testing.assert_array_equal(next(batches)[1], expected)


def second_pass(kind: str) -> list[int]:
    """Return the order of the batches in the second pass."""
    order = list(range(3))
    if kind == "PyDataset":
        np.random.default_rng(5).shuffle(order)
    return order


def test_a_given_model_is_trained_and_saved(config, console, tmp_path) -> None:
    model = small()
    before = model.get_weights()
    result = train(config("training.ema=0.5", "training.epochs=1"), model=model, console=console)
    assert any(np.abs(a - b).max() > 0 for a, b in zip(model.get_weights(), before, strict=True))
    assert result.model.name == "own_model" and result.model is not model  # the averages' twin
    saved = keras.models.load_model(result.folder / "model.keras")
    assert read_metadata(result.folder / "model.keras").network is None  # no configuration builds it
    image = made()[0][0]
    np.testing.assert_allclose(saved.predict_on_batch(image), result.model.predict_on_batch(image), atol=1e-5)
    console.file.flush()
    assert "The given model own_model" in (tmp_path / "screen.txt").read_text()
    run = load_run(result.folder)
    assert run.given["model"].startswith("own_model, ")
    with pytest.raises(RunError, match=r"was given to segzoo\.train.* by model=\.\.\., or take .* --saved-model"):
        run.model()
    for network in ({"model": small()}, {"saved": True}):
        found = segzoo.evaluate(result.folder, report=False, **network)
        assert found.mean_iou == pytest.approx(result.confusion.mean_iou())


def test_a_given_model_equals_the_configured_one(config, quick, console) -> None:
    """The same network given and built gives the same weights."""
    settings = config("training.epochs=1")
    expected = train(settings, console=console)
    keras.utils.set_random_seed(settings.seed)
    result = train(config("training.epochs=1", "name=given"), model=quick(settings), console=console)
    assert result.history[0]["loss"] == pytest.approx(expected.history[0]["loss"], rel=1e-5)


def test_given_sources_are_augmented_and_batched(config, console) -> None:
    sources = {
        f"{split}_data": create_source("generated", split=split, count=count, size=(32, 32), seed=0)
        for split, count in (("train", 6), ("val", 2))
    }
    short = ("training.epochs=1", "output.pictures=0")
    expected = train(config(*short), model=small(), console=console)
    result = train(config("name=given", *short), model=small(), **sources, console=console)
    assert [row["loss"] for row in result.history] == [row["loss"] for row in expected.history]
    assert result.confusion.mean_iou() == expected.confusion.mean_iou()


class Spying:
    """A loss that keeps the masks of the steps, and not those of the evaluation."""

    def __init__(self):
        self.seen = []
        self.loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def __call__(self, masks, logits):
        if len(masks) == 2:  # evaluated is one image at a time
            self.seen.append(np.array(masks))
        return self.loss(masks, logits)


EVALUATED = [(image[None], mask[None]) for image, mask in zip(*made(seed=1, count=1)[0], strict=True)]


def trained_on(config, console, kind: str, spying: Spying, *settings: str, **given):
    """Train for two epochs of three steps on batches of a kind."""
    steps = () if kind in ("list", "PyDataset") else ("training.steps_per_epoch=3",)
    given = {"model": small(), "train_data": data_of(kind, made()), "val_data": EVALUATED, "loss": spying, **given}
    return train(config(*steps, *settings), console=console, **given)


@pytest.fixture(scope="module")
def undisturbed() -> dict[bool, object]:
    """Results of undisturbed runs, by whether the batches come in another order in every epoch."""
    return {}


def assert_in_order(kind: str, seen: list[np.ndarray]) -> None:
    """Assert that two epochs of steps saw all batches unchanged, in the order of their kind."""
    batches = made()
    expected = [batches[i][1] for i in [*range(3), *second_pass(kind)]]
    for ours, other in zip(seen, expected, strict=True):
        np.testing.assert_array_equal(ours, other)


@pytest.mark.parametrize("kind", [*KINDS[:3], *(pytest.param(kind, marks=pytest.mark.nightly) for kind in KINDS[3:])])
@pytest.mark.parametrize("stop_at", [2, pytest.param(4, marks=pytest.mark.nightly)])
def test_given_batches_are_trained_on_in_order_and_a_run_on_them_is_resumed(
    config, console, kind, stop_at, undisturbed
) -> None:
    """Batches of each kind reach the network unchanged, and a run that was stopped ends with the same bits."""
    if kind == "generator" or (kind == "PyDataset") not in undisturbed:
        whole = Spying()
        expected = trained_on(config, console, kind, whole, "name=whole")
        assert_in_order(kind, whole.seen)
        assert expected.confusion.counts.sum() == 2 * 32 * 32  # the evaluation covers all of the validation's
        with pytest.raises(RunError, match="was trained with val_data that was given"):
            segzoo.evaluate(expected.folder, saved=True, report=False)
        undisturbed[kind == "PyDataset"] = expected
    expected, spying = undisturbed[kind == "PyDataset"], Spying()
    with pytest.raises(RunInterruptedError):
        trained_on(config, console, kind, spying, callbacks=[Seen(stop_at)])
    if kind == "generator":
        with pytest.raises(RunError, match="can be read only once"):
            trained_on(config, console, kind, spying)
        return
    result = trained_on(config, console, kind, spying)
    assert_in_order(kind, spying.seen)
    for ours, other in zip(result.model.get_weights(), expected.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, other)
    assert [row["loss"] for row in result.history] == [row["loss"] for row in expected.history]


def test_a_given_run_is_not_resumed_with_something_else(config, console) -> None:
    steps = ["training.steps_per_epoch=3", "training.epochs=1"]
    with pytest.raises(RunInterruptedError):
        train(config(*steps), model=small(), train_data=made(), callbacks=[Seen(2)], console=console)
    for given in ({}, {"model": small()}, {"model": small(), "train_data": Passes(made())}):
        with pytest.raises(RunError, match=r"was started with something else: .*given\.train_data was"):
            train(config(*steps), console=console, **given)
    train(config(*steps), model=small(), train_data=made(), console=console)


def test_batches_of_another_size_at_the_end(config, console) -> None:
    """The last batch of a pass may be smaller: it is trained on and evaluated like the others."""
    batches = made()
    batches[-1] = tuple(part[:1] for part in batches[-1])
    short = config("training.epochs=1")
    result = train(short, model=small(), train_data=batches, val_data=batches, console=console)
    assert result.confusion.counts.sum() == 5 * 32 * 32
    with (result.folder / "metrics.csv").open() as stream:
        assert [row["step"] for row in csv.DictReader(stream)] == ["3"]
    assert json.loads((result.folder / "environment.json").read_text())["given"]["train_data"] == "builtins.list"


def test_masks_of_one_channel_and_soft_masks(config) -> None:
    images, masks = made(count=1)[0]
    batched = Batched.of([(images, masks[..., None].astype("uint8"))], config(), "train")
    found = next(batched.batches())[1]
    np.testing.assert_array_equal(found, masks)
    soft = np.eye(CLASSES, dtype="float64")[masks]
    found = next(Batched.of([(images, soft)], config(), "train").batches())[1]
    assert found.dtype == "float32" and found.shape == (2, 32, 32, CLASSES)
    with pytest.raises(DataError, match="an evaluation needs labels"):
        list(Batched.of([(images, soft)], config(), "val"))


IMAGES, MASKS = made(count=1)[0]
WRONG = {
    "three parts": ((IMAGES, MASKS, MASKS), r"batch 0: a batch is \(images, masks\), not 3 parts"),
    "no tuple": (IMAGES, "not ndarray"),
    "one image": ((IMAGES[0], MASKS[0]), r"images are \(32, 32, 3\); they should be \(B, H, W, 3\)"),
    "channels": ((IMAGES[..., :2], MASKS), r"images are \(2, 32, 32, 2\)"),
    "text": ((np.full((2, 32, 32, 3), "a"), MASKS), "images of <U1"),
    "not finite": ((np.where(IMAGES > 250, np.nan, IMAGES), MASKS), r"hold [\d,]+ values that are not finite"),
    "labels": ((IMAGES, MASKS + 1), r"[\d,]+ pixels of the masks hold 6, neither a class \(0 to 5\)"),
    "negative": ((IMAGES, MASKS - 1), "pixels of the masks hold -1"),
    "size": ((IMAGES, MASKS[:, :16]), r"masks are \(2, 16, 32\) of int64"),
    "float labels": ((IMAGES, MASKS.astype("float32")), "of float32; for these images they should be integers"),
    "shares": ((IMAGES, np.full((2, 32, 32, CLASSES), 2.0)), "shares of the classes"),
    "one-hot integers": ((IMAGES, np.eye(CLASSES, dtype="int32")[MASKS]), "they should be integers"),
}


@pytest.mark.parametrize("name", WRONG)
def test_batches_that_cannot_be_used_are_named(config, name) -> None:
    batch, message = WRONG[name]
    with pytest.raises(DataError, match=message):
        next(Batched.of([batch], config(), "train").batches())


def test_scaled_images_are_warned_of(config, console, tmp_path) -> None:
    batches = [(images / 255, masks) for images, masks in made(count=1)]
    train(config("training.epochs=1", "output.pictures=0"), model=small(), train_data=batches, console=console)
    console.file.flush()
    assert "train_data: the images of its first batch lie within 0 and 1" in " ".join(
        (tmp_path / "screen.txt").read_text().split()
    )


def test_what_cannot_be_given_is_refused_before_anything_is_made(config, console, tmp_path) -> None:
    flat = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(3)])
    strided = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(CLASSES, 3, strides=2)])
    wrong = [
        ({"model": small(2)}, r"returns \(None, None, None, 2\); it should return logits \(B, H, W, 6\)"),
        ({"model": small(channels=1)}, r"takes \(None, None, None, 1\), but the images .* model\.input_channels is 3"),
        ({"model": flat}, "it should return logits"),
        ({"model": strided}, "logits of height 15 for images of height 32"),
        ({"model": "unet"}, "takes a functional or sequential keras.Model .* not a str"),
        ({"loss": "dice"}, "loss= takes"),
        ({"callbacks": [print]}, "callbacks= takes"),
    ]
    for given, message in wrong:
        with pytest.raises(RunError, match=message):
            train(config(), console=console, **given)
    with pytest.raises(RunError, match=r"computes in float32; training\.precision is bfloat16"):
        train(config("training.precision=bfloat16"), model=small(), console=console)
    for data, message in [
        ({"train_data": 3}, "train_data takes"),
        ({"train_data": []}, "train_data has no batches"),
        ({"val_data": (b for b in made())}, "must have an end"),
        ({"val_data": create_source("generated", split="val", count=2, size=(32, 32), ignore_index=9)}, "ignore index"),
        ({"train_data": Passes(made())}, "set training.steps_per_epoch"),
    ]:
        with pytest.raises(DataError, match=message):
            train(config(), model=small(), console=console, **data)
    assert not (tmp_path / "runs" / "own" / "state.npz").exists()
