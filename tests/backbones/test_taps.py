"""The documented taps against the networks of keras.applications, the only judge of where a layer lies."""

from __future__ import annotations

import math
from pathlib import Path

import keras
import pytest
from ruamel.yaml import YAML

from segzoo import backbones
from segzoo.backbones import BACKBONES, reference
from segzoo.backbones.figures import figures, measure
from segzoo.errors import SegzooError, UnknownNameError
from segzoo.keras_compat import without_variables

GOLDEN = Path(__file__).with_name("golden_taps.yaml")
EFFICIENTNETS = [name for name in BACKBONES if BACKBONES[name].family in ("efficientnet", "efficientnet_v2")]

pytestmark = pytest.mark.usefixtures("zero_weights")


@pytest.fixture(scope="module")
def golden() -> dict:
    return YAML(typ="safe").load(GOLDEN)


def deep() -> set[str]:
    """All but the smallest network of each family: deeper sisters by the same code, which take minutes."""
    smallest = {BACKBONES[name].family: name for name in sorted(BACKBONES, key=_parameters, reverse=True)}
    # Building the MiT of keras-cv takes ten seconds; keras-hub has its own, which stays.
    return set(BACKBONES) - set(smallest.values()) | {"kcv_mit_b0"}


def _parameters(name: str) -> int:
    return figures(name).parameters


DEEP = deep()


def structures(names: list[str]) -> pytest.MarkDecorator:
    """Run a test on the reference network of each of these, which is built once for all tests of it."""
    cases = [pytest.param(name, marks=pytest.mark.zoo if name in DEEP else ()) for name in names]
    return pytest.mark.parametrize("structure", cases, indirect=True)


@pytest.fixture(scope="module")
def structure(request, installed) -> tuple[str, keras.Model]:
    """Name of a backbone, and its reference network without variables."""
    installed(request.param)
    return request.param, reference.structure(BACKBONES[request.param])


@structures([name for name in BACKBONES if not BACKBONES[name].patch])  # tokens: test_plain_vit.py
def test_taps_are_where_the_tables_say(structure: tuple[str, keras.Model]) -> None:
    name, network = structure
    variant = BACKBONES[name]
    names = reference.names(network)
    operations, side = {names[id(operation)]: operation for operation in network.operations}, network.input.shape[1]
    for kind, table in variant.tables.items():
        for tap in table:
            _, height, width, channels = operations[tap.layer].output.shape
            strides = [2 ** round(math.log2(side / size)) for size in (height, width)]
            assert (*strides, channels) == (tap.stride, tap.stride, tap.channels), tap
            # Only those said to do so lose a few rows.
            assert side % height == 0 or variant.pads_nothing, (kind, tap)
        levels = [(tap.level, tap.stride) for tap in table if tap.level]
        assert levels == [("P1", 2), ("P2", 4), ("P3", 8), ("P4", 16), ("P5", 32)][-len(levels) :]
        assert levels[0][1] == variant.first_stride
        assert all(tap.reason for tap in table)


