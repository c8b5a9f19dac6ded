"""InceptionV3 of torchvision and timm, and Inception-ResNet-v2 of segmentation_models.pytorch and timm.

Layers of Keras's networks have no names but numbers, in the order in which their convolutions are made, which is the
order of the tensors in the originals but for the blocks' own convolutions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from segzoo.interop.backbones.source import Source, Stranger
from segzoo.interop.rows import Row, table

# Convolutions of each kind of block of V3, in turn.
_A = ("branch1x1", "branch5x5_1", "branch5x5_2", "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3", "branch_pool")
_B = ("branch3x3", "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")
_C = ("branch1x1", "branch7x7_1", "branch7x7_2", "branch7x7_3", "branch7x7dbl_1", "branch7x7dbl_2", "branch7x7dbl_3",
      "branch7x7dbl_4", "branch7x7dbl_5", "branch_pool")  # fmt: skip
_D = ("branch3x3_1", "branch3x3_2", "branch7x7x3_1", "branch7x7x3_2", "branch7x7x3_3", "branch7x7x3_4")
_E = ("branch1x1", "branch3x3_1", "branch3x3_2a", "branch3x3_2b", "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3a",
      "branch3x3dbl_3b", "branch_pool")  # fmt: skip
_V3_MIXED = {
    "5b": _A,
    "5c": _A,
    "5d": _A,
    "6a": _B,
    "6b": _C,
    "6c": _C,
    "6d": _C,
    "6e": _C,
    "7a": _D,
    "7b": _E,
    "7c": _E,
}
_V3_STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")

# Of Inception-ResNet-v2: those of a repeated block, its name there and here, and how often it is repeated.
_LONG = ("branch0", "branch1.0", "branch1.1", "branch1.2")
_REPEATED = {
    "repeat": ("block35", 10, ("branch0", "branch1.0", "branch1.1", "branch2.0", "branch2.1", "branch2.2")),
    "repeat_1": ("block17", 20, _LONG),
    "repeat_2": ("block8", 9, _LONG),
}
# The block before the repeated ones, and its convolutions.
_MIXED = {
    "repeat": ("mixed_5b", ("branch0", "branch1.0", "branch1.1", "branch2.0", "branch2.1", "branch2.2", "branch3.1")),
    "repeat_1": ("mixed_6a", _LONG),
    "repeat_2": ("mixed_7a", ("branch0.0", "branch0.1", "branch1.0", "branch1.1", "branch2.0", "branch2.1",
                              "branch2.2")),
}  # fmt: skip
_RESNET_STEM = ("conv2d_1a", "conv2d_2a", "conv2d_2b", "conv2d_3b", "conv2d_4a")

_UNPADDED = (
    "The original's stem and reductions pad nothing, so that its maps are smaller; here they are padded, as with "
    "Keras's own weights, and features differ by that"
)


def _v3() -> Iterator[str]:
    """Yield the names of all convolutions of V3 there, in the order in which Keras numbers them."""
    yield from _V3_STEM
    for place, convolutions in _V3_MIXED.items():
        yield from (f"Mixed_{place}.{name}" for name in convolutions)


def _resnet_v2() -> Iterator[str]:
    """Yield the names of the unnamed convolutions of Inception-ResNet-v2, in the order in which Keras numbers them."""
    yield from _RESNET_STEM
    for repeated, (_, count, convolutions) in _REPEATED.items():
        mixed, first = _MIXED[repeated]
        yield from (f"{mixed}.{name}" for name in first)
        yield from (f"{repeated}.{number}.{name}" for number in range(count) for name in convolutions)
    yield from (f"block8.{name}" for name in _LONG)


def _numbered(names: Iterator[str]) -> Iterator[Row]:
    for number, theirs in enumerate(names):
        ending = f"_{number}" if number else ""
        yield from table(
            "conv {theirs}.conv conv2d{ending}",
            "norm {theirs}.bn batch_normalization{ending}",
            theirs=theirs,
            ending=ending,
        )


def _resnet_v2_rows() -> Iterator[Row]:
    yield from _numbered(_resnet_v2())
    for repeated, (block, count, _) in _REPEATED.items():
        for number in range(count):
            yield from table(f"conv {repeated}.{number}.conv2d {block}_{number + 1}_conv")
    yield from table("conv block8.conv2d block8_10_conv", "conv conv2d_7b.conv conv_7b", "norm conv2d_7b.bn conv_7b_bn")


_V3 = Source(
    name="torchvision/inception_v3",
    backbone="inceptionv3",
    rows=tuple(_numbered(_v3())),
    left=("AuxLogits.", "fc."),
    compat="torchvision",
    same=("timm/inception_v3",),
    note=_UNPADDED,
)
_RESNET_V2 = Source(
    name="smp/inceptionresnetv2",
    backbone="inceptionresnetv2",
    rows=tuple(_resnet_v2_rows()),
    left=("last_linear.", "classif."),
    compat="smp",
    marks="whose stem and reductions are padded",
)
_RESNET_V2_OF_TIMM = replace(
    _RESNET_V2,
    name="timm/inception_resnet_v2",
    compat="timm",
    marks="whose stem and reductions pad nothing, and do here",
    note=_UNPADDED,
)
SOURCES = [_V3, _RESNET_V2, _RESNET_V2_OF_TIMM]
STRANGERS: list[Stranger] = []
