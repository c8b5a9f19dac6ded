"""MobileNetV3 (Howard et al., 2019) as keras-cv has it.

The taps are the last block's outputs at each stride, without the top convolution that widens for classification.
"""

from __future__ import annotations

from typing import Any

from segzoo.backbones.packages import Network, twin, unroll
from segzoo.backbones.spec import RESCALED, Variant, tap_table
from segzoo.backbones.table import BACKBONES

# Tables 1 and 2 of the paper, by block.
_BLOCKS: dict[str, dict[str, Any]] = {
    "small": {
        "stackwise_expansion": (1, 72 / 16, 88 / 24, 4, 6, 6, 3, 3, 6, 6, 6),
        "stackwise_filters": (16, 24, 24, 40, 40, 40, 48, 48, 96, 96, 96),
        "stackwise_kernel_size": (3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 5),
        "stackwise_stride": (2, 2, 1, 2, 1, 1, 1, 1, 2, 1, 1),
        "stackwise_se_ratio": (0.25, None, None, *(0.25,) * 8),
        "stackwise_activation": ("relu",) * 3 + ("hard_swish",) * 8,
    },
    "large": {
        "stackwise_expansion": (1, 4, 3, 3, 3, 3, 6, 2.5, 2.3, 2.3, 6, 6, 6, 6, 6),
        "stackwise_filters": (16, 24, 24, 40, 40, 40, 80, 80, 80, 80, 112, 112, 160, 160, 160),
        "stackwise_kernel_size": (3, 3, 3, 5, 5, 5, 3, 3, 3, 3, 3, 3, 5, 5, 5),
        "stackwise_stride": (1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1),
        "stackwise_se_ratio": (None, None, None, 0.25, 0.25, 0.25, None, None, None, None, *(0.25,) * 5),
        "stackwise_activation": ("relu",) * 6 + ("hard_swish",) * 9,
    },
}
_TAPS = {
    "small": tap_table(
        "P1 Conv_hard_swish 16 stem",
        "P2 expanded_conv_project_BatchNorm 16 block 0",
        "P3 expanded_conv_2_Add 24 block 2",
        "P4 expanded_conv_7_Add 48 block 7",
        "P5 expanded_conv_10_Add 96 block 10",
    ),
    "large": tap_table(
        "P1 expanded_conv_Add 16 block 0",
        "P2 expanded_conv_2_Add 24 block 2",
        "P3 expanded_conv_5_Add 40 block 5",
        "P4 expanded_conv_11_Add 112 block 11",
        "P5 expanded_conv_14_Add 160 block 14",
    ),
}


def _call(layer: Any, *args: Any) -> Any:
    """Rename layers that keras-cv numbers per process, and expand its squeeze-and-excitation into plain layers."""
    import keras

    kind = type(layer).__name__
    if kind == "SqueezeAndExcite2D":
        return _squeeze_excitation(layer, *args)
    if kind == "ReLU" and not isinstance(layer, keras.layers.Layer):
        return keras.layers.Activation("relu", name=f"{_place(args[0])}_relu")(args[0])
    if kind == "Multiply" and isinstance(args[0], list):
        x, _ = args[0]  # times its hard sigmoid, spelt out as four operations
        return keras.layers.Activation("hard_swish", name=f"{_place(x)}_hard_swish")(x)
    return None


def _place(x: Any) -> str:
    """Return the name of the layer before a batch normalisation, taken from the layer that made `x`."""
    from segzoo.keras_compat import maker_of

    return maker_of(x).name.removesuffix("_BatchNorm")


def _squeeze_excitation(layer: Any, x: Any) -> Any:
    import keras

    name = f"{_place(x).rpartition('_depthwise')[0]}_squeeze_excite"
    mean = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_pool")(x)
    hidden = twin(layer.squeeze_conv, f"{name}_conv", mean)
    scale = twin(layer.excite_conv, f"{name}_conv_1", hidden, activation="hard_sigmoid")
    return keras.layers.Multiply(name=f"{name}_scale")([x, scale])


NETWORKS = {
    f"kcv_mobilenetv3_{size}": Network(
        "keras_cv", "MobileNetV3Backbone", {**blocks, "include_rescaling": True}, lambda network: unroll(network, _call)
    )
    for size, blocks in _BLOCKS.items()
}
VARIANTS = {
    f"kcv_mobilenetv3_{size}": Variant(
        f"kcv_mobilenetv3_{size}",
        f"segzoo.backbones.families.kcv.mobilenet:NETWORKS[kcv_mobilenetv3_{size}]",
        "kcv_mobilenet_v3",
        RESCALED,
        {"output": taps},
        package="keras-cv",
        presets=(f"mobilenet_v3_{size}_imagenet",),
    )
    for size, taps in _TAPS.items()
}
BACKBONES.register_all(VARIANTS)
