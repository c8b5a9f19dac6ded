"""Whole models: backbone, decoder and head as one functional Keras model."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import keras
import numpy as np
import pytest
from networks import NARROW, small_backbone, small_for

import segzoo
from segzoo import decoders
from segzoo.errors import SegzooError, UnknownNameError, WeightsError

pytestmark = pytest.mark.usefixtures("one_structure")
NAMES = decoders.names()
# Whose pooled branches could normalise over one value; tests/zoo trains all decoders, on two images.
POOLED = ("pspnet", "deeplabv3plus", "upernet")
needs_tensorflow = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="gradients by tf.GradientTape")


def few(*chosen: str) -> list:
    """All decoders, by default the chosen ones; tests/zoo and tests/decoders have all at other sizes."""
    return [pytest.param(name, marks=() if name in chosen else pytest.mark.zoo) for name in NAMES]


def gradients(model: keras.Model, images: np.ndarray) -> tuple[float, dict[str, np.ndarray | None]]:
    """Loss of one training step on random labels, and the gradient of every trainable weight by its path."""
    import tensorflow as tf

    labels = np.random.default_rng(2).integers(0, model.output.shape[-1], images.shape[:3])
    statistics = [np.asarray(weight) for weight in model.non_trainable_weights]
    with tf.GradientTape() as tape:
        logits = model(images, training=True)
        loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True))
    found = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    for weight, value in zip(model.non_trainable_weights, statistics, strict=True):
        weight.assign(value)  # the models are shared by all tests
    return float(loss), {
        weight.path: None if gradient is None else np.asarray(gradient)
        for weight, gradient in zip(model.trainable_weights, found, strict=True)
    }


@pytest.fixture(scope="module")
def on_small() -> Callable[[str], keras.Model]:
    """A narrow decoder on five convolutions, built once for all tests: do not change its weights."""

    @cache
    def on_small(decoder: str) -> keras.Model:
        keras.utils.set_random_seed(0)
        return segzoo.build_model(decoder, small_for(decoder), 3, **NARROW[decoder])

    return on_small


@pytest.mark.parametrize("decoder", few("unet", "deeplabv3plus"))
@pytest.mark.parametrize("size", [(32, 32), (65, 129)], ids=str)
def test_logits_have_exactly_the_size_of_the_image(decoder: str, size: tuple[int, int], on_small, pixels) -> None:
    model = on_small(decoder)
    assert model.output.shape == (None, None, None, 3)
    assert model.output.dtype == "float32"
    logits = np.asarray(model(pixels(*size), training=False))
    assert logits.shape == (1, *size, 3)
    assert logits.dtype == np.float32
    assert logits.std() > 0
    assert np.isfinite(logits).all()


@needs_tensorflow
@pytest.mark.parametrize("decoder", few(*POOLED))
def test_every_weight_learns_from_one_image(decoder: str, on_small, pixels) -> None:
    """tests/zoo has two images and every backbone. With one, a pooled branch must not normalise over one value."""
    loss, found = gradients(on_small(decoder), pixels(64, 64, 1))
    assert 0 < loss < 20
    assert [path for path, gradient in found.items() if gradient is None] == []
    assert [path for path, gradient in found.items() if not np.isfinite(gradient).all()] == []
    assert [path for path, gradient in found.items() if not gradient.any()] == []


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains_with_float32_logits_and_weights(policy: str, pixels, dtype_policy) -> None:
    """`fit` scales the float16 loss by itself; all weights must be finite and most must have moved after a step."""
    dtype_policy(policy)
    model = segzoo.build_model("deeplabv3plus", small_backbone(), 3, **NARROW["deeplabv3plus"])
    assert model.output.dtype == "float32"
    assert {weight.dtype for weight in model.trainable_weights} == {"float32"}
    before = model.get_weights()
    # Eagerly: tracing would take most of a minute and test nothing more.
    model.compile("adamw", keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True)
    labels = np.random.default_rng(0).integers(0, 3, (2, 64, 64))
    loss = model.train_on_batch(pixels(64, 64, batch=2), labels)
    assert np.isfinite(loss)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    if policy == "mixed_bfloat16":  # float16 skips steps until its loss scale fits
        assert np.mean([(a != b).any() for a, b in zip(before, model.get_weights(), strict=True)]) > 0.9


@pytest.mark.parametrize(
    ("decoder", "levels", "deepest"),
    [("unet", 5, 32), ("fpn", 4, 32), ("deeplabv3", 1, 16), ("deeplabv3plus", 2, 16)],
)
def test_the_decoder_chooses_levels_and_output_stride(decoder: str, levels: int, deepest: int, model_of) -> None:
    model = model_of(decoder)
    assert model.name == f"{decoder}_resnet18"
    features = keras.tree.flatten(model.get_layer("decoder").input)
    assert len(features) == levels
    shapes = keras.Model(model.input, features).compute_output_spec(keras.KerasTensor((1, 256, 256, 3)))
    assert max(256 // feature.shape[1] for feature in shapes) == deepest


def test_output_stride_and_options_reach_their_parts(pixels) -> None:
    model = segzoo.build_model(
        "fpn", "resnet18", 2, weights="none", output_stride=8, pyramid_channels=16, segmentation_channels=8
    )
    assert sorted(model.get_layer("decoder").laterals) == ["P2", "P3"]
    assert model.get_layer("decoder").pyramid_channels == 16
    assert model(pixels(35, 41)).shape == (1, 35, 41, 2)
    assert model.weights_report.source == "none"


@pytest.mark.nightly
@pytest.mark.parametrize("decoder", NAMES)
def test_names_are_equal_in_every_build(decoder: str) -> None:
    backbone = "vit_tiny_16" if decoder == "dpt" else "resnet18"
    first, second = (segzoo.build_model(decoder, backbone, 3, weights="none") for _ in range(2))
    assert [weight.path for weight in first.weights] == [weight.path for weight in second.weights]


@pytest.mark.usefixtures("zero_weights")
@pytest.mark.parametrize(("decoder", "used"), [("unet", ["P1", "P2"]), ("pspnet", ["P2"]), ("fpn", ["P2"])])
def test_a_depth_of_two_ends_the_backbone_at_p2(decoder: str, used: list[str], pixels) -> None:
    model = segzoo.build_model(decoder, "resnet18", 3, weights="none", depth=2)
    backbone = segzoo.backbones.create("resnet18", weights="none", levels=used)
    assert {layer.name for layer in model.layers} == {*(layer.name for layer in backbone.layers), "decoder", "head"}
    assert model(pixels(33, 41)).shape == (1, 33, 41, 3)


def test_what_cannot_be_built_is_explained(tmp_path: Path) -> None:
    def build(decoder: str = "unet", backbone: str = "resnet18", classes: int = 2, **options):
        return segzoo.build_model(decoder, backbone, classes, **{"weights": "none", **options})

    with pytest.raises(UnknownNameError, match=r"decoder 'unett'.*mean unet"):
        build("unett")
    with pytest.raises(UnknownNameError, match=r"backbone 'efficientnet_b9'.*efficientnet_b"):
        build(backbone="efficientnet_b9")
    with pytest.raises(UnknownNameError, match=r"option of decoder 'unet' 'chanels'.*mean channels"):
        build(chanels=(1, 2))
    with pytest.raises(SegzooError, match="classes must be at least 1"):
        build(classes=0)
    with pytest.raises(SegzooError, match="8, 16 or 32"):
        build("fpn", output_stride=0)
    with pytest.raises(SegzooError, match="8, 16 or 32"):
        build("fpn", output_stride=12)
    with pytest.raises(SegzooError, match=r"'unet' cannot be built with .*2 channels \(8, 4\), but makes 5 blocks"):
        build(channels=(8, 4))
    with pytest.raises(SegzooError, match="normalization must be"):
        build("deeplabv3plus", normalization="instance")
    with pytest.raises(WeightsError, match="does not exist"):
        build("fpn", depth=2, weights=str(tmp_path / "gone.weights.h5"))


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_a_file_in_the_old_format_of_keras(pixels, tmp_path: Path, loaded_elsewhere) -> None:
    """Options that name a function, such as `merge: add`, are functions in that format."""
    model = segzoo.build_model("fpn", small_backbone(), 2, depth=4, pyramid_channels=4, segmentation_channels=4)
    assert model.get_layer("decoder").merge == "add"
    model.save(tmp_path / "model.h5")
    images = pixels(33, 47)
    loaded = loaded_elsewhere(tmp_path / "model.h5", images)
    np.testing.assert_allclose(loaded.output, model(images), atol=1e-6)
    assert loaded.json == model.to_json()


def test_heads_for_the_training_alone(pixels, tmp_path: Path, loaded_elsewhere) -> None:
    model = segzoo.build_model(
        "unetplusplus", small_backbone(), 3, depth=4, channels=[4] * 4, deep_supervision=True,
        auxiliary=("P4", "P2"), classification=True,
    )  # fmt: skip
    outputs = model(pixels(33, 47))
    maps = ["logits", "supervised1", "supervised2", "auxiliary_P4", "auxiliary_P2"]
    assert sorted(outputs) == sorted([*maps, "presence"])
    assert {tuple(outputs[name].shape) for name in maps} == {(1, 33, 47, 3)}
    assert outputs["presence"].shape == (1, 3)
    assert {keras.backend.standardize_dtype(x.dtype) for x in outputs.values()} == {"float32"}

    model.save(tmp_path / "heads.keras")
    again = loaded_elsewhere(tmp_path / "heads.keras", pixels(33, 47)).outputs
    for name, expected in outputs.items():
        np.testing.assert_allclose(again[name], expected, atol=1e-4, err_msg=name)

    plain = segzoo.logits_only(model)
    np.testing.assert_array_equal(plain(pixels(33, 47)), outputs["logits"])
    names = {weight.path.split("/")[0] for weight in plain.weights}
    assert not {name for name in names if name.startswith(("auxiliary", "supervised", "presence"))}
    assert segzoo.logits_only(plain) is plain


def test_an_auxiliary_head_reads_a_level_that_the_decoder_does_not(pixels) -> None:
    model = segzoo.build_model("deeplabv3plus", "resnet18", 2, weights="none", auxiliary=("P3",))
    assert model(pixels(64, 64))["auxiliary_P3"].shape == (1, 64, 64, 2)
    with pytest.raises(SegzooError, match=r"auxiliary: there is no level 'P5' here; it can be one of P1, P2, P3, P4"):
        segzoo.build_model("deeplabv3plus", "resnet18", 2, weights="none", auxiliary=("P5",))


@needs_tensorflow
def test_every_weight_of_every_head_learns(pixels) -> None:
    import tensorflow as tf

    model = segzoo.build_model(
        "unetplusplus", small_backbone(), 3, channels=[8] * 5, deep_supervision=True,
        auxiliary=("P3",), classification=True,
    )  # fmt: skip
    with tf.GradientTape() as tape:
        outputs = model(pixels(64, 64, 2), training=True)
        loss = sum(tf.reduce_sum(x * np.random.default_rng(1).normal(size=x.shape)) for x in outputs.values())
    found = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    for weight, gradient in zip(model.trainable_weights, found, strict=True):
        assert gradient is not None and bool(tf.reduce_any(gradient != 0)), weight.path


def test_a_decoder_instance_is_the_decoder_of_that_name(pixels) -> None:
    """The same network, layer by layer, as by its name and options."""
    keras.utils.set_random_seed(0)
    named = segzoo.build_model("fpn", small_backbone(), 3, pyramid_channels=16)
    keras.utils.set_random_seed(0)
    given = segzoo.build_model(segzoo.decoders.FPN(pyramid_channels=16), small_backbone(), 3)
    assert [weight.path for weight in given.weights] == [weight.path for weight in named.weights]
    given.set_weights(named.get_weights())
    image = pixels(40, 33)
    np.testing.assert_array_equal(given(image), named(image))


def test_a_decoder_instance_is_used_once_and_has_its_options() -> None:
    decoder = segzoo.decoders.FPN(pyramid_channels=16)
    segzoo.build_model(decoder, small_backbone(), 3)
    with pytest.raises(SegzooError, match="a layer of another model already"):
        segzoo.build_model(decoder, small_backbone(), 3)
    with pytest.raises(SegzooError, match="give pyramid_channels to its constructor"):
        segzoo.build_model(segzoo.decoders.FPN(), small_backbone(), 3, pyramid_channels=16)
