"""Runs whose batches are mixed, and whose losses make targets of their own: trained, resumed, rehearsed, drawn."""

from __future__ import annotations

import csv
import functools
from contextlib import closing
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
from keras import ops

from segzoo.data import BATCH_TRANSFORMS, BatchTransform, check_splits
from segzoo.engine import builders, train
from segzoo.engine.fit_dataset import FitDataset
from segzoo.engine.preview import preview
from segzoo.errors import DataError
from segzoo.losses import LOSSES, PixelLoss
from segzoo.losses.replicas import ratio_of_sums
from segzoo.models.build import LOGITS, PRESENCE

SETTINGS = (
    "data.train_count=12", "data.batch_size=4", "data.workers=2", "training.epochs=2", "training.save_every=0",
    "data.batch_transforms=[copy_paste: {objects: [disc, ring]}, cutmix, mixup: {alpha: 0.4}]",
)  # fmt: skip


class Weighted(PixelLoss):
    """Squared error with a weight for each pixel that the loss makes of the mask: 3 in the class 1, else 1."""

    def extra_channels(self, classes):
        return 1

    def make_target(self, mask, classes):
        return np.stack([mask, np.where(mask == 1, 3, 1)], axis=-1).astype("float32")

    def value(self, target, logits):
        weights = target.place_weights(logits) * target.extra
        errors = ops.square(self.probabilities(logits) - target.shares(logits))
        return ratio_of_sums(errors * weights, ops.broadcast_to(weights, ops.shape(errors)))


class Failing(BatchTransform):
    """Raises in the batch of `fails_at`, (seed, epoch, step of the epoch, place in the chain), and lets others pass."""

    fails_at: tuple[int, int, int, int] | None = None

    def __call__(self, images, masks, rng):
        if self.fails_at is not None:
            *seed, place = self.fails_at
            if np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(place,))).random() == rng.random():
                raise RuntimeError("power cut")
        return images, masks


@pytest.fixture
def registered():
    """A loss `weighted` and a batch transform `failing` of the user's."""
    LOSSES.register("weighted", Weighted)
    BATCH_TRANSFORMS.register("failing", Failing)
    Failing.fails_at = None
    yield
    Failing.fails_at = None
    LOSSES.unregister("weighted")
    BATCH_TRANSFORMS.unregister("failing")


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_a_run_that_broke_off_ends_with_the_weights_of_one_that_did_not(config, console, quick, registered):
    config = functools.partial(config, "data.train_count=8")
    chain = "data.batch_transforms=[copy_paste: {objects: [disc]}, cutmix, failing, mixup]"
    whole = train(config("name=whole", chain), console=console)
    Failing.fails_at = (0, 1, 1, 2)
    with pytest.raises(DataError, match=r"failing failed on images \(4, 32, 32, 3\) .*RuntimeError: power cut"):
        train(config("name=broken", chain, "data.workers=0"), console=console)
    Failing.fails_at = None
    resumed = train(config("name=broken", chain, "data.workers=1"), resume=True, console=console)
    for left, right in zip(whole.model.get_weights(), resumed.model.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
    assert [row["loss"] for row in whole.history] == [row["loss"] for row in resumed.history]


def test_a_graph_trains_on_mixed_batches_with_weights_of_classes(config, console, small_network, light):
    loss = "loss={cross_entropy: {class_weights: balanced}, dice: 1.0}"
    result = train(config(loss, "training.epochs=1"), console=console)
    row = rows(result.folder)[0]
    assert np.isfinite([float(row[key]) for key in ("loss", "val_loss")]).all()


def test_a_users_loss_makes_its_target_for_training_and_evaluation(config, console, quick, registered):
    overrides = ("loss={weighted: 1.0, boundary: 0.1}", "data.batch_transforms=[]", "training.epochs=1")
    settings = config(*overrides)
    result = train(settings, console=console)
    batches = builders.eval_batches(settings, builders.build_source(settings, "val"))
    (images, masks, _), *_ = batches
    p = ops.convert_to_numpy(ops.softmax(result.model.predict_on_batch(images), axis=-1))
    truth = (masks[..., None] == np.arange(p.shape[-1])).astype(float)
    weights = ((masks != 255) * np.where(masks == 1, 3, 1))[..., None] * np.ones_like(p)
    own = (np.square(p - truth) * weights).sum() / weights.sum()
    loss = builders.build_loss(settings)
    target = np.stack([loss.make_target(mask, p.shape[-1]) for mask in masks])
    valid = (masks != 255)[..., None] * np.ones_like(p)
    outlines = (target[..., 2:-1] * p * valid).sum() / valid.sum()
    assert float(rows(result.folder)[0]["val_loss"]) == pytest.approx(own + 0.1 * outlines, rel=1e-3)


def two_headed(classes: int) -> keras.Model:
    """A network with the outputs of a classification head and of an auxiliary one."""
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(classes, 1, name="conv")(keras.layers.Rescaling(1 / 255)(inputs))
    outputs = {LOGITS: x, "auxiliary_P2": x, PRESENCE: keras.layers.GlobalAveragePooling2D()(x)}
    return keras.Model(inputs, outputs)


@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=pytest.mark.xla)], ids=["eager", "xla"])
@pytest.mark.parametrize(
    "overrides",
    [(), ("data.batch_transforms=[cutmix]", "loss={dice: 1.0, boundary: 0.1}")],
    ids=["shares", "distances"],
)
def test_every_output_gets_the_target_of_its_loss(config, overrides, jit):
    if keras.backend.backend() != "tensorflow" and jit:
        pytest.skip("about TensorFlow's jit_compile")
    settings = config("model.classification=0.5", "model.auxiliary={P2: 0.25}", *overrides)
    classes = settings.task.channels
    batches = builders.train_batches(settings, builders.build_source(settings, "train"))
    loss = builders.build_loss(settings)
    keras.utils.set_random_seed(0)
    network = two_headed(classes)
    found, scales = builders.losses_of_outputs(settings, network, loss)
    network.compile(keras.optimizers.SGD(0.0), found, loss_weights=scales, jit_compile=jit, run_eagerly=not jit)
    with closing(FitDataset(batches.batches, list(network.output))) as feed:
        history = network.fit(feed.from_step(0), steps_per_epoch=1, verbose=0, shuffle=False).history
    samples = batches.samples(0)
    images = np.stack([sample.image for sample in samples])
    outputs = network(images.astype("float32"))
    targets = np.stack([loss.make_target(sample.mask, classes) for sample in samples])
    if not overrides:
        assert targets.shape[-1] == classes and targets.dtype == np.float32
    # Of labels whether a class is there; of shares the largest.
    held = [
        [sample.mask[..., c].max() if sample.mask.ndim == 3 else (sample.mask == c).any() for c in range(classes)]
        for sample in samples
    ]
    costs = keras.losses.binary_crossentropy(np.array(held, "float32"), outputs[PRESENCE], from_logits=True)
    own, presence = (float(ops.convert_to_numpy(value)) for value in (loss(targets, outputs[LOGITS]), ops.mean(costs)))
    expected = 1.25 * own + 0.5 * presence
    assert history["loss"][0] == pytest.approx(expected, rel=1e-4)


