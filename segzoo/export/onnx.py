"""ONNX: for ONNX Runtime and most other inference engines."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segzoo.export.contract import HALF_TOLERANCE, Format, Reduced, Run
from segzoo.export.formats import FORMATS
from segzoo.export.memory import release
from segzoo.export.metadata import KEY
from segzoo.export.onnx_conversion import convert, put_values
from segzoo.export.onnx_precision import halve_weights, quantize

if TYPE_CHECKING:
    from segzoo.export.graph import Graph
    from segzoo.export.samples import Calibration

_OPSET = 18  # the highest that tf2onnx 1.17 writes
_AXES = ("batch", "height", "width")


def _write(graph: Graph, path: Path) -> None:
    import onnx

    # Its notes are about steps of its optimizer that it left out; what the file computes is compared with Keras anyway.
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    model, values = convert(graph, _OPSET, {"Erfc": (_complement_of_erf, [])})
    _name_axes(model)
    _standard_resize(model)
    _exact_sizes(model)
    _explicit_padding(model)
    put_values(model, values)
    release(graph.weights.size)
    onnx.save(model, str(path))
    del model
    onnx.checker.check_model(str(path))


def _write_float16(graph: Graph, path: Path, _: Calibration) -> None:
    import onnx

    _write(graph, path)
    model = onnx.load(str(path))
    halve_weights(model)
    onnx.save(model, str(path))


def _write_int8(graph: Graph, path: Path, calibration: Calibration) -> None:
    whole = path.with_name(f"float32-{path.name}")
    _write(graph, whole)
    quantize(whole, path, calibration)
    whole.unlink()


def _complement_of_erf(graph: Any, node: Any, name: str, _: Any) -> None:
    """Write TensorFlow's Erfc, of which exact GELU is made and which ONNX lacks, as 1 - Erf."""
    from tf2onnx.utils import map_onnx_to_numpy_type

    dtype = graph.get_dtype(node.output[0])
    one = graph.make_const(f"{name}/one", np.ones((), map_onnx_to_numpy_type(dtype)))
    graph.remove_node(node.name)
    inner = graph.make_node("Erf", list(node.input), name=f"{name}/erf", dtypes=[dtype])
    graph.make_node("Sub", [one.output[0], inner.output[0]], name=name, outputs=list(node.output), dtypes=[dtype])


def _name_axes(model: Any) -> None:
    """Name the dynamic axes batch, height and width: tf2onnx numbers them, so input and output seem unrelated."""
    for value in (*model.graph.input, *model.graph.output):
        for axis, dimension in zip(_AXES, value.type.tensor_type.shape.dim, strict=False):
            if not dimension.HasField("dim_value"):
                dimension.dim_param = axis


def _standard_resize(model: Any) -> None:
    """Rewrite nearest resizing in the form of opset 13 and later.

    tf2onnx says "tf_half_pixel_for_nn", floor((x + 0.5) * scale), which newer opsets lack and many engines refuse;
    half-pixel centres rounded upwards are the same numbers.
    """
    for node in model.graph.node:
        attributes = {attribute.name: attribute for attribute in node.attribute}
        mode = attributes.get("coordinate_transformation_mode")
        if node.op_type == "Resize" and mode is not None and mode.s == b"tf_half_pixel_for_nn":
            mode.s = b"half_pixel"
            attributes["nearest_mode"].s = b"round_prefer_ceil"


def _exact_sizes(model: Any) -> None:
    """Replace the scales of resizes in a fixed-size graph by output sizes.

    tf2onnx writes 12 -> 23 as the float 1.9166666, and the standard's floor(12 * 1.9166666) is 22: whether an engine
    loses a row depends on how it rounds.
    """
    import onnx

    constants = {constant.name: constant for constant in model.graph.initializer}
    for index, node in enumerate(model.graph.node):  # in topological order: sizes before it are exact by then
        if node.op_type != "Resize" or len(node.input) < 3 or node.input[2] not in constants:
            continue
        scales = onnx.numpy_helper.to_array(constants[node.input[2]])
        shape = _shape(model, node.input[0]) if scales.size else None
        if shape is None:
            continue
        sizes = np.rint(np.multiply(shape, scales, dtype=np.float64)).astype(np.int64)
        name = f"resize_{index}_sizes"
        model.graph.initializer.append(onnx.numpy_helper.from_array(sizes, name))
        node.input[:] = [node.input[0], "", "", name]
    used = {name for node in model.graph.node for name in node.input}
    for constant in constants.values():
        if constant.name not in used:
            model.graph.initializer.remove(constant)


def _explicit_padding(model: Any) -> None:
    """Write the padding of dilated convolutions as numbers: ONNX Runtime refuses dilation with padding "SAME"."""
    import onnx

    for node in model.graph.node:
        attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        dilations = attributes.get("dilations", [1])
        if node.op_type != "Conv" or max(dilations) == 1 or not attributes.get("auto_pad", b"").startswith(b"SAME"):
            continue
        if max(attributes.get("strides", [1])) > 1:
            continue  # depends on the size; no layer of segzoo has both
        total = [(size - 1) * rate for size, rate in zip(attributes["kernel_shape"], dilations, strict=True)]
        fewer, more = [one // 2 for one in total], [one - one // 2 for one in total]
        pads = more + fewer if attributes["auto_pad"] == b"SAME_LOWER" else fewer + more
        kept = [attribute for attribute in node.attribute if attribute.name not in ("auto_pad", "pads")]
        del node.attribute[:]
        node.attribute.extend([*kept, onnx.helper.make_attribute("pads", pads)])


def _shape(model: Any, name: str) -> list[int] | None:
    import onnx

    for value in onnx.shape_inference.infer_shapes(model).graph.value_info:
        if value.name == name:
            shape = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
            return shape if all(shape) else None
    return None


def _load(path: Path, /, *, threads: int | None = None) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()

    def run(images: np.ndarray) -> np.ndarray:
        return session.run(None, {given.name: images})[0]

    return run


def _put_metadata(path: Path, text: str) -> None:
    import onnx

    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, {KEY: text})
    onnx.save(model, str(path))


def _get_metadata(path: Path) -> str | None:
    import onnx

    model = onnx.load(str(path), load_external_data=False)  # which would be other files of this machine
    return {entry.key: entry.value for entry in model.metadata_props}.get(KEY)


FORMAT = FORMATS.register(
    "onnx",
    Format(
        "model.onnx",
        _write,
        _load,
        packages=("tf2onnx", "onnx", "onnxruntime"),
        runtime=("onnx", "onnxruntime"),
        reduced={
            "float16": Reduced(_write_float16, HALF_TOLERANCE),
            "int8": Reduced(_write_int8, calibrated=True),
        },
        put_metadata=_put_metadata,
        get_metadata=_get_metadata,
    ),
)
