"""Whole networks, and what the engine adds to a step, under XLA: `pytest -m xla tests/xla`; minutes on a processor."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

import segzoo
from segzoo.backbones import BACKBONES
from segzoo.losses import CrossEntropy

pytestmark = pytest.mark.xla


def smallest_of_each_family() -> list[str]:
    from segzoo.backbones.figures import figures

    found: dict[str, str] = {}
    for name in BACKBONES:
        family = BACKBONES[name].family
        if family not in found or figures(name).parameters < figures(found[family]).parameters:
            found[family] = name
    return sorted(found.values())


@pytest.mark.parametrize("backbone", smallest_of_each_family())
def test_a_backbone_of_each_family(backbone: str, installed, two_steps) -> None:
    installed(backbone)
    keras.utils.set_random_seed(1)
    model = segzoo.build_model("fpn", backbone, 3, weights="none", drop_path=0.0, dropout=0.0, depth=3)
    start = model.get_weights()
    losses, weights = two_steps(
        model, start, True, size=(64, 64), optimizer=keras.optimizers.SGD(1e-3), loss=CrossEntropy()
    )
    assert np.isfinite(losses).all()
    moved = [not np.array_equal(now, before) for now, before in zip(weights, start, strict=True)]
    assert np.mean(moved) > 0.8
    expected, _ = two_steps(
        model, start, False, size=(64, 64), optimizer=keras.optimizers.SGD(1e-3), loss=CrossEntropy()
    )
    np.testing.assert_allclose(losses, expected, rtol=2e-3)


OPTIONS = {
    "plain": [],
    "bfloat16": ["training.precision=bfloat16"],
    "float16": ["training.precision=float16"],
    "accumulation": ["training.accumulate=2"],
    "ema": ["training.ema=0.9"],
    "clipping": ["training.optimizer.clip_norm=1.0"],
    "sgd": ["training.optimizer.name=sgd"],
    "lion": ["training.optimizer.name=lion"],
    "losses": ["loss={cross_entropy: 1.0, dice: 0.5, lovasz_softmax: 0.5, boundary: 0.01}"],
}


@pytest.mark.parametrize("option", OPTIONS)
def test_the_engine(option: str, tmp_path: Path, small_network) -> None:
    """`train.py` as it runs where there is a GPU, but for the device; on four layers, which compile in seconds."""
    config = segzoo.load_config(
        "unet_b3",
        [
            "name=xla", f"output.root={tmp_path}", "output.pictures=0", "model.weights=none", "training.xla=on",
            "data.size=[32, 32]", "data.train_count=8", "data.val_count=4", "data.batch_size=4", "training.epochs=2",
            *OPTIONS[option],
        ],
    )  # fmt: skip
    result = segzoo.train(config)
    assert [row["step"] for row in result.history] == [2, 4]
    assert all(np.isfinite(row["loss"]) for row in result.history)


def test_gradient_checkpointing(two_steps) -> None:
    losses = {}
    for remat in (False, True):
        keras.utils.set_random_seed(1)
        model = segzoo.build_model(
            "fpn", "mobilenetv3_small", 3, weights="none", drop_path=0.0, dropout=0.0, depth=3, remat=remat
        )
        compiling = {"optimizer": keras.optimizers.SGD(1e-2), "loss": CrossEntropy()}
        losses[remat], _ = two_steps(model, model.get_weights(), True, size=(64, 64), **compiling)
    np.testing.assert_allclose(losses[True], losses[False], rtol=1e-4)


def test_the_default_recipe(tmp_path: Path) -> None:
    config = segzoo.load_config(
        "unet_b3",
        [
            "name=xla", f"output.root={tmp_path}", "output.pictures=0", "model.weights=none", "training.xla=on",
            "data.size=[64, 64]", "data.train_count=8", "data.val_count=4", "data.batch_size=4", "training.epochs=1",
        ],
    )  # fmt: skip
    result = segzoo.train(config)
    assert [row["step"] for row in result.history] == [2]
    assert np.isfinite(result.history[0]["loss"])
