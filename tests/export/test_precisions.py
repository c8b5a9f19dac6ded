"""Exports in fewer bits: what the files hold, and that int8 is kept only where it stays accurate."""

import importlib.util
import itertools
import re

import keras
import numpy as np
import pytest

from segzoo.errors import SegzooError, UnknownNameError
from segzoo.export import FORMATS, ModelMetadata, export_model, read_metadata, run_exported
from segzoo.export.accuracy import Accuracy, Validation
from segzoo.export.contract import HALF_TOLERANCE
from segzoo.export.parity import comparison_batches
from segzoo.export.samples import Calibration
from segzoo.extras import install_command

CLASSES = ModelMetadata(classes=("a", "b", "c"))
# OpenVINO takes seconds, and NNCF is another package.
ALL = [
    pytest.param(name, precision, marks=pytest.mark.nightly if name == "openvino" else ())
    for name in FORMATS
    for precision in FORMATS[name].reduced
]


@pytest.fixture(scope="module")
def images():
    """Eight smooth random images (1, 48, 64, 3)."""
    return [batch * brightness for brightness in (0.7, 0.8, 0.9, 1.0) for batch in comparison_batches(None, (48, 64))]


@pytest.fixture(scope="module")
def labelled(model, images):
    """The images and the network's own classes; pixels where these are close are left out of the count."""

    def label(image):
        logits = np.sort(model(image, training=False).numpy(), -1)
        classes = model(image, training=False).numpy().argmax(-1)
        return image, np.where(logits[..., -1] - logits[..., -2] > 0.1 * np.abs(logits).max(), classes, 255)

    return [label(image) for image in images]


@pytest.mark.parametrize(("format", "precision"), ALL)
def test_a_reduced_export_stays_accurate_and_says_what_it_is(
    model, tmp_path, require, images, labelled, format, precision
):
    require(*FORMATS[format].packages, *FORMATS[format].reduced[precision].packages)
    report = export_model(
        model,
        tmp_path,
        format,
        metadata=CLASSES,
        precision=precision,
        calibration=itertools.cycle(images),
        calibration_images=6,
        validation=labelled,
    )

    assert report.path.stem.endswith(f"-{precision}") and [*tmp_path.iterdir()] == [report.path]
    assert read_metadata(report.path).precision == precision == report.precision
    assert report.accuracy.keras == 1 and report.accuracy.drop < 1 and report.accuracy.images == len(images)
    assert f"mean IoU on {len(images)} validation images: " in str(report) and f"{format} {precision}:" in str(report)
    largest = np.abs(model(images[0], training=False)).max()
    found = run_exported(report.path)(images[0])
    error = np.abs(found - model(images[0], training=False)).max() / largest
    assert found.dtype == np.float32 and error < (HALF_TOLERANCE if precision == "float16" else 0.2)
    # an exact result would mean that nothing was rounded; weights too few to be worth it are LiteRT's own judgement
    assert error > 1e-5 or precision == "dynamic"


@pytest.mark.parametrize("format", ["onnx", "litert"])
def test_an_export_that_loses_too_much_is_not_written(model, tmp_path, require, images, labelled, format):
    require(*FORMATS[format].packages)
    wrong = [(image, (mask + 1) % 3) for image, mask in labelled]  # Keras is as wrong: no drop
    given = {"precision": "int8", "calibration": images, "output": "classes"}
    assert export_model(model, tmp_path / "a", format, **given, validation=wrong).accuracy.keras < 0.1
    dark = [image / 300 for image in images]  # ranges that no real image keeps to
    with pytest.raises(SegzooError, match=r"mean IoU on 8 validation images falls from 100\.00 % to .*--max-drop"):
        export_model(model, tmp_path / "b", format, **{**given, "calibration": dark}, validation=labelled)
    assert [*(tmp_path / "b").iterdir()] == []
    lost = export_model(
        model, tmp_path / "b", format, **{**given, "calibration": dark}, validation=labelled, max_drop=100
    )
    assert lost.accuracy.drop > 1 and lost.path.exists()


