"""Safe loading of a PyTorch checkpoint, which runs no code, and of the configuration beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from segzoo.errors import WeightsError
from segzoo.extras import install_command
from segzoo.files import read_at_most
from segzoo.interop.torch_file import read_state_dict

Tensors = Mapping[str, np.ndarray]
# A configuration of segmentation_models.pytorch is some hundred bytes.
_MOST_JSON = 2**20
# Lightning and DataParallel put a word of theirs before each name.
_PREFIX = re.compile(r"^(module|model)\.")


def read(path: Path) -> tuple[Tensors, dict[str, Any] | None]:
    """Read the tensors of a checkpoint, and the configuration of its folder; None if it is a single file.

    Args:
        path: a folder as `save_pretrained` writes it, a `.safetensors` file, or a state dict saved by `torch.save`.

    Raises:
        WeightsError: a missing or unreadable file.
    """
    config = None
    if path.is_dir():
        config = read_config(path / "config.json") if (path / "config.json").is_file() else None
        path = path / "model.safetensors"
    if not path.is_file():
        raise WeightsError(f"There is no checkpoint {path}.")
    tensors = _read_safetensors(path) if path.suffix == ".safetensors" else read_state_dict(path)
    return {_PREFIX.sub("", name): value for name, value in tensors.items()}, config


def read_config(path: Path) -> dict[str, Any]:
    """Read a `config.json`.

    Raises:
        WeightsError: a file that is missing, too large or not JSON, or whose value is not an object.
    """
    try:
        size = path.stat().st_size
        if size > _MOST_JSON:
            raise WeightsError(f"{path} has {size:,} bytes; a network's configuration has some hundred.")
        config = json.loads(read_at_most(path, _MOST_JSON))  # a device has no size, nor an end
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(config, dict):
        raise WeightsError(
            f"{path} must hold an object of keys and values, as save_pretrained writes it, got {type(config).__name__}."
        )
    return config


def _read_safetensors(path: Path) -> Tensors:
    try:
        from safetensors.numpy import load_file
    except ImportError as error:
        raise WeightsError(f"Reading safetensors needs the package: {install_command('convert')}.") from error
    try:
        return load_file(path)
    except Exception as error:  # its own SafetensorError, or what the system says
        raise WeightsError(f"{path} is not a whole safetensors file ({error}). Copy it again.") from error
