"""Starting from another run or file with other classes."""

import shutil

import keras
import numpy as np
import pytest

from segzoo.config import load_config
from segzoo.engine import builders, load_run, train
from segzoo.engine.start import Start
from segzoo.errors import ConfigError, RunError, WeightsError
from segzoo.weights import save_file


@pytest.fixture(scope="module")
def begun():
    """Result of a run of a small network, once it was trained."""
    return []


@pytest.fixture
def first(config, console, quick, begun, tmp_path_factory):
    """A finished run of a small network; not to be changed."""
    if not begun:
        root = tmp_path_factory.mktemp("first")
        begun.append(train(config("name=first", f"output.root={root}"), console=console))
    return begun[0]


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
    for name in ("conv", "preprocessing"):
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


def test_a_run_goes_on_from_what_the_other_learnt_and_keeps_no_tie_to_it(config, console, quick, tmp_path):
    one = train(config("name=one"), console=console)
    settings = config("name=two", f"training.init_from={one.folder}", "training.optimizer.learning_rate=1e-12")
    two = train(settings, console=console)
    for left, right in zip(one.model.trainable_weights, two.model.trainable_weights, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-6)
    shutil.rmtree(one.folder)
    with pytest.raises(RunError, match="no run folder or file"):  # a new start is refused at once ...
        train(config("name=three", f"training.init_from={one.folder}"), console=console)
    assert not (tmp_path / "runs" / "three").exists()
    load_run(two.folder).model()  # ... but what was trained needs it no more
    train(settings, resume=True, console=console)
    console.file.flush()
    assert "tensors loaded" in " ".join((tmp_path / "screen.txt").read_text().split())


def test_what_cannot_be_started_from(config, first, tmp_path):
    empty = tmp_path / "runs" / "empty"
    empty.mkdir(parents=True)
    (empty / "config.yaml").write_bytes((first.folder / "config.yaml").read_bytes())
    with pytest.raises(RunError, match=r"empty has no weights yet"):
        Start.of(config(f"training.init_from={empty}"))
    with pytest.raises(RunError, match=r"not a run folder"):
        Start.of(config(f"training.init_from={tmp_path}"))
    with pytest.raises(ConfigError, match=r"training\.init_from: .*no user 'nobody_here'"):
        config("training.init_from=~nobody_here/x")


def test_the_weights_of_another_backbone_are_refused(config, tmp_path):
    file = tmp_path / "resnet18.weights.h5"
    save_file(builders.build_network(config()), file)
    with pytest.raises(WeightsError, match=r"training\.init_from: .*(normalised differently|backbone resnet18)"):
        loaded(config(f"training.init_from={file}", "model.backbone=mobilenetv3_small"))
    assert keras.config.dtype_policy().name == "float32"


def test_weights_that_cannot_be_loaded_cost_no_run(config, tiny_run, tmp_path, console):
    wrong = tmp_path / "wrong.weights.h5"
    wrong.write_bytes(b"no HDF5")
    settings = config("name=second", f"model.weights={wrong}")
    with pytest.raises(WeightsError):
        train(settings, console=console)
    folder = tmp_path / "runs" / "second"
    assert not folder.exists()  # where nothing was, nothing is

    shutil.copytree(tiny_run, folder)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    with pytest.raises(WeightsError):
        train(settings, console=console, overwrite=True)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_the_recipe_for_few_images_trains_in_stages_from_another_run(tmp_path, console, quick):
    small = (f"output.root={tmp_path}", "data.workers=0", "data.size=[32,32]", "data.val_count=2", "output.pictures=0")
    learnt = train(load_config("unet_b0", [*small, "data.train_count=8", "training.epochs=1"]), console=console)
    stages = "training.stages=[{freeze: backbone, epochs: 1}, {lr_scale: {backbone: 0.1}}]"
    start = (f"training.init_from={learnt.folder}", "training.steps_per_epoch=2", "training.epochs=2")
    result = train(load_config("finetune_small", [*small, *start, stages]), console=console)
    console.file.flush()
    screen = " ".join((tmp_path / "screen.txt").read_text().split())
    assert "20 training and 2 validation samples, 2 steps an epoch" in screen
    loaded = f"{learnt.folder / 'best.weights.h5'}: {len(result.model.weights)} tensors loaded"
    assert loaded.replace(" ", "") in screen.replace(" ", "")
    assert screen.count("Stage from epoch") == 2 and len(result.history) == 2
