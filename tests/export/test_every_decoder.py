"""Every decoder in every format, on a real backbone."""

import pytest

from segzoo.decoders import DECODERS
from segzoo.export import FORMATS
from segzoo.export.exporter import write_checked
from segzoo.export.graph import traced
from segzoo.export.parity import comparison_batches
from segzoo.model import build_model


@pytest.fixture(scope="module", params=list(DECODERS))
def zoo(request, shake):
    """A model with logits of ordinary size, and its graph, traced once for all formats."""
    model = shake(build_model(request.param, "mobilenetv3_small", 3, weights="none", drop_path=0.0))
    with traced(model, "logits", None) as graph:
        yield model, graph


@pytest.mark.slow
@pytest.mark.parametrize("format", list(FORMATS))
def test_decoder_agrees_with_keras(zoo, tmp_path, require, format, record_property):
    require(*FORMATS[format].packages)
    model, graph = zoo
    report = write_checked(graph, model, FORMATS[format].target(tmp_path), format, comparison_batches(None, None))

    record_property("difference", report.difference)
    assert report.difference < 1e-3
    assert report.agreement > 0.999
