"""Keras optimizers with per-group learning rates and selective weight decay; AdamW in TensorFlow's fused kernel."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from segzoo.arguments import defaults_of
from segzoo.errors import SegzooError
from segzoo.keras_compat import UpdateHooks, index_of, moments_of, schedule_of
from segzoo.optim import OPTIMIZERS
from segzoo.optim.clipping import WholeClipping
from segzoo.optim.options import FILLED_IN

# Weight decay pulls scales and offsets away from what normalisation needs; He et al. (2019), section 3.1. Position
# embeddings and tokens are spared as in Touvron et al. (2021) and Liu et al. (2021).
_SPARED_NAMES = re.compile(r"bias|gamma|beta")
_SPARED_PATHS = re.compile(r"pos(ition)?_?embed|(cls|class|mask|register)_token")


def is_decayed(variable: Any) -> bool:
    """Return True if weight decay applies to a variable: a kernel, not a vector, bias, scale or position embedding."""
    spared = _SPARED_NAMES.search(variable.name) or _SPARED_PATHS.search(variable.path)
    return len(variable.shape) > 1 and not spared


class Partwise(WholeClipping):
    """Mixin for a Keras optimizer: a learning-rate factor per variable, and weight decay of kernels only.

    - A variable's rate is the schedule's times its factor (`set_factors`); decoupled weight decay (Loshchilov and
      Hutter, 2019) follows that rate.
    - Weight decay spares what `is_decayed` says.
    - A schedule counts updates, not batches, where gradients are accumulated over several batches.
    - `begin_stage` starts anew from empty moments while the schedule goes on.
    """

    _factors: Mapping[int, float] | None = None  # by index of the variable; None: 1 for all
    _updates_before = 0
    _ramp = 0
    weight_decay: float | None

    def build(self, variables: Sequence[Any]) -> None:
        """Create the optimizer's variables for `variables`, in their order; a step may then update some of them."""
        self._decayed = tuple(is_decayed(variable) for variable in variables)
        super().build(variables)  # type: ignore[misc]

    def set_factors(self, factors: Sequence[tuple[Any, float]]) -> None:
        """Set the rate factors, above 0, of variables; all others have 1. Takes effect when a step is traced."""
        found = {index_of(self, variable): float(factor) for variable, factor in factors if factor != 1.0}
        self._factors = found or None

    def begin_stage(self, updates_before: int, ramp: int) -> None:
        """Continue the schedule at update `updates_before` of the run, ramping up within `ramp` updates.

        `iterations` counts from the start of the stage. Takes effect when a step is traced.
        """
        self._updates_before, self._ramp = updates_before, ramp

    def current_learning_rate(self) -> Any:
        """Return the schedule's rate for this update, counted over all stages."""
        schedule = schedule_of(self)
        if not isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
            return super().current_learning_rate()
        updates = self.iterations  # type: ignore[attr-defined]
        rate = schedule(updates + self._updates_before if self._updates_before else updates)
        if self._ramp:
            rate *= ops.minimum(1.0, (ops.cast(updates, "float32") + 1.0) / (self._ramp + 1.0))
        return rate

    def decays(self, variable: Any) -> bool:
        """Return whether `is_decayed` says so."""
        return self._decayed[index_of(self, variable)]

    def _by_factor(self, variables: Sequence[Any]) -> Iterator[tuple[float, list[int]]]:
        """Group the positions in `variables` by their factor."""
        factors = self._factors
        if factors is None:
            yield 1.0, list(range(len(variables)))
            return
        places: dict[float, list[int]] = {}
        for place, variable in enumerate(variables):
            places.setdefault(factors.get(index_of(self, variable), 1.0), []).append(place)
        yield from places.items()

    def decay_weights(self, variables: Sequence[Any]) -> None:
        """Take from each variable its share, at its own rate."""
        if not self.weight_decay:
            return
        for factor, places in self._by_factor(variables):
            decayed = [variables[place] for place in places if self.decays(variables[place])]
            self._shrink(decayed, float(self.weight_decay) * factor)

    def _shrink(self, variables: Sequence[Any], share: float) -> None:
        """Decay each variable by the learning rate times `share` of itself."""

        def shrink(variable: Any) -> None:
            rate = ops.cast(self.learning_rate, variable.dtype)  # type: ignore[attr-defined]
            variable.assign(variable * (1.0 - rate * share))

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            if tf.distribute.has_strategy():

                def shrink_everywhere(strategy: Any) -> None:
                    for variable in variables:
                        strategy.extended.update(variable.value, shrink, group=False)

                tf.distribute.get_replica_context().merge_call(shrink_everywhere)
                return
        for variable in variables:
            shrink(variable)

    def update_variables(self, grads: Sequence[Any], variables: Sequence[Any], learning_rate: Any) -> None:
        """Update variables, each at its own rate."""
        for factor, places in self._by_factor(variables):
            super().update_variables(
                [grads[place] for place in places],
                [variables[place] for place in places],
                learning_rate if factor == 1.0 else learning_rate * factor,
            )


