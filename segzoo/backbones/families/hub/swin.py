"""Swin transformer (Liu et al., 2021, https://arxiv.org/abs/2103.14030) for any size, with the weights of keras-hub."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from segzoo.backbones.packages import import_package, preset_of
from segzoo.backbones.spec import REFERENCE_DROP_PATH, STANDARDIZED, Variant, tap_table
from segzoo.backbones.table import BACKBONES

# Size to the channels of the first stage, the blocks of the stages and the heads of the first; both double.
_SIZES = {"tiny": (96, (2, 2, 6, 2), 3), "small": (96, (2, 2, 18, 2), 3), "base": (128, (2, 2, 18, 2), 4)}
_PATCH, _WINDOW = 4, 7


def build(
    name: str,
    width: int,
    depths: tuple[int, ...],
    heads: int,
    include_top: bool = False,
    weights: str | None = None,
    input_shape: tuple = (256, 256, 3),
) -> Any:
    """Build a network as the constructors of keras.applications do: normalised images to the last stage, normalised.

    Args:
        name: of the variant.
        width: channels of the first stage.
        depths: blocks of the stages.
        heads: heads of the first stage.
        include_top: has to be False.
        weights: None, or a preset of keras-hub.
        input_shape: height, width, 3.

    Raises:
        MissingPackageError: keras-hub, which fetches the preset, is not installed.
        ValueError: a classifier is requested, which it has not.
        WeightsError: the preset is of another network.
    """
    import keras

    from segzoo.layers import PatchPadding, SpaceToDepth, WindowBlock

    if include_top:
        raise ValueError(f"{name} has no classifier.")

    def normalize(x: Any, layer: str) -> Any:
        return keras.layers.LayerNormalization(epsilon=1e-5, name=layer)(x)

    images = keras.Input(input_shape)
    x = PatchPadding(_PATCH, name="patch_padding")(images)
    x = normalize(keras.layers.Conv2D(width, _PATCH, _PATCH, name="patch_embedding")(x), "patch_norm")
    number, last = 0, max(1, sum(depths) - 1)
    for stage, depth in enumerate(depths):
        if stage:
            x = normalize(SpaceToDepth(name=f"stage{stage}_fold")(x), f"stage{stage}_merge_norm")
            x = keras.layers.Dense(width * 2**stage, use_bias=False, name=f"stage{stage}_merge")(x)
        for block in range(depth):
            shift = _WINDOW // 2 if block % 2 else 0
            rate = REFERENCE_DROP_PATH * number / last
            layer = f"stage{stage}_block{block}"
            x = WindowBlock(heads * 2**stage, _WINDOW, shift, drop_path=rate, name=layer)(x)
            number += 1
    network = keras.Model(images, normalize(x, "norm"), name=name)
    if weights is not None:
        packaged = import_package("keras_hub").models.SwinTransformerBackbone.from_preset(weights)
        with preset_of(name, weights):
            assign(network, packaged)
    return network


def assign(network: Any, packaged: Any) -> None:
    """Set the weights of a network to those of keras-hub's SwinTransformerBackbone; ValueError where it is another."""
    pairs = {"patch_embedding": packaged.patch_embedding.proj, "patch_norm": packaged.patch_embedding.norm}
    blocks: dict[str, Any] = {}
    for stage, theirs in enumerate(packaged.stages):
        blocks |= {f"stage{stage}_block{number}": block for number, block in enumerate(theirs.blocks)}
        if theirs.downsample is not None:
            pairs[f"stage{stage + 1}_merge_norm"] = theirs.downsample.norm
            pairs[f"stage{stage + 1}_merge"] = theirs.downsample.reduction
    own = {layer.name for layer in network.layers if layer.name.partition("_")[2].startswith("block")}
    if own != blocks.keys():
        raise ValueError(f"it has {len(blocks)} blocks, not {len(own)}")
    for name, layer in {**pairs, "norm": packaged.norm}.items():
        network.get_layer(name).set_weights(layer.get_weights())
    for name, theirs in blocks.items():
        block = network.get_layer(name)
        parts = {
            "norm1": theirs.norm1,
            "qkv": theirs.attn.qkv,
            "project": theirs.attn.proj,
            "norm2": theirs.norm2,
            "expand": theirs.mlp.fc1,
            "contract": theirs.mlp.fc2,
        }
        for part, layer in parts.items():
            getattr(block, part).set_weights(layer.get_weights())
        block.bias.assign(theirs.attn.relative_position_bias_table)


def _variant(name: str, size: str) -> Variant:
    width, depths, _ = _SIZES[size]
    last = len(depths) - 1
    rows = [
        f"P{stage + 2} {'norm' if stage == last else f'stage{stage}_block{depth - 1}'} {width * 2**stage} "
        f"output of stage {stage + 1}, {depth} blocks{', normalised' if stage == last else ''}"
        for stage, depth in enumerate(depths)
    ]
    return Variant(
        name,
        f"segzoo.backbones.families.hub.swin:NETWORKS[{name}]",
        "hub_swin",
        STANDARDIZED,
        {"output": tap_table(*rows)},
        undilated="patches are merged, not strided over, and windows have the size that weights were trained for.",
        package="keras-hub",
        presets=(f"swin_{size}_patch4_window7_224",),
        first_stride=4,
        quirk="The first convolution has stride 4, so the levels begin at P2. Maps are padded to whole windows of 7x7.",
    )


NETWORKS: dict[str, Callable[..., Any]] = {
    f"hub_swin_{size}": partial(build, f"hub_swin_{size}", *sizes) for size, sizes in _SIZES.items()
}
VARIANTS = {f"hub_swin_{size}": _variant(f"hub_swin_{size}", size) for size in _SIZES}
BACKBONES.register_all(VARIANTS)