def test_onnx_int8_has_a_scale_for_each_channel_and_seven_bits(model, tmp_path, require, images, labelled):
    require("onnx", "onnxruntime", "tf2onnx")
    import onnx

    given = {"precision": "int8", "calibration": images, "validation": labelled}
    stored = onnx.load(export_model(model, tmp_path, "onnx", image_size=(48, 64), **given).path)
    constants = {each.name: onnx.numpy_helper.to_array(each) for each in stored.graph.initializer}
    kernels = {node.output[0]: node for node in stored.graph.node if node.op_type == "DequantizeLinear"}
    convolutions = [node for node in stored.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 3
    for node in convolutions:
        weights, scales, _ = (constants[name] for name in kernels[node.input[1]].input)
        assert weights.dtype == np.int8 and scales.shape == weights.shape[:1] and np.abs(weights).max() in (63, 64)
        assert kernels[node.input[0]].op_type == "DequantizeLinear"  # activations too


def test_onnx_float16_halves_the_weights_and_computes_in_float32(model, tmp_path, require):
    require("onnx", "onnxruntime", "tf2onnx")
    import onnx

    stored = onnx.load(export_model(model, tmp_path / "half.onnx", "onnx", precision="float16").path)
    kinds = {each.name: each.data_type for each in stored.graph.initializer}
    cast = {node.output[0]: node.input[0] for node in stored.graph.node if node.op_type == "Cast"}
    kernels = [node.input[1] for node in stored.graph.node if node.op_type == "Conv"]
    assert [kinds[cast[name]] for name in kernels] == [onnx.TensorProto.FLOAT16] * 3


def test_litert_int8_computes_in_integers(model, tmp_path, images, labelled):
    from segzoo.export.litert import _interpreter

    given = {"precision": "int8", "calibration": images, "validation": labelled}
    interpreter = _interpreter()(model_path=str(export_model(model, tmp_path, "litert", **given).path))
    types = {tensor["index"]: tensor["dtype"] for tensor in interpreter.get_tensor_details()}
    operations = [each for each in interpreter._get_ops_details() if each["op_name"].endswith("CONV_2D")]
    assert len(operations) == 3
    for each in operations:
        assert [types[index] for index in [*each["inputs"][:2], *each["outputs"]]] == [np.int8] * 3


def test_images_that_are_missing_are_asked_for(model, tmp_path, images):
    with pytest.raises(SegzooError, match="as calibration"):
        export_model(model, tmp_path, "litert", precision="int8", validation=[])
    for precision in ("int8", "dynamic"):
        with pytest.raises(SegzooError, match=f"{precision} is done only if.*as validation"):
            export_model(model, tmp_path, "litert", precision=precision, calibration=images)
    with pytest.raises(SegzooError, match="calibration holds no images"):
        export_model(model, tmp_path, "litert", precision="int8", calibration=[], validation=[])
    with pytest.raises(SegzooError, match=r"calibration must be images \(H, W, 3\)"):
        export_model(model, tmp_path, "litert", precision="int8", calibration=[np.zeros((64, 64, 4))], validation=[])
    with pytest.raises(SegzooError, match="no labelled pixel"):
        export_model(model, tmp_path, "litert", validation=[(images[0], np.full((1, 48, 64), 255))])
    with pytest.raises(SegzooError, match=r"labels that are no class: 7"):
        export_model(model, tmp_path, "saved_model", validation=[(images[0], np.full((1, 48, 64), 7))])
    assert [*tmp_path.iterdir()] == []


def test_a_precision_that_a_format_lacks_lists_those_that_it_has(model, tmp_path):
    for format, precision in (("saved_model", "int8"), ("onnx", "dynamic"), ("litert", "int4")):
        with pytest.raises(UnknownNameError, match=rf"precision of {format}.*float32"):
            export_model(model, tmp_path, format, precision=precision)


def test_nncf_that_is_missing_is_named_with_its_cure(model, tmp_path, require, monkeypatch):
    require("openvino")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "nncf" else find(name))
    with pytest.raises(SegzooError, match=rf"needs nncf.*{re.escape(install_command('export', 'int8'))}"):
        export_model(model, tmp_path, "openvino", precision="int8")


