"""Mapping of segmentation_models.pytorch's model configuration to segzoo's, key by key.

Written from the constructors of its version 0.6. Every key is an option here or is refused with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from segzoo.errors import WeightsError
from segzoo.interop.checkpoint import Tensors

Options = dict[str, Any]


class _Refused(ValueError):
    """Value without a counterpart; the message names those that have one."""


@dataclass(frozen=True)
class Key:
    """Key of an SMP configuration.

    Attributes:
        default: their default.
        read: from the value to options of ours; raises `_Refused`.
        derive: from tensors to the value, where they show it; None where they do not.
    """

    default: Any
    read: Callable[[Any], Options]
    derive: Callable[[Tensors], Any] | None = None


@dataclass(frozen=True)
class Architecture:
    """Model class of SMP.

    Attributes:
        name: of the class.
        decoder: ours.
        sign: a tensor that tells it from the architectures before it in `ARCHITECTURES` and from those after.
        keys: of its configuration, beside those that all classes share.
        depths: values of `encoder_depth` that have a counterpart.
        depth: their default.
        depth_of: what the tensors say of it, or None.
        stride: their default of `encoder_output_stride`; 32 where there is no such key.
        strides: values of it that have a counterpart; none where there is no such key.
        upsampling: pixels of the image for one of the decoder's result, by depth and output stride; 1 where their
            decoder ends at the image's size and there is no key `upsampling`.
    """

    name: str
    decoder: str
    sign: str
    keys: Mapping[str, Key] = field(default_factory=dict)
    depths: tuple[int, ...] = (5, 4, 3)
    depth: int = 5
    depth_of: Callable[[Tensors], int | None] = lambda tensors: None
    stride: int = 32
    strides: tuple[int, ...] = ()
    upsampling: Callable[[int, int], int] = lambda depth, stride: 1


def _shape(tensors: Tensors, name: str, rank: int = 4) -> tuple[int, ...]:
    if name not in tensors:
        raise WeightsError(f"The checkpoint lacks the tensor {name}.")
    shape = tuple(int(size) for size in tensors[name].shape)
    if len(shape) != rank:
        raise WeightsError(f"The checkpoint's tensor {name} has shape {shape}, but must have {rank} axes.")
    return shape


def numbered(tensors: Tensors, pattern: str) -> Iterator[str]:
    """Yield the names of tensors that match a pattern, numbered from 0."""
    number = 0
    while pattern.format(number) in tensors:
        yield pattern.format(number)
        number += 1


def _whole(option: str, least: int = 1) -> Callable[[Any], Options]:
    def read(value: Any) -> Options:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise _Refused(f"must be a whole number of {least} or more")
        return {option: value}

    return read


def _whole_numbers(option: str, count: int | None = None, different: bool = False) -> Callable[[Any], Options]:
    def read(value: Any) -> Options:
        if not isinstance(value, list | tuple) or (count is not None and len(value) != count):
            raise _Refused(f"must be a list of {count or 'whole'} numbers")
        for number in value:
            _whole(option)(number)
        if different and len(set(value)) < len(value):
            raise _Refused("must be different numbers, which branches are named by here")
        return {option: list(value)}

    return read


def _fraction(option: str) -> Callable[[Any], Options]:
    def read(value: Any) -> Options:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
            raise _Refused("must be a number from 0 to below 1")
        return {option: float(value)}

    return read


def _choice(option: str, values: Mapping[Any, Any]) -> Callable[[Any], Options]:
    def read(value: Any) -> Options:
        if not isinstance(value, str | bool | None) or value not in values:
            raise _Refused(f"has no counterpart here; these have: {', '.join(map(_as_json, values))}")
        return {option: values[value]}

    return read


def _as_json(value: Any) -> str:
    return {None: "null", True: "true", False: "false"}.get(value, str(value))


def _normalization(value: Any) -> Options:
    """Read `decoder_use_norm`; a batch normalisation's momentum has no bearing on a network that is not trained."""
    settings = value if isinstance(value, dict) else {"type": {True: "batchnorm", False: "identity"}.get(value, value)}
    if settings == {"type": "identity"}:
        return {"normalization": "none"}
    unknown = set(settings) - {"type", "eps", "momentum"}
    if settings.get("type") != "batchnorm" or unknown:
        raise _Refused(
            'has no counterpart here; these have: true and "batchnorm", also as {"type": "batchnorm", "eps": 0.001}, '
            'and false and "identity"'
        )
    epsilon = settings.get("eps", 1e-5)
    if isinstance(epsilon, bool) or not isinstance(epsilon, int | float) or not 0 < epsilon < math.inf:
        raise _Refused("has an eps that is no number above 0")
    return {} if epsilon == 1e-5 else {"epsilon": float(epsilon)}


