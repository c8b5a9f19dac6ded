"""Every recipe of docs/custom-masks.md, on files written here: what it reads is what was drawn."""

import csv
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from segzoo.config import dump_config, load_config
from segzoo.data import MASK_FORMATS
from segzoo.engine.builders import build_source
from segzoo.errors import ConfigError

DOCUMENT = (Path(__file__).parents[2] / "docs" / "custom-masks.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"```yaml\n# recipe: (\w+)\n(.*?)```", DOCUMENT, re.DOTALL))
COLORS = np.array([[0, 0, 0], [128, 64, 0], [0, 0, 192]], np.uint8)
SIZE = (40, 48)  # height, width
ORIENTATION = 0x0112  # the EXIF tag


def drawn(classes: int = 3) -> np.ndarray:
    """Labels (H, W): the second class as a rectangle on the first, and the third where there is one."""
    mask = np.zeros(SIZE, np.uint8)
    mask[4:14, 6:20] = 1
    if classes == 3:
        mask[20:30, 10:40] = 2
    return mask


def pixels() -> np.ndarray:
    """An image without symmetry, smooth enough for JPEG."""
    down, across = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.stack([5 * down, 5 * across, 2 * down + across], axis=-1).astype(np.uint8)


def save(path: Path, array: np.ndarray, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def save_array(path: Path, array: np.ndarray, **arrays) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, labels=array, **arrays) if path.suffix == ".npz" else np.save(path, array)


def index(folder):
    save(folder / "images" / "1.jpg", pixels())
    save(folder / "masks" / "1.png", drawn())
    save(folder / "images" / "2.png", pixels())
    save(folder / "masks" / "2.tif", drawn().astype(np.uint16))
    return drawn()


def values(folder):
    root, split = folder.parent, folder.name
    numbers = np.array([7, 24, 26], np.uint8)[drawn()]
    numbers[:2] = 11
    save(root / "leftImg8bit" / split / "aachen" / "aachen_1_leftImg8bit.png", pixels())
    for kind in ("labelIds", "instanceIds"):
        save(root / "gtFine" / split / "aachen" / f"aachen_1_gtFine_{kind}.png", numbers)
    mask = drawn()
    mask[:2] = 255
    return mask


def nodata(folder):
    mask, stored = drawn(), drawn().astype(np.int16)
    stored[:2], stored[2:4] = -9999, 255
    mask[:4] = 255
    save(folder / "images" / "1.png", pixels())
    save(folder / "masks" / "1.tif", stored.astype(np.int32))
    return mask


def suffix(folder):
    save(folder / "1.png", pixels())
    save(folder / "1_mask.png", drawn())
    return drawn()


def palette(folder):
    save(folder / "images" / "1.jpg", pixels())
    picture = Image.fromarray(drawn(), "L")
    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    (folder / "masks").mkdir(parents=True)
    picture.save(folder / "masks" / "1.png")
    return drawn()


def rgb(folder):
    mask = drawn()
    mask[:3] = 255
    picture = COLORS[drawn()]
    picture[:3] = 255
    save(folder / "images" / "1.jpg", pixels())
    save(folder / "masks" / "1.png", picture)
    return mask


def rgb_table(folder):
    colors = np.array([[128, 128, 128], [128, 64, 128], [64, 0, 128], [64, 128, 64]], np.uint8)
    (folder.parent).mkdir(exist_ok=True)
    table = "64 128 64\tAnimal\n128 128 128\tSky\n64 0 128\tCar\n128 64 128\tRoad\n"
    (folder.parent / "label_colors.txt").write_text(table, encoding="utf-8")
    picture, mask = colors[drawn()], drawn()
    picture[:3], mask[:3] = colors[3], 255
    save(folder / "images" / "1.png", pixels())
    save(folder / "masks" / "1_L.png", picture)
    return mask


def rgb_csv(folder):
    folder.parent.mkdir(exist_ok=True)
    with (folder.parent / "class_dict.csv").open("w", newline="", encoding="utf-8") as stream:
        rows = [["name", "r", "g", "b"], *([name, *COLORS[n]] for n, name in enumerate(("ground", "thing", "other")))]
        csv.writer(stream).writerows(rows)
    save(folder / "images" / "1.png", pixels())
    save(folder / "masks" / "1.png", COLORS[drawn()])
    return drawn()


def rgb_yaml(folder):
    folder.parent.mkdir(exist_ok=True)
    table = "ground: [0, 0, 0]\nthing: [128, 64, 0]\nother: [[0, 0, 192], [0, 0, 255]]\n"
    (folder.parent / "colors.yaml").write_text(table, encoding="utf-8")
    picture = COLORS[drawn()]
    picture[25:30, 10:40] = [0, 0, 255]
    save(folder / "images" / "1.png", pixels())
    save(folder / "masks" / "1.png", picture)
    return drawn()


def binary(folder):
    save(folder / "images" / "1.jpg", pixels())
    save(folder / "masks" / "1.png", 255 * drawn(2))
    save(folder / "images" / "2.jpg", pixels())
    save(folder / "masks" / "2.png", drawn(2))
    return drawn(2)


def threshold(folder):
    save(folder / "images" / "1.jpg", pixels())
    save(folder / "masks" / "1.jpg", 255 * drawn(2), quality=60)
    assert len(np.unique(np.asarray(Image.open(folder / "masks" / "1.jpg")))) > 2
    return drawn(2)


def alpha_mask(folder):
    for number, color in enumerate((0, 255)):  # cut out of black, and of white
        cut = np.full((*SIZE, 4), color, np.uint8)
        cut[..., 3] = 255 * drawn(2)
        save(folder / "images" / f"{number}.png", pixels())
        save(folder / "masks" / f"{number}.png", cut)
    return drawn(2)


def per_class(folder):
    save(folder / "images" / "1.jpg", pixels())
    for n, name in ((1, "thing"), (2, "other")):
        save(folder / "masks" / name / "1.png", np.uint8(255) * (drawn() == n))
    return drawn()


def instances(folder):
    save(folder / "1" / "images" / "1.png", pixels())
    left, right = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    left[4:14, 6:20], right[4:14, 20:30] = 255, 255
    save(folder / "1" / "masks" / "a.png", left)
    save(folder / "1" / "masks" / "b.png", right)
    mask = (left | right) // 255
    mask[3:15, 19:21] = 255  # a pixel around each of the two, where both are
    return mask


def channels(folder):
    layers = np.stack([drawn() == 1, drawn() == 2, drawn() > 0], axis=-1).astype(np.uint8)
    save(folder / "images" / "1.jpg", pixels())
    save(folder / "masks" / "1.png", 255 * layers)
    save(folder / "images" / "2.jpg", pixels())
    first, *rest = (Image.fromarray(255 * layers[..., n]) for n in range(3))
    first.save(folder / "masks" / "2.tif", save_all=True, append_images=rest)
    return layers


def npy(folder):
    save(folder / "images" / "1.jpg", pixels())
    save_array(folder / "masks" / "1.npy", drawn().astype(np.int64))
    return drawn()


def npz(folder):
    save(folder / "images" / "1.jpg", pixels())
    save_array(folder / "masks" / "1.npz", drawn(), weights=np.ones(SIZE))
    return drawn()


def npy_multilabel(folder):
    layers = np.stack([drawn() == 0, drawn() == 1, drawn() > 0], axis=-1).astype(np.uint8)
    layers[:2, :, 1] = 255
    save(folder / "images" / "1.jpg", pixels())
    save_array(folder / "masks" / "1.npy", layers)
    return layers


def coco(folder):
    coded = pytest.importorskip("pycocotools.mask")
    root, split = folder.parent, folder.name
    save(root / "images" / split / "1.jpg", pixels())
    run = coded.encode(np.asfortranarray(drawn() == 2))
    run["counts"] = run["counts"].decode()
    polygon = [6, 4, 20, 4, 20, 14, 6, 14]  # COCO's corners lie between pixels
    content = {
        "images": [{"id": 7, "file_name": "1.jpg", "height": SIZE[0], "width": SIZE[1]}],
        "categories": [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}, {"id": 19, "name": "horse"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 17, "iscrowd": 0, "segmentation": [polygon]},
            {"id": 2, "image_id": 7, "category_id": 18, "iscrowd": 0, "segmentation": run},
            {"id": 3, "image_id": 7, "category_id": 19, "iscrowd": 0, "segmentation": [[0, 0, 40, 0, 40, 3, 0, 3]]},
        ],
    }
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content), encoding="utf-8")
    return drawn()


