"""ConvNeXt of torchvision and timm."""

from __future__ import annotations

from collections.abc import Iterator

from segzoo.interop.backbones.source import Source, Stranger
from segzoo.interop.rows import Row, table

# Blocks of the stages, and channels of the first.
_SIZES = {
    "tiny": ((3, 3, 9, 3), 96),
    "small": ((3, 3, 27, 3), 96),
    "base": ((3, 3, 27, 3), 128),
    "large": ((3, 3, 27, 3), 192),
    "xlarge": ((3, 3, 27, 3), 256),
}
# "{s}" and "{n}" are the numbers of stage and block from 0; "{block}" and "{down}" those of torchvision's Sequential.
_TORCHVISION = {
    "stem": ("conv features.0.0 {ours}_stem_conv", "norm features.0.1 {ours}_stem_layernorm"),
    "block": (
        "scale features.{block}.{n}.layer_scale {ours}_stage_{s}_block_{n}_layer_scale",
        "depthwise features.{block}.{n}.block.0 {ours}_stage_{s}_block_{n}_depthwise_conv",
        "norm features.{block}.{n}.block.2 {ours}_stage_{s}_block_{n}_layernorm",
        "linear features.{block}.{n}.block.3 {ours}_stage_{s}_block_{n}_pointwise_conv_1",
        "linear features.{block}.{n}.block.5 {ours}_stage_{s}_block_{n}_pointwise_conv_2",
    ),
    "down": (
        "norm features.{down}.0 {ours}_downsampling_layernorm_{last}",
        "conv features.{down}.1 {ours}_downsampling_conv_{last}",
    ),
    "end": ("norm classifier.0 layer_normalization",),
    "left": ("classifier.2.",),
}
_TIMM = {
    "stem": ("conv stem.0 {ours}_stem_conv", "norm stem.1 {ours}_stem_layernorm"),
    "block": (
        "scale stages.{s}.blocks.{n}.gamma {ours}_stage_{s}_block_{n}_layer_scale",
        "depthwise stages.{s}.blocks.{n}.conv_dw {ours}_stage_{s}_block_{n}_depthwise_conv",
        "norm stages.{s}.blocks.{n}.norm {ours}_stage_{s}_block_{n}_layernorm",
        "linear stages.{s}.blocks.{n}.mlp.fc1 {ours}_stage_{s}_block_{n}_pointwise_conv_1",
        "linear stages.{s}.blocks.{n}.mlp.fc2 {ours}_stage_{s}_block_{n}_pointwise_conv_2",
    ),
    "down": (
        "norm stages.{s}.downsample.0 {ours}_downsampling_layernorm_{last}",
        "conv stages.{s}.downsample.1 {ours}_downsampling_conv_{last}",
    ),
    "end": ("norm head.norm layer_normalization",),
    "left": ("head.fc.",),
}


def _rows(naming: dict[str, tuple[str, ...]], blocks: tuple[int, ...], ours: str) -> Iterator[Row]:
    yield from table(*naming["stem"], ours=ours)
    for s, count in enumerate(blocks):
        if s:
            yield from table(*naming["down"], s=s, down=2 * s, last=s - 1, ours=ours)
        for n in range(count):
            yield from table(*naming["block"], s=s, n=n, block=2 * s + 1, ours=ours)
    yield from table(*naming["end"])


def _sources() -> Iterator[Source]:
    for size, (blocks, channels) in _SIZES.items():
        name = f"convnext_{size}"
        for library, naming, sign in (
            ("torchvision", _TORCHVISION, "features.0.1.weight"),
            ("timm", _TIMM, "stem.1.weight"),
        ):
            if library == "torchvision" and size == "xlarge":
                continue
            yield Source(
                name=f"{library}/{name}",
                backbone=name,
                rows=tuple(_rows(naming, blocks, name)),
                left=naming["left"],
                shapes={sign: (channels,)},
                compat=library,
            )


SOURCES = list(_sources())
STRANGERS = [
    Stranger(name="ConvNeXt V2, which has response normalisation", sign="stages.#.blocks.#.mlp.grn.weight",
             nearest="convnext_tiny"),
]  # fmt: skip
