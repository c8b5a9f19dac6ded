"""Xception of segmentation_models.pytorch and timm (its `legacy_xception`), which name its tensors alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from segzoo.interop.backbones.source import Source, Stranger
from segzoo.interop.rows import Row, table

_SEPARABLE = (
    "spread {theirs}.conv1 {ours}",
    "mix {theirs}.pointwise {ours}",
    "norm {norm} {ours}_bn",
)
# Blocks whose shortcut has a convolution, which is unnamed here: its number there, and how ours ends.
_SHORTCUTS = {1: "", 2: "_1", 3: "_2", 12: "_3"}
_BLOCKS = 12


def _rows() -> Iterator[Row]:
    yield from table("conv conv1 block1_conv1", "norm bn1 block1_conv1_bn")
    yield from table("conv conv2 block1_conv2", "norm bn2 block1_conv2_bn")
    for block in range(1, _BLOCKS + 1):
        for n in range(2 if block in _SHORTCUTS else 3):
            # A Sequential of activation, convolution and normalisation in turn; the first block begins without one.
            place = 3 * n + (0 if block == 1 else 1)
            theirs, norm = f"block{block}.rep.{place}", f"block{block}.rep.{place + 1}"
            yield from table(*_SEPARABLE, theirs=theirs, norm=norm, ours=f"block{block + 1}_sepconv{n + 1}")
    for block, ending in _SHORTCUTS.items():
        yield from table(
            "conv block{block}.skip conv2d{ending}",
            "norm block{block}.skipbn batch_normalization{ending}",
            block=block,
            ending=ending,
        )
    for n in (1, 2):
        yield from table(*_SEPARABLE, theirs=f"conv{n + 2}", norm=f"bn{n + 2}", ours=f"block14_sepconv{n}")


_OF_SMP = Source(
    name="smp/xception",
    backbone="xception",
    rows=tuple(_rows()),
    left=("fc.", "last_linear."),
    compat="smp",
    marks="whose first two convolutions are padded",
)
_OF_TIMM = replace(
    _OF_SMP,
    name="timm/legacy_xception",
    same=("timm/xception",),
    compat="timm",
    marks="whose first two convolutions pad nothing, and do here",
    note="The original's first two convolutions pad nothing, so that its maps are smaller; here they are padded by "
    "a pixel, as in segmentation_models.pytorch, and features differ by that",
)
SOURCES = [_OF_SMP, _OF_TIMM]
STRANGERS: list[Stranger] = []
