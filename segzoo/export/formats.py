"""The table of export formats; each is registered by the module that defines it."""

from __future__ import annotations

from segzoo.errors import UnknownNameError, unknown_name
from segzoo.registry import Registry

INPUT = "image"
"""Name of the input in every format."""

FORMATS = Registry(
    "export format",
    absent={"tflite": "TensorFlow Lite is called LiteRT now; use litert."},
    base="segzoo.export.contract:Format",
    package="segzoo.export",
    order=("saved_model", "onnx", "litert", "openvino"),
)


def check_precision(format: str, precision: str) -> None:
    """Raise UnknownNameError, with the formats that have the precision, unless a format can be written in it."""
    if precision in FORMATS[format].precisions:
        return
    error = unknown_name(f"precision of {format}", precision, FORMATS[format].precisions)
    having = [name for name in FORMATS if precision in FORMATS[name].precisions]
    raise UnknownNameError(f"{error} Formats with {precision}: {', '.join(having)}.") if having else error
