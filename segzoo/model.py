"""Assembly: names in, one functional Keras model out."""

from __future__ import annotations

import inspect
from typing import Any

import keras

from segzoo import backbones
from segzoo.decoders import DECODERS, SegmentationHead
from segzoo.errors import SegzooError, unknown_name
from segzoo.weights import apply_weights, is_path


def build_model(
    decoder: str,
    backbone: str,
    classes: int,
    *,
    taps: str | None = None,
    output_stride: int | None = None,
    weights: str = "auto",
    input_channels: int = 3,
    drop_path: float = 0.2,
    **options: Any,
) -> keras.Model:
    """Build a segmentation model: images `(B, H, W, 3)`, pixels 0..255, to float32 logits `(B, H, W, classes)`.

    The model is a plain functional `keras.Model`; any height and width from 32 on, odd ones too. Layers use the
    global dtype policy (`keras.config.set_dtype_policy("mixed_bfloat16")` for mixed precision).

    Args:
        decoder: registered name, see `segzoo.decoders.names()`.
        backbone: registered name, see `segzoo.backbones.names()`.
        classes: number of classes.
        taps: kind of taps, "expansion" or "output"; by default the family's default.
        output_stride: 8, 16 or 32; by default the decoder's, as in its paper.
        weights: "auto", "imagenet" or "none" for the backbone, or the path of a `.weights.h5` file for all that fits.
        input_channels: 3.
        drop_path: rate of the backbone's stochastic depth, 0..1.
        **options: the decoder's constructor arguments.

    Raises:
        UnknownNameError: no such decoder, backbone, taps or option.
        SegzooError: values that the backbone or decoder cannot take.
        WeightsError: weights that cannot be had or do not fit.

    Example:
        >>> model = segzoo.build_model("unet", backbone="efficientnet_b3", classes=12)
    """
    decoder_class = DECODERS[decoder]
    check_options(decoder, options)
    if classes < 1:
        raise SegzooError(f"classes must be at least 1, got {classes}.")
    stride = decoder_class.default_output_stride if output_stride is None else output_stride
    encoder = backbones.create(
        backbone,
        taps=taps,
        # Only what the decoder uses: a tap without a reader would leave weights without a gradient.
        levels=decoder_class.levels(stride),
        output_stride=stride,
        weights="none" if is_path(weights) else weights,
        input_channels=input_channels,
        drop_path=drop_path,
    )
    try:
        decoded = decoder_class(name="decoder", **options)(encoder.output)
    except (ValueError, TypeError) as error:
        raise SegzooError(f"Decoder {decoder!r} cannot be built with {options}: {error}") from error
    logits = SegmentationHead(classes, decoder_class.head_kernel, name="head")(decoded, encoder.input)
    model = keras.Model(encoder.input, logits, name=f"{decoder}_{backbone}")
    model.weights_report = encoder.weights_report
    if is_path(weights):
        apply_weights(model, weights)
    return model


def check_options(decoder: str, options: dict[str, Any]) -> None:
    """Raise UnknownNameError where `options` names what the decoder's constructor does not take."""
    parameters = inspect.signature(DECODERS[decoder].__init__).parameters
    known = [name for name in parameters if name not in ("self", "kwargs")]
    for name in options:
        if name not in known:
            raise unknown_name(f"option of decoder {decoder!r}", name, known)
