"""Configurations of losses, layers and heads, to the byte as files of earlier versions hold them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest

from segzoo import decoders, layers, losses
from segzoo.models.remat import RematModel

GOLDEN = json.loads(
    Path(__file__).with_name("golden_configs.json").read_text()
)  # as segzoo 0.1.0 wrote them, but for ohem_fraction

# A class to its arguments, all of them other than their defaults. Losses get a name and a dtype besides, layers a name.
WEIGHTS = [0.5, 2.0]
BLOCKS = {"normalization": "group", "activation": "swish", "epsilon": 0.01, "groups": 2}
OVERLAP = {"ignore_index": 7, "per_image": True, "smooth": 1.5, "class_weights": WEIGHTS, "mode": "multilabel"}
ARGUMENTS: dict[Callable[..., Any], dict[str, Any]] = {
    losses.CrossEntropy: {
        "ignore_index": 7, "class_weights": WEIGHTS, "label_smoothing": 0.1, "ohem_fraction": 0.25, "mode": "multiclass"
    },
    losses.BinaryCrossEntropy: {
        "ignore_index": 7, "pos_weight": [3, 4.0], "class_weights": WEIGHTS, "mode": "multilabel"
    },
    losses.Dice: OVERLAP,
    losses.Jaccard: OVERLAP,
    losses.Tversky: {**OVERLAP, "alpha": 0.2, "beta": 0.6, "gamma": 2},
    losses.FocalTversky: {**OVERLAP, "alpha": 0.2, "beta": 0.6, "gamma": 2},
    losses.SoftmaxFocal: {"ignore_index": 7, "gamma": 3, "class_weights": WEIGHTS, "mode": "multiclass"},
    losses.SigmoidFocal: {
        "ignore_index": 7, "gamma": 3, "alpha": None, "class_weights": WEIGHTS, "mode": "multilabel"
    },
    losses.LovaszSoftmax: {"ignore_index": 7, "per_image": True, "class_weights": WEIGHTS, "mode": "multiclass"},
    losses.LovaszHinge: {"ignore_index": 7, "per_image": True, "class_weights": WEIGHTS, "mode": "multilabel"},
    losses.MCC: {"ignore_index": 7, "per_image": True, "class_weights": WEIGHTS, "mode": "multilabel"},
    losses.Boundary: {"ignore_index": 7, "class_weights": WEIGHTS, "mode": "multilabel"},
    losses.ClDice: {
        "ignore_index": 7, "iterations": 5, "smooth": 2, "class_weights": WEIGHTS, "mode": "multilabel"
    },
    losses.ClassPresence: {"ignore_index": 7, "mode": "multilabel", "distances": True},
    losses.WeightedSum: {"losses": [losses.Dice(ignore_index=7), keras.losses.Huber()], "weights": [1, 0.5]},
    layers.ASPP: {"rates": (6, 12), "channels": 8, "separable": True, "dropout": 0.1, **BLOCKS},
    layers.AtrousConv2D: {"filters": 4, "kernel_size": 3, "dilation_rate": 2, "padding": "same"},
    layers.AveragePooling2D: {"pool_size": 3, "strides": 2, "padding": "same"},
    layers.BatchNormalization: {"axis": -1, "momentum": 0.8, "epsilon": 0.01},
    layers.CentredMaxPooling2D: {"pool_size": 3, "strides": 2},
    layers.ConvBlock: {"channels": 4, "kernel_size": 5, "dilation_rate": 2, **BLOCKS},
    layers.DepthwiseConv2D: {"kernel_size": 5, "strides": 2, "padding": "same"},
    layers.DilatedPooling2D: {"pool_size": 3, "dilation_rate": 2, "average": True},
    layers.GroupedConv2D: {"filters": 4, "kernel_size": 3, "groups": 2, "padding": "same"},
    layers.LayerScale: {"initial": 0.5},
    layers.PatchPadding: {"patch": 14},
    layers.PixelNormalization: {"scale": 1, "mean": (1, 2, 3.5), "std": (4, 5, 6)},
    layers.PositionAttention: {"channels": 4, "softmax": "pairs", "interleaved": True},
    layers.PrefixTokens: {"prefix": 5},
    layers.PyramidPooling: {
        "channels": 4, "bins": (1, 4), "normalize_single": False, "interpolation": "aligned", **BLOCKS
    },
    layers.ResizeTo: {"interpolation": "aligned"},
    layers.ResizeToStride: {"stride": 4},
    layers.ScSE: {"reduction": 4, "activation": "swish"},
    layers.SeparableConvBlock: {"channels": 4, "kernel_size": 5, "dilation_rate": 2, **BLOCKS},
    layers.SimplePyramid: {"patch": 14, "levels": ("P2", "P5"), "channels": 8},
    layers.SpaceToDepth: {},
    layers.SpatialReductionAttention: {"heads": 2, "reduction": 4, "interleaved": True},
    layers.SqueezeExcitation: {"reduction": 4, "activation": "swish"},
    layers.TokenEmbedding: {"grid": 3, "registers": 4, "antialias": True},
    layers.TokenMap: {"prefix": 5},
    layers.TransformerBlock: {
        "heads": 2, "hidden": 8, "scale": 1e-5, "drop_path": 0.1, "epsilon": 1e-5, "rotary": 100.0, "prefix": 5,
        "key_bias": False,
    },
    layers.Upsample: {"kind": "transposed", "channels": 4},
    layers.WindowBlock: {"heads": 2, "window": 3, "shift": 1, "ratio": 2, "drop_path": 0.1},
    decoders.SegmentationHead: {"classes": 3, "kernel_size": 3, "interpolation": "aligned"},
    decoders.AuxiliaryHead: {"classes": 3, "dropout": 0.3, "kernel_size": 3, "interpolation": "aligned"},
    decoders.ClassificationHead: {"classes": 3, "dropout": 0.3},
    **{decoders.DECODERS[name]: {"dropout": 0.25, **BLOCKS} for name in decoders.names()},
}  # fmt: skip


def made(kind: Callable[..., Any]) -> Any:
    is_loss = isinstance(kind, type) and issubclass(kind, keras.losses.Loss)
    return kind(name="own_name", **({"dtype": "float16"} if is_loss else {}), **ARGUMENTS[kind])


def text(thing: Any) -> str:
    return json.dumps(keras.saving.serialize_keras_object(thing))


@pytest.mark.parametrize("kind", ARGUMENTS, ids=lambda kind: kind.__name__)
def test_a_configuration_is_that_of_earlier_files_and_rebuilds_the_object(kind: Callable[..., Any]) -> None:
    first = made(kind)
    assert text(first) == json.dumps(GOLDEN[kind.__name__])  # order of keys included
    again = kind.from_config(first.get_config())
    assert text(again) == text(first)
    assert type(again) is kind


def test_a_class_of_the_users_may_keep_its_arguments_elsewhere() -> None:
    """As it did where each class of segzoo wrote its configuration by hand."""

    class Softer(losses.Dice):
        def __init__(self, softness: float = 0.5, **kwargs: Any):
            super().__init__(**kwargs)
            self._kept = softness

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "softness": self._kept}

    class Wider(layers.ConvBlock):
        def __init__(self, times: int, name: str | None = None, dtype: Any = None):
            super().__init__(4 * times, name=name, dtype=dtype)
            self.times = times

    config = Softer(0.25, ignore_index=7).get_config()
    assert config["softness"] == 0.25 and config["ignore_index"] == 7
    own = Wider(2, dtype="mixed_bfloat16").get_config()
    assert own["times"] == 2 and "channels" not in own and own["dtype"]["config"] == {"name": "mixed_bfloat16"}


def test_an_argument_that_a_class_does_not_take_is_not_in_its_configuration() -> None:
    class Plain(losses.Dice):
        def __init__(self, ignore_index: int | None = None, name: str | None = None, dtype: Any = None):
            super().__init__(ignore_index, per_image=True, name=name, dtype=dtype)

    config = Plain(7).get_config()
    assert config == {"ignore_index": 7, "name": "plain", "dtype": "float32"}
    assert Plain.from_config(config).per_image


def test_an_argument_that_is_not_kept_is_an_error() -> None:
    class Forgetful(losses.Dice):
        def __init__(self, softness: float = 0.5, **kwargs: Any):
            super().__init__(**kwargs)

    with pytest.raises(AttributeError, match="softness"):
        Forgetful().get_config()


def test_every_loss_layer_and_head_of_ours_is_compared() -> None:
    """Every class that Keras can write into a file under a name of segzoo's is compared."""
    saved = (keras.layers.Layer, keras.losses.Loss)
    ours = {
        kind
        for name, kind in keras.saving.get_custom_objects().items()
        if name.startswith("segzoo>") and isinstance(kind, type) and kind.__module__.startswith("segzoo.")
    }
    assert {kind for kind in ours if issubclass(kind, saved)} - {RematModel} == set(ARGUMENTS)
