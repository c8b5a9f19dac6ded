"""Speed and memory of exports, measured in another process."""

import numpy as np
import pytest

from segzoo.errors import SegzooError
from segzoo.export import FORMATS, benchmarking, export_model


@pytest.mark.parametrize(
    "format", [pytest.param(name, marks=() if name == "onnx" else pytest.mark.nightly) for name in FORMATS]
)
def test_an_export_is_timed_with_the_threads_that_are_asked_for(model, tmp_path, require, format):
    require(*FORMATS[format].packages)
    path = export_model(model, tmp_path, format).path
    found = benchmarking.benchmark(path, (1, 64, 96, 3), threads=1, runs=3)
    assert 0 < found.milliseconds < 1000 and found.images_per_second == pytest.approx(1000 / found.milliseconds)
    assert 20 < found.megabytes < 4000 and (found.threads, found.runs, found.shape) == (1, 3, (1, 64, 96, 3))
    if format == "onnx":  # which starts without TensorFlow, a half of a gigabyte
        assert found.megabytes < 400


def test_a_file_that_does_not_run_is_an_error_with_the_last_line(tmp_path, require):
    require("onnxruntime", "onnx")
    (tmp_path / "model.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(SegzooError, match=r"was not timed.*cannot be read as onnx"):
        benchmarking.benchmark(tmp_path / "model.onnx", (1, 64, 64, 3))
    for wrong in ({"threads": 0}, {"runs": 0}):
        with pytest.raises(SegzooError, match="must be 1 or more"):
            benchmarking.benchmark(tmp_path / "model.onnx", (1, 64, 64, 3), **wrong)


def test_a_process_that_hangs_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmarking, "_CHILD", "import time; time.sleep(60)")
    monkeypatch.setattr(benchmarking, "_MOST_SECONDS", 0.2)
    with pytest.raises(SegzooError, match=r"over 0\.2 seconds"):
        benchmarking.benchmark(tmp_path, (1, 64, 64, 3))


def test_peak_memory_is_that_of_this_process():
    before = benchmarking._peak_bytes()
    block = np.ones(2**24)  # 128 MB
    assert benchmarking._peak_bytes() >= max(before, block.nbytes)
