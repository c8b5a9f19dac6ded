"""Mapping of segmentation_models.pytorch's model configuration to segzoo's, key by key.

Every key is an option here or is refused with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from segzoo.errors import WeightsError
from segzoo.interop.backbones.source import Source
from segzoo.interop.backbones.table import SOURCES
from segzoo.interop.checkpoint import Tensors
from segzoo.interop.smp_architectures import ARCHITECTURES, Architecture
from segzoo.interop.smp_keys import Key, Options, Refused, as_json, shape_of

# Weights for pixels from -1 to 1 that EfficientNets start from, and those for pixels normalised as ImageNet's; null
# starts from random values. The original reads the same from the files that lie beside its weights.
_ADVPROP = "advprop"

_AS_IMAGENET = (None, "imagenet", "ssl", "swsl", "instagram", "noisy-student")

# First convolutions of encoders, by their whole names.
_STEMS = tuple(dict.fromkeys(f"encoder.{at}{source.rows[0].tensors[0]}" for source in SOURCES for at in ("", "model.")))

# Former names of keys, which their constructors still take.
_FORMER = {
    "decoder_use_batchnorm": "decoder_use_norm",
    "psp_use_batchnorm": "decoder_use_norm",
    "upscale_mode": "decoder_interpolation",
}

# What `save_pretrained` adds to the arguments of the constructor.
_NOTES = ("_model_class",)

_SHARED = (
    "encoder_name",
    "encoder_depth",
    "encoder_weights",
    "in_channels",
    "classes",
    "activation",
    "aux_params",
)


def architecture_of(tensors: Tensors, config: Mapping[str, Any] | None, origin: str) -> Architecture:
    """Identify the model class of a checkpoint by its tensors.

    Raises:
        WeightsError: no architecture matches, or the configuration names another.
    """
    found = next((candidate for candidate in ARCHITECTURES if candidate.sign in tensors), None)
    if found is None:
        names = ", ".join(sorted(candidate.name for candidate in ARCHITECTURES))
        raise WeightsError(f"{origin} is none of {names} of segmentation_models.pytorch 0.6.")
    named = (config or {}).get("_model_class", found.name)
    if named != found.name:
        raise WeightsError(f"{origin}: its configuration is of a {named}, but its tensors are of a {found.name}.")
    return found


def settings_of(
    architecture: Architecture, tensors: Tensors, config: Mapping[str, Any] | None, origin: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Derive a checkpoint's `model` section without its backbone, and the options that are stated nowhere.

    Args:
        architecture: architecture of the checkpoint.
        tensors: tensors of the checkpoint.
        config: configuration of the checkpoint, or None.
        origin: name of the checkpoint, for messages.

    Returns:
        The section, and the keys whose defaults were assumed for lack of a configuration, with these defaults.

    Raises:
        WeightsError: a key or value that has no counterpart in segzoo, or contradicts the tensors.
    """
    given = _under_present_names(config or {}, origin)
    stride_key = ("encoder_output_stride",) if architecture.strides else ()
    upsampling_key = ("upsampling",) if architecture.upsampling(5, 32) > 1 else ()
    known = (*_SHARED, *stride_key, *upsampling_key, *architecture.keys)
    for key in given:
        if key not in (*known, *_NOTES):
            raise WeightsError(f"{origin}: the key {key} of its configuration is not known of a {architecture.name}.")
    _check_shared(given, architecture, tensors, origin)
    assumed: dict[str, Any] = {}

    def value_of(key: str, default: Any) -> Any:
        if key not in given:
            assumed[key] = default
        return given.get(key, default)

    shown = architecture.depth_of(tensors)
    depth = given.get("encoder_depth", shown) if shown is not None else value_of("encoder_depth", architecture.depth)
    _refuse(origin, "encoder_depth", depth, _one_of(architecture.depths))
    if shown not in (None, depth):
        raise _contradiction(origin, "encoder_depth", depth, shown)
    stride = value_of("encoder_output_stride", architecture.stride) if architecture.strides else 32
    if architecture.strides:
        _refuse(origin, "encoder_output_stride", stride, _one_of(architecture.strides))
    if upsampling_key:
        _check_upsampling(given, architecture.upsampling(depth, stride), origin)
    section, options = _placed(architecture, depth, stride, origin)
    for key, entry in architecture.keys.items():
        derived = entry.derive(tensors) if entry.derive is not None else None
        value = given.get(key, derived if derived is not None else entry.default)
        if key not in given and derived is None and value is not None:
            assumed[key] = value
        read = _refuse(origin, key, value, entry.read)
        _refuse(origin, key, value, partial(_checked, entry, tensors))
        if key in given and derived is not None and entry.read(derived) != read:
            raise _contradiction(origin, key, value, derived)
        options.update(read)
    options.update(architecture.shown(tensors))
    return {**section, "options": _changed(architecture.decoder, options)}, {} if config is not None else assumed


