"""Overrides change any key, and mistakes in them are reported by their own text."""

from __future__ import annotations

from pathlib import Path

import pytest

from segzoo.config import load_config

MINIMAL = (Path(__file__).parent / "minimal.yaml").read_text()  # seven lines, so what is added starts in line 8


def test_overrides_change_make_and_replace(write):
    content = MINIMAL.replace("generated\n", "generated\n  augment: [HorizontalFlip, VerticalFlip]\n")
    config = load_config(
        write(content),
        [
            "training.epochs=5",
            "training.epochs=6",
            "training.optimizer.learning_rate=1e-2",
            "training.early_stopping.patience=2",
            "data.size=[64, 96]",
            "data.augment.1={Affine: {scale: [0.9, 1.1]}}",
            "output={root: elsewhere}",
            "name=2026-01-31",
            " model.taps = output",
        ],
    )
    assert config.training.epochs == 6  # the last one wins
    assert config.training.optimizer.learning_rate == 1e-2
    assert config.training.optimizer.weight_decay == 1e-4  # beside the changed key, defaults stay
    assert config.training.early_stopping is not None
    assert config.training.early_stopping.patience == 2
    assert config.data.size == (64, 96)
    assert config.data.augment == ["HorizontalFlip", {"Affine": {"scale": [0.9, 1.1]}}]
    assert config.output.root == "elsewhere"
    assert config.name == "2026-01-31"
    assert config.model.taps == "output"


def test_changing_one_default_loss_keeps_the_other(write):
    path = write(MINIMAL)
    assert load_config(path, ["loss.dice=0.5"]).loss == {"cross_entropy": 1.0, "dice": 0.5}
    assert load_config(path, ["loss={dice: 0.5}"]).loss == {"dice": 0.5}


def test_null_sets_a_key_back(write):
    path = write(MINIMAL + "  early_stopping: {patience: 2}\n")
    assert load_config(path, ["training.early_stopping="]).training.early_stopping is None
    assert load_config(path, ["training.early_stopping=null"]).training.early_stopping is None


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.epochs", ["expected key=value"]),
        ("=3", ["expected key=value"]),
        ("training..epochs=3", ["expected key=value"]),
        ("training.epochs=x", [": training.epochs: ", "whole number", "'x'"]),
        ("training.epoch=3", [": training.epoch: ", "did you mean epochs?"]),
        ("trainin.epochs=3", [": trainin: ", "did you mean training?"]),
        ("seed=[1", ["not YAML 1.2"]),
        ("seed={a: 1, a: 2}", ["duplicate key"]),
        ("training.epochs.x=3", ["training.epochs is 3"]),
        ("data.augment.2=HorizontalFlip", ["'2' is not in it", "0 to 0"]),
        ("data.augment.-1=HorizontalFlip", ["'-1' is not in it"]),
        ("data.augment.0=Flop", [": data.augment.0: ", "Unknown transform"]),
        ("data={source: generated, siz: 3}", [": data.siz: ", "did you mean size?"]),
        ("seed.x=3", [": seed: ", "whole number"]),
        ("model.decoder=fpm", [": model.decoder: ", "Did you mean fpn?"]),
    ],
)
def test_the_message_names_the_override(problems, override, words):
    content = MINIMAL.replace("generated\n", "generated\n  augment: [HorizontalFlip]\n")
    (message,) = problems(content, override)
    assert message.startswith(f"override {override!r}: ")
    for word in words:
        assert word in message


def test_the_file_is_not_blamed_for_an_override_nor_the_other_way_round(problems):
    lines = problems(MINIMAL.replace("3", "0"), "seed=-1")
    assert sorted(line.split(": ")[0] for line in lines) == ["override 'seed=-1'", "run.yaml:7"]
