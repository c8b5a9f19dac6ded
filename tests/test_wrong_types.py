"""Arguments that take a name, or a number, and get a value of another type: an error of segzoo's that names both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import pytest

import segzoo
from segzoo import backbones, decoders, losses
from segzoo.data import create_source
from segzoo.data.batch_transforms import create_batch_transform
from segzoo.data.formats import create_format
from segzoo.errors import SegzooError, UnknownNameError
from segzoo.inference import Predictor
from segzoo.optim import optimizers
from segzoo.registry import Registry


class Other:
    """Class in the place of a name, as of a decoder that was not constructed."""


NEITHER = [["output"], {"output": 1}, Other]


def build(**given: Any) -> Any:
    return segzoo.build_model(**{"decoder": "fpn", "backbone": "mobilenetv2", "classes": 2, "weights": "none", **given})


def create(**given: Any) -> Any:
    return backbones.create(**{"name": "mobilenetv2", "weights": "none", **given})


def predictor(**given: Any) -> Predictor:
    images = keras.Input((None, None, 3))
    return Predictor(**{"model": keras.Model(images, keras.layers.Conv2D(2, 1)(images)), **given})


# By the words of the message that say which argument it is.
OPTIONS: dict[str, Callable[[Any], Any]] = {
    "name the decoder": lambda value: build(decoder=value),
    "backbone is": lambda value: build(backbone=value),
    "classes": lambda value: build(classes=value),
    "taps": lambda value: build(taps=value),
    "weights": lambda value: build(weights=value),
    "drop_path": lambda value: build(drop_path=value),
    "trainable": lambda value: build(trainable=value),
    "output_stride": lambda value: build(output_stride=value),
    "options of a backbone": lambda value: build(backbone_options=value),
    "name the backbone": lambda value: create(name=value),
    "name the kind of taps": lambda value: backbones.taps("resnet50", value),
    "the decoder by": lambda value: decoders.legacy_options(value),
    "name the optimizer": lambda value: optimizers.create(value, 1e-3),
    "name the data source": create_source,
    "name the batch transform": lambda value: create_batch_transform(value, None),
    "name the mask format": lambda value: create_format(value, None),
    "mode": lambda value: predictor(mode=value),
    "test-time augmentation": lambda value: predictor(tta=value),
    "tile": lambda value: predictor(tile=value),
    "overlap": lambda value: predictor(overlap=value),
    "model": lambda value: predictor(model=value),
    "configuration": segzoo.load_config,
}


@pytest.mark.parametrize("words", OPTIONS)
def test_a_value_of_another_type_is_refused_by_the_name_of_its_argument(words: str) -> None:
    for value in NEITHER:
        with pytest.raises(SegzooError, match=rf"(?i){words}"):
            OPTIONS[words](value)


def test_empty_names_are_no_defaults() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown kind of taps of mobilenetv2 ''\. Known: "):
        build(taps="")
    with pytest.raises(UnknownNameError, match="Unknown kind of taps"):
        backbones.taps("resnet50", "")
    with pytest.raises(SegzooError, match="mode must be one of"):
        predictor(mode="")


def test_a_level_is_no_list_of_levels() -> None:
    with pytest.raises(SegzooError, match=r"auxiliary must be a list of levels, .* not 'P4' \(of the type str\)"):
        build(auxiliary="P4")
    with pytest.raises(SegzooError, match="levels must be a list of levels"):
        create(levels="P4")


@pytest.mark.parametrize("spec", ["dice", ["dice"], 3, Other])
def test_a_loss_is_a_table(spec: Any) -> None:
    with pytest.raises(SegzooError, match=r"a table of names and weights, such as \{'dice': 1.0\}, not"):
        losses.create(spec)


def test_a_name_is_shown_with_its_type_and_shortened() -> None:
    with pytest.raises(UnknownNameError) as raised:
        Registry("thing", {"first": "fractions:Fraction"})[["x" * 1000]]
    assert str(raised.value).startswith("Name the thing by a string, such as 'first', not by ['xxx")
    assert str(raised.value).endswith("... (of the type list).")
    assert len(str(raised.value)) < 150
    assert ["first"] not in Registry("thing", {"first": "fractions:Fraction"})
