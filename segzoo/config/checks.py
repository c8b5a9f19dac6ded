"""Validators of a whole configuration beyond types: losses, metrics, trackers and plugins, and how sections fit.

The registries are imported inside the functions: validating a configuration loads a framework only where something
registered from outside, or a loss whose source does not say its arguments, is given arguments.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from segzoo.arguments import arguments_of, types_of
from segzoo.config import stated
from segzoo.config.problems import ProblemAt, given, not_among
from segzoo.errors import ConfigError, SegzooError, listed
from segzoo.registry import Registry
from segzoo.task import Task


def registered_entry(
    value: object,
    registry: Registry,
    parsed: Callable[[Any], tuple[str, dict[str, Any]]],
    options_of: Callable[[str], list[str]],
) -> object:
    """Check a name or {name: options}: its form, name and options; raise ProblemAt at the invalid part.

    Args:
        value: returned unchanged.
        registry: registry in which the name is looked up.
        parsed: splits the value into name and options, or raises ConfigError.
        options_of: returns the option names of a registered name.
    """
    try:
        name, options = parsed(value)
    except ConfigError as error:
        raise ValueError(str(error)) from error
    registry.check(name)
    known = options_of(name)
    for option in options:
        if option not in known:
            kind = f"option of the {registry.kind} {name}"
            raise ProblemAt((name, str(option)), not_among(kind, str(option), known))
    return value


def metric(value: object) -> object:
    """Check one entry of `output.metrics`: its form, name and options; raise ProblemAt at the invalid part."""
    from segzoo.metrics.class_metrics import METRICS, options_of, parsed

    return registered_entry(value, METRICS, parsed, options_of)


def metrics_work(entries: Sequence[Any], task: Task) -> None:
    """Raise ProblemAt for a metric that fails on counts of a few classes, or does not return one value per class.

    Every pair of classes has one pixel, which avoids divisions by zero; a matrix of all classes could take gigabytes.
    """
    if not entries:
        return
    import numpy as np

    from segzoo.metrics import figures_by_class, pixel_counts

    few = dataclasses.replace(task, classes=task.classes[:8])
    counts = pixel_counts(few, np.ones_like(pixel_counts(few).counts))
    for place, entry in enumerate(entries):
        try:
            figures_by_class(counts, [entry])
        except SegzooError as error:
            raise ProblemAt(("output", "metrics", place), str(error)) from error


def monitored(name: str, classes: Sequence[str]) -> None:
    """Raise ProblemAt unless an evaluation computes a metric of this name."""
    known = ["mean_iou", "foreground_mean_iou", "pixel_accuracy", "loss", *(f"iou/{of}" for of in classes)]
    if name.removeprefix("val_") not in known:
        raise ProblemAt(("training", "monitor"), not_among("figure of an evaluation", name, known))


def one_source_of_weights(init_from: str | None, weights: str) -> None:
    """Raise ProblemAt if two sources of weights are given; with `init_from`, `weights: auto` counts as none."""
    if init_from is not None and weights not in ("auto", "none"):
        message = f"training.init_from brings the weights, so this must be auto or none, got {weights}"
        raise ProblemAt(("model", "weights"), message)


def plugins_are_loaded(names: Sequence[str], import_them: bool) -> None:
    """Import the plugins if the user asked for it; raise ProblemAt for one that cannot be imported or is not loaded."""
    from segzoo import plugins

    for index, name in enumerate(names):
        if import_them:
            try:
                plugins.load([name])
            except SegzooError as error:
                raise ProblemAt((index,), str(error)) from error
        elif plugins.missing([name]):
            options = " ".join(f"--plugin {other}" for other in plugins.missing(names))
            raise ProblemAt(
                (index,),
                f"{name} is code that this file wants to run, which only the configuration given to a command may. "
                f"If you trust it, name it yourself: {options}; in Python: segzoo.plugins.load([{name!r}])",
            )


def tracker_arguments(tracking: Mapping[str, dict[str, Any] | None]) -> None:
    """Check names and types of each tracker's settings against its constructor; raise ProblemAt at an invalid one."""
    from segzoo.tracking import TRACKERS

    for tracker, settings in tracking.items():
        if not settings:
            continue
        constructor = TRACKERS[tracker]  # its module does not import the tracker's package yet
        types, known = types_of(constructor), arguments_of(constructor, keyword_only=True)
        for name, value in settings.items():
            if name not in known:
                raise ProblemAt((tracker, name), not_among(f"setting of the tracker {tracker}", name, known))
            try:
                TypeAdapter(types[name], config=ConfigDict(strict=True)).validate_python(value)
            except ValidationError as error:
                told = error.errors()[0]["msg"].removeprefix("Input should be ")
                raise ProblemAt((tracker, name), f"expected {told}, got {given(value)}") from None


