"""ResNet as PyTorch has it (He et al., 2015): ResNet-18 and -34, and the deeper ones with the stride in the 3x3 kernel.

keras.applications has neither. A stage of ResNet-50 and deeper strides in its first 3x3 convolution, where Keras's
strides in the 1x1 before it and drops three quarters of its input; GluonCV calls this form "v1b", NVIDIA "v1.5". No
convolution has a bias. `segzoo weights convert` brings the weights of PyTorch models.

ResNeXt and SE-ResNet, in files of their own, are built from the same blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from segzoo.backbones.spec import STANDARDIZED, Convention, Variant, tap_table
from segzoo.backbones.table import BACKBONES
from segzoo.compat import LIBRARIES
from segzoo.layouts.residual import RESNETS, WIDTHS, Layout

_NO_WEIGHTS = "No ImageNet weights are published for Keras; `segzoo weights convert` converts those of PyTorch models."


def build(
    layout: Layout, name: str, include_top: bool = False, weights: None = None, input_shape: tuple = (256, 256, 3)
) -> Any:
    """Build a network as the constructors of keras.applications do: normalised images to the last stage's output.

    Raises:
        ValueError: a classifier or weights, which it has not.
    """
    import keras

    if include_top or weights is not None:
        raise ValueError(f"no ImageNet weights of {name} are published for Keras; convert a PyTorch checkpoint")

    def convolve(x: Any, width: int, size: int, stride: int, place: str, number: str, groups: int = 1) -> Any:
        if size > 1:
            x = keras.layers.ZeroPadding2D(size // 2, name=f"{place}_pad{number}")(x)
        options = {"groups": groups, "use_bias": False, "name": f"{place}_conv{number}"}
        x = keras.layers.Conv2D(width, size, stride, **options)(x)
        return keras.layers.BatchNormalization(epsilon=1e-5, name=f"{place}_bn{number}")(x)

    def activate(x: Any, layer: str) -> Any:
        return keras.layers.Activation("relu", name=layer)(x)

    def excite(x: Any, place: str) -> Any:
        """Weigh the channels (Hu et al., 2018)."""
        weight = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{place}_se_squeeze")(x)
        inner = max(8, x.shape[-1] // layout.squeeze)
        weight = keras.layers.Conv2D(inner, 1, activation="relu", name=f"{place}_se_reduce")(weight)
        weight = keras.layers.Conv2D(x.shape[-1], 1, activation="sigmoid", name=f"{place}_se_expand")(weight)
        return keras.layers.Multiply(name=f"{place}_se_excite")([x, weight])

    images = keras.Input(input_shape)
    x = activate(convolve(images, 64, 7, 2, "stem", ""), "stem_relu")
    if layout.pads_pooling:
        x = keras.layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
    x = keras.layers.MaxPooling2D(3, 2, padding="valid" if layout.pads_pooling else "same", name="stem_pool")(x)
    for stage, (count, width) in enumerate(zip(layout.blocks, WIDTHS, strict=True), 1):
        convolutions = layout.convolutions(width)
        strided = 0 if layout.strided_first else [size for size, _, _ in convolutions].index(3)
        for block in range(1, count + 1):
            place = f"stage{stage}_block{block}"
            stride = 2 if stage > 1 and block == 1 else 1
            shortcut = x
            if stride > 1 or shortcut.shape[-1] != layout.factor * width:
                shortcut = convolve(x, layout.factor * width, 1, stride, place, "_shortcut")
            for index, (size, channels, groups) in enumerate(convolutions):
                number, steps = str(index + 1), stride if index == strided else 1
                x = convolve(x, channels, size, steps, place, number, groups)
                x = activate(x, f"{place}_relu{number}") if index + 1 < len(convolutions) else x
            x = excite(x, place) if layout.squeeze else x
            x = activate(keras.layers.Add(name=f"{place}_add")([shortcut, x]), f"{place}_out")
    return keras.Model(images, x, name=name)


def variant(name: str, layout: Layout, module: str) -> Variant:
    """Return the variant of a layout that the table `NETWORKS` of a module of this package has under `name`."""
    table = tap_table(
        "P1 stem_relu 64 stem",
        *(
            f"P{stage + 1} stage{stage}_block{count}_out {layout.factor * width} output of stage {stage}"
            for stage, (count, width) in enumerate(zip(layout.blocks, WIDTHS, strict=True), 1)
        ),
    )
    return Variant(
        name,
        f"segzoo.backbones.families.own.{module}:NETWORKS[{name}]",
        module,
        STANDARDIZED,
        {"output": table},
        centred_strides=True,
        published=False,
        conventions={library: Convention() for library in LIBRARIES},  # the network here is PyTorch's
        quirk=_NO_WEIGHTS,
    )


NETWORKS: dict[str, Callable[..., Any]] = {name: partial(build, layout, name) for name, layout in RESNETS.items()}
VARIANTS = {name: variant(name, layout, "resnet_v1b") for name, layout in RESNETS.items()}
BACKBONES.register_all(VARIANTS)
