"""The table of export formats; each is registered by the module that defines it."""

from __future__ import annotations

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
