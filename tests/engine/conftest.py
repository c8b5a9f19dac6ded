"""Fixtures for tests of whole runs: one recipe, one console, and runs that leave out what other tests check."""

from collections.abc import Callable, Iterator

import pytest
from rich.console import Console

from segzoo.config import Config, load_config

RECIPE = """
name: tiny
model: {decoder: fpn, backbone: resnet18, weights: none, options: {depth: 2}}
data: {source: generated, size: [32, 32], train_count: 4, val_count: 2, batch_size: 2, eval_batch_size: 2, workers: 0}
training: {epochs: 1, schedule: {name: constant, warmup_steps: 0}}
output: {pictures: 0}
"""


@pytest.fixture
def config(request, tmp_path) -> Callable[..., Config]:
    """Load the tiny recipe, its run folder in the test's folder, with `SETTINGS` of the test's module and overrides."""
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    settings = (f"output.root={tmp_path / 'runs'}", *getattr(request.module, "SETTINGS", ()))
    return lambda *overrides: load_config(path, [*settings, *overrides])


@pytest.fixture
def console(tmp_path) -> Iterator[Console]:
    """A console that writes to screen.txt in the test's folder."""
    with (tmp_path / "screen.txt").open("w") as stream:
        yield Console(file=stream, width=120)


@pytest.fixture
def eager() -> Iterator[None]:
    """Steps without a graph, which takes longer to trace than a few steps take to run."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def light(monkeypatch) -> None:
    """Runs whose charts are files of the numbers that they show; see `quick_runs.lighten`."""
    from quick_runs import lighten

    lighten(monkeypatch.setattr)


@pytest.fixture
def quick(small_network, light, eager) -> Callable[..., object]:
    """Light runs of `small_network`, which is returned, without a graph."""
    return small_network


@pytest.fixture
def five_convolutions(light, eager, monkeypatch) -> None:
    """Light runs of the configured decoder and heads on `small_backbone`, whatever the backbone, without a graph."""
    from networks import small_backbone

    from segzoo.engine import builders

    def build(decoder, backbone, *arguments, build_model=builders.build_model, **options):
        return build_model(decoder, small_backbone(), *arguments, **options)

    monkeypatch.setattr(builders, "build_model", build)
