"""Properties of every registered decoder, on small random features."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import keras
import numpy as np
import pytest
from decoder_features import random_features
from networks import NARROW, small_for

import segzoo
from segzoo import decoders
from segzoo.decoders import DECODERS, SegmentationHead
from segzoo.errors import SegzooError
from segzoo.layers import ConvBlock

CLIMBING = ("unet", "unetplusplus", "manet", "linknet")
# Every option of every decoder at another value than its default, all at once.
UNUSUAL = {
    "unet": {
        "channels": [4, 4, 4, 4], "upsampling": "transposed", "merge": "add", "attention": "scse",
        "squeeze_activation": "swish", "separable": True, "fit_image": True, "center": True, "depth": 4,
        "normalization": "group", "activation": "gelu", "dropout": 0.1,
    },
    "unetplusplus": {
        "channels": [4, 4, 4, 4], "upsampling": "transposed", "deep_supervision": True, "separable": True, "depth": 4,
        "attention": "scse", "squeeze_activation": "swish",
        "normalization": "layer", "activation": "elu", "dropout": 0.1,
    },
    "manet": {
        "channels": [4, 4, 4, 4], "upsampling": "bilinear", "attention_channels": 2, "reduction": 2,
        "attention_softmax": "pairs", "attention_interleaved": True,
        "squeeze_activation": "swish", "separable": True, "depth": 4, "normalization": "none", "activation": "swish",
        "dropout": 0.1,
    },
    "linknet": {"channels": 6, "depth": 3, "normalization": "none", "activation": "gelu", "dropout": 0.1},
    "pspnet": {
        "channels": 6, "bins": [1, 4], "dropout": 0.0, "depth": 3, "align_corners": True, "normalization": "group",
        "activation": "gelu",
    },
    "pan": {
        "channels": 6, "upsampling": "nearest", "depth": 4, "pyramid_activation": "swish",
        "pyramid_upsampling": "bilinear", "halving": "floor", "align_corners": True, "stage_four": True,
        "normalization": "layer", "activation": "elu", "dropout": 0.1,
    },
    "upernet": {
        "channels": 6, "bins": [2], "normalize_features": False, "separable": True, "depth": 4,
        "head_interpolation": "aligned",
        "normalization": "layer", "activation": "gelu", "dropout": 0.1,
    },
    "segformer": {
        "channels": 6, "dropout": 0.0, "depth": 4, "with_p1": True, "head_interpolation": "aligned",
        "normalization": "none", "activation": "gelu",
    },
    "fpn": {
        "pyramid_channels": 8, "segmentation_channels": 6, "merge": "concat", "dropout": 0.1, "upsampling": "bilinear",
        "align_corners": True, "separable": True, "depth": 4, "normalization": "layer", "activation": "swish",
    },
    "dpt": {
        "readout": "add", "intermediate_channels": [4, 4, 6, 6], "fusion_channels": 4, "align_corners": False,
        "patch": 14, "normalization": "layer", "activation": "gelu", "dropout": 0.2,
    },
    "deeplabv3": {
        "channels": 6, "rates": [2, 3], "dropout": 0.1, "separable": True, "normalization": "none", "depth": 4,
        "aspp_separable": False, "head_interpolation": "aligned",
        "activation": "relu6",
    },
    "deeplabv3plus": {
        "channels": 6, "low_level_channels": 2, "rates": [1], "dropout": 0.0, "separable": False,
        "align_corners": True, "depth": 4, "aspp_separable": True, "normalization": "group", "activation": "elu",
    },
}  # fmt: skip
for unusual in UNUSUAL.values():
    unusual.update(epsilon=1e-2, groups=2)
SIZES = [(32, 32), (33, 47), (64, 96), (65, 129)]
NAMES = decoders.names()


def make(name: str, **options) -> keras.layers.Layer:
    return DECODERS[name](name="decoder", **{**NARROW[name], **options})


def used(name: str, output_stride: int | None = None) -> tuple[str, ...]:
    return DECODERS[name].levels(output_stride or DECODERS[name].default_output_stride)


@pytest.fixture(scope="module")
def built() -> Callable[[str], keras.layers.Layer]:
    """Build a decoder at its default output stride once for all tests that leave it as it is."""

    @cache
    def built(name: str) -> keras.layers.Layer:
        keras.utils.set_random_seed(0)
        decoder = make(name)
        decoder(random_features(32, 32, used(name)))
        return decoder

    return built


def strides() -> list:
    """All decoders at all output strides; by default at their own, and one of each kind at another."""
    others = (("unet", 16), ("pspnet", 16), ("pan", 8), ("deeplabv3", 8), ("deeplabv3plus", 8))
    return [
        pytest.param(name, stride, marks=() if stride == default or (name, stride) in others else pytest.mark.nightly)
        for name, default in ((name, DECODERS[name].default_output_stride) for name in NAMES)
        for stride in (32, 16, 8)
    ]


@pytest.mark.parametrize(("name", "output_stride"), strides())
def test_logits_have_the_size_of_the_image(name: str, output_stride: int, features, built) -> None:
    levels = used(name, output_stride)
    options = {"channels": (8, 6, 4, 4, 4)[-int(levels[-1][1:]) :]} if name in CLIMBING[:3] else {}
    decoder = built(name) if levels == used(name) else make(name, **options)
    head = SegmentationHead(5, decoder.head_kernel)
    for size in SIZES if levels == used(name) else SIZES[1:2]:
        arrays = features(*size, levels)
        decoded = decoder(arrays)
        assert decoded.shape == decoder.compute_output_shape({level: f.shape for level, f in arrays.items()})
        logits = head(decoded, np.zeros((1, *size, 3), "float32"))
        assert logits.shape == (1, *size, 5)
        assert np.asarray(logits).std() > 0


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_of_a_model_is_built(name: str) -> None:
    """Else Keras on JAX and PyTorch calls the model once more in every `fit` and `train_on_batch`."""
    model = segzoo.build_model(name, small_for(name), 3, weights="none", **NARROW[name])
    assert not [layer.path for layer in model._flatten_layers() if not layer.built]


IN_A_GRAPH = ("unet", "fpn", "pspnet")


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        *(
            pytest.param(
                name, SIZES[:2], id=name, marks=() if name in ("unet", "fpn", "pspnet") else pytest.mark.nightly
            )
            for name in NAMES
        ),
        *(pytest.param(name, SIZES[2:], id=f"{name}-larger", marks=pytest.mark.nightly) for name in NAMES),
    ],
)
def test_one_graph_of_unknown_sizes_equals_the_eager_result(name: str, sizes, features, inputs, built) -> None:
    """Static sizes take shortcuts (doubling, no resize): they must not change the result.

    (tests/export compares such a graph of every decoder, as ONNX.)
    """
    decoder = built(name)
    widths = {level: f.shape[-1] for level, f in features(32, 32, used(name)).items()}
    symbolic = inputs(widths)
    model = keras.Model(symbolic, decoder(symbolic))
    model.compile(jit_compile=False)  # tests/xla compiles every decoder
    for size in sizes:
        arrays = features(*size, used(name))
        np.testing.assert_allclose(model.predict_on_batch(arrays), decoder(arrays), atol=1e-4)


# Whose layers are all in other decoders: by default they are not built in half precision.
ALIKE = ("unetplusplus", "linknet", "deeplabv3", "segformer")


def half_precision() -> list:
    """All decoders in both half precisions; by default in one."""
    return [
        pytest.param(name, policy, marks=pytest.mark.nightly if policy == "mixed_float16" or name in ALIKE else ())
        for name in NAMES
        for policy in ("mixed_bfloat16", "mixed_float16")
    ]


@pytest.mark.parametrize(("name", "policy"), half_precision())
def test_mixed_precision_gives_float32_logits(name: str, policy: str, features, dtype_policy, built) -> None:
    arrays, image = features(33, 47, used(name)), np.zeros((1, 33, 47, 3), "float32")
    decoder, head = built(name), SegmentationHead(5, DECODERS[name].head_kernel)
    expected = np.asarray(head(decoder(arrays), image))
    dtype_policy(policy)
    half, half_head = make(name), SegmentationHead(5, DECODERS[name].head_kernel)
    half_head(half(arrays), image)
    assert [weight.path for weight in half.weights] == [weight.path for weight in decoder.weights]
    half.set_weights(decoder.get_weights())
    half_head.set_weights(head.get_weights())
    decoded = half(arrays)
    assert keras.backend.standardize_dtype(decoded.dtype) == policy.removeprefix("mixed_")
    logits = half_head(decoded, image)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    assert np.corrcoef(np.ravel(logits), np.ravel(expected))[0, 1] > 0.99


@pytest.mark.parametrize(
    ("name", "missing"), [("unet", "P2"), ("manet", "P3"), ("fpn", "P2"), ("fpn", "P4"), ("deeplabv3plus", "P2")]
)
def test_a_missing_level_names_what_there_is(name: str, missing: str, features) -> None:
    arrays = features(64, 64, used(name))
    del arrays[missing]
    there = ", ".join(arrays)
    with pytest.raises(SegzooError, match=f"needs .*{missing}, but the features hold {there}"):
        make(name)(arrays)


def test_levels_follow_the_output_stride() -> None:
    assert DECODERS["unet"].levels(16) == ("P1", "P2", "P3", "P4")
    assert DECODERS["fpn"].levels(32) == ("P2", "P3", "P4", "P5")
    assert DECODERS["deeplabv3"].levels(8) == ("P3",)
    assert DECODERS["deeplabv3plus"].levels(16) == ("P2", "P4")
    for name in NAMES:
        with pytest.raises(SegzooError, match="output_stride must be 8, 16 or 32, got 12"):
            DECODERS[name].levels(12)


def test_levels_of_a_backbone_that_ends_early() -> None:
    assert DECODERS["unet"].levels(4, ("P1", "P2")) == ("P1", "P2") and DECODERS["unet"].levels(2, ("P1",)) == ("P1",)
    assert DECODERS["pspnet"].levels(32, depth=2) == DECODERS["pspnet"].levels(4, ("P2",), depth=2) == ("P2",)
    with pytest.raises(SegzooError, match=r"one of 3, 4 at output stride 16, got 2"):
        DECODERS["deeplabv3plus"].levels(16, depth=2)  # it would join P2 with itself
    with pytest.raises(SegzooError, match="reads levels from P3 on, but the backbone has P1, P2 only"):
        DECODERS["deeplabv3plus"].levels(4, ("P1", "P2"))
    with pytest.raises(SegzooError, match="reads levels from P2 on, but the backbone has P1 only"):
        DECODERS["fpn"].levels(2, ("P1",))


def normalizations() -> list:
    """All decoders with all kinds of normalisation; by default with that of `built` (and, below, of UNUSUAL)."""
    return [
        pytest.param(
            name, kind, marks=() if kind == DECODERS[name]().get_config()["normalization"] else pytest.mark.nightly
        )
        for kind in ("batch", "group", "layer", "none")
        for name in NAMES
    ]


@pytest.mark.parametrize(("name", "normalization"), normalizations())
def test_convolutions_before_a_normalization_have_no_bias(name: str, normalization: str, features, built) -> None:
    own = DECODERS[name]().get_config()["normalization"] == normalization
    decoder = built(name) if own else make(name, normalization=normalization)
    if not own:
        decoder(features(32, 32, used(name)))
    check_biases(decoder)


def check_biases(decoder: keras.layers.Layer) -> None:
    """A normalisation would cancel the bias of a convolution before it; without one it is needed."""
    blocks = [layer for layer in decoder._flatten_layers() if isinstance(layer, ConvBlock)]
    for block in blocks:
        assert (block.norm is None) == block.convolutions[-1].use_bias
    normalized = [block for block in blocks if block.norm is not None]
    assert bool(normalized) == (decoder.get_config()["normalization"] != "none")


@pytest.mark.parametrize("name", NAMES)
def test_bad_options_are_errors(name: str, features) -> None:
    arrays = features(32, 32, used(name))
    with pytest.raises(ValueError, match="'batch', 'group', 'layer' or 'none'"):
        make(name, normalization="instance")(arrays)
    with pytest.raises(ValueError, match="activation"):
        make(name, activation="rulu")(arrays)


def test_bad_options_of_one_decoder(features) -> None:
    with pytest.raises(ValueError, match=r"UNet got 2 channels \(8, 4\), but makes 5 blocks from P5 to full size"):
        make("unet", channels=(8, 4))(features(32, 32))
    for name in ("unet", "unetplusplus", "manet"):
        with pytest.raises(
            ValueError, match="upsampling must be one of nearest, bilinear, transposed, nearest_floor, got 'cubic'"
        ):
            make(name, upsampling="cubic")
    with pytest.raises(ValueError, match="'bilinear' or 'nearest'"):
        make("fpn", upsampling="transposed")
    with pytest.raises(ValueError, match="'scse' or None"):
        make("unet", attention="se")
    for name in ("fpn", "unet"):
        with pytest.raises(ValueError, match="'add' or 'concat'"):
            make(name, merge="mul")
    with pytest.raises(ValueError, match="at least 1"):
        SegmentationHead(0)


@pytest.mark.parametrize("name", NAMES)
def test_config_round_trip(name: str) -> None:
    decoder = DECODERS[name](name="decoder", **UNUSUAL[name])
    config = decoder.get_config()
    assert {key: config[key] for key in UNUSUAL[name]} == UNUSUAL[name]
    assert set(UNUSUAL[name]) == set(decoder.options())
    assert all(UNUSUAL[name][option] != default for option, default in decoder.options().items())
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(decoder))
    assert type(again) is type(decoder)
    assert again.get_config() == config


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in ("unetplusplus", "pan", "fpn") else pytest.mark.nightly) for name in NAMES],
)
def test_keras_file_round_trip(name: str, features, inputs, tmp_path: Path, loaded_elsewhere) -> None:
    """(tests/zoo loads files of all decoders with their default options.)"""
    decoder = DECODERS[name](name="decoder", **UNUSUAL[name])
    arrays = features(33, 47, DECODERS[name].levels(8 if name == "pspnet" else 32, **UNUSUAL[name]))
    symbolic = inputs({level: array.shape[-1] for level, array in arrays.items()})
    image = keras.Input((None, None, 3), name="image")
    decoded = decoder(symbolic)
    decoded = decoded["decoded"] if isinstance(decoded, dict) else decoded
    model = keras.Model([symbolic, image], SegmentationHead(2, 3, name="head")(decoded, image))
    model.save(tmp_path / "decoder.keras")
    data = [arrays, np.zeros((1, 33, 47, 3), "float32")]
    loaded = loaded_elsewhere(tmp_path / "decoder.keras", data)
    np.testing.assert_allclose(loaded.output, model(data), atol=1e-6)
    assert loaded.json == model.to_json()  # with the decoder's options
    assert loaded.weights == [weight.path for weight in model.trainable_weights]


@pytest.mark.parametrize("name", NAMES)
def test_weight_names_are_unique_and_equal_in_every_build(name: str, features, built) -> None:
    paths = [weight.path for weight in built(name).weights]
    assert len(set(paths)) == len(paths)
    if name in ALIKE:  # a second build of the others is in half precision
        again = make(name)
        again(features(32, 32, used(name)))
        assert paths == [weight.path for weight in again.weights]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "unet" else pytest.mark.nightly) for name in CLIMBING]
)
def test_full_size_is_reached_without_p1(name: str, features) -> None:
    """Stems of stride 4 and transformers have no P1: the last two blocks have no skip. (tests/zoo trains all four.)"""
    decoder = make(name, activation="elu")
    for size in SIZES[:2]:
        arrays = features(*size, ("P2", "P3", "P4", "P5"))
        decoded = decoder(arrays)
        assert decoded.shape == decoder.compute_output_shape({level: f.shape for level, f in arrays.items()})
        assert decoded.shape[1:3] == tuple(4 * -(-pixels // 4) for pixels in size)
        before = np.asarray(decoded)
        for level in arrays:
            changed = {**arrays, level: arrays[level] + 1}
            assert np.abs(np.asarray(decoder(changed)) - before).max() > 0, level


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=() if name in ("unet", "unetplusplus", "pspnet", "pan", "deeplabv3plus") else pytest.mark.nightly,
        )
        for name in NAMES
        if "depth" in DECODERS[name].options()
    ],
)
def test_depth_ends_at_a_shallower_level(name: str, features) -> None:
    stride = DECODERS[name].default_output_stride
    depth = 3 if name == "pspnet" else 4
    options = {"channels": None} if name in CLIMBING[:3] else {}
    decoder = make(name, depth=depth, **options)
    everything = features(64, 64)
    expected = decoder(everything)
    read = DECODERS[name].levels(stride, depth=depth)
    assert read[-1] == f"P{depth}"
    np.testing.assert_array_equal(decoder({level: everything[level] for level in read}), expected)
    with pytest.raises(SegzooError, match=r"depth must be the number of a level that .* can end at, one of .*, got 6"):
        DECODERS[name].levels(stride, depth=6)
    with pytest.raises(SegzooError, match=f"needs .*P{depth}"):
        make(name, depth=depth, **options)(features(64, 64, ("P1", "P2")))


def options_of(name: str) -> list:
    """All options of a decoder at their unusual values; by the marker `nightly` each of them alone."""
    every = {option: value for option, value in UNUSUAL[name].items() if option not in ("channels", "depth")}
    return [
        pytest.param(name, every, id=f"{name}-all"),
        *(
            pytest.param(name, {option: value}, id=f"{name}-{option}", marks=pytest.mark.nightly)
            for option, value in every.items()
        ),
    ]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="gradients by tf.GradientTape")
@pytest.mark.parametrize(("name", "options"), [case for name in NAMES for case in options_of(name)])
def test_every_weight_has_a_gradient_with_every_option(name: str, options: dict, features) -> None:
    import tensorflow as tf

    decoder = make(name, **options)
    # Eight images: a hidden ReLU of one channel is silent for some of them.
    stride = DECODERS[name].default_output_stride
    arrays = features(64, 64, DECODERS[name].levels(stride, **options), batch=8)
    with tf.GradientTape() as tape:
        decoded = decoder(arrays, training=True)
        check_biases(decoder)
        parts = list(decoded.values()) if isinstance(decoded, dict) else [decoded]
        loss = sum(tf.reduce_sum(part * np.random.default_rng(1).normal(size=part.shape)) for part in parts)
    for weight, gradient in zip(
        decoder.trainable_weights,
        tape.gradient(loss, [weight.value for weight in decoder.trainable_weights]),
        strict=True,
    ):
        assert gradient is not None, weight.path
        assert float(tf.reduce_max(tf.abs(gradient))) > 0, weight.path


def test_unet_options_make_what_they_say(features) -> None:
    """Sizes by hand: widths 12, 10, 8, 6, 4 from P5 to P1; blocks of 8 channels, 3x3 convolutions without bias."""

    def weights(**options) -> int:
        decoder = make("unet", channels=(8,) * 5, normalization="none", **options)
        decoder(features(32, 32))
        return decoder.count_params()

    skips = (10, 8, 6, 4, 0)
    below = (12, 8, 8, 8, 8)
    second = 5 * (9 * 8 * 8 + 8)
    assert weights() == second + sum(9 * (b + s) * 8 + 8 for b, s in zip(below, skips, strict=True))
    added = sum(9 * b * 8 + 8 for b in below) + sum(s * b + b for b, s in zip(below[:4], skips[:4], strict=True))
    assert weights(merge="add") == second + added
    transposed = sum(4 * b * 8 + 8 for b in below) + sum(9 * (8 + s) * 8 + 8 for s in skips)
    assert weights(upsampling="transposed") == second + transposed
    separable = sum(9 * (b + s) + (b + s) * 8 + 8 for b, s in zip(below, skips, strict=True)) + 5 * (9 * 8 + 64 + 8)
    assert weights(separable=True) == separable

    def attention(channels: int) -> int:
        hidden = max(1, channels // 16)
        return 2 * channels * hidden + hidden + channels + channels + 1

    both = sum(attention(b + s) for b, s in zip(below[:4], skips[:4], strict=True)) + 5 * attention(8)
    assert weights(attention="scse") == weights() + both


def test_deep_supervision_returns_the_shallower_networks(features) -> None:
    """Node (1, j) is a U-Net of depth j + 1: what lies deeper cannot reach it."""
    decoder = make("unetplusplus", deep_supervision=True)
    arrays = features(64, 64)
    before = decoder(arrays)
    assert list(before) == ["decoded", "supervised1", "supervised2", "supervised3"]
    shapes = decoder.compute_output_shape({level: f.shape for level, f in arrays.items()})
    assert {name: tuple(x.shape) for name, x in before.items()} == shapes
    arrays["P4"] = arrays["P4"] + 1
    after = decoder(arrays)
    changed = {name: np.abs(np.asarray(after[name]) - np.asarray(before[name])).max() > 0 for name in before}
    assert changed == {"decoded": True, "supervised1": False, "supervised2": False, "supervised3": True}


@pytest.mark.parametrize(
    ("name", "strides"),
    [
        ("deeplabv3", (32, 16, 8)),
        ("deeplabv3plus", (8,)),
        pytest.param("deeplabv3plus", (32, 16), marks=pytest.mark.nightly),
    ],
    ids=str,
)
def test_the_atrous_rates_follow_the_output_stride(name: str, strides: tuple[int, ...], features) -> None:
    """(6, 12, 18) at output stride 16 and doubled at 8 (Chen et al., 2017); the field of view in pixels is the same."""
    expected = {32: (3, 6, 9), 16: (6, 12, 18), 8: (12, 24, 36)}
    for stride in strides:
        decoder = make(name)
        decoder(features(64, 64, used(name, stride)))
        assert decoder.aspp.rates == expected[stride]
    decoder = make(name, rates=(1, 2))
    decoder(features(64, 64, used(name, 16)))
    assert decoder.aspp.rates == (1, 2)


def test_the_pooled_branch_sees_the_whole_map(features) -> None:
    """A change in one corner reaches the opposite one only through image pooling."""
    decoder = make("deeplabv3", rates=(1,))
    arrays = features(512, 512, ("P4",))
    before = np.asarray(decoder(arrays))
    arrays["P4"][:, 0, 0] += 100
    after = np.asarray(decoder(arrays))
    assert np.abs(after - before)[:, -1, -1].max() > 1e-4


def test_fpn_adds_a_coarser_level_to_a_finer_one(features) -> None:
    """P5 lies above P2 in the pyramid: it must reach stride 4 by the top-down path as well as by its own branch."""
    decoder = make("fpn", normalization="none")
    arrays = features(64, 64, used("fpn"))
    decoder(arrays)
    for level in ("P3", "P4", "P5"):  # silence the other branches
        for block in decoder.branches[level]:
            for weight in block.weights:
                weight.assign(0 * weight)
    before = np.asarray(decoder(arrays))
    arrays["P5"] = arrays["P5"] + 1
    assert np.abs(np.asarray(decoder(arrays)) - before).max() > 1e-4
