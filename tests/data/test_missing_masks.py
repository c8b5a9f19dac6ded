"""Images without a mask: background for formats of objects, counted aloud, and an error where that is asked for."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.data import FolderSource, Labels, check_splits, create_format, remarks, split
from segzoo.data.repair import repair
from segzoo.errors import ConfigError, DataError

CLASSES = ("rest", "cat", "dog")
SIZE = (24, 32)
RNG = np.random.default_rng(0)
ORIENTATION = 0x0112  # the EXIF tag


@pytest.fixture
def root(tmp_path) -> Path:
    (tmp_path / "images").mkdir()
    for name in "abcd":
        Image.fromarray(RNG.integers(0, 256, (*SIZE, 3), np.uint8)).save(tmp_path / "images" / f"{name}.png")
    return tmp_path


def square(label: int) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    mask[4:13, 4:13] = label
    return mask


def per_class(root: Path) -> None:
    (root / "masks" / "cat").mkdir(parents=True)
    for name in "ab":
        Image.fromarray(square(255)).save(root / "masks" / "cat" / f"{name}.png")


def instances(root: Path) -> None:
    for name in "ab":
        (root / "masks" / name).mkdir(parents=True)
        Image.fromarray(square(255)).save(root / "masks" / name / "1.png")


def labelme(root: Path) -> None:
    (root / "masks").mkdir()
    for name in "ab":
        shape = {"label": "cat", "points": [[4, 4], [12, 12]], "shape_type": "rectangle"}
        (root / "masks" / f"{name}.json").write_text(json.dumps({"shapes": [shape]}))


def coco(root: Path) -> None:
    pytest.importorskip("pycocotools")
    polygon = {"category_id": 1, "segmentation": [[4, 4, 13, 4, 13, 13, 4, 13]]}
    content = {
        "images": [{"id": n, "file_name": f"{name}.png"} for n, name in enumerate("ab")],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"id": n, "image_id": n, **polygon} for n in range(2)],
    }
    (root / "masks").write_text(json.dumps(content))
    (root / "masks").rename(root / "masks.json")


FORMATS = {"per_class": per_class, "instances": instances, "labelme": labelme, "coco": coco}


def source(root: Path, name: str, multilabel: bool = False, strict: bool = True, exif="neither", **options):
    if name == "instances":
        options = {"label": "cat", **options}
    masks = create_format(name, Labels(CLASSES, 255, "multilabel" if multilabel else "multiclass"), **options)
    place = "masks.json" if name == "coco" else "masks"
    return FolderSource(root, "", CLASSES, mask_dir=place, masks=masks, strict=strict, exif=exif)


@pytest.mark.parametrize("name", FORMATS)
def test_they_are_background_for_formats_of_objects(root, name):
    FORMATS[name](root)
    for options in ({}, {"missing": "background"}):
        made = source(root, name, **options)
        assert made.ids == ["a", "b", "c", "d"] and [len(made.files(n)) for n in range(4)] == [2, 2, 1, 1]
        for index in range(4):
            np.testing.assert_array_equal(made[index].mask, square(1) if index < 2 else square(0))
        assert (
            len(made.remarks) == 1
            and "images: 2 image(s) (c, d) without a mask, taken as background." in made.remarks[0]
        )
    parts = split(made, fraction=0.5)
    assert remarks(parts["train"]) == made.remarks  # told at the start of a training, whatever part it takes
    if name != "instances":
        layers = source(root, name, multilabel=True)
        np.testing.assert_array_equal(layers[3].mask, np.zeros((*SIZE, 3)))
    (root / "images" / "e.png").write_bytes((root / "images" / "a.png").read_bytes())
    assert source(root, name).fingerprint() != made.fingerprint()


@pytest.mark.parametrize("name", FORMATS)
def test_they_are_counted_by_check_data_and_no_error(root, name):
    FORMATS[name](root)
    found = check_splits({"train": source(root, name, strict=False)})
    counted = [problem for problem in found.problems if problem.kind == "no_mask"]
    assert found.ok and len(counted) == 1 and "2 image(s) (c, d) without a mask" in counted[0].message
    assert counted[0].severity == "note" and found.splits["train"].samples == 4


@pytest.mark.parametrize("name", FORMATS)
def test_missing_error_refuses_them(root, name):
    FORMATS[name](root)
    with pytest.raises(DataError, match=r"2 image\(s\) without a mask of the same stem in .*masks.*: c, d\."):
        source(root, name, missing="error")
    found = check_splits({"train": source(root, name, strict=False, missing="error")})
    assert not found.ok and [p.kind for p in found.problems if p.severity == "error"] == ["unpaired"] * 2


@pytest.mark.parametrize("name", ["index", "binary", "array"])
def test_other_formats_take_them_where_that_is_asked_for(root, name):
    (root / "masks").mkdir()
    classes = CLASSES[:2] if name == "binary" else CLASSES
    for stem in "ab":
        if name == "array":
            np.save(root / "masks" / f"{stem}.npy", square(1))
        else:
            Image.fromarray(square(1)).save(root / "masks" / f"{stem}.png")

    def made(**options) -> FolderSource:
        masks = create_format(name, Labels(classes), **options)
        return FolderSource(root, "", classes, masks=masks)

    with pytest.raises(DataError, match=r"2 image\(s\) without a mask"):
        made()
    np.testing.assert_array_equal(made(missing="background")[3].mask, square(0))
    with pytest.raises(ConfigError, match=r"masks\.missing must be background or error, got 'ignore'"):
        made(missing="ignore")


@pytest.mark.parametrize("name", FORMATS)
def test_masks_without_an_image_stay_an_error_where_each_has_files(root, name):
    FORMATS[name](root)
    (root / "images" / "a.png").unlink()
    if name == "coco":  # one file may list images of several folders
        made = source(root, name)
        assert made.ids == ["b", "c", "d"] and "1 image(s) (a) listed there and not in" in made.remarks[0]
        found = check_splits({"train": source(root, name, strict=False)})
        assert found.ok and "left_out" in {problem.kind for problem in found.problems}
        return
    with pytest.raises(DataError, match=r"1 mask\(s\) without an image"):
        source(root, name)


@pytest.mark.parametrize("name", FORMATS)
def test_a_folder_of_other_names_is_no_folder_of_backgrounds(root, name):
    FORMATS[name](root)
    for path in (root / "images").iterdir():
        path.rename(path.with_stem(f"photo_{path.stem}"))
    with pytest.raises(DataError, match=r"without a mask|no image has a mask of its own stem"):
        source(root, name)


def test_background_is_the_class_of_pixels_without_an_object(root):
    labelme(root)
    assert (source(root, "labelme", background="ignore")[3].mask == 255).all()
    assert (source(root, "labelme", background="dog")[3].mask == 2).all()


def test_the_background_of_an_image_without_files_has_to_be_known(root):
    per_class(root)
    (root / "masks" / "rest").mkdir()
    for name in "ab":
        Image.fromarray(255 - square(255)).save(root / "masks" / "rest" / f"{name}.png")
    with pytest.raises(DataError, match=r"768 pixels belong to no class\. Set masks\.background"):
        source(root, "per_class")[3]


@pytest.mark.parametrize("exif", ["neither", "both", "image"])
def test_a_turned_image_has_a_mask_of_its_size(root, exif):
    labelme(root)
    note = Image.Exif()
    note[ORIENTATION] = 6
    Image.fromarray(RNG.integers(0, 256, (*SIZE, 3), np.uint8)).save(root / "images" / "e.jpg", exif=note)
    sample = source(root, "labelme", exif=exif)[4]
    assert sample.mask.shape == sample.image.shape[:2] == (SIZE if exif == "neither" else SIZE[::-1])


def test_an_image_may_lie_beside_its_json(root):
    shape = {"label": "cat", "points": [[4, 4], [12, 12]], "shape_type": "rectangle"}
    (root / "images" / "a.json").write_text(json.dumps({"shapes": [shape]}))
    masks = create_format("labelme", Labels(CLASSES))
    found = check_splits({"train": FolderSource(root, "", CLASSES, mask_dir="images", masks=masks, strict=False)})
    assert found.ok and "same_stem" not in {problem.kind for problem in found.problems}


def test_a_copy_has_the_images_without_a_mask_too(root, tmp_path):
    labelme(root)
    sources = {"train": source(root, "labelme", strict=False)}
    done = repair(sources, check_splits(sources), tmp_path / "copy")
    assert done.copied == 4 and done.left_out == 0
    assert sorted(path.name for path in (tmp_path / "copy" / "masks").iterdir()) == ["a.json", "b.json"]
