"""Means and standard deviations that weights of PyTorch's libraries want, in pixel values 0..255."""

from __future__ import annotations

from typing import Any

IMAGENET: dict[str, Any] = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
HALVES: dict[str, Any] = {"mean": (127.5, 127.5, 127.5), "std": (127.5, 127.5, 127.5)}
