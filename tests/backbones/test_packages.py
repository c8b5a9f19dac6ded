"""Backbones of keras-cv and keras-hub against the networks of these packages, and without them."""

from __future__ import annotations

import dataclasses
import functools
import re
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import segzoo
from segzoo import backbones
from segzoo.backbones import BACKBONES, listing, reference
from segzoo.backbones.figures import figures
from segzoo.backbones.packages import Network
from segzoo.complexity import gflops
from segzoo.errors import MissingPackageError, SegzooError, UnknownNameError, WeightsError
from segzoo.extras import install_command
from segzoo.registry import find
from segzoo.weights import load_file

pytestmark = pytest.mark.usefixtures("zero_weights")
OPTIONAL = [name for name in backbones.names() if BACKBONES[name].package]
# One of each way to build a network.
FAMILIES = ["kcv_resnet18", "kcv_resnet50v2", "kcv_densenet121", "kcv_mobilenetv3_small", "kcv_cspdarknet_tiny"]
FAMILIES += ["kcv_mit_b0", "hub_resnet18", "hub_resnet50v2", "hub_resnet18_vd", "hub_cspresnet50", "hub_mit_b0"]
# Whose networks in the package take any size.
ANY_SIZE = ("hub_hgnetv2", "hub_mobilenet")


def network(name: str) -> Network:
    return find(BACKBONES[name].constructor)


def randomized(model: keras.Model) -> keras.Model:
    """Give weights, moving statistics too, random values of a size that keeps activations alive."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if len(weight.shape) > 1:
            value = rng.standard_normal(weight.shape) / np.sqrt(np.prod(weight.shape[:-1]))
        elif weight.name in ("gamma", "moving_variance"):
            value = rng.uniform(0.8, 1.2, weight.shape)
        else:
            value = rng.normal(0, 0.2, weight.shape)
        weight.assign(value)
    return model


@functools.cache
def random_network(name: str) -> keras.Model:
    """A package's network with random weights, once for all tests; for 64x64 unless it takes any size."""
    side = None if name.startswith(ANY_SIZE) else 64
    return randomized(network(name).packaged(None, (side, side, 3)))


@functools.cache
def pair(name: str) -> tuple[keras.Model, keras.Model]:
    """A package's network, unrolled where it is, and ours with its weights; once for all tests."""
    packaged, unroll = random_network(name), network(name).unroll
    unrolled = packaged if unroll is None else unroll(packaged)
    ours = backbones.create(name, weights="none", drop_path=0.0)
    names = reference.names(unrolled)
    operations = {names[id(operation)]: operation for operation in unrolled.operations}
    for layer in ours.layers:
        if layer.weights:
            values = operations[layer.name].get_weights()
            shapes = [weight.shape for weight in layer.weights]  # of a depthwise kernel, theirs one in groups
            layer.set_weights([value.reshape(shape) for value, shape in zip(values, shapes, strict=True)])
    return unrolled, ours


def preset(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> keras.Model:
    """A preset as the package writes it, with random weights, in the place of the published one."""
    own = BACKBONES[name]
    packaged = random_network(name)
    if own.package == "keras-cv":
        from keras_cv.src.utils.preset_utils import save_to_preset

        save_to_preset(packaged, str(folder))
    else:
        import keras_hub

        packaged.save_to_preset(str(folder))
        converter = getattr(keras_hub.layers, type(packaged).__name__.replace("Backbone", "ImageConverter"))
        mean, variance = [0.485, 0.456, 0.406], [0.229**2, 0.224**2, 0.225**2]
        converter(scale=1 / 255, mean=mean, variance=variance).save_to_preset(str(folder))
    local = dataclasses.replace(own, presets=(str(folder),), published=True)
    monkeypatch.setitem(BACKBONES._entries, name, local)  # a built-in name cannot be registered again
    return packaged


# In the default run: a plain network, one with average pooling, one that folds the image, one of attention.
FEW = ("kcv_resnet18", "hub_resnet18_vd", "kcv_cspdarknet_tiny", "hub_mit_b0")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FEW else pytest.mark.nightly) for name in FAMILIES]
)
def test_features_are_the_packages(name: str, installed, pixels) -> None:
    """At a size that its network takes; the package's own list of pyramid levels is the judge where it is the same."""
    installed(name)
    packaged, (unrolled, ours) = random_network(name), pair(name)
    images = pixels(64, 64, batch=2)
    prepared = images if name.startswith("kcv") else np.asarray(ours.get_layer("preprocessing")(images))
    features = ours(images, training=False)
    if hasattr(packaged, "pyramid_outputs"):
        tensors = list(packaged.pyramid_outputs.values())
    else:
        tensors = [packaged.get_layer(layer).output for layer in packaged.pyramid_level_inputs.values()]
    theirs = keras.Model(packaged.input, [*tensors, packaged.output])(prepared, training=False)
    by_shape = {tuple(value.shape): np.asarray(value) for value in theirs}
    if not name.endswith("v2") and "mobilenet" not in name and "densenet" not in name:
        # V2's and DenseNet's taps are activated, unlike the packages'; MobileNet's levels end elsewhere.
        for level in ("P2", "P3", "P4", "P5"):
            expected = by_shape[tuple(features[level].shape)]
            assert expected.std() > 0.01, level
            atol = 1e-4 * np.abs(expected).max()
            np.testing.assert_allclose(features[level], expected, atol=atol, err_msg=level)
    last = np.asarray(unrolled(prepared, training=False))
    np.testing.assert_allclose(last, theirs[-1], atol=1e-4 * np.abs(last).max())
    if last.shape == tuple(features["P5"].shape):
        np.testing.assert_allclose(features["P5"], last, atol=1e-4 * np.abs(last).max())


