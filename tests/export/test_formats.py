"""Exported files of each format, as their users open them."""

import os

import numpy as np
import pytest

from segzoo.export import export_model


def test_saved_model_serves_named_tensors_and_loads_without_warnings(model, tmp_path, pixels, caplog):
    import tensorflow as tf

    with caplog.at_level("WARNING"):
        path = export_model(model, tmp_path, "saved_model").path
    loaded = tf.saved_model.load(str(path))
    images = pixels(40, 56)
    signature = loaded.signatures["serving_default"](image=tf.constant(images))
    direct = loaded.serve(images)

    assert list(signature) == ["logits"] and list(direct) == ["logits"]
    np.testing.assert_allclose(direct["logits"], model(images, training=False), atol=1e-5)
    assert not caplog.records


def test_litert_needs_no_extra_kernels_and_names_its_tensors(model, tmp_path):
    from segzoo.export.litert import _interpreter

    path = export_model(model, tmp_path, "litert").path
    interpreter = _interpreter()(model_path=str(path))
    operations = {operation["op_name"] for operation in interpreter._get_ops_details()}

    assert interpreter.get_signature_list() == {"serving_default": {"inputs": ["image"], "outputs": ["logits"]}}
    assert not [name for name in operations if name.startswith(("Flex", "CUSTOM"))]
    # Weights that are variables would be missing from the file.
    assert not operations & {"VAR_HANDLE", "READ_VARIABLE"}
    # Batch normalisation is part of the convolution before it.
    assert "RSQRT" not in operations


def test_litert_follows_images_of_changing_size(model, tmp_path, pixels):
    from segzoo.export import run_exported

    run = run_exported(export_model(model, tmp_path, "litert").path)
    for size in ((40, 56), (40, 56), (33, 70), (40, 56)):
        images = pixels(*size)
        np.testing.assert_allclose(run(images), model(images, training=False), atol=1e-4)


def test_onnx_names_its_axes_and_keeps_to_the_standard(model, tmp_path, require):
    require("tf2onnx", "onnx", "onnxruntime")
    import onnx

    path = export_model(model, tmp_path, "onnx").path
    stored = onnx.load(path)
    (given,), (returned,) = stored.graph.input, stored.graph.output
    axes = [dimension.dim_param or dimension.dim_value for dimension in given.type.tensor_type.shape.dim]
    modes = [
        attribute.s
        for node in stored.graph.node
        if node.op_type == "Resize"
        for attribute in node.attribute
        if attribute.name == "coordinate_transformation_mode"
    ]

    # Constants of the preprocessing are no inputs.
    assert given.name == "image" and axes == ["batch", "height", "width", 3]
    assert returned.name == "logits"
    assert {node.domain for node in stored.graph.node} == {""}
    assert modes == [b"half_pixel", b"half_pixel"]


def test_onnx_of_a_fixed_size_resizes_to_whole_numbers_of_pixels(model, tmp_path, require):
    require("tf2onnx", "onnx", "onnxruntime")
    import onnx

    # 45 halves to 23 and 12: as a float32 scale 12 -> 23 is a little too small, and rounding down loses a row.
    stored = onnx.load(export_model(model, tmp_path, "onnx", image_size=(45, 64)).path)
    resizes = [node for node in stored.graph.node if node.op_type == "Resize"]
    inferred = onnx.shape_inference.infer_shapes(stored, strict_mode=True)
    (returned,) = inferred.graph.output

    assert len(resizes) == 2 and all(node.input[2] == "" and node.input[3] for node in resizes)
    assert [dimension.dim_value for dimension in returned.type.tensor_type.shape.dim] == [1, 45, 64, 3]


@pytest.mark.nightly
def test_openvino_keeps_float32_weights_and_reports_nothing_to_its_makers(model, tmp_path, require, monkeypatch):
    require("openvino")
    import openvino_telemetry

    sent = []
    monkeypatch.setattr(openvino_telemetry.backend.backend_ga4.GA4Backend, "send", lambda self, text: sent.append(text))
    monkeypatch.delenv("CI", raising=False)
    openvino_telemetry.Telemetry._SingletonMetaClass__single_instance = None  # asked anew
    report = export_model(model, tmp_path, "openvino")
    assert not sent and "CI" not in os.environ
    weights = sum(np.prod(weight.shape) for weight in model.weights)

    assert sorted(path.name for path in report.path.iterdir()) == ["model.bin", "model.xml"]
    assert (report.path / "model.bin").stat().st_size > 3.5 * weights
