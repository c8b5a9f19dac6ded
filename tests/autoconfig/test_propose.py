"""`segzoo init`: what it sees in folders that the test writes, what it asks for, and that its configuration trains."""

import collections
import json
import os
import shlex

import numpy as np
import pytest
from PIL import Image

from segzoo.autoconfig import look, look_at_names, propose, save, try_out
from segzoo.cli import main
from segzoo.config import load_config
from segzoo.data import create_source
from segzoo.errors import ConfigError, DataError, SegzooError
from segzoo.weights.availability import Availability

SIZE = (64, 80)


@pytest.fixture(scope="module")
def drawn():
    source = create_source("generated", split="x", count=8, size=SIZE)
    return [source[n][:2] for n in range(8)]


@pytest.fixture
def write(tmp_path, drawn):
    """Write images and masks, these changed by a function, into flat folders."""

    def write(change=lambda mask: mask, suffix="", ending=".png", image_suffix=""):
        for kind in ("photos", "labels"):
            (tmp_path / kind).mkdir(exist_ok=True)
        for n, (image, mask) in enumerate(drawn):
            Image.fromarray(image).save(tmp_path / "photos" / f"a{n}{image_suffix}.png")
            path, changed = tmp_path / "labels" / f"a{n}{suffix}{ending}", change(mask)
            if ending == ".npy":
                np.save(path, changed)
            elif isinstance(changed, Image.Image):
                changed.save(path)
            else:
                Image.fromarray(changed).save(path)
        return tmp_path / "photos", tmp_path / "labels"

    return write


def palette(mask):
    picture = Image.fromarray(mask, mode="P")
    picture.putpalette(list(range(256)) * 3)
    return picture


def coloured(mask):
    return np.stack([mask, np.where(mask == 255, 9, 0), mask], -1).astype(np.uint8)


def white(mask):
    return np.where((mask > 0) & (mask < 255), 255, 0).astype(np.uint8)


def smooth(mask):
    import cv2

    return cv2.GaussianBlur(white(mask), (3, 3), 0)


