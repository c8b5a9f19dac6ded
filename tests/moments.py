"""Something that happens at a moment of a run, by way of a callback as users write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import keras


class Moments(keras.callbacks.Callback):
    """Calls a function of each moment of a run and its number: "start" 0, "step" 1, "validation" 1 and so on.

    A step's is its end, before the state is saved; "step begins" comes before it, "epoch begins" after the state of the
    epoch before was saved. The numbers are those of this process: a resumed run counts from 1.
    """

    def __init__(self, call: Callable[[str, int], None]):
        super().__init__()
        self.call = call
        self.steps = self.validations = 0

    def on_train_begin(self, logs=None) -> None:
        self.call("start", 0)

    def on_epoch_begin(self, epoch, logs=None) -> None:
        self.call("epoch begins", epoch + 1)

    def on_train_batch_begin(self, batch, logs=None) -> None:
        self.call("step begins", self.steps + 1)

    def on_train_batch_end(self, batch, logs=None) -> None:
        self.steps += 1
        self.call("step", self.steps)

    def on_test_batch_begin(self, batch, logs=None) -> None:
        self.validations += 1
        self.call("validation", self.validations)


def at_moment(at: str, act: Callable[[], None]) -> Moments:
    """Call a function once, at a moment such as "start", "step 2", "step 6 begins" or "validation 4"."""
    number = next(filter(str.isdigit, at.split()), "0")
    name = " ".join(word for word in at.split() if word != number)
    return Moments(lambda moment, count: act() if (moment, count) == (name, int(number)) else None)


def die() -> NoReturn:
    """End the process's part of the run at once."""
    raise KeyboardInterrupt
