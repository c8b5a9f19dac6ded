"""Weight files: what is loaded, what is refused, and that a failing save destroys nothing."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from segzoo import backbones, hdf5
from segzoo.errors import WeightsError
from segzoo.models.build import build_model
from segzoo.weights import WeightsReport, load_file, save_file

pytestmark = pytest.mark.usefixtures("one_structure", "no_trial")


def build(decoder: str = "fpn", classes: int = 3, weights: str | Path = "none") -> keras.Model:
    """A decoder on the first blocks of an EfficientNet-B0."""
    return build_model(decoder, "efficientnet_b0", classes, weights=weights, taps="output", depth=2)


def perturb(model: keras.Model) -> keras.Model:
    """Move every tensor from its initial value, biases and moving statistics too."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(np.asarray(weight) + rng.uniform(0.01, 0.1, weight.shape))
    return model


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[keras.Model, Path]:
    model = perturb(build())
    path = tmp_path_factory.mktemp("saved") / "model.weights.h5"
    save_file(model, path)
    return model, path


@pytest.fixture(scope="module")
def other() -> keras.Model:
    """The same network with other initial values."""
    return build()


@pytest.fixture
def copy(saved, tmp_path: Path) -> Path:
    path = tmp_path / "copy.weights.h5"
    path.write_bytes(saved[1].read_bytes())
    return path


def test_none_and_a_path_object_are_taken(saved) -> None:
    """As keras.applications and pathlib's users write them."""
    assert build_model("fpn", "resnet18", 2, weights=None, depth=2).weights_report.source == "none"
    path = saved[1]
    assert str(path) == build(weights=path).weights_report.source


def test_loaded_weights_freeze_batch_normalisation_of_the_backbone_alone(saved) -> None:
    """`batch_norm: auto`; from random values, or with `train`, all of it is trained."""

    def frozen(**options: Any) -> tuple[str | None, set[bool], set[bool]]:
        model = build_model("fpn", "efficientnet_b0", 3, taps="output", depth=2, **options)
        norms = {layer.name for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)}
        found: dict[bool, set[bool]] = {True: set(), False: set()}
        for layer in model.layers:
            found[layer.name in norms].add(not layer.trainable)
        return model.batch_norm, found[True], found[False]

    assert frozen(weights=saved[1]) == ("frozen", {True}, {False})
    assert frozen(weights=saved[1], batch_norm="train") == ("train", {False}, {False})
    assert frozen(weights="none") == ("train", {False}, {False})
    assert frozen(weights="none", batch_norm="frozen") == ("frozen", {True}, {False})


def test_round_trip(saved, other: keras.Model, pixels) -> None:
    model, path = saved
    images = pixels(32, 48)
    assert np.abs(other(images) - model(images)).max() > 1e-3
    report = load_file(other, path)
    np.testing.assert_array_equal(other(images), model(images))
    for weight, expected in zip(other.weights, model.weights, strict=True):
        np.testing.assert_array_equal(weight, expected, err_msg=weight.path)
    assert len(report.loaded) == len(model.weights) == len(set(report.loaded))
    assert report.skipped == report.missing == []
    assert f"{len(model.weights)} tensors loaded, 0 skipped, 0 kept" in str(report)


def test_a_plain_keras_file_loads_too(saved, other: keras.Model, tmp_path: Path, pixels) -> None:
    """`model.save_weights` writes no signature; shapes still have to fit."""
    saved[0].save_weights(tmp_path / "plain.weights.h5")
    load_file(other, tmp_path / "plain.weights.h5")
    np.testing.assert_array_equal(other(pixels(32, 32)), saved[0](pixels(32, 32)))


def test_another_class_count_skips_the_head(saved) -> None:
    model, path = saved
    five = build(classes=5, weights=str(path))
    report = five.weights_report
    assert report.source == str(path)
    assert report.skipped == [
        "head/conv/0: (1, 1, 128, 3) in the file, (1, 1, 128, 5) in the model",
        "head/conv/1: (3,) in the file, (5,) in the model",
    ]
    assert report.missing == ["head/conv/0", "head/conv/1"]
    assert len(report.loaded) == len(five.weights) - 2
    np.testing.assert_array_equal(five.get_layer("stem_conv").kernel, model.get_layer("stem_conv").kernel)


