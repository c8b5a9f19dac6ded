"""Folders of presets, as `save_to_preset` of keras-hub and keras-cv writes them, for machines without a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from segzoo.backbones.spec import Variant
from segzoo.errors import WeightsError

_DESCRIPTION = "config.json"
# Weights of presets above ten gigabytes are in several files, which the second one lists.
_WEIGHTS = ("model.weights.h5", "model.weights.json")
# All JSON that is read of such a folder, by segzoo or by the package: an error there would not name the file.
_TABLES = (
    _DESCRIPTION,
    "metadata.json",
    "task.json",
    "preprocessor.json",
    "image_converter.json",
    "model.weights.json",
)
_PACKAGES = ("keras_hub", "keras_cv")


def is_preset_folder(weights: str) -> bool:
    """Return True if a `weights` value is the path of a preset's folder."""
    folder = Path(weights)
    return (folder / _DESCRIPTION).is_file() and any((folder / name).is_file() for name in _WEIGHTS)


def check_folder(variant: Variant, folder: str) -> None:
    """Raise WeightsError if no package builds the variant, whose presets these are, or if a JSON file is damaged."""
    if not variant.package:
        raise WeightsError(
            f"{folder} is the folder of a preset of keras-hub, of which {variant.name} is no backbone. Take the one "
            "whose name begins with hub_ (docs/backbones.md), or a .weights.h5 file."
        )
    for name in _TABLES:
        if (Path(folder) / name).is_file():
            _read(Path(folder) / name)


def refuse_part_of_preset(path: Path) -> None:
    """Raise WeightsError if a file is the weights of a preset, which nobody but the package knows the names of.

    The description beside them tells; one that is damaged is left to whoever reads the folder.
    """
    if path.name not in _WEIGHTS or not is_preset_folder(str(path.parent)):
        return
    try:
        description = _read(path.parent / _DESCRIPTION)
    except WeightsError:
        return
    if str(description.get("module", "")).partition(".")[0] in _PACKAGES:
        raise WeightsError(
            f"{path} holds the weights of a preset of keras-hub, which are loaded by the folder, with a backbone "
            f"whose name begins with hub_ (docs/backbones.md): weights: {path.parent}."
        )


def _read(path: Path) -> dict[str, Any]:
    """Read a table; WeightsError says where a file is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # JSON's error and that of letters are ValueErrors
        raise _damaged(path, str(error)) from error
    except OSError as error:
        raise WeightsError(f"{path}, of a preset of keras-hub, cannot be read: {error.strerror}.") from error
    if not isinstance(found, dict):
        raise _damaged(path, f"a table is expected, and found is a {type(found).__name__}")
    if path.name == _DESCRIPTION and not isinstance(found.get("config"), dict):
        raise _damaged(path, 'there is no table "config", which describes the network')
    return found


def _damaged(path: Path, reason: str) -> WeightsError:
    return WeightsError(
        f"{path}, of a preset of keras-hub, is damaged: {reason.rstrip('.')}. Copy the folder anew from where it came "
        "from, or write it again by save_to_preset."
    )
