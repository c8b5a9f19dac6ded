"""ResNet, ResNeXt and SE-ResNet of torchvision, timm and SMP, which all name the tensors of each alike."""

from __future__ import annotations

from collections.abc import Iterator

from segzoo.interop.backbones.source import Source, Stranger
from segzoo.interop.rows import Row, table
from segzoo.layouts.residual import RESNETS, RESNEXTS, SE_RESNETS, SE_RESNETS_OF_CAFFE, Layout

# Their names to ours.
_RESNETS = {name.removesuffix("_v1b"): name for name in RESNETS}
# Libraries to the networks that all of them have.
_RESNEXTS = {
    ("torchvision", "timm", "smp"): ("resnext50_32x4d", "resnext101_32x8d"),
    ("timm", "smp"): ("resnext101_32x4d", "resnext101_32x16d", "resnext101_32x32d"),
    ("smp",): ("resnext101_32x48d",),
    ("torchvision", "timm"): ("resnext101_64x4d",),
}
# timm's names to ours; it writes SE-ResNets in one word.
_SE_RESNETS = {name.removesuffix("_v1b").replace("_", "", 1): name for name in SE_RESNETS}
_LAYOUTS = RESNETS | RESNEXTS | SE_RESNETS_OF_CAFFE | SE_RESNETS
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


def _rows(layout: Layout, stem: str = "", squeeze: str = "") -> Iterator[Row]:
    """Yield the rows of all layers; `stem` is what the stem's names begin with, `squeeze` that of the blocks' SE."""
    yield from table(*_STEM, stem=stem)
    for stage, count in enumerate(layout.blocks, 1):
        for there in range(count):
            place = {"stage": stage, "there": there, "here": there + 1}
            for number in range(1, 4 if layout.bottleneck else 3):
                yield from table(*_CONVOLUTION, **place, number=number)
            if squeeze:
                yield from table(*_SQUEEZE, **place, squeeze=squeeze)
            if there == 0 and (stage > 1 or layout.bottleneck):
                yield from table(*_SHORTCUT, **place)


def _source(name: str, same: tuple[str, ...], backbone: str, **naming: str) -> Source:
    layout = _LAYOUTS[backbone]
    return Source(
        name=name,
        same=same,
        backbone=backbone,
        rows=tuple(_rows(layout, **naming)),
        left=("fc.", "last_linear."),
        shapes={"layer1.0.conv2.weight": layout.second_kernel()},
    )


SOURCES = [
    *(_source(f"torchvision/{theirs}", (f"timm/{theirs}", f"smp/{theirs}"), ours) for theirs, ours in _RESNETS.items()),
    *(
        _source(f"{first}/{name}", tuple(f"{library}/{name}" for library in others), name)
        for (first, *others), names in _RESNEXTS.items()
        for name in names
    ),
    *(
        _source(f"smp/{name}", (f"timm/legacy_{name.replace('_', '', 1)}",), name, stem="layer0.", squeeze="se_module")
        for name in SE_RESNETS_OF_CAFFE
    ),
    *(_source(f"timm/{theirs}", (), ours, squeeze="se") for theirs, ours in _SE_RESNETS.items()),
]
STRANGERS = [
    Stranger(name="a wide ResNet", sign="layer1.0.conv2.weight", shape=(128, 128, 3, 3), nearest="resnet50_v1b"),
    Stranger(name="a ResNet with three convolutions in its stem (timm's resnet50d and the like)", sign="conv1.0.weight",
             nearest="hub_resnet50_vd"),
    Stranger(name="an SENet of 154 layers", sign="layer0.conv3.weight", nearest="se_resnext101_32x4d"),
]  # fmt: skip
