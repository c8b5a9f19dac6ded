"""A loss that is not finite is blamed on what made it so, with the samples' names."""

import keras
import numpy as np
import pytest

from segzoo import data
from segzoo.data import Sample
from segzoo.data.generated import GeneratedShapes
from segzoo.engine import builders, train
from segzoo.engine.diagnosis import explain
from segzoo.errors import DataError, RunError
from segzoo.task import Task

SETTINGS = ("data.batch_size=4",)


class Source:
    """Four samples of 8 x 8 float pixels, some of which are broken."""

    def __init__(self, **broken):
        self.ids = ["a", "b", "c", "d"]
        self.classes, self.ignore_index = list("uvwxyz"), 255
        self.broken = broken

    def __len__(self):
        return 4

    def __getitem__(self, index):
        image, mask = np.full((8, 8, 3), 100.0, np.float32), np.full((8, 8), index, np.uint8)
        if (broken := self.broken.get(self.ids[index])) is not None:
            broken(image, mask)
        return Sample(image, mask, self.ids[index])


def setting(value, place=...):
    def broken(image, mask):
        (mask if isinstance(value, int) else image)[place] = value

    return broken


def network(factor=1.0):
    inputs = keras.Input((None, None, 3))
    return keras.Model(inputs, keras.layers.Conv2D(6, 1)(keras.layers.BatchNormalization()(inputs)))


def said(config, source, loss=None, model=None):
    return explain(config, model or network(), loss or builders.build_loss(config), data.TrainBatches(source, 4), 0)


def test_images_that_hold_nan_or_what_no_network_takes_are_named(config):
    text = said(config(), Source(b=setting(np.nan, (0, slice(2))), d=setting(np.inf, (0, 0, 0))))
    assert "NaN or infinity" in text and "b (6 values)" in text and "d (1 value)." in text
    assert "check-data" in text and "learning_rate" not in text and "a (" not in text and "c (" not in text
    text = said(config(), Source(c=setting(3e30, (0, 0, 0))))
    assert "far beyond 0..255, which networks take: c (3e+30). Set data.value_range" in text


def test_in_a_mixed_batch_the_sample_that_is_odd_is_named(config):
    settings = config("data.batch_transforms=[mixup: {alpha: 50}]")
    source = Source(b=setting(np.nan, (0, slice(2))))
    chain = data.BatchTransforms.of(settings.data.batch_transforms, settings.task)
    batches = data.TrainBatches(source, 4, batch_transforms=chain)
    assert sum(np.isnan(sample.image).any() for sample in batches.samples(0)) == 2  # itself and its partner
    text = explain(settings, network(), builders.build_loss(settings), batches, 0)
    assert (
        "NaN or infinity: b (6 values)" in text and "check-data" in text and ", " not in text.split("values)")[0][-10:]
    )
    text = explain(
        settings,
        network(),
        builders.build_loss(settings),
        data.TrainBatches(
            Source(), 4, batch_transforms=data.BatchTransforms([Infinite(Task(source.classes))], ["infinite"])
        ),
        0,
    )
    assert "a (1 value)" in text and "look at the transforms of data.augment and data.batch_transforms" in text


class Infinite(data.BatchTransform):
    """Writes infinity into an image."""

    def __call__(self, images, masks, rng):
        images = images.copy()
        images[:, 0, 0, 0] = np.inf
        return images, masks


def test_labels_that_are_no_class_are_named(config):
    text = said(config(), Source(c=setting(77, 0)))
    assert "neither 0 to 5 nor the ignore index 255: c (77)" in text and "learning_rate" not in text


def test_masks_on_which_the_loss_itself_is_not_finite_are_named(config):
    def mean_over_labelled(target, logits):
        labelled = keras.ops.cast(target != 255, "float32")
        return keras.ops.sum(labelled * keras.ops.mean(logits, -1)) / keras.ops.sum(labelled)

    text = said(config(), Source(d=setting(255)), loss=mean_over_labelled)
    assert "not finite on the masks of d (all pixels are ignored), whatever the network says" in text
    assert "learning_rate" not in text
    # The losses of segzoo are finite there, so that such a mask is no cause.
    assert "in order (" in said(config(), Source(d=setting(255)))


def test_float16_is_blamed_where_float32_is_finite(config, monkeypatch):
    monkeypatch.setattr(builders, "build_network", lambda config, weights=None: network())
    text = said(config("training.precision=float16"), Source())
    assert "float16, which ends at 65504, overflows: in float32 the loss of the same batch is " in text
    assert "learning_rate" not in text
    exploded = network()
    exploded.set_weights([np.full_like(values, np.nan) for values in exploded.get_weights()])
    text = said(config("training.precision=float16"), Source(), model=exploded)
    assert "training.optimizer.learning_rate (0.001)" in text and "or use precision: float32" in text


def test_a_batch_in_order_leaves_the_learning_rate_and_single_images_batch_normalisation(config):
    text = said(config(), Source())
    assert "Its images and masks are in order (" in text and "learning rate is too high" in text
    assert "batch_size" not in text and "precision" not in text
    assert "data.batch_size is 1, so batch normalisation" in said(config("data.batch_size=1"), Source())


def test_a_batch_that_cannot_be_read_again_says_so(config):
    def gone(image, mask):
        raise DataError("a.png: gone.")

    assert said(config(), Source(a=gone)) == "The batch of that step cannot be looked at again: a.png: gone."


def test_a_run_names_the_sample_that_made_its_loss_nan(config, quick, console):
    class Broken(GeneratedShapes):
        def __getitem__(self, index):
            image, mask, name = super().__getitem__(index)
            image = image.astype("float32")
            if index == 2:
                image[3, 4] = np.nan
            return Sample(image, mask, name)

    settings = config()
    source = Broken("train", settings.data.train_count, settings.data.size)
    with pytest.raises(
        RunError, match=r"nan at step 1 \(epoch 1\).*NaN or infinity: train_00002 \(3 values\)"
    ) as error:
        train(settings, train_data=source, console=console)
    assert "learning_rate" not in str(error.value)