def test_a_backbone_alone_and_another_decoder(saved, tmp_path: Path) -> None:
    """Only what the file has is taken, and the rest of the model keeps its values."""
    backbone = perturb(backbones.create("efficientnet_b0", weights="none", taps="output", levels=("P1", "P2")))
    save_file(backbone, tmp_path / "backbone.weights.h5")
    unet = build("unet")
    before = [np.asarray(weight) for weight in unet.get_layer("decoder").weights]
    report = load_file(unet, tmp_path / "backbone.weights.h5")
    assert len(report.loaded) == len(backbone.weights)
    assert all(name.startswith(("decoder/", "head/")) for name in report.missing)
    for weight, old in zip(unet.get_layer("decoder").weights, before, strict=True):
        np.testing.assert_array_equal(weight, old)
    for layer in backbone.layers:
        for weight, expected in zip(unet.get_layer(layer.name).weights, layer.weights, strict=True):
            np.testing.assert_array_equal(weight, expected, err_msg=weight.path)

    report = load_file(unet, saved[1])  # FPN's pyramid has no place in a U-Net
    taken = {name for name in report.loaded if not name.startswith("head/")}
    assert len(taken) == len(backbone.weights)
    assert "decoder/lateral_P2/0: the model has no such tensor" in report.skipped


@pytest.mark.usefixtures("zero_weights")
def test_another_backbone_is_refused(saved) -> None:
    """All of B0's tensors fit into B1, which only has more blocks: shapes alone would not tell."""
    b1 = backbones.create("efficientnet_b1", weights="none", taps="output", levels=("P1", "P2"))
    with pytest.raises(WeightsError, match="for the backbone efficientnet_b0, but efficientnet_b1 has efficientnet_b1"):
        load_file(b1, saved[1])


@pytest.mark.usefixtures("zero_weights")
def test_another_backbone_is_refused_by_shape_where_the_file_has_no_signature(copy: Path) -> None:
    with h5py.File(copy, "r+") as file:
        del file.attrs["segzoo_graph"]
    model = backbones.create("efficientnet_b3", weights="none", taps="output", levels=("P2",))
    before = model.get_weights()
    with pytest.raises(WeightsError, match=r"made for another network than efficientnet_b3.*stem_"):
        load_file(model, copy)
    for weight, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)  # a refused file leaves no trace


@pytest.mark.usefixtures("zero_weights")
@pytest.mark.parametrize("signed", [True, False])
def test_factors_of_normalisation_are_in_both_networks_or_refused(signed: bool, tmp_path: Path) -> None:
    """Numbers of tensors alone tell a factor from an offset: all have the same shape."""
    bare, factors = (
        backbones.create("inceptionv3", weights="none", levels=("P1",), compat=compat)
        for compat in (None, "torchvision")
    )
    paths = {}
    for name, model in (("bare", bare), ("factors", factors)):
        paths[name] = tmp_path / f"{name}.weights.h5"
        if signed:
            save_file(model, paths[name])
        else:
            model.save_weights(paths[name])
    with pytest.raises(WeightsError, match=r"3 tensors in the file, 4 in .*With compat: torchvision .*Leave .*convert"):
        load_file(factors, paths["bare"])
    with pytest.raises(WeightsError, match=r"4 tensors in the file, 3 in .*with model.compat: torchvision or timm"):
        load_file(bare, paths["factors"])


