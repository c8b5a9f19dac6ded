"""Table of backbone variants and the family modules that define them."""

from __future__ import annotations

from segzoo.registry import Registry

_V2 = ", ".join(f"efficientnetv2_{size}" for size in ("b0", "b1", "b2", "b3", "s", "m", "l"))

BACKBONES = Registry(
    "backbone",
    absent={
        f"efficientnetv2_b{size}": f"EfficientNetV2's B variants end at B3. What exists: {_V2}." for size in range(4, 8)
    },
    base="segzoo.backbones.spec:Variant",
    package="segzoo.backbones.families",
    order=(
        "applications.efficientnet",
        "applications.resnet",
        "own.resnet_v1b",
        "own.resnext",
        "own.se_resnet",
        "own.efficientnet_lite",
        "applications.vgg",
        "applications.densenet",
        "applications.mobilenet",
        "applications.convnext",
        "applications.xception",
        "applications.inception",
        "applications.nasnet",
        "own.vit",
        # Of keras-hub and keras-cv, which are imported when one of them is built.
        "hub.resnet",
        "hub.cspnet",
        "hub.mit",
        "hub.vit",
        "hub.dinov2",
        "hub.dinov3",
        "hub.swin",
        "hub.efficientnet",
        "hub.hgnetv2",
        "hub.mobilenet",
        "kcv.resnet",
        "kcv.densenet",
        "kcv.mobilenet",
        "kcv.darknet",
    ),
    listing="by segzoo backbones",
)
