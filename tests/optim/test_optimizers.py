"""Optimizers by name: rates by part, decay where it belongs, accumulation, clipping, the scale of float16 losses."""

import math

import keras
import numpy as np
import pytest

from segzoo.errors import UnknownNameError
from segzoo.layers import LayerScale
from segzoo.optim import OPTIMIZERS, optimizers
from segzoo.optim.param_groups import levels, parts, rate_factors
from segzoo.optim.schedules import OneCycle, WarmUpDecay

NAMES = list(OPTIMIZERS)


def two_layers(weights=None):
    inputs = keras.Input((6,))
    x = keras.layers.Dense(5, activation="tanh", name="one")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2, name="two")(x))
    if weights is not None:
        model.set_weights(weights)
    return model


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    return rng.normal(size=(16, 6)).astype("float32"), rng.normal(size=(16, 2)).astype("float32")


def compiled(model, optimizer):
    model.compile(optimizer, "mse", jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.mark.parametrize("name", NAMES)
def test_a_factor_on_a_part_is_a_learning_rate_of_its_own(name, batch):
    # The reference is two runs of the plain optimizer, one at each rate, with the same gradients.
    start = two_layers().get_weights()
    rng = np.random.default_rng(1)
    gradients = [[rng.normal(size=w.shape).astype("float32") for w in start] for _ in range(3)]

    def run(rate, scaled):
        model = two_layers(start)
        optimizer = optimizers.create(name, rate, weight_decay=0.1)
        optimizer.build(model.trainable_variables)
        if scaled:
            optimizer.set_factors([(variable, 0.25) for variable in model.get_layer("one").variables])
        for step in gradients:
            optimizer.apply([keras.ops.convert_to_tensor(g) for g in step], model.trainable_variables)
        return model.get_weights()

    mixed, full, quarter = run(0.02, True), run(0.02, False), run(0.005, False)
    for place in (0, 1):
        np.testing.assert_allclose(mixed[place], quarter[place], atol=1e-6)
        assert np.abs(mixed[place] - full[place]).max() > 1e-5
    for place in (2, 3):
        np.testing.assert_allclose(mixed[place], full[place], atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_decay_is_decoupled_and_spares_vectors_by_whatever_optimizer(name):
    model = two_layers()
    model.layers[1].bias.assign(np.ones(5))
    before = model.get_weights()
    optimizer = optimizers.create(name, 0.1, weight_decay=0.5)
    optimizer.build(model.trainable_variables)
    optimizer.set_factors([(model.get_layer("two").kernel, 0.5)])
    optimizer.apply([keras.ops.zeros(w.shape) for w in before], model.trainable_variables)
    for place, factor in enumerate((0.95, 1.0, 0.975, 1.0)):
        np.testing.assert_allclose(model.get_weights()[place], factor * before[place], rtol=1e-6)


def test_what_is_decayed():
    def variable(shape, name, path=None):
        made = keras.Variable(np.zeros(shape), name=name)
        made._path = path or f"model/layer/{name}"
        return made

    decayed = [variable((3, 3, 4, 8), "kernel"), variable((4, 8), "kernel", "net/position_attention/query/kernel")]
    spared = [
        variable((8,), "bias"), variable((8,), "gamma"), variable((8,), "scale"),
        variable((1, 196, 8), "pos_embed"), variable((1, 196, 8), "embeddings", "net/position_embedding/embeddings"),
        variable((1, 1, 8), "cls_token"), variable((169, 4), "relative_position_bias_table"),
    ]  # fmt: skip
    layer_scale = LayerScale()
    layer_scale.build((None, 4, 4, 8))
    assert all(optimizers.is_decayed(one) for one in decayed)
    assert not any(optimizers.is_decayed(one) for one in [*spared, layer_scale.gamma])


@pytest.mark.parametrize("name", NAMES)
def test_accumulated_batches_make_the_update_of_one_large_batch(name, batch, eager):
    start = two_layers().get_weights()
    x, y = batch
    # The rate changes from update to update, so a schedule that counted batches would show.
    rate = WarmUpDecay(0.05, total_steps=5, warmup_steps=2)
    large = compiled(two_layers(start), optimizers.create(name, rate, 0.1, clip_norm=0.5))
    small = compiled(two_layers(start), optimizers.create(name, rate, 0.1, clip_norm=0.5, accumulate=4))
    for _ in range(3):
        large.train_on_batch(x, y)
        for part in range(4):
            kept = small.get_weights()
            small.train_on_batch(x[4 * part : 4 * part + 4], y[4 * part : 4 * part + 4])
            if part < 3:  # nothing moves between updates
                np.testing.assert_array_equal(small.get_weights()[0], kept[0])
    for left, right in zip(large.get_weights(), small.get_weights(), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-5)
    assert float(large.optimizer.learning_rate) == pytest.approx(float(small.optimizer.learning_rate))


def test_clipping_by_value_and_by_norm():
    gradient = np.array([[3.0, -0.2], [0.1, -4.0]], "float32")
    for clipping, expected in (
        ({"clip_value": 0.5}, np.clip(gradient, -0.5, 0.5)),
        ({"clip_norm": 1.0}, gradient / np.linalg.norm(gradient)),
    ):
        variable = keras.Variable(np.zeros((2, 2)), name="kernel")
        optimizer = optimizers.create("sgd", 1.0, **clipping)
        optimizer.build([variable])
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        np.testing.assert_allclose(variable.numpy(), -expected, rtol=1e-5)
    with pytest.raises(ValueError, match="exclude each other"):
        optimizers.create("sgd", 1.0, clip_norm=1.0, clip_value=1.0)


def test_unknown_optimizers_and_what_each_takes():
    with pytest.raises(UnknownNameError, match="Did you mean adam"):
        optimizers.create("adm", 1e-3)
    with pytest.raises(UnknownNameError, match="kernels of convolutions"):
        optimizers.create("muon", 1e-3)
    assert optimizers.options("sgd") == {"momentum": 0.0, "nesterov": False}
    assert "weight_decay" not in optimizers.options("adamw")


@pytest.mark.parametrize("name", NAMES)
def test_a_stage_begins_as_a_new_optimizer_at_its_place_in_the_schedule(name, batch, eager):
    optimizer = optimizers.create(name, WarmUpDecay(0.1, total_steps=100), 0.0)
    model = compiled(two_layers(), optimizer)
    optimizer.begin_stage(60, ramp=4)
    rates = []
    for _ in range(6):
        rates.append(float(optimizer.learning_rate))
        model.train_on_batch(*batch)
    expected = [0.1 * (1 - (60 + n) / 100) ** 0.9 * min(1, (n + 1) / 5) for n in range(6)]
    assert rates == pytest.approx(expected, rel=1e-5)


def test_an_overflow_in_float16_halves_the_scale_and_leaves_the_weights(dtype_policy):
    dtype_policy("mixed_float16")
    model = two_layers()
    model.compile(optimizers.create("adamw", 1e-3, accumulate=2), "mse", jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    own = optimizers.inner(model.optimizer)
    assert own is model.optimizer.inner_optimizer
    before, scale = model.get_weights(), float(model.optimizer.dynamic_scale)
    bad = [keras.ops.full(weight.shape, math.inf) for weight in before]
    model.optimizer.apply(bad, model.trainable_variables)
    assert float(model.optimizer.dynamic_scale) == scale / 2
    for left, right in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
    # The state file takes the scale with it.
    assert any(variable is model.optimizer.dynamic_scale for variable in model.optimizer.variables)


NETWORKS = ["resnet18", pytest.param("efficientnet_b0", marks=pytest.mark.nightly)]


@pytest.mark.parametrize("backbone", NETWORKS)
def test_parts_and_levels_of_a_network(backbone, model_of):
    from segzoo.models.build import build_model

    model = model_of("fpn", backbone)
    found = parts(model)
    assert [layer.name for layer in found["decoder"]] == ["decoder"]
    assert [layer.name for layer in found["head"]] == ["head"]
    assert sum(len(layers) for layers in found.values()) == len(model.layers)
    by_level = levels(model)
    assert list(by_level) == ["P2", "P3", "P4", "P5"]  # FPN reads no P1: its layers are P2's
    assert sorted(layer.name for layers in by_level.values() for layer in layers) == sorted(
        layer.name for layer in found["backbone"]
    )
    # A level is what `trainable: LEVEL` freezes, less what the finer ones need.
    frozen = build_model("fpn", backbone, 3, weights="none", drop_path=0.0, trainable="P3")
    expected = {layer.name for layer in frozen.layers if layer.weights and not layer.trainable}
    assert {layer.name for level in ("P2", "P3") for layer in by_level[level] if layer.weights} == expected


@pytest.mark.parametrize("backbone", NETWORKS)
def test_layer_decay_falls_from_level_to_level(backbone, model_of):
    model = model_of("fpn", backbone)
    factors = {id(variable): factor for variable, factor in rate_factors(model, {"P3": 2.0}, 0.5)}

    def of(layers):
        return {factors[id(variable)] for layer in layers for variable in layer.variables}

    found = {level: of(layers) for level, layers in levels(model).items()}
    assert found == {"P2": {0.5**4}, "P3": {2 * 0.5**3}, "P4": {0.5**2}, "P5": {0.5}}
    assert of([model.get_layer("decoder"), model.get_layer("head")]) == {1.0}


def test_the_step_schedule_drops_at_its_milestones():
    schedule = WarmUpDecay(1.0, 1000, 10, "step", milestones=[0.3, 0.6], drop=0.1)
    for step, expected in ((0, 1 / 11), (10, 1), (299, 1), (300, 0.1), (599, 0.1), (600, 0.01), (5000, 0.01)):
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-5), step
    again = WarmUpDecay.from_config(schedule.get_config())
    assert float(again(450)) == float(schedule(450))


def test_one_cycle_is_pytorchs():
    # The formula of torch.optim.lr_scheduler.OneCycleLR(max_lr=0.1, total_steps=50) with its defaults: from 0.1/25 to
    # the top at step 0.3 * 50 - 1 = 14, and to 0.1/25/1e4 at step 49.
    schedule = OneCycle(0.1, 50, final_fraction=4e-6)
    for step in range(50):
        start, end, part = (0.004, 0.1, step / 14) if step <= 14 else (0.1, 4e-7, (step - 14) / 35)
        expected = end + (start - end) / 2 * (1 + math.cos(math.pi * part))
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-4, abs=1e-8), step
    again = OneCycle.from_config(schedule.get_config())
    assert float(again(20)) == float(schedule(20))
