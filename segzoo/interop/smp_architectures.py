"""Model classes of segmentation_models.pytorch and their keys, written from the constructors of its version 0.6."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from segzoo.interop.checkpoint import Tensors
from segzoo.interop.smp_keys import (
    Key,
    Options,
    Refused,
    choice,
    fraction,
    norm_key,
    numbered,
    plain_normalization,
    shape_of,
    whole,
    whole_numbers,
    widths,
)


@dataclass(frozen=True)
class Architecture:
    """Model class of SMP.

    Attributes:
        name: name of the class.
        decoder: segzoo's counterpart.
        sign: a tensor that tells it from the architectures before it in `ARCHITECTURES` and from those after.
        keys: keys of its configuration, in addition to those that all classes share.
        depths: values of `encoder_depth` that have a counterpart.
        depth: default of SMP's `encoder_depth`.
        depth_of: maps tensors to the decoder's depth, or to None if they do not determine it.
        stride: SMP's default of `encoder_output_stride`; 32 if the key does not exist.
        strides: values of `encoder_output_stride` that have a counterpart; empty if the key does not exist.
        upsampling: pixels of the image for one of the decoder's result, by depth and output stride; 1 where their
            decoder ends at the image's size and there is no key `upsampling`.
        shown: maps tensors to options that no key of the configuration says.
        idle: what the names of tensors begin with that the original has and does not use.
        head: name before the last dot of the tensors of the convolution that makes the logits.
        tokens: whether its encoder is a plain vision transformer, of which there is no depth nor stride to choose.
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
    shown: Callable[[Tensors], Options] = lambda tensors: {}
    idle: tuple[str, ...] = ()
    head: str = "segmentation_head.0"
    tokens: bool = False

    def classes(self, tensors: Tensors) -> int:
        """Return the number of classes of a checkpoint; WeightsError for one without a head."""
        return shape_of(tensors, f"{self.head}.weight")[0]


def _attention(tensors: Tensors) -> str | None:
    return "scse" if any(".attention1.attention.cSE." in name for name in tensors) else None


def _center(tensors: Tensors) -> Options:
    return {"center": any(name.startswith(_CENTER) for name in tensors)}


def _upsampling_key(kinds: Mapping[Any, str]) -> Key:
    return Key("nearest", choice("upsampling", kinds))


def _outputs(option: str, name: str, axis: int = 0) -> Key:
    return Key(None, whole(option), lambda tensors: shape_of(tensors, name)[axis])


def _merge(tensors: Tensors) -> str:
    branch = shape_of(tensors, "decoder.seg_blocks.0.block.0.block.0.weight")[0]
    return "add" if shape_of(tensors, "segmentation_head.0.weight")[1] == branch else "cat"


# Of maps that are doubled, where PyTorch's two ways of rounding are the same.
_DOUBLED = {"nearest": "nearest", "nearest-exact": "nearest", "bilinear": "bilinear"}

# Their U-Net and U-Net++ have two more convolutions behind VGG; the latter does not apply them.
_CENTER = "decoder.center."

_BLOCKS = "decoder.blocks.{}.conv2.0.weight"


def _unetplusplus_widths(tensors: Tensors) -> list[int]:
    return widths(tensors, "decoder.blocks.x_0_{}.conv2.0.weight")


def _unread(value: Any) -> Options:
    """Read a key that has no bearing on what is computed."""
    return {}


def _square(value: Any) -> Options:
    """Read `img_size`, whose positions a checkpoint's tensors show, if they are of a square."""
    sides = value if isinstance(value, list | tuple) and len(value) == 2 else [value, value]
    if value is not None and (sides[0] != sides[1] or type(sides[0]) is not int):
        raise Refused("must be the side of a square; positions of other grids have no counterpart here")
    return {}