@pytest.mark.parametrize(
    ("change", "ending", "masks", "classes"),
    [
        (lambda mask: mask, ".png", {"format": "index"}, 6),
        (lambda mask: mask.astype(np.uint16), ".tif", {"format": "index"}, 6),
        (palette, ".png", {"format": "index"}, 6),
        (white, ".png", {"format": "binary"}, 2),
        (lambda mask: white(mask) // 255, ".png", {"format": "index"}, 2),
        (lambda mask: mask, ".npy", {"format": "array"}, 6),
        (lambda mask: np.where(mask < 3, 7, 33).astype(np.uint8), ".png",
         {"format": "index", "values": {"class_0": 7, "class_1": 33}}, 2),
    ],
    ids=["index", "16 bit", "palette", "white", "0 and 1", "npy", "gaps"],
)  # fmt: skip
def test_formats_are_known_from_the_pixels(write, change, ending, masks, classes):
    found = look(*write(change, ending=ending))
    assert (found.masks, found.classes, found.pairs, found.unpaired) == (masks, classes, 8, 0)
    assert len(found.pixels) == classes and found.sizes == {SIZE: 8}


def test_colours_are_counted(write, drawn):
    found = look(*write(coloured))
    assert found.masks["colors"] == [[0, 0, 0], [1, 0, 1], [2, 0, 2], [3, 0, 3], [4, 0, 4], [5, 0, 5], [255, 9, 255]]
    assert found.pixels[0] == sum(int((mask == 0).sum()) for _, mask in drawn)


def test_255_beside_labels_is_ignored_and_said(write, drawn):
    found = look(*write())
    assert found.ignore_index == 255 and f"{sum(int((m == 255).sum()) for _, m in drawn):,} pixels" in found.ignored
    assert found.pixels == [sum(int((mask == label).sum()) for _, mask in drawn) for label in range(6)]


@pytest.mark.parametrize(("suffix", "image_suffix"), [("_mask", ""), ("_L", ""), ("_gtFine_labelIds", "_leftImg8bit")])
def test_suffixes_are_found(write, suffix, image_suffix):
    found = look(*write(suffix=suffix, image_suffix=image_suffix))
    assert (found.pairs, found.mask_suffix, found.image_suffix) == (8, suffix, image_suffix)


def test_masks_among_their_images(write):
    images, masks = write(suffix="_mask")
    for path in masks.iterdir():
        path.rename(images / path.name)
    found = look(images, images)
    assert (found.pairs, found.unpaired, found.mask_suffix, found.image_dir) == (8, 0, "_mask", found.mask_dir)


def test_what_is_ambiguous_is_asked_for(write, tmp_path):
    images, masks = write(smooth)
    with pytest.raises(ConfigError, match=r"neither 0 nor 255.*--threshold 128"):
        look(images, masks)
    assert look(images, masks, threshold=128).masks == {"format": "binary", "threshold": 128}
    write(suffix="_hand")
    write(suffix="_other", ending=".png")
    for n in range(8):
        (masks / f"a{n}.png").unlink()
    with pytest.raises(ConfigError, match="--mask-suffix"):
        look(images, masks)
    assert look(images, masks, mask_suffix="_hand").pairs == 8
    write(suffix="_mask")
    write(suffix="_label")
    with pytest.raises(ConfigError, match=r"'_mask' or '_label'.*--mask-suffix"):
        look(images, masks)
    with pytest.raises(DataError, match="no such folder"):
        look(images, tmp_path / "nowhere")


def test_smeared_colours_and_mixed_kinds_are_refused(write):
    noise = np.random.default_rng(0)
    images, masks = write(lambda mask: noise.integers(0, 256, (*mask.shape, 3)).astype(np.uint8))
    with pytest.raises(ConfigError, match="too many for classes"):
        look(images, masks)
    write()
    Image.fromarray(coloured(np.zeros(SIZE, np.uint8) + 9)).save(masks / "a3.png")
    with pytest.raises(ConfigError, match=r"several kinds \(1 colour, such as .*a3.png, 7 grey, such as .*a0.png"):
        look(images, masks)


def test_a_single_class_is_no_task(write):
    with pytest.raises(ConfigError, match="single class"):
        look(*write(lambda mask: np.zeros_like(mask)))


def test_split_folders_are_used(write, tmp_path):
    images, masks = write()
    for split in ("train", "valid"):
        for kind, files in (("img", images), ("msk", masks)):
            (tmp_path / "two" / kind / split).mkdir(parents=True)
            for path in files.iterdir():
                (tmp_path / "two" / kind / split / path.name).write_bytes(path.read_bytes())
    found = look(tmp_path / "two" / "img", tmp_path / "two" / "msk")
    assert found.splits == ("train", "valid") and found.image_dir == "img/{split}"
    assert "fraction" not in propose(found)


@pytest.mark.parametrize(
    ("sides", "crop", "is_padded"),
    [
        ([64] * 10, 64, False),  # no image is larger: whole images, as in evaluations
        ([95] * 10, 96, True),
        ([95, 95, *[150] * 8], 128, True),
        ([130] * 10, 128, False),
        ([200, 200, *[700] * 8], 192, False),
        ([700] * 10, 512, False),
        ([20] * 10, 32, True),
    ],
)
def test_crops_are_as_large_as_most_images_allow(write, sides, crop, is_padded):
    found = look(*write())
    found.sizes = collections.Counter((side, 2 * side) for side in sides)
    text = propose(found)
    assert f"RandomCrop: {{height: {crop}, width: {crop}}}" in text
    assert f"PadIfNeeded: {{min_height: {crop}, min_width: {crop}}}" in text
    assert ("smaller ones are padded" in text) == is_padded


def test_the_values_follow_the_evidence(write):
    found = look(*write())
    small, large = propose(found, memory=2**33), propose(found, memory=2**23)
    assert "batch_size: 4" in small and "batch_size: 1" in large  # 6 of 8 samples are trained on
    assert "RandomCrop: {height: 64, width: 64}" in small
    found.pixels = [10_000, 100, 500, 500, 500, 500]
    assert "class_weights: median_frequency" in propose(found) and "100 times" in propose(found)
    found.pixels = [500] * 6
    assert "class_weights: median" not in propose(found)
    with pytest.raises(ConfigError, match="2 class names, but the masks hold 6"):
        propose(found, ["a", "b"])


@pytest.mark.parametrize("train", [8, 5000])
def test_the_backbone_is_one_whose_weights_can_be_had(write, tmp_path, train):
    found = look(*write())
    found.train = train
    usual, other = (
        ("efficientnet_b0", "efficientnet_lite0") if train == 8 else ("efficientnet_b3", "efficientnet_lite2")
    )

    def proposed(*there):
        text = propose(found, pretrained=lambda name: Availability(name in there, f"where {name} is"))
        save(text, tmp_path / "p.yaml", found)
        return load_config(tmp_path / "p.yaml").model, text

    for there in ((usual,), (usual, other)):
        model, text = proposed(*there)
        assert model.backbone == usual and model.taps == "expansion"
        assert f"weights: auto  # ImageNet's, where {usual} is: with few images" in text
    model, text = proposed(other)
    assert model.backbone == other
    assert f"weights: auto  # ImageNet's, where {other} is; those of {usual} are where {usual} is" in text
    model, text = proposed()
    assert model.backbone == usual
    assert f"ImageNet's are where {usual} is, so training begins from random values. Those of {other} come with" in text
    assert '[lite]"' in text


def per_class(tmp_path, drawn):
    for label, name in ((1, "disc"), (2, "ring")):
        (tmp_path / "named" / name).mkdir(parents=True)
        for n, (_, mask) in enumerate(drawn):
            Image.fromarray((mask == label).astype(np.uint8) * 255).save(tmp_path / "named" / name / f"a{n}.png")
    return tmp_path / "named"


def instances(tmp_path, drawn):
    for n, (_, mask) in enumerate(drawn):
        (tmp_path / "named" / f"a{n}").mkdir(parents=True)
        for label in (1, 2):
            Image.fromarray((mask == label).astype(np.uint8) * 255).save(tmp_path / "named" / f"a{n}" / f"{label}.png")
    return tmp_path / "named"


def labelme(tmp_path, drawn):
    for n in range(len(drawn)):
        shape = {"label": "box" if n % 2 else "bar", "shape_type": "rectangle", "points": [[10, 10], [29, 19]]}
        (tmp_path / "photos" / f"a{n}.json").write_text(json.dumps({"shapes": [shape]}))
    return tmp_path / "photos"


def coco(tmp_path, drawn):
    pytest.importorskip("pycocotools")
    square = [[10, 10, 30, 10, 30, 20, 10, 20]]
    content = {
        "categories": [{"id": 3, "name": "box"}, {"id": 5, "name": "bar"}],
        "images": [{"id": n, "file_name": f"a{n}.png", "height": 64, "width": 80} for n in range(len(drawn))],
        "annotations": [{"id": n, "image_id": n, "category_id": 3, "segmentation": square} for n in range(len(drawn))],
    }
    (tmp_path / "named.json").write_text(json.dumps(content))
    return tmp_path / "named.json"


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (per_class, ["background", "disc", "ring"]),
        (instances, ["background", "object"]),
        (labelme, ["background", "bar", "box"]),
        (coco, ["background", "box", "bar"]),
    ],
)
def test_formats_that_name_their_classes(write, tmp_path, drawn, monkeypatch, make, names):
    images, _ = write()
    place = make(tmp_path, drawn)
    found = look_at_names(images, place)
    assert (found.masks, found.names, found.pairs) == ({"format": make.__name__}, names, 8)
    if make in (per_class, instances):
        inside = [sum(int((mask == label).sum()) for _, mask in drawn) for label in (1, 2)]
        assert found.pixels[1:] == (inside if make is per_class else [sum(inside)])
    else:
        assert sum(found.pixels[1:]) > 8 * 150
    monkeypatch.chdir(tmp_path)
    run(0, "init", str(images), str(place), "--out", "named.yaml")
    assert load_config("named.yaml").data.classes == names


