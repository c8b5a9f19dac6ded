"""DINOv3 (Siméoni et al., 2025, https://arxiv.org/abs/2508.10104), of rotary positions, with keras-hub's weights."""

from __future__ import annotations

from typing import Any

from segzoo.backbones.plain_vit import EMBEDDING, PATCHES, UNDILATED, PlainViT, assign_blocks
from segzoo.backbones.spec import STANDARDIZED, Variant
from segzoo.backbones.table import BACKBONES

# Size to the channels, blocks and heads. Left out are those with a gated MLP (plus) and of 7 billion parameters.
_SIZES = {"small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}
_PATCH, _REGISTERS, _ROTARY, _EPSILON = 16, 4, 100.0, 1e-5


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


def _network(name: str, size: str) -> PlainViT:
    width, depth, heads = _SIZES[size]
    return PlainViT(
        name,
        _PATCH,
        width,
        depth,
        heads,
        assign,
        registers=_REGISTERS,
        scale=1.0,
        epsilon=_EPSILON,
        rotary=_ROTARY,
        key_bias=False,
        backbone="DINOV3Backbone",
    )


def _variant(name: str, size: str) -> Variant:
    return Variant(
        name,
        f"segzoo.backbones.families.hub.dinov3:NETWORKS[{name}]",
        "hub_dinov3",
        STANDARDIZED,
        {"blocks": NETWORKS[name].taps()},
        undilated=UNDILATED,
        package="keras-hub",
        presets=(f"dinov3_vit_{size}_lvd1689m",),
        patch=_PATCH,
        quirk="Positions are rotary: angles of places relative to the image's sides, for images of any size.",
    )


NETWORKS = {f"hub_dinov3_{size}": _network(f"hub_dinov3_{size}", size) for size in _SIZES}
VARIANTS = {f"hub_dinov3_{size}": _variant(f"hub_dinov3_{size}", size) for size in _SIZES}
BACKBONES.register_all(VARIANTS)
