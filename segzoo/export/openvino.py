"""OpenVINO's intermediate representation: for Intel processors; also for its quantisation tools."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from segzoo.export.contract import Format, Run
from segzoo.export.formats import FORMATS
from segzoo.export.graph import Graph
from segzoo.export.metadata import KEY

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
        put_metadata=_put_metadata,
        get_metadata=_get_metadata,
    ),
)
