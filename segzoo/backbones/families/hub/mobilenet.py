"""MobileNetV3 (Howard et al., 2019) as keras-hub has it: timm's, which pads both sides alike, with its weights.

The taps are the last block's outputs at each stride, without the top convolution that widens for classification.
"""

from __future__ import annotations

from typing import Any

from segzoo.backbones.packages import Network, twin, unroll
from segzoo.backbones.spec import RESCALED, STANDARDIZED, Pixels, Variant, tap_table
from segzoo.backbones.table import BACKBONES

# Tables 1 and 2 of the paper, by stage and block, without the first block.
_SMALL: dict[str, Any] = {
    "stackwise_num_blocks": (2, 3, 2, 3),
    "stackwise_kernel_size": ((3, 3), (5, 5, 5), (5, 5), (5, 5, 5)),
    "stackwise_num_strides": ((2, 1), (2, 1, 1), (1, 1), (2, 1, 1)),
    "stackwise_se_ratio": ((None, None), (0.25, 0.25, 0.25), (0.25, 0.25), (0.25, 0.25, 0.25)),
    "stackwise_activation": (("relu",) * 2, ("hard_swish",) * 3, ("hard_swish",) * 2, ("hard_swish",) * 3),
    "depthwise_stride": 2,
    "depthwise_residual": False,
    "squeeze_and_excite": 0.5,
}
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "small_050": {
        **_SMALL,
        "stackwise_expansion": ((40, 56), (64, 144, 144), (72, 72), (144, 288, 288)),
        "stackwise_num_filters": ((16, 16), (24, 24, 24), (24, 24), (48, 48, 48)),
        "depthwise_filters": 8,
        "last_layer_filter": 288,
    },
    "small_100": {
        **_SMALL,
        "stackwise_expansion": ((72, 88), (96, 240, 240), (120, 144), (288, 576, 576)),
        "stackwise_num_filters": ((24, 24), (40, 40, 40), (48, 48), (96, 96, 96)),
        "depthwise_filters": 16,
        "last_layer_filter": 576,
    },
    "large_100": {
        "stackwise_num_blocks": (2, 3, 4, 2, 3),
        "stackwise_expansion": ((64, 72), (72, 120, 120), (240, 200, 184, 184), (480, 672), (672, 960, 960)),
        "stackwise_num_filters": ((24, 24), (40, 40, 40), (80, 80, 80, 80), (112, 112), (160, 160, 160)),
        "stackwise_kernel_size": ((3, 3), (5, 5, 5), (3, 3, 3, 3), (3, 3), (5, 5, 5)),
        "stackwise_num_strides": ((2, 1), (2, 1, 1), (2, 1, 1, 1), (1, 1), (2, 1, 1)),
        "stackwise_se_ratio": ((None,) * 2, (0.25,) * 3, (None,) * 4, (0.25,) * 2, (0.25,) * 3),
        "stackwise_activation": (
            *(("relu",) * blocks for blocks in (2, 3)),
            *(("hard_swish",) * blocks for blocks in (4, 2, 3)),
        ),
        "depthwise_filters": 16,
        "depthwise_stride": 1,
        "depthwise_residual": True,
        "squeeze_and_excite": None,
        "last_layer_filter": 960,
    },
}
# Name to the network, the preset and its pixels: timm's weights of 21,000 classes want theirs from 0 to 1.
_WEIGHTS: dict[str, tuple[str, str, Pixels]] = {
    **{name: (name, f"mobilenet_v3_{name}_imagenet", STANDARDIZED) for name in _ARGUMENTS},
    "large_100_21k": ("large_100", "mobilenet_v3_large_100_imagenet_21k", RESCALED),
}


