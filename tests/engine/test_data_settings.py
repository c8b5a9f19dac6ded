"""Effect of data.split, repeats, oversample, crop and disk_cache of a configuration."""

import cv2
import numpy as np
import pytest
from ruamel.yaml import YAML

from segzoo.config import load_config
from segzoo.engine import builders
from segzoo.errors import ConfigError


@pytest.fixture
def config(tmp_path):
    generated = {"source": "generated", "size": [64, 64], "train_count": 20}

    def load(**data):
        settings = {
            "model": {"decoder": "unet", "backbone": "mobilenet"},
            "data": {"batch_size": 4, "workers": 0, **({} if "source" in data else generated), **data},
            "training": {"epochs": 1},
        }
        path = tmp_path / "run.yaml"
        YAML().dump(settings, path)
        return load_config(path)

    return load


def test_a_fraction_splits_one_data_set(config):
    settings = config(split={"fraction": 0.25, "stratify": True})
    train, val = (builders.build_source(settings, split) for split in ("train", "val"))
    assert len(train) == 15 and len(val) == 5 and not set(train.ids) & set(val.ids)
    assert train.fingerprint() != val.fingerprint()


def test_repeats_and_oversampling_lengthen_the_epoch(config):
    def steps(**data):
        settings = config(**data)
        return builders.train_batches(settings, builders.build_source(settings, "train")).steps_per_epoch

    assert steps() == 5
    assert steps(repeats=3) == 15
    assert steps(oversample=1.0) > 5


def test_crops_and_the_disk_cache_are_used(config, tmp_path):
    settings = config(crop={"size": [32, 48]}, disk_cache={"folder": str(tmp_path / "cache")}, cache_mb=0)
    batches = builders.train_batches(settings, builders.build_source(settings, "train"))
    images, masks = batches.batch(0)
    assert images.shape == (4, 32, 48, 3) and masks.shape == (4, 32, 48)
    assert len(list((tmp_path / "cache").glob("*/*.npy"))) == 4
    np.testing.assert_array_equal(batches.batch(0)[0], images)


def test_lists_of_images_and_masks_are_the_splits(config, tmp_path):
    for number in range(3):
        for kind, channels in (("photos", 3), ("labels", 1)):
            (tmp_path / kind).mkdir(exist_ok=True)
            picture = np.full((32, 40, channels), number, np.uint8)
            assert cv2.imwrite(str(tmp_path / kind / f"{number}.png"), picture)
    lists = {}
    for split, numbers in (("train", (0, 2)), ("val", (1,))):
        lists[split] = str(tmp_path / f"{split}.txt")
        lines = [f"photos/{number}.png labels/{number}.png" for number in numbers]
        (tmp_path / f"{split}.txt").write_text("\n".join(lines), encoding="utf-8")
    settings = config(source="folder", root=str(tmp_path), classes=["a", "b", "c"], split=lists)
    train, val = (builders.build_source(settings, split) for split in ("train", "val"))
    assert train.ids == ["0", "2"] and val.ids == ["1"] and (train[1].mask == 2).all()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"split": {"fraction": 0.2, "fold": {"index": 0, "of": 5}}}, "give one of fraction, fold"),
        ({"split": {"seed": 3}}, "say how to split"),
        ({"split": {"train": "a.txt"}}, "train and val are given together"),
        ({"split": {"csv": "a.csv", "group": "ward"}}, "group needs fraction or fold"),
        ({"split": {"fraction": 0.2, "group": "("}}, "is no regular expression"),
        ({"split": {"fold": {"index": 5, "of": 5}}}, "5 is no fold of 5"),
        ({"split": {"fraction": 1.0}}, "data.split.fraction"),
        ({"crop": {"size": [64, 64], "background": ["sky"]}}, "data.crop.background.0"),
        ({"crop": {"strategy": "foreground"}}, "data.crop.size"),
        ({"repeats": 0}, "data.repeats"),
        ({"oversample": 2}, "data.oversample"),
    ],
)
def test_settings_that_make_no_sense_are_refused_with_their_place(config, data, message):
    with pytest.raises(ConfigError, match=message):
        config(**data)


@pytest.mark.parametrize(
    ("settings", "label"),
    [
        ({"mode": "binary", "classes": "[rest, road]", "masks": "binary"}, 0),
        ({"classes": "[sky, _background_, road]"}, 1),
        ({"classes": "[sky, road, Unlabeled]"}, 2),
        ({"classes": "[sky, road]"}, None),
        ({"classes": "[rest, road, car]", "masks": "labelme"}, 0),
        ({"classes": "[sky, rest, car]", "masks": "{format: coco, background: rest}"}, 1),
        ({"classes": "[sky, road, car]", "masks": "{format: labelme, background: ignore}"}, None),
        ({"classes": "[sky, rest, car]", "masks": "{format: per_class, background: rest}"}, 1),
        ({"classes": "[sky, road]", "masks": "per_class"}, None),
        ({"mode": "multilabel", "classes": "[sky, road]", "masks": "coco"}, None),
    ],
)
def test_the_untinted_class_is_what_lies_behind_the_others(tmp_path, settings, label):
    (tmp_path / "run.yaml").write_text(
        "model: {decoder: fpn, backbone: resnet18}\ntraining: {epochs: 60}\n"
        f"mode: {settings.get('mode', 'multiclass')}\nloss: {{dice: 1.0}}\n"
        f"data: {{source: folder, root: x, classes: {settings['classes']}, masks: {settings.get('masks', 'index')}}}\n"
    )
    assert builders.background(load_config(tmp_path / "run.yaml")) == label
