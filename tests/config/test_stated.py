"""Facts that are read from sources: they are those of the imported classes."""

import subprocess
import sys

import pytest

from segzoo.arguments import arguments_of, defaults_of
from segzoo.config import stated
from segzoo.decoders import DECODERS
from segzoo.losses import LOSSES
from segzoo.losses.base import PixelLoss
from segzoo.optim import CLASSES, options


@pytest.mark.parametrize("name", list(LOSSES))
def test_sources_of_losses_say_what_the_classes_say(name):
    kind = LOSSES[name]
    assert stated.modes(name) == tuple(kind.modes)
    assert stated.takes_soft(name) == kind.takes_soft and stated.takes_distances(name) == kind.takes_distances
    assert stated.takes_masks(name) == (kind.make_target is PixelLoss.make_target)
    assert set(stated.loss_arguments(name)) == set(arguments_of(kind, stated.FILLED_IN))
    for argument, default in defaults_of(kind, stated.FILLED_IN).items():
        if isinstance(default, bool):  # no constructor refuses a switch, so that none is built to ask
            assert all(stated.check_loss(name, {argument: value}) for value in (True, False))
            assert all(kind(**{argument: value}) for value in (True, False))


VALUES = [
    -1,
    0,
    0.25,
    0.5,
    1,
    1.5,
    3,
    float("nan"),
    float("inf"),
    None,
    True,
    "3",
    "balanced",
    [1, 2],
    [0, 0],
    [-1, 1],
    {},
]


@pytest.mark.parametrize("name", list(LOSSES))
def test_values_of_losses_are_checked_as_their_constructors_do(name):
    def outcome(check, **values):
        try:
            check(**values)
        except (TypeError, ValueError) as error:
            return type(error), str(error)
        return None

    arguments = [
        argument for argument in stated.loss_arguments(name) if argument != "hardest"
    ]  # which is renamed before
    defaults = defaults_of(LOSSES[name], stated.FILLED_IN)
    for argument in arguments:
        for value in VALUES:
            if not isinstance(defaults[argument], bool):
                found = outcome(lambda **values: stated.check_loss(name, values), **{argument: value})
                assert found == outcome(LOSSES[name], **{argument: value}), (name, argument, value)
    if {"alpha", "beta"} <= set(arguments):
        assert "not both 0" in outcome(lambda **values: stated.check_loss(name, values), alpha=0, beta=0)[1]


@pytest.mark.parametrize("name", list(DECODERS))
def test_sources_of_decoders_say_their_options(name):
    assert set(stated.decoder_options(name)) == set(DECODERS[name].options())


@pytest.mark.parametrize("name", list(CLASSES))
def test_sources_of_optimizers_say_their_options(name):
    from segzoo.optim import optimizers

    known = options.defaults(name)
    assert known and known == optimizers.options(name)
    for option, default in known.items():
        for value in VALUES:
            if options.expected(name, option, default, value) is None:  # no constructor refuses what the check lets by
                optimizers.create(name, 1e-3, **{option: value})
        assert options.expected(name, option, default, default) is None
        assert options.expected(name, option, default, float("nan"))
    assert options.defaults("from_outside") is None


def test_a_loss_from_outside_is_asked():
    @LOSSES.register("outside")
    class Outside(PixelLoss):
        modes = ("binary",)

        def make_target(self, mask, classes):
            return mask

    try:
        assert stated.modes("outside") == ("binary",) and stated.takes_soft("outside")
        assert not stated.takes_masks("outside") and not stated.takes_distances("outside")
    finally:
        LOSSES.unregister("outside")


DATA = """
import sys
import cv2, numpy as np
from pathlib import Path
from segzoo.cli import main

rng = np.random.default_rng(0)
for place in ("images", "masks"):
    Path(place).mkdir()
for number in range(6):
    mask = np.zeros((64, 64), np.uint8)
    mask[8:40, 8:40] = 1 + number % 2
    cv2.imwrite(f"images/{number}.png", rng.integers(0, 256, (64, 64, 3), np.uint8))
    cv2.imwrite(f"masks/{number}.png", mask)

losses = "loss={cross_entropy: {class_weights: balanced}, dice: {per_image: true}, boundary: 0.1}"
numbers = "loss={cross_entropy: {class_weights: [1, 2, 3], ohem_fraction: 0.5}, cldice: {iterations: 5, smooth: 1}, "
numbers += "focal_tversky: {alpha: 0.4, gamma: 1.2}, softmax_focal: {gamma: 1.5}, jaccard: {smooth: 1.0}}"
for command in (
    ["init", "images", "masks", "--out", "mine.yaml"],
    ["check-data", "mine.yaml", "--set", losses],
    ["check-data", "mine.yaml", "--set", numbers, "--set", "model.classification=0.2"],
    ["check-data", "mine.yaml", "--set", "training.optimizer={name: sgd, options: {momentum: 0, nesterov: false}}"],
    ["preview", "mine.yaml", "--set", losses, "--set", "model.options={channels: [64, 32, 16, 16, 16]}"],
):
    sys.argv = ["segzoo", *command]
    try:
        main()
    except SystemExit as end:
        assert not end.code, (command, end.code)
    print(command[0], [name for name in ("tensorflow", "keras", "torch") if name in sys.modules])
"""


def test_commands_on_data_start_no_framework(tmp_path):
    shown = subprocess.run([sys.executable, "-c", DATA], cwd=tmp_path, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert {f"{name} []" for name in ("init", "check-data", "preview")} <= set(shown.stdout.splitlines()), shown.stdout
    assert (tmp_path / "preview.png").is_file() and (tmp_path / "runs/mine_data/report.html").is_file()
