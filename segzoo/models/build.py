"""Assembly of a backbone, a decoder and heads into one functional Keras model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

import keras

from segzoo import backbones
from segzoo.backbones import BACKBONES
from segzoo.backbones.options import BackboneOptions
from segzoo.backbones.spec import Variant
from segzoo.backbones.surgery import freeze_statistics
from segzoo.decoders import DECODERS, Decoder, SegmentationHead
from segzoo.decoders.base import AuxiliaryHead, ClassificationHead, number
from segzoo.errors import SegzooError, UnknownNameError, WeightsError, shortened, unknown_name, wrong_type
from segzoo.initial_values import drawn_in_blocks
from segzoo.levels import IMAGE, LEVELS, TOKENS, check_list
from segzoo.models.outputs import LOGITS, PRESENCE
from segzoo.models.remat import RematModel
from segzoo.weights import WeightsReport, apply_weights, as_text, is_path


def build_model(
    decoder: str | Decoder,
    backbone: str | keras.Model,
    classes: int,
    *,
    weights: str | os.PathLike[str] | None = "auto",
    backbone_options: BackboneOptions | None = None,
    weights_sha256: str | None = None,
    auxiliary: Sequence[str] = (),
    classification: bool = False,
    remat: bool = False,
    **options: Any,
) -> keras.Model:
    """Build a segmentation model: images `(B, H, W, C)`, pixels 0..255, to float32 logits `(B, H, W, classes)`.

    The model is a plain functional `keras.Model`; any height and width from 32 on, odd ones too. Layers use the
    global dtype policy (`keras.config.set_dtype_policy("mixed_bfloat16")` for mixed precision).

    With heads for the training alone - `auxiliary`, `classification`, U-Net++ with `deep_supervision` - the model
    returns a dict: "logits" as above, "auxiliary_P4" and "supervised1" and so on of the same shape, and "presence"
    `(B, classes)`. `logits_only` makes of it the model to predict with, of the same layers.

    Args:
        decoder: registered name, see `segzoo.decoders.names()`, or a new decoder with the options that it has, such as
            `segzoo.decoders.UNet(channels=...)`: it becomes the model's layer "decoder".
        backbone: registered name, see `segzoo.backbones.names()`, or a backbone made by `segzoo.backbones.wrap`, or any
            model from images to a dict of features, which takes no options but `weights`, the path of a file, and
            `compat`, for the decoder.
        classes: number of classes.
        weights: "auto", "imagenet", "none" (or None) or "preset:NAME" for the backbone, or the path of a `.weights.h5`
            file for all that fits; "auto" leaves it to `backbone_options`.
        backbone_options: see `segzoo.backbones.BackboneOptions`; by default its defaults. `output_stride` is by default
            the decoder's. With `compat="smp"` the model is the network of segmentation_models.pytorch, so that its
            weights give its logits: the backbone pads and dilates as there, and taps, output stride and the decoder's
            options are its where none are given (docs/smp.md); "smp-0.1.0" does what `imitate="smp"` of segzoo 0.1.0
            did, to the backbone alone.
        weights_sha256: digest of that file in hexadecimal; another file is refused before it is read.
        auxiliary: levels of the backbone, such as "P4", that get a segmentation head of their own.
        classification: also say which classes are in the image, from the deepest level.
        remat: train with few activations in memory and compute the others again backward: a `RematModel`.
        **options: the decoder's constructor arguments, and single options of the backbone, which override those in
            `backbone_options`: `taps`, `output_stride`, `input_channels`, `mean`, `std`, `drop_path`,
            `trainable`, `batch_norm` and `compat`.

    Raises:
        UnknownNameError: no such decoder, backbone, taps or option.
        SegzooError: invalid options of the backbone or decoder.
        WeightsError: weights that are unavailable or do not match.

    Example:
        >>> model = segzoo.build_model("unet", backbone="efficientnet_b3", classes=12)
    """
    named = {name: options.pop(name) for name in [*BackboneOptions.names(), "imitate"] if name in options}
    if weights != "auto":
        named["weights"] = weights
    of_backbone = BackboneOptions.of(backbone_options).changed(named)
    if not isinstance(classes, Integral):
        raise wrong_type("classes", "their number", classes)
    if classes < 1:
        raise SegzooError(f"classes must be at least 1, got {classes}.")
    check_list("auxiliary", auxiliary)
    if not isinstance(backbone, str | keras.Model):
        raise UnknownNameError(
            f"backbone is the name of one, such as {next(iter(BACKBONES))!r}, or a keras.Model, such as "
            f"segzoo.backbones.wrap returns, not {shortened(str(backbone))}."
        )
    if isinstance(decoder, Decoder):
        instance, decoder_class = decoder, type(decoder)
        decoder, options = _unused(decoder, options)
    else:
        instance, decoder_class = None, DECODERS[decoder]
        check_options(decoder, options)
    preset = {} if instance is not None else dict(decoder_class.compat.get(of_backbone.compat or "", {}))
    default_stride = preset.pop("output_stride", decoder_class.default_output_stride)
    assumed = preset.keys() - options.keys()
    options = {**preset, **options}
    weights = as_text(of_backbone.weights)
    if isinstance(backbone, str):
        variant = BACKBONES[backbone]
        options = _fit_patch(options, decoder_class, variant)
        taps = variant.default_taps(of_backbone.compat) if of_backbone.taps is None else of_backbone.taps
        stride = of_backbone.output_stride
        if stride is None:
            stride = 32 if variant.undilated else default_stride
        available = (*variant.levels(taps, stride), *variant.inner_levels(taps, stride))
        # Only what is used: a tap without a reader would leave weights without a gradient.
        levels = _levels(decoder_class, stride, available, options, auxiliary)
        own = "none" if is_path(weights) else weights
        if weights_sha256 is not None and own != "none":
            raise WeightsError(f"A SHA-256 digest belongs to a weights file, but weights is {weights}.")
        encoder = backbones.create(backbone, of_backbone, levels=levels, taps=taps, output_stride=stride, weights=own)
    else:
        encoder = _cut_for(decoder_class, backbone, options, auxiliary)
        if weights not in ("auto", "none") and not is_path(weights):
            raise SegzooError(f"A wrapped backbone has its own weights: weights is 'none' or a file, not {weights!r}.")
        if odd := [name for name in of_backbone.given() if name not in ("weights", "compat")]:
            raise SegzooError(
                f"A wrapped backbone is taken as it is; {', '.join(odd)} can only be given with the name of a backbone."
            )
    images = encoder.input
    features = {IMAGE: images, **encoder.output}
    read = decoder_class.levels(_stride(features), tuple(sorted(features)), **options)
    with drawn_in_blocks():
        try:
            layer = decoder_class(name="decoder", **options) if instance is None else instance
            layer.assumed = assumed
            decoded = layer({level: features[level] for level in read})
        except (ValueError, TypeError) as error:
            raise SegzooError(f"Decoder {decoder!r} cannot be built with {options}: {error}") from error
        outputs = decoded if isinstance(decoded, dict) else {"decoded": decoded}
        outputs = {
            LOGITS if name == "decoded" else name: SegmentationHead(
                classes,
                layer.head_kernel,
                layer.head_interpolation,
                name="head" if name == "decoded" else f"{name}_head",
            )(x, images)
            for name, x in outputs.items()
        }
        for level in auxiliary:
            outputs[f"auxiliary_{level}"] = AuxiliaryHead(classes, name=f"auxiliary_{level}")(features[level], images)
        if classification:
            deepest = max(name for name in features if name in (*LEVELS, *TOKENS))
            outputs[PRESENCE] = ClassificationHead(classes, name=PRESENCE)(features[deepest])
    result = outputs if len(outputs) > 1 else outputs[LOGITS]
    model = (RematModel if remat else keras.Model)(images, result, name=f"{decoder}_{encoder.name}")
    model.weights_report = encoder.weights_report
    model.built_with = getattr(encoder, "built_with", {})
    model.batch_norm = getattr(encoder, "batch_norm", None)  # a wrapped backbone is left as it is
    if is_path(weights):
        apply_weights(model, weights, sha256=weights_sha256)
        if isinstance(backbone, str):
            freeze_statistics(encoder, of_backbone.batch_norm, model.weights_report)
            model.batch_norm = encoder.batch_norm
    return model


def _unused(decoder: Decoder, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Rename a decoder to "decoder" for a new model; return the name of its class and its options.

    Raises:
        SegzooError: it is a layer of another model, or is combined with options.
    """
    kind = type(decoder).__name__
    if options:
        raise SegzooError(f"The decoder {kind} has its options already; give {', '.join(options)} to its constructor.")
    if decoder.built:
        raise SegzooError(f"The decoder {kind} is a layer of another model already; make a new one.")
    decoder.name = "decoder"
    return kind.lower(), {name: getattr(decoder, name) for name in decoder.options()}


