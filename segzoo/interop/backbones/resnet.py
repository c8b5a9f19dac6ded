"""ResNet, ResNeXt and SE-ResNet of torchvision, timm and SMP, which all name the tensors of each alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from segzoo.interop.backbones.source import Source, Stranger
from segzoo.interop.rows import Row, table


class _Network(NamedTuple):
    """Network: our name, its blocks, its first 3x3 kernel, which tells groups and widths, and kind of block."""

    ours: str
    blocks: tuple[int, ...]
    kernel: tuple[int, ...] = (64, 64, 3, 3)
    bottleneck: bool = True


_50, _101, _152 = (3, 4, 6, 3), (3, 4, 23, 3), (3, 8, 36, 3)
# By their names.
_RESNETS = {
    "resnet18": _Network("resnet18", (2, 2, 2, 2), bottleneck=False),
    "resnet34": _Network("resnet34", (3, 4, 6, 3), bottleneck=False),
    "resnet50": _Network("resnet50_v1b", _50),
    "resnet101": _Network("resnet101_v1b", _101),
    "resnet152": _Network("resnet152_v1b", _152),
}
_RESNEXTS = {
    ("torchvision", "timm", "smp"): (
        _Network("resnext50_32x4d", _50, (128, 4, 3, 3)),
        _Network("resnext101_32x8d", _101, (256, 8, 3, 3)),
    ),
    ("timm", "smp"): (
        _Network("resnext101_32x4d", _101, (128, 4, 3, 3)),
        _Network("resnext101_32x16d", _101, (512, 16, 3, 3)),
        _Network("resnext101_32x32d", _101, (1024, 32, 3, 3)),
    ),
    ("smp",): (_Network("resnext101_32x48d", _101, (1536, 48, 3, 3)),),
    ("torchvision", "timm"): (_Network("resnext101_64x4d", _101, (256, 4, 3, 3)),),
}
# After the authors' Caffe models.
_SQUEEZED = (
    _Network("se_resnet50", _50),
    _Network("se_resnet101", _101),
    _Network("se_resnet152", _152),
    _Network("se_resnext50_32x4d", _50, (128, 4, 3, 3)),
    _Network("se_resnext101_32x4d", _101, (128, 4, 3, 3)),
)
# On PyTorch's ResNet.
_SQUEEZED_V1B = {
    "seresnet18": _Network("se_resnet18_v1b", (2, 2, 2, 2), bottleneck=False),
    "seresnet34": _Network("se_resnet34_v1b", (3, 4, 6, 3), bottleneck=False),
    "seresnet50": _Network("se_resnet50_v1b", _50),
    "seresnet101": _Network("se_resnet101_v1b", _101),
    "seresnet152": _Network("se_resnet152_v1b", _152),
    "seresnext50_32x4d": _Network("se_resnext50_32x4d_v1b", _50, (128, 4, 3, 3)),
    "seresnext101_32x4d": _Network("se_resnext101_32x4d_v1b", _101, (128, 4, 3, 3)),
    "seresnext101_32x8d": _Network("se_resnext101_32x8d_v1b", _101, (256, 8, 3, 3)),
    "seresnext101_64x4d": _Network("se_resnext101_64x4d_v1b", _101, (256, 4, 3, 3)),
}
_STEM = ("conv {stem}conv1 stem_conv", "norm {stem}bn1 stem_bn")
_CONVOLUTION = (
    "conv layer{stage}.{there}.conv{number} stage{stage}_block{here}_conv{number}",
    "norm layer{stage}.{there}.bn{number} stage{stage}_block{here}_bn{number}",
)
_SQUEEZE = (
    "conv layer{stage}.{there}.{squeeze}.fc1 stage{stage}_block{here}_se_reduce",
    "conv layer{stage}.{there}.{squeeze}.fc2 stage{stage}_block{here}_se_expand",
)
_SHORTCUT = (
    "conv layer{stage}.{there}.downsample.0 stage{stage}_block{here}_conv_shortcut",
    "norm layer{stage}.{there}.downsample.1 stage{stage}_block{here}_bn_shortcut",
)


def _rows(network: _Network, stem: str = "", squeeze: str = "") -> Iterator[Row]:
    """Yield the rows of all layers; `stem` is what the stem's names begin with, `squeeze` that of the blocks' SE."""
    yield from table(*_STEM, stem=stem)
    for stage, count in enumerate(network.blocks, 1):
        for there in range(count):
            place = {"stage": stage, "there": there, "here": there + 1}
            for number in range(1, 4 if network.bottleneck else 3):
                yield from table(*_CONVOLUTION, **place, number=number)
            if squeeze:
                yield from table(*_SQUEEZE, **place, squeeze=squeeze)
            if there == 0 and (stage > 1 or network.bottleneck):
                yield from table(*_SHORTCUT, **place)


def _source(name: str, same: tuple[str, ...], network: _Network, **naming: str) -> Source:
    return Source(
        name=name,
        same=same,
        backbone=network.ours,
        rows=tuple(_rows(network, **naming)),
        left=("fc.", "last_linear."),
        shapes={"layer1.0.conv2.weight": network.kernel},
    )


SOURCES = [
    *(
        _source(f"torchvision/{theirs}", (f"timm/{theirs}", f"smp/{theirs}"), network)
        for theirs, network in _RESNETS.items()
    ),
    *(
        _source(f"{first}/{network.ours}", tuple(f"{library}/{network.ours}" for library in others), network)
        for (first, *others), networks in _RESNEXTS.items()
        for network in networks
    ),
    *(
        _source(
            f"smp/{network.ours}",
            (f"timm/legacy_{network.ours.replace('_', '', 1)}",),
            network,
            stem="layer0.",
            squeeze="se_module",
        )
        for network in _SQUEEZED
    ),
    *(_source(f"timm/{theirs}", (), network, squeeze="se") for theirs, network in _SQUEEZED_V1B.items()),
]
STRANGERS = [
    Stranger(name="a wide ResNet", sign="layer1.0.conv2.weight", shape=(128, 128, 3, 3), nearest="resnet50_v1b"),
    Stranger(name="a ResNet with three convolutions in its stem (timm's resnet50d and the like)", sign="conv1.0.weight",
             nearest="hub_resnet50_vd"),
    Stranger(name="an SENet of 154 layers", sign="layer0.conv3.weight", nearest="se_resnext101_32x4d"),
]  # fmt: skip
