"""Two training steps of everything as on a GPU: compiled by XLA on TensorFlow, jitted on JAX, in mixed precision.

The default run has a few; the marker `gpu_rehearsal` the rest, on the backend that Keras runs on:

    pytest -n 0 -m gpu_rehearsal tests/rehearsal
    KERAS_BACKEND=jax pytest -n 0 -m gpu_rehearsal tests/rehearsal

That a compiled step computes the same as a plain one is the subject of tests/xla.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from networks import NARROW, small_for

import segzoo
from segzoo.backbones import BACKBONES
from segzoo.backbones.figures import figures
from segzoo.backend import GPU_REHEARSAL, use_xla
from segzoo.compat import NAMES, SMP_0_1_0
from segzoo.data import with_distances
from segzoo.losses import LOSSES, create
from segzoo.models.remat import RematModel
from segzoo.optim import optimizers

BACKEND = keras.backend.backend()
IGNORE = 255


def smallest_of_families() -> dict[str, str]:
    """Return the smallest backbone of every family of the registry, by family."""
    by_size = sorted(BACKBONES, key=lambda name: figures(name).parameters, reverse=True)
    return {BACKBONES[name].family: name for name in by_size}


SMALLEST = smallest_of_families()
# Side of the images in pixels, where it is not 64: unpadded convolutions leave too little of that, and 53 pixels are no
# whole patches or windows.
SIDES = {
    **dict.fromkeys(("inception_v3", "inception_resnet_v2", "xception"), 107),
    **dict.fromkeys(("vit", "hub_vit", "hub_dinov2", "hub_dinov3", "hub_swin"), 53),
}


@dataclass(frozen=True)
class Case:
    """A network and the way to train it."""

    decoder: str
    loss: str
    policy: str = "mixed_bfloat16"
    accumulate: int = 1
    backbone: str | None = None  # None: five convolutions or a small ViT
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        options = [value if isinstance(value, str) else name for name, value in self.options.items()]
        how = [self.policy.removeprefix("mixed_"), self.loss, *options]
        return "-".join([self.decoder, self.backbone or "small", *how, *["accumulated"] * (self.accumulate > 1)])


# Every decoder, loss and precision, accumulation, remat and heads: each at least once, in pairs that change.
CASES = [
    Case("unet", "cross_entropy", "mixed_float16", options={"auxiliary": ("P4",)}),
    Case("unet", "cldice", "float32", accumulate=2),
    Case("unetplusplus", "dice", options={"deep_supervision": True}),
    Case("manet", "jaccard", "mixed_float16", accumulate=2),
    Case("linknet", "tversky", options={"remat": True}),
    Case("fpn", "boundary", "mixed_float16"),
    Case("fpn", "binary_cross_entropy", "float32", accumulate=2, options={"remat": True}),
    Case("pspnet", "focal_tversky", "float32"),
    Case("pan", "mcc", accumulate=2),
    Case("deeplabv3", "softmax_focal", "mixed_float16", options={"remat": True}),
    Case("deeplabv3plus", "sigmoid_focal", accumulate=2),
    Case("upernet", "lovasz_softmax", "mixed_float16", options={"auxiliary": ("P4",)}),
    Case("segformer", "lovasz_hinge"),
    Case("dpt", "cross_entropy", "mixed_float16", accumulate=2),
]
FAMILIES = [
    Case("fpn", "cross_entropy", ("mixed_bfloat16", "mixed_float16", "float32")[number % 3], backbone=name)
    for number, name in enumerate(SMALLEST.values())
]
# Other libraries' networks, where a stride becomes dilation: each with a word of `compat` that changes layers.
DILATED = [
    Case("deeplabv3plus", "cross_entropy", policy, backbone=backbone, options={"output_stride": 16, "compat": compat})
    for backbone, compat, policy in (
        ("efficientnet_b0", "smp", "mixed_float16"),
        ("efficientnet_b0", "smp-timm", "mixed_bfloat16"),
        ("efficientnet_b0", "timm", "float32"),
        ("mobilenetv2", "torchvision", "mixed_float16"),
        ("inceptionv3", "torchvision", "mixed_bfloat16"),
    )
]
DEFAULT = CASES[:1] if BACKEND == "tensorflow" else []


def test_everything_is_rehearsed() -> None:
    assert {case.decoder for case in CASES} == set(segzoo.decoders.names())
    assert {case.loss for case in CASES} == set(LOSSES)
    assert {case.policy for case in CASES} == {case.policy for case in FAMILIES}
    assert {case.backbone for case in FAMILIES if case.backbone} == {*SMALLEST.values()}
    assert {case.options["compat"] for case in DILATED} == {*NAMES} - {SMP_0_1_0}
    assert set(SMALLEST) >= set(SIDES)


def batch(case: Case, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Four images and their masks with ignored pixels, in the mode of the case's loss."""
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (4, size, size, 3)).astype("float32")
    is_binary = "multiclass" not in LOSSES[case.loss].modes
    masks = rng.integers(0, 2 if is_binary else 3, (4, size, size))
    masks[:, :2, :5] = IGNORE
    if case.loss == "boundary":
        masks = np.stack([with_distances(mask, 3, IGNORE) for mask in masks])
    return images, masks


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=() if case in DEFAULT else pytest.mark.gpu_rehearsal, id=str(case))
        for case in (*CASES, *FAMILIES, *DILATED)
    ],
)
def test_two_steps(case: Case, installed, dtype_policy) -> None:
    """The losses are finite, weights move, and the second step is not traced again."""
    if BACKEND == "torch":
        pytest.skip("torch compiles no step")
    if case.backbone:
        installed(case.backbone)
    keras.utils.set_random_seed(0)
    dtype_policy(case.policy)
    is_binary = "multiclass" not in LOSSES[case.loss].modes
    narrow = {} if case.backbone else NARROW[case.decoder]
    backbone = case.backbone or small_for(case.decoder)
    model = segzoo.build_model(
        case.decoder, backbone, 1 if is_binary else 3, weights="none", **{**narrow, **case.options}
    )
    assert isinstance(model, RematModel) or not case.options.get("remat")
    traced = []

    class Counted(keras.losses.Loss):
        """A loss that notes when it is traced; of a plain function Keras squeezes the single channel away."""

        def __init__(self, loss):
            super().__init__()
            self.loss = loss

        def __call__(self, targets, logits, sample_weight=None):  # Python runs it while a step is traced only
            traced.append(self.loss)
            return self.loss(targets, logits, sample_weight)

    loss = create({case.loss: 1.0}, IGNORE, "binary" if is_binary else "multiclass")
    images, masks = batch(case, SIDES.get(BACKBONES[case.backbone].family, 64) if case.backbone else 64)
    losses: Any = Counted(loss)
    targets: Any = masks
    if isinstance(model.output, dict):
        losses, targets = {name: Counted(loss) for name in model.output}, dict.fromkeys(model.output, masks)
    model.compile(optimizers.create("adamw", 0.01, accumulate=case.accumulate), losses, jit_compile=True)
    scales = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scales == (case.policy == "mixed_float16")
    before = [np.array(weight) for weight in model.trainable_variables]
    first = model.train_on_batch(images, targets)
    once = len(traced)
    second = model.train_on_batch(images, targets)
    assert once and len(traced) == once, "the second step was traced again"
    assert np.isfinite(np.ravel([first, second])).all()
    after = [np.array(weight) for weight in model.trainable_variables]
    moved = [np.abs(now - was).max() > 0 for now, was in zip(after, before, strict=True)]
    assert np.mean(moved) > 0.5 or scales  # a first scale that overflows skips a step
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