def _plain_normalization(value: Any) -> Options:
    if _normalization(value):
        raise _Refused(
            "has no counterpart here but batchnorm of eps 1e-5, which its last pooling convolution always has"
        )
    return {}


def _norm_key(convolution: str) -> Key:
    """Return the key of the decoder's normalisation; without one, convolutions have a bias."""
    return Key("batchnorm", _normalization, lambda tensors: _has_bias(tensors, convolution))


def _has_bias(tensors: Tensors, convolution: str) -> str | None:
    # Without a bias it may be batch normalisation of any epsilon, which only the configuration says.
    return "identity" if f"{convolution}.bias" in tensors else None


def _widths(tensors: Tensors, pattern: str) -> list[int]:
    return [_shape(tensors, name)[0] for name in numbered(tensors, pattern)]


def _attention(tensors: Tensors) -> str | None:
    return "scse" if any(".attention1.attention.cSE." in name for name in tensors) else None


def _upsampling_key(kinds: Mapping[Any, str]) -> Key:
    return Key("nearest", _choice("upsampling", kinds))


def _outputs(option: str, name: str, axis: int = 0) -> Key:
    return Key(None, _whole(option), lambda tensors: _shape(tensors, name)[axis])


def _merge(tensors: Tensors) -> str:
    branch = _shape(tensors, "decoder.seg_blocks.0.block.0.block.0.weight")[0]
    return "add" if _shape(tensors, "segmentation_head.0.weight")[1] == branch else "cat"


# Of maps that are doubled, where PyTorch's two ways of rounding are the same.
_DOUBLED = {"nearest": "nearest", "nearest-exact": "nearest", "bilinear": "bilinear"}
_BLOCKS = "decoder.blocks.{}.conv2.0.weight"


def _unetplusplus_widths(tensors: Tensors) -> list[int]:
    return _widths(tensors, "decoder.blocks.x_0_{}.conv2.0.weight")


def _deeplab_keys(aspp: str, separable: bool) -> dict[str, Key]:
    def is_separable(tensors: Tensors) -> bool:
        return f"{aspp}.convs.1.0.0.weight" in tensors

    return {
        "decoder_channels": _outputs("channels", f"{aspp}.convs.0.0.weight"),
        "decoder_atrous_rates": Key([12, 24, 36], _whole_numbers("rates", 3, different=True)),
        "decoder_aspp_separable": Key(separable, _choice("aspp_separable", {True: True, False: False}), is_separable),
        "decoder_aspp_dropout": Key(0.5, _fraction("dropout")),
    }


