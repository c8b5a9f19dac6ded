"""Options of a recipe, from the configuration to the run folder."""

import json

import keras
import numpy as np
import pytest

from segzoo.data.generated import GeneratedShapes
from segzoo.engine import builders, train
from segzoo.engine.checkpoint.progress import Progress
from segzoo.engine.checkpoint.provenance import differences, provenance_of
from segzoo.errors import DataError, RunError

SETTINGS = (
    "model.options.pyramid_channels=32", "data.train_count=8", "training.epochs=3",
    "training.schedule={name: poly, warmup_steps: 1}",
)  # fmt: skip


def everything_labelled(read):
    def labelled(source, index):
        sample = read(source, index)
        return sample._replace(mask=np.where(sample.mask == source.ignore_index, 0, sample.mask))

    return labelled


def test_optimizer_schedule_and_accumulation_come_from_the_configuration(config, console, quick, monkeypatch):
    made = []
    build = builders.build_optimizer
    monkeypatch.setattr(builders, "build_optimizer", lambda *given: made.append(build(*given)) or made[-1])
    settings = config(
        "training.optimizer={name: sgd, learning_rate: 0.1, options: {momentum: 0.9}, clip_value: 0.5, "
        "lr_scale: {backbone: 0.5}}",
        "training.schedule={name: one_cycle, rise: 0.5}",
        "training.accumulate=2",
        "training.steps_per_epoch=5",  # two updates and a batch that fills none
        "training.epochs=2",
        "loss={cross_entropy: {label_smoothing: 0.1}}",
    )
    result = train(settings, console=console)
    (optimizer,) = made
    assert isinstance(optimizer, keras.optimizers.SGD)
    assert (optimizer.momentum, optimizer.clipvalue, optimizer.gradient_accumulation_steps) == (0.9, 0.5, 2)
    assert optimizer.global_clipnorm is None  # clipping by value takes its place
    assert build(config(), 1).global_clipnorm == 1.0
    assert [row["step"] for row in result.history] == [4, 8]
    assert int(optimizer.iterations) == 4
    rates = [row["learning_rate"] for row in result.history]
    assert rates == pytest.approx([float(optimizer._learning_rate(step)) for step in (2, 4)])
    assert builders.build_loss(settings).label_smoothing == 0.1
    assert set(optimizer._factors.values()) == {0.5} and len(optimizer._factors) == 3  # kernel, gamma, beta


def test_what_automatic_settings_come_to_is_told_logged_and_summarised(config, console, quick, tmp_path):
    folder = train(config("training.ema=auto", "output.keep_state=true"), console=console).folder  # 12 updates
    found = {"training.optimizer.clip_norm": 1.0, "training.optimizer.lr_scale.head": 10.0, "training.ema": 0.5}
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert log[0]["automatic"] == found
    console.file.flush()
    said = "Optimizer: adamw, gradients clipped to a norm of 1, learning rate of the head times 10, weights averaged"
    assert said in (tmp_path / "screen.txt").read_text().replace("\n", " ")
    assert r"| training.optimizer.lr\_scale.head | 10 (automatic) |" in (folder / "summary.md").read_text()

    longer = config("training.ema=auto", "training.epochs=200")
    with pytest.raises(RunError, match=r"training\.optimizer\.lr_scale\.head was 10 and is 3\.75"):
        train(longer, console=console)
    assert builders.automatic(longer, 800) == found | {"training.optimizer.lr_scale.head": 3.75, "training.ema": 0.975}
    assert builders.automatic(config("training.optimizer={name: sgd}"), 12) == {}
    given = config("training.optimizer.clip_norm=2", "training.optimizer.lr_scale.head=3", "training.ema=0.9")
    assert builders.automatic(given, 12) == {}
    staged = "training.stages=[{epochs: 1}, {lr_scale: {backbone: 0.1}}]"
    assert builders.automatic(config("training.optimizer.lr_scale.head=3", staged), 12) == {
        key: found[key] for key in list(found)[:2]
    }


