"""Objects passed to `segzoo.train` in place of those that the configuration would build."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from segzoo.config import Config
from segzoo.data import Source
from segzoo.engine import builders
from segzoo.engine.batched import Batched
from segzoo.engine.callbacks.stateful import kinds_of, states_of
from segzoo.engine.distribution import Distribution
from segzoo.errors import DataError, RunError, listed
from segzoo.keras_compat import all_layers
from segzoo.models.given import check_fits, functional
from segzoo.models.remat import RematModel


@dataclass(frozen=True)
class Given:
    """Objects of the caller; None for those that are built from the configuration.

    Attributes:
        model: images `(B, H, W, C)`, pixels 0..255, to logits `(B, H, W, channels)`, as of `build_model`.
        train_data: a source of samples, which are cropped, augmented and batched as configured, or batches.
        val_data: the same for the validation split; of a source only `data.val_transforms` apply.
        loss: Keras loss or function of masks and logits.
        callbacks: Keras callbacks.
    """

    model: keras.Model | None = None
    train_data: Any = None
    val_data: Any = None
    loss: Callable[[Any, Any], Any] | None = None
    callbacks: Sequence[keras.callbacks.Callback] = ()

    @classmethod
    def of(cls, model: Any, *others: Any) -> Given:
        """Collect the objects; a `keras.Sequential` is replaced by the functional model of its layers."""
        return cls(functional(model), *others)

    def check(self, config: Config) -> None:
        """Raise RunError if an object cannot be used with the configuration; nothing is built or written."""
        if self.model is not None:
            _check_model(self.model, config)
        if self.loss is not None and not callable(self.loss):
            raise RunError(f"loss= takes a keras.losses.Loss or a function of masks and logits, not {self.loss!r}.")
        for callback in self.callbacks:
            if not isinstance(callback, keras.callbacks.Callback):
                raise RunError(f"callbacks= takes instances of keras.callbacks.Callback, not {callback!r}.")
        states_of(self.callbacks)  # a state that cannot be kept is refused now, not after an hour

    def check_distribution(self, distribution: Distribution) -> None:
        """Raise RunError if an object cannot be used on several devices or processes."""
        if self.model is not None and distribution.devices > 1:
            raise RunError(
                "model= was built for one device. Set training.distribution: none, or let the configuration build it."
            )
        if (self.train_data is not None or self.val_data is not None) and distribution.processes > 1:
            raise RunError(
                "train_data= and val_data= are not divided between processes. Set training.distribution: none, or "
                "mirrored on one machine."
            )

    def check_restartable(self, sources: Mapping[str, Source | Batched]) -> None:
        """Raise RunError if a run has begun and its batches cannot be restarted at its present step."""
        for split, source in sources.items():
            if isinstance(source, Batched) and not source.is_restartable:
                raise RunError(
                    f"The run cannot be resumed with this {split}_data: a generator or iterator can be read only once. "
                    "Give one that can be read again (a list, a tf.data.Dataset, a PyDataset, an object whose __iter__ "
                    "makes a new iterator), or start a new run by --set name=..., or replace this one by --overwrite."
                )

    def data(self, config: Config, split: str) -> Source | Batched | None:
        """Return the samples or batches passed for "train" or "val"; None if there are none.

        Raises:
            DataError: they are neither, or samples of other classes than the configuration's.
        """
        given = {"train": self.train_data, "val": self.val_data}[split]
        if given is None:
            return None
        if not isinstance(given, Source):
            return Batched.of(given, config, split, builders.training_target_maker(config, self.loss))
        names = list(config.task.classes)
        if list(given.classes) != names or given.ignore_index != config.data.ignore_index:
            raise DataError(
                f"{split}_data has the classes {listed(given.classes)} and ignore index {given.ignore_index}; the "
                f"configuration has {listed(names)} and {config.data.ignore_index}. Make them the same."
            )
        return given

    def facts(self) -> dict[str, Any]:
        """Kind of each object, which must be the same when the run is resumed; {} if there are none."""
        found: dict[str, Any] = {}
        if self.model is not None:
            count, tensors = self.model.count_params(), len(self.model.weights)
            found["model"] = f"{self.model.name}, {count:,} parameters in {tensors} tensors"
        if self.loss is not None:
            found["loss"] = getattr(self.loss, "name", None) or getattr(self.loss, "__name__", type(self.loss).__name__)
        for name in ("train_data", "val_data"):
            if (data := getattr(self, name)) is not None:
                found[name] = f"{type(data).__module__}.{type(data).__qualname__}"
        if kinds := kinds_of(self.callbacks):
            found["callbacks"] = kinds
        return found


def _check_model(model: keras.Model, config: Config) -> None:
    """Raise RunError unless a model fits the configuration's images, task, precision and memory."""
    check_fits(model, config.model.input_channels, config.task)
    policy = builders.POLICIES[config.training.precision]
    found = {layer.dtype_policy.name for layer in all_layers(model) if layer.weights} - {"float32"}
    if found != {policy} - {"float32"}:
        raise RunError(
            f"The given model computes in {' and '.join(sorted(found)) or 'float32'}; training.precision is "
            f"{config.training.precision}. Build it under keras.config.set_dtype_policy({policy!r}), or set the "
            "precision to what it has."
        )
    if config.training.remat and not isinstance(model, RematModel):
        raise RunError("training.remat needs a model built with it: segzoo.build_model(..., remat=True).")
