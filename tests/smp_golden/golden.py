"""Small networks of segmentation_models.pytorch, and what they return: the cases of test_smp_golden.py.

Run with the original installed (torch, torchvision, timm, segmentation_models.pytorch 0.6), this writes golden.npz
beside itself: `python tests/smp_golden/golden.py [CASE ...]`; cases that are named are replaced, the others kept.
Weights are not stored: their names decide them (`values`). The
statistics of batch normalisation are those of activations, gathered in training mode from images as `images` draws
them, and stored in half precision, which is what the original then computes with. Stored logits are every third row and
fifth column, in float32.
"""

from __future__ import annotations

import functools
import json
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).parent / "golden.npz"
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
CLASSES = 3
WIDTHS = [32, 24, 16, 16, 16]
# Name: their class, its arguments, and image sizes.
CASES: dict[str, tuple[str, dict[str, Any], list[tuple[int, int]]]] = {
    "unet": ("Unet", {"decoder_channels": WIDTHS}, [(45, 67), (64, 96)]),
    "unet_options": (
        "Unet",
        {
            "decoder_channels": WIDTHS,
            "decoder_attention_type": "scse",
            "decoder_interpolation": "bilinear",
            "decoder_use_norm": {"type": "batchnorm", "eps": 1e-2},
        },
        [(45, 67), (64, 96)],
    ),
    "unet_depth_4": (
        "Unet",
        {"encoder_depth": 4, "decoder_channels": WIDTHS[1:], "decoder_use_norm": "identity"},
        [(45, 67), (64, 96)],
    ),
    "unetplusplus": (
        "UnetPlusPlus",
        {"decoder_channels": WIDTHS, "decoder_attention_type": "scse"},
        [(64, 96), (96, 32)],
    ),
    "manet": ("MAnet", {"decoder_channels": WIDTHS, "decoder_pab_channels": 8}, [(64, 96), (96, 160)]),
    "linknet": ("Linknet", {}, [(64, 96), (96, 32)]),
    "fpn": (
        "FPN",
        {"decoder_pyramid_channels": 48, "decoder_segmentation_channels": 96},
        [(64, 96), (96, 32)],
    ),
    "fpn_options": (
        "FPN",
        {
            "decoder_pyramid_channels": 48,
            "decoder_segmentation_channels": 32,
            "decoder_merge_policy": "cat",
            "decoder_interpolation": "bilinear",
        },
        [(64, 96), (96, 32)],
    ),
    "pspnet": ("PSPNet", {"psp_out_channels": 32}, [(64, 96), (72, 40)]),
    "pan": ("PAN", {}, [(128, 144), (176, 128)]),
    "deeplabv3": ("DeepLabV3", {"decoder_channels": 24}, [(64, 96), (72, 40)]),
    "deeplabv3plus": ("DeepLabV3Plus", {"decoder_channels": 24}, [(64, 96), (80, 48)]),
    "deeplabv3plus_options": (
        "DeepLabV3Plus",
        {
            "decoder_channels": 24,
            "encoder_output_stride": 8,
            "decoder_atrous_rates": [2, 4, 6],
            "decoder_aspp_separable": False,
        },
        [(64, 96), (72, 40)],
    ),
    "upernet": ("UPerNet", {"decoder_channels": 24}, [(64, 96), (96, 32)]),
    "segformer": ("Segformer", {"decoder_segmentation_channels": 24}, [(64, 96), (96, 32)]),
    "unet_b0": ("Unet", {"encoder_name": "efficientnet-b0", "decoder_channels": WIDTHS}, [(45, 67), (64, 96)]),
    "deeplabv3plus_b0": (
        "DeepLabV3Plus",
        {"encoder_name": "efficientnet-b0", "decoder_channels": 24},
        [(64, 96), (80, 48)],
    ),
    # Of encoders whose normalisation is folded, whose last level has its own layer, that have no first level.
    "fpn_vgg16_bn": (
        "FPN",
        {"encoder_name": "vgg16_bn", "decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32},
        [(64, 96)],
    ),
    # With two more convolutions behind the encoder, which the second has and does not apply.
    "unet_vgg16_bn": ("Unet", {"encoder_name": "vgg16_bn", "decoder_channels": WIDTHS}, [(64, 96)]),
    "unetplusplus_vgg16_bn": ("UnetPlusPlus", {"encoder_name": "vgg16_bn", "decoder_channels": WIDTHS}, [(64, 96)]),
    "unet_mobilenet_v2": ("Unet", {"encoder_name": "mobilenet_v2", "decoder_channels": WIDTHS}, [(64, 96)]),
    # Of timm, with SMP's wrapper and without.
    "unet_timm_b0": ("Unet", {"encoder_name": "timm-efficientnet-b0", "decoder_channels": WIDTHS}, [(45, 67)]),
    # Of timm as SMP dilates it.
    "deeplabv3plus_timm_efficientnet": (
        "DeepLabV3Plus",
        {"encoder_name": "timm-efficientnet-b0", "decoder_channels": 24},
        [(64, 96)],
    ),
    "deeplabv3plus_tu_mobilenet": (
        "DeepLabV3Plus",
        {"encoder_name": "tu-mobilenetv3_small_100", "decoder_channels": 24},
        [(64, 96)],
    ),
    "unet_mit_b0": ("Unet", {"encoder_name": "mit_b0", "decoder_channels": WIDTHS}, [(64, 96)]),
}


def values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Weights of a tensor by its name, float32; not for statistics of batch normalisation.

    NumPy promises that `RandomState` draws the same numbers for ever.
    """
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith(".bias"):
        return rng.normal(0, 0.1, shape).astype("float32")
    if len(shape) == 1:  # a factor of a normalisation; that of a residual branch is small, which keeps deep ones tame
        size = 0.3 if name.endswith(("_bn2.weight", "bn2.weight", "bn3.weight")) else 1.0
        return rng.uniform(0.5 * size, size, shape).astype("float32")
    return rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape).astype("float32")


def images(size: tuple[int, int], batch: int, seed: int) -> np.ndarray:
    """Coloured blocks with some noise, `(B, H, W, 3)`, float32, pixels 0..255."""
    rng = np.random.RandomState(seed)
    blocks = rng.uniform(0, 255, (batch, -(-size[0] // 8), -(-size[1] // 8), 3))
    spread = blocks.repeat(8, axis=1).repeat(8, axis=2)[:, : size[0], : size[1]]
    return (0.8 * spread + rng.uniform(0, 51, spread.shape)).astype("float32")


def part(logits: np.ndarray) -> np.ndarray:
    """Pixels of logits `(B, H, W, C)` that are stored."""
    return logits[:, ::3, ::5]


def configuration(case: str) -> dict[str, Any]:
    """The configuration that the original saves with a checkpoint."""
    name, options, _ = CASES[case]
    common = {"encoder_name": "resnet18", "encoder_weights": None, "classes": CLASSES}
    return {**common, **options, "_model_class": name}


def read(case: str) -> tuple[dict[str, np.ndarray], dict[str, Any], dict[tuple[int, int], np.ndarray]]:
    """State dict of a case, its configuration, and its logits by size of the image."""
    with np.load(FILE) as stored:
        shapes = json.loads(str(stored[f"{case}/shapes"]))
        kept = json.loads(str(stored[f"{case}/statistics"]))
        tensors = {name: values(name, tuple(shape)) for name, shape in shapes.items() if name not in kept}
        tensors.update({name: stored[key].astype("float32") for name, key in kept.items()})
        sizes = CASES[case][2]
        return tensors, configuration(case), {size: stored[f"{case}/{size[0]}x{size[1]}"] for size in sizes}


@functools.cache
def shapes(case: str) -> dict[str, np.ndarray]:
    """Tensors of a case's state dict of which only the shapes are meant; they take no memory."""
    with np.load(FILE) as stored:
        found = json.loads(str(stored[f"{case}/shapes"]))
    return {name: np.broadcast_to(np.float32(0), shape) for name, shape in found.items()}


def original(config: dict[str, Any], side: int = 128) -> Any:
    """The original's network of a configuration, with weights by name and statistics of images of this side."""
    import segmentation_models_pytorch as smp
    import torch

    options = dict(config)
    network = getattr(smp, options.pop("_model_class"))(**options)
    state = network.state_dict()
    statistics = [name for name in state if "running_" in name or name.endswith("num_batches_tracked")]
    network.load_state_dict(
        {
            name: value if name in statistics else torch.from_numpy(values(name, tuple(value.shape)))
            for name, value in state.items()
        }
    )
    network.train()
    network.encoder._drop_connect_rate = 0.0
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches
        if isinstance(module, torch.nn.Dropout | torch.nn.Dropout2d):
            module.p = 0.0
        if hasattr(module, "drop_prob"):  # stochastic depth of MiT
            module.drop_prob = 0.0
    with torch.no_grad():
        for seed in range(4):
            network(prepared(images((side, side), 4, seed)))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.copy_(module.running_mean.half())
            module.running_var.copy_(module.running_var.half())
    return network.eval()


def prepared(pixels: np.ndarray) -> Any:
    """Pixels `(B, H, W, 3)` as the original wants them."""
    import torch

    return torch.from_numpy(((pixels / 255 - MEAN) / STD).transpose(0, 3, 1, 2).astype("float32"))


def main(names: list[str]) -> None:
    """Write golden.npz."""
    import torch

    found: dict[str, np.ndarray] = dict(np.load(FILE)) if names else {}
    for case in names or CASES:
        sizes = CASES[case][2]
        network = original(configuration(case))
        kept, shapes = {}, {}
        for name, value in network.state_dict().items():
            if name.endswith("num_batches_tracked"):
                continue
            shapes[name] = list(value.shape)
            if "running_" in name:
                half = value.numpy().astype("float16")
                kept[name] = f"{name}/{zlib.crc32(half.tobytes()):08x}"  # cases share those of the encoder
                found[kept[name]] = half
        found[f"{case}/shapes"], found[f"{case}/statistics"] = np.array(json.dumps(shapes)), np.array(json.dumps(kept))
        for size in sizes:
            x = prepared(images(size, 1, 9))
            with torch.no_grad():
                logits = network(x).numpy().transpose(0, 2, 3, 1)
                exact = network.double()(x.double()).numpy().transpose(0, 2, 3, 1)
                network.float()
            rounding = np.abs(logits - exact).max() / exact.std()
            print(f"{case} {size}: deviation {exact.std():.3g}, its rounding {rounding:.1e} of it", flush=True)
            found[f"{case}/{size[0]}x{size[1]}"] = part(exact).astype("float32")
    np.savez_compressed(FILE, **found)


if __name__ == "__main__":
    main(sys.argv[1:])