@pytest.mark.parametrize("automatic", [[1], {"training.ema": "0.9"}])
def test_automatic_settings_of_a_state_that_are_no_numbers_are_refused(automatic):
    facts = Progress(events=[{"event": "start", "time": 0.0, "automatic": automatic}]).to_json()
    with pytest.raises(RunError, match="event 0 has automatic settings that are no numbers"):
        Progress.from_json(facts)


def test_a_run_that_began_without_a_factor_on_the_rate_of_the_head_is_not_resumed_with_one(config):
    before, now = (provenance_of(config(), {}, head_factor=factor) for factor in (1.0, 10.0))
    assert "automatic" not in before
    assert differences(before, now) == ["training.optimizer.lr_scale.head was 1 and is 10"]
    restored = provenance_of(config("training.optimizer.lr_scale.head=1"), {})
    assert differences(now, restored) == ["training.optimizer.lr_scale.head was 10 and is 1"]
    assert differences(before, before) == differences(now, now) == differences(before, restored) == []
    given = provenance_of(config("training.optimizer.lr_scale.head=10"), {})
    assert differences(now, given) == []
    staged = provenance_of(config("training.optimizer.lr_scale.head=10"), {}, head_factor=5.0)  # in a stage of its own
    assert differences(now, staged) == ["training.optimizer.lr_scale.head was 10.0 and is 5.0"]


def test_a_batch_in_parts_trains_as_the_whole_batch(config, console, five_convolutions, monkeypatch):
    # Without BatchNorm and dropout, and with one number of labelled pixels in every sample, or the means differ.
    monkeypatch.setattr(GeneratedShapes, "__getitem__", everything_labelled(GeneratedShapes.__getitem__))
    same = (
        "model.options={pyramid_channels: 32, depth: 2, normalization: group}", "model.batch_norm=frozen",
        "model.drop_path=0.0", "model.options.dropout=0.0", "loss={cross_entropy: 1.0}", "training.epochs=1",
        "data.batch_size=4", "data.train_count=4", "training.schedule.warmup_steps=0",
        "training.optimizer={name: sgd, learning_rate: 0.05}",
    )  # fmt: skip
    whole = train(config(*same, "name=whole"), console=console)
    parts = train(config(*same, "name=parts", "data.batch_size=2", "training.accumulate=2"), console=console)
    assert len(whole.history) == 1 and parts.history[0]["step"] == 2 * whole.history[0]["step"]
    for left, right in zip(whole.model.get_weights(), parts.model.get_weights(), strict=True):
        np.testing.assert_allclose(left, right, atol=2e-5)


def test_overfit_trains_and_evaluates_on_the_same_few_samples(config, console, quick, tmp_path):
    settings = config("training.overfit=3", "training.epochs=1")
    subset = builders.build_source(settings, "train")
    whole = builders.build_source(config(), "train")
    assert subset.ids == [whole.ids[place] for place in (0, 4, 7)] and len(subset) == 3
    np.testing.assert_array_equal(subset[1].image, whole[4].image)
    assert subset.fingerprint() != whole.fingerprint()
    result = train(settings, console=console)
    labelled = sum(int((sample.mask != 255).sum()) for sample in (subset[0], subset[1], subset[2]))
    assert result.confusion.counts.sum() == labelled
    console.file.flush()
    assert "learn by heart" in (tmp_path / "screen.txt").read_text()
    with pytest.raises(DataError, match=r"overfit is 9, but the training split has 8 sample"):
        train(config("training.overfit=9", "name=more"), console=console)


@pytest.mark.parametrize("backbone", ["five_convolutions", pytest.param("resnet18", marks=pytest.mark.nightly)])
def test_deterministic_kernels_train_a_decoder(config, console, light, eager, backbone, request):
    from tensorflow.python.framework import config as tensorflow_config

    if backbone != "resnet18":
        request.getfixturevalue(backbone)
    settings = ("training.deterministic=true", "training.epochs=1", "training.precision=float32", "data.train_count=2")
    try:
        runs = [train(config(*settings, f"name={name}"), console=console) for name in ("one", "two")]
        assert tensorflow_config.is_op_determinism_enabled()
    finally:
        tensorflow_config.disable_op_determinism()
    for left, right in zip(runs[0].model.get_weights(), runs[1].model.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