@structures(EFFICIENTNETS)
def test_output_taps_are_the_stem_and_the_last_block_of_each_stride(structure: tuple[str, keras.Model]) -> None:
    name, network = structure
    variant = BACKBONES[name]
    assert list(variant.tables) == ["expansion", "output", "timm"]  # the first is the default
    ends = [layer.name for layer in network.layers if layer.name.endswith(("_add", "project_bn"))]
    last = {network.input.shape[1] // network.get_layer(end).output.shape[1]: end for end in ends}
    output = {tap.stride: tap.layer for tap in variant.tap_table("output")}
    assert output == {**last, 2: "stem_activation"}


@pytest.mark.parametrize("name", EFFICIENTNETS)
def test_expansion_taps_are_the_golden_ones(name: str, golden: dict) -> None:
    expected = [(*row, None)[:4] for row in golden[BACKBONES[name].constructor]]
    assert [(tap.layer, tap.stride, tap.channels, tap.level) for tap in backbones.taps(name)] == expected


def test_every_golden_variant_is_registered(golden: dict) -> None:
    assert {name for name in golden if "_at_" not in name} == {BACKBONES[name].constructor for name in EFFICIENTNETS}


@pytest.fixture(scope="module")
def b3() -> keras.Model:
    with without_variables():
        return backbones.create("efficientnet_b3", weights="none")


def test_b3_shapes_at_1120x768(b3: keras.Model, golden: dict) -> None:
    shapes = golden["EfficientNetB3_at_1120x768"]
    features = b3.compute_output_spec(keras.KerasTensor((1, 1120, 768, 3)))
    taps = {tap.level: tap.layer for tap in backbones.taps("efficientnet_b3") if tap.level}
    assert {level: list(feature.shape[1:]) for level, feature in features.items()} == {
        level: shapes[layer] for level, layer in taps.items()
    }
    # The documented taps that serve no level lie in the same graph.
    for layer, shape in shapes.items():
        network = reference.part(b3, b3.get_layer(layer).output)
        assert list(network.compute_output_spec(keras.KerasTensor((1, 1120, 768, 3))).shape[1:]) == shape


def test_odd_sizes_round_up(b3: keras.Model) -> None:
    features = b3.compute_output_spec(keras.KerasTensor((2, 193, 255, 3)))
    assert {level: tuple(feature.shape[:3]) for level, feature in features.items()} == {
        "P1": (2, 97, 128), "P2": (2, 49, 64), "P3": (2, 25, 32), "P4": (2, 13, 16), "P5": (2, 7, 8),
    }  # fmt: skip


@pytest.mark.parametrize("size", [4, 5, 6, 7])
def test_large_v2_b_variants_do_not_exist(size: int) -> None:
    with pytest.raises(UnknownNameError) as error:
        backbones.create(f"efficientnetv2_b{size}", weights="none")
    for name in ("b0", "b1", "b2", "b3", "s", "m", "l"):
        assert f"efficientnetv2_{name}" in str(error.value)
    assert "end at B3" in str(error.value)


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean .*efficientnet_b3"):
        backbones.create("efficientnetb3")
    with pytest.raises(UnknownNameError, match=r"Families: efficientnet, .*, hub_vit, .* by segzoo backbones"):
        backbones.create("unheard")
    with pytest.raises(UnknownNameError, match="expansion, output"):
        backbones.taps("efficientnet_b0", "skip")
    with pytest.raises(UnknownNameError, match="expansion"):
        backbones.create("efficientnet_b0", taps="expansions", weights="none")


def test_values_that_no_backbone_takes() -> None:
    with pytest.raises(SegzooError, match="8, 16 or 32"):
        backbones.create("efficientnet_b0", output_stride=4, weights="none")
    with pytest.raises(SegzooError, match="input_channels must be 1 or more, got 0"):
        backbones.create("efficientnet_b0", input_channels=0, weights="none")
    with pytest.raises(SegzooError, match="batch_norm must be 'auto', 'train' or 'frozen'"):
        backbones.create("efficientnet_b0", batch_norm="freeze", weights="none")
    with pytest.raises(UnknownNameError, match=r"level of efficientnet_b0 to train from.*P1, P2, P3, P4, P5"):
        backbones.create("efficientnet_b0", trainable="P6", weights="none")
    with pytest.raises(SegzooError, match=r"nasnet_mobile has output stride 32 only, not 16: a cell also reads"):
        backbones.create("nasnet_mobile", output_stride=16, weights="none")
    with pytest.raises(UnknownNameError, match=r"level of convnext_tiny.*P2, P3, P4, P5"):
        backbones.create("convnext_tiny", levels=("P1",), weights="none")
    with pytest.raises(SegzooError, match="drop_path"):
        backbones.create("efficientnet_b0", drop_path=1.0, weights="none")
    with pytest.raises(UnknownNameError, match=r"level of efficientnet_b0 at output stride 16.*P1, P2, P3, P4"):
        backbones.create("efficientnet_b0", levels=("P5",), output_stride=16, weights="none")


def test_cut_at_the_deepest_tap_in_use() -> None:
    """A block that nothing reads would hold weights without a gradient."""
    cut = backbones.create("efficientnet_b0", taps="output", levels=("P2", "P3"), weights="none")
    whole = reference.structure(BACKBONES["efficientnet_b0"])
    assert sorted(cut.output) == ["P2", "P3"]
    assert cut.layers[-1].name == "block3b_add"
    assert {layer.name for layer in cut.layers} < {layer.name for layer in whole.layers} | {"image", "preprocessing"}


@pytest.mark.parametrize(
    ("name", "levels"),
    [
        ("mobilenetv3_small", ("P1", "P2", "P3")),
        ("convnext_tiny", ("P2",)),
        *(
            pytest.param(name, None, marks=pytest.mark.zoo)
            for name in ("mobilenetv3_small", "convnext_tiny", "efficientnet_b0", "xception", "inceptionv3")
        ),
    ],
    ids=str,
)
def test_layers_keep_their_names_and_come_out_equal_twice(name: str, levels: tuple[str, ...] | None) -> None:
    """Names counted up over a process would make a file written by one build unreadable for the next."""
    first, again = (backbones.create(name, weights="none", levels=levels) for _ in range(2))
    assert [w.path for w in first.weights] == [w.path for w in again.weights]
    assert [operation.name for operation in first.operations] == [operation.name for operation in again.operations]
    assert len({layer.name for layer in first.layers}) == len(first.layers)
    assert len({w.path for w in first.weights}) == len(first.weights)


@pytest.mark.parametrize(
    "name",
    [
        "mobilenetv3_small",
        *(
            pytest.param(name, marks=pytest.mark.zoo)
            for name in ("efficientnetv2_b0", "efficientnet_b3", "resnet50", "vgg16", "hub_mit_b0")
        ),
    ],
)
def test_the_listed_figures_are_the_networks(name: str, installed) -> None:
    installed(name)
    assert figures(name) == measure(name)
    if not figures(name).attention:
        assert figures(name, (512, 128)).gflops == figures(name).gflops


def test_a_structure_has_no_variables_and_leaves_those_of_others() -> None:
    with keras.StatelessScope():
        waiting = keras.Variable("ones", shape=(2,), dtype="float32")
        network = reference.structure(BACKBONES["mobilenetv2"])
    assert list(keras.ops.convert_to_numpy(waiting)) == [1.0, 1.0]
    assert len(network.weights) > 200 and all(weight._value is None for weight in network.weights)
