"""MiT, SegFormer's encoder, of its authors and of segmentation_models.pytorch, which name its tensors alike."""

from __future__ import annotations

from collections.abc import Iterator

from segzoo.interop.backbones.source import Source, Stranger
from segzoo.interop.rows import Row, table
from segzoo.layouts.mit import STAGES

_STAGE = (
    "conv patch_embed{stage}.proj patch_and_embed_{s}_conv",
    "norm patch_embed{stage}.norm patch_and_embed_{s}_norm",
    "norm norm{stage} output_level_{s}",
)
_BLOCK = (
    "norm block{stage}.{n}.norm1 {ours}_norm1",
    "linear block{stage}.{n}.attn.q {ours}_attention/query",
    "keys block{stage}.{n}.attn.kv {ours}_attention/key",
    "values block{stage}.{n}.attn.kv {ours}_attention/value",
    "linear block{stage}.{n}.attn.proj {ours}_attention/project",
    "norm block{stage}.{n}.norm2 {ours}_norm2",
    "linear block{stage}.{n}.mlp.fc1 {ours}_expand",
    "depthwise block{stage}.{n}.mlp.dwconv.dwconv {ours}_depthwise",
    "linear block{stage}.{n}.mlp.fc2 {ours}_project",
)
# Of all stages but the last, whose keys are as many as its pixels.
_REDUCTION = (
    "conv block{stage}.{n}.attn.sr {ours}_attention/reduce",
    "norm block{stage}.{n}.attn.norm {ours}_attention/norm",
)


def _rows(blocks: tuple[int, ...]) -> Iterator[Row]:
    for s, count in enumerate(blocks):
        yield from table(*_STAGE, s=s, stage=s + 1)
        for n in range(count):
            lines = _BLOCK + (_REDUCTION if s + 1 < len(blocks) else ())
            yield from table(*lines, stage=s + 1, n=n, ours=f"hierarchical_encoder_{s}_{n}")


SOURCES = [
    Source(
        name=f"smp/mit_{size}",
        same=(f"segformer/mit_{size}",),
        backbone=f"hub_mit_{size}",
        rows=tuple(_rows(blocks)),
        left=("head.",),
        shapes={"patch_embed1.norm.weight": (channels[0],)},
        compat="smp",
    )
    for size, (channels, blocks) in STAGES.items()
]
STRANGERS: list[Stranger] = []
