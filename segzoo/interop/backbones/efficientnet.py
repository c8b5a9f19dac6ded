"""EfficientNet, EfficientNet-Lite and EfficientNetV2 of torchvision, timm and the packages that followed the original.

Each library names the same blocks in its own way (`_NAMINGS`), whatever the variant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from segzoo.interop.backbones.pixels import HALVES, IMAGENET
from segzoo.interop.backbones.source import Source, Stranger
from segzoo.interop.rows import Row, table
from segzoo.layouts.efficientnet import LITE, STAGES, V1, Scale


class _Stage(NamedTuple):
    """Stage: the kind of its blocks, which is a key of a naming, their number, and squeeze-and-excitation."""

    kind: str
    blocks: int
    excited: bool


# Blocks of the plain, the fused and the other stages of V2, and the channels that enter and leave the last stage.
_V2 = {
    "b0": ((1,), (2, 2), (3, 5, 8), (112, 192)),
    "b1": ((2,), (3, 3), (4, 6, 9), (112, 192)),
    "b2": ((2,), (3, 3), (4, 6, 10), (120, 208)),
    "b3": ((2,), (3, 3), (5, 7, 12), (136, 232)),
    "s": ((2,), (4, 4), (6, 9, 15), (160, 256)),
    "m": ((3,), (5, 5), (7, 14, 18, 5), (304, 512)),
    "l": ((4,), (7, 7), (10, 19, 25, 7), (384, 640)),
}

# Kind of block to rows. "{s}" and "{n}" are the numbers of stage and block from 0, "{stage}" the stage's from 1, "{k}"
# the block's in the whole network, "{head}" the number of stages and one more.
_Naming = Mapping[str, tuple[str, ...]]
_TORCHVISION: _Naming = {
    "stem": ("conv features.0.0 stem_conv", "norm features.0.1 stem_bn"),
    "separable": (
        "depthwise features.{stage}.{n}.block.0.0 {ours}_dwconv",
        "norm features.{stage}.{n}.block.0.1 {ours}_bn",
        "conv features.{stage}.{n}.block.2.0 {ours}_project_conv",
        "norm features.{stage}.{n}.block.2.1 {ours}_project_bn",
    ),
    "separable excited": (
        "conv features.{stage}.{n}.block.1.fc1 {ours}_se_reduce",
        "conv features.{stage}.{n}.block.1.fc2 {ours}_se_expand",
    ),
    "inverted": (
        "conv features.{stage}.{n}.block.0.0 {ours}_expand_conv",
        "norm features.{stage}.{n}.block.0.1 {ours}_expand_bn",
        "depthwise features.{stage}.{n}.block.1.0 {ours}_{depthwise}",
        "norm features.{stage}.{n}.block.1.1 {ours}_bn",
        "conv features.{stage}.{n}.block.3.0 {ours}_project_conv",
        "norm features.{stage}.{n}.block.3.1 {ours}_project_bn",
    ),
    "inverted excited": (
        "conv features.{stage}.{n}.block.2.fc1 {ours}_se_reduce",
        "conv features.{stage}.{n}.block.2.fc2 {ours}_se_expand",
    ),
    "plain": (
        "conv features.{stage}.{n}.block.0.0 {ours}_project_conv",
        "norm features.{stage}.{n}.block.0.1 {ours}_project_bn",
    ),
    "fused": (
        "conv features.{stage}.{n}.block.0.0 {ours}_expand_conv",
        "norm features.{stage}.{n}.block.0.1 {ours}_expand_bn",
        "conv features.{stage}.{n}.block.1.0 {ours}_project_conv",
        "norm features.{stage}.{n}.block.1.1 {ours}_project_bn",
    ),
    "top": ("conv features.{head}.0 top_conv", "norm features.{head}.1 top_bn"),
    "left": ("classifier.",),
}
_TIMM: _Naming = {
    "stem": ("conv conv_stem stem_conv", "norm bn1 stem_bn"),
    "separable": (
        "depthwise blocks.{s}.{n}.conv_dw {ours}_dwconv",
        "norm blocks.{s}.{n}.bn1 {ours}_bn",
        "conv blocks.{s}.{n}.conv_pw {ours}_project_conv",
        "norm blocks.{s}.{n}.bn2 {ours}_project_bn",
    ),
    "separable excited": (
        "conv blocks.{s}.{n}.se.conv_reduce {ours}_se_reduce",
        "conv blocks.{s}.{n}.se.conv_expand {ours}_se_expand",
    ),
    "inverted": (
        "conv blocks.{s}.{n}.conv_pw {ours}_expand_conv",
        "norm blocks.{s}.{n}.bn1 {ours}_expand_bn",
        "depthwise blocks.{s}.{n}.conv_dw {ours}_{depthwise}",
        "norm blocks.{s}.{n}.bn2 {ours}_bn",
        "conv blocks.{s}.{n}.conv_pwl {ours}_project_conv",
        "norm blocks.{s}.{n}.bn3 {ours}_project_bn",
    ),
    "inverted excited": (
        "conv blocks.{s}.{n}.se.conv_reduce {ours}_se_reduce",
        "conv blocks.{s}.{n}.se.conv_expand {ours}_se_expand",
    ),
    "plain": ("conv blocks.{s}.{n}.conv {ours}_project_conv", "norm blocks.{s}.{n}.bn1 {ours}_project_bn"),
    "fused": (
        "conv blocks.{s}.{n}.conv_exp {ours}_expand_conv",
        "norm blocks.{s}.{n}.bn1 {ours}_expand_bn",
        "conv blocks.{s}.{n}.conv_pwl {ours}_project_conv",
        "norm blocks.{s}.{n}.bn2 {ours}_project_bn",
    ),
    "top": ("conv conv_head top_conv", "norm bn2 top_bn"),
    "left": ("classifier.",),
}
_ORIGINAL: _Naming = {
    "stem": ("conv _conv_stem stem_conv", "norm _bn0 stem_bn"),
    "separable": (
        "depthwise _blocks.{k}._depthwise_conv {ours}_dwconv",
        "norm _blocks.{k}._bn1 {ours}_bn",
        "conv _blocks.{k}._project_conv {ours}_project_conv",
        "norm _blocks.{k}._bn2 {ours}_project_bn",
    ),
    "separable excited": (
        "conv _blocks.{k}._se_reduce {ours}_se_reduce",
        "conv _blocks.{k}._se_expand {ours}_se_expand",
    ),
    "inverted": (
        "conv _blocks.{k}._expand_conv {ours}_expand_conv",
        "norm _blocks.{k}._bn0 {ours}_expand_bn",
        "depthwise _blocks.{k}._depthwise_conv {ours}_{depthwise}",
        "norm _blocks.{k}._bn1 {ours}_bn",
        "conv _blocks.{k}._project_conv {ours}_project_conv",
        "norm _blocks.{k}._bn2 {ours}_project_bn",
    ),
    "inverted excited": (
        "conv _blocks.{k}._se_reduce {ours}_se_reduce",
        "conv _blocks.{k}._se_expand {ours}_se_expand",
    ),
    "top": ("conv _conv_head top_conv", "norm _bn1 top_bn"),
    "left": ("_fc.",),
}
_OF_TENSORFLOW = "padded as TensorFlow does, batch normalisation's epsilon 1e-3"
_OF_PYTORCH = "padded as PyTorch does, batch normalisation's epsilon 1e-5"
_OF_SMP = "padded for the variant's own image size"


def _rows(naming: _Naming, stages: list[_Stage], depthwise: str = "dwconv") -> Iterator[Row]:
    """Yield the rows of the stem and all blocks; `depthwise` is the word of an inverted block's layer here."""
    yield from table(*naming["stem"])
    k = 0
    for s, stage in enumerate(stages):
        for n in range(stage.blocks):
            ours = f"block{s + 1}{chr(ord('a') + n)}"
            lines = naming[stage.kind] + (naming[f"{stage.kind} excited"] if stage.excited else ())
            yield from table(*lines, s=s, n=n, k=k, stage=s + 1, ours=ours, depthwise=depthwise)
            k += 1


