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
