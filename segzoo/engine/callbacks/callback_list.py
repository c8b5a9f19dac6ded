"""List of a run's callbacks, over the several calls of `fit` that make up a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import keras

from segzoo.engine.callbacks.base import RunCallback
from segzoo.engine.callbacks.stateful import is_stateful
from segzoo.engine.checkpoint.progress import Progress
from segzoo.engine.evaluation import Evaluation

Batch = TypeVar("Batch")


class RunCallbacks(keras.callbacks.CallbackList):
    """Keras's list of callbacks, for a run that calls `fit` once for each epoch or what is left of one.

    Stages change what is trained between epochs, and a run is resumed within an epoch, so `fit` cannot train it all at
    once. The callbacks see one training all the same: what `fit` says of the beginning and end of training and epochs
    is not passed on; the run says it (`begin`, `begin_epoch`, `end_epoch`, `end`), an epoch's end after its evaluation.

    Args:
        first: segzoo's own callbacks that come before the user's.
        given: the user's.
        last: segzoo's own that come after them.
        model: the compiled network.
        progress: progress of the run.
        epochs: number of epochs of the whole run.
        steps: number of steps per epoch.
    """

    def __init__(
        self,
        first: Sequence[keras.callbacks.Callback],
        given: Sequence[keras.callbacks.Callback],
        last: Sequence[keras.callbacks.Callback],
        model: keras.Model,
        progress: Progress,
        epochs: int,
        steps: int,
    ):
        self.given = list(given)
        self._position = 0  # steps of the epoch that were done before this call of `fit`
        super().__init__([*first, *given, *last], add_history=True, model=model, epochs=epochs, steps=steps, verbose=0)
        for callback in self._own():
            callback.set_progress(progress)

    def _own(self) -> list[RunCallback]:
        return [callback for callback in self.callbacks if isinstance(callback, RunCallback)]

    def begin(self) -> None:
        """Say that the training begins, or goes on in another process."""
        super().on_train_begin()

    def begin_epoch(self, epoch: int, position: int) -> None:
        """Say that an epoch begins, the first being 0; within one (`position` steps done) only to who kept no state."""
        self._position = position
        for callback in self.callbacks:
            if position == 0 or not is_stateful(callback):
                callback.on_epoch_begin(epoch, {})

    def tested(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Pass batches of an evaluation on, and say when each begins and ends."""
        for number, batch in enumerate(batches):
            self.on_test_batch_begin(number)
            yield batch
            self.on_test_batch_end(number, {})

    def evaluated(self, epoch: int, found: Evaluation, improved: bool) -> None:
        """Say what the evaluation of an epoch found, before its end."""
        for callback in self._own():
            callback.on_evaluation(epoch, found, improved)

    def checkpointed(self, row: Mapping[str, Any], is_best: bool, resumed: bool = False) -> None:
        """Say that the checkpoint of a whole epoch is on the disk."""
        for callback in self._own():
            callback.on_checkpoint(row, is_best, resumed)

    def end_epoch(self, epoch: int, logs: dict[str, Any]) -> None:
        """Say that an epoch and its evaluation are done."""
        super().on_epoch_end(epoch, logs)

    def end(self, logs: dict[str, Any]) -> None:
        """Say that the training has come to its end."""
        super().on_train_end(logs)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Pass nothing on: `fit` begins, not the training."""

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Pass nothing on: `fit` ends, not the training."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Pass on only that Keras has reset the metrics."""
        for callback in self._own():
            callback.on_metrics_reset()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Pass nothing on: the epoch is not evaluated yet."""

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Pass on the number of the step within the whole epoch."""
        super().on_train_batch_begin(self._position + batch, logs)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Pass on the number of the step within the whole epoch."""
        super().on_train_batch_end(self._position + batch, logs)