RECIPE = """
name: tiny
model: {decoder: unet, backbone: mobilenetv2, weights: none, auxiliary: {P4: 0.4}}
data: {source: generated, size: [64, 64], train_count: 8, val_count: 2, batch_size: 4, eval_batch_size: 2}
training: {epochs: 1, ema: 0.9, accumulate: 2, remat: true, schedule: {name: poly, warmup_steps: 1}}
output: {pictures: 1}
"""


@pytest.mark.gpu_rehearsal
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_train_py_with_the_switches_of_a_gpu(precision: str, tmp_path: Path) -> None:
    """EMA, accumulation, remat and an auxiliary head in one run of the command."""
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    script = Path(__file__).parents[2] / "train.py"
    overrides = [f"output.root={tmp_path / 'runs'}", f"training.precision={precision}"]
    command = [sys.executable, script, "--config", "tiny.yaml", *(part for o in overrides for part in ("--set", o))]
    environment = {**os.environ, GPU_REHEARSAL: "1", "KERAS_BACKEND": BACKEND, "COLUMNS": "200"}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{precision}, with{'out' * (BACKEND == 'torch')} XLA" in done.stdout
    assert "natively" not in done.stdout  # the warning of a processor's slow half precision


def test_a_rehearsal_chooses_as_with_a_gpu(monkeypatch) -> None:
    if BACKEND != "tensorflow":
        pytest.skip("about TensorFlow's jit_compile")
    monkeypatch.delenv(GPU_REHEARSAL, raising=False)
    monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda kind: [])
    assert use_xla("auto") is False
    monkeypatch.setenv(GPU_REHEARSAL, "1")
    assert use_xla("auto") is True and use_xla("off") is False
