"""Dilated backbones: strides taken out, and what follows sampled as if they were still there (a trous)."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest

from segzoo import backbones
from segzoo.keras_compat import without_variables

pytestmark = pytest.mark.usefixtures("zero_weights")

EFFICIENTNETS = ["efficientnet_b0", "efficientnetv2_b0"]
# To the phase of a stride: pixel 0 or the last pixel of each group is the one that the strided network keeps.
FIRST = ["resnet50", "resnet50v2", "vgg16", "densenet121", "convnext_tiny"]
FIRST += ["kcv_resnet50", "kcv_densenet121", "hub_resnet18", "hub_resnet18_vd", "hub_cspresnet50", "hub_darknet53"]
FIRST += ["hub_hgnetv2_b4", "hub_mobilenet_v3_small_050"]
LAST = [*EFFICIENTNETS, "mobilenet", "mobilenetv2", "mobilenetv3_small", "inceptionv3"]
LAST += ["kcv_mobilenetv3_small", "kcv_cspdarknet_tiny"]
LAST += ["inceptionv3:torchvision"]  # with a word of compat, whose averages count the padding
NAMES = FIRST + LAST
# One of each way to take a stride out; the marker `nightly` has all.
FEW = ("efficientnet_b0", "hub_resnet18_vd", "convnext_tiny")
MARKED = [pytest.param(name, marks=() if name in FEW else pytest.mark.nightly) for name in NAMES]
CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)


@pytest.fixture(scope="module")
def network(shake) -> Callable[..., keras.Model]:
    """Backbones that share weights, their squeeze-and-excitation made independent of the grid it averages over."""
    built: dict[tuple[str, int], keras.Model] = {}

    def network(name: str, output_stride: int = 32) -> keras.Model:
        if (name, output_stride) not in built:
            backbone, _, compat = name.partition(":")
            options = {"output_stride": output_stride, "drop_path": 0.0, "compat": compat or None}
            model = backbones.create(backbone, weights="none", **options)
            if output_stride == 32:
                shake(model)
                for layer in model.layers:
                    if layer.name.endswith(
                        ("se_expand", "squeeze_excite_conv_1", "se_conv_expand", "squeeze_excite_conv_expand")
                    ):
                        layer.kernel.assign(0 * layer.kernel)
            else:
                model.set_weights(network(name).get_weights())
            built[name, output_stride] = model
        return built[name, output_stride]

    return network


@pytest.mark.parametrize("name", MARKED)
@pytest.mark.parametrize(("output_stride", "deepest"), [(16, "P4"), pytest.param(8, "P3", marks=pytest.mark.nightly)])
def test_levels_end_at_the_output_stride(
    name: str, output_stride: int, deepest: str, network, pixels, installed
) -> None:
    installed(name.partition(":")[0])
    features = network(name, output_stride)(pixels(64, 32), training=False)
    assert max(features) == deepest
    for level, feature in features.items():
        stride = 2 ** int(level[1:])
        assert tuple(feature.shape[1:3]) == (64 // stride, 32 // stride)
    # The deepest level carries the network's last features, not those that served this level before.
    assert features[deepest].shape[3] == network(name).output["P5"].shape[3]


@pytest.mark.parametrize(
    "name", [EFFICIENTNETS[0], *(pytest.param(name, marks=pytest.mark.nightly) for name in EFFICIENTNETS[1:])]
)
@pytest.mark.parametrize("output_stride", [16, 8])
def test_dilation_replaces_strides_and_changes_no_weight(name: str, output_stride: int) -> None:
    with without_variables():
        plain, dilated = (
            backbones.create(name, weights="none", output_stride=stride) for stride in (32, output_stride)
        )
    assert [(w.path, w.shape) for w in plain.weights] == [(w.path, w.shape) for w in dilated.weights]
    stride = 1
    for layer in plain.layers:
        if not isinstance(layer, CONVOLUTIONS) or "_se_" in layer.name:
            continue
        twin = dilated.get_layer(layer.name)
        rate = max(1, stride // output_stride)
        stride *= layer.strides[0]
        # A removed stride widens what comes after it: the convolution itself still sees its own input's grid.
        assert twin.dilation_rate == ((rate, rate) if max(layer.kernel_size) > 1 else (1, 1)), layer.name
        assert twin.strides == ((1, 1) if stride > output_stride else layer.strides), layer.name
    assert stride == 32


@pytest.mark.parametrize(
    ("name", "output_stride"),
    [
        pytest.param(
            name,
            stride,
            marks=() if name in FEW and (stride == 16 or name in FEW[:1]) else pytest.mark.nightly,
        )
        for stride in (16, 8)
        for name in NAMES
    ],
)
def test_subsampled_dilated_features_are_the_strided_ones(
    name: str, output_stride: int, network, pixels, installed
) -> None:
    """On even sizes TensorFlow's "same" padding centres output i of a stride-2 convolution on input 2i + 1.

    So the strided grid is every other pixel of the dense one from 1 on, and after two removed strides every fourth
    from 3 on; zero padding makes that hold at the borders too. Networks that pad both sides alike, or stride by
    kernels of 1x1 and 2x2, keep pixel 0. (Xception mixes both in one block, as do keras-cv's ResNet-18 and ResNetV2,
    and so has no such grid.)
    """
    installed(name.partition(":")[0])
    images = pixels(64, 64)
    step = 32 // output_stride
    deepest = {16: "P4", 8: "P3"}[output_stride]
    strided = np.asarray(network(name)(images, training=False)["P5"])
    dense = np.asarray(network(name, output_stride)(images, training=False)[deepest])
    assert dense.shape[1] == step * strided.shape[1]
    assert strided.std() > 0.01
    tolerance = 1e-4 * np.abs(strided).max()
    kept, other = (0, step - 1) if name in FIRST else (step - 1, 0)
    np.testing.assert_allclose(dense[:, kept::step, kept::step], strided, atol=tolerance)
    # And the dense pixels in between are new information, not copies.
    assert np.abs(dense[:, other::step, other::step] - strided).max() > 100 * tolerance
