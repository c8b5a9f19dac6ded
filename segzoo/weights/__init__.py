"""Loading and saving of weights: ImageNet, presets and files, with a report of what was loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segzoo.lazy import attach

if TYPE_CHECKING:
    from segzoo.weights.files import bare as bare
    from segzoo.weights.files import load_file as load_file
    from segzoo.weights.files import save_file as save_file
    from segzoo.weights.published import apply_weights as apply_weights
    from segzoo.weights.published import as_text as as_text
    from segzoo.weights.published import check_preset as check_preset
    from segzoo.weights.published import fit_channels as fit_channels
    from segzoo.weights.published import is_path as is_path
    from segzoo.weights.report import WeightsReport as WeightsReport
    from segzoo.weights.report import WeightsWarning as WeightsWarning

_OBJECTS = {
    "WeightsReport": "segzoo.weights.report",
    "WeightsWarning": "segzoo.weights.report",
    "apply_weights": "segzoo.weights.published",
    "as_text": "segzoo.weights.published",
    "bare": "segzoo.weights.files",
    "check_preset": "segzoo.weights.published",
    "fit_channels": "segzoo.weights.published",
    "is_path": "segzoo.weights.published",
    "load_file": "segzoo.weights.files",
    "save_file": "segzoo.weights.files",
}

__all__ = list(_OBJECTS)


__getattr__, __dir__ = attach(__name__, _OBJECTS)
