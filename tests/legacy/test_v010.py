"""Files of segzoo 0.1.0 give the logits that they gave then, or are refused with the cure.

The files are of small networks: every decoder on five convolutions (`tiny` below), and a U-Net with scSE trained for an
epoch by `train.py`. Their squeeze-and-excitation has swish, where a decoder built today has ReLU.
"""

from __future__ import annotations

import functools
import json
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

import segzoo
from segzoo import hdf5
from segzoo.engine import builders
from segzoo.engine.start import Start
from segzoo.errors import RunError, SegzooError, WeightsError
from segzoo.weights import WeightsWarning, load_file, save_file

pytestmark = pytest.mark.usefixtures("one_structure", "no_trial")

OPTIONS = {
    "unet": {"channels": [8, 8, 8, 4, 4]},
    "unet_scse": {"channels": [8, 8, 8, 4, 4], "attention": "scse"},
    "unetplusplus": {"channels": [8, 4, 4, 4, 4]},
    "manet": {"channels": [8, 8, 8, 4, 4], "attention_channels": 4, "reduction": 4},
    "linknet": {},
    "fpn": {"pyramid_channels": 8, "segmentation_channels": 8, "normalization": "batch"},
    "pspnet": {"channels": 8},
    "pan": {"channels": 8},
    "deeplabv3": {"channels": 8},
    "deeplabv3plus": {"channels": 8, "low_level_channels": 4},
    "upernet": {"channels": 8},
    "segformer": {"channels": 8},
}
# What `compat: smp` changes in these decoders, an option of each.
BY_COMPAT = {
    "unet": "fit_image: False there and True here",
    "unet_scse": "upsampling: 'nearest' there and 'nearest_floor' here",
    "manet": "attention_softmax: 'keys' there and 'pairs' here",
    "fpn": "align_corners: False there and True here",
    "pspnet": "depth: None there and 3 here",
    "pan": "halving: 'ceil' there and 'floor' here",
    "deeplabv3": r"rates: None there and \[12, 24, 36\] here",
    "deeplabv3plus": "align_corners: False there and True here",
    "upernet": "head_interpolation: 'bilinear' there and 'aligned' here",
    "segformer": "with_p1: False there and True here",
}
CURE = {"unet_scse": "squeeze_activation", "manet": "squeeze_activation", "pan": "pyramid_activation"}
EVERY = ("unet", "unet_scse", "unetplusplus", "manet", "linknet", "fpn", "pspnet", "pan", "deeplabv3", "deeplabv3plus",
         "upernet", "segformer")  # fmt: skip


def tiny(levels: int = 5) -> keras.Model:
    x = images = keras.Input((None, None, 3), name="images")
    x = keras.layers.Rescaling(1 / 127.5, -1, name="pixels")(x)
    for number, channels in enumerate((4, 6, 8, 8, 8)[:levels], 1):
        x = keras.layers.Conv2D(channels, 3, strides=2, padding="same", activation="relu", name=f"stage{number}")(x)
    network = keras.Model(images, x, name="tiny")
    return segzoo.backbones.wrap(network, {f"P{number}": f"stage{number}" for number in range(1, levels + 1)})


def build(name: str, levels: int = 5, **more: Any) -> keras.Model:
    decoder = name.partition("_")[0]
    return segzoo.build_model(decoder, tiny(levels), 2, **{"weights": "none", **OPTIONS[name], **more})


# A network that tests share: they load weights before they look at its logits.
shared = functools.cache(build)


