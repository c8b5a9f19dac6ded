"""The recipes of docs/custom-masks.md for data without split folders, on eight samples of four patients."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.config import load_config
from segzoo.errors import DataError
from segzoo.training import assemble

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
    assert list(RECIPES) == ["share", "fold", "lists", "csv", "rare"]


@pytest.mark.parametrize("name", RECIPES)
def test_every_sample_is_in_one_split(clinic, name):
    config = configured(name)
    train, val = (assemble.build_source(config, split) for split in ("train", "val"))
    assert len(val) == 2 and sorted([*train.ids, *val.ids]) == NAMES
    if name in ("lists", "csv"):
        assert val.ids == NAMES[6:]
    if name == "share":
        assert len({sample[:2] for sample in val.ids}) == 1, "a patient is in both splits"
        assert sum((val[index].mask == 2).any() for index in range(2)) == 1, "a share of the third class"


def test_rare_classes_come_cropped_repeated_and_cached(clinic):
    config = configured("rare").model_copy()
    source = assemble.build_source(config, "train")
    batches = assemble.train_batches(config, source)
    images, masks = batches.batch(0)
    assert images.shape == (8, 32, 32, 3) and masks.shape == (8, 32, 32)
    assert batches.steps_per_epoch >= 3, "six samples four times in batches of eight"
    assert list(Path("cache").rglob("*.np*")), "decoded samples"


def test_an_image_in_both_lists_is_named(clinic):
    text = (clinic / "train.txt").read_text().splitlines()
    (clinic / "val.txt").write_text("\n".join(text[:2]))
    with pytest.raises(DataError, match=r"p0_0\.jpg and 1 more stand in both clinic/train\.txt and clinic/val\.txt"):
        assemble.build_source(configured("lists"), "val")