def test_a_rehearsal_finds_what_training_would_stop_at(config, registered):
    settings = config("data.batch_transforms=[cutmix, failing]", "loss={weighted: 1.0}", "data.workers=0")
    sources = {split: builders.build_source(settings, split) for split in ("train", "val")}
    check = functools.partial(check_splits, sources, workers=1, thumbnails=0)
    assert check(rehearsals=builders.rehearsals(settings, sources)).ok
    Failing.fails_at = (0, 0, 0, 1)
    problems = [p for p in check(rehearsals=builders.rehearsals(settings, sources)).problems if p.severity == "error"]
    assert {problem.kind for problem in problems} == {"augmentation"} and len(problems) == 12
    assert "failing failed on images (2, 32, 32, 3) uint8" in problems[0].message
    Failing.fails_at = None

    class Unable(Weighted):
        def make_target(self, mask, classes):
            raise KeyError("outline")

    LOSSES.register("weighted", Unable, replace=True)
    problems = [p for p in check(rehearsals=builders.rehearsals(settings, sources)).problems if p.severity == "error"]
    assert {problem.split for problem in problems} == {"train", "val"} and len(problems) == 14
    assert {problem.kind for problem in problems} == {"target"}
    assert (
        "the loss weighted cannot make its target of a mask (32, 32) uint8: KeyError: 'outline'" in problems[0].message
    )
    with pytest.raises(DataError, match=r"sample \S+: the loss weighted cannot make its target"):
        next(builders.train_batches(settings, sources["train"]).batches())


def test_the_preview_shows_mixed_samples(config, tmp_path):
    def drawn(*overrides: str) -> np.ndarray:
        preview(config(*overrides), tmp_path / "sheet.png", count=2, variants=1)
        return cv2.imread(str(tmp_path / "sheet.png"))

    plain, mixed = drawn("data.batch_transforms=[]"), drawn("data.batch_transforms=[mixup: {alpha: 50}]")
    assert plain.shape == mixed.shape
    middle = plain.shape[1] // 2
    assert (plain[:, :middle] == mixed[:, :middle]).mean() > 0.99 > (plain[:, middle:] == mixed[:, middle:]).mean()
