"""Metadata of a model file: classes, colours, mode, pixels and origin, as JSON that every export carries.

A file may come from anybody, so its JSON is bounded and checked before anything is made of it.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, TypeAdapter, ValidationError

from segzoo.errors import SegzooError, shortened
from segzoo.task import Mode, Task, threshold_count

KEY = "segzoo"
"""Name of the entry in the file that holds the JSON."""

MOST = 2**20
"""Largest size of the JSON, in bytes: that of ten thousand classes."""

_Name = Annotated[str, Field(min_length=1, max_length=1000)]
_Byte = Annotated[int, Field(ge=0, le=255)]
_Number = Annotated[float, Field(allow_inf_nan=False)]
_Threshold = Annotated[float, Field(gt=0, lt=1)]
_Count = Annotated[int, Field(ge=1, le=65536)]
_Options = Annotated[dict[str, JsonValue], Field(max_length=1000)]


@dataclasses.dataclass(frozen=True)
class Reading:
    """Options of `segzoo.data.ImageReader`, which turn an image file into the pixels that the model takes.

    Attributes:
        bands: bands of a GeoTIFF in the order of the model's channels, the first being 1; None: all.
        value_range: (low, high) of stored values, which become 0 and 255; None: 8 bits stay as they are.
        alpha: treatment of transparency: "drop", "black" or "white".
        upright: turn photographs as their EXIF orientation says.
    """

    bands: tuple[_Count, ...] | None = None
    value_range: tuple[_Number, _Number] | None = None
    alpha: Literal["drop", "black", "white"] = "drop"
    upright: bool = False


@dataclasses.dataclass(frozen=True)
class Network:
    """Arguments of `segzoo.build_model` that build the network anew, but for the number of logits and the weights.

    Attributes:
        decoder: registered name of the decoder.
        backbone: registered name of the backbone.
        options: options of the decoder, and those of the backbone that differ from their defaults.
    """

    decoder: _Name
    backbone: _Name
    options: _Options = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelMetadata:
    """Metadata of a model that takes pixels 0..255, `(B, H, W, channels)`.

    Attributes:
        classes: class names, in the order of their labels.
        mode: "multiclass", "binary" or "multilabel".
        channels: number of image channels.
        size: the only height and width that the model takes, one image at a time; None: any.
        output: "logits", `(B, H, W, C)`, with one logit in binary mode; or "classes", the labels `(B, H, W)`, in
            multilabel 0 and 1 `(B, H, W, classes)`.
        precision: numbers of the file: "float32", "float16", "int8" (weights and activations) or "dynamic" (weights
            alone, activations when the model runs), or another of a registered format.
        value_range: pixel values that the model takes as black and white.
        colours: RGB colours of the classes, 0..255; None if nobody chose any.
        background: label that pictures leave untinted; None if there is no such class.
        thresholds: probabilities 0..1 above which a class is predicted, in binary mode one, in multilabel one for each
            class; None: 0.5.
        reading: conversion of image files to pixels.
        network: architecture; None for a network that segzoo did not build.
        license: identifier of the licence; None if nothing was stated.
        version: version of segzoo that wrote the file.
        format: version of this description.

    Raises:
        ValueError: values that contradict each other.
    """

    classes: Annotated[tuple[_Name, ...], Field(min_length=1, max_length=65536)]
    mode: Mode = "multiclass"
    channels: _Count = 3
    size: tuple[_Count, _Count] | None = None
    output: Literal["logits", "classes"] = "logits"
    precision: _Name = "float32"
    value_range: tuple[_Number, _Number] = (0, 255)
    colours: tuple[tuple[_Byte, _Byte, _Byte], ...] | None = None
    background: Annotated[int, Field(ge=0)] | None = None
    thresholds: tuple[_Threshold, ...] | None = None
    reading: Reading = dataclasses.field(default_factory=Reading)
    network: Network | None = None
    license: _Name | None = None
    version: _Name = "unknown"
    format: Literal[1] = 1

    def __post_init__(self) -> None:
        count = len(self.classes)
        if len(set(self.classes)) < count:
            raise ValueError("two classes have the same name")
        if not all(name.isprintable() for name in self.classes):
            raise ValueError("the name of a class holds control characters")
        if self.mode == "binary" and count != 2:
            raise ValueError(f"binary mode has two classes, not {count}")
        if self.colours is not None and len(self.colours) != count:
            raise ValueError(f"there are {len(self.colours)} colours for {count} classes")
        if self.background is not None and self.background >= count:
            raise ValueError(f"the background is class {self.background} of {count}")
        if self.thresholds is not None and len(self.thresholds) != threshold_count(self.mode, count):
            raise ValueError(f"there are {len(self.thresholds)} thresholds for {count} classes in {self.mode} mode")
        for low, high in filter(None, (self.value_range, self.reading.value_range)):
            if not low < high:
                raise ValueError(f"the range of values {low:g} to {high:g} is empty")
        if self.reading.bands is not None and len(self.reading.bands) != self.channels:
            raise ValueError(f"there are {len(self.reading.bands)} bands for {self.channels} channels")

    @property
    def task(self) -> Task:
        """Classes and mode; the ignore index, which only masks have, is the default one."""
        return Task(self.classes, mode=self.mode)

    def to_json(self) -> str:
        """Return one line of JSON in ASCII, which every container of strings holds unchanged."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes, origin: Path | str) -> ModelMetadata:
        """Read and check the JSON of a file.

        Args:
            text: the JSON.
            origin: file that it was found in, for messages.

        Raises:
            SegzooError: it is too large, no such JSON, of another format, or contradicts itself.
        """
        if len(text) > MOST:
            raise _unusable(origin, f"it has {len(text):,} characters, and {MOST:,} are the most")
        try:
            return _adapter().validate_json(text, strict=True)
        except ValidationError as error:
            raise _unusable(origin, _reason(error)) from None


def plain(value: Any) -> Any:
    """Convert options to what JSON gives back: mappings to dict, tuples to lists; other objects to their text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


@functools.cache
def _adapter() -> TypeAdapter[ModelMetadata]:
    return TypeAdapter(ModelMetadata)


def _reason(error: ValidationError) -> str:
    """Return the first error as words: the key, and what is wrong with it."""
    first = error.errors(include_url=False, include_context=False)[0]
    key = ".".join(map(str, first["loc"]))
    if key == "format":
        return (
            f"it is of format {shortened(str(first['input']))}, and this version of segzoo reads format 1 "
            "(a newer segzoo may read it)"
        )
    message = first["msg"].removeprefix("Value error, ")
    return f"{shortened(key)}: {message}" if key else message


def _unusable(origin: Path | str, reason: str) -> SegzooError:
    return SegzooError(
        f"{origin}: its metadata, the entry {KEY!r}, cannot be used: {reason.rstrip('.')}. Export the model again by "
        "segzoo export, or give the classes yourself."
    )