def _network(name: str) -> Network:
    arguments = _ARGUMENTS[_WEIGHTS[name][0]]
    lists = {
        key: [list(stage) if isinstance(stage, tuple) else stage for stage in value]
        for key, value in arguments.items()
        if isinstance(value, tuple)
    }
    padding = [[kernel // 2 for kernel in stage] for stage in arguments["stackwise_kernel_size"]]
    return Network(
        "keras_hub",
        "MobileNetBackbone",
        # `output_num_filters`, of the classifier, does nothing.
        {**arguments, **lists, "stackwise_padding": padding, "output_num_filters": 1024, "input_num_filters": 16},
        lambda network: unroll(network, _call),
    )


def _call(layer: Any, *inputs: Any) -> Any:
    """Expand a block into plain layers, and name the stem's activation, which keras-hub numbers per process."""
    kind = type(layer).__name__
    return _EXPANDED[kind](layer, *inputs) if kind in _EXPANDED else None


def _separable(block: Any, x: Any) -> Any:
    """Apply the first block: a depthwise and a pointwise convolution."""
    y = _in_turn(block, x, "pad", "conv1", "batch_normalization1", "activation1")
    if block.squeeze_excite_ratio:
        y = _squeeze_excitation(block.se_layer, y)
    y = _in_turn(block, y, "conv2", "batch_normalization2")
    return _add(block, x, y) if block.residual else y


def _inverted(block: Any, x: Any) -> Any:
    """Apply an inverted residual block: convolutions that expand, go over the map, and contract."""
    y = _in_turn(block, x, "conv1", "batch_normalization1", "activation1")
    y = _in_turn(block, y, "pad", "conv2", "batch_normalization2", "activation2")
    if block.squeeze_excite is not None:
        y = _squeeze_excitation(block.squeeze_excite, y)
    y = _in_turn(block, y, "conv3", "batch_normalization3")
    return _add(block, x, y) if block.stride == 1 and block.infilters == block.filters else y


def _top(block: Any, x: Any) -> Any:
    return _in_turn(block, x, "conv", "batch_normalization", "activation_layer")


def _in_turn(block: Any, x: Any, *parts: str) -> Any:
    """Apply layers of a block, named by what they are in it where keras-hub numbers them per process."""
    for part in parts:
        layer = getattr(block, part)
        own = layer.name if layer.name.startswith(block.name) else f"{block.name}_{part}"
        x = twin(layer, own, x)
    return x


def _add(block: Any, x: Any, y: Any) -> Any:
    import keras

    return keras.layers.Add(name=f"{block.name}_add")([x, y])


def _squeeze_excitation(layer: Any, x: Any) -> Any:
    import keras

    mean = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{layer.name}_pool")(x)
    scale = _in_turn(layer, mean, "conv_reduce", "activation1", "conv_expand", "gate")
    return keras.layers.Multiply(name=f"{layer.name}_scale")([x, scale])


_EXPANDED = {
    "Activation": lambda layer, x: twin(layer, "input_activation", x),
    "DepthwiseConvBlock": _separable,
    "InvertedResidualBlock": _inverted,
    "ConvBnActBlock": _top,
}


def _variant(name: str) -> Variant:
    network, preset, pixels = _WEIGHTS[name]
    arguments = _ARGUMENTS[network]
    rows = []
    if arguments["depthwise_stride"] == 1:
        rows.append(f"P1 block_0_0_add {arguments['depthwise_filters']} block 0")
    else:
        rows.append("P1 input_activation 16 stem")
        rows.append(f"P2 block_0_0_bn2 {arguments['depthwise_filters']} block 0")
    strides = [stage[0] for stage in arguments["stackwise_num_strides"]]
    number = 0
    for stage, channels in enumerate(arguments["stackwise_num_filters"]):
        number += len(channels)
        if stage + 1 == len(strides) or strides[stage + 1] > 1:
            layer = f"block_{stage + 1}_{len(channels) - 1}_add"
            rows.append(f"P{len(rows) + 1} {layer} {channels[-1]} block {number}")
    return Variant(
        f"hub_mobilenet_v3_{name}",
        f"segzoo.backbones.families.hub.mobilenet:NETWORKS[hub_mobilenet_v3_{name}]",
        "hub_mobilenet",
        pixels,
        {"output": tap_table(*rows)},
        centred_strides=True,
        package="keras-hub",
        presets=(preset,),
        quirk="" if name == network else f"The network of hub_mobilenet_v3_{network}, for other pixels.",
    )


NETWORKS = {f"hub_mobilenet_v3_{name}": _network(name) for name in _WEIGHTS}
VARIANTS = {f"hub_mobilenet_v3_{name}": _variant(name) for name in _WEIGHTS}
BACKBONES.register_all(VARIANTS)
