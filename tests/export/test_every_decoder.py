"""Every decoder as ONNX, every format of U-Net; other networks by the marker `nightly`."""

import itertools

import pytest
from networks import NARROW, small_for

from segzoo.decoders import DECODERS
from segzoo.export import FORMATS
from segzoo.export.exporter import Exporter
from segzoo.export.graph import traced
from segzoo.export.parity import comparison_batches
from segzoo.models.build import build_model

# Converting takes seconds for a hundred layers, of which tf2onnx's optimizer takes four fifths. So by default U-Net
# alone passes it; test_formats.py reads the graph that comes out. The marker `nightly` has every decoder through it,
# and MobileNetV3 and a dilated EfficientNet, which have squeeze-and-excitation.
# All are narrow; FPN is wide enough for the groups of its normalisation.
# Decoders of one block per level have the same blocks with fewer of them.
SHORT = {"depth": 3, "channels": (6, 4, 4)}
OPTIONS = {
    **NARROW,
    "unetplusplus": {**NARROW["unetplusplus"], **SHORT},
    "manet": {**NARROW["manet"], **SHORT},
    "linknet": {**NARROW["linknet"], "depth": 3},
    "fpn": {"pyramid_channels": 32, "segmentation_channels": 32},
}
UNET, MOBILE = ("unet", None), ("fpn", "mobilenetv3_small")
OTHERS = [(decoder, None) for decoder in DECODERS if decoder != "unet"]
DEFAULT = [(UNET, name) for name in FORMATS if name != "openvino"]  # which test_exporter.py has, of a small network
DEFAULT += [(pair, "unoptimized") for pair in OTHERS if pair != ("dpt", None)]  # with a ViT before it: five seconds
NIGHTLY = [(UNET, "openvino"), *((MOBILE, name) for name in FORMATS)]
NIGHTLY += [(("dpt", None), name) for name in FORMATS if name != "onnx"]  # with a plain vision transformer
NIGHTLY += [(pair, "onnx") for pair in (*OTHERS, ("deeplabv3plus", "efficientnet_b0"))]


@pytest.fixture(scope="module")
def zoo(request, shake):
    """A model with logits of ordinary size, and its graph, traced once for all formats."""
    decoder, backbone = request.param
    options = {"drop_path": 0.0} if backbone else OPTIONS[decoder]
    model = shake(build_model(decoder, backbone or small_for(decoder), 3, weights="none", **options))
    with traced(model, "logits", None) as graph:
        yield model, graph


def case(pair, format, marks=()):
    return pytest.param(pair, format, id=f"{'+'.join(filter(None, pair))}-{format}", marks=marks)


@pytest.mark.parametrize(
    ("zoo", "format"),
    [*itertools.starmap(case, DEFAULT), *(case(*found, pytest.mark.nightly) for found in NIGHTLY)],
    indirect=["zoo"],
)
def test_decoder_agrees_with_keras(zoo, tmp_path, require, format, record_property, monkeypatch):
    if format == "unoptimized":
        require(*FORMATS["onnx"].packages)
        from tf2onnx import optimizer

        monkeypatch.setattr(optimizer, "optimize_graph", lambda graph, *_, **__: graph)
        format = "onnx"
    require(*FORMATS[format].packages)
    model, graph = zoo
    report = Exporter(graph, model, comparison_batches(None, None)).write(format, tmp_path)

    record_property("difference", report.difference)
    assert report.difference < 1e-3
    assert report.agreement > 0.999
