"""CSPDarkNet (Wang et al., 2019) in the form of YOLOX (Ge et al., 2021), as keras-cv has it."""

from __future__ import annotations

from typing import Any

from segzoo.backbones.packages import Network, twin, unroll
from segzoo.backbones.spec import RESCALED, Variant, tap_table
from segzoo.backbones.table import BACKBONES

# Size of a network to the channels and bottlenecks of its stages.
_STAGES = {
    "tiny": ((48, 96, 192, 384), (1, 3, 3, 1)),
    "s": ((64, 128, 256, 512), (1, 3, 3, 1)),
    "m": ((96, 192, 384, 768), (2, 6, 6, 2)),
    "l": ((128, 256, 512, 1024), (3, 9, 9, 3)),
    "xl": ((170, 340, 680, 1360), (4, 12, 12, 4)),
}
_PUBLISHED = ("tiny", "l")


def _call(layer: Any, *args: Any) -> Any:
    """Expand composite layers into plain ones, and merge the focus into one layer."""
    from segzoo.layers import SpaceToDepth

    kind = type(layer).__name__
    if kind == "Sequential":
        return _conv_block(layer, layer.name, *args)
    if kind == "CrossStagePartial":
        return _cross_stage(layer, *args)
    if kind == "GetItem":
        return args[0]  # one of the four slices that the focus concatenates
    if layer.name == "stem_focus":
        return SpaceToDepth(name=layer.name)(args[0][0])
    return None


def _conv_block(block: Any, name: str, x: Any) -> Any:
    """Apply convolution, normalisation and SiLU; keras-cv wraps SiLU in a lambda, which cannot be saved."""
    import keras

    convolution, norm, _ = block.layers
    x = twin(norm, f"{name}_bn", twin(convolution, f"{name}_conv", x))
    return keras.layers.Activation("silu", name=f"{name}_out")(x)


def _cross_stage(stage: Any, x: Any) -> Any:
    """Apply a cross-stage partial block: half of the channels pass the bottlenecks, half bypass them."""
    import keras

    name = stage.name
    inner = _conv_block(stage.darknet_conv1, f"{name}_conv1", x)
    outer = _conv_block(stage.darknet_conv2, f"{name}_conv2", x)
    for number in range(1, stage.num_bottlenecks + 1):
        place, shortcut = f"{name}_bottleneck{number}", inner
        first, second = stage.bottleneck_convs[2 * number - 2 : 2 * number]
        inner = _conv_block(second, f"{place}_conv2", _conv_block(first, f"{place}_conv1", inner))
        if stage.residual:
            inner = keras.layers.Add(name=f"{place}_add")([shortcut, inner])
    x = keras.layers.Concatenate(name=f"{name}_concat")([inner, outer])
    return _conv_block(stage.darknet_conv3, f"{name}_conv3", x)


def _variant(size: str) -> Variant:
    channels, _ = _STAGES[size]
    table = tap_table(
        f"P1 stem_conv_out {channels[0] // 2} stem, space-to-depth of 2x2 pixels and a convolution",
        *(
            f"P{stage} dark{stage}_csp_conv3_out {width} output of stage {stage}"
            for stage, width in enumerate(channels, 2)
        ),
    )
    return Variant(
        f"kcv_cspdarknet_{size}",
        f"segzoo.backbones.families.kcv.darknet:NETWORKS[kcv_cspdarknet_{size}]",
        "kcv_cspdarknet",
        RESCALED,
        {"output": table},
        published=size in _PUBLISHED,
        package="keras-cv",
        presets=(f"csp_darknet_{size}_imagenet",) if size in _PUBLISHED else (),
        quirk="The stem rearranges blocks of 2x2 pixels into channels (space-to-depth); odd sizes are zero-padded.",
    )


NETWORKS = {
    f"kcv_cspdarknet_{size}": Network(
        "keras_cv",
        "CSPDarkNetBackbone",
        {"stackwise_channels": channels, "stackwise_depth": depth, "include_rescaling": True},
        lambda network: unroll(network, _call),
    )
    for size, (channels, depth) in _STAGES.items()
}
VARIANTS = {f"kcv_cspdarknet_{size}": _variant(size) for size in _STAGES}
BACKBONES.register_all(VARIANTS)
