"""DINOv3 (Siméoni et al., 2025, https://arxiv.org/abs/2508.10104), of rotary positions, with keras-hub's weights."""

from __future__ import annotations

from typing import Any

from segzoo.backbones.plain_vit import EMBEDDING, PATCHES, PlainViT, assign_blocks, variant
from segzoo.backbones.spec import STANDARDIZED
from segzoo.backbones.table import BACKBONES
from segzoo.layouts.vision_transformer import DINOV3

_ROTARY, _EPSILON = 100.0, 1e-5
_QUIRK = "Positions are rotary: angles of places relative to the image's sides, for images of any size."


def assign(network: Any, packaged: Any) -> None:
    """Set the weights of a network to those of keras-hub's DINOV3Backbone; ValueError where it is another."""
    for name, expected in (("rope_theta", _ROTARY), ("layer_norm_eps", _EPSILON)):
        if (found := getattr(packaged, name)) != expected:
            raise ValueError(f"its {name} is {found}, not {expected}")
    embedding = packaged.embeddings
    network.get_layer(PATCHES).set_weights(embedding.patch_embeddings.projection.get_weights())
    tokens = (embedding.cls_token, embedding.register_tokens)
    network.get_layer(EMBEDDING).set_weights([token.numpy() for token in tokens])
    assign_blocks(network, [_layers(theirs) for theirs in packaged.encoder.layers])


def _layers(theirs: Any) -> dict[str, Any]:
    """Map the names of a block's layers to keras-hub's."""
    return {
        "norm1": theirs.norm1,
        "query": theirs.attention.query_dense,
        "key": theirs.attention.key_dense,
        "value": theirs.attention.value_dense,
        "project": theirs.attention.output_dense,
        "scale1": theirs.layer_scale1,
        "norm2": theirs.norm2,
        "expand": theirs.mlp.up_proj,
        "contract": theirs.mlp.down_proj,
        "scale2": theirs.layer_scale2,
    }


NETWORKS = {
    name: PlainViT.of(
        name,
        layout,
        assign=assign,
        scale=1.0,
        epsilon=_EPSILON,
        rotary=_ROTARY,
        key_bias=False,
        backbone="DINOV3Backbone",
    )
    for name, layout in DINOV3.items()
}


def _preset(name: str) -> str:
    return f"dinov3_vit_{name.rpartition('_')[2]}_lvd1689m"


VARIANTS = {
    name: variant(network, __name__, "hub_dinov3", STANDARDIZED, (_preset(name),), _QUIRK)
    for name, network in NETWORKS.items()
}
BACKBONES.register_all(VARIANTS)
