from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from segzoo.config import load_config
from segzoo.errors import ConfigError


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str | bytes], Path]:
    """Write run.yaml into an empty working directory and return its relative path."""
    monkeypatch.chdir(tmp_path)

    def write(content: str | bytes, name: str = "run.yaml") -> Path:
        path = Path(name)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.fixture
def problems(write: Callable[[str | bytes], Path]) -> Callable[..., list[str]]:
    """Return the lines of the ConfigError that a file with these contents and overrides gives."""

    def problems(content: str | bytes, *overrides: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load_config(write(content), overrides)
        return str(caught.value).splitlines()

    return problems