class _FusedAdamW(UpdateHooks, keras.optimizers.AdamW):
    """Update of `keras.optimizers.AdamW` in fewer operations: on TensorFlow one fused kernel for each variable.

    Keras computes the bias corrections anew for each of some hundred variables, which all have to be traced and, on
    JAX, compiled.
    """

    def _is_fused(self) -> bool:
        backend = keras.backend.backend()
        if backend not in ("tensorflow", "jax") or self.amsgrad:
            return False
        if backend == "jax":
            return True
        import tensorflow as tf

        return not tf.distribute.has_strategy()

    def update_variables(self, grads: Sequence[Any], variables: Sequence[Any], learning_rate: Any) -> None:
        """Update and decay variables."""
        if not self._is_fused():
            super().update_variables(grads, variables, learning_rate)
            return
        rate = ops.cast(learning_rate, "float32")
        step = ops.cast(ops.convert_to_tensor(self.iterations) + 1, "float32")
        powers = ops.power(ops.cast(self.beta_1, "float32"), step), ops.power(ops.cast(self.beta_2, "float32"), step)
        kept = 1.0 - rate * float(self.weight_decay or 0.0)
        update = (
            self._by_kernel(rate, *powers) if keras.backend.backend() == "tensorflow" else self._by_ops(rate, *powers)
        )
        for gradient, variable in zip(grads, variables, strict=True):
            if self.weight_decay and self.decays(variable):
                variable.assign(variable * ops.cast(kept, variable.dtype))
            update(ops.cast(gradient, variable.dtype), variable, *moments_of(self, index_of(self, variable)))

    def _by_kernel(self, rate: Any, first_power: Any, second_power: Any) -> Callable[..., None]:
        """Return the update of a variable by TensorFlow's kernel."""
        import tensorflow as tf

        settings = {
            "beta1_power": first_power,
            "beta2_power": second_power,
            "lr": rate,
            "beta1": tf.constant(self.beta_1),
            "beta2": tf.constant(self.beta_2),
            "epsilon": tf.constant(self.epsilon),
        }

        def update(gradient: Any, variable: Any, first: Any, second: Any) -> None:
            weights = variable.value
            tf.raw_ops.ResourceApplyAdam(
                var=weights.handle,
                m=first.value.handle,
                v=second.value.handle,
                grad=gradient,
                **{name: tf.cast(value, weights.dtype) for name, value in settings.items()},
            )

        return update

    def _by_ops(self, rate: Any, first_power: Any, second_power: Any) -> Callable[..., None]:
        """Return the update of a variable as Keras writes it, with what all variables share computed before."""
        alpha = rate * ops.sqrt(1 - second_power) / (1 - first_power)

        def update(gradient: Any, variable: Any, first: Any, second: Any) -> None:
            first.assign(first + (gradient - first) * (1 - self.beta_1))
            second.assign(second + (ops.square(gradient) - second) * (1 - self.beta_2))
            scaled = first * ops.cast(alpha, variable.dtype)
            variable.assign(variable - scaled / (ops.sqrt(second) + self.epsilon))

        return update


