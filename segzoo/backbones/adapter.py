"""Turns a reference network into a backbone: own preprocessing, any input size, dilation, cut at the deepest tap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from segzoo.backbones import BACKBONES
from segzoo.backbones.contract import Variant
from segzoo.errors import SegzooError, unknown_name
from segzoo.layers import BatchNormalization, DepthwiseConv2D, PixelNormalization
from segzoo.weights import apply_weights

# The reference is built at a size that every stride divides, so that its shapes tell each layer's stride.
_REFERENCE_SIZE = 512
_REFERENCE_DROP_PATH = 0.2


def create(
    name: str,
    *,
    taps: str | None = None,
    levels: Sequence[str] | None = None,
    output_stride: int = 32,
    weights: str = "auto",
    input_channels: int = 3,
    drop_path: float = _REFERENCE_DROP_PATH,
) -> keras.Model:
    """Build a backbone: a model from images `(B, H, W, 3)`, pixels 0..255 and any H and W, to a dict of features.

    Feature "Pn" is `(B, ceil(H / 2^n), ceil(W / 2^n), channels)`. Layers keep their names in keras.applications; the
    network is cut at the deepest tap in use.

    Args:
        name: registered name, see `segzoo.backbones.names()`.
        taps: "expansion" or "output", the kind of taps; by default the family's default.
        levels: which of "P1" to "P5" to return; by default all that the output stride leaves.
        output_stride: 32, 16 or 8. Below 32 the strides of the last stages are taken out and what follows is dilated
            (Chen et al., 2017), and the levels end at P4 or P3.
        weights: "auto", "imagenet", "none" or the path of a `.weights.h5` file.
        input_channels: 3.
        drop_path: rate of stochastic depth at the deepest block, 0..1, falling linearly to the first.

    Raises:
        UnknownNameError: no such backbone, taps or level.
        SegzooError: an output stride other than 8, 16, 32; channels other than 3; a drop path outside 0..1.
        WeightsError: weights that cannot be had or do not fit.
    """
    variant: Variant = BACKBONES[name]
    if input_channels != 3:
        raise SegzooError(f"input_channels must be 3, got {input_channels}: {name} reads RGB images.")
    if not 0 <= drop_path < 1:
        raise SegzooError(f"drop_path must be in 0..1 (1 excluded), got {drop_path}.")
    available = variant.levels(taps, output_stride)
    levels = tuple(levels or available)
    for level in levels:
        if level not in available:
            raise unknown_name(f"level of {name} at output stride {output_stride}", level, available)
    reference = getattr(keras.applications, variant.constructor)(
        include_top=False, weights=None, input_shape=(_REFERENCE_SIZE, _REFERENCE_SIZE, 3)
    )
    outputs = {level: reference.get_layer(available[level].layer).output for level in levels}
    model = _adapt(keras.Model(reference.input, outputs), variant, output_stride, drop_path)
    apply_weights(model, weights, backbone=variant)
    return model


def _adapt(reference: keras.Model, variant: Variant, output_stride: int, drop_path: float) -> keras.Model:
    """Copy the reference's graph with own preprocessing and normalisation, "same" padding and dilation."""
    size = reference.input.shape[1]
    padded = {id(layer.output): layer for layer in reference.layers if isinstance(layer, keras.layers.ZeroPadding2D)}
    removed = (keras.layers.Normalization, keras.layers.ZeroPadding2D)

    def renew(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = {**layer.get_config(), "dtype": keras.config.dtype_policy()}
        if isinstance(layer, keras.layers.Rescaling):
            pixels = variant.pixels
            return PixelNormalization(pixels.scale, pixels.mean, pixels.std, name="preprocessing")
        if isinstance(layer, keras.layers.BatchNormalization):
            # Momentum: BatchNormalization's own default says why.
            return BatchNormalization(epsilon=config["epsilon"], name=layer.name)
        if isinstance(layer, keras.layers.Dropout):
            config["rate"] *= drop_path / _REFERENCE_DROP_PATH
        if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            pad = padded.get(id(layer.input))
            # Explicit padding enlarges the map: its stride can be told from the size before it only.
            height = (pad or layer).input.shape[1]
            stride = size // height if height > 1 else 1
            config.update(_dilated(config, stride, output_stride))
            if pad is not None:
                # Explicit padding before a "valid" convolution is right for even sizes only; "same" is equal to it
                # there, and right for odd sizes too.
                config["padding"] = "same"
        kind = DepthwiseConv2D if isinstance(layer, keras.layers.DepthwiseConv2D) else type(layer)
        return kind.from_config(config)

    def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        skip = isinstance(layer, removed) or (isinstance(layer, keras.layers.Dropout) and layer.rate == 0)
        return args[0] if skip else layer(*args, **kwargs)

    images = keras.Input((None, None, 3), name="image")
    model = keras.models.clone_model(reference, input_tensors=images, clone_function=renew, call_function=call)
    # Outputs must be a dict by level again: the clone keeps the structure of the reference's outputs.
    return keras.Model(images, model.output, name=variant.name)


def _dilated(config: dict[str, Any], stride: int, output_stride: int) -> dict[str, Any]:
    """Strides and dilation of a convolution whose input lies at `stride` in the reference network."""
    steps = config["strides"][0] if isinstance(config["strides"], list | tuple) else config["strides"]
    if stride * steps <= output_stride:
        return {}
    rate = max(1, stride // output_stride)
    kept = max(1, output_stride // stride) if stride < output_stride else 1
    return {"strides": (kept, kept), "dilation_rate": (rate, rate)}
