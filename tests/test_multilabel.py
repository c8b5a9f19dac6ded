"""Classes that may overlap, and images of other channels than three: from files to an exported model."""

import json

import numpy as np
import pytest
from PIL import Image

import segzoo
from segzoo.cli import main
from segzoo.data import Labels, create_format, signed_distances, with_distances
from segzoo.data.checks import check_source
from segzoo.data.folder import FolderSource
from segzoo.data.images import ImageReader
from segzoo.engine.evaluation import evaluate
from segzoo.export import read_metadata
from segzoo.export.parity import _compare_batch
from segzoo.inference.predictor import Predictor
from segzoo.reporting.pictures import overlay, prediction_sheet
from segzoo.task import Task, predict_classes

CONFIG = """
mode: multilabel
model: {decoder: fpn, backbone: resnet18, weights: none, input_channels: 5}
data:
  source: folder
  root: data
  classes: [left, top]
  masks: array
  batch_size: 4
  augment: [HorizontalFlip, {Rotate: {limit: 20, p: 1.0}}, {RandomBrightnessContrast: {p: 1.0}}]
loss: {binary_cross_entropy: 1.0, dice: 1.0, boundary: 0.01}
training: {epochs: 2, schedule: {name: poly, warmup_steps: 1}, optimizer: {learning_rate: 0.05}}
"""