def renamed_loss_arguments(loss: Mapping[str, float | dict[str, Any]]) -> dict[str, float | dict[str, Any]]:
    """Return the losses with deprecated names of arguments replaced; ProblemAt if both names are given and differ."""
    from segzoo.losses.renamed import with_present_names

    found = dict(loss)
    for name, term in loss.items():
        if isinstance(term, dict):
            try:
                found[name] = with_present_names(name, term, stacklevel=4)
            except ValueError as error:
                raise ProblemAt((name,), str(error)) from None
    return found


def loss_arguments(loss: Mapping[str, float | dict[str, Any]]) -> None:
    """Check the arguments of each loss against its constructor; raise ProblemAt at an unknown one."""
    for name, term in loss.items():
        arguments = [key for key in term if key != "weight"] if isinstance(term, dict) else []
        if not arguments:
            continue
        from segzoo.losses import LOSSES
        from segzoo.losses.renamed import RENAMED

        known = ["weight", *(key for key in stated.loss_arguments(name) if key not in RENAMED.get(name, {}))]
        for argument in arguments:
            if argument not in known:
                raise ProblemAt((name, argument), not_among(f"argument of the loss {name}", argument, known))
        values = {argument: term[argument] for argument in arguments}  # type: ignore[index]
        if isinstance(values.get("class_weights"), str):
            from segzoo.losses.balance import SCHEMES

            scheme = values.pop("class_weights")
            if scheme not in SCHEMES:
                expected = f"a list of numbers, or {', '.join(SCHEMES)}"
                raise ProblemAt((name, "class_weights"), f"expected {expected}, got {given(scheme)}")
        try:
            if not stated.check_loss(name, values):
                LOSSES[name](**values)  # the framework was started where its source does not say what it takes
        except (TypeError, ValueError) as error:
            raise ProblemAt((name,), str(error)) from error


def losses_fit_the_mode(loss: Mapping[str, float | dict[str, Any]], mode: str) -> None:
    """Raise ProblemAt for a loss that does not support the mode, or has class weights in binary mode."""
    for name, term in loss.items():
        if mode == "binary" and isinstance(term, dict) and term.get("class_weights") is not None:
            cure = "binary_cross_entropy has pos_weight, sigmoid_focal alpha, tversky alpha and beta"
            raise ProblemAt(("loss", name, "class_weights"), f"binary mode has one class to weigh; {cure}")
        from segzoo.losses import LOSSES

        modes = stated.modes(name)
        if mode not in modes:
            others = [other for other in LOSSES if mode in stated.modes(other)]
            message = f"{name} has no mode {mode}, only {', '.join(modes)}; those that have it: {', '.join(others)}"
            raise ProblemAt(("loss", name), message)


def two_classes(classes: Sequence[str]) -> None:
    """Raise ProblemAt unless there are two classes, as binary mode requires."""
    if len(classes) != 2:
        message = f"binary needs two classes, the rest and the one looked for; there are {len(classes)}"
        raise ProblemAt(("mode",), message)


def one_class_weight_per_class(loss: Mapping[str, float | dict[str, Any]], classes: Sequence[str]) -> None:
    """Raise ProblemAt if a loss does not have one class weight per class."""
    for name, term in loss.items():
        weights = term.get("class_weights") if isinstance(term, dict) else None
        if weights is not None and not isinstance(weights, str) and len(weights) != len(classes):
            raise ProblemAt(
                ("loss", name, "class_weights"),
                f"{len(weights)} weights for {len(classes)} classes; give one per class: {listed(classes)}",
            )


def loss_term(value: object) -> object:
    """Check a weight or {weight: ..., **arguments}; raise ProblemAt if it is malformed."""
    if isinstance(value, dict):
        return {**value, "weight": _loss_weight(value.get("weight", 1.0), ("weight",))}
    return _loss_weight(value, ())


def _loss_weight(value: object, at: tuple[str, ...]) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        shape = "a number" if at else "a number or {weight: number, argument: value}"
        raise ProblemAt(at, f"expected {shape}, got {given(value)}")
    if not 0 < value < math.inf:
        raise ProblemAt(at, f"a weight is above 0, got {given(value)}; leave out a loss that is not wanted")
    return float(value)