def levels_of(name: str, packaged: keras.Model) -> dict:
    """The tensors of a package's network that are the levels, where it shows them."""
    if "hgnetv2" in name:
        return {f"P{stage + 1}": packaged.output[f"stage{stage}"] for stage in range(1, 5)}
    if "mobilenet" in name:
        stem = packaged.layers[4]  # whose activation is numbered per process
        ends = {layer.name: layer for layer in packaged.layers}
        return {tap.level: ends.get(tap.layer[: len("block_0_0")], stem).output for tap in backbones.taps(name)}
    return {tap.level: packaged.get_layer(tap.layer).output for tap in backbones.taps(name)}


# Both sides are padded alike. In the default run the cheapest.
OF_TIMM = ["hub_hgnetv2_b4", "hub_mobilenet_v3_small_050"]
MORE_OF_TIMM = ["hub_efficientnet_b0", "hub_hgnetv2_b5", "hub_mobilenet_v3_large_100"]


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if "050" in name else pytest.mark.nightly) for name in OF_TIMM + MORE_OF_TIMM],
)
def test_a_network_of_timm_is_keras_hubs(name: str, installed, pixels) -> None:
    """At a size that no stride divides, for which a package's network of explicit padding is built anew."""
    size = (97, 131)
    installed(name)
    packaged, (_, ours) = random_network(name), pair(name)
    if not name.startswith(ANY_SIZE):
        weights, packaged = packaged.get_weights(), network(name).packaged(None, (*size, 3))
        packaged.set_weights(weights)
    levels = levels_of(name, packaged)
    images = pixels(*size)
    expected = keras.Model(packaged.input, levels)(ours.get_layer("preprocessing")(images), training=False)
    features = ours(images, training=False)
    for level in levels:
        values = np.asarray(expected[level])
        assert values.std() > 0.01, level
        np.testing.assert_allclose(features[level], values, atol=1e-4 * np.abs(values).max(), err_msg=level)


