"""DenseNet of torchvision, timm and segmentation_models.pytorch, which all name its tensors alike."""

from __future__ import annotations

from collections.abc import Iterator

from segzoo.interop.backbones.source import Source, Stranger
from segzoo.interop.rows import Row, table

# Layers of the dense blocks.
_BLOCKS = {121: (6, 12, 24, 16), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32)}
# "{dot}" is "." in the files that torchvision publishes, which are older than today's names.
_LAYER = (
    "norm features.denseblock{block}.denselayer{n}.norm{dot}1 conv{ours}_block{n}_0_bn",
    "conv features.denseblock{block}.denselayer{n}.conv{dot}1 conv{ours}_block{n}_1_conv",
    "norm features.denseblock{block}.denselayer{n}.norm{dot}2 conv{ours}_block{n}_1_bn",
    "conv features.denseblock{block}.denselayer{n}.conv{dot}2 conv{ours}_block{n}_2_conv",
)
_TRANSITION = (
    "norm features.transition{block}.norm pool{ours}_bn",
    "conv features.transition{block}.conv pool{ours}_conv",
)


def _rows(blocks: tuple[int, ...], dot: str) -> Iterator[Row]:
    yield from table("conv features.conv0 conv1_conv", "norm features.norm0 conv1_bn")
    for block, layers in enumerate(blocks, 1):
        for n in range(1, layers + 1):
            yield from table(*_LAYER, block=block, n=n, ours=block + 1, dot=dot)
        if block < len(blocks):
            yield from table(*_TRANSITION, block=block, ours=block + 1)
    yield from table("norm features.norm5 bn")


SOURCES = [
    Source(
        name=f"torchvision/densenet{layers}",
        same=(f"timm/densenet{layers}", f"smp/densenet{layers}"),
        backbone=f"densenet{layers}",
        rows=tuple(_rows(blocks, dot)),
        left=("classifier.",),
        compat="torchvision",
    )
    for layers, blocks in _BLOCKS.items()
    for dot in ("", ".")
]
STRANGERS = [
    Stranger(name="DenseNet-161", sign="features.denseblock1.denselayer1.norm1.weight", shape=(96,),
             nearest="densenet201"),
    Stranger(name="DenseNet-161", sign="features.denseblock1.denselayer1.norm.1.weight", shape=(96,),
             nearest="densenet201"),
]  # fmt: skip
