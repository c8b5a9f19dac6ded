"""The formats of masks: how files say which class a pixel has. Each is one module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segzoo.arguments import arguments_of
from segzoo.data.formats.contract import FindsMasks, Labels, MaskFormat
from segzoo.data.formats.table import MASK_FORMATS
from segzoo.errors import ConfigError, unknown_name

__all__ = ["MASK_FORMATS", "FindsMasks", "Labels", "MaskFormat", "check_format", "create_format", "resolved"]


def create_format(name: str, labels: Labels, **options: Any) -> MaskFormat:
    """Build the mask format registered as `name`.

    Args:
        name: a key of `MASK_FORMATS`.
        labels: the classes that its masks are made of.
        **options: the format's own, see its class; and for every format `missing`, what an image without a mask is:
            "background", an image that shows nothing, or "error".

    Raises:
        UnknownNameError: an unknown format.
        ConfigError: an unknown or invalid option, or an unsupported mode.
    """
    kind = MASK_FORMATS[name]
    settings = f"({name!r}, {labels.settings}, {sorted(options.items(), key=lambda option: str(option[0]))!r})"
    missing = options.pop("missing", None)
    if missing not in (None, "error", "background"):
        raise ConfigError(f"masks.missing must be background or error, got {missing!r}.")
    known = arguments_of(kind, {"labels"})
    for option in options:
        if option not in known:
            raise ConfigError(str(unknown_name(f"option of masks: {name}", option, [*known, "missing"])))
    if labels.mode not in kind.modes:
        having = ", ".join(other for other in MASK_FORMATS if labels.mode in MASK_FORMATS[other].modes)
        mode = "multilabel" if labels.multilabel else "multiclass and binary"
        raise ConfigError(f"masks: {name} does not go with mode: {mode}. What does: {having}.")
    try:
        made: MaskFormat = kind(labels, **options)
    except (TypeError, ValueError, AttributeError) as error:  # a value of a type that the option cannot have
        raise ConfigError(f"masks: {name} cannot use its options {options}: {error}.") from error
    made.settings = settings
    if missing is not None:
        made.missing = missing
    return made


def resolved(masks: Mapping[str, Any]) -> dict[str, Any]:
    """Return {format: name, option: value, ...} with what files of options hold in place of their paths.

    So the configuration of a run stands by itself: a model is rebuilt where its data set is not.

    Raises:
        UnknownNameError: an unknown format.
        ConfigError: the file cannot be read.
    """
    kind = MASK_FORMATS[str(masks["format"])]
    return {**masks, **(kind.resolved(masks) if hasattr(kind, "resolved") else {})}


def check_format(masks: Mapping[str, Any], labels: Labels) -> None:
    """Raise what `create_format` raises for {format: name, option: value, ...}; reads no mask."""
    create_format(str(masks["format"]), labels, **{key: value for key, value in masks.items() if key != "format"})
