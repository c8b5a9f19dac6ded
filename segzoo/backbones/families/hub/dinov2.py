"""DINOv2 (Oquab et al., 2023, https://arxiv.org/abs/2304.07193), also with registers, with keras-hub's weights."""

from __future__ import annotations

from typing import Any

from segzoo.backbones.plain_vit import EMBEDDING, PATCHES, PlainViT, assign_blocks, variant
from segzoo.backbones.spec import STANDARDIZED
from segzoo.backbones.table import BACKBONES
from segzoo.layouts.vision_transformer import DINOV2, DINOV2_REGISTERS


def assign(network: Any, packaged: Any) -> None:
    """Set the weights of a network to those of keras-hub's DINOV2Backbone; ValueError where it is another."""
    embedding = packaged.embeddings
    network.get_layer(PATCHES).set_weights(embedding.patch_embeddings.projection.get_weights())
    # Those that it was trained with; beside them it keeps others for the size of its images.
    tokens = [embedding.cls_token, embedding.position_embeddings]
    if embedding.num_register_tokens:
        tokens.insert(1, embedding.register_tokens)
    network.get_layer(EMBEDDING).set_weights([token.numpy() for token in tokens])
    assign_blocks(network, [_layers(theirs) for theirs in packaged.encoder.layers])


def _layers(theirs: Any) -> dict[str, Any]:
    """Map the names of a block's layers to keras-hub's."""
    return {
        "norm1": theirs.norm1,
        "query": theirs.attention.attention.query_dense,
        "key": theirs.attention.attention.key_dense,
        "value": theirs.attention.attention.value_dense,
        "project": theirs.attention.attention.output_dense,
        "scale1": theirs.layer_scale1,
        "norm2": theirs.norm2,
        "expand": theirs.mlp.fc1,
        "contract": theirs.mlp.fc2,
        "scale2": theirs.layer_scale2,
    }


NETWORKS = {
    name: PlainViT.of(
        name,
        layout,
        assign=assign,
        antialias=bool(layout.registers),  # as the authors trained and published either
        scale=1.0,
        backbone="DINOV2Backbone",
    )
    for name, layout in (DINOV2 | DINOV2_REGISTERS).items()
}


def _preset(name: str) -> str:
    return name.removeprefix("hub_").replace("dinov2_registers", "dinov2_with_registers")


VARIANTS = {
    name: variant(network, __name__, "hub_dinov2", STANDARDIZED, (_preset(name),)) for name, network in NETWORKS.items()
}
BACKBONES.register_all(VARIANTS)
