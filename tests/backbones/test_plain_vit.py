"""Plain vision transformers: equal to keras-hub's at its size, right at every other, and a pyramid made of them."""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from checks import check_network
from networks import NARROW, small_vit

import segzoo
from segzoo import backbones
from segzoo.backbones import BACKBONES, reference
from segzoo.config.schema import Config
from segzoo.errors import SegzooError, UnknownNameError, WeightsError
from segzoo.layers import PatchPadding, SimplePyramid, TokenEmbedding, TransformerBlock, at_stride
from segzoo.layers.tokens import cubic_shares
from segzoo.levels import MADE, TOKENS, prefix_of
from segzoo.optim.optimizers import is_decayed
from segzoo.optim.param_groups import frozen_layers, rate_factors
from segzoo.registry import find

VITS = [name for name in BACKBONES if BACKBONES[name].patch]
# A variant of each form, the options that make it small, and those of keras-hub's network of the same size.
WIDTH, DEPTH, HEADS = 16, 4, 2
COMMON = {"hidden_dim": WIDTH, "num_layers": DEPTH, "num_heads": HEADS}
FORMS = {
    "hub_vit_base_16": (
        {"grid": 3},
        {**COMMON, "image_shape": (48, 48, 3), "patch_size": 16, "mlp_dim": 4 * WIDTH},
    ),
    "hub_dinov2_small": (
        {"grid": 5},
        {
            **COMMON,
            "image_shape": (70, 70, 3),
            "position_embedding_shape": (70, 70, 3),
            "patch_size": 14,
            "intermediate_dim": 4 * WIDTH,
        },
    ),
    "hub_dinov2_registers_small": (
        {"grid": 5},
        {
            **COMMON,
            "image_shape": (70, 70, 3),
            "position_embedding_shape": (70, 70, 3),
            "patch_size": 14,
            "intermediate_dim": 4 * WIDTH,
            "num_register_tokens": 4,
        },
    ),
    "hub_dinov3_small": (
        {},
        {
            **COMMON,
            "image_shape": (48, 80, 3),
            "patch_size": 16,
            "intermediate_dim": 4 * WIDTH,
            "use_key_bias": False,
        },
    ),
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Register a small network of a variant's form; returns its name."""

    def small(name: str) -> str:
        module = importlib.import_module(BACKBONES[name].constructor.partition(":")[0])
        network = dataclasses.replace(module.NETWORKS[name], width=WIDTH, depth=DEPTH, heads=HEADS, **FORMS[name][0])
        monkeypatch.setitem(module.NETWORKS, name, network)
        # By a name of its own, since other tests have the structure of the large one by its name.
        own = dataclasses.replace(BACKBONES[name], name=f"small_{name}", tables={"blocks": network.taps()})
        monkeypatch.setitem(BACKBONES._entries, own.name, own)
        return own.name

    return small


@functools.cache
def packaged(name: str) -> keras.Model:
    """keras-hub's network of the size of `small`, with random weights, once for all tests."""
    hub = pytest.importorskip("keras_hub", reason="compares with keras-hub's networks")
    name = name.removeprefix("small_")
    network = getattr(hub.models, find(BACKBONES[name].constructor).backbone)(**FORMS[name][1])
    rng = np.random.default_rng(0)
    for weight in network.weights:
        scale = np.sqrt(np.prod(weight.shape[:-1])) if len(weight.shape) > 1 and "embedding" not in weight.path else 1
        weight.assign(rng.normal(1.0 if weight.name == "gamma" else 0.0, 0.5 / scale, weight.shape))
    if "dinov2" in name:
        network.embeddings.interpolated_position_embeddings.assign(network.embeddings.position_embeddings)
    return network


def outputs_of(name: str, images: np.ndarray) -> list[np.ndarray]:
    """Outputs of keras-hub's network, normalised at the end, and of its blocks where it returns them."""
    network = packaged(name)
    found = network.predict_on_batch(images)
    if hasattr(network, "pyramid_outputs"):
        inside = keras.Model(network.input, [network.pyramid_outputs[f"stage{number}"] for number in range(1, 5)])
        return [*inside.predict_on_batch(images), found]
    return [found]


@pytest.mark.parametrize("name", FORMS)
def test_tokens_are_keras_hubs(name: str, small, pixels) -> None:
    """At the size that its positions are for; at others the interpolation is compared with PyTorch's."""
    height, width, _ = FORMS[name][1]["image_shape"]
    theirs = packaged(name)
    network = find(BACKBONES[small(name)].constructor)
    ours = network(input_shape=(None, None, 3))
    network.load(ours, theirs, "theirs")
    images = (pixels(height, width, batch=2) / 100 - 1).astype("float32")
    features = ours(images, training=False)
    *blocks, last = outputs_of(name, images)

    def tokens(level: str) -> np.ndarray:
        prefix, patches = np.asarray(features[prefix_of(level)]), np.asarray(features[level])
        return np.concatenate([prefix, patches.reshape(len(images), -1, WIDTH)], axis=1)

    for level, expected in zip(TOKENS, blocks, strict=False):
        assert expected.std() > 0.1
        np.testing.assert_allclose(tokens(level), expected, atol=1e-4 * np.abs(expected).max(), err_msg=level)
    end = theirs.layernorm if blocks else theirs.get_layer("vit_encoder").layer_norm
    np.testing.assert_allclose(end(tokens("T4")), last, atol=1e-4 * np.abs(last).max())


def test_another_network_is_refused(small) -> None:
    network = find(BACKBONES[small("hub_dinov2_small")].constructor)
    with pytest.raises(WeightsError, match="preset long is not of hub_dinov2_small: it has 4 blocks, not 3"):
        shorter = dataclasses.replace(network, depth=3)
        shorter.load(shorter(), packaged("hub_dinov2_small"), "long")
    with pytest.raises(WeightsError, match="preset registers is not of hub_dinov2_small"):
        network.load(network(), packaged("hub_dinov2_registers_small"), "registers")


def test_a_preset_is_loaded(small, pixels, tmp_path: Path, monkeypatch) -> None:
    """With a pyramid, which no preset has: its tensors are reported as missing."""
    name = small("hub_dinov2_registers_small")
    theirs = packaged(name)
    import keras_hub

    theirs.save_to_preset(str(tmp_path))
    pixel_values = {"mean": [0.485, 0.456, 0.406], "variance": [0.229**2, 0.224**2, 0.225**2]}
    keras_hub.layers.DINOV2ImageConverter(scale=1 / 255, **pixel_values).save_to_preset(str(tmp_path))
    local = dataclasses.replace(BACKBONES[name], presets=(str(tmp_path),))
    monkeypatch.setitem(BACKBONES._entries, name, local)
    ours = backbones.create(name, weights="imagenet", levels=("T4", "T4_prefix", "P3"))
    report = ours.weights_report
    new = [weight.path for weight in ours.get_layer("simple_pyramid").weights]
    assert report.source == f"preset:{tmp_path}" and report.missing == new
    assert sorted(report.loaded) == sorted(weight.path for weight in ours.weights if weight.path not in new)
    images = pixels(70, 70)
    features = ours(images, training=False)
    expected = outputs_of(name, np.asarray(reference.preprocess(local, images.copy())))[-2]
    found = np.concatenate([features["T4_prefix"], np.reshape(features["T4"], (1, -1, WIDTH))], axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("new", [2, 5, 7, 16])
def test_positions_are_interpolated_as_pytorch_does(new: int, antialias: bool) -> None:
    torch = pytest.importorskip("torch", reason="compares with torch.nn.functional.interpolate")
    line = np.random.default_rng(0).normal(size=7).astype("float32")
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(np.outer(line, np.ones(7, "float32")))[None, None],
        (new, 7),
        mode="bicubic",
        antialias=antialias,
    )[0, 0, :, 0]
    np.testing.assert_allclose(np.asarray(cubic_shares(7, new, antialias)) @ line, expected, atol=1e-6)


def test_interpolated_positions_by_hand() -> None:
    """Keys' kernel with a = -0.75 at a quarter of the distance; the outermost value stands for those beyond it."""
    a = -0.75

    def kernel(x: float) -> float:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1 if x <= 1 else a * (x**3 - 5 * x**2 + 8 * x - 4)

    weights = [kernel(distance) for distance in (1.75, 0.75, 0.25, 1.25)]
    assert sum(weights) == pytest.approx(1)
    shares = np.asarray(cubic_shares(3, 6))
    # The first of six lies at -0.25: beyond it are three copies of the first value, and the second at 1.25.
    np.testing.assert_allclose(shares[0], [sum(weights[:3]), weights[3], 0], atol=1e-6)
    np.testing.assert_array_equal(np.asarray(cubic_shares(5, 5)), np.eye(5))
    np.testing.assert_array_equal(np.asarray(cubic_shares(5, 5, antialias=True)), np.eye(5))
    np.testing.assert_allclose(np.asarray(cubic_shares(1, 3)), np.ones((3, 1)), atol=1e-6)


@pytest.mark.parametrize("patch", [14, 16])
def test_an_image_is_padded_to_whole_patches(patch: int, pixels) -> None:
    """With zeros below and on the right, where the network's input is normalised; tokens see a larger image."""
    network = small_vit(patch=patch)
    for size in ((32, 32), (33, 47), (97, 131)):
        images = pixels(*size)
        whole = [-(-side // patch) * patch for side in size]
        padded = np.full((1, *whole, 3), 128, "float32")  # what the network's normalisation makes zero
        padded[:, : size[0], : size[1]] = images
        features, expected = network(images, training=False), network(padded, training=False)
        for level in TOKENS:
            assert features[level].shape == (1, *(side // patch for side in whole), 8)
            assert features[prefix_of(level)].shape == (1, 1, 8)
            np.testing.assert_allclose(features[level], expected[level], atol=1e-5)


def test_maps_are_cut_and_interpolated_where_they_lie() -> None:
    """A map whose values are places in the image says whether those of another stride are in the right place."""
    image = np.zeros((1, 33, 47, 3), "float32")

    def places(stride: float, count: int) -> np.ndarray:
        return (np.arange(count) + 0.5) * stride

    for own in (3.5, 7.0, 14.0, 4.0, 32.0):
        patch = 14 if own in (3.5, 7.0, 14.0) else 32
        rows, columns = (int(-(-side // patch) * patch / own) for side in (33, 47))
        x = np.stack(np.meshgrid(places(own, rows), places(own, columns), indexing="ij"), axis=-1)[None].astype(
            "float32"
        )
        stride = 2 ** int(np.ceil(np.log2(own)))
        found = np.asarray(at_stride(x, image, own, stride))
        assert found.shape == (1, -(-33 // stride), -(-47 // stride), 2)
        for axis, (side, last) in enumerate(((33, x[0, -1, 0, 0]), (47, x[0, 0, -1, 1]))):
            expected = np.clip(places(stride, -(-side // stride)), own / 2, last)
            np.testing.assert_allclose(np.take(found[0, ..., axis], 0, axis=1 - axis), expected, rtol=1e-5)


@pytest.mark.parametrize("patch", [14, 16, 32])
def test_the_pyramid_has_the_sizes_of_its_levels(patch: int, pixels) -> None:
    pyramid = SimplePyramid(patch, MADE, channels=4)
    for size in ((32, 32), (33, 47), (97, 131)):
        grid = np.random.default_rng(0).normal(size=(2, *(-(-side // patch) for side in size), 16)).astype("float32")
        found = pyramid(grid, pixels(*size, batch=2))
        assert {level: tuple(map.shape) for level, map in found.items()} == {
            f"P{number}": (2, *(-(-side // 2**number) for side in size), 4) for number in range(2, 6)
        }
        assert {level: map.shape for level, map in found.items()} == pyramid.compute_output_shape(
            grid.shape, (2, *size, 3)
        )


def test_the_pyramid_has_the_layers_of_the_paper() -> None:
    """Weights by hand, of ViTDet's for 16 channels: two doublings, one, none, a maximum; widths 4, 8, 16 and 16."""
    ends = {2: 4, 3: 8, 4: 16, 5: 16}
    doubled = {2: (16 * 8 * 4 + 8) + 2 * 8 + (8 * 4 * 4 + 4), 3: 16 * 8 * 4 + 8, 4: 0, 5: 0}
    for number, width in ends.items():
        pyramid = SimplePyramid(16, [f"P{number}"], channels=10)
        pyramid.build((None, None, None, 16), (None, None, None, 3))
        assert pyramid.count_params() == doubled[number] + width * 10 + 20 + 9 * 10 * 10 + 20


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="gradients by tf.GradientTape")
@pytest.mark.parametrize(
    ("decoder", "name"),
    [
        ("dpt", "hub_dinov2_registers_small"),
        ("linknet", "hub_dinov2_small"),
        pytest.param("dpt", "hub_dinov3_small", marks=pytest.mark.nightly),
    ],
)
def test_a_model_of_a_plain_vit(decoder: str, name: str, small, pixels, tmp_path: Path, loaded_elsewhere) -> None:
    """The same line for either: tokens for DPT, and P2 to P5 for the others, which only the decoder decides."""
    keras.utils.set_random_seed(0)
    model = segzoo.build_model(decoder, small(name), 3, weights="none", drop_path=0.0, **NARROW[decoder])
    check_network(model, tmp_path, pixels, loaded_elsewhere)
    assert ("simple_pyramid" in {layer.name for layer in model.layers}) == (decoder != "dpt")


def test_taps_are_where_the_tables_say() -> None:
    for name in VITS:
        variant, network = BACKBONES[name], find(BACKBONES[name].constructor)
        taps = variant.levels()
        assert list(taps) == [part for level in TOKENS for part in (level, prefix_of(level))]
        assert [network.depth * number // 4 for number in range(1, 5)] == [
            int(tap.layer.removeprefix("tokens_")) for level, tap in taps.items() if level in TOKENS
        ]
        assert {tap.stride for level, tap in taps.items() if level in TOKENS} == {network.patch} == {variant.patch}
        assert tuple(variant.inner_levels()) == MADE
        assert all(tap.channels == network.width and tap.reason for tap in taps.values())


def test_a_built_network_has_its_taps(small) -> None:
    for name in map(small, FORMS):
        structure = reference.structure(BACKBONES[name])
        names = {operation.name: operation for operation in structure.operations}
        for level, tap in BACKBONES[name].levels().items():
            shape = names[tap.layer].output.shape
            side = -(-256 // BACKBONES[name].patch)
            registers = find(BACKBONES[name].constructor).registers
            assert shape == ((None, side, side, WIDTH) if level in TOKENS else (None, 1 + registers, WIDTH))


def test_stochastic_depth_grows_to_the_rate_that_is_asked_for(small) -> None:
    def rates(**options) -> list[float]:
        model = backbones.create(small("hub_vit_base_16"), weights="none", **options)
        return [layer.drop_path for layer in model.layers if isinstance(layer, TransformerBlock)]

    np.testing.assert_allclose(rates(drop_path=0.3), [0, 0.1, 0.2, 0.3])
    assert rates(drop_path=0.0) == [0] * 4
    assert rates(drop_path=0.3, trainable=False) == [0] * 4
    np.testing.assert_allclose(rates(drop_path=0.3, trainable="T2"), [0, 0, 0.2, 0.3])


def test_dropped_branches_leave_the_tokens_as_they_are(pixels) -> None:
    tokens, patches = np.ones((64, 5, 8), "float32"), np.ones((64, 2, 2, 8), "float32")
    tokens += np.random.default_rng(0).normal(size=tokens.shape).astype("float32")
    keras.utils.set_random_seed(0)
    block = TransformerBlock(2, 16, drop_path=0.5)
    moved = np.abs(np.asarray(block(tokens, patches, training=True)) - tokens).max(axis=(1, 2)) > 0
    assert 32 < moved.sum() < 64  # both branches are dropped in a quarter of the images
    assert (np.abs(np.asarray(block(tokens, patches, training=False)) - tokens).max(axis=(1, 2)) > 0).all()


@pytest.mark.parametrize(("trainable", "frozen"), [(True, 0), (False, 4), ("T1", 1), ("T3", 3), ("P4", 4)])
def test_frozen_blocks(trainable: bool | str, frozen: int, small) -> None:
    """The layers that the tokens depend on; never the pyramid, which no pretrained network has."""
    levels = (*TOKENS, "P4") if trainable == "P4" else (*TOKENS, "P3")
    model = backbones.create(small("hub_vit_base_16"), weights="none", trainable=trainable, levels=levels)
    blocks = [bool(layer.trainable_weights) for layer in model.layers if isinstance(layer, TransformerBlock)]
    assert blocks == [False] * frozen + [True] * (4 - frozen)
    embedding = next(layer for layer in model.layers if isinstance(layer, TokenEmbedding))
    assert bool(embedding.trainable_weights) == (frozen == 0)
    assert model.get_layer("simple_pyramid").trainable_weights


def test_what_a_plain_vit_cannot_do(small) -> None:
    name = small("hub_vit_base_16")
    with pytest.raises(SegzooError, match="output stride 32 only, not 16: all maps of a plain vision transformer"):
        backbones.create(name, weights="none", output_stride=16)
    with pytest.raises(UnknownNameError, match=r"level of small_hub_vit_base_16.*'P1'.*P2.*T1"):
        backbones.create(name, weights="none", levels=("P1",))
    with pytest.raises(SegzooError, match=r"DPT reads the tokens of a plain vision transformer.*P1, P2.*a pyramid"):
        segzoo.build_model("dpt", "resnet18", 3, weights="none")
    with pytest.raises(SegzooError, match="patch: 14, but patches of small_hub_vit_base_16 are 16"):
        segzoo.build_model("dpt", name, 3, weights="none", patch=14)
    with pytest.raises(SegzooError, match="auxiliary: DPT reads tokens, which have no levels"):
        segzoo.build_model("dpt", name, 3, weights="none", auxiliary=["P4"])
    with pytest.raises(ValueError, match="3 heads do not divide 8 channels"):
        TransformerBlock(3, 8).build((None, 5, 8), (None, 2, 2, 8))


def test_half_precision_keeps_positions_and_attention_in_float32(pixels, dtype_policy) -> None:
    images = pixels(48, 64, batch=2)
    full = small_vit()
    dtype_policy("mixed_bfloat16")
    half = small_vit()
    half.set_weights(full.get_weights())
    for level, expected in full(images, training=False).items():
        found = np.asarray(keras.ops.cast(half(images, training=False)[level], "float32"))
        assert np.corrcoef(found.ravel(), np.ravel(expected))[0, 1] > 0.99, level
    assert PatchPadding(16).compute_output_shape((2, 33, None, 3)) == (2, 48, None, 3)


@pytest.mark.parametrize("decoder", ["dpt", "fpn"])
def test_layer_decay_falls_from_block_to_block(decoder: str, small) -> None:
    """The last block has the factor itself, and what embeds patches comes after the first; the pyramid has 1."""
    model = segzoo.build_model(decoder, small("hub_vit_base_16"), 3, weights="none", **NARROW[decoder])
    factors = {id(variable): factor for variable, factor in rate_factors(model, {"T4": 3.0}, 0.5)}
    found = {layer.name: {factors[id(variable)] for variable in layer.variables} for layer in model.layers}
    # T4 has the last block alone where the others are read, too, and otherwise all.
    before = 1.0 if decoder == "dpt" else 3.0
    assert found["block_4"] == {3 * 0.5}
    assert [found[f"block_{number}"] for number in (1, 2, 3)] == [
        {before * 0.5**4},
        {before * 0.5**3},
        {before * 0.5**2},
    ]
    assert found["patch_embedding"] == found["token_embedding"] == {before * 0.5**5}
    assert found["decoder"] == found["head"] == {1.0} == found.get("simple_pyramid", {1.0})


def test_parts_of_a_plain_vit_are_frozen(small) -> None:
    model = segzoo.build_model("dpt", small("hub_dinov2_small"), 3, weights="none", **NARROW["dpt"])
    frozen = {layer.name for layer in frozen_layers(model, ["T2"]) if layer.weights}
    assert frozen == {"patch_embedding", "token_embedding", "block_1", "block_2"}
    with pytest.raises(SegzooError, match="reads no level P3, only T1, T2, T3, T4"):
        frozen_layers(model, ["P3"])


def test_tokens_and_positions_are_not_decayed() -> None:
    decayed = {weight.path for weight in small_vit(registers=2).trainable_weights if is_decayed(weight)}
    assert decayed and all(path.endswith("kernel") for path in decayed)


def test_a_configuration_says_what_does_not_fit() -> None:
    common = {"data": {"format": "shapes"}}
    with pytest.raises(
        ValueError, match=r"dpt reads the tokens .*, and resnet18 makes a pyramid.* as vit_tiny_16, hub_vit"
    ):
        Config.model_validate({**common, "model": {"decoder": "dpt", "backbone": "resnet18"}})
    with pytest.raises(ValueError, match="dpt reads tokens, which have no levels for auxiliary heads"):
        Config.model_validate(
            {**common, "model": {"decoder": "dpt", "backbone": "hub_vit_base_16", "auxiliary": {"P4": 0.4}}}
        )
