"""Folders of presets, as `save_to_preset` of keras-hub and keras-cv writes them, for machines without a network."""

from __future__ import annotations

from pathlib import Path

from segzoo.backbones.spec import Variant
from segzoo.errors import WeightsError

_DESCRIPTION = "config.json"
# Weights of presets above ten gigabytes are in several files, which the second one lists.
_WEIGHTS = ("model.weights.h5", "model.weights.json")


def is_preset_folder(weights: str) -> bool:
    """Return True if a `weights` value is the path of a preset's folder."""
    folder = Path(weights)
    return (folder / _DESCRIPTION).is_file() and any((folder / name).is_file() for name in _WEIGHTS)


def check_folder(variant: Variant, folder: str) -> None:
    """Raise WeightsError if no package builds the variant, whose presets these are."""
    if not variant.package:
        raise WeightsError(
            f"{folder} is the folder of a preset of keras-hub, of which {variant.name} is no backbone. Take the one "
            "whose name begins with hub_ (docs/backbones.md), or a .weights.h5 file."
        )
