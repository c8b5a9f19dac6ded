"""The engine's own training step under XLA, as `train.py` compiles it with a GPU."""

from __future__ import annotations

import csv

import keras
import numpy as np
import pytest

from segzoo.config import load_config
from segzoo.engine import train
from segzoo.optim import OPTIMIZERS
from segzoo.optim.optimizers import create

RECIPE = """
name: tiny
model: {decoder: unet, backbone: resnet18, weights: none}
data: {source: generated, size: [32, 32], train_count: 8, val_count: 2, batch_size: 2, eval_batch_size: 2}
training: {epochs: 1, xla: "on", schedule: {name: poly, warmup_steps: 1}}
output: {pictures: 0}
"""
OPTIONS = {
    "adamw with EMA and clipping": ["training.ema=0.9", "training.optimizer.clip_norm=1.0"],
    "accumulation": ["training.accumulate=2", "training.ema=0.9"],
    "float16": ["training.precision=float16", "training.optimizer.clip_norm=1.0"],
    "bfloat16": ["training.precision=bfloat16"],
    "rates by part": ["training.optimizer.lr_scale={head: 0.1}", "training.optimizer.name=sgd"],
    "class weights": ["loss={cross_entropy: {class_weights: balanced}, lovasz_softmax: 1.0, boundary: 0.1}"],
}
DEFAULT = {"accumulation"}


@pytest.fixture
def run(tmp_path):
    """Train the recipe with XLA forced on, as with a GPU; the rows of metrics.csv."""
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)

    def run(*overrides: str) -> list[dict[str, str]]:
        result = train(load_config(path, [f"output.root={tmp_path / 'runs'}", *overrides]))
        assert '"xla": true' in (result.folder / "log.jsonl").read_text()
        with (result.folder / "metrics.csv").open() as stream:
            return list(csv.DictReader(stream))

    return run


@pytest.mark.parametrize(
    "options", [pytest.param(name, marks=() if name in DEFAULT else pytest.mark.xla) for name in OPTIONS]
)
def test_the_engine_trains_with_every_option(run, small_network, options: str) -> None:
    rows = run(*OPTIONS[options])
    assert len(rows) == 1
    assert np.isfinite([float(rows[0][name]) for name in ("loss", "val_loss")]).all()


@pytest.mark.xla
@pytest.mark.parametrize(
    "options",
    [
        ["training.ema=0.9", "training.accumulate=2"],
        ["training.precision=float16"],
        ["training.precision=bfloat16", "training.remat=true"],
    ],
    ids=lambda options: " ".join(options),
)
def test_the_engine_trains_a_whole_network(run, options: list[str]) -> None:
    rows = run(*options)
    assert np.isfinite([float(rows[0][name]) for name in ("loss", "val_loss")]).all()


@pytest.mark.parametrize("accumulate", [1, pytest.param(2, marks=pytest.mark.xla)])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "adamw" else pytest.mark.xla) for name in OPTIMIZERS]
)
def test_updates_of_every_optimizer_are_those_without_xla(name: str, accumulate: int) -> None:
    """AdamW's fused kernel among them; four steps, with decay, clipping and accumulation."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("about TensorFlow's jit_compile")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 6)).astype("float32"), rng.normal(size=(4, 3)).astype("float32")

    def trained(jit: bool) -> list[np.ndarray]:
        keras.utils.set_random_seed(0)
        inputs = keras.Input((6,))
        model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Dense(5, activation="tanh")(inputs)))
        model.compile(create(name, 0.01, 0.1, clip_norm=0.5, accumulate=accumulate), "mse", jit_compile=jit)
        for _ in range(4):
            model.train_on_batch(x, y)
        return model.get_weights()

    for ours, other in zip(trained(True), trained(False), strict=True):
        np.testing.assert_allclose(ours, other, atol=1e-6)