# Parameters in the packages' lists of presets; a MiT's count there includes a classifier of ten classes.
COUNTS = {
    "kcv_resnet18": 11186112,
    "kcv_resnet34": 21301696,
    "kcv_resnet50": 23561152,
    "kcv_resnet101": 42605504,
    "kcv_resnet152": 58295232,
    "kcv_resnet18v2": 11183488,
    "kcv_resnet34v2": 21299072,
    "kcv_resnet50v2": 23564800,
    "kcv_resnet101v2": 42626560,
    "kcv_resnet152v2": 58331648,
    "kcv_cspdarknet_tiny": 2380416,
    "kcv_cspdarknet_s": 4223488,
    "kcv_cspdarknet_m": 12374400,
    "kcv_cspdarknet_l": 27111424,
    "kcv_cspdarknet_xl": 56837970,
    "kcv_mit_b0": 3321962 - 2570,
    "hub_mit_b0": 3321962 - 2570,
    "hub_mit_b1": 13156554 - 5130,
    "hub_mit_b2": 24201418 - 5130,
    "hub_mit_b3": 44077258 - 5130,
    "hub_mit_b4": 60847818 - 5130,
    "hub_mit_b5": 81448138 - 5130,
    "hub_resnet18": 11186112,
    "hub_resnet50": 23561152,
    "hub_resnet101": 42605504,
    "hub_resnet152": 58295232,
    "hub_hgnetv2_b4": 13599072,
    "hub_hgnetv2_b5": 33419680,
    "hub_hgnetv2_b6": 69179888,
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_those_published(name: str) -> None:
    assert figures(name).parameters == COUNTS[name]


@pytest.mark.parametrize(
    "name",
    [
        "hub_mit_b0",
        *(pytest.param(name, marks=pytest.mark.nightly) for name in ("kcv_cspdarknet_tiny", "hub_resnet50v2")),
    ],
)
def test_any_size(name: str, installed, pixels) -> None:
    installed(name)
    _, ours = pair(name)
    for size in ((33, 47), (97, 131)):
        for level, feature in ours(pixels(*size), training=False).items():
            stride = 2 ** int(level[1:])
            assert tuple(feature.shape[1:3]) == tuple(-(-side // stride) for side in size), level


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["hub_mit_b0", "kcv_cspdarknet_tiny", "hub_resnet50v2", *OF_TIMM])
def test_a_file_needs_no_package(name: str, installed, pixels, tmp_path: Path, loaded_elsewhere) -> None:
    """(test_families.py loads one of each package, down to P2.)"""
    installed(name)
    _, model = pair(name)
    model.save(tmp_path / "model.keras")
    images = pixels(33, 47)
    features, read = model(images, training=False), loaded_elsewhere(tmp_path / "model.keras", images)
    assert read.json == model.to_json()
    assert not {"keras_cv", "keras_hub"} & set(read.modules)
    for level, feature in features.items():
        np.testing.assert_array_equal(read.outputs[level], feature)


@pytest.mark.parametrize(
    "name",
    [
        "kcv_resnet18",
        "hub_resnet18_vd",
        *(
            pytest.param(name, marks=pytest.mark.nightly)
            for name in ("kcv_cspdarknet_tiny", "hub_mit_b0", "hub_hgnetv2_b4", "hub_mobilenet_v3_small_050")
        ),
    ],
)
def test_presets_are_loaded(name: str, installed, pixels, tmp_path: Path, monkeypatch) -> None:
    installed(name)
    packaged = preset(name, tmp_path, monkeypatch)
    ours = backbones.create(name, weights="imagenet")
    assert ours.weights_report.source == f"preset:{tmp_path}"
    assert sorted(ours.weights_report.loaded) == sorted(weight.path for weight in ours.weights)
    images = pixels(64, 64)
    prepared = reference.preprocess(BACKBONES[name], images.copy())
    outputs = packaged if name not in OF_TIMM else keras.Model(packaged.input, levels_of(name, packaged)["P5"])
    expected = np.asarray(outputs(prepared, training=False))
    found = np.asarray(ours(images, training=False)["P5"])
    np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())


def test_a_grey_image_goes_through_the_focus_as_its_copy_in_colour(installed, pixels, monkeypatch) -> None:
    """The first kernel reads four pixels of three channels: each of the four is adapted by itself."""
    name = "kcv_cspdarknet_tiny"
    installed(name)
    unrolled, _ = pair(name)
    reference.structure(BACKBONES[name])  # is remembered
    monkeypatch.setattr(reference, "build", lambda variant, weights: unrolled)  # the preset
    colour = backbones.create(name, weights="imagenet", levels=("P1",))
    grey = backbones.create(name, weights="imagenet", levels=("P1",), input_channels=1)
    image = pixels(33, 47)[..., :1]
    np.testing.assert_allclose(grey(image)["P1"], colour(np.repeat(image, 3, axis=-1))["P1"], atol=1e-4)


def test_a_preset_with_other_pixels_is_refused(installed, tmp_path: Path, monkeypatch) -> None:
    installed("hub_resnet18_vd")
    import keras_hub

    preset("hub_resnet18_vd", tmp_path, monkeypatch)
    keras_hub.layers.ResNetImageConverter(scale=1 / 127.5, offset=-1.0).save_to_preset(str(tmp_path))
    with pytest.raises(WeightsError, match="hub_resnet18_vd were made for other pixel values"):
        backbones.create("hub_resnet18_vd", weights="imagenet", levels=("P1",))


def test_a_preset_that_does_not_say_which_pixels_it_wants(installed, tmp_path: Path, monkeypatch) -> None:
    installed("hub_resnet18_vd")
    preset("hub_resnet18_vd", tmp_path, monkeypatch)
    for file in tmp_path.glob("*preprocess*"):
        file.unlink()
    for file in tmp_path.glob("image_converter*"):
        file.unlink()
    with pytest.raises(WeightsError, match="Which pixels the weights imagenet of hub_resnet18_vd want cannot be read"):
        backbones.create("hub_resnet18_vd", weights="imagenet", levels=("P1",))


def test_the_folder_of_a_preset_is_taken_as_weights(installed, tmp_path: Path, monkeypatch) -> None:
    """By the name of the network whose it is alone, and with its pixels, which it says or the caller does."""
    installed("hub_resnet18_vd")
    packaged = preset("hub_resnet18_vd", tmp_path, monkeypatch)
    monkeypatch.undo()
    assert str(tmp_path) not in BACKBONES["hub_resnet18_vd"].presets
    ours = backbones.create("hub_resnet18_vd", weights=tmp_path, levels=("P1",))
    assert (ours.weights_report.source, ours.weights_report.missing) == (str(tmp_path), [])
    assert ours.batch_norm == "frozen"
    kernel = next(layer for layer in packaged.layers if isinstance(layer, keras.layers.Conv2D)).get_weights()[0]
    np.testing.assert_array_equal(ours.get_layer("conv1_conv").kernel, kernel)
    for name, words in (
        ("hub_resnet18", f"The preset {tmp_path} is not of the ResNetBackbone that was asked for: .*Take the folder"),
        ("resnet18", "of which resnet18 is no backbone. Take the one whose name begins with hub_"),
    ):
        with pytest.raises(WeightsError, match=words):
            backbones.create(name, weights=tmp_path)
    with pytest.raises(WeightsError, match="digest belongs to a weights file, but weights is"):
        segzoo.build_model("unet", "hub_resnet18_vd", 2, weights=tmp_path, weights_sha256="0" * 64)
    for file in (*tmp_path.glob("*preprocess*"), *tmp_path.glob("image_converter*")):
        file.unlink()
    with pytest.raises(WeightsError, match=r"want cannot be read: .* Say them by mean and std"):
        backbones.create("hub_resnet18_vd", weights=tmp_path, levels=("P1",))
    pixels = {"mean": [1.0, 2.0, 3.0], "std": [4.0, 5.0, 6.0]}
    ours = backbones.create("hub_resnet18_vd", weights=tmp_path, levels=("P1",), **pixels)
    assert ours.weights_report.missing == []


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("config.json", b'{"module": "keras_hub",\n  "config": {', r"Expecting property name .*line 2 column 14"),
        ("config.json", b"{}", 'no table "config", which describes the network'),
        ("config.json", b"[" * 100_000, "recursion"),
        ("metadata.json", b"", "line 1 column 1"),
        ("metadata.json", b"[1]", "a table is expected, and found is a list"),
        ("preprocessor.json", b'{"a": "\xff"}', "can't decode byte 0xff"),
    ],
)
def test_damaged_json_of_a_preset_is_named(file: str, content: bytes, words: str, tmp_path: Path) -> None:
    for name in ("config.json", "model.weights.h5"):
        (tmp_path / name).write_bytes(b'{"config": {}}')
    (tmp_path / file).write_bytes(content)
    with pytest.raises(WeightsError, match=rf"{file}, of a preset .*, is damaged: .*{words}.*Copy the folder"):
        backbones.create("hub_resnet18", weights=tmp_path)


