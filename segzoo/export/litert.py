"""LiteRT (formerly TensorFlow Lite): for phones and embedded devices."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segzoo.backend import quiet_start
from segzoo.errors import SegzooError
from segzoo.export.contract import HALF_TOLERANCE, Format, Reduced, Run
from segzoo.export.formats import FORMATS
from segzoo.export.memory import release
from segzoo.export.metadata import KEY

if TYPE_CHECKING:
    from segzoo.export.graph import Graph
    from segzoo.export.samples import Calibration


def _write(graph: Graph, path: Path) -> None:
    path.write_bytes(_converter(graph, "TFLITE_BUILTINS").convert())


def _converter(graph: Graph, operations: str) -> Any:
    """Return a converter to built-in operations only, which the plain runtime has, without TensorFlow's own.

    Its part in Python loads the SavedModel three times, and reads no weights; that in C++ opens the folder for itself.
    """
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(str(graph.outline))
    convert = converter._convert_from_saved_model

    def convert_whole(graph_def: Any) -> bytes:
        converter.saved_model_dir = str(graph.saved_model)
        release(graph.weights.size)
        return convert(graph_def)

    converter._convert_from_saved_model = convert_whole
    converter.target_spec.supported_ops = [tf.lite.OpsSet[operations]]
    return converter


def _optimizing(graph: Graph, operations: str = "TFLITE_BUILTINS") -> Any:
    import tensorflow as tf

    converter = _converter(graph, operations)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return converter


def _write_float16(graph: Graph, path: Path, _: Calibration) -> None:
    import tensorflow as tf

    converter = _optimizing(graph)
    converter.target_spec.supported_types = [tf.float16]
    path.write_bytes(converter.convert())


def _write_int8(graph: Graph, path: Path, calibration: Calibration) -> None:
    """Write integer operations throughout; pixels and logits stay float32, so that files are used alike."""
    converter = _optimizing(graph, "TFLITE_BUILTINS_INT8")
    converter.representative_dataset = lambda: ([batch] for batch in calibration.batches())
    path.write_bytes(converter.convert())


def _write_dynamic(graph: Graph, path: Path, _: Calibration) -> None:
    path.write_bytes(_optimizing(graph).convert())


def _load(path: Path, /, *, threads: int | None = None) -> Run:
    interpreter = _interpreter()(model_content=path.read_bytes(), num_threads=threads)
    given, returned = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    ready: tuple[int, ...] = ()

    def run(images: np.ndarray) -> np.ndarray:
        nonlocal ready
        if images.shape != ready:  # memory is planned anew, which takes longer than a small image
            ready = ()
            # strict: an axis that the file fixes must not be resized.
            interpreter.resize_tensor_input(given["index"], images.shape, strict=True)
            interpreter.allocate_tensors()
            ready = images.shape
        interpreter.set_tensor(given["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(returned["index"])

    return run


def _interpreter() -> Any:
    """Return LiteRT's own interpreter if it is installed, else the one bundled with TensorFlow."""
    if importlib.util.find_spec("ai_edge_litert") is not None:
        from ai_edge_litert.interpreter import Interpreter

        return Interpreter
    import tensorflow as tf

    if not hasattr(tf.lite, "Interpreter"):
        raise SegzooError(
            "This TensorFlow brings no LiteRT interpreter to check the export with: pip install ai-edge-litert"
        )

    def interpreter(**arguments: Any) -> Any:
        with warnings.catch_warnings():  # of its deprecation, which the fallback above answers
            warnings.simplefilter("ignore", UserWarning)
            return tf.lite.Interpreter(**arguments)

    return interpreter


def _put_metadata(path: Path, text: str) -> None:
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(path.read_bytes())
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = list(text.encode("ascii"))
    entry.name, entry.buffer = KEY, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    path.write_bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _get_metadata(path: Path) -> str | None:
    with quiet_start():  # this is the first that a process of such a file sees of TensorFlow
        from tensorflow.lite.python import schema_py_generated as schema

    content = path.read_bytes()
    if not schema.Model.ModelBufferHasIdentifier(content, 0):
        raise ValueError("it does not begin as a LiteRT model does")
    model = schema.Model.GetRootAs(content, 0)
    for index in range(model.MetadataLength()):
        entry = model.Metadata(index)
        if entry.Name() == KEY.encode():
            return model.Buffers(entry.Buffer()).DataAsNumpy().tobytes().decode("ascii")
    return None


FORMAT = FORMATS.register(
    "litert",
    Format(
        "model.tflite",
        _write,
        _load,
        reduced={
            "float16": Reduced(_write_float16, HALF_TOLERANCE),
            "int8": Reduced(_write_int8, calibrated=True),
            "dynamic": Reduced(_write_dynamic),
        },
        put_metadata=_put_metadata,
        get_metadata=_get_metadata,
    ),
)
