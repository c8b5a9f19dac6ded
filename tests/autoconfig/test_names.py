"""Names and colours from the files that tools write beside masks."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from segzoo.autoconfig import class_names, look, propose, try_out

SIZE = (40, 48)
COLORS = [(0, 0, 0), (128, 64, 0), (0, 200, 30)]


@pytest.fixture
def write(tmp_path):
    """Write six images, and masks of three labels: as indices, with a palette, or as colours."""

    def write(kind="index"):
        for part in ("photos", "labels"):
            (tmp_path / part).mkdir(exist_ok=True)
        for n in range(6):
            rng = np.random.default_rng(n)
            Image.fromarray(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)).save(tmp_path / "photos" / f"a{n}.png")
            mask = np.zeros(SIZE, np.uint8)
            mask[4:20, n : n + 9], mask[25:30, 10:30] = 1, 2
            picture = Image.fromarray(np.array(COLORS, np.uint8)[mask] if kind == "colours" else mask)
            if kind == "palette":
                picture.putpalette([value for color in COLORS for value in color])
            picture.save(tmp_path / "labels" / f"a{n}.png")
        return tmp_path / "photos", tmp_path / "labels"

    return write


CVAT = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ngrass:0,200,30::\nroad:128,64,0::\ntree:9,9,9::\n"


def test_cvats_table_names_colours_and_adds_those_that_no_mask_shows(write, tmp_path):
    places = write("colours")
    (tmp_path / "labelmap.txt").write_text(CVAT)
    found = look(*places)
    assert found.names == ["background", "grass", "road", "tree"]
    assert found.palette == [[0, 0, 0], [0, 200, 30], [128, 64, 0], [9, 9, 9]]
    assert found.pixels[1] == 6 * 5 * 20 and found.pixels[3] == 0
    assert '"grass": [0, 200, 30]' in propose(found) and "and colours of labelmap.txt" in propose(found)


def test_cvats_table_names_the_indices_of_a_palette(write, tmp_path):
    places = write("palette")
    (tmp_path / "labelmap.txt").write_text(CVAT)
    found = look(*places)
    assert found.masks == {"format": "index"} and found.names == ["background", "road", "grass"]
    assert found.palette == [list(color) for color in COLORS]
    assert "palette: [[0, 0, 0], [128, 64, 0], [0, 200, 30]]" in propose(found)


def test_a_palette_gives_colours_without_any_table(write):
    found = look(*write("palette"))
    assert found.names is None and found.palette == [list(color) for color in COLORS]


@pytest.mark.parametrize(
    ("name", "text", "names"),
    [
        ("labels/_classes.csv", "Pixel Value, Class\n0, background\n1, fish\n2, cup\n3, eel\n",
         ["background", "fish", "cup", "eel"]),
        ("classes.txt", "ground\nroad\ngrass\n", ["ground", "road", "grass"]),
        ("labels/classes.txt", "road\ngrass\n", ["background", "road", "grass"]),
        ("labels.txt", "__ignore__\n_background_\nroad\ngrass\n", ["_background_", "road", "grass"]),
    ],
)  # fmt: skip
def test_lists_and_tables_name_indices(write, tmp_path, name, text, names):
    places = write()
    (tmp_path / name).write_text(text)
    found = look(*places)
    assert found.names == names and found.classes == len(names) == len(found.pixels)
    try_out(found, found.names)  # reads the masks with these classes


def test_values_of_a_table_are_those_of_the_masks(write, tmp_path):
    images, masks = write()
    for path in masks.iterdir():
        values = np.array([7, 40, 90], np.uint8)[np.asarray(Image.open(path))]
        Image.fromarray(values).save(path)
    (masks / "_classes.csv").write_text("7,ground\n40,road\n90,grass\n")
    found = look(images, masks)
    assert found.names == ["ground", "road", "grass"]
    assert '"values": {"ground": 7, "road": 40, "grass": 90}' in propose(found)


@pytest.mark.parametrize(
    ("kind", "name", "text", "why"),
    [
        ("colours", "labelmap.txt", "sky:1,2,3::\nroad:0,0,0::\n", "colours that it lacks"),
        ("colours", "label_colors.txt", "0 0 0 a\n128 64 0 a\n0 200 30 b\n", "twice"),
        ("colours", "classes.txt", "a\nb\nc\n", "no order for them"),
        ("index", "labelmap.txt", CVAT, "no colours to compare"),
        ("index", "classes.txt", "one\n", "1 names, and the masks 3 classes"),
        ("index", "classes.txt", "a\na\nb\n", "twice"),
        ("index", "_classes.csv", "0,a\n1,b\n", "values that it lacks, such as 2"),
        ("index", "class_dict.csv", "no table at all", "cannot be read"),
    ],
)
def test_a_file_that_does_not_fit_is_named_and_not_used(write, tmp_path, kind, name, text, why):
    places = write(kind)
    (tmp_path / name).write_text(text)
    found = look(*places)
    assert found.names is None and class_names(found)[0] == ["class_0", "class_1", "class_2"]
    assert len(found.remarks) == 1 and name in found.remarks[0] and why in found.remarks[0]
    assert f"# NOTE: {found.remarks[0]}" in propose(found)