def pixels_of(
    encoder: str, source: Source, config: Mapping[str, Any] | None, channels: int, origin: str
) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Derive the pixel normalisation of an encoder from the pretrained weights that its training started from.

    Args:
        encoder: their `encoder_name`.
        source: the network of the encoder.
        config: configuration of the checkpoint, or None.
        channels: number of channels of the checkpoint's images.
        origin: name of the checkpoint, for messages.

    Returns:
        The mean and std of the `model` section, empty for the backbone's own; assumed keys with their defaults; and a
        sentence about unknown weights, or "".

    Raises:
        WeightsError: an encoder family without such weights.
    """
    given = (config or {}).get("encoder_weights", "imagenet")
    scaled = encoder.startswith(("efficientnet", "timm-efficientnet"))
    if given is True and encoder.startswith("tu-"):
        known = "the pixels are taken to be normalised as the network's first weights in timm have it"
        return source.pixels(channels), {}, f"{known} (else set model.mean and model.std)"
    if given == _ADVPROP and scaled:
        return {"mean": [127.5] * channels, "std": [127.5] * channels}, {}, ""
    if given == _ADVPROP or not isinstance(given, str | None):
        raise WeightsError(
            f"{origin}: encoder_weights {_text(given)} has no counterpart here for the encoder {encoder}, which was "
            "never published so; the configuration is of another network."
        )
    note = ""
    if given not in _AS_IMAGENET:
        note = (
            f"encoder_weights {_text(given)} are not known here; their pixels are taken to be normalised as ImageNet's "
            "(else set model.mean and model.std)"
        )
    return source.pixels(channels), {"encoder_weights": given} if config is None and scaled else {}, note


def _checked(entry: Key, tensors: Tensors, value: Any) -> Options:
    """Return no options; raise `Refused` for a value that does not go with the tensors."""
    entry.check(value, tensors)
    return {}


def _under_present_names(config: Mapping[str, Any], origin: str) -> dict[str, Any]:
    found = {key: value for key, value in config.items() if key not in _FORMER}
    for former, present in _FORMER.items():
        if config.get(former) is not None:
            found[present] = config[former]  # theirs lets it win, too
    return found


def _check_shared(given: Mapping[str, Any], architecture: Architecture, tensors: Tensors, origin: str) -> None:
    """Check keys that repeat the shapes of tensors, or whose only counterpart is their default."""
    _refuse(origin, "activation", given.get("activation"), _logits)
    _refuse(origin, "aux_params", given.get("aux_params"), _no_classification)
    if any(name.startswith("classification_head.") for name in tensors):
        raise WeightsError(
            f"{origin} holds a classification head (aux_params), which is not converted. Build the network without "
            "aux_params, load the checkpoint into it with strict=False, and save that."
        )
    shapes = {"classes": architecture.classes(tensors), "in_channels": None}
    for first in _STEMS:
        if first in tensors:
            shapes["in_channels"] = shape_of(tensors, first)[1]
    for key, found in shapes.items():
        if found is not None and given.get(key, found) != found:
            raise _contradiction(origin, key, given[key], found)


def _logits(value: Any) -> Options:
    if value not in (None, "identity"):
        raise Refused(
            "is an activation after the logits; models return logits here. Set it to null, and apply the activation to "
            "what the model returns"
        )
    return {}


def _no_classification(value: Any) -> Options:
    if value is not None:
        raise Refused(
            "is a classification head, which is not converted. Build the network without it, load the checkpoint into "
            "it with strict=False, and save that"
        )
    return {}


def _one_of(values: tuple[int, ...]) -> Callable[[Any], Options]:
    def read(value: Any) -> Options:
        if isinstance(value, bool) or not isinstance(value, int) or value not in values:
            # Their FPN alone has one.
            reason = ", because at another depth its logits are larger than the image" if values == (5,) else ""
            raise Refused(f"must be {' or '.join(map(str, values))}{reason}")
        return {}

    return read


def _check_upsampling(given: Mapping[str, Any], expected: int, origin: str) -> None:
    upsampling = given.get("upsampling")
    if upsampling not in (None, expected) or isinstance(upsampling, bool):
        raise WeightsError(
            f"{origin}: upsampling {_text(upsampling)} gives logits of another size than the image's, which takes "
            f"{expected}; models return the image's size here."
        )


def _placed(architecture: Architecture, depth: int, stride: int, origin: str) -> tuple[Options, Options]:
    """Return the output stride of the section, and the decoder's depth."""
    if architecture.tokens:
        return {}, {}
    if not architecture.strides:
        return ({"output_stride": 32} if architecture.name == "PSPNet" else {}), {"depth": depth}
    if depth == 5:
        return {"output_stride": stride}, {}
    if 2**depth > stride:
        raise WeightsError(
            f"{origin}: encoder_depth {depth} with encoder_output_stride {stride} has no counterpart here, because a "
            "backbone of that stride ends with its last stage."
        )
    return {"output_stride": 32}, {"depth": depth}


def _changed(decoder: str, options: Options) -> Options:
    """Return the options that differ from those of `compat: smp`; widths and depth are always included."""
    from segzoo.decoders import DECODERS

    plain = {**DECODERS[decoder].options(), **DECODERS[decoder].compat["smp"]}
    said = ("channels", "depth", "pyramid_channels", "segmentation_channels", "rates", "merge")
    return {
        option: value
        for option, value in options.items()
        if option in said or _comparable(value) != _comparable(plain[option])
    }


def _comparable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _contradiction(origin: str, key: str, value: Any, found: Any) -> WeightsError:
    return WeightsError(
        f"{origin}: {key} is {_text(value)} in its configuration, but its tensors are of {_text(found)}."
    )


def _refuse(origin: str, key: str, value: Any, read: Callable[[Any], Options]) -> Options:
    """Apply `read` to a value; WeightsError if it is refused."""
    try:
        return read(value)
    except Refused as error:
        raise WeightsError(f"{origin}: {key} {_text(value)} {error}.") from None
    except TypeError:  # a list or an object where a word is meant
        raise WeightsError(f"{origin}: {key} {_text(value)} has no counterpart here.") from None


def _text(value: Any) -> str:
    text = as_json(value) if isinstance(value, str | bool | None) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