def labelme(folder):
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # stored lying, shown upright
    save(folder / "1.jpg", np.rot90(pixels()), exif=exif)
    shapes = [
        {"label": "thing", "shape_type": "rectangle", "points": [[6, 4], [19, 13]]},
        {"label": "other", "shape_type": "polygon", "points": [[10, 20], [39, 20], [39, 29], [10, 29]]},
    ]
    content = {"shapes": shapes, "imagePath": "1.jpg", "imageHeight": SIZE[0], "imageWidth": SIZE[1]}
    (folder / "1.json").write_text(json.dumps(content), encoding="utf-8")
    return drawn()


def labelme_lines(folder):
    save(folder / "1.png", pixels())
    shapes = [{"label": "crack", "shape_type": "line", "points": [[6, 10], [30, 10]]}]
    content = {"shapes": shapes, "imagePath": "1.png", "imageHeight": SIZE[0], "imageWidth": SIZE[1]}
    (folder / "1.json").write_text(json.dumps(content), encoding="utf-8")
    mask = np.zeros(SIZE, np.uint8)
    mask[9:12, 6:31] = 1
    mask[10, [5, 31]] = 1  # round ends
    return mask


def grey16(folder):
    save(folder / "images" / "1.png", np.full(SIZE, 4095, np.uint16))
    save(folder / "masks" / "1.png", drawn())
    return drawn()


