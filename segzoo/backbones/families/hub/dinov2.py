"""DINOv2 (Oquab et al., 2023, https://arxiv.org/abs/2304.07193), also with registers, with keras-hub's weights."""

from __future__ import annotations

from typing import Any

from segzoo.backbones.plain_vit import EMBEDDING, PATCHES, UNDILATED, PlainViT, assign_blocks
from segzoo.backbones.spec import STANDARDIZED, Variant
from segzoo.backbones.table import BACKBONES

# Size to the channels, blocks and heads; the giant, with 1.1 billion parameters and another MLP, is left out.
_SIZES = {"small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}
_PATCH, _SIDE, _REGISTERS = 14, 518, 4


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


def _network(name: str, size: str, registers: int) -> PlainViT:
    width, depth, heads = _SIZES[size]
    return PlainViT(
        name,
        _PATCH,
        width,
        depth,
        heads,
        assign,
        grid=_SIDE // _PATCH,
        registers=registers,
        antialias=bool(registers),  # as the authors trained and published either
        scale=1.0,
        backbone="DINOV2Backbone",
    )


def _variant(name: str) -> Variant:
    network = NETWORKS[name]
    return Variant(
        name,
        f"segzoo.backbones.families.hub.dinov2:NETWORKS[{name}]",
        "hub_dinov2",
        STANDARDIZED,
        {"blocks": network.taps()},
        undilated=UNDILATED,
        package="keras-hub",
        presets=(name.removeprefix("hub_").replace("dinov2_registers", "dinov2_with_registers"),),
        patch=_PATCH,
        quirk=f"Trained for images of {_SIDE}x{_SIDE}, whose positions are interpolated to those of others.",
    )


NETWORKS = {
    name: _network(name, size, registers)
    for form, registers in (("", 0), ("registers_", _REGISTERS))
    for size in _SIZES
    for name in (f"hub_dinov2_{form}{size}",)
}
VARIANTS = {name: _variant(name) for name in NETWORKS}
BACKBONES.register_all(VARIANTS)
