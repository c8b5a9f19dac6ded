"""Keras's private API, in this one place: pyproject.toml bounds Keras to the minor versions that have it.

Each function says which need has no public counterpart. `import segzoo` does not import this module.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
from keras.src.backend.common import global_state
from keras.src.backend.common.stateless_scope import in_stateless_scope
from keras.src.utils.naming import to_snake_case

# --- models and layers ---


def all_layers(layer: Any) -> Iterator[Any]:
    """Yield a layer or model and every layer within, outer ones first; the public `layers` stops at the first level."""
    yield from layer._flatten_layers()


def calls_of(model: keras.Model) -> list[Any]:
    """Return the calls (nodes) of a functional model's graph, each after those whose tensors it reads."""
    return [call for depth in sorted(model._nodes_by_depth, reverse=True) for call in model._nodes_by_depth[depth]]


def results_of(model: keras.Model) -> Any:
    """Return the symbolic outputs of a functional model in the structure that calling it returns."""
    return model._outputs_struct


def arguments_of(layer: keras.layers.Layer) -> tuple[tuple, dict[str, Any]]:
    """Return arguments and keyword arguments of a layer's first call; those of an input layer are `(None,)`."""
    given = layer._inbound_nodes[0].arguments
    return given.args or (None,), given.kwargs


def maker_of(tensor: Any) -> Any:
    """Return the operation that a symbolic tensor is an output of."""
    return tensor._keras_history.operation


def takes_training(layer: keras.layers.Layer) -> bool:
    """Return whether a layer's `call` has the argument `training`."""
    return bool(layer._call_has_training_arg)


def build_losses(model: keras.Model) -> None:
    """Create the mean losses of a compiled model's outputs; Keras does so when the first step is traced."""
    if not model._compile_loss.built:
        model._compile_loss.build(model.output, model.output)


def sync_variables(model: keras.Model) -> None:
    """Write the values that JAX's `fit` holds back to the model's variables; nothing to do on other backends."""
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()


@contextmanager
def without_variables() -> Iterator[None]:
    """Build networks within the block without creating variables, for readers of layers and tensors alone."""
    key = "uninitialized_variables"  # Keras makes them when the outermost scope is left; without the list it makes none
    waiting = list(global_state.get_global_attribute(key) or ())
    with keras.StatelessScope():
        yield
        global_state.set_global_attribute(key, waiting)


def kind_name(operation: Any) -> str:
    """Return the name, without a number, that Keras gives to an operation that its code leaves unnamed."""
    return str(to_snake_case(type(operation).__name__))


def nasnet(**arguments: Any) -> keras.Model:
    """Build a NASNet from its architecture's numbers; the public constructors fix them."""
    from keras.src.applications.nasnet import NASNet

    return NASNet(**arguments)


def add_to(variable: keras.Variable, value: Any) -> None:
    """Add a tensor to a variable that is not cast for the layer's computation.

    On TensorFlow by its own operation; Keras's `assign_add` reads, adds and assigns in three.
    """
    if keras.backend.backend() == "tensorflow" and not in_stateless_scope():
        variable.value.assign_add(value)
    else:
        variable.assign_add(value)


# --- random values ---


def random_functions() -> Any:
    """Return the module whose functions draw random values for Keras's initialisers; there is no other way between."""
    from keras.src import backend

    return backend.random


def is_traced() -> bool:
    """Return whether JAX is tracing a function, whose values are not numbers yet."""
    from keras.src.utils.jax_utils import is_in_jax_tracing_scope

    return bool(is_in_jax_tracing_scope())


# --- optimizers ---


def schedule_of(optimizer: keras.optimizers.Optimizer) -> Any:
    """Return an optimizer's learning rate as it was given; the public property returns its present value."""
    return optimizer._learning_rate


def updated_variables(optimizer: keras.optimizers.Optimizer) -> Sequence[Any]:
    """Return the variables that a built optimizer updates."""
    return optimizer._trainable_variables


def index_of(optimizer: Any, variable: Any) -> int:
    """Return the place of a variable among those that a built optimizer updates."""
    return int(optimizer._get_variable_index(variable))


def moments_of(optimizer: Any, index: int) -> tuple[Any, Any]:
    """Return the first and second moment that Adam keeps of a variable."""
    return optimizer._momentums[index], optimizer._velocities[index]


class UpdateHooks:
    """Mixin before an optimizer of Keras: the parts of its update as methods that can be extended.

    Keras calls private methods, which this class passes on; each hook does what Keras does unless it is extended.
    """

    def clip_gradients(self, grads: Sequence[Any]) -> Sequence[Any]:
        """Return the gradients clipped as the optimizer's arguments say."""
        return super()._clip_gradients(grads)  # type: ignore[misc]

    def current_learning_rate(self) -> Any:
        """Return the learning rate of the update that is being computed."""
        return super()._get_current_learning_rate()  # type: ignore[misc]

    def decays(self, variable: Any) -> bool:
        """Return whether weight decay applies to a variable."""
        return bool(super()._use_weight_decay(variable))  # type: ignore[misc]

    def decay_weights(self, variables: Sequence[Any]) -> None:
        """Apply decoupled weight decay."""
        super()._apply_weight_decay(variables)  # type: ignore[misc]

    def update_variables(self, grads: Sequence[Any], variables: Sequence[Any], learning_rate: Any) -> None:
        """Update variables by their gradients at a learning rate."""
        super()._backend_update_step(grads, variables, learning_rate)  # type: ignore[misc]

    def _clip_gradients(self, grads: Sequence[Any]) -> Sequence[Any]:
        return self.clip_gradients(grads)

    def _get_current_learning_rate(self) -> Any:
        return self.current_learning_rate()

    def _use_weight_decay(self, variable: Any) -> bool:
        return self.decays(variable)

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        self.decay_weights(variables)

    def _backend_update_step(self, grads: Sequence[Any], variables: Sequence[Any], learning_rate: Any) -> None:
        self.update_variables(grads, variables, learning_rate)


def in_xla() -> bool:
    """Return True if the TensorFlow graph that is being traced will be compiled by XLA.

    XLA wants every shape known, has no kernel for the gradient of TensorFlow's nearest resize, and one for the bilinear
    resize that is wrong at some sizes, so it gets other operations; outside of it TensorFlow's kernels are right, and
    the fastest.
    """
    import tensorflow as tf
    from tensorflow.python.ops import control_flow_util  # where TensorFlow itself asks; there is no public function

    return not tf.executing_eagerly() and control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())