@keras.saving.register_keras_serializable("segzoo")
class AdamW(Partwise, _FusedAdamW):
    """AdamW (Loshchilov and Hutter, 2019); normalisation parameters and biases are not decayed.

    The same update as `keras.optimizers.AdamW`. On TensorFlow one fused kernel takes the place of some twenty graph
    operations for each variable; the graph of a large model then traces and starts in about half the time. On JAX half
    of the operations are left.
    """

    def __init__(self, learning_rate: Any = 1e-3, weight_decay: float = 1e-4, **kwargs: Any):
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, **kwargs)

    def decay_weights(self, variables: Sequence[Any]) -> None:
        """Leave weight decay to the fused update where there is one."""
        if not self._is_fused():
            super().decay_weights(variables)


@functools.cache
def _partwise(optimizer: type, package: str = "segzoo") -> type:
    """Extend a Keras optimizer by the mixin; it is registered under its own name."""
    name = optimizer.__name__
    made = type(name, (Partwise, optimizer), {"__doc__": f"{name} with what `Partwise` adds."})
    return keras.saving.register_keras_serializable(package)(made)


SGD = _partwise(keras.optimizers.SGD)
RMSprop = _partwise(keras.optimizers.RMSprop)
Lion = _partwise(keras.optimizers.Lion)
Adamax = _partwise(keras.optimizers.Adamax)
Adagrad = _partwise(keras.optimizers.Adagrad)
Adafactor = _partwise(keras.optimizers.Adafactor)


def _named(name: str) -> type:
    """Return the class registered under a name; a plugin's class is extended by `Partwise`."""
    found = OPTIMIZERS[name]
    return found if issubclass(found, Partwise) else _partwise(found, f"segzoo_{found.__module__.partition('.')[0]}")


def options(name: str) -> dict[str, Any]:
    """Return names and defaults of an optimizer's own arguments, beside learning rate, decay and clipping."""
    for base in _named(name).__mro__:
        own = vars(base).get("__init__")
        if own is not None and not base.__module__.startswith("segzoo."):
            return defaults_of(own, FILLED_IN)
    return {}


def create(
    name: str,
    learning_rate: Any,
    weight_decay: float = 0.0,
    *,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    accumulate: int = 1,
    **own: Any,
) -> keras.optimizers.Optimizer:
    """Build an optimizer by name.

    Args:
        name: a name of `segzoo.optim.OPTIMIZERS`.
        learning_rate: a number or a schedule over updates.
        weight_decay: decoupled weight decay, 0 or more, by whatever optimizer.
        clip_norm: largest global norm of the gradient.
        clip_value: largest absolute value in the gradient.
        accumulate: batches whose mean gradient makes one update.
        **own: arguments that `options` names.

    Raises:
        UnknownNameError: no such optimizer.
        ValueError: unknown arguments, or both kinds of clipping.
        SegzooError: accumulation over several devices.
    """
    if accumulate > 1 and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if tf.distribute.has_strategy():
            raise SegzooError(
                "accumulate: Keras cannot accumulate gradients over several devices; give larger batches."
            )
    if clip_norm is not None and clip_value is not None:
        raise ValueError("clip_norm and clip_value exclude each other; give one.")
    for option, default in options(name).items():
        if isinstance(default, float) and isinstance(own.get(option), int):
            own[option] = float(own[option])  # Keras's SGD refuses a momentum of 0
    return _named(name)(
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        global_clipnorm=clip_norm,
        clipvalue=clip_value,
        gradient_accumulation_steps=accumulate if accumulate > 1 else None,
        **own,
    )


def inner(optimizer: keras.optimizers.Optimizer) -> Any:
    """Unwrap the optimizer from a `LossScaleOptimizer`, which Keras puts around it for float16."""
    return getattr(optimizer, "inner_optimizer", optimizer)
