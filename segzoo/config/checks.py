"""Validators beyond types, for all sections but data: names by registry, arguments by signature.

The registries are imported inside the functions: validating a configuration loads a framework only where something
registered from outside, or a loss whose source does not say its arguments, is given arguments.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence, Sized
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from segzoo.arguments import arguments_of, types_of
from segzoo.backend import start_backend
from segzoo.compat import resolve
from segzoo.config import stated
from segzoo.config.fields import MOST
from segzoo.config.problems import ProblemAt, given, not_among
from segzoo.errors import ConfigError, SegzooError, listed
from segzoo.registry import Registry
from segzoo.task import Task


def decoder_name(name: str) -> str:
    """Return `name` if it is a registered decoder; otherwise raise ValueError, listing the decoders."""
    from segzoo.decoders import DECODERS

    DECODERS.check(name)
    return name


def backbone_name(name: str) -> str:
    """Return `name` if it is a registered backbone; otherwise raise ValueError, listing the backbones."""
    from segzoo.backbones import BACKBONES

    BACKBONES.check(name)
    return name


def loss_name(name: str) -> str:
    """Return `name` if it is a registered loss; otherwise raise ValueError, listing the losses."""
    from segzoo.losses import LOSSES

    LOSSES.check(name)
    return name


def optimizer_name(name: str) -> str:
    """Return `name` if it is a registered optimizer; otherwise raise ValueError, listing the optimizers."""
    from segzoo.optim import OPTIMIZERS

    OPTIMIZERS.check(name)
    return name


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


def schedule_name(name: str) -> str:
    """Return `name` if it is a registered schedule; otherwise raise ValueError, listing the schedules."""
    from segzoo.optim import SCHEDULES

    SCHEDULES.check(name)
    return name


def schedule_options(name: str, options: Mapping[str, Any]) -> None:
    """Check `schedule.options` against a schedule's constructor; raise ProblemAt at an invalid one."""
    if not options:
        return
    from segzoo.optim import SCHEDULES

    if SCHEDULES.is_built_in(name):
        raise ProblemAt(("options",), f"the schedule {name} has its options beside its name, such as warmup_steps")
    known = _parameters(SCHEDULES, name)[2:]  # after the peak and the number of updates
    for option in options:
        if option not in known:
            raise ProblemAt(("options", option), not_among(f"option of the schedule {name}", option, known))
    try:
        SCHEDULES[name](1e-3, 100, **options)
    except (TypeError, ValueError) as error:
        raise ProblemAt(("options",), str(error)) from error


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


def monitored(name: str, classes: Sequence[str]) -> None:
    """Raise ProblemAt unless an evaluation computes a metric of this name."""
    known = ["mean_iou", "foreground_mean_iou", "pixel_accuracy", "loss", *(f"iou/{of}" for of in classes)]
    if name.removeprefix("val_") not in known:
        raise ProblemAt(("training", "monitor"), not_among("figure of an evaluation", name, known))


def one_or_several(value: object) -> object:
    """Wrap a single name in a list."""
    return [value] if isinstance(value, str) else value


def one_source_of_weights(init_from: str | None, weights: str) -> None:
    """Raise ProblemAt if two sources of weights are given; with `init_from`, `weights: auto` counts as none."""
    if init_from is not None and weights not in ("auto", "none"):
        message = f"training.init_from brings the weights, so this must be auto or none, got {weights}"
        raise ProblemAt(("model", "weights"), message)


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


def tracker_name(name: str) -> str:
    """Return `name` if it is a registered tracker; otherwise raise ValueError, listing the trackers."""
    from segzoo.tracking import TRACKERS

    TRACKERS.check(name)
    return name


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


def renamed_compat(section: Any) -> Any:
    """Rename `imitate`, the name in segzoo 0.1.0, to `compat`; raise ProblemAt if both are given and differ."""
    if not isinstance(section, Mapping) or section.get("imitate") != "smp":
        return section
    try:
        compat = resolve(section.get("compat"), section["imitate"], stacklevel=4)
    except SegzooError as error:
        raise ProblemAt(("compat",), str(error)) from None
    return {**section, "compat": compat, "imitate": None}


def decoder_options(decoder: str, options: Mapping[str, Any]) -> None:
    """Check `model.options` against the decoder's constructor; raise ProblemAt at an unknown one."""
    if not options:
        return
    known = stated.decoder_options(decoder)
    for option in options:
        if option not in known:
            raise ProblemAt(("options", option), not_among(f"option of the decoder {decoder}", option, known))


