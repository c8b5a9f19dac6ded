"""`check-data` refuses what training refuses, names the file, and refuses nothing else.

A fault is planted into a small sound data set, in the training or the validation split. Training's side is what a whole
epoch with its evaluation reads: both sources, every sample of each. The check's side is what `segzoo check-data` does.
The one fault that only the check may find is the same picture in two splits, which test_checks.py has.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.data import FolderSource, ImageReader, Labels, check_splits, create_format
from segzoo.errors import DataError

CLASSES = ("ground", "thing")
SIZE = (12, 16)
COUNT = 3
FORMATS = {
    "index": {},
    "binary": {},
    "rgb": {"colors": {"ground": [0, 0, 0], "thing": [200, 10, 10]}},
    "per_class": {"files": "{class}/{name}.png", "background": "ground"},
    "instances": {},
    "channels": {},
    "array": {},
    "coco": {"background": "ground"},
    "labelme": {"background": "ground"},
}
MULTILABEL = ("channels",)


def labels() -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    mask[3:9, 4:11] = 1
    return mask


def write(root: Path, kind: str) -> None:
    """A sound data set of three samples in each split."""
    rng = np.random.default_rng(sum(map(ord, kind)))
    for split in ("train", "val"):
        images, masks = root / split / "images", root / split / "masks"
        images.mkdir(parents=True)
        masks.mkdir()
        listed = []
        for number in range(COUNT):
            name = f"{split}{number}"
            Image.fromarray(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)).save(images / f"{name}.png")
            mask = labels()
            if kind == "index":
                Image.fromarray(mask).save(masks / f"{name}.png")
            elif kind == "binary":
                Image.fromarray(mask * 255).save(masks / f"{name}.png")
            elif kind == "rgb":
                Image.fromarray(np.array([[0, 0, 0], [200, 10, 10]], np.uint8)[mask]).save(masks / f"{name}.png")
            elif kind == "per_class":
                (masks / "thing").mkdir(exist_ok=True)
                Image.fromarray(mask * 255).save(masks / "thing" / f"{name}.png")
            elif kind == "instances":
                (masks / name).mkdir()
                Image.fromarray(mask * 255).save(masks / name / "0.png")
            elif kind == "channels":
                layers = [Image.fromarray(layer * 255) for layer in (1 - mask, mask)]
                layers[0].save(masks / f"{name}.tif", save_all=True, append_images=layers[1:])
            elif kind == "array":
                np.save(masks / f"{name}.npy", mask)
            elif kind == "labelme":
                shape = {"label": "thing", "points": [[4, 3], [10, 3], [10, 8], [4, 8]], "shape_type": "polygon"}
                described = {
                    "shapes": [shape],
                    "imagePath": f"{name}.png",
                    "imageHeight": SIZE[0],
                    "imageWidth": SIZE[1],
                }
                (masks / f"{name}.json").write_text(json.dumps(described))
            listed.append({"id": number, "file_name": f"{name}.png", "height": SIZE[0], "width": SIZE[1]})
        if kind == "coco":
            polygon = [4, 3, 10, 3, 10, 8, 4, 8]
            objects = [
                {"id": n, "image_id": n, "category_id": 1, "segmentation": [polygon], "iscrowd": 0}
                for n in range(COUNT)
            ]
            described = {"images": listed, "annotations": objects, "categories": [{"id": 1, "name": "thing"}]}
            (masks / "all.json").write_text(json.dumps(described))


def sources(root: Path, kind: str, strict: bool) -> dict[str, FolderSource]:
    return {
        split: FolderSource(
            root,
            split,
            CLASSES,
            mask_dir="masks/all.json" if kind == "coco" else "masks",
            masks=create_format(
                kind,
                Labels(CLASSES, 255, "multilabel" if kind in MULTILABEL else "multiclass", 10_000),
                **FORMATS[kind],
            ),
            images=ImageReader(max_pixels=10_000),
            max_pixels=10_000,
            strict=strict,
        )
        for split in ("train", "val")
    }


def refused_by_training(root: Path, kind: str) -> str:
    try:
        for source in sources(root, kind, strict=True).values():
            for index in range(len(source)):
                source[index]
    except DataError as error:
        return str(error)
    return ""


def errors_of_the_check(root: Path, kind: str) -> list[str]:
    try:
        findings = check_splits(sources(root, kind, strict=False), workers=1)
    except DataError as error:  # which ends `segzoo check-data` with exit code 1
        return [str(error)]
    errors = [problem for problem in findings.problems if problem.severity == "error"]
    assert findings.ok == (not errors)
    return [problem.message for problem in errors]


class Place:
    """Place of a fault: the second sample of a split."""

    def __init__(self, root: Path, kind: str, split: str):
        self.name = f"{split}1"
        self.folder = root / split
        self.image = root / split / "images" / f"{self.name}.png"
        masks = root / split / "masks"
        ending = {"channels": ".tif", "array": ".npy", "labelme": ".json"}.get(kind, ".png")
        self.mask = {
            "per_class": masks / "thing" / f"{self.name}.png",
            "instances": masks / self.name / "0.png",
            "coco": masks / "all.json",
        }.get(kind, masks / f"{self.name}{ending}")


Plant = Callable[[Place], None]


def image_as(save: Callable[[Path], None], suffix: str) -> Plant:
    def plant(at: Place) -> None:
        at.image.unlink()
        save(at.image.with_suffix(suffix))

    return plant


def array_image(make: Callable[[np.ndarray], np.ndarray]) -> Plant:
    pixels = np.random.default_rng(0).uniform(0, 255, (*SIZE, 3))
    return image_as(lambda path: np.save(path, make(pixels), allow_pickle=True), ".npy")


def put(array: np.ndarray, value: float) -> np.ndarray:
    array = array.copy()
    array[2, 3] = value
    return array


def replace(which: str, make: Callable[[Path], None]) -> Plant:
    def plant(at: Place) -> None:
        path = getattr(at, which)
        path.unlink()
        make(path)

    return plant


def cut(which: str) -> Plant:
    def plant(at: Place) -> None:
        path = getattr(at, which)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return plant


def noise(mode: str, size: tuple[int, int] = SIZE) -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)).convert(mode)


def frames(path: Path) -> None:
    noise("RGB").save(path, save_all=True, append_images=[noise("L").convert("RGB").rotate(90)])


def cut_jpeg(path: Path) -> None:
    noise("RGB", (64, 64)).save(path)
    path.write_bytes(path.read_bytes()[:-300])


def array_called(path: Path) -> None:
    with path.open("wb") as stream:  # np.save would add its own ending
        np.save(stream, np.asarray(noise("RGB")))


def float_tiff(path: Path) -> None:
    Image.fromarray(np.asarray(noise("L"), np.float32)).save(path, format="TIFF")


def sixteen_bits(path: Path) -> None:
    Image.fromarray(np.asarray(noise("L"), np.uint16) * 256).save(path, format="PNG")


IMAGE_FAULTS: dict[str, Plant] = {
    "empty": replace("image", lambda path: path.write_bytes(b"")),
    "text": replace("image", lambda path: path.write_text("not a picture")),
    "cut": cut("image"),
    "cut JPEG": image_as(cut_jpeg, ".jpg"),
    "another size": replace("image", lambda path: noise("RGB", (9, 9)).save(path)),
    "over the limit": replace("image", lambda path: noise("RGB", (101, 100)).save(path)),
    "folder": replace("image", Path.mkdir),
    "pipe": replace("image", os.mkfifo),
    "device": replace("image", lambda path: path.symlink_to("/dev/zero")),
    "dangling link": replace("image", lambda path: path.symlink_to("nowhere.png")),
    "link to itself": replace("image", lambda path: path.symlink_to(path.name)),
    "missing": lambda at: at.image.unlink(),
    "same stem": lambda at: noise("RGB").save(at.image.with_suffix(".bmp")),
    "NaN": array_image(lambda pixels: put(pixels, np.nan)),
    "infinite": array_image(lambda pixels: put(pixels, np.inf)),
    "complex": array_image(lambda pixels: pixels.astype(complex)),
    "objects": array_image(lambda pixels: pixels.astype(object)),
    "text array": array_image(lambda pixels: pixels.astype(str)),
    "structured": array_image(lambda pixels: np.zeros(SIZE, [("r", "u1"), ("g", "u1")])),
    "one axis": array_image(np.ravel),
    "five channels": array_image(lambda pixels: np.concatenate([pixels, pixels[..., :2]], -1).astype("uint8")),
    "array called .png": image_as(array_called, ".png"),
    "picture called .npy": image_as(lambda path: noise("RGB").save(path, format="PNG"), ".npy"),
    "JPEG 2000 called .png": image_as(lambda path: noise("RGB").save(path, format="JPEG2000"), ".png"),
    "stack": image_as(frames, ".tif"),
    "animation": image_as(frames, ".gif"),
    "CIELAB": image_as(lambda path: noise("LAB").save(path), ".tif"),
}  # fmt: skip
NO_IMAGE_FAULTS: dict[str, Plant] = {
    "grey": replace("image", lambda path: noise("L").save(path)),
    "alpha": replace("image", lambda path: noise("RGBA").save(path)),
    "palette": replace("image", lambda path: noise("P").save(path)),
    "JPEG": image_as(lambda path: noise("RGB").save(path), ".jpg"),
    "float TIFF called .png": image_as(float_tiff, ".png"),
    "float TIFF called .jpg": image_as(float_tiff, ".jpg"),
    "16-bit PNG called .jpg": image_as(sixteen_bits, ".jpg"),
    "PNG called .tif": image_as(lambda path: noise("RGB").save(path, format="PNG"), ".tif"),
    "WebP": image_as(lambda path: noise("RGB").save(path), ".webp"),
    "array": array_image(lambda pixels: pixels.astype("uint8")),
    "hidden file": lambda at: (at.image.parent / "._x.png").write_bytes(b"x"),
    "hidden folder": lambda at: (at.mask.parent / ".ipynb_checkpoints").mkdir(),
    "notes": lambda at: (at.image.parent / "notes.txt").write_text("x"),
    "another format": lambda at: (at.image.parent / "x.jp2").write_bytes(b"x"),
}


def grey(values: np.ndarray) -> Plant:
    return replace("mask", lambda path: Image.fromarray(values).save(path))


def array_mask(values: np.ndarray) -> Plant:
    return replace("mask", lambda path: np.save(path, values, allow_pickle=True))


def edited(change: Callable[[dict], object]) -> Plant:
    def plant(at: Place) -> None:
        described = json.loads(at.mask.read_text())
        change(described)
        at.mask.write_text(json.dumps(described))

    return plant


ONE_FILE: dict[str, Plant] = {
    "empty": replace("mask", lambda path: path.write_bytes(b"")),
    "text": replace("mask", lambda path: path.write_text("no mask")),
    "cut": cut("mask"),
    "pipe": replace("mask", os.mkfifo),
    "dangling link": replace("mask", lambda path: path.symlink_to("nowhere")),
    "missing": lambda at: at.mask.unlink(),
    "another size": grey(np.zeros((5, 5), np.uint8)),
}


def half_labels(at: Place) -> None:
    at.mask.unlink()
    Image.fromarray(labels() * np.float32(0.5)).save(at.mask.with_suffix(".tif"))


SMEARED = np.linspace(0, 255, SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.uint8)
MASK_FAULTS: dict[str, dict[str, Plant]] = {
    "index": {
        **ONE_FILE,
        "label": grey(labels() * 7),
        "16-bit label": grey(labels().astype(np.uint16) * 300),
        "colours": replace("mask", lambda path: noise("RGB").save(path)),
        "alpha": replace("mask", lambda path: noise("LA").save(path)),
        "lonely": lambda at: Image.fromarray(labels()).save(at.mask.with_name("lonely.png")),
        "fractions": half_labels,
    },
    "binary": {**ONE_FILE, "smeared": grey(SMEARED), "colours": replace("mask", lambda path: noise("RGB").save(path))},
    "rgb": {
        **{key: plant for key, plant in ONE_FILE.items() if key != "another size"},
        "unknown colour": replace("mask", lambda path: noise("RGB").save(path)),
        "another size": replace("mask", lambda path: Image.new("RGB", (5, 5)).save(path)),
    },
    "per_class": {
        **{key: plant for key, plant in ONE_FILE.items() if key != "missing"},
        "smeared": grey(SMEARED),
        "lonely": lambda at: Image.fromarray(labels() * 255).save(at.mask.with_name("lonely.png")),
    },
    "instances": {
        **{key: plant for key, plant in ONE_FILE.items() if key != "missing"},
        "smeared": grey(SMEARED),
        "lonely": lambda at: (at.mask.parent.parent / "lonely").mkdir(),
    },
    "channels": {
        **{key: plant for key, plant in ONE_FILE.items() if key != "another size"},
        "a page too many": replace("mask", lambda path: frames(path)),
        "smeared": grey(SMEARED),
    },
    "array": {
        **{key: plant for key, plant in ONE_FILE.items() if key != "another size"},
        "another size": array_mask(np.zeros((5, 5), np.uint8)),
        "label": array_mask(labels() * 9),
        "negative": array_mask(labels().astype(np.int16) * -3),
        "fractions": array_mask(labels() * 0.5),
        "NaN": array_mask(np.where(labels() == 1, np.nan, 0.0)),
        "objects": array_mask(labels().astype(object)),
        "text": array_mask(labels().astype(str)),
        "complex": array_mask(labels().astype(complex)),
    },
    "coco": {
        "cut": cut("mask"),
        "list": replace("mask", lambda path: path.write_text("[]")),
        "NaN": edited(lambda d: d["annotations"][1].update(segmentation=[[float("nan"), 3, 10, 3, 10, 8]])),
        "far": edited(lambda d: d["annotations"][1].update(segmentation=[[1e9, 3, 1e9, 3, 10, 8]])),
        "odd coordinates": edited(lambda d: d["annotations"][1].update(segmentation=[[4, 3, 10, 3, 10]])),
        "category": edited(lambda d: d["annotations"][1].update(category_id=77)),
        "run lengths": edited(lambda d: d["annotations"][1].update(segmentation={"counts": [3, 4], "size": [99, 1]})),
        "size": edited(lambda d: d["images"][1].update(height=999)),
        "unknown name": edited(lambda d: d["categories"][0].update(name="other")),
    },
    "labelme": {
        "empty": replace("mask", lambda path: path.write_text("")),
        "cut": cut("mask"),
        "list": replace("mask", lambda path: path.write_text("[]")),
        "label": edited(lambda d: d["shapes"][0].update(label="other")),
        "points": edited(lambda d: d["shapes"][0].update(points=[["a", 1], [2, 3], [4, 5]])),
        "two points": edited(lambda d: d["shapes"][0].update(points=[[4, 3], [10, 3]])),
        "shape type": edited(lambda d: d["shapes"][0].update(shape_type="star")),
        "far circle": edited(lambda d: d["shapes"][0].update(shape_type="circle", points=[[4, 3], [4, 10**7]])),
        "huge integer": edited(lambda d: d["shapes"][0].update(points=[[10**400, 3], [10, 3], [10, 8]])),
        "size": edited(lambda d: d.update(imageHeight=99)),
    },
}  # fmt: skip
NO_MASK_FAULTS: dict[str, dict[str, Plant]] = {
    "per_class": {"missing": lambda at: at.mask.unlink()},
    "labelme": {"no shapes": edited(lambda d: d.update(shapes=[])), "missing": lambda at: at.mask.unlink()},
    "coco": {"no object": edited(lambda d: d["annotations"].pop(1))},
    "index": {"ignored": grey(labels() * 255), "background": grey(labels() * 0)},
}
FAULTS = [("index", f"image: {name}", plant) for name, plant in IMAGE_FAULTS.items()] + [
    (kind, f"mask: {name}", plant) for kind, plants in MASK_FAULTS.items() for name, plant in plants.items()
]
SOUND = [("index", f"image: {name}", plant) for name, plant in NO_IMAGE_FAULTS.items()] + [
    (kind, f"mask: {name}", plant) for kind, plants in NO_MASK_FAULTS.items() for name, plant in plants.items()
]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_sound_data_set_is_refused_by_neither(kind: str, tmp_path: Path) -> None:
    write(tmp_path, kind)
    assert refused_by_training(tmp_path, kind) == ""
    assert errors_of_the_check(tmp_path, kind) == []


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(("kind", "name", "plant"), FAULTS, ids=[f"{kind} {name}" for kind, name, _ in FAULTS])
def test_a_fault_is_refused_by_both_and_named(kind: str, name: str, plant: Plant, split: str, tmp_path: Path) -> None:
    write(tmp_path, kind)
    at = Place(tmp_path, kind, split)
    plant(at)
    refusal = refused_by_training(tmp_path, kind)
    errors = errors_of_the_check(tmp_path, kind)
    assert refusal and errors
    named = (at.image.stem, at.mask.name, "lonely", "all.json")
    assert any(word in refusal for word in named), refusal
    assert any(word in message for word in named for message in errors), errors


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(("kind", "name", "plant"), SOUND, ids=[f"{kind} {name}" for kind, name, _ in SOUND])
def test_what_is_no_fault_is_refused_by_neither(kind: str, name: str, plant: Plant, split: str, tmp_path: Path) -> None:
    write(tmp_path, kind)
    plant(Place(tmp_path, kind, split))
    assert refused_by_training(tmp_path, kind) == ""
    assert errors_of_the_check(tmp_path, kind) == []


def test_there_are_enough_faults() -> None:
    assert len(FAULTS) >= 60
