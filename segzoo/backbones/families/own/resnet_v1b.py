"""ResNet as PyTorch has it (He et al., 2015): ResNet-18 and -34, and the deeper ones with the stride in the 3x3 kernel.

keras.applications has neither. A stage of ResNet-50 and deeper strides in its first 3x3 convolution, where Keras's
strides in the 1x1 before it and drops three quarters of its input; GluonCV calls this form "v1b", NVIDIA "v1.5". No
convolution has a bias. `segzoo weights convert` brings the weights of PyTorch models.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from segzoo.backbones.spec import STANDARDIZED, Convention, Variant, tap_table
from segzoo.backbones.table import BACKBONES
from segzoo.compat import LIBRARIES

# Blocks of each stage, and whether they are bottlenecks.
_LAYOUTS = {
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50_v1b": ((3, 4, 6, 3), True),
    "resnet101_v1b": ((3, 4, 23, 3), True),
    "resnet152_v1b": ((3, 8, 36, 3), True),
}
_WIDTHS = (64, 128, 256, 512)


def build(name: str, include_top: bool = False, weights: None = None, input_shape: tuple = (256, 256, 3)) -> Any:
    """Build a network as the constructors of keras.applications do: normalised images to the last stage's output.

    Raises:
        ValueError: a classifier or weights, which it has not.
    """
    import keras

    if include_top or weights is not None:
        raise ValueError(f"no ImageNet weights of {name} are published for Keras; convert a PyTorch checkpoint")
    blocks, bottleneck = _LAYOUTS[name]

    def convolve(x: Any, width: int, size: int, stride: int, place: str, number: str) -> Any:
        if size > 1:
            x = keras.layers.ZeroPadding2D(size // 2, name=f"{place}_pad{number}")(x)
        x = keras.layers.Conv2D(width, size, stride, use_bias=False, name=f"{place}_conv{number}")(x)
        return keras.layers.BatchNormalization(epsilon=1e-5, name=f"{place}_bn{number}")(x)

    def activate(x: Any, layer: str) -> Any:
        return keras.layers.Activation("relu", name=layer)(x)

    images = keras.Input(input_shape)
    x = activate(convolve(images, 64, 7, 2, "stem", ""), "stem_relu")
    x = keras.layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
    x = keras.layers.MaxPooling2D(3, 2, name="stem_pool")(x)
    for stage, (count, width) in enumerate(zip(blocks, _WIDTHS, strict=True), 1):
        kernels = (1, 3, 1) if bottleneck else (3, 3)
        widths = (width, width, 4 * width) if bottleneck else (width, width)
        for block in range(1, count + 1):
            place = f"stage{stage}_block{block}"
            stride = 2 if stage > 1 and block == 1 else 1
            shortcut = x
            if stride > 1 or shortcut.shape[-1] != widths[-1]:
                shortcut = convolve(x, widths[-1], 1, stride, place, "_shortcut")
            for number, (kernel, channels) in enumerate(zip(kernels, widths, strict=True), 1):
                strides = stride if kernel == 3 and number == kernels.index(3) + 1 else 1
                x = convolve(x, channels, kernel, strides, place, str(number))
                x = activate(x, f"{place}_relu{number}") if number < len(kernels) else x
            x = activate(keras.layers.Add(name=f"{place}_add")([shortcut, x]), f"{place}_out")
    return keras.Model(images, x, name=name)


def _variant(name: str) -> Variant:
    blocks, bottleneck = _LAYOUTS[name]
    factor = 4 if bottleneck else 1
    table = tap_table(
        "P1 stem_relu 64 stem",
        *(
            f"P{stage + 1} stage{stage}_block{count}_out {factor * width} output of stage {stage}"
            for stage, (count, width) in enumerate(zip(blocks, _WIDTHS, strict=True), 1)
        ),
    )
    return Variant(
        name,
        f"segzoo.backbones.families.own.resnet_v1b:NETWORKS[{name}]",
        "resnet_v1b",
        STANDARDIZED,
        {"output": table},
        centred_strides=True,
        published=False,
        conventions={library: Convention() for library in LIBRARIES},  # the network here is PyTorch's
        quirk="No ImageNet weights are published for Keras; `segzoo weights convert` converts those of PyTorch models.",
    )


NETWORKS: dict[str, Callable[..., Any]] = {name: partial(build, name) for name in _LAYOUTS}
VARIANTS = {name: _variant(name) for name in _LAYOUTS}
BACKBONES.register_all(VARIANTS)