def _scaled(scale: Scale) -> tuple[list[_Stage], tuple[int, int]]:
    """Return the stages of a variant of V1 or Lite, and the channels that enter and leave the last one."""
    entering, leaving = scale.channels()[-2:]
    kinds = ("inverted" if number else "separable" for number in range(len(STAGES)))
    stages = [_Stage(kind, count, not scale.lite) for kind, count in zip(kinds, scale.blocks(), strict=True)]
    return stages, (entering, leaving)


def _second(size: str) -> list[_Stage]:
    """Return the stages of a variant of V2."""
    plain, fused, inverted, _ = _V2[size]
    return [
        *(_Stage("plain", count, False) for count in plain),
        *(_Stage("fused", count, False) for count in fused),
        *(_Stage("inverted", count, True) for count in inverted),
    ]


def _source(
    name: str, backbone: str, naming: _Naming, stages: list[_Stage], end: tuple[int, int], **more: Any
) -> Source:
    second = backbone.startswith("efficientnetv2")
    rows = tuple(_rows(naming, stages, "dwconv2" if second else "dwconv"))
    first_of_last = f"block{len(stages)}a_project_conv"
    sign = next(row.tensors[0] for row in rows if row.ours == first_of_last)
    entering, leaving = end
    return Source(
        name=name,
        backbone=backbone,
        rows=rows,
        top=tuple(table(*naming["top"], head=len(stages) + 1)),
        taps_without_top="output",
        left=naming["left"],
        shapes={sign: (leaving, 6 * entering, 1, 1)},
        **more,
    )