def test_a_weights_file_within_a_preset_is_refused_for_its_folder(tmp_path: Path) -> None:
    """And one beside a config.json of something else is loaded."""
    values = keras.Input((4,))
    model = keras.Model(values, keras.layers.Dense(2, name="dense")(values))
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    described = tmp_path / "config.json"
    described.write_text('{"module": "keras_hub.src.models.resnet.resnet_backbone", "config": {}}', encoding="utf-8")
    with pytest.raises(WeightsError, match=rf"by the folder, .* begins with hub_ .*: weights: {tmp_path}\."):
        load_file(model, path)
    for other in ('{"module": "mine", "config": {}}', "{"):
        described.write_text(other, encoding="utf-8")
        assert load_file(model, path).loaded == ["dense/0", "dense/1"]


@pytest.mark.nightly
@pytest.mark.parametrize(("name", "task"), [("hub_mit_b0", "SegFormer"), ("hub_resnet18_vd", "DeepLabV3")])
def test_the_encoder_of_a_segmentation_preset_is_taken(name: str, task: str, installed, tmp_path: Path) -> None:
    installed(name)
    import keras_hub

    packaged = random_network(name)
    options = {
        "SegFormer": {"projection_filters": 8},
        "DeepLabV3": {
            "spatial_pyramid_pooling_key": "P4",
            "upsampling_size": 4,
            "dilation_rates": [6],
            "projection_filters": 8,
            "low_level_feature_key": "P2",
        },
    }
    whole = getattr(keras_hub.models, f"{task}Backbone")(image_encoder=packaged, **options[task])
    whole.save_to_preset(str(tmp_path))
    pixels = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}
    ours = backbones.create(name, weights=tmp_path, **pixels)
    assert ours.weights_report.missing == []
    with pytest.raises(
        WeightsError, match=r"it is of a \w+Backbone, and must be of a DenseNetBackbone. Take the folder"
    ):
        Network("keras_hub", "DenseNetBackbone", {"stackwise_num_repeats": [1, 1, 1, 1]})(weights=str(tmp_path))
    expected = backbones.create(name, weights="none", **pixels)
    unroll = network(name).unroll
    unrolled = packaged if unroll is None else unroll(packaged)
    names = reference.names(unrolled)
    values = {names[id(layer)]: layer.get_weights() for layer in unrolled.layers}
    for layer in expected.layers:
        if layer.weights:
            np.testing.assert_array_equal(ours.get_layer(layer.name).get_weights()[0], values[layer.name][0])


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let kagglehub fail as it does without a network."""
    kagglehub = pytest.importorskip("kagglehub")

    def fail(*args, **kwargs):
        raise ConnectionError("Failed to resolve 'api.kaggle.com'")

    monkeypatch.setattr(kagglehub, "model_download", fail)


def test_presets_without_network_name_the_cure(offline, installed) -> None:
    installed("hub_mit_b0")
    with pytest.raises(WeightsError, match=r"mit_b0_ade20k_512 of hub_mit_b0.*keras-hub fetches.*kagglehub.*none"):
        backbones.create("hub_mit_b0", weights="imagenet", levels=("P2",))
    with pytest.raises(WeightsError, match="mit_b0_cityscapes_1024"):
        backbones.create("hub_mit_b0", weights="preset:mit_b0_cityscapes_1024", levels=("P2",))
    with pytest.warns(UserWarning, match="Weights mit_b0_ade20k_512 of hub_mit_b0 could not be reached"):
        backbones.create("hub_mit_b0", weights="auto", levels=("P2",))
    with pytest.raises(UnknownNameError, match=r"preset of hub_mit_b0 'mit_b1_ade20k_512'.*mit_b0_cityscapes_1024"):
        backbones.create("hub_mit_b0", weights="preset:mit_b1_ade20k_512", levels=("P2",))


def test_weights_that_keras_cv_never_published(installed) -> None:
    installed("kcv_resnet18")
    with pytest.raises(WeightsError, match="kcv_resnet18 could not be had: keras-cv publishes none of it"):
        backbones.create("kcv_resnet18", weights="imagenet", levels=("P1",))


def test_presets_of_backbones_that_have_none() -> None:
    with pytest.raises(UnknownNameError, match="preset of mobilenet"):
        backbones.create("mobilenet", weights="preset:mobilenet", levels=("P1",))


@pytest.mark.parametrize(("name", "extra"), [("kcv_resnet18", "keras-cv"), ("hub_mit_b0", "keras-hub")])
def test_a_missing_package_is_named(name: str, extra: str, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, extra.replace("-", "_"), None)
    for weights in ("none", "auto"):
        with pytest.raises(
            MissingPackageError, match=rf"built by {extra}.*{re.escape(install_command(extra))}"
        ) as error:
            segzoo.build_model("fpn", name, 3, weights=weights)
        assert isinstance(error.value, ImportError)


def test_listing_imports_no_package(monkeypatch) -> None:
    for module in ("keras_cv", "keras_hub"):
        monkeypatch.setitem(sys.modules, module, None)
    page = listing.page()
    assert OPTIONAL
    assert all(f"## {name}\n" in page for name in OPTIONAL)
    assert "mit_b0_cityscapes_1024" in page
    assert 'pip install "keras-segzoo[keras-cv]"' in page


def test_the_listed_figures_of_a_mit_hold_at_another_size(installed) -> None:
    """The cost of attention grows with the square of the area; one measurement at 256x256 would not show it."""
    installed("hub_mit_b0")
    _, ours = pair("hub_mit_b0")
    wide = gflops(ours, (384, 768))
    assert figures("hub_mit_b0", (384, 768)).gflops == pytest.approx(wide, rel=1e-3)


def test_what_a_mit_cannot_do() -> None:
    with pytest.raises(SegzooError, match="hub_mit_b0 has output stride 32 only, not 16: every position attends"):
        backbones.create("hub_mit_b0", output_stride=16, weights="none")
    with pytest.raises(UnknownNameError, match=r"level of hub_mit_b0.*P2, P3, P4, P5"):
        backbones.create("hub_mit_b0", levels=("P1",), weights="none")
