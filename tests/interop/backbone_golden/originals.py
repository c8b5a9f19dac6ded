"""Networks of torchvision, timm and SMP with weights by name, and the features that they return.

Run with the originals installed (torch, torchvision, timm, segmentation_models.pytorch 0.6), this writes golden.npz
beside itself: `python tests/interop/backbone_golden/originals.py [CASE ...]`; cases that are named are replaced, the
others kept. All weights, statistics of batch normalisation included, are decided by their names (`values`), so that the
file holds shapes and features alone, every third row and fifth column of them, computed in float64.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

FILE = Path(__file__).parent / "golden.npz"
IMAGENET = (np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375]))
HALVES = (np.full(3, 127.5), np.full(3, 127.5))
_EXPANDED = {"P1": "features.2.0.block.0", "P2": "features.3.0.block.0", "P3": "features.4.0.block.0"}
_RESNET = {"P1": "relu", "P2": "layer1", "P3": "layer2", "P4": "layer3", "P5": "layer4"}
_TIMM_RESNET = {**_RESNET, "P1": "act1"}
_EFFICIENTNET = {**_EXPANDED, "P4": "features.6.0.block.0", "P5": "features.8"}
_TIMM_EFFICIENTNET = {"P1": "blocks.1.0.bn1", "P2": "blocks.2.0.bn1", "P3": "blocks.3.0.bn1", "P4": "blocks.5.0.bn1",
                      "P5": "bn2"}  # fmt: skip
_V2 = {"P1": "features.1", "P2": "features.2.0.block.0", "P3": "features.4.0.block.0", "P4": "features.6.0.block.0"}
_TIMM_V2 = {"P1": "blocks.0", "P2": "blocks.1.0.bn1", "P3": "blocks.3.0.bn1", "P4": "blocks.5.0.bn1", "P5": "bn2"}
_TIMM_LITE = {"P1": "blocks.0", "P2": "blocks.1", "P3": "blocks.2", "P4": "blocks.4", "P5": "blocks.6"}
_MOBILE_V2 = {"P1": "features.1", "P2": "features.3", "P3": "features.6", "P4": "features.13", "P5": "features.17"}
_TIMM_V2_MOBILE = {"P1": "blocks.0", "P2": "blocks.1", "P3": "blocks.2", "P4": "blocks.4", "P5": "blocks.6"}
_SMALL = {"P1": "features.0", "P2": "features.1", "P3": "features.3", "P4": "features.8", "P5": "features.11"}
_TIMM_SMALL = {"P1": "bn1", "P2": "blocks.0", "P3": "blocks.1", "P4": "blocks.3", "P5": "blocks.4"}
_LARGE = {"P1": "features.1", "P2": "features.3", "P3": "features.6", "P4": "features.12", "P5": "features.15"}
_TIMM_LARGE = {"P1": "blocks.0", "P2": "blocks.1", "P3": "blocks.2", "P4": "blocks.4", "P5": "blocks.5"}
_VGG16 = {"P1": "features.8", "P2": "features.15", "P3": "features.22", "P4": "features.29", "P5": "features.30"}
_VGG16_BN = {"P1": "features.12", "P2": "features.22", "P3": "features.32", "P4": "features.42", "P5": "features.43"}
_VGG19 = {"P1": "features.8", "P2": "features.17", "P3": "features.26", "P4": "features.35", "P5": "features.36"}
_VGG19_BN = {"P1": "features.12", "P2": "features.25", "P3": "features.38", "P4": "features.51", "P5": "features.52"}
_DENSENET = {"P1": "features.relu0", **{f"P{n + 1}": f"features.transition{n}.relu" for n in (1, 2, 3)}}
_TIMM_DENSENET = {"P1": "features.norm0", **{f"P{n + 1}": f"features.transition{n}.norm" for n in (1, 2, 3)},
                  "P5": "features.norm5"}  # fmt: skip
_CONVNEXT = {"P2": "features.1", "P3": "features.3", "P4": "features.5", "P5": "features.7 > classifier.0"}
_TIMM_CONVNEXT = {"P2": "stages.0", "P3": "stages.1", "P4": "stages.2", "P5": "stages.3 > head.norm"}
_VIT_BASE = {f"T{number // 3}": f"blocks.{number - 1}" for number in (3, 6, 9, 12)}
_DYNAMIC = {"dynamic_img_size": True}
_EVEN = ((64, 96), (44, 68))  # of networks whose stem pools the first pixel first; it has an odd row less of odd maps
_LEGACY = {"P1": "layer0", **{f"P{stage + 1}": f"layer{stage}" for stage in (1, 2, 3, 4)}}
_INCEPTION = {"P1": "Conv2d_2b_3x3", "P2": "Conv2d_4a_3x3", "P3": "Mixed_5d", "P4": "Mixed_6e", "P5": "Mixed_7c"}
_INCEPTION_RESNET = {"P1": "conv2d_2b", "P2": "conv2d_4a", "P3": "repeat", "P4": "repeat_1", "P5": "conv2d_7b"}
_WHOLE = ((64, 96), (128, 64))  # sizes of networks that want multiples of 32


class Case(NamedTuple):
    """Network of a library.

    Attributes:
        features: level to the module whose output it is, " > " and a module to apply to that; empty for an encoder of
            SMP, which returns them.
        pixels: mean and standard deviation that it is given.
        sizes: of images.
        options: of its constructor.
        named: whether the tensors leave a choice, so that the name must be given.
        padded: whether layers that pad nothing are made to pad as TensorFlow does for maps of even sizes, as they do
            here: strided ones a row behind the last, others one at each side.
    """

    features: Mapping[str, str]
    pixels: tuple[np.ndarray, np.ndarray] = IMAGENET
    sizes: tuple[tuple[int, int], ...] = ((64, 96), (45, 67))
    options: Mapping[str, Any] = {}
    named: bool = False
    padded: bool = False


# In golden.npz, by "library/name".
CASES = {
    "torchvision/resnet18": Case(_RESNET),
    "timm/resnext50_32x4d": Case(_TIMM_RESNET),
    "smp/se_resnet50": Case({}, sizes=_EVEN),
    "timm/seresnet18": Case(_TIMM_RESNET),
    "torchvision/efficientnet_b0": Case(_EFFICIENTNET),
    "timm/efficientnet_b0": Case(_TIMM_EFFICIENTNET, named=True),
    "timm/tf_efficientnet_b0": Case(_TIMM_EFFICIENTNET, named=True),
    "smp/efficientnet-b0": Case({}),
    "timm/tf_efficientnet_lite0": Case(_TIMM_LITE, HALVES, named=True),
    "timm/efficientnet_lite0": Case(_TIMM_LITE, named=True),
    "timm/tf_efficientnetv2_b0": Case(_TIMM_V2),
    "torchvision/mobilenet_v2": Case(_MOBILE_V2),
    "timm/mobilenetv2_100": Case(_TIMM_V2_MOBILE),
    "torchvision/mobilenet_v3_small": Case(_SMALL),
    "timm/mobilenetv3_small_100": Case(_TIMM_SMALL, named=True),
    "timm/tf_mobilenetv3_small_100": Case(_TIMM_SMALL, HALVES, named=True),
    "torchvision/vgg16": Case(_VGG16),
    "torchvision/vgg16_bn": Case(_VGG16_BN),
    "timm/densenet121": Case(_TIMM_DENSENET),
    "torchvision/convnext_tiny": Case(_CONVNEXT),
    "timm/convnext_tiny": Case(_TIMM_CONVNEXT),
    "smp/mit_b0": Case({}, sizes=_WHOLE),
    "smp/xception": Case({}, HALVES, sizes=_WHOLE, named=True),
    "torchvision/inception_v3": Case(_INCEPTION, HALVES, _WHOLE, {"init_weights": False}, padded=True),
    "smp/inceptionresnetv2": Case({}, HALVES, named=True),
    "timm/vit_tiny_patch16_224": Case(_VIT_BASE, HALVES, ((64, 96),), _DYNAMIC, named=True),
    "timm/vit_small_patch14_reg4_dinov2": Case(_VIT_BASE, IMAGENET, ((70, 98),), _DYNAMIC),
}
# Compared where the originals are installed.
OTHERS = {
    "torchvision/resnet34": Case(_RESNET),
    "torchvision/resnet50": Case(_RESNET),
    "timm/resnet50": Case(_TIMM_RESNET),
    "timm/resnet101": Case(_TIMM_RESNET),
    "torchvision/resnet152": Case(_RESNET),
    "smp/resnet34": Case({}),
    "torchvision/resnext50_32x4d": Case(_RESNET),
    "smp/resnext50_32x4d": Case({}),
    "smp/resnext101_32x4d": Case({}),
    "torchvision/resnext101_32x8d": Case(_RESNET),
    "smp/resnext101_32x16d": Case({}),
    "timm/resnext101_32x32d": Case(_TIMM_RESNET),
    "smp/resnext101_32x48d": Case({}),
    "torchvision/resnext101_64x4d": Case(_RESNET),
    "smp/se_resnet101": Case({}, sizes=_EVEN),
    "smp/se_resnet152": Case({}, sizes=_EVEN),
    "smp/se_resnext50_32x4d": Case({}, sizes=_EVEN),
    "smp/se_resnext101_32x4d": Case({}, sizes=_EVEN),
    "timm/seresnet34": Case(_TIMM_RESNET),
    "timm/seresnet50": Case(_TIMM_RESNET),
    "timm/seresnet101": Case(_TIMM_RESNET),
    "timm/seresnet152": Case(_TIMM_RESNET),
    "timm/seresnext50_32x4d": Case(_TIMM_RESNET),
    "timm/seresnext101_32x4d": Case(_TIMM_RESNET),
    "timm/seresnext101_32x8d": Case(_TIMM_RESNET),
    "timm/seresnext101_64x4d": Case(_TIMM_RESNET),
    "timm/legacy_seresnet50": Case(_LEGACY, sizes=_EVEN),
    "timm/legacy_seresnext50_32x4d": Case(_LEGACY, sizes=_EVEN),
    "torchvision/efficientnet_b1": Case(_EFFICIENTNET),
    "torchvision/efficientnet_b3": Case(_EFFICIENTNET),
    "torchvision/efficientnet_b4": Case(_EFFICIENTNET),
    "torchvision/efficientnet_b5": Case(_EFFICIENTNET),
    "timm/efficientnet_b2": Case(_TIMM_EFFICIENTNET, named=True),
    "timm/tf_efficientnet_b6": Case(_TIMM_EFFICIENTNET, named=True),
    "timm/tf_efficientnet_b7": Case(_TIMM_EFFICIENTNET, named=True),
    "smp/efficientnet-b2": Case({}),
    "smp/efficientnet-b3": Case({}),
    "smp/timm-efficientnet-b1": Case(_TIMM_EFFICIENTNET, named=True),
    "smp/timm-tf_efficientnet_lite0": Case(_TIMM_LITE, named=True),
    "timm/tf_efficientnet_lite1": Case(_TIMM_LITE, HALVES, named=True),
    "timm/tf_efficientnet_lite4": Case(_TIMM_LITE, HALVES, named=True),
    "timm/tf_efficientnetv2_b1": Case(_TIMM_V2),
    "timm/tf_efficientnetv2_b2": Case(_TIMM_V2),
    "timm/tf_efficientnetv2_b3": Case(_TIMM_V2),
    "timm/tf_efficientnetv2_s": Case(_TIMM_V2, HALVES, named=True),
    "timm/efficientnetv2_s": Case(_TIMM_V2, named=True),
    "torchvision/efficientnet_v2_s": Case({**_V2, "P5": "features.7"}),
    "torchvision/efficientnet_v2_m": Case({**_V2, "P5": "features.8"}),
    "torchvision/efficientnet_v2_l": Case({**_V2, "P5": "features.8"}, HALVES),
    "torchvision/mobilenet_v3_large": Case(_LARGE),
    "timm/mobilenetv3_large_100": Case(_TIMM_LARGE, named=True),
    "timm/tf_mobilenetv3_large_100": Case(_TIMM_LARGE, HALVES, named=True),
    "timm/vgg16": Case(_VGG16),
    "timm/vgg16_bn": Case(_VGG16_BN),
    "torchvision/vgg19": Case(_VGG19),
    "torchvision/vgg19_bn": Case(_VGG19_BN),
    "torchvision/densenet121": Case(_DENSENET),
    "torchvision/densenet169": Case(_DENSENET),
    "timm/densenet201": Case(_TIMM_DENSENET),
    "torchvision/convnext_small": Case(_CONVNEXT),
    "timm/convnext_base": Case(_TIMM_CONVNEXT),
    "torchvision/convnext_large": Case(_CONVNEXT),
    "timm/vit_tiny_patch16_384": Case(_VIT_BASE, HALVES, ((64, 96),), _DYNAMIC, named=True),
    "timm/vit_small_patch8_224": Case(_VIT_BASE, HALVES, ((64, 96),), _DYNAMIC, named=True),
    "timm/vit_small_patch16_224": Case(_VIT_BASE, HALVES, ((224, 224), (64, 96)), _DYNAMIC, named=True),
    "timm/vit_small_patch32_384": Case(_VIT_BASE, HALVES, ((64, 96),), _DYNAMIC, named=True),
    "timm/vit_base_patch8_224": Case(_VIT_BASE, HALVES, ((64, 96),), _DYNAMIC, named=True),
    "timm/deit_tiny_patch16_224": Case(_VIT_BASE, IMAGENET, ((64, 96),), _DYNAMIC, named=True),
    "timm/deit_small_patch16_224": Case(_VIT_BASE, IMAGENET, ((64, 96),), _DYNAMIC, named=True),
    "timm/vit_base_patch16_224": Case(_VIT_BASE, HALVES, ((224, 224), (64, 96)), _DYNAMIC, named=True),
    "timm/vit_base_patch32_384": Case(_VIT_BASE, HALVES, ((64, 96),), _DYNAMIC, named=True),
    "timm/deit_base_patch16_384": Case(_VIT_BASE, IMAGENET, ((64, 96),), _DYNAMIC, named=True),
    "timm/vit_small_patch14_dinov2": Case(_VIT_BASE, sizes=((518, 518),)),
    "timm/inception_v3": Case(_INCEPTION, HALVES, _WHOLE, padded=True),
    "timm/inception_resnet_v2": Case(_INCEPTION_RESNET, HALVES, _WHOLE, named=True, padded=True),
    "smp/mit_b1": Case({}, sizes=_WHOLE),
    "smp/mit_b2": Case({}, sizes=_WHOLE),
    "smp/mit_b5": Case({}, sizes=_WHOLE),
}


def values(name: str, shape: tuple[int, ...], normalized: bool) -> np.ndarray:
    """Weights of a tensor by its name, float32.

    Variances of a network with batch normalisation (`normalized`) are about 0.02, so that its epsilon matters. NumPy
    promises that `RandomState` draws the same numbers for ever.
    """
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith("running_var"):
        return rng.uniform(0.01, 0.03, shape).astype("float32")
    if name.endswith(("bias", "running_mean")):
        return rng.normal(0, 0.02 if name.endswith("running_mean") else 0.1, shape).astype("float32")
    if len(shape) == 1 or name.endswith("layer_scale"):
        return rng.uniform(0.3, 0.9, shape).astype("float32")
    deviation = (2 / np.prod(shape[1:])) ** 0.5 * (0.1 if normalized else 1.0)
    return rng.normal(0, deviation, shape).astype("float32")


def generated(shapes: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A state dict of these shapes."""
    normalized = any(name.endswith("running_var") for name in shapes)

    def is_unread(shape: tuple[int, ...]) -> bool:  # only a classifier has so many weights
        return len(shape) == 2 and math.prod(shape) > 3_000_000

    return {
        name: np.zeros(shape, "float32") if is_unread(shape) else values(name, tuple(shape), normalized)
        for name, shape in shapes.items()
    }


