"""ViT (Dosovitskiy et al., 2020, https://arxiv.org/abs/2010.11929) with the weights that keras-hub has."""

from __future__ import annotations

from typing import Any

from segzoo.backbones.plain_vit import EMBEDDING, PATCHES, PlainViT, assign_blocks, variant
from segzoo.backbones.spec import CENTERED
from segzoo.backbones.table import BACKBONES
from segzoo.layouts.vision_transformer import HUB_VITS

# Weights of each variant, the first the default.
_PRESETS = {
    "hub_vit_base_16": ("vit_base_patch16_224_imagenet", "vit_base_patch16_224_imagenet21k"),
    "hub_vit_base_16_384": ("vit_base_patch16_384_imagenet",),
    "hub_vit_base_32_384": ("vit_base_patch32_384_imagenet",),
    "hub_vit_large_16": ("vit_large_patch16_224_imagenet", "vit_large_patch16_224_imagenet21k"),
    "hub_vit_large_16_384": ("vit_large_patch16_384_imagenet",),
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


# Weights are fine-tuned at other sizes with positions averaged, as timm does it.
NETWORKS = {
    name: PlainViT.of(name, layout, assign=assign, antialias=True, backbone="ViTBackbone")
    for name, layout in HUB_VITS.items()
}
VARIANTS = {name: variant(network, __name__, "hub_vit", CENTERED, _PRESETS[name]) for name, network in NETWORKS.items()}
BACKBONES.register_all(VARIANTS)
