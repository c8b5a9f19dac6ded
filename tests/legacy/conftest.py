"""Small files that segzoo 0.1.0 wrote, with the logits that it computed from them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def legacy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the files: a `.keras` file for each decoder, weights files, `run`, a run folder, and `logits.npz`."""
    folder = tmp_path_factory.mktemp("v0.1.0")
    for packed in Path(__file__).parent.glob("v0.1.0*.zip"):
        with zipfile.ZipFile(packed) as archive:
            archive.extractall(folder)
    return folder


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """The images that the logits are of: (1, 32, 48, 3) float32, pixels 0..255."""
    return np.random.default_rng(3).integers(0, 256, (1, 32, 48, 3)).astype("float32")
