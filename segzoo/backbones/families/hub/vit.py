"""ViT (Dosovitskiy et al., 2020, https://arxiv.org/abs/2010.11929) with the weights that keras-hub has."""

from __future__ import annotations

from typing import Any

from segzoo.backbones.plain_vit import EMBEDDING, PATCHES, UNDILATED, PlainViT, assign_blocks
from segzoo.backbones.spec import CENTERED, Variant
from segzoo.backbones.table import BACKBONES

# Size to the channels, blocks and heads.
_SIZES = {"base": (768, 12, 12), "large": (1024, 24, 16)}
# Name to the size, the patch, the side of the images that it was trained for, and the presets, the first the default.
_VARIANTS = {
    "hub_vit_base_16": ("base", 16, 224, ("vit_base_patch16_224_imagenet", "vit_base_patch16_224_imagenet21k")),
    "hub_vit_base_16_384": ("base", 16, 384, ("vit_base_patch16_384_imagenet",)),
    "hub_vit_base_32_384": ("base", 32, 384, ("vit_base_patch32_384_imagenet",)),
    "hub_vit_large_16": ("large", 16, 224, ("vit_large_patch16_224_imagenet", "vit_large_patch16_224_imagenet21k")),
    "hub_vit_large_16_384": ("large", 16, 384, ("vit_large_patch16_384_imagenet",)),
}


def assign(network: Any, packaged: Any) -> None:
    """Set the weights of a network to those of keras-hub's ViTBackbone; KeyError or ValueError where it is another."""
    embedding = packaged.get_layer("vit_patching_and_embedding")
    network.get_layer(PATCHES).set_weights(embedding.patch_embedding.get_weights())
    (positions,) = embedding.position_embedding.get_weights()
    network.get_layer(EMBEDDING).set_weights([embedding.class_token.numpy(), positions[None]])
    assign_blocks(network, [_layers(theirs) for theirs in packaged.get_layer("vit_encoder").encoder_layers])


def _layers(theirs: Any) -> dict[str, Any]:
    """Map the names of a block's layers to keras-hub's."""
    return {
        "norm1": theirs.layer_norm_1,
        "query": theirs.mha.query_dense,
        "key": theirs.mha.key_dense,
        "value": theirs.mha.value_dense,
        "project": theirs.mha.output_dense,
        "norm2": theirs.layer_norm_2,
        "expand": theirs.mlp.dense_1,
        "contract": theirs.mlp.dense_2,
    }


def _network(name: str) -> PlainViT:
    size, patch, side, _ = _VARIANTS[name]
    width, depth, heads = _SIZES[size]
    # Weights are fine-tuned at other sizes with positions averaged, as timm does it.
    return PlainViT(
        name, patch, width, depth, heads, assign, grid=side // patch, antialias=True, backbone="ViTBackbone"
    )


def _variant(name: str) -> Variant:
    *_, side, presets = _VARIANTS[name]
    return Variant(
        name,
        f"segzoo.backbones.families.hub.vit:NETWORKS[{name}]",
        "hub_vit",
        CENTERED,
        {"blocks": NETWORKS[name].taps()},
        undilated=UNDILATED,
        package="keras-hub",
        presets=presets,
        patch=NETWORKS[name].patch,
        quirk=f"Trained for images of {side}x{side}, whose positions are interpolated to those of others.",
    )


NETWORKS = {name: _network(name) for name in _VARIANTS}
VARIANTS = {name: _variant(name) for name in _VARIANTS}
BACKBONES.register_all(VARIANTS)