# MA-Net before U-Net, whose blocks have the same names.
ARCHITECTURES = (
    Architecture(
        "MAnet",
        "manet",
        "decoder.center.top_conv.weight",
        {
            "decoder_channels": Key(None, _whole_numbers("channels"), lambda tensors: _widths(tensors, _BLOCKS)),
            "decoder_pab_channels": _outputs("attention_channels", "decoder.center.top_conv.weight"),
            "decoder_use_norm": _norm_key("decoder.blocks.0.conv1.0"),
            "decoder_interpolation": _upsampling_key(_DOUBLED),
        },
        depth_of=lambda tensors: len(_widths(tensors, _BLOCKS)),
    ),
    Architecture(
        "Unet",
        "unet",
        "decoder.blocks.0.conv1.0.weight",
        {
            "decoder_channels": Key(None, _whole_numbers("channels"), lambda tensors: _widths(tensors, _BLOCKS)),
            "decoder_use_norm": _norm_key("decoder.blocks.0.conv1.0"),
            "decoder_attention_type": Key(None, _choice("attention", {None: None, "scse": "scse"}), _attention),
            "decoder_interpolation": _upsampling_key(
                {"nearest": "nearest_floor", "nearest-exact": "nearest", "bilinear": "bilinear"}
            ),
        },
        depth_of=lambda tensors: len(_widths(tensors, _BLOCKS)),
    ),
    Architecture(
        "UnetPlusPlus",
        "unetplusplus",
        "decoder.blocks.x_0_0.conv1.0.weight",
        {
            "decoder_channels": Key(None, _whole_numbers("channels"), _unetplusplus_widths),
            "decoder_use_norm": _norm_key("decoder.blocks.x_0_0.conv1.0"),
            "decoder_attention_type": Key(None, _choice("attention", {None: None, "scse": "scse"}), _attention),
            "decoder_interpolation": _upsampling_key(_DOUBLED),
        },
        depth_of=lambda tensors: len(_unetplusplus_widths(tensors)),
    ),
    Architecture(
        "Linknet",
        "linknet",
        "decoder.blocks.0.block.0.0.weight",
        {"decoder_use_norm": _norm_key("decoder.blocks.0.block.0.0")},
        depth_of=lambda tensors: len(_widths(tensors, "decoder.blocks.{}.block.2.0.weight")),
    ),
    Architecture(
        "FPN",
        "fpn",
        "decoder.p5.weight",
        {
            "decoder_pyramid_channels": _outputs("pyramid_channels", "decoder.p5.weight"),
            "decoder_segmentation_channels": _outputs(
                "segmentation_channels", "decoder.seg_blocks.0.block.0.block.0.weight"
            ),
            "decoder_merge_policy": Key("add", _choice("merge", {"add": "add", "cat": "concat"}), _merge),
            "decoder_dropout": Key(0.2, _fraction("dropout")),
            "decoder_interpolation": _upsampling_key(_DOUBLED),
        },
        depths=(5,),
        upsampling=lambda depth, stride: 4,
    ),
    Architecture(
        "PSPNet",
        "pspnet",
        "decoder.psp.blocks.0.pool.1.0.weight",
        {
            "psp_out_channels": _outputs("channels", "decoder.conv.0.weight"),
            "decoder_use_norm": _norm_key("decoder.conv.0"),
            "psp_dropout": Key(0.2, _fraction("dropout")),
        },
        depths=(5, 4, 3, 2),
        depth=3,
        upsampling=lambda depth, stride: 2**depth,
    ),
    Architecture(
        "PAN",
        "pan",
        "decoder.fpa.mid.0.conv.weight",
        {
            "decoder_channels": _outputs("channels", "decoder.fpa.mid.0.conv.weight"),
            "decoder_interpolation": Key("bilinear", _choice("upsampling", {"bilinear": "bilinear", **_DOUBLED})),
        },
        stride=16,
        strides=(16, 32),
        upsampling=lambda depth, stride: 4,
        depth_of=lambda tensors: 3 + sum(f"decoder.gau{number}.conv2.conv.weight" in tensors for number in (2, 3)),
    ),
    Architecture(
        "DeepLabV3",
        "deeplabv3",
        "decoder.aspp.convs.0.0.weight",
        _deeplab_keys("decoder.aspp", separable=False),
        stride=8,
        strides=(8, 16),
        upsampling=lambda depth, stride: 2**depth if depth <= 3 else stride,
    ),
    Architecture(
        "DeepLabV3Plus",
        "deeplabv3plus",
        "decoder.aspp.0.convs.0.0.weight",
        _deeplab_keys("decoder.aspp.0", separable=True),
        stride=16,
        strides=(8, 16),
        upsampling=lambda depth, stride: 4,
    ),
    Architecture(
        "UPerNet",
        "upernet",
        "decoder.psp.out_conv.0.weight",
        {
            "decoder_channels": _outputs("channels", "decoder.psp.out_conv.0.weight"),
            "decoder_use_norm": Key("batchnorm", _plain_normalization),
        },
        upsampling=lambda depth, stride: 4,
        depth_of=lambda tensors: 1 + len(list(numbered(tensors, "decoder.feature_norms.{}.weight"))),
    ),
    Architecture(
        "Segformer",
        "segformer",
        "decoder.mlp_stage.0.linear.weight",
        {"decoder_segmentation_channels": _outputs("channels", "decoder.fuse_stage.0.weight")},
        upsampling=lambda depth, stride: 4,
        depth_of=lambda tensors: len(list(numbered(tensors, "decoder.mlp_stage.{}.linear.weight"))),
    ),
)
# Weights for pixels from -1 to 1 that EfficientNets start from, and those for pixels normalised as ImageNet's; null
# starts from random values. The original reads the same from the files that lie beside its weights.
_ADVPROP = "advprop"
_AS_IMAGENET = (None, "imagenet", "ssl", "swsl", "instagram", "noisy-student")
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
        WeightsError: none is known, or the configuration names another.
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
    """Derive the `model` section of a checkpoint without its backbone, and the options that nothing states.

    Args:
        architecture: of the checkpoint.
        tensors: of it.
        config: its configuration; None where it has none.
        origin: name of the checkpoint, for messages.

    Returns:
        The section, and their keys to their defaults, which were taken for want of a configuration.

    Raises:
        WeightsError: a key or a value that has no counterpart here, or that the tensors contradict.
    """
    given = _under_present_names(config or {}, origin)
    stride_key = ("encoder_output_stride",) if architecture.strides else ()
    upsampling_key = ("upsampling",) if architecture.upsampling(5, 32) > 1 else ()
    known = (*_SHARED, *stride_key, *upsampling_key, *architecture.keys)
    for key in given:
        if key not in (*known, *_NOTES):
            raise WeightsError(f"{origin}: the key {key} of its configuration is not known of a {architecture.name}.")
    _check_shared(given, tensors, origin)
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
        if key in given and derived is not None and entry.read(derived) != read:
            raise _contradiction(origin, key, value, derived)
        options.update(read)
    return {**section, "options": _changed(architecture.decoder, options)}, {} if config is not None else assumed