def logits_only(model: keras.Model) -> keras.Model:
    """Return the inference model: `model` without the heads used in training only, of the same layers."""
    if not isinstance(model.output, dict):
        return model
    plain = keras.Model(model.input, model.output[LOGITS], name=model.name)
    if hasattr(model, "weights_report"):  # a model of the caller's may have none
        plain.weights_report = model.weights_report
    return plain


def _levels(
    decoder_class: type[Decoder],
    stride: int,
    available: tuple[str, ...],
    options: Mapping[str, Any],
    auxiliary: Sequence[str],
) -> tuple[str, ...]:
    """Return the levels of the backbone that the decoder and the auxiliary heads read."""
    read = [level for level in decoder_class.levels(stride, available, **options) if level != IMAGE]
    if auxiliary and not set(read) & set(LEVELS):
        raise SegzooError(
            f"auxiliary: {decoder_class.__name__} reads tokens, which have no levels. Leave it out, or take a decoder "
            "that reads a pyramid."
        )
    for level in auxiliary:
        if level not in available or number(level) > number(read[-1]):
            usable = [name for name in available if name in LEVELS and number(name) <= number(read[-1])]
            raise SegzooError(f"auxiliary: there is no level {level!r} here; it can be one of {', '.join(usable)}.")
    return tuple(sorted({*read, *auxiliary}))