def test_calibration_takes_the_first_images_of_whatever_holds_them():
    batches = ((np.full((2, 40, 50, 3), index, np.uint8), "mask") for index in itertools.count())
    found = Calibration.of(batches, 5, 3, None)
    assert len(found) == 5 and [int(batch.max()) for batch in found.batches()] == [0, 0, 1, 1, 2]
    assert next(batches)[0].max() == 3  # no more was read than needed
    first = next(Calibration.of([np.zeros((40, 50, 5))], 9, 5, (64, 96)).batches())
    assert first.shape == (1, 64, 96, 5) and first.dtype == np.float32


def identity(channels):
    """A model whose logits are the image."""
    image = keras.Input((None, None, channels))
    return keras.Model(image, keras.layers.Rescaling(1.0)(image))


@pytest.mark.parametrize("output", ["logits", "classes"])
def test_accuracy_is_the_mean_iou_of_both_models(output):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 5, 7, 3)).astype(np.float32)
    masks = rng.integers(0, 3, (2, 5, 7)).astype(np.uint8)
    masks[0, :2] = 9
    turned = logits[..., ::-1]

    def iou(labels):
        valid = masks != 9
        pairs = [((labels == index) & valid, (masks == index) & valid) for index in range(3)]
        return float(np.mean([(one & other).sum() / (one | other).sum() for one, other in pairs]))

    def run(batch):
        return batch[..., ::-1] if output == "logits" else batch[..., ::-1].argmax(-1).astype(np.int32)

    found = Validation([(logits, masks, ["ids"])], ignore_index=9).score(identity(3), run, output, "multiclass")
    assert found.keras == pytest.approx(iou(logits.argmax(-1))) and found.images == 2
    assert found.exported == pytest.approx(iou(turned.argmax(-1)))
    assert found.drop == pytest.approx(100 * (found.keras - found.exported))


def test_accuracy_of_classes_that_overlap_and_of_a_single_logit():
    logits = np.array([[[[1.0, -1.0], [1.0, 1.0]]]], np.float32)
    masks = np.array([[[[1, 0], [1, 0]]]])
    found = Validation([(logits, masks)]).score(identity(2), lambda batch: -batch, "logits", "multilabel")
    assert found.keras == 0.5 and found.exported == 0.0  # class 0 right, class 1 nowhere in truth
    one = Validation([(logits[..., :1], masks[..., 0])]).score(identity(1), lambda batch: batch, "logits", "binary")
    assert one.keras == one.exported == 1.0
    # the threshold 0.9 is the logit 2.2, which neither pixel reaches; a file of classes has used it already
    none = Validation([(logits[..., :1], masks[..., 0])])
    cut = none.score(identity(1), lambda batch: np.ones((1, 1, 2), np.int32), "classes", "binary", (0.9,))
    assert cut.keras == 0.0 and cut.exported == 1.0


def test_samples_are_resized_to_a_fixed_size():
    image, mask = np.zeros((40, 60, 2), np.uint8), np.zeros((40, 60), np.int64)
    image[:20, :, 1], mask[:20] = 255, 1
    shapes = []

    def run(batch):
        shapes.append(batch.shape)
        return batch

    found = Validation([(image, mask)], size=(32, 48)).score(identity(2), run, "logits", "multiclass")
    assert found.exported == 1.0
    assert shapes == [(1, 32, 48, 2)]


def test_the_drop_that_is_allowed():
    for exported in (0.9, 0.8, 0.7901):
        Accuracy(0.8, exported, 3).check(1.0)
    for exported in (0.7899, 0.0, np.nan):
        with pytest.raises(SegzooError, match=r"at most 1 points"):
            Accuracy(0.8, exported, 3).check(1.0)


def test_the_keras_model_is_scored_once():
    calls = []

    def model(batch, training):
        calls.append(batch)
        return batch

    model.output_shape = (None, None, None, 2)
    image, mask = np.zeros((40, 60, 2), np.float32), np.zeros((40, 60), np.uint8)
    labelled = Validation([(image, mask)] * 3)
    first = labelled.score(model, lambda batch: batch, "logits", "multiclass")
    assert labelled.score(model, lambda batch: batch, "logits", "multiclass") == first == Accuracy(1.0, 1.0, 3)
    assert len(calls) == 3