def decoder_reads(decoder: str, backbone: str, auxiliary: Sized) -> None:
    """Check that a decoder of tokens has a backbone with them, and no heads on levels; raise ProblemAt otherwise."""
    from segzoo.backbones import BACKBONES
    from segzoo.decoders.table import OF_TOKENS

    if decoder not in OF_TOKENS:
        return
    if not BACKBONES[backbone].patch:
        smallest: dict[str, str] = {}
        for name in BACKBONES:
            if BACKBONES[name].patch:
                smallest.setdefault(BACKBONES[name].family, name)
        raise ProblemAt(
            ("decoder",),
            f"{decoder} reads the tokens of a plain vision transformer, and {backbone} makes a pyramid. Take one as "
            f"the backbone, such as {', '.join(smallest.values())}, or another decoder",
        )
    if auxiliary:
        raise ProblemAt(("auxiliary",), f"{decoder} reads tokens, which have no levels for auxiliary heads")


def backbone_options(backbone: str, taps: str | None, output_stride: int | None, weights: str) -> None:
    """Check that the backbone has these taps, output stride and preset; raise ProblemAt at one that it lacks."""
    from segzoo.backbones import BACKBONES

    variant = BACKBONES[backbone]  # a table: no framework is loaded
    if taps is not None and taps not in variant.tables:
        raise ProblemAt(("taps",), not_among(f"kind of taps of {backbone}", taps, variant.tables))
    if output_stride is not None:
        try:
            variant.levels(taps, output_stride)
        except SegzooError as error:
            raise ProblemAt(("output_stride",), str(error)) from None
    if weights.startswith("preset:") and weights.removeprefix("preset:") not in variant.presets:
        preset = weights.removeprefix("preset:")
        raise ProblemAt(("weights",), not_among(f"preset of {backbone}", preset, variant.presets))


def pixel_statistics(channels: int, mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
    """Check that mean and std are given together, with one number per channel; raise ProblemAt at the invalid one."""
    if (mean is None) != (std is None):
        raise ProblemAt(("mean" if std is None else "std",), "mean and std are given together or not at all")
    for key, values in (("mean", mean), ("std", std)):
        if values is not None and len(values) != channels:
            raise ProblemAt((key,), f"has {len(values)} numbers for images of {channels} channels")


def digest(weights: str, sha256: str | None) -> None:
    """Check that `sha256` is a SHA-256 digest and that `weights` is a file; raise ProblemAt otherwise."""
    if sha256 is None:
        return
    if not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ProblemAt(("weights_sha256",), f"must be 64 hexadecimal digits, got {given(sha256)}")
    if weights in ("auto", "imagenet", "none") or weights.startswith("preset:"):
        raise ProblemAt(("weights_sha256",), f"belongs to a weights file, but weights is {weights}")


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


def _parameters(registry: Registry, name: str) -> list[str]:
    start_backend()  # before the module imports the backend, so that TensorFlow's messages are suppressed
    return arguments_of(registry[name], stated.FILLED_IN)


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


def auto_or_open_fraction(value: object) -> object:
    """Check "auto" or a number strictly between 0 and 1."""
    if value == "auto":
        return value
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0.0 < value < 1.0:  # type: ignore[operator]
        raise ValueError(f"expected auto or a number between 0 and 1, got {given(value)}")
    return value


def auto_or_decay(value: object) -> object:
    """Check "auto", a number strictly between 0 and 1, or null."""
    return value if value is None else auto_or_open_fraction(value)


def auto_or_positive(value: object) -> object:
    """Check "auto", a number above 0, or null."""
    if value is None or value == "auto":
        return value
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0.0 < value < math.inf:  # type: ignore[operator]
        raise ValueError(f"expected auto, a number above 0 or null, got {given(value)}")
    return value


def auto_or_count(value: object) -> object:
    """Check "auto" or a whole number from 1 on."""
    number = isinstance(value, int) and not isinstance(value, bool)
    if value != "auto" and not (number and 1 <= value <= MOST):  # type: ignore[operator]
        raise ValueError(f"expected auto or a whole number from 1 to {MOST:,}, got {given(value)}")
    return value


def seconds(value: object) -> float:
    """Read a time span: a number of seconds, or numbers with units as in 2h, 1h30m, 45s, 1d."""
    if isinstance(value, str):
        digits = r"([0-9]{1,12})"
        parts = re.fullmatch(rf"(?:{digits}d)?(?:{digits}h)?(?:{digits}m)?(?:{digits}s)?", value.strip().lower())
        if not value.strip() or parts is None:
            wanted = "expected a time span such as 90m, 1h30m or 2d, or a number of seconds"
            raise ValueError(f"{wanted}, got {given(value)}")
        value = float(sum(int(n or 0) * unit for n, unit in zip(parts.groups(), (86400, 3600, 60, 1), strict=True)))
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"expected a time span above 0 such as 90m, or a number of seconds, got {given(value)}")
    return float(value)


def no_fraction(value: object) -> object:
    """Refuse 8.0 for 8: a Literal compares with ==, and would accept it."""
    if isinstance(value, float):
        raise ValueError(f"expected a whole number, got {value}")
    return value
