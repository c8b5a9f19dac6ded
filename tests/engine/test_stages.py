"""Stages: what is frozen stays as it is to the bit, acts as in inference, and comes back with a run state."""

import functools

import keras
import numpy as np
import pytest
from moments import at_moment, die
from networks import small_backbone

from segzoo.decoders import SegmentationHead
from segzoo.engine import builders, train
from segzoo.engine.callbacks.stages import Stage, Stages
from segzoo.errors import RunError, SegzooError
from segzoo.layers import BatchNormalization, ConvBlock
from segzoo.models.build import build_model
from segzoo.optim import optimizers
from segzoo.optim.schedules import WarmUpDecay


def network():
    """A backbone of a convolution, normalisation and dropout, and a head."""
    inputs = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(4, 3, padding="same", name="conv")(inputs)
    x = BatchNormalization(name="norm")(x)
    x = keras.layers.Dropout(0.5, name="dropout", seed=1)(x)
    x = ConvBlock(4, name="block")(x)
    return keras.Model(inputs, SegmentationHead(2, name="head")(x, inputs), name="small")


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return rng.normal(size=(4, 8, 8, 3)).astype("float32"), rng.integers(0, 2, (4, 8, 8))


def compiled(name="adamw", **arguments):
    model = network()
    optimizer = optimizers.create(name, WarmUpDecay(0.05, 100), 0.1, **arguments)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    return model


def step(model, batch):
    """One step as `fit` does it: `train_on_batch` would make the function anew."""
    return model.fit(*batch, batch_size=4, epochs=1, verbose=0)


FROZEN_THEN_SLOW = [Stage(0, ("backbone",)), Stage(2, (), {"backbone": 0.1})]


def optimizers_of(kept, *others):
    """The first is tried by default."""
    return pytest.mark.parametrize("name", [kept, *(pytest.param(name, marks=pytest.mark.nightly) for name in others)])


@optimizers_of("adamw", "sgd", "adagrad")
def test_a_frozen_part_is_unchanged_to_the_bit_and_acts_as_in_inference(name, batch, eager):
    model = compiled(name)
    stages = Stages(model, FROZEN_THEN_SLOW, updates_per_epoch=1)
    variables = [variable.path for variable in model.variables + model.optimizer.variables]
    before = [variable.numpy() for variable in model.variables]  # statistics and the seed of dropout too
    assert str(stages.enter(0)) == "backbone frozen"
    for _ in range(3):
        step(model, batch)
    head = {id(variable) for variable in model.get_layer("head").variables}
    for variable, old in zip(model.variables, before, strict=True):
        same = np.array_equal(variable.numpy(), old)
        assert same != (id(variable) in head), variable.path
    np.testing.assert_array_equal(model(batch[0], training=True), model(batch[0], training=False))

    before = [variable.numpy() for variable in model.variables]
    assert str(stages.enter(2)) == "nothing frozen; backbone at 0.1 times the learning rate"
    step(model, batch)
    assert not any(np.array_equal(v.numpy(), old) for v, old in zip(model.variables, before, strict=True))
    assert np.abs(model(batch[0], training=True) - model(batch[0], training=False)).max() > 0.01
    assert [variable.path for variable in model.variables + model.optimizer.variables] == variables


@optimizers_of("adagrad", "adamw", "rmsprop")  # whose empty state is not zero
def test_a_later_stage_begins_with_the_empty_state_of_a_new_optimizer(name, batch, eager):
    model, new = compiled(name), compiled(name)
    stages = Stages(model, FROZEN_THEN_SLOW, updates_per_epoch=10)
    stages.enter(0)
    for _ in range(3):
        step(model, batch)
    stages.enter(2, fresh=False)  # a resumed run in the middle of the epoch keeps what its state had
    assert int(model.optimizer.iterations) == 3
    stages.enter(2)
    for variable, other in zip(model.optimizer.variables, new.optimizer.variables, strict=True):
        np.testing.assert_array_equal(variable, other)
    # The schedule goes on: 20 updates of 100 belong to the first stage.
    assert float(model.optimizer.learning_rate) == pytest.approx(0.05 * 0.8**0.9, rel=1e-5)