@pytest.fixture
def weights_of(legacy: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Weights as `model.save_weights` wrote them, which a `.keras` file holds."""

    def unpack(name: str) -> Path:
        with zipfile.ZipFile(legacy / f"{name}.keras") as archive:
            return Path(archive.extract("model.weights.h5", tmp_path / name))

    return unpack


def levels_of(name: str) -> int:
    return 4 if name in ("deeplabv3", "deeplabv3plus") else 5


@pytest.fixture(scope="module")
def truth(legacy: Path) -> dict[str, np.ndarray]:
    return dict(np.load(legacy / "logits.npz"))


def check(model: keras.Model, images: np.ndarray, expected: np.ndarray) -> None:
    logits = keras.ops.convert_to_numpy(model(images))
    np.testing.assert_allclose(logits, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def forget(model: keras.Model) -> None:
    model.set_weights([0 * weight for weight in model.get_weights()])


@pytest.mark.parametrize("name", EVERY)
def test_a_keras_file_gives_its_logits(name: str, legacy: Path, images: np.ndarray, truth) -> None:
    check(keras.models.load_model(legacy / f"{name}.keras"), images, truth[name])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(name, kind, marks=() if (name, kind) == ("pan", "") else pytest.mark.nightly)
        for name in CURE
        for kind in ("", "_plain")
    ],
)
def test_weights_are_refused_where_a_default_changed_and_fit_the_old_option(
    name: str, kind: str, legacy: Path, images: np.ndarray, truth
) -> None:
    """`_plain` is what `model.save_weights` wrote, which named no version and no option."""
    path = legacy / f"{name}{kind}.weights.h5"
    model, then = shared(name), shared(name, **{CURE[name]: "swish"})
    with pytest.raises(WeightsError, match=f"decoder of segzoo 0.1.0.*{CURE[name]}: 'swish' there and 'relu' here"):
        load_file(model, path)
    for load in (load_file, lambda network, place: network.load_weights(place)):
        with pytest.raises(Exception, match=f"{CURE[name]}: 'swish'"):
            load(model, path)
        forget(then)
        load(then, path)
        check(then, images, truth[name])


def test_weights_of_a_decoder_that_did_not_change_load(legacy: Path, images: np.ndarray, truth) -> None:
    model = build("unet")
    assert not load_file(model, legacy / "unet.weights.h5").missing
    check(model, images, truth["unet"])


def test_weights_in_a_keras_file_are_told_apart_too(legacy: Path, images: np.ndarray, truth) -> None:
    with pytest.raises(WeightsError, match="pyramid_activation: 'swish' there"):
        load_file(shared("pan"), legacy / "pan.keras")
    model = shared("pan", pyramid_activation="swish")
    forget(model)
    load_file(model, legacy / "pan.keras")
    check(model, images, truth["pan"])


@pytest.mark.parametrize("name", BY_COMPAT)
def test_weights_are_refused_by_the_network_that_compat_changed(name: str, weights_of) -> None:
    """`imitate="smp"` left the decoder alone in 0.1.0: the same call builds another network today."""
    model, path = shared(name, levels_of(name), compat="smp"), weights_of(name)
    cure = r"compat: smp-0\.1\.0 where it was built with imitate: smp"
    with pytest.raises(WeightsError, match=f"decoder of segzoo 0.1.0.*{BY_COMPAT[name]}.*{cure}") as error:
        load_file(model, path)
    assert (f"{CURE.get(name)}: 'swish' (in a configuration" in str(error.value)) == (name in CURE)
    if name in ("fpn", "upernet", "deeplabv3plus"):
        with pytest.raises(ValueError, match=f"for a decoder of segzoo 0.1.0.*{BY_COMPAT[name]}"):
            model.load_weights(path)  # Keras too refuses


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in ("fpn", "pan") else pytest.mark.nightly) for name in BY_COMPAT]
)
def test_the_cure_loads_what_compat_changed(name: str, legacy: Path, images: np.ndarray, truth, weights_of) -> None:
    path, archive = weights_of(name), legacy / f"{name}.keras"
    with pytest.raises(WeightsError, match=BY_COMPAT[name]):
        load_file(shared(name, levels_of(name), compat="smp"), archive)
    option = {CURE[name]: "swish"} if name in CURE else {}
    model = build(name, levels_of(name), compat="smp-0.1.0", **option)
    for place in (path, archive):
        forget(model)
        load_file(model, place)
        check(model, images, truth[name])


@pytest.mark.filterwarnings("ignore:imitate is deprecated")
def test_imitate_in_a_call_is_told_too(weights_of) -> None:
    with pytest.raises(WeightsError, match=BY_COMPAT["pspnet"]):
        build("pspnet", imitate="smp", weights=weights_of("pspnet"))


@pytest.mark.parametrize("name", ["linknet", pytest.param("unetplusplus", marks=pytest.mark.nightly)])
def test_weights_load_where_compat_changes_nothing(name: str, images: np.ndarray, truth, weights_of) -> None:
    check(build(name, compat="smp", weights=weights_of(name)), images, truth[name])


def test_options_that_are_given_are_those_of_the_file(images: np.ndarray, truth, weights_of) -> None:
    """0.1.0 had `align_corners`; what the user says of it is not `compat`'s word, and counts for the file."""
    given = {"align_corners": False}
    check(build("fpn", compat="smp", weights=weights_of("fpn"), **given), images, truth["fpn"])
    with pytest.raises(WeightsError, match=r"epsilon: None there and 0\.001 here.*options that they were made with"):
        build("fpn", epsilon=0.001, weights=weights_of("fpn"))
    with pytest.raises(WeightsError, match="upsampling: 'nearest' there and 'nearest_floor' here"):
        build("unet", upsampling="nearest_floor", weights=weights_of("unet"))


def test_options_of_a_decoder_in_a_keras_file_are_compared(legacy: Path) -> None:
    with pytest.raises(WeightsError, match="upsampling: 'nearest' there and 'bilinear' here"):
        build("unet", upsampling="bilinear", weights=legacy / "unet.keras")


def test_weights_of_another_decoder_are_a_start_still(weights_of) -> None:
    """The tensors that the decoders share are taken, and the others are listed."""
    report = build("unet", compat="smp", channels=[8, 8, 8, 4, 2], weights=weights_of("linknet")).weights_report
    assert report.missing and any(name.startswith("stage1") for name in report.loaded)


@pytest.fixture
def without_notes(tmp_path: Path) -> Callable[[keras.Model, bool], Path]:
    """Write weights as 0.1.0 did: without the options of backbone and decoder, with or without the signature."""

    def write(model: keras.Model, signed: bool) -> Path:
        path = tmp_path / f"{model.name}_{signed}.weights.h5"
        save_file(model, path)
        with h5py.File(path, "r+") as file:
            del file[hdf5.LAYERS]
            signature = json.loads(file.attrs.pop(hdf5.SIGNATURE))
            del signature["options"]
            if signed:
                file.attrs[hdf5.SIGNATURE] = json.dumps(signature)
            functions: list[str] = []
            file.visit(lambda name: functions.append(name) if name.endswith("/function") else None)
            for name in functions:
                del file[name]
        return path

    return write


@functools.cache
def stem(backbone: str = "efficientnet_b0", **given: Any) -> keras.Model:
    """Linknet, which is the same with `compat: smp`, on the stem of an EfficientNet, whose padding is not."""
    return segzoo.build_model("linknet", backbone, 2, weights="none", taps="output", depth=1, **given)


@pytest.mark.parametrize("signed", [False, True])
def test_a_backbone_that_compat_changed_is_told_too(signed: bool, images: np.ndarray, without_notes) -> None:
    before = stem(compat="smp-0.1.0")
    path, expected = without_notes(before, signed), keras.ops.convert_to_numpy(before(images))
    with pytest.raises(WeightsError, match=r"segzoo 0\.1\.0, whose efficientnet_b0 padded.*compat: smp-0\.1\.0"):
        load_file(stem(compat="smp"), path)
    # A file does not say whether `imitate: smp` was set; a run's configuration does.
    with pytest.warns(WeightsWarning, match=r"not say whether imitate: smp was set.*compat: smp-0\.1\.0"):
        unsure = load_file(stem(), path)
    assert unsure.note.endswith("; written by segzoo 0.1.0, see the warning")
    with warnings.catch_warnings():
        warnings.simplefilter("error", WeightsWarning)
        assert not load_file(stem(), path, configured=True).missing
        forget(before)
        load_file(before, path)
        check(before, images, expected)


@pytest.mark.parametrize(("backbone", "compat"), [("xception", "smp"), ("efficientnet_b0", "timm")])
def test_backbones_that_had_no_word_of_compat_are_told_too(backbone: str, compat: str, without_notes) -> None:
    """`imitate: smp` changed EfficientNets alone in 0.1.0, and knew no other word."""
    before = stem(backbone)
    path = without_notes(before, True)
    with pytest.raises(WeightsError, match=rf"segzoo 0\.1\.0, whose {backbone} padded .* compat: {compat} today"):
        load_file(stem(backbone, compat=compat), path)
    assert not load_file(before, path, configured=True).missing


@pytest.mark.filterwarnings("ignore:imitate is deprecated")
@pytest.mark.parametrize(
    ("key", "loads"),
    [
        ("model.weights", True),
        ("training.init_from", False),
        pytest.param("training.init_from", True, marks=pytest.mark.nightly),  # as `model.weights` does
    ],
)
def test_a_recipe_with_imitate_refuses_weights_that_it_would_change(
    key: str, loads: bool, legacy: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    text = (legacy / "run" / "config.yaml").read_text()
    recipe.write_text(text.replace("imitate: null", "imitate: smp"))
    place = f"{key}={legacy / 'run' / 'best.weights.h5'}"

    def network(*overrides: str) -> keras.Model:
        config = segzoo.load_config(recipe, [place, *overrides])
        built = builders.build_network(config)
        if key == "training.init_from":
            Start.of(config).load_into(built)
        return built

    both = "fit_image: False there.*squeeze_activation: 'swish' there.*compat: smp-0.1.0.*squeeze_activation: 'swish'"
    with pytest.raises(WeightsError, match=both):
        network()
    if loads:
        cured = network("model.imitate=null", "model.compat=smp-0.1.0", "model.options.squeeze_activation=swish")
        assert not cured.weights_report.missing


@pytest.mark.filterwarnings("ignore:imitate is deprecated")
def test_a_run_folder_without_its_environment_refuses_imitate_too(legacy: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(legacy / "run", tmp_path / "run")
    (folder / "environment.json").unlink()
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("imitate: null", "imitate: smp"))
    with pytest.raises(
        WeightsError, match=r"upsampling: 'nearest' there and 'nearest_floor' here.*compat: smp-0\.1\.0"
    ):
        segzoo.load_run(folder).model()


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
