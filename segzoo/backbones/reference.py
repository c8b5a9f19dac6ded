"""Reference networks that backbones are derived from, with layer names independent of earlier builds."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from segzoo.backbones.spec import Variant
from segzoo.initial_values import drawn_in_blocks
from segzoo.keras_compat import kind_name, without_variables
from segzoo.registry import find

# Built at a size that every stride divides: NASNet compares sizes to find where its cells stride.
_SIZE = 256


def build(variant: Variant, weights: str | None = None, size: tuple[int, int] = (_SIZE, _SIZE)) -> keras.Model:
    """Build the variant's network for images of `size`, without classifier.

    Args:
        variant: variant to build.
        weights: None, "imagenet", or one of the variant's presets.
        size: height and width.
    """
    if variant.package and weights == "imagenet":
        if not variant.presets:
            raise ValueError(f"{variant.package} publishes none of it")
        weights = variant.presets[0]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`input_shape` is undefined or non-square")
        constructor = (
            find(variant.constructor)
            if ":" in variant.constructor
            else getattr(keras.applications, variant.constructor)
        )
        with drawn_in_blocks():
            return constructor(include_top=False, weights=weights, input_shape=(*size, 3))


def structure(variant: Variant, size: tuple[int, int] = (_SIZE, _SIZE)) -> keras.Model:
    """Build the variant's network without its variables, to inspect its layers and tensors only.

    Creating and initialising the variables takes three quarters of the time of `build`.
    """
    with without_variables():
        return build(variant, size=size)


def part(network: keras.Model, outputs: Any) -> keras.Model:
    """Return the part of a `structure` that computes `outputs`, any nest of its tensors."""
    with keras.StatelessScope():  # outside of it Keras hands the variables, which are not there, to torch
        return keras.Model(network.input, outputs)


def preprocess(variant: Variant, pixels: Any, weights: str = "imagenet") -> Any:
    """Preprocess pixels 0..255 with the family's own function, as the network with these weights expects."""
    if variant.package == "keras-cv":
        return pixels  # its networks begin with their preprocessing
    if variant.package == "keras-hub":
        from segzoo.backbones.packages import import_package

        preset = variant.presets[0] if weights == "imagenet" else weights
        converter = import_package("keras_hub").layers.ImageConverter.from_preset(preset)
        scale, offset = (
            default if own is None else own for own, default in ((converter.scale, 1), (converter.offset, 0))
        )
        return pixels * np.asarray(scale, "float32") + np.asarray(offset, "float32")
    if ":" in variant.constructor:
        return variant.beside("preprocess_input")(pixels)
    module = getattr(keras.applications, {"vgg": "vgg16"}.get(variant.family, variant.family))
    return module.preprocess_input(pixels)


def names(network: keras.Model) -> dict[int, str]:
    """Map the id of every operation of a network, nested Sequentials included, to its name in a fresh process.

    Keras numbers unnamed layers per process: "activation_94" in one build is "activation" in another.
    """
    operations = list({id(operation): operation for operation in (*network.operations, *flat(network))}.values())
    numbers: dict[str, list[int]] = {}
    for operation in operations:
        kind, number = _numbered(operation)
        if number is not None:
            numbers.setdefault(kind, []).append(number)
    found = {}
    for operation in operations:
        kind, number = _numbered(operation)
        place = None if number is None else number - min(numbers[kind])
        found[id(operation)] = operation.name if place is None else f"{kind}_{place}" if place else kind
    return found


def flat(network: keras.Model) -> Iterator[Any]:
    """Return every operation of a network, with nested Sequentials flattened."""
    for operation in network.operations:
        if isinstance(operation, keras.Sequential):
            yield from operation.layers
        else:
            yield operation


def _numbered(operation: Any) -> tuple[str, int | None]:
    """Split a name that Keras generated into the kind of operation and its number; None if it was given in code."""
    kind = kind_name(operation)
    match = re.fullmatch(rf"{kind}(?:_(\d+))?", operation.name)
    return kind, int(match[1] or 0) if match else None