def test_the_images_may_lie_in_a_folder_beside_those_of_the_classes(write, tmp_path, drawn):
    images, _ = write()
    place = per_class(tmp_path, drawn)
    images.rename(place / "photos")
    found = look_at_names(place / "photos", place)
    assert (found.names, found.image_dir, found.mask_dir) == (["background", "disc", "ring"], "photos", ".")


def test_shares_of_overlapping_classes_are_of_all_pixels(tmp_path):
    for folder, rows in (("photos", 20), ("masks/cell", 20), ("masks/nucleus", 1)):
        (tmp_path / folder).mkdir(parents=True)
        for n in range(4):
            drawn = np.zeros((40, 40), np.uint8)
            drawn[:rows, :8] = 255
            Image.fromarray(drawn).save(tmp_path / folder / f"a{n}.png")
    found = look_at_names(tmp_path / "photos", tmp_path / "masks")
    assert (found.mode, found.labelled) == ("multilabel", 4 * 40 * 40)
    assert "# pixels: cell 10 %, nucleus 0.5 %" in propose(found)


def test_shares_near_all_pixels_are_written_in_full(write):
    corner = np.zeros((64, 80), np.uint8)
    corner[0, :10] = 1
    assert "# pixels: background 99.8 %, object 0.2 %" in propose(look(*write(lambda mask: corner)))


