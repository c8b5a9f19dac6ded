"""Whole networks trained under XLA: a backbone of each family, mixed precision, remat, several outputs.

Each compiles for a minute and more on a processor, so the marker `xla` asks for them: `pytest -n 0 -m xla tests/xla`.
docs/xla.md says what passed.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable

import keras
import numpy as np
import pytest

import segzoo
from segzoo.backbones import families
from segzoo.losses import create
from segzoo.models.remat import RematModel

pytestmark = pytest.mark.xla

SMALLEST = {
    "mobilenet": "mobilenetv2",
    "resnet_v1b": "resnet18",
    "resnext": "resnext50_32x4d",
    "se_resnet": "se_resnet50",
    "efficientnet_lite": "efficientnet_lite0",
    "resnet": "resnet50",
    "vgg": "vgg16",
    "efficientnet": "efficientnet_b0",
    "kcv_darknet": "kcv_cspdarknet_tiny",
    "kcv_mobilenet": "kcv_mobilenetv3_small",
    "hub_resnet": "hub_resnet18",
    "kcv_resnet": "kcv_resnet18",
    "hub_cspnet": "hub_cspresnet50",
    "mit": "hub_mit_b0",
    "vit": "hub_vit_base_16",
    "dinov2": "hub_dinov2_small",
    "dinov3": "hub_dinov3_small",
    "swin": "hub_swin_tiny",
    "hub_efficientnet": "hub_efficientnet_b0",
    "hub_hgnetv2": "hub_hgnetv2_b4",
    "hub_mobilenet": "hub_mobilenet_v3_small_050",
    "xception": "xception",
    "convnext": "convnext_tiny",
    "densenet": "densenet121",
    "kcv_densenet": "kcv_densenet121",
    "inception": "inceptionv3",
    "nasnet": "nasnet_mobile",
}


def two_steps(model: keras.Model, images: np.ndarray, rate: float = 0.01) -> None:
    """Train two steps: the first loss is that without XLA, the second differs, and nearly all weights have moved.

    The deepest level must leave more than two values per channel. Batch normalisation of two is nearly their sign:
    1e-7 in the pixels moves the loss by a hundredth there, and float16 overflows, with XLA or without.
    """
    labels = np.random.default_rng(0).integers(0, 3, images.shape[:3])
    loss = create({"cross_entropy": 1.0, "dice": 1.0}, ignore_index=255)
    outputs = len(model.outputs)
    model.compile(keras.optimizers.SGD(rate), [loss] * outputs if outputs > 1 else loss, jit_compile=True)
    before = model.get_weights()
    expected = sum(float(loss(labels, logits)) for logits in keras.tree.flatten(model(images, training=True)))
    model.set_weights(before)
    targets = [labels] * outputs if outputs > 1 else labels
    losses = [float(np.ravel(model.train_on_batch(images, targets))[0]) for _ in range(2)]
    half = model.compute_dtype != "float32"
    assert losses[0] == pytest.approx(expected, rel=0.05 if half else 1e-3)
    assert np.isfinite(losses[1]) and losses[1] != losses[0]
    moved = [np.abs(after - was).max() > 0 for after, was in zip(model.get_weights(), before, strict=True)]
    assert np.mean(moved) > 0.8


def test_every_family_is_here() -> None:
    modules = [
        info.name for info in pkgutil.walk_packages(families.__path__, f"{families.__name__}.") if not info.ispkg
    ]
    assert len(modules) == len(SMALLEST)
    for module in modules:
        assert len(importlib.import_module(module).VARIANTS.keys() & {*SMALLEST.values()}) == 1, module


@pytest.mark.parametrize("family", SMALLEST)
def test_a_backbone_of_each_family(family: str, pixels: Callable, installed: Callable) -> None:
    name = SMALLEST[family]
    installed(name)
    keras.utils.set_random_seed(0)
    size = 107 if family in ("inception", "xception") else 64  # an odd size too
    model = segzoo.build_model("fpn", name, 3, weights="none", drop_path=0.0, dropout=0.0)
    two_steps(model, pixels(size, size, batch=4))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy: str, pixels: Callable, dtype_policy: Callable) -> None:
    """In float16 Keras scales the loss, with a condition within the step."""
    dtype_policy(policy)
    model = segzoo.build_model("unet", "resnet18", 3, weights="none")
    two_steps(model, pixels(64, 64, batch=4))


def test_remat(pixels: Callable) -> None:
    model = segzoo.build_model("unet", "resnet18", 3, weights="none", remat=True)
    assert isinstance(model, RematModel)
    two_steps(model, pixels(64, 64, batch=4))
    assert len(model._plan.segments) > 1


def test_deep_supervision_and_auxiliary_heads(pixels: Callable) -> None:
    model = segzoo.build_model(
        "unetplusplus", "mobilenetv2", 3, weights="none", deep_supervision=True, auxiliary=("P4",)
    )
    two_steps(model, pixels(64, 64, batch=4))
