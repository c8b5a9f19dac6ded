"""VGG-16 and -19 of torchvision, timm and SMP, without and with batch normalisation, which is folded into kernels."""

from __future__ import annotations

from collections.abc import Iterator

from segzoo.interop.backbones.pixels import IMAGENET
from segzoo.interop.backbones.source import Source, Stranger
from segzoo.interop.rows import Row

# Convolutions of the five blocks.
_BLOCKS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_FOLDED = (
    "Its batch normalisation is folded into the convolutions: the backbone has none and computes the same as the "
    "original when that is not trained"
)


def _rows(blocks: tuple[int, ...], normalized: bool) -> Iterator[Row]:
    """Yield the rows of layers that a Sequential numbers, activations and pooling among them."""
    number = 0
    for block, count in enumerate(blocks, 1):
        for convolution in range(1, count + 1):
            folded = f"features.{number + 1}" if normalized else ""
            yield Row(f"features.{number}", f"block{block}_conv{convolution}", folded=folded)
            number += 3 if normalized else 2
        number += 1


SOURCES = [
    Source(
        name=f"torchvision/vgg{layers}{ending}",
        same=(f"timm/vgg{layers}{ending}", f"smp/vgg{layers}{ending}"),
        backbone=f"vgg{layers}",
        rows=tuple(_rows(blocks, bool(ending))),
        left=("classifier.", "pre_logits.", "head."),
        compat="torchvision",
        note=_FOLDED if ending else "",
        **IMAGENET,
    )
    for layers, blocks in _BLOCKS.items()
    for ending in ("", "_bn")
]
STRANGERS = [
    Stranger(name="VGG-11", sign="features.3.weight", shape=(128, 64, 3, 3), nearest="vgg16"),
    Stranger(name="VGG-11 with batch normalisation", sign="features.4.weight", shape=(128, 64, 3, 3), nearest="vgg16"),
    Stranger(name="VGG-13", sign="features.15.weight", shape=(512, 256, 3, 3), nearest="vgg16"),
    Stranger(name="VGG-13 with batch normalisation", sign="features.21.weight", shape=(512, 256, 3, 3),
             nearest="vgg16"),
]  # fmt: skip
