"""The whole road on a tiny run: folder, figures, resume, early stop, NaN, and what is refused."""

import csv
import functools
import gc
import json
import math

import keras
import numpy as np
import pytest
from PIL import Image

from segzoo import files
from segzoo.data.generated import CLASSES
from segzoo.engine import builders, load_run, train
from segzoo.engine.checkpoint import checkpoint_file
from segzoo.engine.checkpoint.state import load_progress
from segzoo.engine.class_pixels import ClassPixels
from segzoo.errors import RunError
from segzoo.export import read_metadata
from segzoo.losses import class_weights
from segzoo.optim import SCHEDULES
from segzoo.optim.schedules import WarmUpDecay

SETTINGS = (
    "data.train_count=8", "data.val_count=5", "data.batch_size=4", "data.eval_batch_size=4", "training.epochs=2",
    "training.schedule={name: poly, warmup_steps: 1}",
)  # fmt: skip


def rows(folder):
    with (folder / "metrics.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_a_run_leaves_all_that_the_contract_names(config, quick, console, tmp_path):
    result = train(config("output.pictures=4"), console=console)
    names = {path.name for path in result.folder.iterdir()}
    assert names == {
        "config.yaml", "environment.json", "log.jsonl", "sessions.jsonl", "metrics.csv", "state.npz",
        "best.weights.h5", "last.weights.h5", "model.keras", "result.json", "figures",
        "tensorboard", ".lock", "summary.md", "summary.html",
    }  # fmt: skip
    figures = {path.stem for path in (result.folder / "figures").iterdir()}
    assert figures == {"curves", "predictions", "worst", "confusion"}
    assert any((result.folder / "tensorboard").iterdir())
    assert [row["epoch"] for row in rows(result.folder)] == ["1", "2"]
    log = [json.loads(line) for line in (result.folder / "log.jsonl").read_text().splitlines()]
    assert log[0]["xla"] is False  # on a CPU; the screen says it too
    assert [line["event"] for line in log] == ["start", "first_step", "epoch", "epoch", "finish"]
    environment = json.loads((result.folder / "environment.json").read_text())
    assert environment["seed"] == 0 and "keras" in environment["packages"]
    assert set(environment["data_fingerprints"]) == {"train", "val"}
    screen = (tmp_path / "screen.txt").read_text()
    assert "mean IoU" in screen and "Run folder:" in screen and "background" in screen and "without XLA" in screen


def test_the_run_folder_rebuilds_the_best_model(config, console, loaded_elsewhere):
    """With a graph, and all that other tests leave out of their runs."""
    result = train(config("data.train_count=4"), console=console)
    image = np.random.default_rng(0).integers(0, 256, (1, 40, 33, 3), dtype=np.uint8)
    expected = result.model.predict_on_batch(image)
    rebuilt = load_run(result.folder).model()
    np.testing.assert_allclose(rebuilt.predict_on_batch(image), expected, atol=1e-5)
    reloaded = loaded_elsewhere(result.folder / "model.keras", image)
    np.testing.assert_allclose(reloaded.output, expected, atol=1e-5)
    described = read_metadata(result.folder / "model.keras")
    assert described == builders.model_metadata(config()) and described.network.decoder == config().model.decoder
    best = max(range(2), key=lambda index: result.history[index]["val_mean_iou"]) + 1
    assert result.best_epoch == best
    masks = builders.build_source(config(), "val")
    assert result.confusion.counts.sum() == sum((masks[index].mask != 255).sum() for index in range(5))


def test_class_weights_from_the_data_are_counted_once_and_kept(config, quick, console, tmp_path, monkeypatch):
    weighted = ["loss={cross_entropy: {class_weights: median_frequency}, dice: {class_weights: balanced}}"]
    result = train(config(*weighted, "training.epochs=1"), console=console)
    kept = ClassPixels.read(result.folder / "class_pixels.json")
    masks = [sample.mask for sample in builders.build_source(config(), "train")]
    assert kept.pixels["ring"] == sum(int((mask == CLASSES.index("ring")).sum()) for mask in masks)
    labelled = [int((mask != 255).sum()) for mask in masks if (mask == CLASSES.index("ring")).any()]
    assert kept.shown_in["ring"] == sum(labelled)

    monkeypatch.setattr(ClassPixels, "of", None)  # a second count would fail
    again = load_run(result.folder).loss()
    expected = class_weights("balanced", list(kept.pixels.values()))
    assert again.losses[1].class_weights == expected
    train(config(*weighted, "training.epochs=1"), resume=True, console=console)
    console.file.flush()
    screen = (tmp_path / "screen.txt").read_text()
    assert screen.count("Counting the pixels") == 1
    assert "Class weights of dice, balanced: " + ", ".join(f"{weight:.3g}" for weight in expected) in screen

    (result.folder / "class_pixels.json").write_text("{")
    with pytest.raises(RunError, match=r"class_pixels.json cannot be read .* Train again with --overwrite"):
        load_run(result.folder).loss()


def test_a_boundary_loss_trains_and_is_evaluated_on_distances_from_the_reader(config, quick, console):
    result = train(config("loss={dice: 1.0, boundary: 0.01}", "training.epochs=1"), console=console)
    row = rows(result.folder)[0]
    assert np.isfinite(float(row["loss"])) and np.isfinite(float(row["val_loss"]))


def test_binary_mode_trains_one_sigmoid_and_counts_two_classes(config, quick, tmp_path, console):
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (tmp_path / split / kind).mkdir(parents=True)
        for index in range(4):
            mask = np.kron(rng.integers(0, 2, (4, 4)), np.ones((8, 8), int)).astype("uint8")
            Image.fromarray(np.where(mask[..., None], 200, 40).repeat(3, 2).astype("uint8")).save(
                tmp_path / split / "images" / f"{index}.png"
            )
            Image.fromarray(mask).save(tmp_path / split / "masks" / f"{index}.png")
    data = f"data={{source: folder, root: '{tmp_path}', classes: [rest, road], batch_size: 4}}"
    loss = "loss={binary_cross_entropy: 1.0, dice: 1.0, boundary: 0.01}"
    result = train(config("mode=binary", data, loss, "training.epochs=1"), console=console)
    assert result.model.output_shape[-1] == 1
    assert result.confusion.counts.shape == (2, 2) and result.confusion.counts.sum() == 4 * 32 * 32
    assert np.isfinite(float(rows(result.folder)[0]["val_loss"]))


def test_the_collector_rests_until_the_first_step_alone(config, quick, console, request):
    seen = {"building": [], "after a step": []}

    class Noted(WarmUpDecay):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            seen["building"].append(gc.isenabled())

    class Notes(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen["after a step"].append(gc.isenabled())

    request.addfinalizer(lambda: SCHEDULES.unregister("noted"))
    SCHEDULES.register("noted", Noted)
    train(config("training.epochs=1", "training.schedule={name: noted}"), callbacks=[Notes()], console=console)
    assert seen == {"building": [False], "after a step": [True, True]}
    with pytest.raises(RunError):  # a run of another length
        train(config(), console=console)
    assert gc.isenabled()


def test_a_finished_run_resumes_to_its_own_result(config, quick, console):
    first = train(config("training.epochs=1"), console=console)
    again = train(config("training.epochs=1"), resume=True, console=console)
    assert again.history == first.history
    np.testing.assert_array_equal(again.confusion.counts, first.confusion.counts)


def test_a_folder_with_a_run_is_never_overwritten_silently(config, quick, console, tmp_path):
    folder = train(config("training.epochs=1"), console=console).folder
    before = (folder / "state.npz").read_bytes()
    with pytest.raises(RunError, match=r"already holds a finished run.*--resume.*--set name=.*--overwrite"):
        train(config("training.epochs=1"), console=console)
    for how in ({}, {"resume": True}):
        with pytest.raises(RunError, match=r"training\.optimizer\.learning_rate was 0\.001 and is 0\.01"):
            train(config("training.epochs=1", "training.optimizer.learning_rate=0.01"), console=console, **how)
    assert (folder / "state.npz").read_bytes() == before
    train(config("training.epochs=1", "seed=1", "output.keep_state=true"), overwrite=True, console=console)
    assert load_run(folder).config.seed == 1
    train(config("training.epochs=2", "seed=1"), resume_anyway=True, console=console)
    assert [row["epoch"] for row in rows(folder)] == ["1", "2"] and load_run(folder).config.training.epochs == 2
    console.file.flush()
    assert "training.epochs was 1 and is 2" in (tmp_path / "screen.txt").read_text()


def content(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_finished_run_without_its_state_says_what_it_lacks_and_its_weights_serve_as_before(
    config, quick, console, tmp_path, monkeypatch
):
    result = train(config("training.epochs=1"), console=console)
    before = content(result.folder)
    assert not any(b"optimizer/" in data for path, data in before.items() if path.name.startswith("state"))
    for how in ({}, {"resume": True}, {"resume_anyway": True}):
        with pytest.raises(RunError, match=r"1 epochs without .*keep_state: false.*init_from=.*keep_state: true"):
            train(config("training.epochs=2"), console=console, **how)
    assert content(result.folder) == before
    (result.folder / "result.json").unlink()  # without it too a run that has no variables is a finished one
    with pytest.raises(RunError, match="already holds a finished run"):
        train(config("training.epochs=1"), console=console)
    shown = train(config("training.epochs=1"), resume=True, console=console)
    np.testing.assert_array_equal(shown.confusion.counts, result.confusion.counts)
    after = content(result.folder)
    assert [path for path, data in after.items() if data != before[path]] == []
    train(config("name=further", f"training.init_from={result.folder}"), console=console)
    console.file.flush()
    screen = (tmp_path / "screen.txt").read_text()
    assert "Dropped the optimizer's state, 0." in screen
    assert f"best.weights.h5: {len(result.model.weights)} tensors loaded" in screen.replace("\n", "")


def test_a_disk_that_refuses_to_drop_the_state_is_told_of_and_the_run_is_finished(
    config, quick, console, tmp_path, monkeypatch
):
    ended = []

    def refuse(name, path):
        ended.extend([path] if (name, path.name) == ("replace", "result.json") else [])
        if ended and path.name == "state.npz":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "fault", refuse)
    result = train(config("training.epochs=1"), console=console)
    monkeypatch.setattr(files, "fault", None)
    stored = checkpoint_file.read(result.folder / "state.npz")
    assert (result.folder / "result.json").is_file() and any(key.startswith("optimizer/") for key in stored.arrays)
    console.file.flush()
    screen = (tmp_path / "screen.txt").read_text()
    assert "state.npz cannot be written: No space left on device. So the run keeps its state" in screen
    assert train(config("training.epochs=1"), resume=True, console=console).best_epoch == 1


@pytest.mark.parametrize(
    ("from_save", "said"),
    [(1, r"No state was saved yet: .* to start anew\."), (2, r"saved last is intact: .* to go on from it\.")],
)
def test_a_full_disk_is_told_with_what_there_is_to_go_on_from(from_save, said, config, quick, console, monkeypatch):
    saves = []

    def refuse(name, path):
        saves.extend([path] if (name, path.name) == ("write", "state.npz") else [])
        if len(saves) >= from_save:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "fault", refuse)
    short = config("training.epochs=2", "data.train_count=4", "data.val_count=4")
    with pytest.raises(RunError, match=rf"No space left on device\. Training stopped after step \d+\. .*{said}"):
        train(short, console=console)
    monkeypatch.setattr(files, "fault", None)
    assert train(short, console=console).history[-1]["epoch"] == 2


def test_overwrite_leaves_a_folder_alone_that_is_no_run(config, quick, console, tmp_path):
    precious = tmp_path / "runs" / "tiny" / "thesis.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("years of work")
    with pytest.raises(RunError, match=r"not a run folder"):
        train(config(), overwrite=True, console=console)
    assert precious.read_text() == "years of work"


def test_nothing_to_resume(config, quick, console):
    with pytest.raises(RunError, match="no run to resume"):
        train(config(), resume=True, console=console)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_weights(config, quick, console, request):
    class Explodes(WarmUpDecay):
        def __call__(self, step):
            return keras.ops.where(keras.ops.cast(step, "int32") < 2, super().__call__(step), math.nan)

    request.addfinalizer(lambda: SCHEDULES.unregister("explodes"))
    SCHEDULES.register("explodes", Explodes)
    config = functools.partial(config, "training.schedule={name: explodes}")
    # Step 3 applies the bad rate, step 4 is the first with a loss that is not finite.
    with pytest.raises(RunError, match=r"nan at step 4 \(epoch 2\).*last\.weights\.h5 holds the last good"):
        train(config(), console=console)
    folder = config().output.root + "/tiny"
    assert load_progress(load_run(folder).folder.state).epoch == 1
    for weights in ("best", "last"):
        assert all(np.isfinite(value).all() for value in load_run(folder).model(weights).get_weights())
    events = [json.loads(line)["event"] for line in load_run(folder).folder.log.read_text().splitlines()]
    assert events[-1] == "not_finite"


def test_early_stopping_ends_the_run_and_says_so(config, quick, console, tmp_path):
    stop = ("training.epochs=9", "training.early_stopping.patience=1", "training.early_stopping.min_delta=1.0")
    result = train(config(*stop), console=console)
    assert len(result.history) == 2  # the first epoch sets the score, the second does not beat it by 1.0
    assert "Stopped early" in (tmp_path / "screen.txt").read_text()


@pytest.mark.parametrize("precision", [pytest.param("bfloat16", marks=pytest.mark.nightly), "float16"])
def test_mixed_precision_trains_with_float32_weights(config, light, five_convolutions, console, precision):
    result = train(config(f"training.precision={precision}", "training.epochs=1"), console=console)
    assert math.isfinite(result.history[0]["loss"])
    assert {str(weight.dtype) for weight in result.model.trainable_variables} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"  # the caller's policy is as it was


@pytest.mark.nightly
def test_heads_for_the_training_alone_train_in_a_graph_too(config, light, console):
    heads = (
        "model={decoder: fpn, backbone: resnet18, weights: none, options: {depth: 3}, auxiliary: {P2: 0.4}, "
        "classification: 0.2}"
    )
    result = train(config(heads, "training.epochs=2", "data.train_count=4", "data.val_count=2"), console=console)
    assert all(float(row["auxiliary_loss"]) > 0 for row in rows(result.folder))


def test_heads_for_the_training_alone_train_and_leave_a_plain_model(
    config, light, five_convolutions, console, loaded_elsewhere
):
    heads = (
        "model={decoder: unetplusplus, backbone: resnet18, weights: none, "
        "options: {depth: 3, deep_supervision: true}, auxiliary: {P2: 0.4}, classification: 0.2}"
    )
    short = ("training.epochs=1", "data.train_count=4", "data.val_count=2")
    result = train(config(heads, *short), console=console)
    row = rows(result.folder)[-1]
    assert float(row["auxiliary_loss"]) > 0
    images = np.random.default_rng(0).uniform(0, 255, (1, 33, 47, 3)).astype("float32")
    logits = np.asarray(result.model(images))
    assert logits.shape[:3] == (1, 33, 47)
    np.testing.assert_allclose(load_run(result.folder).model()(images), logits, atol=1e-4)
    finished = loaded_elsewhere(result.folder / "model.keras", images)
    np.testing.assert_allclose(finished.output, logits, atol=1e-4)
    # The state holds the heads too: a run goes on as if it had not been stopped.
    assert train(config(heads, *short), resume=True, console=console).best_epoch == result.best_epoch
