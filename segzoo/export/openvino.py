"""OpenVINO's intermediate representation: for Intel processors; also for its quantisation tools."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from segzoo.export.contract import Format, Run
from segzoo.export.formats import FORMATS
from segzoo.export.graph import Graph

_MARKER = "model.xml"


def _write(graph: Graph, path: Path) -> None:
    import openvino

    path.mkdir()
    # OpenVINO would round the weights to float16 by default.
    openvino.save_model(openvino.convert_model(str(graph.saved_model)), path / _MARKER, compress_to_fp16=False)


def _load(path: Path) -> Run:
    import openvino

    core = openvino.Core()
    # By default it computes in bfloat16 where the processor can; the comparison is about the graph.
    compiled = core.compile_model(str(path / _MARKER), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(images: np.ndarray) -> np.ndarray:
        return compiled(images)[0]

    return run


FORMAT = FORMATS.register("openvino", Format("openvino", _write, _load, marker=_MARKER, packages=("openvino",)))
