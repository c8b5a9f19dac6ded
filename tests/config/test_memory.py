"""A run that cannot fit in memory is refused, with numbers, before anything is built."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from segzoo.config import load_config
from segzoo.config.memory import least_bytes, refuse_what_cannot_fit, sample_size
from segzoo.errors import ConfigError
from segzoo.metrics import METRICS

MINIMAL = (Path(__file__).parent / "minimal.yaml").read_text()
GIB = 2**30


def test_the_lower_bound_is_the_arithmetic_of_its_docstring(write):
    config = load_config(write(MINIMAL), ["data.batch_size=4", "data.size=[64, 96]", "data.workers=3"])
    pixels = 4 * 64 * 96
    assert list(least_bytes(config).values()) == [
        7 * pixels * (3 + 1),  # one batch and six read ahead, RGB and a label of a byte
        pixels * (2 * 3 + 8 * 6),  # input in half precision, logits and their gradient in float32
        pixels * (96 / 4 + 144 / 16 + 240 / 64 + 672 / 256 + 1280 / 1024) * 4 * 4,  # expansion taps of B0
        8 * 6 * 6,
        64 * 480 + 8 * 400,
    ]
    shared = least_bytes(config, on_processor=False, processes=2)
    assert list(shared.values()) == [7 * pixels // 2 * 4, 8 * 6 * 6, 64 * 480 + 8 * 400]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.batch_size=1000000000"], ["1000000000 x 128 x 128 x 3", "input pipeline"]),
        (["data.size=[8192, 8192]"], ["8 x 8192 x 8192 x 6"]),
        (["data.train_count=10000000", "data.repeats=10000"], ["order of 10,000,080 samples"]),
    ],
)
def test_what_cannot_fit_is_refused_with_numbers(write, overrides, words):
    config = load_config(write(MINIMAL), overrides)
    with pytest.raises(
        ConfigError, match=r"run: this run needs at least [\d,.]+ GiB of memory, .* has 16.0 GiB"
    ) as told:
        refuse_what_cannot_fit(config, memory=16 * GIB)
    for word in [*words, "Lower data.batch_size"]:
        assert word in str(told.value)
    refuse_what_cannot_fit(load_config(write(MINIMAL)), memory=GIB)


@pytest.mark.parametrize(
    ("overrides", "times"),
    [
        ([], 4),
        (["training.precision=bfloat16"], 2),
        (["training.remat=true"], 1),
        (["model.trainable=false"], 1),
        (["model.backbone=resnet18"], 4 * 23.5 / 40.625),
        (["model.backbone=resnet18", "model.options={depth: 2, channels: null}"], 4 * 20 / 40.625),
        (["model.backbone=resnet18", "model.output_stride=8"], 4 * 28 / 40.625),  # 512 channels at stride 8, not 32
    ],
)
def test_activations_are_a_multiple_of_the_documented_taps(write, overrides, times):
    config = load_config(write(MINIMAL), ["data.batch_size=1", "data.size=[32, 32]", *overrides])
    found = least_bytes(config)[f"activations of {config.model.backbone}"]
    assert found == pytest.approx(32 * 32 * 40.625 * 4 * times, rel=1e-6)
    assert f"activations of {config.model.backbone}" not in least_bytes(config, on_processor=False)


def test_one_huge_image_is_refused_for_its_activations(write):
    config = load_config(write(MINIMAL), ["data.size=[8192, 8192]", "data.batch_size=1", "data.workers=0"])
    with pytest.raises(
        ConfigError, match=r"40\.6 GiB for activations of efficientnet_b0.* or set training\.remat: true"
    ):
        refuse_what_cannot_fit(config, memory=32 * GIB)


def test_every_recipe_fits_into_a_small_machine():
    for path in sorted((Path(__file__).parents[2] / "configs").glob("*.yaml")):
        refuse_what_cannot_fit(load_config(path), memory=4 * GIB)


@pytest.fixture
def balance():
    """A metric that divides by each count of pixels in the target."""
    METRICS.register(
        "balance", lambda counts: [int(p) / int(a) for p, a in zip(counts.predicted, counts.actual, strict=True)]
    )
    yield "balance"
    METRICS.unregister("balance")


@pytest.mark.parametrize("count", [15_000, pytest.param(60_000, marks=pytest.mark.nightly)])
def test_many_classes_load_in_seconds_and_are_refused_for_their_confusion_matrix(count, write, balance):
    """The trial of a metric neither divides by zero nor takes memory by the classes: all pairs would be 29 GB."""
    names = [f"c{n}" for n in range(count)]
    data = f"data:\n  source: folder\n  root: x\n  ignore_index: 65535\n  classes: [{', '.join(names)}]\n"
    path = write(MINIMAL.replace("data:\n  source: generated\n", data))
    start = time.process_time()
    config = load_config(path, [f"output.metrics=[{balance}]"])
    assert time.process_time() - start < 20  # a search for repeats among all names took a minute and a half
    assert config.data.classes == names and config.output.metrics == [balance]
    with pytest.raises(ConfigError, match=rf"{count**2 * 8 / GIB:.1f} GiB for a confusion matrix of {count:,} classes"):
        refuse_what_cannot_fit(config, memory=GIB)


@pytest.mark.parametrize(
    ("augment", "size"),
    [
        ("[]", (128, 128)),
        ("[RandomCrop: {height: 64, width: 96}]", (64, 96)),
        ("[RandomResizedCrop: {size: [40, 50]}, HorizontalFlip]", (40, 50)),
        ("[PadIfNeeded: {min_height: 256, min_width: 32}]", (256, 128)),
        ("[RandomScale: {scale_limit: 0.5}, Resize: {height: 320, width: 320}]", (320, 320)),
    ],
)
def test_the_size_of_a_sample_follows_the_transforms(write, augment, size):
    assert sample_size(load_config(write(MINIMAL), [f"data.augment={augment}"])) == size


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.workers=100000", "at most 1024"),
        ("data.train_count=1000000000000", "at most 10000000"),
        ("training.epochs=1000000000000", "at most 1000000000"),
        ("training.steps_per_epoch=1000000000000", "at most 1000000000"),
        ("data.batch_size=1e30", "whole number"),
        ("data.eval_batch_size=10000000000000000000000000", "cannot be read"),
    ],
)
def test_counts_have_an_end(write, override, words):
    with pytest.raises(ConfigError, match=words):
        load_config(write(MINIMAL), [override])


def test_train_refuses_before_it_writes_a_run_folder(write):
    from segzoo.engine import train

    with pytest.raises(ConfigError, match="needs at least"):
        train(load_config(write(MINIMAL), ["data.batch_size=1000000000", "model.weights=none"]))
    assert not Path("runs").exists()
