"""The model card of a pushed run: metadata that hubs can read, and text that stays text."""

from __future__ import annotations

import pytest
from ruamel.yaml import YAML

from segzoo.reporting.model_card import ModelCard

CARD = {
    "name": "my_run",
    "address": "hf://user/name",
    "decoder": "fpn",
    "backbone": "resnet18",
    "license": None,
    "weights": "best",
    "needs": [],
    "classes": ["sky", "a|b"],
    "mode": "multiclass",
    "channels": 3,
    "data": [("classes", "sky, a|b")],
    "training": [("epochs", "3")],
}
REPORT = {
    "samples": 1234,
    "mean_iou": 0.5,
    "mean_iou_interval": [0.25, 0.75],
    "mcc": None,
    "classes": [
        {"class": "sky", "iou": 0.5, "iou_interval": [0.4, 0.6], "dice": 0.6, "precision": 0.7, "recall": 0.8},
        {"class": "a|b", "iou": None, "iou_interval": [None, None], "dice": None, "precision": None, "recall": None},
    ],
}


def card(**changes: object) -> str:
    return ModelCard(**{**CARD, **changes}).as_markdown()  # type: ignore[arg-type]


@pytest.mark.parametrize("license", ["mit", 'a "quoted" one: # no comment', "\u2028"])
def test_the_head_is_yaml_whatever_the_licence_is_called(license) -> None:
    _, head, body = card(license=license, decoder="my: decoder").split("---\n", 2)
    found = YAML(typ="safe").load(head)
    assert found["license"] == license and found["library_name"] == "keras"
    assert found["tags"] == ["segzoo", "image-segmentation", "my: decoder", "resnet18"] and "# my\\_run" in body


def test_each_evaluated_split_has_a_table_with_intervals_where_there_are() -> None:
    text = card(evaluations={"val": REPORT, "test": {**REPORT, "samples": 5}}, epoch={"val_mean_iou": 0.1})
    assert "### Validation split, 1,234 samples" in text and "### Test split, 5 samples" in text
    assert "| mean IoU | 0.5000 | 0.2500 to 0.7500 |" in text and "| Matthews correlation | n/a |  |" in text
    assert "| sky | 0.5000 | 0.4000 to 0.6000 | 0.6000 | 0.7000 | 0.8000 |" in text
    assert "| a\\|b | n/a |  | n/a | n/a | n/a |" in text and "without intervals" not in text


def test_without_an_evaluation_the_best_epoch_stands_for_it_and_without_that_nothing() -> None:
    text = card(epoch={"val_mean_iou": 0.125, "val_iou/a|b": None})
    assert "| mean\\_iou | 0.1250 |" in text and "| iou/a\\|b | n/a |" in text
    assert "The run is not finished" in card()


def test_modules_that_have_to_be_imported_are_named() -> None:
    assert "import my_parts  # registers" in card(needs=["my_parts"]) and "registers" not in card()