@pytest.mark.usefixtures("zero_weights")
def test_other_pixels_are_refused(saved) -> None:
    """V2-S wants -1..1: its weights must not be fed with standardised pixels, whatever fits."""
    small = backbones.create("efficientnetv2_s", weights="none", levels=("P1",))
    with pytest.raises(WeightsError, match="fpn_efficientnet_b0, whose pixels are normalised differently"):
        load_file(small, saved[1])


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _no_hdf5(path: Path) -> None:
    path.write_bytes(b"not a weights file at all" * 100)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _text(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        parent = file["layers/conv2d/vars"]
        shape = parent["0"].shape
        del parent["0"]
        parent.create_dataset("0", data=np.full(shape, b"text"))


def _broken_signature(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["segzoo_graph"] = "{"


def _link(path: Path) -> None:
    path.with_name("secret.h5").write_bytes(path.read_bytes())
    with h5py.File(path, "r+") as file:
        del file["layers/conv2d/vars/0"]
        file["layers/conv2d/vars/0"] = h5py.ExternalLink("secret.h5", "layers/conv2d/vars/0")


def _external(path: Path) -> None:
    secret = path.with_name("secret.bin")
    with h5py.File(path, "r+") as file:
        kernel = file["layers/conv2d/vars/0"][...]
        secret.write_bytes(kernel.tobytes())
        del file["layers/conv2d/vars/0"]
        file.create_dataset(
            "layers/conv2d/vars/0", kernel.shape, kernel.dtype, external=[(str(secret), 0, kernel.nbytes)]
        )


@pytest.mark.parametrize("spoil", [_truncate, _no_hdf5, _empty, _text, _broken_signature, _link, _external])
def test_unreadable_files_are_named(spoil: Callable[[Path], None], copy: Path, other: keras.Model) -> None:
    """Links and external storage would read another file of the machine (compare CVE-2026-1669)."""
    spoil(copy)
    with pytest.raises(WeightsError, match=re.escape(f"{copy} cannot be read as an HDF5 weights file")):
        load_file(other, copy)


def test_a_claimed_size_is_not_read(copy: Path, saved, other: keras.Model) -> None:
    """A few bytes of HDF5 may claim a tensor of terabytes; it does not fit, so it is reported and not read."""
    with h5py.File(copy, "r+") as file:
        head = next(group for group in file["layers"].values() if group.name.endswith("segmentation_head"))
        del head["conv/vars/0"]
        head["conv/vars"].create_dataset("0", (1, 1, 128, 2**36), "float32", chunks=(1, 1, 128, 64))
    report = load_file(other, copy)
    assert report.skipped == [
        "head/conv/0: (1, 1, 128, 68719476736) in the file, (1, 1, 128, 3) in the model",
        "head/conv/1: the rest of its layer does not fit",
    ]


@pytest.mark.parametrize("name", ["model.h5", "model.pkl", "weights.pt"])
def test_whole_models_and_pickles_are_not_read(name: str, tmp_path: Path, other: keras.Model) -> None:
    path = tmp_path / name
    path.write_bytes(b"anything")
    with pytest.raises(WeightsError, match=rf"{name} is not a \.weights\.h5 or \.keras file.*can run code"):
        load_file(other, path)


def test_a_whole_model_under_a_weight_files_name_holds_nothing_that_fits(tmp_path: Path, other: keras.Model) -> None:
    path = tmp_path / "whole.weights.h5"
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.save(tmp_path / "whole.h5")
    (tmp_path / "whole.h5").rename(path)
    with pytest.raises(WeightsError, match="holds no tensor"):
        load_file(other, path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none-here.weights.h5"
    with pytest.raises(WeightsError, match=f"{re.escape(str(path))} does not exist"):
        backbones.create("efficientnet_b0", weights=str(path), levels=("P1",))


def test_a_folder_is_refused_with_what_to_give_in_its_place(tmp_path: Path, other: keras.Model) -> None:
    (tmp_path / "best.weights.h5").write_bytes(b"")
    words = r"is a folder, .*best\.weights\.h5, or training\.init_from takes the folder"
    with pytest.raises(WeightsError, match=words):
        load_file(other, tmp_path)


def test_a_failing_save_leaves_the_old_file(saved, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = copy.read_bytes()

    def fail(self, path, *args, **kwargs):
        Path(path).write_bytes(b"half a fi")
        raise OSError("No space left on device")

    monkeypatch.setattr(keras.Model, "save_weights", fail)
    with pytest.raises(OSError, match="No space left"):
        save_file(saved[0], copy)
    assert copy.read_bytes() == before
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]  # and no litter


def test_an_optimizers_state_is_not_saved(saved, tmp_path: Path) -> None:
    """Adam would triple the file."""
    model, path = saved
    twin = keras.Model(model.input, model.output, name=model.name)
    twin.compile("adam", "mse")
    twin.optimizer.build(twin.trainable_variables)
    save_file(twin, tmp_path / "new" / "twin.weights.h5")  # the folder is made
    assert (tmp_path / "new" / "twin.weights.h5").stat().st_size == path.stat().st_size


def test_the_report_counts_or_says_why() -> None:
    assert str(WeightsReport("a.weights.h5", loaded=["x"])) == (
        "weights a.weights.h5: 1 loaded, 0 reshaped, 0 skipped, 0 missing"
    )
    assert str(WeightsReport("none", note="random")) == "weights none: random"


def test_a_file_is_tried_out_first_unless_its_digest_is_known(saved, other: keras.Model, monkeypatch) -> None:
    tried = []

    def fail(path: Path, wanted: dict) -> None:
        tried.append(path)
        raise ValueError("it is damaged in a way that crashes HDF5")

    monkeypatch.setattr(hdf5, "try_out", fail)
    with pytest.raises(WeightsError, match="cannot be read as an HDF5 weights file: it is damaged in a way that"):
        load_file(other, saved[1])
    assert tried == [saved[1]]
    assert load_file(other, saved[1], hashlib.sha256(saved[1].read_bytes()).hexdigest()).loaded
    assert tried == [saved[1]]


def test_a_digest_is_checked_before_the_file_is_parsed(other: keras.Model, copy: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256(copy.read_bytes()).hexdigest()
    assert load_file(other, copy, digest.upper()).loaded
    rubbish = tmp_path / "rubbish.weights.h5"
    rubbish.write_bytes(b"not HDF5 at all")
    with pytest.raises(WeightsError, match=rf"its sha256 is [0-9a-f]{{64}}, expected was {digest}. It was not read"):
        load_file(other, rubbish, digest)


@pytest.fixture(scope="module")
def archive(saved, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("archive") / "model.keras"
    saved[0].save(path)
    return path


def repacked(archive: Path, path: Path, **members: bytes | None) -> Path:
    """Copy of an archive with other contents for some members, without those that are None."""
    changed = {name.replace("_", ".", 1).replace("_", "."): content for name, content in members.items()}
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            content = changed.get(name, source.read(name))
            if content is not None:
                target.writestr(name, content)
    return path


def test_of_a_keras_archive_only_the_weights_are_read(
    saved, archive: Path, other: keras.Model, tmp_path, pixels
) -> None:
    """Layers that would run code when built (compare CVE-2024-3660) are text here, and nothing more."""
    load_file(other, archive)
    np.testing.assert_array_equal(other(pixels(32, 32)), saved[0](pixels(32, 32)))
    trap = tmp_path / "trap"
    with zipfile.ZipFile(archive) as file:
        description = json.loads(file.read("config.json"))
    description["config"]["layers"].append(
        {"module": "os", "class_name": "system", "registered_name": None, "config": {"command": f"touch {trap}"}}
    )
    evil = repacked(archive, tmp_path / "evil.keras", config_json=json.dumps(description).encode())
    assert len(load_file(other, evil).loaded) == len(other.weights)
    assert not trap.exists()


def test_a_keras_archive_made_for_other_pixels_is_refused(archive: Path, other: keras.Model, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        description = file.read("config.json").decode()
    scaled = json.loads(description)
    layer = next(layer for layer in scaled["config"]["layers"] if layer["config"]["name"] == "preprocessing")
    layer["config"]["scale"] = 1.0
    path = repacked(archive, tmp_path / "scaled.keras", config_json=json.dumps(scaled).encode())
    with pytest.raises(WeightsError, match="normalised differently"):
        load_file(other, path)


def test_unreadable_archives_are_named(archive: Path, other: keras.Model, tmp_path: Path) -> None:
    torn = tmp_path / "torn.keras"
    torn.write_bytes(archive.read_bytes()[:5000])
    bomb = tmp_path / "bomb.keras"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        file.writestr("config.json", "{}")
        with file.open("model.weights.h5", "w") as member:
            for _ in range(300):
                member.write(bytes(2**20))
    empty = repacked(archive, tmp_path / "empty.keras", model_weights_h5=None)
    broken = repacked(archive, tmp_path / "broken.keras", model_weights_h5=b"no HDF5 at all" * 100)
    odd = repacked(archive, tmp_path / "odd.keras", config_json=b"{")
    before = other.get_weights()
    for path, words in (
        (torn, "not a zip file"),
        (bomb, r"claim 314,572,800 bytes"),
        (empty, "no item named 'model.weights.h5'"),
        (broken, r"model\.weights\.h5 in .*broken\.keras cannot be read as an HDF5"),
        (odd, "cannot be read as a .keras file"),
    ):
        with pytest.raises(WeightsError, match=words):
            load_file(other, path)
    for left, right in zip(before, other.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)


def test_parts_that_shall_keep_their_weights_do(saved, other: keras.Model) -> None:
    head = [np.asarray(weight) for weight in perturb(other).get_layer("head").weights]
    report = load_file(other, saved[1], keep={"head"})
    assert report.missing == ["head/conv/0", "head/conv/1"]
    assert report.skipped == ["head/conv/0: not wanted", "head/conv/1: not wanted"]
    for weight, old in zip(other.get_layer("head").weights, head, strict=True):
        np.testing.assert_array_equal(weight, old)