def test_other_folders_are_left_to_the_pixels(write):
    assert look_at_names(*write()) is None


@pytest.mark.parametrize("change", [coloured, white])
def test_init_check_data_train(write, tmp_path, monkeypatch, capsys, quick, change):
    monkeypatch.chdir(tmp_path)
    write(change)
    run(0, "init", "photos", "labels", "--out", "mine.yaml")
    config = load_config("mine.yaml")
    assert config.data.split.fraction == 0.2 and config.name == "mine"
    run(0, "check-data", "mine.yaml")
    capsys.readouterr()
    run(0, "train", "--config", "mine.yaml", "--set", "training.epochs=1", "--set", "training.steps_per_epoch=1")
    assert (tmp_path / "runs" / "mine" / "best.weights.h5").is_file()
    capsys.readouterr()
    run(1, "init", "photos", "labels", "--out", "mine.yaml")
    assert "--overwrite" in capsys.readouterr().err
    report = json.loads((tmp_path / "runs" / "mine_data" / "report.json").read_text())
    assert report["ok"] and report["splits"]["val"]["samples"] == 2


def test_the_root_is_relative_within_the_working_folder(write, tmp_path, monkeypatch):
    found = look(*write())
    monkeypatch.chdir(tmp_path)
    assert '\n  root: "."  # from the folder that commands are started in\n' in propose(found)
    monkeypatch.chdir(tmp_path.parent)
    assert f'\n  root: "{tmp_path.name}"  # from' in propose(found)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert f'\n  root: "{tmp_path}"  # outside of' in propose(found)


@pytest.mark.parametrize(("samples", "epochs", "steps"), [(8, 200, 1), (20, 200, 2), (200, 150, 20), (20_000, 5, 2000)])
def test_the_comment_on_epochs_is_the_arithmetic(write, samples, epochs, steps):
    found = look(*write())
    found.pairs = samples
    line = next(line for line in propose(found, memory=2**36).splitlines() if line.startswith("  epochs"))
    assert line.startswith(
        f"  epochs: {epochs}  # of {steps} steps: {epochs * steps:,} in all; 3,000 are wanted, in 5 to 200"
    )


