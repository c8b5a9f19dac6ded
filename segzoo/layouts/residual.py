"""Residual networks (He et al., 2015): ResNet as PyTorch has it, ResNeXt and SE-ResNet, by their names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

WIDTHS = (64, 128, 256, 512)  # of the stages


@dataclass(frozen=True)
class Layout:
    """Form of a residual network of four stages.

    Attributes:
        blocks: number of blocks of each stage.
        bottleneck: whether a block is 1x1, 3x3 and 1x1 to four times the width, else 3x3 twice.
        groups: groups of the 3x3 convolution of a bottleneck.
        group_width: channels of a group in the first stage, twice as many in each further stage.
        squeeze: channels per channel of the bottleneck of squeeze-and-excitation at a block's end, which has 8 at
            least; 0 without.
        strided_first: whether a stage strides in the first convolution of its first block, else in the first 3x3.
        pads_pooling: whether the stem's pooling is padded at both sides, as PyTorch's; else as TensorFlow's "same".
    """

    blocks: tuple[int, ...]
    bottleneck: bool = True
    groups: int = 1
    group_width: int = 64
    squeeze: int = 0
    strided_first: bool = False
    pads_pooling: bool = True

    @property
    def factor(self) -> int:
        """Channels of a block's output per channel of the stage's width."""
        return 4 if self.bottleneck else 1

    def convolutions(self, width: int) -> list[tuple[int, int, int]]:
        """Return kernel size, channels and groups of the convolutions of a block; width 64, 128, 256 or 512."""
        inner = width * self.group_width // 64 * self.groups
        if not self.bottleneck:
            return [(3, width, 1), (3, width, 1)]
        return [(1, inner, 1), (3, inner, self.groups), (1, self.factor * width, 1)]

    def second_kernel(self) -> tuple[int, int, int, int]:
        """Return the shape of the second convolution's kernel in PyTorch's order, which tells widths and groups."""
        (_, inputs, _), (size, channels, groups), *_ = self.convolutions(WIDTHS[0])
        return channels, inputs // groups, size, size


_18 = Layout((2, 2, 2, 2), bottleneck=False)
_34 = Layout((3, 4, 6, 3), bottleneck=False)
_50, _101, _152 = Layout((3, 4, 6, 3)), Layout((3, 4, 23, 3)), Layout((3, 8, 36, 3))
RESNETS = {
    "resnet18": _18,
    "resnet34": _34,
    "resnet50_v1b": _50,
    "resnet101_v1b": _101,
    "resnet152_v1b": _152,
}
RESNEXTS = {
    "resnext50_32x4d": replace(_50, groups=32, group_width=4),
    **{
        f"resnext101_{groups}x{width}d": replace(_101, groups=groups, group_width=width)
        for groups, width in ((32, 4), (32, 8), (32, 16), (32, 32), (32, 48), (64, 4))
    },
}

_squeezed = partial(replace, squeeze=16)
# After the authors' Caffe models.
_of_caffe = partial(_squeezed, pads_pooling=False)
SE_RESNETS_OF_CAFFE = {
    "se_resnet50": _of_caffe(_50, strided_first=True),
    "se_resnet101": _of_caffe(_101, strided_first=True),
    "se_resnet152": _of_caffe(_152, strided_first=True),
    "se_resnext50_32x4d": _of_caffe(RESNEXTS["resnext50_32x4d"]),
    "se_resnext101_32x4d": _of_caffe(RESNEXTS["resnext101_32x4d"]),
}
# On PyTorch's ResNet.
SE_RESNETS = {
    "se_resnet18_v1b": _squeezed(_18),
    "se_resnet34_v1b": _squeezed(_34),
    "se_resnet50_v1b": _squeezed(_50),
    "se_resnet101_v1b": _squeezed(_101),
    "se_resnet152_v1b": _squeezed(_152),
    **{
        f"se_{name}_v1b": _squeezed(RESNEXTS[name])
        for name in ("resnext50_32x4d", "resnext101_32x4d", "resnext101_32x8d", "resnext101_64x4d")
    },
}