def _sources() -> Iterator[Source]:
    torch, timm, smp = ({"compat": word} for word in ("torchvision", "timm", "smp"))
    for size, scale in V1.items():
        backbone, (stages, end) = f"efficientnet_{size}", _scaled(scale)
        yield _source(f"torchvision/{backbone}", backbone, _TORCHVISION, stages, end, **torch)
        yield _source(
            f"timm/{backbone}", backbone, _TIMM, stages, end, same=(f"smp/timm-efficientnet-{size}",),
            marks=_OF_PYTORCH, **timm,
        )  # fmt: skip
        yield _source(f"timm/tf_{backbone}", backbone, _TIMM, stages, end, marks=_OF_TENSORFLOW)
        same = (f"efficientnet-pytorch/efficientnet-{size}",)
        yield _source(f"smp/efficientnet-{size}", backbone, _ORIGINAL, stages, end, same=same, marks=_OF_SMP, **smp)
    for size, scale in LITE.items():
        backbone, (stages, end) = f"efficientnet_{size}", _scaled(scale)
        yield _source(f"timm/{backbone}", backbone, _TIMM, stages, end, marks=_OF_PYTORCH, **timm, **IMAGENET)
        # SMP gave timm's `tf_` weights, made for pixels from -1 to 1, to a network that pads as PyTorch does.
        ported = f"smp/timm-tf_{backbone}"
        yield _source(ported, backbone, _TIMM, stages, end, marks=_OF_PYTORCH, **timm, **HALVES)
        yield _source(f"timm/tf_{backbone}", backbone, _TIMM, stages, end, marks=_OF_TENSORFLOW, **HALVES)
        name = f"efficientnet-lite-pytorch/efficientnet-{size}"
        yield _source(name, backbone, _ORIGINAL, stages, end)
    for size, (_, _, _, end) in _V2.items():
        backbone, theirs, stages = f"efficientnetv2_{size}", f"efficientnet_v2_{size}", _second(size)
        based = size.startswith("b")
        yield _source(
            f"timm/tf_{backbone}", backbone, _TIMM, stages, end, marks=_OF_TENSORFLOW, **({} if based else HALVES)
        )
        if not based:
            pixels = HALVES if size == "l" else IMAGENET
            yield _source(f"timm/{backbone}", backbone, _TIMM, stages, end, marks=_OF_PYTORCH, **timm, **IMAGENET)
            yield _source(f"torchvision/{theirs}", backbone, _TORCHVISION, stages, end, **torch, **pixels)


SOURCES = list(_sources())
STRANGERS = [
    Stranger(name="timm's efficientnetv2_rw_s", sign="blocks.5.14.conv_pwl.weight", shape=(272, None, 1, 1),
             nearest="efficientnetv2_s"),
]  # fmt: skip