def _check_spread(value: Any, tensors: Tensors) -> None:
    """Refuse tokens of other blocks than four that are spread evenly over the depth."""
    blocks = len(list(numbered(tensors, "encoder.model.blocks.{}.norm1.weight")))
    if value is not None and value != [blocks * number // 4 - 1 for number in (1, 2, 3, 4)]:
        raise Refused("has no counterpart here; the tokens are those of four blocks, spread evenly over the depth")


_REASSEMBLED = "decoder.reassemble_blocks.{}.project_to_out_channel.weight"


def _readout(tensors: Tensors) -> str | None:
    return "cat" if "decoder.projection_blocks.0.project.0.weight" in tensors else None


def _deeplab_keys(aspp: str, separable: bool) -> dict[str, Key]:
    def is_separable(tensors: Tensors) -> bool:
        return f"{aspp}.convs.1.0.0.weight" in tensors

    return {
        "decoder_channels": _outputs("channels", f"{aspp}.convs.0.0.weight"),
        "decoder_atrous_rates": Key([12, 24, 36], whole_numbers("rates", 3, different=True)),
        "decoder_aspp_separable": Key(separable, choice("aspp_separable", {True: True, False: False}), is_separable),
        "decoder_aspp_dropout": Key(0.5, fraction("dropout")),
    }


# MA-Net before U-Net, whose blocks have the same names.
ARCHITECTURES = (
    Architecture(
        "MAnet",
        "manet",
        "decoder.center.top_conv.weight",
        {
            "decoder_channels": Key(None, whole_numbers("channels"), lambda tensors: widths(tensors, _BLOCKS)),
            "decoder_pab_channels": _outputs("attention_channels", "decoder.center.top_conv.weight"),
            "decoder_use_norm": norm_key("decoder.blocks.0.conv1.0"),
            "decoder_interpolation": _upsampling_key(_DOUBLED),
        },
        depth_of=lambda tensors: len(widths(tensors, _BLOCKS)),
    ),
    Architecture(
        "Unet",
        "unet",
        "decoder.blocks.0.conv1.0.weight",
        {
            "decoder_channels": Key(None, whole_numbers("channels"), lambda tensors: widths(tensors, _BLOCKS)),
            "decoder_use_norm": norm_key("decoder.blocks.0.conv1.0"),
            "decoder_attention_type": Key(None, choice("attention", {None: None, "scse": "scse"}), _attention),
            "decoder_interpolation": _upsampling_key(
                {"nearest": "nearest_floor", "nearest-exact": "nearest", "bilinear": "bilinear"}
            ),
        },
        depth_of=lambda tensors: len(widths(tensors, _BLOCKS)),
        shown=_center,
    ),
    Architecture(
        "UnetPlusPlus",
        "unetplusplus",
        "decoder.blocks.x_0_0.conv1.0.weight",
        {
            "decoder_channels": Key(None, whole_numbers("channels"), _unetplusplus_widths),
            "decoder_use_norm": norm_key("decoder.blocks.x_0_0.conv1.0"),
            "decoder_attention_type": Key(None, choice("attention", {None: None, "scse": "scse"}), _attention),
            "decoder_interpolation": _upsampling_key(_DOUBLED),
        },
        depth_of=lambda tensors: len(_unetplusplus_widths(tensors)),
        idle=(_CENTER,),
    ),
    Architecture(
        "Linknet",
        "linknet",
        "decoder.blocks.0.block.0.0.weight",
        {"decoder_use_norm": norm_key("decoder.blocks.0.block.0.0")},
        depth_of=lambda tensors: len(widths(tensors, "decoder.blocks.{}.block.2.0.weight")),
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
            "decoder_merge_policy": Key("add", choice("merge", {"add": "add", "cat": "concat"}), _merge),
            "decoder_dropout": Key(0.2, fraction("dropout")),
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
            "decoder_use_norm": norm_key("decoder.conv.0"),
            "psp_dropout": Key(0.2, fraction("dropout")),
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
            "decoder_interpolation": Key("bilinear", choice("upsampling", {"bilinear": "bilinear", **_DOUBLED})),
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
            "decoder_use_norm": Key("batchnorm", plain_normalization),
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
    Architecture(
        "DPT",
        "dpt",
        _REASSEMBLED.format(0),
        {
            "encoder_output_indices": Key(None, _unread, check=_check_spread),
            "decoder_readout": Key(
                "cat", choice("readout", {"cat": "cat", "add": "add", "ignore": "ignore"}), _readout
            ),
            "decoder_intermediate_channels": Key(
                None, whole_numbers("intermediate_channels", 4), lambda tensors: widths(tensors, _REASSEMBLED)
            ),
            "decoder_fusion_channels": _outputs(
                "fusion_channels", "decoder.reassemble_blocks.0.project_to_feature_dim.weight"
            ),
            # Of timm's network. Positions are interpolated to the image here, as timm does where it is allowed to.
            "dynamic_img_size": Key(None, _unread),
            "img_size": Key(None, _square),
        },
        depths=(4,),
        depth=4,
        depth_of=lambda tensors: len(widths(tensors, _REASSEMBLED)),
        head="segmentation_head.head.4",
        tokens=True,
    ),
)
