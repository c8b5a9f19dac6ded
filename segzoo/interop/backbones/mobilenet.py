"""MobileNetV2 and V3 of torchvision, timm and segmentation_models.pytorch (V2: as torchvision)."""

from __future__ import annotations

from collections.abc import Iterator

from segzoo.interop.backbones.pixels import IMAGENET
from segzoo.interop.backbones.source import Source, Stranger
from segzoo.interop.rows import Row, table

# Blocks of timm's stages. Torchvision numbers all blocks in turn.
_V2 = (1, 2, 3, 4, 3, 3, 1)
_V3 = {"small": (1, 2, 3, 2, 3), "large": (1, 2, 3, 4, 2, 3)}
# Blocks with squeeze-and-excitation, and channels that the last block widens to and leaves.
_EXCITED = {"small": (0, *range(3, 11)), "large": (3, 4, 5, *range(10, 15))}
_ENDS = {"v2": (320, 960), "small": (96, 576), "large": (160, 960)}

_OF_TENSORFLOW = "padded as TensorFlow does, batch normalisation's epsilon 1e-3"
_OF_PYTORCH = "padded as PyTorch does, batch normalisation's epsilon 1e-5"


def _places(stages: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Yield the numbers of stage and block of all blocks in turn."""
    for stage, blocks in enumerate(stages):
        for number in range(blocks):
            yield stage, number


def _torchvision_v2() -> Iterator[Row]:
    yield from table("conv features.0.0 Conv1", "norm features.0.1 bn_Conv1")
    for k in range(sum(_V2)):
        theirs, ours = f"features.{k + 1}.conv", f"block_{k}" if k else "expanded_conv"
        wide = bool(k)  # the first block does not widen
        if wide:
            yield from table("conv {x}.0.0 {y}_expand", "norm {x}.0.1 {y}_expand_BN", x=theirs, y=ours)
        yield from table(
            "depthwise {x}.{n}.0 {y}_depthwise", "norm {x}.{n}.1 {y}_depthwise_BN", x=theirs, y=ours, n=int(wide)
        )
        yield from table(
            "conv {x}.{n} {y}_project", "norm {x}.{m} {y}_project_BN", x=theirs, y=ours, n=1 + wide, m=2 + wide
        )


_TIMM_WIDE = (
    "conv blocks.{s}.{n}.conv_pw {y}_expand",
    "norm blocks.{s}.{n}.bn1 {y}_expand_{bn}",
    "depthwise blocks.{s}.{n}.conv_dw {y}_depthwise",
    "norm blocks.{s}.{n}.bn2 {y}_depthwise_{bn}",
    "conv blocks.{s}.{n}.conv_pwl {y}_project",
    "norm blocks.{s}.{n}.bn3 {y}_project_{bn}",
)
_TIMM_FIRST = (
    "depthwise blocks.{s}.{n}.conv_dw {y}_depthwise",
    "norm blocks.{s}.{n}.bn1 {y}_depthwise_{bn}",
    "conv blocks.{s}.{n}.conv_pw {y}_project",
    "norm blocks.{s}.{n}.bn2 {y}_project_{bn}",
)
_TIMM_EXCITED = (
    "conv blocks.{s}.{n}.se.conv_reduce {y}_squeeze_excite_conv",
    "conv blocks.{s}.{n}.se.conv_expand {y}_squeeze_excite_conv_1",
)


def _timm_v2() -> Iterator[Row]:
    yield from table("conv conv_stem Conv1", "norm bn1 bn_Conv1")
    for k, (s, n) in enumerate(_places(_V2)):
        ours = f"block_{k}" if k else "expanded_conv"
        yield from table(*(_TIMM_WIDE if k else _TIMM_FIRST), s=s, n=n, y=ours, bn="BN")


def _third(k: int) -> str:
    """Return how layers of a block of V3 begin here."""
    return f"expanded_conv_{k}" if k else "expanded_conv"


def _timm_v3(size: str) -> Iterator[Row]:
    yield from table("conv conv_stem conv", "norm bn1 conv_bn")
    for k, (s, n) in enumerate(_places(_V3[size])):
        lines = (_TIMM_WIDE if k else _TIMM_FIRST) + (_TIMM_EXCITED if k in _EXCITED[size] else ())
        yield from table(*lines, s=s, n=n, y=_third(k), bn="bn")


def _torchvision_v3(size: str) -> Iterator[Row]:
    yield from table("conv features.0.0 conv", "norm features.0.1 conv_bn")
    for k in range(sum(_V3[size])):
        parts = (
            *((("conv {x}.0 {y}_expand", "norm {x}.1 {y}_expand_bn"),) if k else ()),
            ("depthwise {x}.0 {y}_depthwise", "norm {x}.1 {y}_depthwise_bn"),
            *(
                (("conv {x}.fc1 {y}_squeeze_excite_conv", "conv {x}.fc2 {y}_squeeze_excite_conv_1"),)
                if k in _EXCITED[size]
                else ()
            ),
            ("conv {x}.0 {y}_project", "norm {x}.1 {y}_project_bn"),
        )
        for number, lines in enumerate(parts):  # a Sequential, which numbers what there is
            yield from table(*lines, x=f"features.{k + 1}.block.{number}", y=_third(k))


def _sources() -> Iterator[Source]:
    narrow, wide = _ENDS["v2"]
    shape = (narrow, wide, 1, 1)
    yield Source(
        name="torchvision/mobilenet_v2",
        same=("smp/mobilenet_v2",),
        backbone="mobilenetv2",
        rows=tuple(_torchvision_v2()),
        top=tuple(table("conv features.18.0 Conv_1", "norm features.18.1 Conv_1_bn")),
        left=("classifier.",),
        shapes={"features.17.conv.2.weight": shape},
        compat="torchvision",
        **IMAGENET,
    )
    yield Source(
        name="timm/mobilenetv2_100",
        backbone="mobilenetv2",
        rows=tuple(_timm_v2()),
        top=tuple(table("conv conv_head Conv_1", "norm bn2 Conv_1_bn")),
        left=("classifier.",),
        shapes={"blocks.6.0.conv_pwl.weight": shape},
        compat="timm",
        **IMAGENET,
    )
    for size, stages in _V3.items():
        backbone, last = f"mobilenetv3_{size}", sum(stages)
        narrow, wide = _ENDS[size]
        shape = (narrow, wide, 1, 1)
        yield Source(
            name=f"torchvision/mobilenet_v3_{size}",
            backbone=backbone,
            rows=tuple(_torchvision_v3(size)),
            top=tuple(table("conv features.{n}.0 conv_1", "norm features.{n}.1 conv_1_bn", n=last + 1)),
            left=("classifier.",),
            shapes={f"features.{last}.block.3.0.weight": shape},
            compat="torchvision",
            **IMAGENET,
        )
        for theirs, compat, marks in (
            (f"timm/mobilenetv3_{size}_100", "timm", _OF_PYTORCH),
            (f"timm/tf_mobilenetv3_{size}_100", None, _OF_TENSORFLOW),
        ):
            yield Source(
                name=theirs,
                backbone=backbone,
                rows=tuple(_timm_v3(size)),
                top=tuple(table("conv blocks.{s}.0.conv conv_1", "norm blocks.{s}.0.bn1 conv_1_bn", s=len(stages))),
                left=("conv_head.", "classifier."),
                shapes={f"blocks.{len(stages) - 1}.{stages[-1] - 1}.conv_pwl.weight": shape},
                compat=compat,
                marks=marks,
                **(IMAGENET if compat else {}),
            )


SOURCES = list(_sources())
STRANGERS: list[Stranger] = []