def _stride(features: Iterable[str]) -> int:
    """Return the stride of the deepest of these features; 32 for tokens, which have no levels."""
    return 2 ** max((number(level) for level in features if level in LEVELS), default=5)


def _fit_patch(options: dict[str, Any], decoder: Decoder | type[Decoder], variant: Variant) -> dict[str, Any]:
    """Return a decoder's options with the size of the backbone's patches, where it reads their tokens.

    Raises:
        SegzooError: another size is given.
    """
    if "patch" not in decoder.options() or not variant.patch:
        return options
    given = options.get("patch", variant.patch)
    if given != variant.patch:
        raise SegzooError(f"The decoder has patch: {given}, but patches of {variant.name} are {variant.patch} pixels.")
    return {**options, "patch": variant.patch}


def _cut_for(
    decoder_class: type[Decoder], backbone: keras.Model, options: Mapping[str, Any], auxiliary: Sequence[str]
) -> keras.Model:
    """Cut a wrapped backbone to the levels in use."""
    available = tuple(sorted(backbone.output))
    levels = _levels(decoder_class, _stride(available), available, options, auxiliary)
    encoder = keras.Model(backbone.input, {level: backbone.output[level] for level in levels}, name=backbone.name)
    encoder.weights_report = WeightsReport("none", note="those of the wrapped network")
    return encoder


def check_options(decoder: str, options: dict[str, Any]) -> None:
    """Raise UnknownNameError if `options` has a name that the decoder's constructor does not take."""
    known = list(DECODERS[decoder].options())
    for name in options:
        if name not in known:
            raise unknown_name(f"option of decoder {decoder!r}", name, known)
