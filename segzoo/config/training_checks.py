"""Validators of the section `training` beyond types: names by registry, arguments by signature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from segzoo.arguments import arguments_of
from segzoo.backend import start_backend
from segzoo.config import stated
from segzoo.config.problems import ProblemAt, given, not_among


def optimizer_options(name: str, values: Mapping[str, Any]) -> None:
    """Check `optimizer.options` against the optimizer's constructor; raise ProblemAt at an invalid one."""
    if not values:
        return
    from segzoo.optim import CLASSES
    from segzoo.optim.options import expected

    known = stated.optimizer_options(name)
    for option, value in values.items():
        if option not in known:
            raise ProblemAt(("options", option), not_among(f"option of the optimizer {name}", option, known))
        wanted = expected(name, option, known[option], value)
        if wanted is not None:
            raise ProblemAt(("options", option), f"{wanted}, got {given(value)}")
    if name not in CLASSES:
        from segzoo.optim import optimizers

        try:
            optimizers.create(name, 1e-3, **values)
        except (TypeError, ValueError) as error:
            raise ProblemAt(("options",), str(error)) from error


def schedule_options(name: str, options: Mapping[str, Any]) -> None:
    """Check `schedule.options` against a schedule's constructor; raise ProblemAt at an invalid one."""
    if not options:
        return
    from segzoo.optim import SCHEDULES

    if SCHEDULES.is_built_in(name):
        raise ProblemAt(("options",), f"the schedule {name} has its options beside its name, such as warmup_steps")
    start_backend()  # before the module imports the backend, so that TensorFlow's messages are suppressed
    known = arguments_of(SCHEDULES[name], stated.FILLED_IN)[2:]  # after the peak and the number of updates
    for option in options:
        if option not in known:
            raise ProblemAt(("options", option), not_among(f"option of the schedule {name}", option, known))
    try:
        SCHEDULES[name](1e-3, 100, **options)
    except (TypeError, ValueError) as error:
        raise ProblemAt(("options",), str(error)) from error


def stages(epochs: Sequence[int | None], frozen: Sequence[Sequence[str]], total: int) -> None:
    """Check that stages fill `total` epochs and that each trains something; raise ProblemAt at an invalid one."""
    last = len(epochs) - 1
    for index, (length, parts) in enumerate(zip(epochs, frozen, strict=True)):
        if length is None and index < last:
            raise ProblemAt(("stages", index, "epochs"), "every stage but the last says how many epochs it takes")
        if {"backbone", "decoder", "head"} <= set(parts):
            raise ProblemAt(("stages", index, "freeze"), "with all parts frozen there is nothing to train")
    given_epochs = [length for length in epochs if length is not None]
    done = sum(given_epochs)
    if len(given_epochs) < len(epochs) and done >= total:
        raise ProblemAt(("stages", last), f"the stages before take {done} epochs of {total}, so none is left for it")
    if epochs and len(given_epochs) == len(epochs) and done != total:
        raise ProblemAt(("stages", last, "epochs"), f"the stages take {done} epochs in all, but epochs is {total}")


def one_or_several(value: object) -> object:
    """Wrap a single name in a list."""
    return [value] if isinstance(value, str) else value


def one_kind_of_clipping(norm: float | str | None, value: float | None) -> None:
    """Raise ProblemAt if both kinds of gradient clipping are given; a norm of "auto" makes way for the other."""
    if norm not in (None, "auto") and value is not None:
        raise ProblemAt(("clip_value",), "clip_norm and clip_value exclude each other; give one")


def remat_on_one_device(remat: bool, distribution: str) -> None:
    """Raise ProblemAt for rematerialisation on several devices with TensorFlow.

    Batch normalisation over all of them exchanges statistics, again in the backward pass, where each device has an
    order of its own: MirroredStrategy then waits for ever or fails.
    """
    if remat and distribution == "mirrored":
        raise ProblemAt(("remat",), "remat does not work with distribution: mirrored; leave out one of the two")


def rising(values: Sequence[float]) -> None:
    """Raise ProblemAt for the first value that is not above its predecessor."""
    for index in range(1, len(values)):
        if values[index] <= values[index - 1]:
            raise ProblemAt((index,), f"{values[index]} is not above {values[index - 1]}, which stands before it")