def write_data(root, count=8):
    """Five-channel float images in 0..255; the classes are bright in channels 0 and 4, and overlap in a corner."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for number in range(count):
            mask = np.zeros((32, 32, 2), np.uint8)
            mask[:, : rng.integers(8, 24), 0] = 1
            mask[: rng.integers(8, 24), :, 1] = 1
            image = rng.uniform(0, 60, (32, 32, 5)).astype(np.float32)
            image[..., 0] += 180 * mask[..., 0]
            image[..., 4] += 180 * mask[..., 1]
            mask[0, 0] = (255, 1)  # ignored for one class only
            np.save(root / split / "images" / f"{number}.npy", image)
            np.save(root / split / "masks" / f"{number}.npy", mask)


def test_shares_of_classes_are_of_all_labelled_pixels(tmp_path):
    write_data(tmp_path)
    masks = create_format("array", Labels(("left", "top"), 255, "multilabel"))
    report = check_source(FolderSource(tmp_path, "train", ("left", "top"), 255, masks=masks, images=ImageReader(5)))
    assert report.labelled == 8 * 32 * 32 and report.ignored == 0  # no place is ignored for both classes
    assert [report.share(name) for name in ("left", "top")] == [n / 8192 for n in report.pixels.values()]
    assert sum(report.pixels.values()) != 8192


def run(*arguments):
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert stop.value.code == 0


def test_the_whole_road(tmp_path, monkeypatch, quick, capsys):
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path / "data")
    (tmp_path / "many.yaml").write_text(CONFIG)
    changed = ("training.epochs=12", "training.evaluate_every=6", "output.pictures=1")
    settings = [word for setting in changed for word in ("--set", setting)]
    run("train", "--config", "many.yaml", *settings)
    folder = tmp_path / "runs" / "many"
    assert (folder / "figures" / "predictions.png").is_file()
    run("evaluate", str(folder))
    report = json.loads((folder / "evaluation_val_best" / "report.json").read_text())
    assert [row["class"] for row in report["classes"]] == ["left", "top"]
    assert report["mean_iou"] > 0.8, "the classes are as easy as a threshold of one channel"
    run("predict", str(folder), "data/val/images", "--out", "found")
    written = sorted((tmp_path / "found" / "classes").glob("*.tif"))
    assert len(written) == 8 and (tmp_path / "found" / "overlays" / "0.jpg").is_file()
    # what predict writes is what the mask format `channels` reads
    found = create_format("channels", Labels(("left", "top"), 255, "multilabel")).read(written[0], written[0], (32, 32))
    truth = np.load("data/val/masks/0.npy")
    assert (found == truth)[1:, 1:].mean() > 0.9 and found.max() == 1
    run("export", str(folder), "--format", "saved_model", "--output", "classes", "--out", "exported")
    import tensorflow as tf

    served = tf.saved_model.load(str(tmp_path / "exported" / "saved_model")).signatures["serving_default"]
    classes = served(image=tf.constant(np.load("data/val/images/0.npy")[None]))["classes"].numpy()
    np.testing.assert_array_equal(classes[0], found)
    metadata = read_metadata(tmp_path / "exported" / "saved_model")
    assert (metadata.mode, metadata.channels, metadata.classes) == ("multilabel", 5, ("left", "top"))
    predictor = segzoo.load(folder)  # the functions that the commands call
    np.testing.assert_array_equal(predictor("data/val/images/0.npy"), found)
    assert predictor.mode == "multilabel" and predictor.class_names == ["left", "top"]
    assert segzoo.evaluate(folder, report=False).mean_iou == pytest.approx(report["mean_iou"], abs=1e-6)


def test_a_fresh_model_of_four_channels_trains_on_rgba(tmp_path, monkeypatch, quick):
    monkeypatch.chdir(tmp_path)
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (tmp_path / "data" / split / kind).mkdir(parents=True)
        for name in "abcd":
            pixels = np.random.default_rng(1).integers(0, 256, (32, 32, 4), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / split / "images" / f"{name}.png")
            Image.fromarray(pixels[..., 3] // 128).save(tmp_path / "data" / split / "masks" / f"{name}.png")
    text = CONFIG.replace("mode: multilabel\n", "").replace("masks: array", "masks: index")
    text = text.replace("input_channels: 5", "input_channels: 4").replace("binary_cross_entropy", "cross_entropy")
    (tmp_path / "rgba.yaml").write_text(text)
    run("train", "--config", "rgba.yaml")
    run("predict", "runs/rgba", "data/val/images", "--out", "found")
    assert Image.open(tmp_path / "found" / "classes" / "a.png").size == (32, 32)


def test_decisions_agree_on_arrays_and_tensors(pixels):
    from keras import ops

    logits = pixels(5, 7, batch=2) - 128
    np.testing.assert_array_equal(predict_classes(logits, "multilabel"), logits > 0)
    np.testing.assert_array_equal(predict_classes(logits), logits.argmax(-1))
    np.testing.assert_array_equal(predict_classes(logits[..., :1]), logits[..., 0] > 0)
    for mode in ("multiclass", "multilabel"):
        tensor = ops.convert_to_numpy(predict_classes(ops.convert_to_tensor(logits), mode))
        np.testing.assert_array_equal(tensor, predict_classes(logits, mode))


def test_distances_of_overlapping_classes_are_those_of_each_alone():
    mask = np.zeros((12, 12, 2), np.uint8)
    mask[2:8, 2:8, 0], mask[5:, 5:, 1] = 1, 1
    found = with_distances(mask, 2, 255)
    assert found.shape == (12, 12, 5) and (found[..., 4] == -16384).all()
    np.testing.assert_array_equal(found[..., :2], mask)
    for index in range(2):
        np.testing.assert_array_equal(found[..., 2 + index], signed_distances(mask[..., index], 1, 255)[..., 0])


def test_evaluation_counts_each_class_apart():
    """Two classes on four pixels: the first found fully, the second half; one place is ignored."""
    import keras

    masks = np.array([[[[1, 1], [1, 1]], [[0, 0], [0, 255]]]], np.uint8)
    logits = np.array([[[[5, 5], [5, -5]], [[-5, -5], [-5, 5]]]], np.float32)
    inputs = keras.Input((2, 2, 3))
    model = keras.Model(
        inputs, keras.layers.Lambda(lambda x: keras.ops.convert_to_tensor(logits) + 0 * x[..., :1])(inputs)
    )
    found = evaluate(
        model, [(np.zeros((1, 2, 2, 3), np.uint8), masks, ["a"])], Task(("a", "b"), mode="multilabel"), worst=1
    )
    np.testing.assert_array_equal(found.confusion.iou(), [1.0, 0.5])
    assert found.confusion.pixel_accuracy() == 6 / 7
    assert found.images[0].mean_iou() == 0.75 and len(found.worst) == 1


def test_pictures_mix_the_colours_of_classes(tmp_path):
    colours = np.array([[200, 0, 0], [0, 100, 0]], np.uint8)
    layers = np.array([[[1, 0], [1, 1], [0, 0], [0, 1]]], np.uint8)
    image = np.full((1, 4, 3), 50, np.uint8)
    painted = overlay(image, layers, colours, alpha=1.0)
    assert painted.tolist() == [[[200, 0, 0], [100, 50, 0], [50, 50, 50], [0, 100, 0]]]
    sample = (np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40, 2), np.uint8), np.ones((40, 40, 2), np.uint8), "a")
    prediction_sheet([sample], ["one", "two"], colours, 255, tmp_path / "sheet.png")
    empty = (sample[0], sample[1], sample[1], "nothing there and nothing found, so no class is in the legend")
    prediction_sheet([empty], ["one", "two"], colours, 255, tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 0


def test_tiles_of_overlapping_classes(pixels):
    import keras

    inputs = keras.Input((None, None, 4))
    model = keras.Model(inputs, inputs[..., :3] - 128.0)
    image = pixels(200, 260)[0]
    image = np.concatenate([image, image[..., :1]], -1)
    tiled = Predictor(model, tile=64, overlap=32, tile_above=1000, mode="multilabel").predict(image)
    np.testing.assert_array_equal(tiled, image[..., :3] > 128)


def test_an_export_of_other_classes_is_noticed():
    from segzoo.errors import SegzooError

    logits = np.array([[[[2.0, -2.0]]]], np.float32)
    assert _compare_batch(logits, np.array([[[[1, 0]]]], np.int32), "classes", (1, 1, 1), "multilabel").agreement == 1
    with pytest.raises(SegzooError, match="got another class"):
        _compare_batch(logits, np.array([[[[1, 1]]]], np.int32), "classes", (1, 1, 1), "multilabel")
