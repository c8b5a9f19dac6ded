"""Every backbone with every decoder that its levels allow: built, called, trained a step, saved and read back."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import keras
import numpy as np
import pytest
from networks import small_backbone

import segzoo
from segzoo.backbones import BACKBONES, reference
from segzoo.backbones.figures import figures
from segzoo.decoders import DECODERS
from segzoo.errors import SegzooError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="gradients by tf.GradientTape"),
]
BUILT: dict = {}


def fits(backbone: str, decoder: str) -> bool:
    """Return True if the backbone has the levels that the decoder needs."""
    variant, decoder_class = BACKBONES[backbone], DECODERS[decoder]
    stride = 32 if variant.undilated else decoder_class.default_output_stride
    try:
        decoder_class.levels(stride, tuple(variant.levels(None, stride)))
    except SegzooError:
        return False
    return True


def covering() -> set[tuple[str, str]]:
    """The pairs that run by default: the smallest network of each family under Linknet, which reads all its levels.

    `test_decoder_on_levels` runs all decoders on all sets of levels.
    """
    families = {}
    for name in sorted(BACKBONES, key=lambda name: figures(name).parameters, reverse=True):
        families[BACKBONES[name].family] = name
    assert all(fits(name, "linknet") for name in families.values())
    return {(name, "linknet") for name in families.values()}


def pairs() -> list:
    """All pairs; those beyond the covering are marked `zoo`."""
    chosen = covering()
    return [
        pytest.param(backbone, decoder, marks=[] if (backbone, decoder) in chosen else [pytest.mark.zoo])
        for backbone in BACKBONES
        for decoder in DECODERS
        if fits(backbone, decoder)
    ]


@pytest.fixture(autouse=True)
def one_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build each reference network once for all decoders; backbones copy it and leave it as it is."""
    structure = reference.structure

    def remembered(variant):
        if BUILT.get("name") != variant.name:
            BUILT.update(name=variant.name, network=structure(variant))
        return BUILT["network"]

    monkeypatch.setattr(reference, "structure", remembered)


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    """Random numbers for initial weights, drawn once for all networks."""
    return np.random.default_rng(0).standard_normal(2**22).clip(-2, 2).astype("float32")


@pytest.fixture
def quick_weights(noise: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Initial kernels of the right spread from one pool of random numbers, each from another place in it."""
    counter = itertools.count()

    def drawn(self, shape, dtype=None):
        places = math.prod(shape[:-2])
        fans = {"fan_in": places * shape[-2], "fan_out": places * shape[-1]} if len(shape) > 1 else {}
        fan = fans.get(self.mode, sum(fans.values()) / 2)
        begin = next(counter) * 104_729 % (noise.size // 2)
        values = np.resize(noise[begin : begin + math.prod(shape)], shape) * np.sqrt(self.scale / max(1.0, fan))
        return keras.ops.convert_to_tensor(values, dtype)

    monkeypatch.setattr(keras.initializers.VarianceScaling, "__call__", drawn)


@pytest.mark.parametrize(("backbone", "decoder"), pairs())
def test_pair(
    backbone: str,
    decoder: str,
    pixels,
    tmp_path: Path,
    record_property,
    wants_table: bool,
    installed,
    quick_weights,
    smooth,
    loaded_elsewhere,
) -> None:
    installed(backbone)
    keras.utils.set_random_seed(0)
    model = segzoo.build_model(decoder, backbone, 3, weights="none", drop_path=0.0, **smooth(decoder))
    check(model, tmp_path, pixels, loaded_elsewhere)
    if wants_table:
        from segzoo.complexity import gflops

        parameters = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
        record_property("parameters", parameters)
        record_property("gflops", gflops(model, (256, 256)))
    # The largest networks have 350 million parameters: a copy that is done with makes room for the next.
    del model
    keras.backend.clear_session()  # which collects garbage, too


def decoders_on_levels() -> list:
    """All decoders on P1 to P5, and on P2 to P5; marked `zoo` where a decoder that reads no P1 would get the same."""
    cases = []
    for decoder in DECODERS:
        decoder_class = DECODERS[decoder]
        stride = decoder_class.default_output_stride
        read = [decoder_class.levels(stride, tuple(f"P{level}" for level in range(first, 6))) for first in (1, 2)]
        cases += [
            pytest.param(decoder, 1, id=f"{decoder}-P1"),
            pytest.param(decoder, 2, id=f"{decoder}-P2", marks=pytest.mark.zoo if read[0] == read[1] else ()),
        ]
    return cases


@pytest.mark.parametrize(("decoder", "first"), decoders_on_levels())
def test_decoder_on_levels(decoder: str, first: int, tmp_path: Path, pixels, smooth, loaded_elsewhere) -> None:
    """A decoder sees only the levels of a network: all of them, or without P1 as those of ConvNeXt and MiT."""

    def build() -> keras.Model:
        return segzoo.build_model(decoder, small_backbone(first), 3, **smooth(decoder))

    keras.utils.set_random_seed(0)
    model = build()
    check(model, tmp_path, pixels, loaded_elsewhere)
    if first == 2:
        return
    second = build()
    assert [weight.path for weight in second.weights] == [weight.path for weight in model.weights]
    assert [layer.name for layer in second.layers] == [layer.name for layer in model.layers]


def check(model: keras.Model, folder: Path, pixels, loaded_elsewhere) -> None:
    """Call, train a step, save, and load in another process."""
    even, odd = pixels(64, 64, batch=2), pixels(33, 47)
    trained = assert_every_weight_has_a_gradient(model, even)
    expected = np.asarray(model(odd, training=False))
    for images, logits in ((even, trained), (odd, expected)):
        assert logits.shape == (*images.shape[:3], 3)
        assert np.isfinite(logits).all()
        assert logits.std() > 0

    paths = [weight.path for weight in model.weights]
    names = [layer.name for layer in model.layers]
    assert len(set(paths)) == len(paths)
    assert len(set(names)) == len(names)

    model.save(folder / "model.keras")
    again = loaded_elsewhere(folder / "model.keras", odd)
    np.testing.assert_allclose(again.output, expected, atol=1e-5 * max(1.0, np.abs(expected).max()))
    assert again.json == model.to_json()
    assert again.weights == [weight.path for weight in model.trainable_weights]


def assert_every_weight_has_a_gradient(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """SMP leaves 4.5 % of U-Net/EfficientNet-B3 without one; here networks are cut where nothing reads.

    Returns the logits of the step.
    """
    import tensorflow as tf

    labels = np.random.default_rng(2).integers(0, 3, images.shape[:3])
    with tf.GradientTape() as tape:
        logits = model(images, training=True)
        loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True))
    found = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    assert np.isfinite(float(loss))
    for weight, gradient in zip(model.trainable_weights, found, strict=True):
        assert gradient is not None, weight.path
        assert bool(tf.reduce_all(tf.math.is_finite(gradient))), weight.path
        assert float(tf.reduce_max(tf.abs(gradient))) > 0, weight.path
    return np.asarray(logits)
