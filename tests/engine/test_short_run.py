"""Warnings about runs that are too short for their settings."""

import keras
import pytest

from segzoo.config import load_config
from segzoo.engine.batchnorm import set_momentum
from segzoo.engine.short_run import short_run_notes

RECIPE = """
model: {decoder: fpn, backbone: resnet18, weights: none}
data: {source: generated, size: [32, 32]}
training: {epochs: 2}
"""


@pytest.fixture
def config(tmp_path):
    (tmp_path / "run.yaml").write_text(RECIPE)
    return lambda *overrides: load_config(tmp_path / "run.yaml", [f"training.{override}" for override in overrides])


@pytest.fixture
def network():
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.BatchNormalization()(inputs)))


@pytest.fixture
def plain():
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Dense(2)(inputs))


def test_a_warm_up_as_long_as_the_run_is_told_of_in_updates(config, plain):
    (note,) = short_run_notes(config(), plain, steps=25)
    assert "warmup_steps is 50, but the whole run has 50 updates" in note and "set warmup_steps to 2." in note
    assert short_run_notes(config(), plain, steps=26) == []
    (note,) = short_run_notes(config("accumulate=2"), plain, steps=26)
    assert "has 26 updates" in note
    (note,) = short_run_notes(config("epochs=1"), plain, steps=1)
    assert "has 1 update:" in note and "set warmup_steps to 0." in note
    assert short_run_notes(config("schedule.warmup_steps=0"), plain, steps=1) == []
    assert short_run_notes(config("schedule.name=one_cycle"), plain, steps=1) == []


def test_a_stage_shorter_than_its_warm_up_is_told_of(config, plain):
    stages = "stages=[{freeze: backbone, epochs: 1}, {lr_scale: {backbone: 0.1}}]"
    (note,) = short_run_notes(config(stages), plain, steps=40)
    assert "stage 2 has 40 updates, and its learning rate rises for 50" in note
    assert short_run_notes(config(stages), plain, steps=51) == []


def test_statistics_that_keep_their_initial_values_are_named_with_their_share(config, network):
    settings = config("schedule.warmup_steps=0")
    set_momentum(network, 0.99)
    (note,) = short_run_notes(settings, network, steps=100)
    assert "After the 200 steps" in note and "still hold 13 % of their initial values (momentum 0.99)" in note
    assert "Train for 299 steps or more, or set training.batchnorm_momentum to 0.98 or less" in note
    assert 0.99**298 > 0.05 >= 0.99**299 and 0.98**200 <= 0.05
    assert short_run_notes(settings, network, steps=150) == []
    set_momentum(network, 0.98)
    assert short_run_notes(settings, network, steps=100) == []


def test_frozen_and_pretrained_statistics_are_not_stale(config, network, plain):
    settings = config("schedule.warmup_steps=0")
    layer = network.layers[1]
    layer.trainable = False
    assert short_run_notes(settings, network, steps=1) == []
    layer.trainable = True
    assert len(short_run_notes(settings, network, steps=1)) == 1
    layer.moving_mean.assign([1.0, 2.0, 3.0, 4.0])
    assert short_run_notes(settings, network, steps=1) == []