def pixels_of(
    encoder: str, config: Mapping[str, Any] | None, channels: int, origin: str
) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Derive the pixel normalisation of an encoder from the pretrained weights that its training started from.

    Args:
        encoder: their `encoder_name`.
        config: of the checkpoint; None where it has none.
        channels: of its images.
        origin: name of the checkpoint, for messages.

    Returns:
        The mean and std of the `model` section, none where they are ImageNet's; what nothing says, to its default; and
        a sentence on weights that are not known, or nothing.

    Raises:
        WeightsError: weights that no encoder of this family has.
    """
    given = (config or {}).get("encoder_weights", "imagenet")
    scaled = encoder.startswith("efficientnet")
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
    return {}, {"encoder_weights": given} if config is None and scaled else {}, note


def _under_present_names(config: Mapping[str, Any], origin: str) -> dict[str, Any]:
    found = {key: value for key, value in config.items() if key not in _FORMER}
    for former, present in _FORMER.items():
        if config.get(former) is not None:
            found[present] = config[former]  # theirs lets it win, too
    return found


def _check_shared(given: Mapping[str, Any], tensors: Tensors, origin: str) -> None:
    """Check keys that repeat the shapes of tensors, or whose only counterpart is their default."""
    _refuse(origin, "activation", given.get("activation"), _logits)
    _refuse(origin, "aux_params", given.get("aux_params"), _no_classification)
    if any(name.startswith("classification_head.") for name in tensors):
        raise WeightsError(
            f"{origin} holds a classification head (aux_params), which is not converted. Build the network without "
            "aux_params, load the checkpoint into it with strict=False, and save that."
        )
    shapes = {"classes": _shape(tensors, "segmentation_head.0.weight")[0], "in_channels": None}
    for first in ("encoder.conv1.weight", "encoder._conv_stem.weight"):
        if first in tensors:
            shapes["in_channels"] = _shape(tensors, first)[1]
    for key, found in shapes.items():
        if found is not None and given.get(key, found) != found:
            raise _contradiction(origin, key, given[key], found)


def _logits(value: Any) -> Options:
    if value not in (None, "identity"):
        raise _Refused(
            "is an activation after the logits; models return logits here. Set it to null, and apply the activation to "
            "what the model returns"
        )
    return {}


def _no_classification(value: Any) -> Options:
    if value is not None:
        raise _Refused(
            "is a classification head, which is not converted. Build the network without it, load the checkpoint into "
            "it with strict=False, and save that"
        )
    return {}


def _one_of(values: tuple[int, ...]) -> Callable[[Any], Options]:
    def read(value: Any) -> Options:
        if isinstance(value, bool) or not isinstance(value, int) or value not in values:
            # Their FPN alone has one.
            reason = ", because at another depth its logits are larger than the image" if values == (5,) else ""
            raise _Refused(f"must be {' or '.join(map(str, values))}{reason}")
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
    except _Refused as error:
        raise WeightsError(f"{origin}: {key} {_text(value)} {error}.") from None
    except TypeError:  # a list or an object where a word is meant
        raise WeightsError(f"{origin}: {key} {_text(value)} has no counterpart here.") from None


def _text(value: Any) -> str:
    text = _as_json(value) if isinstance(value, str | bool | None) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
