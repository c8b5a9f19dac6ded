"""Functions over a configuration: check_data, init and find_learning_rate, and how configurations are given."""

import json

import numpy as np
import pytest
from PIL import Image

import segzoo
from segzoo.config import Config, load_config, resolve_config
from segzoo.data import Findings
from segzoo.errors import ConfigError, DataError, RunError, SegzooError

RECIPE = """
model: {decoder: fpn, backbone: resnet18, weights: none}
data: {source: folder, root: set, classes: [sky, road], batch_size: 2, workers: 0}
training: {epochs: 1}
"""
GENERATED = """
model: {decoder: fpn, backbone: resnet18, weights: none}
data: {source: generated, size: [32, 32], train_count: 8, val_count: 4, batch_size: 4}
training: {epochs: 1}
loss: {cross_entropy: 1.0}
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A working directory with a recipe and a sound data set of two samples a split."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (tmp_path / "set" / split / kind).mkdir(parents=True)
        for name in ("a", "b"):
            picture = Image.fromarray(rng.integers(0, 256, (40, 48, 3), np.uint8))
            picture.save(tmp_path / "set" / split / "images" / f"{name}.png")
            Image.fromarray(np.eye(40, 48, dtype=np.uint8)).save(tmp_path / "set" / split / "masks" / f"{name}.png")
    (tmp_path / "mine.yaml").write_text(RECIPE)
    (tmp_path / "drawn.yaml").write_text(GENERATED)
    return tmp_path


def test_a_configuration_is_a_file_a_recipe_or_a_config_with_overrides(home):
    read = resolve_config("mine.yaml", ["seed=3"])
    assert read == load_config("mine.yaml", ["seed=3"]) and resolve_config(read) is read
    assert resolve_config(read, ["training.epochs=7", "data.batch_size=1"]) == load_config(
        "mine.yaml", ["seed=3", "training.epochs=7", "data.batch_size=1"]
    )
    assert read.training.epochs == 1  # the one given is left as it is
    assert resolve_config("unet_b0").name == "unet_b0"
    with pytest.raises(ConfigError, match=r"override 'training.epoch=7'.*epochs"):
        resolve_config(read, ["training.epoch=7"])
    with pytest.raises(ConfigError, match=r"not \{'model': 3\}"):
        resolve_config({"model": 3})


def test_check_data_returns_findings_prints_nothing_and_mends(home, capfd):
    steps = []
    found = segzoo.check_data("mine.yaml", progress=lambda *step: steps.append(step))
    assert isinstance(found.findings, Findings) and found.ok and steps[0] == (0, 4) and steps[-1] == (4, 4)
    assert found.report.resolve() == home / "runs" / "mine_data" / "report.html" and found.report.is_file()
    bad = np.zeros((40, 48), np.uint8)
    bad[:2, :3] = 7
    Image.fromarray(bad).save(home / "set" / "val" / "masks" / "a.png")
    found = segzoo.check_data(load_config("mine.yaml"), report=False, fix="mended")
    assert not found.ok and found.report is None
    (problem,) = found.problems["label"]
    assert problem.id == "a" and "6 pixel" in problem.message
    assert (found.repair.copied, found.repair.left_out) == (3, 1) and (home / "mended" / "repair.json").is_file()
    assert segzoo.check_data("mine.yaml", ["data.root=mended"], report="here").ok
    assert json.loads((home / "here" / "report.json").read_text())["ok"] is True
    with pytest.raises(DataError, match="new or empty folder"):
        segzoo.check_data("mine.yaml", report=False, fix="mended")
    with pytest.raises(SegzooError, match=r"copies all samples of folders .*; the samples of drawn are generated"):
        segzoo.check_data("drawn.yaml", report=False, fix="more")
    for name, line in (("one.txt", "a"), ("two.txt", "b")):
        (home / name).write_text(line)
    listed = ["data.root=set/train", "data.split={train: one.txt, val: two.txt}"]
    with pytest.raises(SegzooError, match=r"samples of mine are listed by data.split.train .* out of the lists\."):
        segzoo.check_data("mine.yaml", listed, report=False, fix="more")
    with pytest.raises(SegzooError, match=r"training.overfit leaves most samples out.*--set training.overfit=null"):
        segzoo.check_data("mine.yaml", ["training.overfit=1"], report=False, fix="more")
    assert not (home / "more").exists()
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("layout", "split"),
    [
        ({}, "{fraction: 0.4}"),
        ({}, "{fold: {index: 1, of: 3}, group: '(.)'}"),
        ({}, "{csv: table.csv}"),
        ({"image_dir": ".", "mask_dir": ".", "mask_suffix": "_mask"}, "{fraction: 0.4, test_fraction: 0.2}"),
    ],
)
def test_data_without_split_folders_are_mended_and_split_as_before(home, capsys, layout, split):
    """A wrong label, an image without a mask, one of two of a stem and a copy are left out; what is left is taken."""
    images, masks = (home / "all" / layout.get(key, key[:-4] + "s") for key in ("image_dir", "mask_dir"))
    rng = np.random.default_rng(1)
    for name in "abcdefghij":
        for folder in (images, masks):
            folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 48, 3), np.uint8)).save(images / f"{name}.png")
        suffix = layout.get("mask_suffix", "")
        Image.fromarray(np.eye(40, 48, dtype=np.uint8)).save(masks / f"{name}{suffix}.png")
    Image.fromarray(np.full((40, 48), 7, np.uint8)).save(masks / f"c{suffix}.png")
    (masks / f"e{suffix}.png").unlink()
    (images / "h.png").write_bytes((images / "g.png").read_bytes())
    Image.new("RGB", (48, 40)).save(images / "j.jpg")
    rows = [f"{name}.png,{'val' if name in 'afgh' else 'train'}" for name in "abcdefghij"]
    (home / "table.csv").write_text("\n".join(["image,split", *rows]))
    given = ["data.root=all", f"data.split={split}", *(f"data.{key}={value}" for key, value in layout.items())]
    found = segzoo.check_data("mine.yaml", given, report=False, fix="mended")
    assert {"label", "unpaired", "same_stem"} <= found.problems.keys()
    assert (found.repair.copied, found.repair.turned, found.repair.left_out) == (6, 0, 3)
    left_out = {entry["id"] for entry in json.loads(found.repair.record.read_text())}
    assert {"c", "j"} < left_out and left_out & {"g", "h"}
    mended = segzoo.check_data("mine.yaml", [*given, "data.root=mended"], report=False)
    assert mended.ok and not mended.problems.keys() - {"absent_class"}
    assert sum(report.samples for report in mended.findings.splits.values()) == 6
    assert mended.findings.splits.keys() == found.findings.splits.keys()


@pytest.mark.parametrize("outside", ["../images", "{home}/set/train/images"])
def test_a_copy_is_never_written_among_the_originals(home, outside):
    before = {path: path.read_bytes() for path in home.rglob("*.png")}
    given = ["data.root=set/train/masks", "data.split={fraction: 0.5}", "data.mask_dir=."]
    with pytest.raises(DataError, match=r"images leads out of it. Set data.root to a folder that holds"):
        segzoo.check_data(
            "mine.yaml", [*given, f"data.image_dir={outside.format(home=home)}"], report=False, fix="mended"
        )
    assert {path: path.read_bytes() for path in home.rglob("*.png")} == before


def test_a_copy_that_cannot_be_made_is_refused_before_the_samples_are_read(home, monkeypatch):
    (home / "taken").mkdir()
    (home / "taken" / "file").touch()
    steps = []
    with pytest.raises(DataError, match="taken is there already"):
        segzoo.check_data("mine.yaml", fix="taken", progress=lambda *step: steps.append(step))
    assert steps == [] and not (home / "runs").exists()


def test_init_returns_the_evidence_and_a_file_that_loads(home, capfd):
    proposal = segzoo.init("set/train/images", "set/train/masks", "new.yaml", classes=["sky", "road"])
    assert proposal.path.name == "new.yaml" and (proposal.found.pairs, proposal.found.classes) == (2, 2)
    config = load_config(proposal.path)
    assert isinstance(config, Config) and config.data.classes == ["sky", "road"]
    before = proposal.path.read_text()
    with pytest.raises(SegzooError, match="is there already"):
        segzoo.init("set/train/images", "set/train/masks", "new.yaml")
    assert proposal.path.read_text() == before
    segzoo.init("set/train/images", "set/train/masks", "new.yaml", overwrite=True)
    assert load_config("new.yaml").data.classes == ["background", "object"]
    with pytest.raises(SegzooError, match=r"must end in \.yaml"):
        segzoo.init("set/train/images", "set/train/masks", "new.txt")
    assert capfd.readouterr().out == ""


def test_find_learning_rate_takes_a_config_and_draws_only_where_it_should(home, small_network, eager, capfd):
    config = load_config("drawn.yaml")
    found = segzoo.find_learning_rate(config, start=1e-9, end=1e-8, updates=10, out=False)
    assert len(found.rates) == 10 and found.figure is None and not (home / "runs").exists()
    assert found.rates[0] == pytest.approx(1e-9) and found.rates[-1] == pytest.approx(1e-8)
    drawn = segzoo.find_learning_rate("drawn.yaml", ["name=other"], start=1e-6, end=1e-3, updates=10)
    assert drawn.figure is not None and drawn.figure.name == "other.lr.png" and drawn.figure.is_file()
    with pytest.raises(RunError, match="0 < start < end"):
        segzoo.find_learning_rate(config, start=1.0, end=0.1, out=False)
    assert capfd.readouterr().out == ""
