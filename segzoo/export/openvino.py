"""OpenVINO's intermediate representation: for Intel processors; also for its quantisation tools."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from segzoo.export.contract import HALF_TOLERANCE, Format, Reduced, Run
from segzoo.export.formats import FORMATS
from segzoo.export.metadata import KEY

if TYPE_CHECKING:
    from segzoo.export.graph import Graph
    from segzoo.export.samples import Calibration

_MARKER = "model.xml"


def _write(graph: Graph, path: Path) -> None:
    import openvino

    # OpenVINO would round the weights to float16 by default.
    openvino.save_model(openvino.convert_model(str(graph.saved_model)), path / _MARKER, compress_to_fp16=False)


def _write_float16(graph: Graph, path: Path, _: Calibration) -> None:
    import openvino

    openvino.save_model(openvino.convert_model(str(graph.saved_model)), path / _MARKER, compress_to_fp16=True)


def _write_int8(graph: Graph, path: Path, calibration: Calibration) -> None:
    import nncf
    import openvino

    nncf.set_log_level(logging.ERROR)
    model = openvino.convert_model(str(graph.saved_model))
    images = nncf.Dataset(list(calibration.batches()))
    with contextlib.redirect_stdout(io.StringIO()):  # NNCF draws progress bars
        # Mixed: activations that are not those of ReLU, such as swish, get a zero point of their own.
        smaller = nncf.quantize(model, images, preset=nncf.QuantizationPreset.MIXED, subset_size=len(calibration))
    openvino.save_model(smaller, path / _MARKER, compress_to_fp16=False)


def _load(path: Path, /, *, threads: int | None = None) -> Run:
    import openvino

    core = openvino.Core()
    # By default it computes in bfloat16 where the processor can; the comparison is about the graph.
    options = {"INFERENCE_PRECISION_HINT": "f32", **({} if threads is None else {"INFERENCE_NUM_THREADS": threads})}
    compiled = core.compile_model(str(path / _MARKER), "CPU", options)

    def run(images: np.ndarray) -> np.ndarray:
        return compiled(images)[0]

    return run


def _put_metadata(path: Path, text: str) -> None:
    import openvino

    model = openvino.Core().read_model(path / _MARKER)
    model.set_rt_info(text, KEY)
    described = path.with_name(f"{path.name}-described")  # the weights of the model are read from the file it came from
    openvino.save_model(model, described / _MARKER, compress_to_fp16=False)
    del model
    shutil.rmtree(path)
    described.rename(path)


def _get_metadata(path: Path) -> str | None:
    import openvino

    model = openvino.Core().read_model(path / _MARKER)
    return str(model.get_rt_info(KEY).value) if model.has_rt_info(KEY) else None


FORMAT = FORMATS.register(
    "openvino",
    Format(
        "openvino",
        _write,
        _load,
        marker=_MARKER,
        packages=("openvino",),
        reduced={
            "float16": Reduced(_write_float16, HALF_TOLERANCE),
            "int8": Reduced(_write_int8, calibrated=True, packages=("nncf",), extras=("int8",)),
        },
        put_metadata=_put_metadata,
        get_metadata=_get_metadata,
    ),
)
