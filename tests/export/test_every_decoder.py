"""Every decoder as ONNX, every format of two networks, and a dilated one."""

import pytest
from networks import small_backbone

from segzoo.decoders import DECODERS
from segzoo.export import FORMATS
from segzoo.export.exporter import write_checked
from segzoo.export.graph import traced
from segzoo.export.parity import comparison_batches
from segzoo.models.build import build_model

# Converting takes seconds for a hundred layers. MobileNetV3 has squeeze-and-excitation, EfficientNet is dilated here.
EVERY_FORMAT = [("unet", None), ("fpn", "mobilenetv3_small")]
ONNX = [(decoder, None) for decoder in DECODERS if decoder != "unet"] + [("deeplabv3plus", "efficientnet_b0")]
CASES = [(pair, format) for pair in EVERY_FORMAT for format in FORMATS] + [(pair, "onnx") for pair in ONNX]
NIGHTLY = {
    (pair, format) for pair, format in CASES if pair[1] and (pair, format) != (("fpn", "mobilenetv3_small"), "onnx")
}
NIGHTLY.add((("unet", None), "openvino"))  # which takes as long as all other formats; test_exporter.py has it too


@pytest.fixture(scope="module")
def zoo(request, shake):
    """A model with logits of ordinary size, and its graph, traced once for all formats."""
    decoder, backbone = request.param
    options = {"drop_path": 0.0} if backbone else {}
    model = shake(build_model(decoder, backbone or small_backbone(), 3, weights="none", **options))
    with traced(model, "logits", None) as graph:
        yield model, graph


@pytest.mark.slow
@pytest.mark.parametrize(
    ("zoo", "format"),
    [
        pytest.param(
            pair,
            name,
            id=f"{'+'.join(filter(None, pair))}-{name}",
            marks=pytest.mark.nightly if (pair, name) in NIGHTLY else (),
        )
        for pair, name in CASES
    ],
    indirect=["zoo"],
)
def test_decoder_agrees_with_keras(zoo, tmp_path, require, format, record_property):
    require(*FORMATS[format].packages)
    model, graph = zoo
    report = write_checked(graph, model, FORMATS[format].target(tmp_path), format, comparison_batches(None, None))

    record_property("difference", report.difference)
    assert report.difference < 1e-3
    assert report.agreement > 0.999
