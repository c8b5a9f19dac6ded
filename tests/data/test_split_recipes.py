"""The recipes of docs/custom-masks.md for data without split folders, on eight samples of four patients."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.config import load_config
from segzoo.engine import builders
from segzoo.errors import ConfigError, DataError

DOCUMENT = (Path(__file__).parents[2] / "docs" / "custom-masks.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"```yaml\n# split: (\w+)\n(.*?)```", DOCUMENT, re.DOTALL))
NAMES = [f"p{number // 2}_{number}" for number in range(8)]


@pytest.fixture
def clinic(tmp_path, monkeypatch):
    """Two samples of each of four patients; the third class is in the first sample of each."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "clinic"
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for number, name in enumerate(NAMES):
        Image.fromarray(np.full((40, 48, 3), 20 * number, np.uint8)).save(root / "images" / f"{name}.jpg")
        mask = np.zeros((40, 48), np.uint8)
        mask[4:14, 6:20] = 1
        mask[20:22, 30:32] = 2 * (number % 2 == 0)
        Image.fromarray(mask).save(root / "masks" / f"{name}.png")
    lines = [f"/images/{name}.jpg /masks/{name}.png" for name in NAMES]
    (root / "train.txt").write_text("\n".join(lines[:6]))
    (root / "val.txt").write_text("\n".join(lines[6:]))
    rows = [f"{name}.jpg,{'val' if number > 5 else 'train'}" for number, name in enumerate(NAMES)]
    (root / "samples.csv").write_text("image,split\n" + "\n".join(rows))
    return root


def configured(name):
    head = "model: {decoder: unet, backbone: efficientnet_b0}\ntraining: {epochs: 20}\n"
    Path("run.yaml").write_text(head + RECIPES[name], encoding="utf-8")
    return load_config("run.yaml")


def test_the_page_has_these_recipes():
    assert list(RECIPES) == ["share", "fold", "lists", "csv", "test", "rare"]


@pytest.mark.parametrize("name", RECIPES)
def test_every_sample_is_in_one_split(clinic, name):
    config = configured(name)
    train, val = (builders.build_source(config, split) for split in ("train", "val"))
    test = builders.build_source(config, "test").ids if builders.has_test_split(config) else []
    assert len(val) == 2 and sorted([*train.ids, *val.ids, *test]) == NAMES
    assert len({sample[:2] for sample in test}) == len(test) / 2 == (name == "test")
    if name in ("lists", "csv"):
        assert val.ids == NAMES[6:]
    if name == "share":
        assert len({sample[:2] for sample in val.ids}) == 1, "a patient is in both splits"
        assert sum((val[index].mask == 2).any() for index in range(2)) == 1, "a share of the third class"


def test_a_test_split_is_a_list_a_word_in_the_table_or_a_folder(clinic):
    lists = configured("lists")
    assert not builders.has_test_split(lists) and not builders.has_test_split(configured("csv"))
    for name in ("lists", "csv", "fold"):
        with pytest.raises(DataError, match=r"There is no test split.*data\.test_split"):
            builders.build_source(configured(name), "test")
    for kind in ("images", "masks"):
        (clinic / "exam" / kind).mkdir(parents=True)
        suffix = ".jpg" if kind == "images" else ".png"
        (clinic / "exam" / kind / f"new{suffix}").write_bytes((clinic / kind / f"p0_0{suffix}").read_bytes())
    lines = (clinic / "train.txt").read_text().splitlines()
    (clinic / "train.txt").write_text("\n".join(lines[:4]))
    (clinic / "test.txt").write_text("\n".join(lines[4:]))
    table = (clinic / "samples.csv").read_text().replace("p0_0.jpg,train", "p0_0.jpg,Test")
    (clinic / "samples.csv").write_text(table)
    for name, override, ids in (
        ("lists", "data.split.test=clinic/test.txt", NAMES[4:6]),
        ("csv", "seed=0", NAMES[:1]),
        ("csv", "data.test_split=exam", ["new"]),
        ("fold", "data.test_split=exam", ["new"]),
    ):
        configured(name)
        config = load_config("run.yaml", [override])
        assert builders.has_test_split(config)
        assert builders.build_source(config, "test").ids == ids
        others = [*builders.build_source(config, "train").ids, *builders.build_source(config, "val").ids]
        assert not set(ids) & set(others)
    (clinic / "test.txt").write_text("\n".join(lines[3:]))
    configured("lists")
    with pytest.raises(DataError, match=r"p1_3\.jpg stands in both clinic/train\.txt and clinic/test\.txt"):
        builders.build_source(load_config("run.yaml", ["data.split.test=clinic/test.txt"]), "train")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data.split={train: a, val: b, test_fraction: 0.2}", "test_fraction needs fraction or fold"),
        ("data.split={fraction: 0.5, test_fraction: 0.5}", "leaves no sample to train on"),
        ("data.split={fraction: 0.5, test: a}", "needs the lists train and val"),
    ],
)
def test_what_does_not_go_together_is_refused(clinic, override, said):
    configured("share")
    with pytest.raises(ConfigError, match=said):
        load_config("run.yaml", [override])


def test_rare_classes_come_cropped_repeated_and_cached(clinic):
    config = configured("rare").model_copy()
    source = builders.build_source(config, "train")
    batches = builders.train_batches(config, source)
    images, masks = batches.batch(0)
    assert images.shape == (8, 32, 32, 3) and masks.shape == (8, 32, 32)
    assert batches.steps_per_epoch >= 3, "six samples four times in batches of eight"
    assert list(Path("cache").rglob("*.np*")), "decoded samples"


def test_an_image_in_both_lists_is_named(clinic):
    text = (clinic / "train.txt").read_text().splitlines()
    (clinic / "val.txt").write_text("\n".join(text[:2]))
    with pytest.raises(DataError, match=r"p0_0\.jpg and 1 more stand in both clinic/train\.txt and clinic/val\.txt"):
        builders.build_source(configured("lists"), "val")
