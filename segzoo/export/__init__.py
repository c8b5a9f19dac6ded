"""Export of a trained model to another runtime, verified against the Keras model.

Every format takes raw pixels, float32 `(B, H, W, 3)`, RGB 0..255, under the name "image", and returns "logits",
float32 `(B, H, W, classes)`, or "classes", int32 `(B, H, W)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segzoo.export.formats import FORMATS
from segzoo.lazy import attach

if TYPE_CHECKING:
    from segzoo.export.exporter import export_model as export_model
    from segzoo.export.metadata import ModelMetadata as ModelMetadata
    from segzoo.export.opening import format_of as format_of
    from segzoo.export.opening import is_model_file as is_model_file
    from segzoo.export.opening import read_metadata as read_metadata
    from segzoo.export.opening import run_exported as run_exported
    from segzoo.export.parity import ExportReport as ExportReport
    from segzoo.export.precision import in_float32 as in_float32

_OBJECTS = {
    "ExportReport": "segzoo.export.parity",
    "ModelMetadata": "segzoo.export.metadata",
    "export_model": "segzoo.export.exporter",
    "format_of": "segzoo.export.opening",
    "in_float32": "segzoo.export.precision",
    "is_model_file": "segzoo.export.opening",
    "read_metadata": "segzoo.export.opening",
    "run_exported": "segzoo.export.opening",
}

__all__ = ["FORMATS", *_OBJECTS]


__getattr__, __dir__ = attach(__name__, _OBJECTS)