def images(size: tuple[int, int]) -> np.ndarray:
    """Coloured blocks with some noise, `(1, H, W, 3)`, float32, pixels 0..255."""
    rng = np.random.RandomState(9)
    blocks = rng.uniform(0, 255, (1, -(-size[0] // 8), -(-size[1] // 8), 3))
    spread = blocks.repeat(8, axis=1).repeat(8, axis=2)[:, : size[0], : size[1]]
    return (0.8 * spread + rng.uniform(0, 51, spread.shape)).astype("float32")


def part(feature: np.ndarray) -> np.ndarray:
    """Pixels of a feature `(B, H, W, C)` that are stored."""
    return feature[:, ::3, ::5, ::7]


def read(name: str) -> tuple[dict[str, np.ndarray], dict[tuple[int, int], dict[str, np.ndarray]]]:
    """State dict of a case in golden.npz, and its features by size of the image and level."""
    with np.load(FILE) as stored:
        shapes = json.loads(str(stored[f"{name}/shapes"]))
        found: dict[tuple[int, int], dict[str, np.ndarray]] = {}
        for key in stored.files:
            if key.startswith((f"{name}/P", f"{name}/T")):
                level, height, width = key.removeprefix(f"{name}/").split("-")
                found.setdefault((int(height), int(width)), {})[level] = stored[key]
        return generated(shapes), found


def shapes_of(network: Any) -> dict[str, list[int]]:
    """Names of the tensors of a network to their shapes."""
    state = network.state_dict()
    return {name: list(value.shape) for name, value in state.items() if not name.endswith("num_batches_tracked")}


def original(name: str, case: Case) -> Any:
    """The original's network of a case, in double precision, with weights by name."""
    import torch

    library, _, called = name.partition("/")
    if library == "torchvision":
        import torchvision

        network = getattr(torchvision.models, called)(weights=None, **case.options)
    elif library == "timm":
        import timm

        network = timm.create_model(called, pretrained=False, **case.options)
    else:
        import segmentation_models_pytorch as smp

        network = smp.encoders.get_encoder(called, weights=None, **case.options)
    state = {key: torch.from_numpy(value) for key, value in generated(shapes_of(network)).items()}
    network.load_state_dict({**network.state_dict(), **state})
    if case.padded:
        _pad(network)
    return network.double().eval()


def _pad(network: Any) -> None:
    """Make a network pad where it does not, see `Case.padded`; all its maps before a pooling are activated."""
    import torch

    def behind(module: Any, inputs: Any) -> Any:
        return (torch.nn.functional.pad(inputs[0], (0, 1, 0, 1)),)

    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d) and module.kernel_size == (3, 3) and module.padding == (0, 0):
            if module.stride == (2, 2):
                module.register_forward_pre_hook(behind)
            else:
                module.padding = (1, 1)


def features(network: Any, case: Case, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Features of a network for an image of this size, `(1, h, w, C)` by level."""
    import torch

    mean, std = case.pixels
    x = torch.from_numpy(((images(size) - mean) / std).transpose(0, 3, 1, 2))
    found: dict[str, Any] = {}
    modules = dict(network.named_modules())
    hooks = [
        modules[module.partition(" > ")[0]].register_forward_hook(
            lambda *call, level=level: found.setdefault(level, call[2].clone())
        )
        for level, module in case.features.items()
    ]
    with torch.no_grad(), _padded_pooling() if case.padded else contextlib.nullcontext():
        returned = network(x)
    for hook in hooks:
        hook.remove()
    for level, module in case.features.items():
        if applied := module.partition(" > ")[2]:
            found[level] = modules[applied](found[level]).detach()
    if not case.features:
        found = {f"P{number}": one for number, one in enumerate(returned) if number and one.shape[1]}
    return {level: _with_channels_last(network, one.numpy(), size) for level, one in found.items()}


def _padded_pooling() -> Any:
    """Make maxima over activated maps, which pad nothing, pad as those of TensorFlow do for maps of even sizes."""
    import torch

    functions = torch.nn.functional
    pooled = functions.max_pool2d
    padded = lambda x, *size, **more: pooled(functions.pad(x, (0, 1, 0, 1)), *size, **more)  # noqa: E731
    return mock.patch.object(functions, "max_pool2d", padded)


def _with_channels_last(network: Any, feature: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a map `(B, C, h, w)`, or the map of a ViT's tokens `(B, 1 + h w, C)`, as `(B, h, w, C)`."""
    if feature.ndim == 4:
        return feature.transpose(0, 2, 3, 1)
    height, width = (side // patch for side, patch in zip(size, network.patch_embed.patch_size, strict=True))
    return feature[:, -height * width :].reshape(len(feature), height, width, -1)


def main(names: list[str]) -> None:
    """Write golden.npz."""
    stored = dict(np.load(FILE)) if FILE.exists() else {}
    for name in names or CASES:
        case = CASES[name]
        network = original(name, case)
        stored[f"{name}/shapes"] = np.array(json.dumps(shapes_of(network)))
        for size in case.sizes:
            for level, feature in features(network, case, size).items():
                print(f"{name} {size} {level}: {feature.shape}, deviation {feature.std():.3g}", flush=True)
                stored[f"{name}/{level}-{size[0]}-{size[1]}"] = part(feature).astype("float32")
    np.savez_compressed(FILE, **stored)


if __name__ == "__main__":
    main(sys.argv[1:])
