"""Every decoder and head trains under XLA to the weights that it trains to without.

By default a pyramid with several heads trains, and DeepLabV3+, of dilated and pooled maps, gives its logits; in
test_xla_layers.py are the gradients of all layers that XLA could compute otherwise. The marker `xla` has the logits of
every decoder, and trains each with every option.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import NARROW, small_vit

import segzoo
from segzoo.losses import ClassPresence, CrossEntropy
from segzoo.models.build import PRESENCE

VARIANTS = {
    **{name: (name, {}) for name in NARROW},
    "unet_scse": ("unet", {"attention": "scse"}),
    "unet_bilinear": ("unet", {"upsampling": "bilinear", "separable": True}),
    "unet_transposed": ("unet", {"upsampling": "transposed", "merge": "add", "normalization": "group"}),
    "unetplusplus_supervised": ("unetplusplus", {"deep_supervision": True}),
    "fpn_bilinear": ("fpn", {"upsampling": "bilinear", "merge": "concat"}),
    "fpn_heads": ("fpn", {"auxiliary": ["P4"], "classification": True}),
    "fpn_heads_of_three_levels": ("fpn", {"auxiliary": ["P2"], "classification": True, "depth": 3}),
    "pspnet_aligned": ("pspnet", {"align_corners": True}),
}
DEFAULT = {"deeplabv3plus": "logits", "fpn_heads_of_three_levels": "steps"}


def tried(names, what: str) -> list:
    """These variants, of which the default run tries few."""
    return [pytest.param(name, marks=() if DEFAULT.get(name) == what else pytest.mark.xla) for name in names]


def test_every_decoder_is_tried() -> None:
    assert set(NARROW) == set(segzoo.decoders.names())


@pytest.fixture
def built(tiny_backbone):
    """Build a narrow model of a decoder on a tiny backbone."""

    def built(decoder: str, **options):
        stride = segzoo.decoders.DECODERS[decoder].default_output_stride
        keras.utils.set_random_seed(1)
        backbone = small_vit() if decoder == "dpt" else tiny_backbone(4 if stride == 16 else 5)
        options = {**NARROW[decoder], "dropout": 0.0, **options}
        return segzoo.build_model(decoder, backbone, 3, weights="none", **options)

    return built


@pytest.mark.parametrize("decoder", tried(NARROW, "logits"))
def test_logits_under_xla(decoder: str, built) -> None:
    model = built(decoder)
    images = np.random.default_rng(0).uniform(0, 255, (1, 37, 45, 3)).astype("float32")
    expected = model(images, training=False)
    found = tf.function(lambda images: model(images, training=False), jit_compile=True)(images)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("variant", tried(VARIANTS, "steps"))
def test_two_steps_under_xla(variant: str, built, two_steps) -> None:
    decoder, options = VARIANTS[variant]
    model = built(decoder, **options)
    for layer in model.layers:  # dropout draws other numbers under XLA
        for inner in (layer, getattr(layer, "drop", None)):
            if isinstance(inner, keras.layers.Dropout):
                inner.rate = 0.0
    start = model.get_weights()
    loss = CrossEntropy()
    if isinstance(model.output, dict):
        loss = {name: ClassPresence() if name == PRESENCE else loss for name in model.output}
    found = {}
    for compiled in (False, True):
        compiling = {"optimizer": keras.optimizers.SGD(0.1), "loss": loss}
        found[compiled] = two_steps(model, start, compiled, **compiling)
    np.testing.assert_allclose(found[True][0], found[False][0], rtol=1e-4)
    assert np.isfinite(found[True][0]).all()
    # Batch normalisation of maps of a few pixels magnifies rounding: with a millionth of the initial kernels added,
    # MANet's move by a fifth of the farthest that a weight went. So within a twentieth of that.
    farthest = max(np.abs(kernels - before).max() for kernels, before in zip(found[False][1], start, strict=True))
    moved = 0
    for weight, xla, kernels, before in zip(model.weights, found[True][1], found[False][1], start, strict=True):
        np.testing.assert_allclose(xla, kernels, rtol=0, atol=0.05 * farthest, err_msg=weight.path)
        moved += not np.array_equal(xla, before)
    assert moved > 0.9 * len(start)
