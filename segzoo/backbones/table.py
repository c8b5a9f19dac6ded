"""Table of backbone variants and the family modules that define them."""

from __future__ import annotations

from segzoo.registry import Registry

# Family module to the variants in it: a listing must not import them.
FAMILIES = {
    "applications.efficientnet": [f"efficientnet_b{size}" for size in range(8)]
    + [f"efficientnetv2_{size}" for size in ("b0", "b1", "b2", "b3", "s", "m", "l")],
    "applications.resnet": ["resnet50", "resnet101", "resnet152", "resnet50v2", "resnet101v2", "resnet152v2"],
    "own.resnet_v1b": ["resnet18", "resnet34", "resnet50_v1b", "resnet101_v1b", "resnet152_v1b"],
    "applications.vgg": ["vgg16", "vgg19"],
    "applications.densenet": ["densenet121", "densenet169", "densenet201"],
    "applications.mobilenet": ["mobilenet", "mobilenetv2", "mobilenetv3_small", "mobilenetv3_large"],
    "applications.convnext": ["convnext_tiny", "convnext_small", "convnext_base", "convnext_large", "convnext_xlarge"],
    "applications.xception": ["xception"],
    "applications.inception": ["inceptionv3", "inceptionresnetv2"],
    "applications.nasnet": ["nasnet_mobile", "nasnet_large"],
    # Of keras-hub and keras-cv, which are imported when one of them is built.
    "hub.resnet": [f"hub_resnet{layers}" for layers in (18, 50, 101, 152)]
    + ["hub_resnet50v2", "hub_resnet101v2"]
    + [f"hub_resnet{layers}_vd" for layers in (18, 34, 50, 101, 152, 200)],
    "hub.cspnet": ["hub_cspdarknet53", "hub_darknet53", "hub_cspresnet50", "hub_cspresnext50"],
    "hub.mit": [f"{package}_mit_b{size}" for package in ("hub", "kcv") for size in range(6)],
    "kcv.resnet": [f"kcv_resnet{layers}{version}" for version in ("", "v2") for layers in (18, 34, 50, 101, 152)],
    "kcv.densenet": ["kcv_densenet121", "kcv_densenet169", "kcv_densenet201"],
    "kcv.mobilenet": ["kcv_mobilenetv3_small", "kcv_mobilenetv3_large"],
    "kcv.darknet": [f"kcv_cspdarknet_{size}" for size in ("tiny", "s", "m", "l", "xl")],
}
_V2 = [name for name in FAMILIES["applications.efficientnet"] if name.startswith("efficientnetv2")]

BACKBONES = Registry(
    "backbone",
    {
        name: f"segzoo.backbones.families.{module}:VARIANTS[{name}]"
        for module, variants in FAMILIES.items()
        for name in variants
    },
    absent={
        f"efficientnetv2_b{size}": "EfficientNetV2's B variants end at B3. What exists: " + ", ".join(_V2) + "."
        for size in range(4, 8)
    },
    base="segzoo.backbones.spec:Variant",
)
