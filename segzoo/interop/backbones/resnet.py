"""ResNet of torchvision, timm and segmentation_models.pytorch, which all name its tensors alike."""

from __future__ import annotations

from collections.abc import Iterator

from segzoo.interop.backbones.source import Source, Stranger
from segzoo.interop.rows import Row, table

# Their name to ours, the blocks of each stage, and the convolutions of a block.
_LAYOUTS = {
    "resnet18": ("resnet18", (2, 2, 2, 2), 2),
    "resnet34": ("resnet34", (3, 4, 6, 3), 2),
    "resnet50": ("resnet50_v1b", (3, 4, 6, 3), 3),
    "resnet101": ("resnet101_v1b", (3, 4, 23, 3), 3),
    "resnet152": ("resnet152_v1b", (3, 8, 36, 3), 3),
}
_STEM = ("conv conv1 stem_conv", "norm bn1 stem_bn")
_CONVOLUTION = (
    "conv layer{stage}.{there}.conv{number} stage{stage}_block{here}_conv{number}",
    "norm layer{stage}.{there}.bn{number} stage{stage}_block{here}_bn{number}",
)
_SHORTCUT = (
    "conv layer{stage}.{there}.downsample.0 stage{stage}_block{here}_conv_shortcut",
    "norm layer{stage}.{there}.downsample.1 stage{stage}_block{here}_bn_shortcut",
)


def _rows(blocks: tuple[int, ...], convolutions: int) -> Iterator[Row]:
    yield from table(*_STEM)
    for stage, count in enumerate(blocks, 1):
        for there in range(count):
            place = {"stage": stage, "there": there, "here": there + 1}
            for number in range(1, convolutions + 1):
                yield from table(*_CONVOLUTION, **place, number=number)
            if there == 0 and (stage > 1 or convolutions == 3):
                yield from table(*_SHORTCUT, **place)


SOURCES = [
    Source(
        name=f"torchvision/{theirs}",
        same=(f"timm/{theirs}", f"smp/{theirs}"),
        backbone=ours,
        rows=tuple(_rows(blocks, convolutions)),
        left=("fc.",),
        # Those of ResNeXt are grouped, those of wide ResNets twice as wide.
        shapes={"layer1.0.conv2.weight": (64, 64, 3, 3)},
    )
    for theirs, (ours, blocks, convolutions) in _LAYOUTS.items()
]
STRANGERS = [
    Stranger(name="a ResNeXt of 32 groups of 4", sign="layer1.0.conv2.weight", shape=(128, 4, 3, 3),
             nearest="resnet50_v1b"),
    Stranger(name="a ResNeXt of 32 groups of 8", sign="layer1.0.conv2.weight", shape=(256, 8, 3, 3),
             nearest="resnet101_v1b"),
    Stranger(name="a wide ResNet", sign="layer1.0.conv2.weight", shape=(128, 128, 3, 3), nearest="resnet50_v1b"),
    Stranger(name="a ResNet with three convolutions in its stem (timm's resnet50d and the like)", sign="conv1.0.weight",
             nearest="hub_resnet50_vd"),
    Stranger(name="an SE-ResNet", sign="layer#.#.se_module.fc1.weight", nearest="resnet50_v1b"),
    Stranger(name="an SE-ResNet", sign="layer#.#.se.fc1.weight", nearest="resnet50_v1b"),
]  # fmt: skip
