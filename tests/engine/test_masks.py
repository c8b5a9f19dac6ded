"""Masks in a whole run: a negative ignore index, and images without a mask."""

import json

import numpy as np
import pytest
from PIL import Image

from segzoo.config import load_config
from segzoo.engine import train
from segzoo.errors import DataError

RECIPE = """
model: {decoder: unet, backbone: resnet18, weights: none}
loss: {cross_entropy: 1.0, dice: 1.0}
data:
  source: folder
  root: DATA
  classes: [rest, thing]
  split: {fraction: 0.34}
  batch_size: 2
  eval_batch_size: 2
  workers: 0
  augment: [{Affine: {rotate: [20, 30], p: 1.0}}, {RandomCrop: {height: 32, width: 32}}]
training: {epochs: 2, optimizer: {learning_rate: 0.01}, schedule: {warmup_steps: 0}}
output: {pictures: 1}
"""


@pytest.fixture
def images(tmp_path):
    """Six images of 40 x 48 and the labels of each, with an ignored band."""
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    found = {}
    for n in range(6):
        mask = np.zeros((40, 48), np.int32)
        mask[5 + n : 20 + n, 8:30] = 1
        pixels = rng.integers(0, 120, (40, 48, 3)) + 100 * mask[..., None]
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "images" / f"{n}.png")
        mask[:4] = -9999
        found[f"{n}"] = mask
    return found


def config(tmp_path, name, *overrides):
    (tmp_path / "run.yaml").write_text(RECIPE.replace("DATA", str(tmp_path)), encoding="utf-8")
    return load_config(tmp_path / "run.yaml", [f"output.root={tmp_path / 'runs'}", f"name={name}", *overrides])


def test_a_negative_ignore_index_trains_as_any_other(images, tmp_path, console, quick):
    """In losses, crops, borders of augmentation, metrics and pictures -9999 is what 255 is."""
    results = {}
    for ignore_index in (255, -9999):
        folder = tmp_path / f"masks{ignore_index}"
        folder.mkdir()
        for name, mask in images.items():
            Image.fromarray(np.where(mask == -9999, ignore_index, mask)).save(folder / f"{name}.tif")
        settings = (f"data.mask_dir={folder.name}", f"data.ignore_index={ignore_index}")
        crop = "data.crop={size: [36, 60], strategy: foreground, fraction: 0.5, background: [rest]}"  # pads
        results[ignore_index] = train(
            config(tmp_path, f"run{-ignore_index}", *settings, crop, "training.epochs=1"), console=console
        )
    plain, negative = (results[value].history for value in (255, -9999))
    assert len(plain) == 1
    for left, right in zip(plain, negative, strict=True):
        keys = [key for key in left if "loss" in key or "iou" in key or "accuracy" in key]
        assert "val_loss" in keys and "val_mean_iou" in keys
        assert [left[key] for key in keys] == [right[key] for key in keys]


def test_images_without_a_mask_are_told_at_the_start(images, tmp_path, console, quick):
    (tmp_path / "masks").mkdir()
    shape = {"label": "thing", "points": [[8, 5], [30, 20]], "shape_type": "rectangle"}
    for name in list(images)[:4]:
        (tmp_path / "masks" / f"{name}.json").write_text(json.dumps({"shapes": [shape]}))
    train(config(tmp_path, "run", "data.masks=labelme", "training.epochs=1"), console=console)
    text = " ".join((tmp_path / "screen.txt").read_text().split())
    assert text.count("2 image(s) (4, 5) without a mask, taken as background.") == 1  # once for both splits
    with pytest.raises(DataError, match=r"2 image\(s\) without a mask"):
        train(config(tmp_path, "no", "data.masks={format: labelme, missing: error}"), console=console)
    assert not (tmp_path / "runs" / "no").exists()
