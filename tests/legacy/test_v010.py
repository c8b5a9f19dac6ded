"""What segzoo 0.1.0 wrote gives the logits that it gave then, or is refused with the cure.

The files are of small networks: every decoder on five convolutions (`tiny` below), and a U-Net with scSE trained for an
epoch by `train.py`. Their squeeze-and-excitation has swish, where a decoder built today has ReLU.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

import segzoo
from segzoo.errors import RunError, SegzooError, WeightsError
from segzoo.weights import load_file

OPTIONS = {
    "unet": {"channels": [8, 8, 8, 4, 4]},
    "unet_scse": {"channels": [8, 8, 8, 4, 4], "attention": "scse"},
    "manet": {"channels": [8, 8, 8, 4, 4], "attention_channels": 4, "reduction": 4},
    "pan": {"channels": 8},
}
CURE = {"unet_scse": "squeeze_activation", "manet": "squeeze_activation", "pan": "pyramid_activation"}
EVERY = ("unet", "unet_scse", "unetplusplus", "manet", "linknet", "fpn", "pspnet", "pan", "deeplabv3", "deeplabv3plus",
         "upernet", "segformer")  # fmt: skip


def tiny() -> keras.Model:
    x = images = keras.Input((None, None, 3), name="images")
    x = keras.layers.Rescaling(1 / 127.5, -1, name="pixels")(x)
    for number, channels in enumerate((4, 6, 8, 8, 8), 1):
        x = keras.layers.Conv2D(channels, 3, strides=2, padding="same", activation="relu", name=f"stage{number}")(x)
    network = keras.Model(images, x, name="tiny")
    return segzoo.backbones.wrap(network, {f"P{number}": f"stage{number}" for number in range(1, 6)})


def build(name: str, **more: str) -> keras.Model:
    decoder = name.partition("_")[0]
    return segzoo.build_model(decoder, tiny(), 2, weights="none", **OPTIONS[name], **more)


@pytest.fixture(scope="module")
def truth(legacy: Path) -> dict[str, np.ndarray]:
    return dict(np.load(legacy / "logits.npz"))


def check(model: keras.Model, images: np.ndarray, expected: np.ndarray) -> None:
    logits = keras.ops.convert_to_numpy(model(images))
    np.testing.assert_allclose(logits, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", EVERY)
def test_a_keras_file_gives_its_logits(name: str, legacy: Path, images: np.ndarray, truth) -> None:
    check(keras.models.load_model(legacy / f"{name}.keras"), images, truth[name])


@pytest.mark.parametrize("kind", ["", "_plain"])
@pytest.mark.parametrize("name", CURE)
def test_weights_are_refused_where_a_default_changed_and_fit_the_old_option(
    name: str, kind: str, legacy: Path, images: np.ndarray, truth
) -> None:
    """`_plain` is what `model.save_weights` wrote, which named no version and no option."""
    path = legacy / f"{name}{kind}.weights.h5"
    with pytest.raises(WeightsError, match=f"decoder of segzoo 0.1.0.*{CURE[name]}: 'swish' there and 'relu' here"):
        load_file(build(name), path)
    with pytest.raises(Exception, match=f"{CURE[name]}: 'swish'"):
        build(name).load_weights(path)
    for load in (load_file, lambda model, place: model.load_weights(place)):
        model = build(name, **{CURE[name]: "swish"})
        load(model, path)
        check(model, images, truth[name])


def test_weights_of_a_decoder_that_did_not_change_load(legacy: Path, images: np.ndarray, truth) -> None:
    model = build("unet")
    assert not load_file(model, legacy / "unet.weights.h5").missing
    check(model, images, truth["unet"])


def test_weights_in_a_keras_file_are_told_apart_too(legacy: Path, images: np.ndarray, truth) -> None:
    with pytest.raises(WeightsError, match="squeeze_activation: 'swish' there"):
        load_file(build("manet"), legacy / "manet.keras")
    model = build("manet", squeeze_activation="swish")
    load_file(model, legacy / "manet.keras")
    check(model, images, truth["manet"])


def test_a_run_folder_gives_its_logits(legacy: Path, images: np.ndarray, truth) -> None:
    run = segzoo.load_run(legacy / "run")
    assert run.config.model.options["squeeze_activation"] == "swish"
    check(run.model("best"), images, truth["run"])


def test_imitate_in_a_run_folder_leaves_the_decoder_alone(legacy: Path, images: np.ndarray, truth, tmp_path) -> None:
    folder = shutil.copytree(legacy / "run", tmp_path / "run")
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("imitate: null", "imitate: smp"))
    with pytest.warns(DeprecationWarning, match="imitate is deprecated"):
        run = segzoo.load_run(folder)
        assert run.config.model.compat == "smp-0.1.0"
    check(run.model("best"), images, truth["run"])  # this backbone is the same with it


def test_a_run_folder_without_its_environment_is_refused_with_the_cure(legacy: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(legacy / "run", tmp_path / "run")
    (folder / "environment.json").unlink()
    with pytest.raises(WeightsError, match="squeeze_activation: 'swish'"):
        segzoo.load_run(folder).model()
    run = segzoo.load_run(folder, ["model.options.squeeze_activation=swish"])
    assert run.model().count_params() > 0


@pytest.mark.parametrize("anyway", [False, True])
def test_its_training_goes_on_only_as_the_network_that_it_was(anyway: bool, legacy: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(legacy / "run", tmp_path / "runs" / "unet_scse")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    config = segzoo.load_config(folder / "config.yaml", ["training.epochs=2", f"output.root={tmp_path}/runs"])
    why = "squeeze_activation: swish then, relu now" if anyway else "'0.1.0' and is"
    with pytest.raises(SegzooError, match=why) as error:
        segzoo.train(config, resume_anyway=anyway)
    assert isinstance(error.value, RunError)
    after = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}
    assert after == {name: content for name, content in before.items() if name != ".lock"}