def test_layers_that_were_frozen_for_good_stay_so(batch):
    model = network()
    model.get_layer("norm").trainable = False
    model.compile(optimizers.create("adamw", 0.1), "mse", jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    stages = Stages(model, FROZEN_THEN_SLOW)
    stages.enter(0)
    stages.enter(2)
    assert not model.get_layer("norm").trainable
    assert model.get_layer("block").trainable and len(model.get_layer("block").trainable_variables) == 3


def test_what_makes_no_stage():
    model = compiled()
    with pytest.raises(RunError, match="nothing to train"):
        Stages(model, [Stage(0, ("backbone", "head"))])
    with pytest.raises(SegzooError, match="no level P3"):
        Stages(model, [Stage(0, ("P3",))])
    assert Stages(model, []).enter(0) is None and Stages(model, []).ended_in_last(1)


def test_a_level_freezes_the_backbone_up_to_it():
    model = build_model("fpn", small_backbone(), 3, weights="none")
    model.compile(optimizers.create("adamw", 0.1), "mse", jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    Stages(model, [Stage(0, ("P3",)), Stage(1)]).enter(0)
    frozen = {layer.name for layer in model.layers if layer.weights and not layer.trainable}
    assert frozen == {"level1", "level2", "level3"}


SETTINGS = (
    "data.train_count=2", "training.epochs=4", "training.ema=0.9", "training.schedule={name: poly, warmup_steps: 1}",
    "training.early_stopping={patience: 1, min_delta: 1.0}", "output.keep_state=true",
    "training.stages=[{freeze: backbone, epochs: 2}, {lr_scale: {backbone: 0.1}}]",
)  # fmt: skip


@pytest.mark.parametrize("crash_after", [1, pytest.param(2, marks=pytest.mark.nightly)])
def test_a_run_with_stages_resumes_to_the_same_bits(config, quick, console, crash_after):
    stages = "training.stages=[{freeze: backbone, epochs: 1}, {lr_scale: {backbone: 0.1}}]"
    config = functools.partial(config, stages, "training.epochs=3", "training.early_stopping=null")
    whole = train(config("name=whole"), console=console)
    with pytest.raises(KeyboardInterrupt):
        train(config("name=broken"), console=console, callbacks=[at_moment(f"epoch {crash_after + 1} begins", die)])
    resumed = train(config("name=broken"), resume=True, console=console)
    with np.load(whole.folder / "state.npz") as left, np.load(resumed.folder / "state.npz") as right:
        assert set(left.files) == set(right.files)
        for key in (name for name in left.files if "/" in name):  # the others hold times and the run's name
            np.testing.assert_array_equal(left[key], right[key], err_msg=key)
    assert [row["loss"] for row in whole.history] == [row["loss"] for row in resumed.history]


def test_the_stages_of_a_run_are_shown_and_early_stopping_waits_for_the_last(config, quick, console, tmp_path):
    result = train(config(), console=console)
    console.file.flush()
    screen = (tmp_path / "screen.txt").read_text()
    assert "Stage from epoch 1 on: backbone frozen; head at 10 times the learning rate." in screen
    factors = "head at 10 times the learning rate; backbone at 0.1 times the learning rate"
    assert f"Stage from epoch 3 on: nothing frozen; {factors}." in screen
    # No epoch beats the first by 1.0: without stages the run would end after two, here after one of the last stage.
    assert len(result.history) == 3 and "Stopped early" in screen


def test_a_rate_of_what_is_frozen_or_not_there_is_not_told(config):
    frozen = Stage(0, ("head",), {"head": 10.0, "backbone": 0.1})
    assert str(frozen) == "head frozen; backbone at 0.1 times the learning rate"
    image = keras.Input((32, 32, 3))
    given = keras.Model(image, keras.layers.Conv2D(3, 1)(image))  # the head is a layer like others here
    given.compile(optimizers.create("adamw", 1e-3), "mse")
    builders.start_optimizer(config(), given, 2)
    assert builders.automatic(config(), 2, given) == {"training.optimizer.clip_norm": 1.0}
    alone = config("training.stages=[{epochs: 1}, {lr_scale: {backbone: 0.1}}]")
    told = [str(stage) for stage in builders.build_stages(alone, given, 2).stages]
    assert told == ["nothing frozen", "nothing frozen; backbone at 0.1 times the learning rate"]


def test_a_mistake_in_a_stage_is_named(config):
    from segzoo.errors import ConfigError

    for stages, words in (
        ("[{freeze: backbone}, {}]", "training.stages.0.epochs: every stage but the last"),
        ("[{freeze: backbone, epochs: 4}, {}]", "training.stages.1: the stages before take 4 epochs of 4"),
        (
            "[{freeze: backbone, epochs: 1}]",
            "training.stages.0.epochs: the stages take 1 epochs in all, but epochs is 4",
        ),
        ("[{freeze: [backbone, decoder, head]}]", "training.stages.0.freeze: with all parts frozen"),
        ("[{freeze: encoder}]", "training.stages.0.freeze.0: .*backbone, decoder, head"),
        ("[{frieze: backbone}]", "training.stages.0.frieze: unknown key; did you mean freeze"),
        ("[{lr_scale: {decoder: -1}}]", "training.stages.0.lr_scale.decoder: must be above 0"),
    ):
        with pytest.raises(ConfigError, match=words):
            config(f"training.stages={stages}")
    with pytest.raises(ConfigError, match=r"model\.weights: training\.init_from brings the weights"):
        config("training.init_from=runs/a", "model.weights=imagenet")
