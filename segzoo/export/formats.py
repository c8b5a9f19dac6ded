"""The table of export formats."""

from __future__ import annotations

from segzoo.registry import Registry

FORMATS = Registry(
    "export format",
    {
        "saved_model": "segzoo.export.saved_model:FORMAT",
        "onnx": "segzoo.export.onnx:FORMAT",
        "litert": "segzoo.export.litert:FORMAT",
        "openvino": "segzoo.export.openvino:FORMAT",
    },
    absent={"tflite": "TensorFlow Lite is called LiteRT now; use litert."},
    base="segzoo.export.contract:Format",
)
