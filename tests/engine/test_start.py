"""Starting from another run or file with other classes."""

import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from segzoo.config import load_config
from segzoo.engine import builders, load_run, train
from segzoo.engine.start import Start
from segzoo.errors import ConfigError, RunError, WeightsError

RECIPE = """
name: tiny
model: {decoder: fpn, backbone: resnet18, weights: none, options: {depth: 2}}
data: {source: generated, size: [32, 32], train_count: 4, val_count: 2, batch_size: 4, eval_batch_size: 2}
training: {epochs: 1}
output: {pictures: 0}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("start")


@pytest.fixture(scope="module")
def config(folder):
    path = folder / "tiny.yaml"
    path.write_text(RECIPE)
    return lambda *overrides: load_config(path, [f"output.root={folder / 'runs'}", *overrides])


@pytest.fixture(scope="module")
def first(config, folder):
    """A run of a real network that was trained for a step, without a graph."""
    tf.config.run_functions_eagerly(True)
    with (folder / "screen.txt").open("w") as stream:
        result = train(config("name=first"), console=Console(file=stream))
    tf.config.run_functions_eagerly(False)
    return result


def classes(*names):
    listed = ", ".join(names)
    return f"data={{source: folder, root: nowhere, classes: [{listed}]}}"


def loaded(config):
    network = builders.build_network(config)
    head = network.get_layer("head").get_weights()
    Start.of(config).load_into(network)
    return network, head


@pytest.mark.parametrize("kind", ["run", "keras"])
def test_a_run_or_file_of_the_same_classes_is_taken_whole(config, first, kind):
    place = {"run": first.folder, "keras": first.folder / "model.keras"}
    settings = config(f"training.init_from={place[kind]}")
    network, _ = loaded(settings)
    for left, right in zip(network.get_weights(), load_run(first.folder).model().get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
    assert str(network.weights_report).endswith(f"{len(network.weights)} tensors loaded")


@pytest.mark.parametrize("kind", ["run", "keras"])
def test_another_number_of_classes_gives_a_new_head_and_says_so(config, first, kind):
    place = first.folder if kind == "run" else first.folder / "model.keras"
    settings = config(f"training.init_from={place}", classes("road", "car"))
    network, head = loaded(settings)
    trained = load_run(first.folder).model()
    for name in ("stem_conv", "decoder"):
        for left, right in zip(
            network.get_layer(name).get_weights(), trained.get_layer(name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(left, right)
    for left, right in zip(network.get_layer("head").get_weights(), head, strict=True):
        np.testing.assert_array_equal(left, right)
    expected = {
        "run": "2 of the head start anew: 6 classes there and 2 here, road, car among them new",
        "keras": "2 of the head start anew: the file's does not fit 2 classes",
    }
    assert expected[kind] in str(network.weights_report)


def test_as_many_classes_of_other_names_give_a_new_head_too(config, first):
    names = list(config().task.classes)
    network, head = loaded(config(f"training.init_from={first.folder}", classes(*names[1:], names[0])))
    np.testing.assert_array_equal(network.get_layer("head").get_weights()[0], head[0])
    assert "the classes there stand in another order" in str(network.weights_report)


def test_a_run_goes_on_from_what_the_other_learnt_and_keeps_no_tie_to_it(config, folder, small_network, eager):
    with (folder / "second.txt").open("w") as stream:
        console = Console(file=stream, width=400)
        one = train(config("name=one"), console=console)
        settings = config("name=two", f"training.init_from={one.folder}", "training.optimizer.learning_rate=1e-12")
        two = train(settings, console=console)
        for left, right in zip(one.model.trainable_weights, two.model.trainable_weights, strict=True):
            np.testing.assert_allclose(left, right, atol=1e-6)
        shutil.rmtree(one.folder)
        with pytest.raises(RunError, match="no run folder or file"):  # a new start is refused at once ...
            train(config("name=three", f"training.init_from={one.folder}"), console=console)
        assert not (folder / "runs" / "three").exists()
        load_run(two.folder).model()  # ... but what was trained needs it no more
        train(settings, resume=True, console=console)
    assert "tensors loaded" in (folder / "second.txt").read_text()


def test_what_cannot_be_started_from(config, first, folder):
    (folder / "runs" / "empty").mkdir()
    (folder / "runs" / "empty" / "config.yaml").write_bytes((first.folder / "config.yaml").read_bytes())
    with pytest.raises(RunError, match=r"empty has no weights yet"):
        Start.of(config(f"training.init_from={folder / 'runs' / 'empty'}"))
    with pytest.raises(RunError, match=r"not a run folder"):
        Start.of(config(f"training.init_from={folder}"))
    with pytest.raises(ConfigError, match=r"training\.init_from: .*no user 'nobody_here'"):
        config("training.init_from=~nobody_here/x")
    mobile = config(f"training.init_from={first.folder}", "model.backbone=mobilenet", "model.taps=null")
    with pytest.raises(WeightsError, match=r"training\.init_from: .*(normalised differently|backbone resnet18)"):
        loaded(mobile)
    assert keras.config.dtype_policy().name == "float32"


def test_the_recipe_for_few_images_trains_in_stages_from_another_run(tmp_path, small_network, eager):
    small = (f"output.root={tmp_path}", "data.workers=0", "data.size=[32,32]", "data.val_count=2", "output.pictures=0")
    with (tmp_path / "screen.txt").open("w") as stream:
        console = Console(file=stream, width=400)
        learnt = train(load_config("unet_b0", [*small, "data.train_count=8", "training.epochs=1"]), console=console)
        result = train(
            load_config(
                "finetune_small",
                [
                    *small, f"training.init_from={learnt.folder}", "training.steps_per_epoch=5", "training.epochs=2",
                    "training.stages=[{freeze: backbone, epochs: 1}, {lr_scale: {backbone: 0.1}}]",
                ],
            ),
            console=console,
        )  # fmt: skip
    screen = (tmp_path / "screen.txt").read_text()
    assert "20 training and 2 validation samples, 5 steps an epoch" in screen
    assert f"weights {learnt.folder / 'best.weights.h5'}: {len(result.model.weights)} tensors loaded" in screen
    assert screen.count("Stage from epoch") == 2 and len(result.history) == 2
