"""Names and encodings of LabelMe and COCO files: what `init` writes passes `check-data`, or the JSON is named."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.autoconfig import class_names, look_at_names, propose, save, try_out
from segzoo.autoconfig.trial import source_of
from segzoo.config import load_config
from segzoo.data import check_splits, split
from segzoo.errors import ConfigError, DataError

CORNERS = [[4, 3], [20, 3], [20, 18], [4, 18]]


def images(folder: Path) -> Path:
    folder.mkdir()
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 256, (36, 48, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"a{number}.png")
    return folder


def labelme(root: Path, label: object = "cat", encoding: str = "utf-8") -> tuple[Path, Path]:
    """Six images with a rectangle each, one of them of this label."""
    (root / "json").mkdir()
    for number in range(6):
        shape = {"label": label if number == 1 else "cat", "points": CORNERS, "shape_type": "polygon"}
        text = json.dumps({"shapes": [shape], "imageHeight": 36, "imageWidth": 48})
        (root / "json" / f"a{number}.json").write_bytes(text.encode(encoding))
    return images(root / "images"), root / "json"


def coco(root: Path, edit: Callable[[dict], object] = lambda content: None, encoding: str = "utf-8") -> tuple:
    """Six images with a rectangle each, of two categories in turn."""
    content = {
        "images": [{"id": number, "file_name": f"a{number}.png", "height": 36, "width": 48} for number in range(6)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {
                "id": n,
                "image_id": n,
                "category_id": 1 + n % 2,
                "segmentation": [np.ravel(CORNERS).tolist()],
                "iscrowd": 0,
            }
            for n in range(6)
        ],
    }
    edit(content)
    (root / "c.json").write_bytes(json.dumps(content).encode(encoding))
    return images(root / "images"), root / "c.json"


def proposed(root: Path, places: tuple[Path, Path]) -> tuple[list[str], list[str]]:
    """Do what `init` does, and what check-data finds wrong; names of the classes and messages."""
    found = look_at_names(*places)
    names, _ = class_names(found)
    try_out(found, names)
    save(propose(found), root / "p.yaml", found)
    classes = load_config(root / "p.yaml").data.classes
    findings = check_splits(split(source_of(found, names), fraction=0.5), workers=1)
    return classes, [problem.message for problem in findings.problems if problem.severity == "error"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_encodings_that_readers_take(encoding: str, tmp_path: Path) -> None:
    assert proposed(tmp_path, labelme(tmp_path, encoding=encoding)) == (["background", "cat"], [])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_encodings_of_coco(encoding: str, tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    assert proposed(tmp_path, coco(tmp_path, encoding=encoding)) == (["background", "cat", "dog"], [])


@pytest.mark.parametrize("name", ["background", "_background_"])
def test_a_category_that_is_the_background_leaves_the_rest_unlabelled(name: str, tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    places = coco(tmp_path, lambda content: content["categories"][1].update(name=name))
    assert proposed(tmp_path, places) == ([name, "cat"], [])
    assert load_config(tmp_path / "p.yaml").data.masks == {"format": "coco", "background": "ignore"}
    found = look_at_names(*places)
    assert set(np.unique(source_of(found, found.names)[1].mask)) == {0, 255}
    assert found.pixels[0] == found.pixels[1] > 0


def test_a_background_without_a_pixel_is_what_no_object_covers(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    places = coco(tmp_path, lambda content: content["categories"].append({"id": 3, "name": "background"}))
    assert proposed(tmp_path, places) == (["background", "cat", "dog"], [])
    assert load_config(tmp_path / "p.yaml").data.masks == {"format": "coco"}


ODD = {
    "nothing": ("", "it is empty"),
    "two lines": ("a\nb", "'\\\\n' at position 1"),
    "half a character": ("\ud800", "at position 0"),
    "5,000 characters": ("x" * 5000, "5,000 characters, where 1 to 1,000 are due"),
}


@pytest.mark.parametrize("what", ODD)
def test_labels_that_name_no_class_are_named_with_their_file(what: str, tmp_path: Path) -> None:
    label, why = ODD[what]
    with pytest.raises(DataError, match=why) as refused:
        look_at_names(*labelme(tmp_path, label))
    assert str(refused.value).startswith(f"{tmp_path}/json/a1.json: shape 1: its label is ")
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("what", ODD)
def test_categories_that_name_no_class_are_named_with_their_file(what: str, tmp_path: Path) -> None:
    name, why = ODD[what]
    with pytest.raises(DataError, match=why) as refused:
        look_at_names(*coco(tmp_path, lambda content: content["categories"][1].update(name=name)))
    assert str(refused.value).startswith(f"{tmp_path}/c.json: categories[1].name is ")


def test_more_classes_than_the_usual_ignore_index_leaves_room_for(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")

    def many(content: dict) -> None:
        content["categories"] += [{"id": 10 + number, "name": f"c{number}"} for number in range(400)]

    classes, errors = proposed(tmp_path, coco(tmp_path, many))
    assert len(classes) == 403 and errors == []
    assert load_config(tmp_path / "p.yaml").data.ignore_index == 65535


def test_what_a_configuration_refuses_is_said_of_the_data(tmp_path: Path) -> None:
    found = look_at_names(*labelme(tmp_path))
    with pytest.raises(ConfigError) as refused:
        save(propose(found).replace("unet", "unit"), tmp_path / "p.yaml", found)
    message = str(refused.value)
    assert f"{tmp_path}/json (LabelMe, 6 files with 1 labels) makes no configuration" in message
    assert f"{tmp_path}/p.yaml:" in message and f"/.{os.getpid()}-" not in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "json"]
