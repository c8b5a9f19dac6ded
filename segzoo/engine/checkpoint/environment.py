"""Environment of a run: everything beyond its configuration that its figures depend on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import segzoo
from segzoo.config import Config

_PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy", "albumentations", "grain", "opencv-python-headless")


def facts(
    config: Config,
    fingerprints: Mapping[str, str],
    weights: str,
    device: str,
    xla: bool,
    given: Mapping[str, Any] | None = None,
    memory: int | None = None,
) -> dict[str, Any]:
    """Return versions, machine, seed and data of a run, as environment.json holds them.

    Args:
        config: the resolved configuration.
        fingerprints: fingerprints of the data by split.
        weights: origin of the weights.
        device: name of what computes, see `device_name`.
        xla: whether the training step is compiled by XLA.
        given: objects passed to `train` ready-made, by argument.
        memory: bytes of the device's memory, see `device_memory`.
    """
    return {
        "packages": {"segzoo": segzoo.__version__, **_versions()},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "backend": sys.modules["keras"].backend.backend() if "keras" in sys.modules else None,
        "device": device,
        "device_memory": memory,
        "precision": config.training.precision,
        "xla": xla,
        "git_commit": git_commit(),
        "seed": config.seed,
        "data_fingerprints": dict(fingerprints),
        "weights": weights,
        "given": dict(given or {}),
        "command": sys.argv,
    }


def _versions() -> dict[str, str]:
    """Return the versions of the installed packages that results depend on."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_commit(root: Path | None = None) -> str | None:
    """Return the commit of the source tree that segzoo runs from, "+changes" if it was edited; None without a tree.

    `root` is the folder that holds the package, if it is not this one's.
    """
    root = Path(segzoo.__file__).resolve().parents[1] if root is None else root
    if not (root / ".git").exists():
        return None
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True)
        status = subprocess.run(["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+changes" if status.stdout.strip() else "")
