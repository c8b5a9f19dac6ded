"""Wrapping of a user's Keras model as a backbone."""

from __future__ import annotations

import math
from collections.abc import Mapping

import keras
import numpy as np

from segzoo.errors import SegzooError, unknown_name
from segzoo.layers import ResizeToStride
from segzoo.levels import LEVELS

# Sizes at which strides are measured where the model takes any: one that all strides divide, and one that none does.
_SIZES = ((192, 256), (161, 223))


def wrap(model: keras.Model, levels: Mapping[str, str], name: str | None = None) -> keras.Model:
    """Make a backbone of a functional model: `wrap(model, {"P2": "layer_name", ...})`.

    The result shares the model's layers and weights. Any decoder accepts its features, and `segzoo.build_model`
    accepts it instead of a backbone's name. Preprocessing is part of the model: segzoo's data pipeline yields pixels
    0..255, so start the model with a `keras.layers.Rescaling` if it expects another range.

    Strides are measured by running the model. Feature maps that are a few rows smaller than `ceil(size / stride)`,
    because of missing padding, are resized to it.

    Args:
        model: functional model of images `(B, H, W, C)`, with any output.
        levels: level, "P1" to "P5", to the name of the layer that provides it; level Pn has stride 2^n.
        name: name of the backbone; by default that of the model.

    Raises:
        UnknownNameError: an unknown layer or level.
        SegzooError: a model with several inputs, a layer whose output is not a feature map, or one with a wrong stride.
    """
    if not isinstance(model.input, keras.KerasTensor) or len(model.input.shape) != 4:
        raise SegzooError(f"{model.name} must have one input of images (B, H, W, C), got {model.input}.")
    if not levels:
        raise SegzooError('levels is empty; give at least one, such as {"P5": "name of the last layer"}.')
    layers = {layer.name: layer for layer in model.layers}
    taps = {}
    for level, layer in levels.items():
        if level not in LEVELS:
            raise unknown_name("level", level, LEVELS)
        if layer not in layers:
            raise unknown_name(f"layer of {model.name}", layer, layers)
        taps[level] = layers[layer].output
        if not isinstance(taps[level], keras.KerasTensor) or len(taps[level].shape) != 4:
            raise SegzooError(f"Layer {layer} of {model.name} gives {taps[level]}, not one map (B, h, w, C).")
    measured = _sizes(keras.Model(model.input, taps))
    features = {}
    for level in sorted(taps):
        exact = [_check_stride(level, levels[level], image, maps[level]) for image, maps in measured.items()]
        align = ResizeToStride(2 ** int(level[1:]), name=f"align_{level}")
        features[level] = taps[level] if all(exact) else align(taps[level], model.input)
    return keras.Model(model.input, features, name=name or model.name)


def _sizes(network: keras.Model) -> dict[tuple[int, int], dict[str, tuple[int, int]]]:
    """Map the size of an image to the sizes of the maps."""
    _, height, width, channels = network.input.shape
    found = {}
    for rows, columns in _SIZES if None in (height, width) else ((height, width),):
        size = (height or rows, width or columns)
        try:
            maps = network(np.zeros((1, *size, channels or 3), "float32"), training=False)
        except Exception as error:  # whatever the user's layers raise
            raise SegzooError(f"{network.name} does not take an image of {size[0]} x {size[1]}: {error}") from error
        found[size] = {level: (int(one.shape[1]), int(one.shape[2])) for level, one in maps.items()}
    return found


def _check_stride(level: str, layer: str, image: tuple[int, int], found: tuple[int, int]) -> bool:
    """Return True if a map has exactly the level's size; SegzooError if it has another stride."""
    number = int(level[1:])
    stride = 2**number
    wanted = tuple(-(-size // stride) for size in image)
    # A network without padding loses rows, which makes its stride look larger, but not twice as large.
    ratios = [size / max(1, own) for size, own in zip(image, found, strict=True)]
    if any(round(math.log2(ratio)) != number for ratio in ratios):
        served = f"P{round(math.log2(ratios[0]))}"
        hint = f"It would serve {served}." if served in LEVELS else "No level has that stride."
        raise SegzooError(
            f"{level} has stride {stride}, so an image of {image[0]} x {image[1]} needs a map of {wanted[0]} x "
            f"{wanted[1]}, but layer {layer} gives {found[0]} x {found[1]}, a stride of about {ratios[0]:.3g}. {hint}"
        )
    return found == wanted