def test_the_steps_are_those_of_the_training(write, tmp_path, monkeypatch, small_network):
    from segzoo.engine import builders

    monkeypatch.chdir(tmp_path)
    write()
    run(0, "init", "photos", "labels", "--out", "mine.yaml", "--group", "a[0-3]|a")
    config = load_config("mine.yaml")
    batches = builders.train_batches(config, builders.build_source(config, "train"))
    assert f"# of {batches.steps_per_epoch} steps: " in (tmp_path / "mine.yaml").read_text()


@pytest.mark.parametrize(
    ("change", "ending", "told"),
    [
        (lambda mask: mask % 3, ".jpg", "its lossy compression changes values, and so labels"),
        (lambda mask: np.where(mask < 3, 7, 33), ".npy", "number the classes from 0 without gaps"),
        (lambda mask: white(mask), ".npy", "a single class"),
        (lambda mask: mask * np.nan, ".npy", "5120 NaN values in 5120 of 5120 pixels"),
        (lambda mask: mask.astype(np.float32) + 0.5, ".npy", "no whole numbers"),
        (lambda mask: np.stack([mask] * 4, -1), ".npy", "mode: multilabel"),
        (lambda mask: Image.fromarray(np.stack([mask] * 3 + [white(mask)], -1)), ".png", "transparent"),
        (
            lambda mask: np.stack([mask * 0 + 9, mask, mask], -1)[:1, :1].repeat(64, 0).repeat(80, 1),
            ".png",
            "the colour",
        ),
    ],
    ids=["jpeg", "gaps in arrays", "white arrays", "nan", "halves", "channels", "alpha", "one colour"],
)
def test_what_no_format_reads_is_refused_with_the_cure(write, change, ending, told):
    with pytest.raises(SegzooError, match=told):
        look(*write(change, ending=ending))


def test_one_bit_and_grey_go_together_where_they_mean_the_same(write):
    images, masks = write(white)
    for n in range(4):
        path = masks / f"a{n}.png"
        Image.open(path).convert("1").save(path)
    found = look(images, masks)
    assert found.masks == {"format": "binary"} and found.pixels == look(*write(white)).pixels
    write()
    Image.open(masks / "a0.png").convert("1").save(masks / "a0.png")
    with pytest.raises(ConfigError, match="several kinds"):
        look(images, masks)


def test_grey_labels_and_indices_of_a_palette_go_together(write, drawn):
    """As of several annotators: one program wrote grey masks, another the same labels with colours for display."""
    images, masks = write()
    path = masks / "a3.png"
    picture = Image.fromarray(np.asarray(Image.open(path)), mode="P")
    picture.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0, 0, 0, 200, 200, 200, 0, 0, 200, 200] + [0] * 747 + [255] * 3)
    picture.save(path)
    found = look(images, masks)
    assert found.masks == {"format": "index"} and found.ignore_index == 255 and "some with a palette" in found.why
    assert found.pixels == [sum(int((mask == label).sum()) for _, mask in drawn) for label in range(6)]


def test_a_palette_of_greys_in_an_order_of_its_own_is_no_label_beside_grey_masks(write):
    """As programs leave it that make files smaller: the indices are none of the labels."""
    images, masks = write()
    path = masks / "a3.png"
    labels = np.asarray(Image.open(path)) % 255
    picture = Image.fromarray(labels.max() - labels, mode="P")
    picture.putpalette(np.repeat(np.arange(int(labels.max()), -1, -1), 3).tolist())
    picture.save(path)
    with pytest.raises(ConfigError, match=r"7 grey, such as .*, 1 palette, such as .*a3.png"):
        look(images, masks)


