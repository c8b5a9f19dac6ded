"""Features against keras.applications with the same weights, at sizes that no stride divides."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest

from segzoo import backbones
from segzoo.backbones import BACKBONES, reference
from segzoo.backbones.spec import Variant
from segzoo.keras_compat import without_variables

pytestmark = pytest.mark.usefixtures("zero_weights")

EVEN = (128, 192)
# Of the structures that other tests build, too.
BUILT = (256, 256)
# Down to P5 an even and then odd sizes in height, an odd and then even ones in width.
BOTH = (98, 127)
# One of each way to build a stage. Where the reference's own padding is made for even sizes only, it is no judge of odd
# ones: MobileNet, DenseNet, VGG and ConvNeXt round down.
SAME = ["efficientnet_b0", "efficientnetv2_b0", "efficientnetv2_s", "resnet50", "resnet50v2", "mobilenetv2"]
SAME += ["resnet18", "resnet50_v1b"]
SAME += ["mobilenetv3_small", "mobilenetv3_large"]
SAME += ["kcv_resnet18", "kcv_resnet50v2", "hub_resnet18", "hub_resnet50v2", "hub_resnet18_vd", "hub_cspresnet50"]
ROUNDING = ["vgg16", "densenet121", "mobilenet", "convnext_tiny"]
# What the default run compares down to P5, and down to P3, which is a third of the time. Networks of packages are
# compared with the packages' own in test_packages.py.
WHOLE = ("resnet18", "mobilenetv3_small")
TO_P3 = ("efficientnet_b0", "resnet50", "resnet50v2", "mobilenetv2", *ROUNDING)


def cases() -> list:
    """Networks, sizes and levels; what the default run leaves out has the marker `zoo`."""
    sizes = {**dict.fromkeys(SAME, BOTH), **dict.fromkeys(ROUNDING, EVEN)}
    upper_sizes = {**sizes, **dict.fromkeys(ROUNDING, BUILT)}
    upper = {
        name: tuple(BACKBONES[name].levels(None, 32))[: 3 if BACKBONES[name].first_stride == 2 else 2] for name in TO_P3
    }
    return [
        *((name, upper_sizes[name], levels) for name, levels in upper.items()),
        *(pytest.param(*case, None, marks=() if case[0] in WHOLE else pytest.mark.zoo) for case in sizes.items()),
    ]


def upper_part(variant: Variant, size: tuple[int, int], levels: tuple[str, ...]) -> keras.Model:
    """The reference down to the deepest level: weights of what lies below would take most of the time."""
    whole = reference.structure(variant, **({} if size == BUILT else {"size": size}))
    names = reference.names(whole)
    operations = {names[id(operation)]: operation for operation in whole.operations}
    taps = [operations[tap.layer].output for tap in backbones.taps(variant.name) if tap.level in levels]
    return keras.models.clone_model(reference.part(whole, taps))


@pytest.fixture(scope="module")
def pair(built) -> Callable[..., tuple[keras.Model, keras.Model]]:
    """A backbone and the reference of this size from pixels to all taps, with the same weights."""

    def pair(name: str, size: tuple[int, int], levels: tuple[str, ...] | None) -> tuple[keras.Model, keras.Model]:
        ours, variant = built(name, levels), BACKBONES[name]
        theirs = reference.build(variant, size=size) if levels is None else upper_part(variant, size, levels)
        names = reference.names(theirs)
        operations = {names[id(operation)]: operation for operation in reference.flat(theirs)}
        for layer in ours.layers:
            if layer.weights:
                twin, values = operations[layer.name], layer.get_weights()
                if isinstance(layer, keras.layers.DepthwiseConv2D) and not isinstance(twin, type(layer).__base__):
                    values[0] = np.swapaxes(values[0], 2, 3)
                twin.set_weights(values)
        prepared = (keras.layers.InputLayer, keras.layers.Rescaling, keras.layers.Normalization)
        first = next(layer for layer in theirs.layers if not isinstance(layer, prepared))
        taps = {tap.level: operations[tap.layer].output for tap in backbones.taps(name) if tap.level in ours.output}
        return ours, keras.Model(first.input, taps)

    return pair


@pytest.mark.parametrize(("name", "size", "levels"), cases(), ids=str)
def test_features_equal_the_reference(
    name: str, size: tuple[int, int], levels: tuple[str, ...] | None, pair, pixels, installed
) -> None:
    """Explicit padding is made for one size; a network for any size must still pad as one built for this size does."""
    installed(name)
    ours, theirs = pair(name, size, levels)
    images = pixels(*size)
    expected = theirs(ours.get_layer("preprocessing")(images), training=False)
    features = ours(images, training=False)
    assert sorted(features) == sorted(expected)
    for level, feature in features.items():
        values = np.asarray(feature)
        assert values.std() > 0.01, level  # a dead network would pass any comparison
        np.testing.assert_allclose(values, expected[level], atol=1e-4 * max(1.0, np.abs(values).max()), err_msg=level)


@pytest.mark.parametrize(
    ("name", "shift"),
    [
        ("xception", 1),
        *(pytest.param(*case, marks=pytest.mark.zoo) for case in (("inceptionv3", 1), ("nasnet_mobile", 0))),
    ],
)
def test_a_stem_padded_to_same_equals_the_reference_inside(name: str, shift: int, pair, pixels) -> None:
    """A 3x3 convolution without padding and stride 1 moves the map by one pixel, one with stride 2 does not."""
    ours, theirs = pair(name, EVEN, ("P1",))
    images = pixels(*EVEN)
    expected = np.asarray(theirs(ours.get_layer("preprocessing")(images), training=False)["P1"])
    values = np.asarray(ours(images, training=False)["P1"])
    assert values.shape[1:3] == (64, 96)
    height, width = expected.shape[1:3]
    inside = values[:, shift : shift + height, shift : shift + width][:, 1:-1, 1:-1]
    np.testing.assert_allclose(inside, expected[:, 1:-1, 1:-1], atol=1e-4 * np.abs(values).max())


@pytest.mark.parametrize("name", [*SAME[:1], *ROUNDING, "xception", "inceptionv3", "nasnet_mobile"])
def test_features_round_up_at_any_size(name: str) -> None:
    with without_variables():
        model = backbones.create(name, weights="none")
    for size in ((32, 32), (97, 131)):
        for level, feature in model.compute_output_spec(keras.KerasTensor((1, *size, 3))).items():
            stride = 2 ** int(level[1:])
            assert tuple(feature.shape[1:3]) == tuple(-(-pixels // stride) for pixels in size), level


def test_the_drop_path_rate_reaches_the_deepest_block() -> None:
    """The rate of the last block falls linearly to the first; 0, the default, takes the layers out."""

    def rates(**options: float) -> list[float]:
        with without_variables():
            model = backbones.create("efficientnet_b0", weights="none", **options)
        return [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]

    # 16 blocks; the last one with a residual is number 15, block6d (table 1 of the paper, repeats 1 2 2 3 3 4 1).
    twice = rates(drop_path=0.4)
    assert len(twice) == 9
    assert twice == sorted(twice)
    np.testing.assert_allclose(twice[-1], 0.4 * 14 / 16)
    assert rates(drop_path=0.0) == rates() == []


def test_half_precision_features_follow_float32(pixels, shake, dtype_policy) -> None:
    """Statistics stay in float32: only the rounding of activations may differ (8 bits of mantissa in bfloat16)."""
    images = pixels(64, 64, batch=2)
    full = shake(backbones.create("efficientnet_b0", weights="none", taps="output", levels=("P2", "P3")))
    dtype_policy("mixed_bfloat16")
    half = backbones.create("efficientnet_b0", weights="none", taps="output", levels=("P2", "P3"))
    half.set_weights(full.get_weights())
    assert {weight.dtype for weight in half.weights} == {"float32"}
    expected, features = full(images, training=False), half(images, training=False)
    for level in expected:
        assert keras.backend.standardize_dtype(features[level].dtype) == "bfloat16"
        a, b = (np.asarray(keras.ops.cast(x[level], "float32")).ravel() for x in (expected, features))
        assert np.corrcoef(a, b)[0, 1] > 0.99, level
