"""What tests of whole runs share."""

import pytest
from rich.console import Console


@pytest.fixture
def console(tmp_path):
    """A console that writes to screen.txt in the test's folder."""
    with (tmp_path / "screen.txt").open("w") as stream:
        yield Console(file=stream, width=120)
