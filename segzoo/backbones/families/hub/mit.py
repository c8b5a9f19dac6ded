"""MiT, SegFormer's encoder (Xie et al., 2021, https://arxiv.org/abs/2105.15203), as keras-hub and keras-cv have it.

Both packages' networks know one square image size, which is written into their graphs. Here the same layers with the
same weights work on maps `(B, h, w, C)` in place of sequences, at any size.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from segzoo.backbones.packages import Network, twin
from segzoo.backbones.spec import RESCALED, STANDARDIZED, Convention, Variant, tap_table
from segzoo.backbones.table import BACKBONES
from segzoo.compat import SMP
from segzoo.layouts.mit import STAGES

_HEADS = (1, 2, 5, 8)
_REDUCTIONS = (8, 4, 2, 1)
_PATCHES = (7, 3, 3, 3)
_STRIDES = (4, 2, 2, 2)

# The authors' code, which segmentation_models.pytorch has.
_PAPER = Convention(exact_gelu=True, layer_epsilons={"output_level": 1e-6})

_BEGINS = "The first convolution has stride 4, so the levels begin at P2. "
_UNDILATED = (
    "every position attends to all others, so that without a stride there would be four times as many as the weights "
    "were trained for."
)


def unroll(network: Any, interleaved: bool) -> Any:
    """Rebuild a MiT of either package as a network of plain layers on feature maps.

    Args:
        network: a `MiTBackbone`, built for one size.
        interleaved: its attention reads keys and values as keras-cv's does, see SpatialReductionAttention.
    """
    import keras

    images = x = keras.Input(network.input.shape[1:])
    norms = [layer for layer in network.layers if type(layer) is keras.layers.LayerNormalization]
    blocks = [layer for layer in network.layers if type(layer).__name__ == "HierarchicalTransformerEncoder"]
    for layer in network.layers:
        if isinstance(layer, keras.layers.Rescaling):
            x = twin(layer, "rescaling", x)
    for stage, norm in enumerate(norms):
        x = _embed(network.get_layer(f"patch_and_embed_{stage}"), x, centred=not interleaved)
        for block in blocks:
            if block.name.startswith(f"hierarchical_encoder_{stage}_"):
                # The rate that segzoo's `drop_path` means at the deepest block, falling linearly to the first.
                rate = 0.2 * blocks.index(block) / (len(blocks) - 1)
                x = _block(block, x, rate, interleaved)
        x = twin(norm, f"output_level_{stage}", x)
    return keras.Model(images, x, name=network.name)


def _embed(layer: Any, x: Any, centred: bool) -> Any:
    """Apply the overlapping patch embedding: a strided convolution, normalised."""
    import keras

    if centred:
        x = keras.layers.ZeroPadding2D(layer.patch_size // 2, name=f"{layer.name}_pad")(x)
    x = twin(layer.proj, f"{layer.name}_conv", x)
    return twin(layer.norm, f"{layer.name}_norm", x)


def _block(block: Any, x: Any, rate: float, interleaved: bool) -> Any:
    """Apply a transformer block: attention, then an MLP with a depthwise convolution, both residual."""
    import keras

    from segzoo.layers import SpatialReductionAttention, tanh_gelu

    name, attention, mlp = block.name, block.attn, block.mlp

    def residual(shortcut: Any, branch: Any, part: str) -> Any:
        if rate:
            branch = keras.layers.Dropout(rate, noise_shape=(None, 1, 1, 1), name=f"{name}_{part}_drop")(branch)
        return keras.layers.Add(name=f"{name}_{part}_add")([shortcut, branch])

    own = SpatialReductionAttention(
        attention.num_heads, attention.sr_ratio, interleaved=interleaved, name=f"{name}_attention"
    )
    attended = own(twin(block.norm1, f"{name}_norm1", x))
    pairs = {"query": "q", "key": "k", "value": "v", "project": "proj", "reduce": "sr", "norm": "norm"}
    for ours, theirs in pairs.items():
        if getattr(own, ours) is not None:
            getattr(own, ours).set_weights(getattr(attention, theirs).get_weights())
    x = residual(x, attended, "attention")
    hidden = twin(mlp.fc1, f"{name}_expand", twin(block.norm2, f"{name}_norm2", x))
    hidden = twin(mlp.dwconv, f"{name}_depthwise", hidden)
    hidden = keras.layers.Activation(tanh_gelu, name=f"{name}_gelu")(hidden)
    return residual(x, twin(mlp.fc2, f"{name}_project", hidden), "mlp")


def _networks(size: str) -> dict[str, Network]:
    channels, blocks = STAGES[size]
    cv = {"embedding_dims": channels, "depths": blocks, "include_rescaling": True}
    hub = {
        "hidden_dims": channels,
        "layerwise_depths": blocks,
        "num_layers": 4,
        "layerwise_num_heads": _HEADS,
        "layerwise_sr_ratios": _REDUCTIONS,
        "max_drop_path_rate": 0.1,
        "layerwise_patch_sizes": _PATCHES,
        "layerwise_strides": _STRIDES,
    }
    return {
        f"hub_mit_{size}": Network("keras_hub", "MiTBackbone", hub, partial(unroll, interleaved=False)),
        f"kcv_mit_{size}": Network("keras_cv", "MiTBackbone", cv, partial(unroll, interleaved=True)),
    }


def _variant(name: str) -> Variant:
    size = name[-2:]
    channels, blocks = STAGES[size]
    of_hub = name.startswith("hub")
    table = tap_table(
        *(
            f"P{stage + 2} output_level_{stage} {width} normalised output of stage {stage + 1}, {blocks[stage]} blocks"
            for stage, width in enumerate(channels)
        )
    )
    if of_hub:
        side = 640 if size == "b5" else 512
        presets: tuple[str, ...] = (f"mit_{size}_ade20k_{side}", f"mit_{size}_cityscapes_1024")
        quirk = (
            _BEGINS
            + "The presets are encoders of SegFormer models trained on ADE20K or Cityscapes, not on ImageNet only."
        )
    else:
        presets = ("mit_b0_imagenet",) if size == "b0" else ()
        quirk = _BEGINS + (
            "The spatial reduction of keys and values in keras-cv's attention confuses pixels and channels, depending "
            "on the image size. This is kept, because the pretrained weights were trained with it; hub_mit follows the "
            "paper."
        )
    return Variant(
        name,
        f"segzoo.backbones.families.hub.mit:NETWORKS[{name}]",
        name.removesuffix(f"_{size}"),
        STANDARDIZED if of_hub else RESCALED,
        {"output": table},
        centred_strides=of_hub,
        undilated=_UNDILATED,
        published=bool(presets),
        package="keras-hub" if of_hub else "keras-cv",
        presets=presets,
        first_stride=4,
        conventions={SMP: _PAPER} if of_hub else {},
        quirk=quirk,
    )


NETWORKS = {name: network for size in STAGES for name, network in _networks(size).items()}
VARIANTS = {name: _variant(name) for name in sorted(NETWORKS)}  # keras-hub's first
BACKBONES.register_all(VARIANTS)
