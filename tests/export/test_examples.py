"""The examples of docs/export.md, which use a file without segzoo, give the classes that Keras gives."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.export import ModelMetadata, export_model

TEXT = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
EXAMPLES = {
    "onnx": ("onnxruntime", "model.onnx"),
    "openvino": ("openvino", "openvino/model.xml"),
    "litert": ("ai_edge_litert", "model.tflite"),
}
COLOURS = ((0, 0, 0), (255, 0, 0), (0, 128, 255))


def example(file: str) -> str:
    """Return the Python code of the page that opens a file."""
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if f'"{file}"' in block]
    if importlib.util.find_spec("ai_edge_litert") is None:  # TensorFlow brings the same two modules
        code = code.replace("from ai_edge_litert import schema", "from tensorflow.lite.python import schema")
        code = code.replace("from ai_edge_litert.interpreter import", "from tensorflow.lite.python.interpreter import")
    return code


@pytest.mark.parametrize(
    "format", [pytest.param(name, marks=pytest.mark.nightly if name == "openvino" else ()) for name in EXAMPLES]
)
def test_an_example_finds_the_classes_that_keras_finds(model, tmp_path, monkeypatch, capsys, require, format):
    package, file = EXAMPLES[format]
    require("tf2onnx", *([] if format == "litert" else [package]))
    export_model(model, tmp_path, format, metadata=ModelMetadata(classes=("a", "b", "c"), colours=COLOURS))
    pixels = np.asarray(Image.effect_noise((61, 40), 90).convert("RGB"))
    Image.fromarray(pixels).save(tmp_path / "photo.jpg", quality=100)
    monkeypatch.chdir(tmp_path)
    code = example(file)
    capsys.readouterr()
    exec(compile(code, file, "exec"), {})

    photo = np.asarray(Image.open("photo.jpg"), np.float32)
    labels = np.asarray(model(photo[None], training=False))[0].argmax(-1)
    drawn = np.asarray(Image.open("classes.png"))
    least = 0.99 if format == "openvino" else 0.999  # which computes in bfloat16 where the processor can
    assert (drawn == np.array(COLOURS, np.uint8)[labels]).all(-1).mean() > least
    counts = eval(capsys.readouterr().out.strip().splitlines()[-1])
    assert sum(counts.values()) == photo.shape[0] * photo.shape[1] and list(counts) == ["a", "b", "c"]
    assert "segzoo." not in code and "import segzoo" not in code
    assert len([line for line in code.splitlines() if line and "import" not in line]) <= 10
