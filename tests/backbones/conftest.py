"""Reference networks and backbones that the tests of this folder share: one worker runs them all."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _one_structure(one_structure: None) -> None:
    """Build each reference network once for all tests."""


@pytest.fixture(scope="session")
def built(one_structure: None, shake: Callable[[Any], Any]) -> Callable[..., Any]:
    """Backbones with random weights that keep activations alive, few at a time: do not change their weights."""
    from segzoo import backbones

    @functools.lru_cache(maxsize=8)
    def built(name: str, levels: tuple[str, ...] | None = None) -> Any:
        return shake(backbones.create(name, weights="none", drop_path=0.0, levels=levels))

    return built