def geotiff(folder):
    rasterio = pytest.importorskip("rasterio")
    (folder / "images").mkdir(parents=True)
    shape = {"width": SIZE[1], "height": SIZE[0], "count": 8, "dtype": "uint16"}
    with rasterio.open(folder / "images" / "1.tif", "w", driver="GTiff", **shape) as raster:
        for band in range(1, 9):
            raster.write(np.full(SIZE, 1000 * band, np.uint16), band)
    save(folder / "masks" / "1.png", drawn())
    return drawn()


def npy_images(folder):
    save_array(folder / "images" / "1.npy", np.linspace(-1, 1, 5, dtype=np.float32) * np.ones((*SIZE, 1), np.float32))
    save(folder / "masks" / "1.png", drawn())
    return drawn()


def alpha(folder):
    clear = np.full((*SIZE, 4), 30, np.uint8)
    clear[..., 3] = 0
    save(folder / "images" / "1.png", clear)
    save(folder / "masks" / "1.png", drawn())
    return drawn()


def exif(folder):
    note = Image.Exif()
    note[ORIENTATION] = 6
    save(folder / "images" / "1.jpg", np.rot90(pixels()), exif=note)
    save(folder / "masks" / "1.png", np.rot90(drawn()))
    return drawn()


WRITERS = {
    writer.__name__: writer
    for writer in (
        index, values, nodata, suffix, palette, rgb, rgb_table, rgb_csv, rgb_yaml, binary, threshold, alpha_mask,
        per_class, instances, channels, npy, npz, npy_multilabel, coco, labelme, labelme_lines, grey16, geotiff,
        npy_images, alpha, exif,
    )
}  # fmt: skip
# What one pixel of the images becomes, where that is what the recipe is about.
PIXELS = {
    "grey16": [255.0],
    "geotiff": [102.0, 76.5, 51.0, 204.0],
    "npy_images": [0.0, 63.75, 127.5, 191.25, 255.0],
    "alpha": [255, 255, 255],
}


def test_every_recipe_and_every_format_is_tested():
    assert set(RECIPES) == set(WRITERS)
    masks = [YAML(typ="safe").load(text)["data"].get("masks", "index") for text in RECIPES.values()]
    assert {given if isinstance(given, str) else given["format"] for given in masks} == set(MASK_FORMATS)


@pytest.mark.filterwarnings("ignore::UserWarning:rasterio")  # a GeoTIFF of the test has no place on Earth
@pytest.mark.parametrize("name", RECIPES)
def test_recipes_read_what_was_drawn(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = RECIPES[name]
    root = Path(YAML(typ="safe").load(recipe)["data"]["root"])
    head = "" if "model:" in recipe else "model: {decoder: unet, backbone: efficientnet_b0}\n"
    (tmp_path / "run.yaml").write_text(head + "training: {epochs: 20}\n" + recipe, encoding="utf-8")
    truth = {split: WRITERS[name](root / split) for split in ("train", "val")}
    config = load_config("run.yaml")
    for split in ("train", "val"):
        source = build_source(config, split)
        assert len(source) > 0
        for sample in source:
            np.testing.assert_array_equal(sample.mask, truth[split])
            assert sample.image.shape == (*SIZE, config.model.input_channels)
            if name in PIXELS:
                np.testing.assert_allclose(sample.image[20, 20], PIXELS[name], rtol=1e-6)
            else:  # turned where the recipe turns it, up to what JPEG changes
                assert np.abs(sample.image.astype(int) - pixels()).mean() < 4


@pytest.mark.parametrize("name", ["rgb_table", "rgb_csv", "rgb_yaml"])
def test_the_configuration_of_a_run_holds_the_table_of_colours(name, tmp_path, monkeypatch):
    """A run folder may be opened where the data set is not."""
    monkeypatch.chdir(tmp_path)
    text = "model: {decoder: unet, backbone: efficientnet_b0}\ntraining: {epochs: 20}\n" + RECIPES[name]
    (tmp_path / "run.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"run\.yaml:\d+: data\.masks: .*colors: .* cannot be read"):
        load_config("run.yaml")
    root = Path(YAML(typ="safe").load(RECIPES[name])["data"]["root"])
    truth = WRITERS[name](root / "train")
    dump_config(load_config("run.yaml"), tmp_path / "resolved.yaml")
    next(path for path in root.iterdir() if path.is_file()).unlink()
    np.testing.assert_array_equal(build_source(load_config("resolved.yaml"), "train")[0].mask, truth)


def test_coco_asks_for_pycocotools_only_where_masks_are_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    text = "model: {decoder: unet, backbone: efficientnet_b0}\ntraining: {epochs: 20}\n" + RECIPES["coco"]
    (tmp_path / "run.yaml").write_text(text, encoding="utf-8")
    config = load_config("run.yaml")
    save(tmp_path / "coco" / "images" / "train" / "1.jpg", pixels())
    with pytest.raises(ConfigError, match=r"needs pycocotools: pip install"):
        build_source(config, "train")