def test_a_mask_of_background_alone_among_colours_is_no_other_kind(write, drawn):
    images, masks = write(coloured)
    Image.new("RGB", SIZE[::-1]).save(masks / "a0.png")
    assert look(images, masks).masks["format"] == "rgb"


def test_one_sample_cannot_be_split(write, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    images, masks = write()
    for n in range(1, 8):
        (images / f"a{n}.png").unlink(), (masks / f"a{n}.png").unlink()
    run(1, "init", "photos", "labels", "--out", "mine.yaml")
    assert "1 samples cannot be split" in capsys.readouterr().err and not (tmp_path / "mine.yaml").exists()


@pytest.mark.parametrize("name", [os.fsdecode(b"caf\xe9.yaml"), "two\nlines.yaml"])
def test_a_name_that_no_configuration_can_have_is_refused_before_anything_is_read(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    run(1, "init", "photos", "labels", "--out", name)
    said = capsys.readouterr().err
    assert said.startswith(f"Error: --out {name!r}: the character") and "leave it out" in said
    assert not list(tmp_path.iterdir())


def test_the_next_command_can_be_copied_as_it_is_told(write, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write()
    run(0, "init", "photos", "labels", "--out", "my data é.yaml")
    written = (tmp_path / "my data é.yaml").read_text(encoding="utf-8")
    for text, command in ((capsys.readouterr().out, "segzoo check-data"), (written, "python train.py --config")):
        assert shlex.split(text.split(command)[1].splitlines()[0]) == ["my data é.yaml"]


def test_a_damaged_sample_is_told_and_left_to_check_data(write, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write()
    (tmp_path / "labels" / "a3.png").write_bytes((tmp_path / "labels" / "a3.png").read_bytes()[:60])
    run(0, "init", "photos", "labels", "--out", "mine.yaml")
    assert "Note: 1 of 8 samples cannot be used. The first:" in capsys.readouterr().out
    assert "# NOTE: 1 of 8 samples cannot be used" in (tmp_path / "mine.yaml").read_text()


def run(code, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert stop.value.code == code


@pytest.mark.parametrize("value", [-1, -9999])
@pytest.mark.parametrize(("dtype", "ending"), [(np.int32, ".tif"), (np.int64, ".npy"), (np.float64, ".tif")])
def test_a_value_below_zero_is_that_of_unlabelled_pixels(write, drawn, value, dtype, ending):
    images, masks = write(lambda mask: mask, ending=ending)
    for n, (_, mask) in enumerate(drawn):
        changed = np.where(mask == 255, value, mask.astype(int)).astype(dtype)
        path = masks / f"a{n}{ending}"
        if ending == ".npy":
            np.save(path, changed)
        elif dtype == np.float64:  # which Pillow neither writes nor reads
            rasterio = pytest.importorskip("rasterio")
            shape = {"height": SIZE[0], "width": SIZE[1], "count": 1, "dtype": "float64"}
            with rasterio.open(path, "w", driver="GTiff", **shape) as raster:
                raster.write(changed, 1)
        else:
            Image.fromarray(changed).save(path)
    found = look(images, masks)
    unlabelled = sum(int((mask == 255).sum()) for _, mask in drawn)
    assert found.masks == {"format": "array" if ending == ".npy" else "index"} and found.classes == 6
    assert found.ignore_index == value
    assert found.ignored == f"{unlabelled:,} pixels have it, and values below 0 are no labels"
    assert f"ignore_index: {value}  # {unlabelled:,} pixels" in propose(found)
    try_out(found, [f"class_{n}" for n in range(6)])
    assert not found.remarks


def test_several_values_below_zero_are_ambiguous(write):
    with pytest.raises(ConfigError, match=r"hold -9999, -1: values below 0 are no labels.*masks\.values with ignore"):
        look(
            *write(lambda mask: np.where(mask == 255, -1, np.where(mask == 0, -9999, mask.astype(int))), ending=".npy")
        )
