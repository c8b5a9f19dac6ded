"""Fixtures for tests of whole runs."""

from collections.abc import Iterator

import pytest
from rich.console import Console


@pytest.fixture
def console(tmp_path):
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
