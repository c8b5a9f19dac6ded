"""Keras's private API is used in one module, and does there what the module says."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import keras
import numpy as np
from packaging.requirements import Requirement

import segzoo
from segzoo import keras_compat

ROOT = Path(segzoo.__file__).parent
# Attributes of Keras's models, layers, tensors and optimizers that no documentation names.
PRIVATE = {
    "_apply_weight_decay",
    "_backend_update_step",
    "_call_has_training_arg",
    "_clip_gradients",
    "_compile_loss",
    "_flatten_layers",
    "_get_current_learning_rate",
    "_get_variable_index",
    "_inbound_nodes",
    "_keras_history",
    "_learning_rate",
    "_momentums",
    "_nodes_by_depth",
    "_outputs_struct",
    "_trainable_variables",
    "_use_weight_decay",
    "_velocities",
    "jax_state_sync",
}


def test_no_other_module_uses_it() -> None:
    found = []
    for path in ROOT.rglob("*.py"):
        if path.name == "keras_compat.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(node, "attr", None) or (node.name if isinstance(node, ast.FunctionDef) else None)
            module = getattr(node, "module", None) or ""
            if name in PRIVATE or str(module).startswith("keras.src"):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {name or module}")
    assert not found, found


def test_keras_is_bound_to_versions_that_have_it() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    (keras_itself,) = (found for text in project["dependencies"] if (found := Requirement(text)).name == "keras")
    assert {clause.operator for clause in keras_itself.specifier} == {">=", "<"}
    assert keras_itself.specifier.contains(keras.__version__)


def small() -> keras.Model:
    image = keras.Input((4, 4, 1))
    inner = keras.Sequential([keras.layers.Conv2D(2, 1, name="conv"), keras.layers.Dropout(0.5, name="drop")])
    return keras.Model(image, {"a": inner(image), "b": keras.layers.ReLU(name="relu")(image)})


def test_layers_within_layers() -> None:
    model = small()
    names = [layer.name for layer in keras_compat.all_layers(model)]
    assert {"conv", "drop", "relu"} < set(names) and names.index("conv") > names.index(model.layers[1].name)
    assert keras_compat.takes_training(keras.layers.Dropout(0.5)) and not keras_compat.takes_training(
        keras.layers.ReLU()
    )


def test_calls_arguments_and_makers() -> None:
    model = small()
    calls = keras_compat.calls_of(model)
    made: set[int] = set()
    for call in calls:
        assert {id(tensor) for tensor in call.input_tensors} <= made
        made |= {id(tensor) for tensor in call.output_tensors}
    relu = model.get_layer("relu")
    assert keras_compat.arguments_of(relu) == ((model.input,), {})
    assert keras_compat.arguments_of(model.layers[0]) == ((None,), {})
    assert keras_compat.maker_of(relu.output) is relu
    assert set(keras_compat.results_of(model)) == {"a", "b"}


def test_networks_without_variables_leave_no_trace() -> None:
    with keras_compat.without_variables():
        read = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="dense")])
    assert read.get_layer("dense").output.shape == (None, 2)
    whole = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    assert whole.get_weights()[0].shape == (3, 2)
    assert keras_compat.kind_name(keras.layers.Conv2D(1, 1)) == "conv2d"


def test_losses_of_several_outputs_can_be_built_before_a_step() -> None:
    model = small()
    model.compile("sgd", {"a": "mse", "b": "mse"})
    keras_compat.build_losses(model)
    before = [metric.name for metric in model.metrics]
    keras_compat.build_losses(model)
    assert [metric.name for metric in model.metrics] == before
    assert {"a_loss", "b_loss"} <= set(before)


def test_hooks_of_an_update_do_what_keras_does() -> None:
    called = []

    class Noted(keras_compat.UpdateHooks, keras.optimizers.AdamW):
        def clip_gradients(self, grads):
            called.append("clip")
            return super().clip_gradients(grads)

        def current_learning_rate(self):
            called.append("rate")
            return super().current_learning_rate()

        def decays(self, variable):
            called.append("decays")
            return super().decays(variable)

        def decay_weights(self, variables):
            called.append("decay")
            super().decay_weights(variables)

        def update_variables(self, grads, variables, learning_rate):
            called.append("update")
            super().update_variables(grads, variables, learning_rate)

    found = []
    for make in (keras.optimizers.AdamW, Noted):
        variable = keras.Variable(np.ones(3, "float32"))
        optimizer = make(0.1, weight_decay=0.01, clipvalue=0.5)
        for _ in range(2):
            optimizer.apply([keras.ops.convert_to_tensor([1.0, -2.0, 0.1])], [variable])
        found.append(keras.ops.convert_to_numpy(variable))
    np.testing.assert_array_equal(*found)
    assert set(called) == {"clip", "rate", "decays", "decay", "update"}
    assert keras_compat.index_of(optimizer, variable) == 0
    assert keras_compat.updated_variables(optimizer)[0] is variable
    assert [tuple(moment.shape) for moment in keras_compat.moments_of(optimizer, 0)] == [(3,), (3,)]
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    assert keras_compat.schedule_of(keras.optimizers.SGD(schedule)) is schedule
