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
    from segzoo.export.parity import ExportReport as ExportReport
    from segzoo.export.precision import in_float32 as in_float32

_OBJECTS = {
    "ExportReport": "segzoo.export.parity",
    "export_model": "segzoo.export.exporter",
    "in_float32": "segzoo.export.precision",
}

__all__ = ["FORMATS", "ExportReport", "export_model", "in_float32"]


__getattr__, __dir__ = attach(__name__, _OBJECTS)
