"""ONNX models in fewer bits: weights in float16, and weights and activations in int8."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from segzoo.export.samples import Calibration


def halve_weights(model: Any) -> None:
    """Store the weights of an ONNX model as float16, in place, each followed by a Cast to float32.

    Engines fold the casts when they load the file, and compute in float32 as before, which LiteRT and OpenVINO do with
    float16 weights too. Activations in float16 would overflow above 65504, and most processors compute them in float32
    in any case.
    """
    import onnx

    casts = []
    for constant in model.graph.initializer:
        values = onnx.numpy_helper.to_array(constant)
        if values.dtype != np.float32 or values.size < 2 or np.abs(values).max() > np.finfo(np.float16).max:
            continue
        name, half = constant.name, f"{constant.name}/float16"
        casts.append(onnx.helper.make_node("Cast", [half], [name], f"{name}/cast", to=onnx.TensorProto.FLOAT))
        constant.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), half))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)


def quantize(whole: Path, path: Path, calibration: Calibration) -> None:
    """Write an ONNX model in int8: quantized and dequantized (QDQ) at each operation, weights per channel.

    Weights take 7 of the 8 bits: processors with AVX2 and without VNNI add two products in 16 bits, which would
    overflow silently, and the file may be run on another processor than the one that measured it.

    Args:
        whole: the model in float32.
        path: file to write.
        calibration: images that the ranges of activations are measured on.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._batches = calibration.batches()

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self._batches, None)
            return None if batch is None else {"image": batch}

    with tempfile.TemporaryDirectory() as folder, _quiet():
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(whole), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(path),
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep ONNX Runtime's advice on its own preparation, which is done, out of the log."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
