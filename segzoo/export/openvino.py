"""OpenVINO's intermediate representation: for Intel processors; also for its quantisation tools."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segzoo.export.contract import HALF_TOLERANCE, Format, Reduced, Run
from segzoo.export.formats import FORMATS
from segzoo.export.metadata import KEY

if TYPE_CHECKING:
    from segzoo.export.graph import Graph
    from segzoo.export.samples import Calibration

_MARKER = "model.xml"
# Variables by which OpenVINO's converter and NNCF leave out their usage statistics.
_SILENT = {"CI": "true", "NNCF_CI": "1"}


@contextlib.contextmanager
def _without_telemetry() -> Iterator[None]:
    """Keep OpenVINO and NNCF from reporting a conversion to Intel, as they do unless the user has opted out.

    Their threads also fork, which has been seen to wait for HDF5's lock for ever.
    """
    before = {name: os.environ.get(name) for name in _SILENT}
    os.environ.update(_SILENT)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _openvino() -> Any:
    """Import OpenVINO, which reports that, too."""
    with _without_telemetry():
        import openvino
    return openvino


def _converted(graph: Graph) -> Any:
    """Return OpenVINO's model of a graph."""
    openvino = _openvino()
    with _without_telemetry():
        return openvino.convert_model(str(graph.saved_model))


def _write(graph: Graph, path: Path) -> None:
    openvino = _openvino()

    # OpenVINO would round the weights to float16 by default.
    openvino.save_model(_converted(graph), path / _MARKER, compress_to_fp16=False)


def _write_float16(graph: Graph, path: Path, _: Calibration) -> None:
    openvino = _openvino()

    openvino.save_model(_converted(graph), path / _MARKER, compress_to_fp16=True)


def _write_int8(graph: Graph, path: Path, calibration: Calibration) -> None:
    openvino = _openvino()
    with _without_telemetry():
        import nncf

    nncf.set_log_level(logging.ERROR)
    model = _converted(graph)
    images = nncf.Dataset(list(calibration.batches()))
    with _without_telemetry(), contextlib.redirect_stdout(io.StringIO()):  # NNCF draws progress bars
        # Mixed: activations that are not those of ReLU, such as swish, get a zero point of their own.
        smaller = nncf.quantize(model, images, preset=nncf.QuantizationPreset.MIXED, subset_size=len(calibration))
    openvino.save_model(smaller, path / _MARKER, compress_to_fp16=False)


def _load(path: Path, /, *, threads: int | None = None) -> Run:
    openvino = _openvino()

    core = openvino.Core()
    # By default it computes in bfloat16 where the processor can; the comparison is about the graph.
    options = {"INFERENCE_PRECISION_HINT": "f32", **({} if threads is None else {"INFERENCE_NUM_THREADS": threads})}
    compiled = core.compile_model(str(path / _MARKER), "CPU", options)

    def run(images: np.ndarray) -> np.ndarray:
        return compiled(images)[0]

    return run


def _put_metadata(path: Path, text: str) -> None:
    openvino = _openvino()

    model = openvino.Core().read_model(path / _MARKER)
    model.set_rt_info(text, KEY)
    described = path.with_name(f"{path.name}-described")  # the weights of the model are read from the file it came from
    openvino.save_model(model, described / _MARKER, compress_to_fp16=False)
    del model
    shutil.rmtree(path)
    described.rename(path)


def _get_metadata(path: Path) -> str | None:
    openvino = _openvino()

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
