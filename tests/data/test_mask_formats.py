"""Every mask format, on files written here, against the labels that they were written from."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.data import MASK_FORMATS, FolderSource, Labels, create_format
from segzoo.errors import ConfigError, DataError, UnknownNameError

CLASSES = ["ground", "thing", "other"]
COLORS = {"ground": [0, 0, 0], "thing": [128, 64, 0], "other": [0, 0, 192]}


@pytest.fixture
def truth() -> np.ndarray:
    mask = np.zeros((24, 32), np.uint8)
    mask[4:12, 6:20] = 1
    mask[14:20, 10:30] = 2
    return mask


@pytest.fixture
def root(tmp_path) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)).save(
        tmp_path / "images" / "a.png"
    )
    return tmp_path


def read(root, name, classes=CLASSES, multilabel=False, ignore_index=255, mask_dir="masks", **options):
    """The mask of the one image in `root`."""
    masks = create_format(
        name, Labels(tuple(classes), ignore_index, "multilabel" if multilabel else "multiclass"), **options
    )
    source = FolderSource(root, "", classes, ignore_index, mask_dir=mask_dir, masks=masks)
    assert source.ids == ["a"]
    return source[0].mask


def save(path: Path, array: np.ndarray, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def colored(truth: np.ndarray) -> np.ndarray:
    return np.array(list(COLORS.values()), np.uint8)[truth]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_index_masks_of_8_and_16_bits(root, truth, suffix, dtype):
    save(root / "masks" / f"a{suffix}", truth.astype(dtype))
    np.testing.assert_array_equal(read(root, "index"), truth)


def test_a_tiff_of_32_bits_keeps_labels_beyond_16(root, truth):
    Image.fromarray(truth.astype(np.int32) * 70000).save(root / "masks" / "a.tif")
    with pytest.raises(DataError, match=r"label 70000 \(112 pixels\) at .*, 140000 \(120 pixels\)"):
        read(root, "index")


def test_a_truncated_tiff_is_refused(root, truth):
    save(root / "masks" / "a.tif", np.random.default_rng(0).integers(0, 3, (200, 32), np.uint8))
    path = root / "masks" / "a.tif"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"a\.tif: cannot be read as a mask"):
        read(root, "index")


def test_index_values_can_be_named(root, truth):
    """As in Cityscapes, whose files hold the numbers of more classes than anybody trains on."""
    stored = np.array([7, 26, 255], np.uint8)[truth]
    save(root / "masks" / "a.png", stored)
    two = CLASSES[:2]
    values = {"ground": 7, "thing": [25, 26], "ignore": 255}
    np.testing.assert_array_equal(read(root, "index", two, values=values), np.array([0, 1, 255])[truth])
    other = {"ground": 7, "thing": 33}
    with pytest.raises(DataError, match=r"a\.png: value 26 \(112 pixels\), 255 \(120 pixels\) is not in masks\.values"):
        read(root, "index", two, values=other)
    assert (read(root, "index", two, values=other, other="ignore") == 255).sum() == 232


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"grund": 7}, r"masks\.values: Unknown class 'grund'\. Did you mean ground"),
        ({"ground": 7}, r"masks\.values has no value for thing, other\."),
        ({"ground": 7, "thing": [8, 7], "other": 9}, r"masks\.values: 7 stands for 'ground' and for 'thing'\."),
        ({"ground": 7, "thing": 2**32, "other": 9}, r"masks\.values, thing: 4294967296 is no pixel value"),
        ([7, 8, 9], r"masks\.values must be class names and their values"),
    ],
)
def test_tables_of_values_are_checked(values, message):
    with pytest.raises(ConfigError, match=message):
        create_format("index", Labels(tuple(CLASSES)), values=values)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.csv", "name,r,g,b\nground,0,0,0\nthing,128,64,0\nother,0,0,192\n"),
        ("c.csv", "ground;0;0;0\nthing;128;64;0\nother;0;0;192\n"),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nground:0,0,0::\nthing:128,64,0::\nother:0,0,192::\n"),
        ("c.txt", "0 0 0\t\tground\n128 64 0\tthing\n0 0 192\tother\n"),
        ("c.yaml", "ground: [0, 0, 0]\nthing: [128, 64, 0]\nother: [[0, 0, 192]]\n"),
    ],
)
def test_rgb_masks_take_the_table_from_a_file(root, truth, name, text):
    (root / name).write_text(text)
    save(root / "masks" / "a.png", colored(truth))
    np.testing.assert_array_equal(read(root, "rgb", colors=str(root / name)), truth)


def test_rgb_masks_take_the_table_from_the_configuration(root, truth):
    save(root / "masks" / "a.png", colored(truth))
    np.testing.assert_array_equal(read(root, "rgb", colors=COLORS), truth)
    np.testing.assert_array_equal(read(root, "rgb", colors=list(COLORS.values())), truth)
    two = {"ground": [0, 0, 0], "thing": [[128, 64, 0], [0, 0, 192]]}
    np.testing.assert_array_equal(read(root, "rgb", ["ground", "thing"], colors=two), truth > 0)
    ignored = {**COLORS, "ignore": COLORS["other"], "other": [9, 9, 9]}
    assert (read(root, "rgb", colors=ignored) == 255).sum() == 120


def test_a_palette_png_can_be_read_by_its_colours(root, truth):
    picture = Image.fromarray(2 - truth)  # the indices are not the labels, the colours say which
    picture.putpalette([value for color in reversed(COLORS.values()) for value in color])
    picture.save(root / "masks" / "a.png")
    np.testing.assert_array_equal(read(root, "rgb", colors=COLORS), truth)


def test_a_colour_that_is_no_class_is_counted_or_ignored(root, truth):
    picture = colored(truth)
    picture[0, :5] = (1, 2, 3)
    save(root / "masks" / "a.png", picture)
    with pytest.raises(DataError, match=r"a\.png: colour \[1, 2, 3\] \(5 pixels\) stands for no class.*masks\.colors"):
        read(root, "rgb", colors=COLORS)
    mask = read(root, "rgb", colors=COLORS, other="ignore")
    assert (mask[0, :5] == 255).all() and (mask == 255).sum() == 5


def test_tables_of_colours_are_checked(root, tmp_path):
    labels = Labels(tuple(CLASSES))
    for colors, message in [
        (None, "needs colors"),
        ({"ground": [0, 0, 0]}, "no colour for thing, other"),
        ({**COLORS, "thing": [0, 0, 0]}, "stands for two classes"),
        ({**COLORS, "thing": [0, 0, 300]}, r"\[0, 0, 300\] is no \[red"),
        ({**COLORS, "thin": [1, 1, 1]}, "Unknown class 'thin'"),
        (str(tmp_path / "none.csv"), "cannot be read"),
    ]:
        with pytest.raises(ConfigError, match=message):
            create_format("rgb", labels, colors=colors)
    (tmp_path / "bad.csv").write_text("ground,0,0,0\nthing,1,2\n")
    with pytest.raises(ConfigError, match=r"bad\.csv:2: 'thing,1,2'"):
        create_format("rgb", labels, colors=str(tmp_path / "bad.csv"))


@pytest.mark.parametrize("high", [1, 255])
def test_binary_masks(root, truth, high):
    save(root / "masks" / "a.png", (truth > 0).astype(np.uint8) * high)
    np.testing.assert_array_equal(read(root, "binary", CLASSES[:2]), truth > 0)
    np.testing.assert_array_equal(read(root, "binary", CLASSES[:2], invert=True), truth == 0)


def test_smoothed_edges_are_counted_and_thresholded_only_if_asked(root, truth):
    smooth = np.where(truth > 0, 255, 0).astype(np.uint8)
    smooth[3, 6:20], smooth[12, 6:20] = 100, 200
    save(root / "masks" / "a.png", smooth)
    with pytest.raises(
        DataError, match=r"28 of 768 pixels \(3\.6 %\).*100 \(14 pixels\), 200 \(14 pixels\).*threshold"
    ):
        read(root, "binary", CLASSES[:2])
    mask = read(root, "binary", CLASSES[:2], threshold=128)
    np.testing.assert_array_equal(mask, smooth >= 128)


def test_jpeg_smeared_masks(root, truth):
    save(root / "masks" / "a.jpg", np.repeat(np.where(truth > 0, 255, 0).astype(np.uint8)[..., None], 3, 2), quality=60)
    with pytest.raises(DataError, match=r"a\.jpg: \d+ of 768 pixels .* are neither 0 nor 255"):
        read(root, "binary", CLASSES[:2])
    np.testing.assert_array_equal(read(root, "binary", CLASSES[:2], threshold=128), truth > 0)


def test_a_coloured_picture_is_no_binary_mask(root, truth):
    save(root / "masks" / "a.png", colored(truth))
    with pytest.raises(DataError, match="has colours"):
        read(root, "binary", CLASSES[:2])


@pytest.mark.parametrize("files", ["{class}/{name}.png", "{name}_{class}.png"])
def test_one_file_per_class(root, truth, files):
    for label in (1, 2):
        path = root / "masks" / files.replace("{class}", CLASSES[label]).replace("{name}", "a")
        save(path, np.where(truth == label, 255, 0).astype(np.uint8))
    np.testing.assert_array_equal(read(root, "per_class", files=files), truth)
    layers = read(root, "per_class", multilabel=True, files=files)
    np.testing.assert_array_equal(layers, np.stack([0 * truth, truth == 1, truth == 2], -1))
    assert (read(root, "per_class", files=files, background="ignore") == 255).sum() == (truth == 0).sum()


def test_pixels_of_two_classes_or_none_are_counted(root, truth):
    for name in ("ground", "thing"):
        save(root / "masks" / name / "a.png", (truth == 1).astype(np.uint8))
    with pytest.raises(DataError, match=r"112 pixels belong to several classes \(ground, thing\).*multilabel"):
        read(root, "per_class")
    assert read(root, "per_class", multilabel=True).sum() == 2 * 112
    save(root / "masks" / "thing" / "a.png", np.zeros_like(truth))
    with pytest.raises(DataError, match=r"656 pixels belong to no class.*masks\.background"):
        read(root, "per_class")


@pytest.mark.parametrize("star", [False, True])
def test_one_file_per_instance(tmp_path, truth, star):
    """The star is the layout of the 2018 Data Science Bowl: stage1_train/ID/images/ID.png, stage1_train/ID/masks/*."""
    where = tmp_path / "a" / "masks" if star else tmp_path / "masks" / "a"
    save(tmp_path / ("a/images/a.png" if star else "images/a.png"), np.zeros((24, 32, 3), np.uint8))
    for label in (1, 2):
        save(where / f"{label}.png", np.where(truth == label, 255, 0).astype(np.uint8))
    masks = create_format("instances", Labels(("rest", "nucleus")))
    folders = {"image_dir": "*/images", "mask_dir": "*/masks"} if star else {}
    source = FolderSource(tmp_path, "", ["rest", "nucleus"], masks=masks, **folders)
    np.testing.assert_array_equal(source[0].mask, truth > 0)
    assert len(source.files(0)) == 3


def test_gaps_between_instances_can_be_ignored(root):
    left, right = np.zeros((24, 32), np.uint8), np.zeros((24, 32), np.uint8)
    left[5:15, 5:15], right[5:15, 16:26] = 1, 1
    for name, mask in (("1", left), ("2", right)):
        save(root / "masks" / "a" / f"{name}.png", mask)
    mask = read(root, "instances", ["rest", "cell"], gap=1)
    assert (mask[5:15, 15] == 255).all() and (mask[4:16, 5:15] != 255).all()


@pytest.mark.parametrize("high", [1, 255])
def test_channels_of_a_picture_are_classes(root, truth, high):
    layers = np.stack([truth > 0, truth == 1, truth == 2], -1).astype(np.uint8)
    save(root / "masks" / "a.png", layers * high)
    np.testing.assert_array_equal(read(root, "channels", multilabel=True, high=high), layers)
    with pytest.raises(DataError, match=rf"{high} \(464 places\) of 2304 are neither 0 nor {256 - high}, .*high"):
        read(root, "channels", multilabel=True, high=256 - high, ignore_index=7)
    (root / "masks" / "a.png").unlink()
    pages = [Image.fromarray(layers[..., n] * high) for n in range(3)]
    pages[0].save(root / "masks" / "a.tif", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(read(root, "channels", multilabel=True, high=high), layers)
    pages = [Image.fromarray(layers[..., n] > 0) for n in range(3)]
    pages[0].save(root / "masks" / "a.tif", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(read(root, "channels", multilabel=True, high=high), layers)


def test_multilabel_masks_of_other_channels_or_values_are_refused(root, truth):
    np.save(root / "masks" / "a.npy", np.stack([truth == 1] * 2, -1))
    with pytest.raises(DataError, match=r"shape \(24, 32, 2\), where multilabel needs \(H, W, 3\)"):
        read(root, "array", multilabel=True)
    np.save(root / "masks" / "a.npy", np.stack([truth] * 3, -1))
    with pytest.raises(DataError, match=r"2 \(360 places\) of 2304 are neither 0 nor 1"):
        read(root, "array", multilabel=True)


def test_multilabel_masks_keep_ignored_places(root, truth):
    layers = np.stack([truth > 0, truth == 1, truth == 2], -1).astype(np.uint8)
    layers[0, 0, 1] = 255
    np.save(root / "masks" / "a.npy", layers)
    np.testing.assert_array_equal(read(root, "array", multilabel=True), layers)
    # also where the file has no other value, so that 255 could be taken for yes: then the configuration has to say so
    np.save(root / "masks" / "a.npy", 255 * (layers == 255))
    with pytest.raises(DataError, match=r"no mask shows more than 0 and 255, .* set masks\.high: 255"):
        read(root, "array", multilabel=True)
    np.testing.assert_array_equal(read(root, "array", multilabel=True, high=1), 255 * (layers == 255))
    np.testing.assert_array_equal(read(root, "array", multilabel=True, high=255), layers == 255)
    with pytest.raises(ConfigError, match=r"masks\.high must be 1 or 255, got 128"):
        read(root, "array", multilabel=True, high=128)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
def test_arrays(root, truth, dtype):
    np.save(root / "masks" / "a.npy", truth.astype(dtype))
    np.testing.assert_array_equal(read(root, "array"), truth)
    (root / "masks" / "a.npy").unlink()
    np.savez_compressed(root / "masks" / "a.npz", mask=truth.astype(dtype), extra=truth)
    np.testing.assert_array_equal(read(root, "array", key="mask"), truth)
    with pytest.raises(DataError, match=r"arrays \(mask, extra\) no single one\. Set masks\.key"):
        read(root, "array")


def test_arrays_that_cannot_be_used_are_refused(root, truth):
    path = root / "masks" / "a.npy"
    np.save(path, truth + 0.5)
    with pytest.raises(DataError, match="768 of 768 values of the mask are no whole numbers"):
        read(root, "array")
    np.save(path, np.array([[{}]], object))
    with pytest.raises(DataError, match="Python objects"):
        read(root, "array")
    np.save(path, truth)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=r"a\.npy: cannot be read as an array"):
        read(root, "array")
    np.save(path, np.zeros((3000, 2), np.uint8))
    with pytest.raises(DataError, match="over the limit of 5999"):
        create_format("array", Labels(("a", "b"), max_pixels=5999)).read(path, path, (3000, 2))


def coco(truth: np.ndarray, rle: bool, **changes) -> dict:
    annotations = []
    for number, label in enumerate((1, 2)):
        rows, columns = np.nonzero(truth == label)
        x, y, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        polygon = [[int(n) for n in (x, y, right, y, right, bottom, x, bottom)]]
        flat = (truth == label).T.ravel()  # uncompressed run lengths go down the columns and begin with zeros
        edges = np.flatnonzero(np.diff(flat.astype(int))) + 1
        counts = np.diff([0, *edges, flat.size]).tolist()
        segmentation = {"size": list(truth.shape), "counts": counts} if rle else polygon
        annotations.append(
            {"id": number, "image_id": 5, "category_id": 10 + label, "segmentation": segmentation, "iscrowd": 0}
        )
    return {
        "images": [{"id": 5, "file_name": "train/a.png", "height": 24, "width": 32}],
        "categories": [{"id": 11, "name": "thing"}, {"id": 12, "name": "other"}],
        "annotations": annotations,
        **changes,
    }


@pytest.mark.parametrize("rle", [False, True])
def test_coco_polygons_and_run_lengths(root, truth, rle):
    pytest.importorskip("pycocotools")
    (root / "all.json").write_text(json.dumps(coco(truth, rle)))
    np.testing.assert_array_equal(read(root, "coco", mask_dir="all.json"), truth)
    layers = read(root, "coco", mask_dir="all.json", multilabel=True)
    np.testing.assert_array_equal(layers, np.stack([0 * truth, truth == 1, truth == 2], -1))


def test_coco_crowds_categories_and_sizes(root, truth):
    pytest.importorskip("pycocotools")
    found = coco(truth, True)
    found["annotations"][0]["iscrowd"] = 1
    (root / "all.json").write_text(json.dumps(found))
    np.testing.assert_array_equal(read(root, "coco", mask_dir="all.json"), np.array([0, 255, 2])[truth])
    with pytest.raises(DataError, match="category 'other', which is no class"):
        read(root, "coco", CLASSES[:2], mask_dir="all.json")
    mask = read(root, "coco", CLASSES[:2], mask_dir="all.json", other="background")
    np.testing.assert_array_equal(mask, np.array([0, 255, 0])[truth])
    with pytest.raises(DataError, match="'other' is drawn, and is also what pixels without a shape are"):
        read(root, "coco", mask_dir="all.json", background="other")
    found["images"][0]["width"] = 33
    (root / "all.json").write_text(json.dumps(found))
    with pytest.raises(DataError, match=r"says that a\.png is 33 x 24"):
        read(root, "coco", mask_dir="all.json")


def labelme(shapes, size=(24, 32)) -> str:
    return json.dumps({"version": "5.5.0", "shapes": shapes, "imageHeight": size[0], "imageWidth": size[1]})


def test_labelme_shapes(root, truth):
    """A polygon and a rectangle by their outermost pixels, which Pillow, as labelme itself, includes."""
    shapes = [
        {"label": "thing", "shape_type": "polygon", "points": [[6, 4], [19, 4], [19, 11], [6, 11]]},
        {"label": "other", "shape_type": "rectangle", "points": [[29, 19], [10, 14]]},
    ]
    (root / "masks" / "a.json").write_text(labelme(shapes))
    np.testing.assert_array_equal(read(root, "labelme"), truth)
    stream = io.BytesIO()
    Image.fromarray((truth[4:12, 6:20] == 1).astype(np.uint8) * 255).save(stream, "PNG")
    drawn = {"label": "thing", "shape_type": "mask", "points": [[6, 4], [19, 11]]}
    shapes[0] = {**drawn, "mask": base64.b64encode(stream.getvalue()).decode()}
    (root / "masks" / "a.json").write_text(labelme(shapes))
    np.testing.assert_array_equal(read(root, "labelme"), truth)
    layers = read(root, "labelme", multilabel=True)
    np.testing.assert_array_equal(layers, np.stack([0 * truth, truth == 1, truth == 2], -1))


def test_labelme_labels_and_shapes_that_cannot_be_used(root):
    shape = {"label": "thong", "shape_type": "circle", "points": [[10, 10], [10, 13]]}
    path = root / "masks" / "a.json"
    path.write_text(labelme([shape]))
    with pytest.raises(DataError, match=r"a\.json: shape 1: its label 'thong' is no class \(ground, thing, other\)"):
        read(root, "labelme")
    assert set(np.unique(read(root, "labelme", other="ignore"))) == {0, 255}
    assert set(np.unique(read(root, "labelme", other="background"))) == {0}
    path.write_text(labelme([{**shape, "label": "thing", "shape_type": "line"}]))
    with pytest.raises(DataError, match="a line of 2 points encloses no pixels"):
        read(root, "labelme")
    path.write_text(labelme([], (32, 24)))
    with pytest.raises(DataError, match="drawn on an image of 24 x 32"):
        read(root, "labelme")
    path.write_text("{}")
    with pytest.raises(DataError, match="no LabelMe annotation"):
        read(root, "labelme")


def test_formats_are_looked_up_by_name_and_option_and_mode():
    labels = Labels(("a", "b"))
    with pytest.raises(UnknownNameError, match="masks: index reads"):
        create_format("palette", labels)
    with pytest.raises(UnknownNameError, match="Did you mean binary"):
        create_format("binry", labels)
    with pytest.raises(ConfigError, match=r"'treshold'\. Did you mean threshold"):
        create_format("binary", labels, treshold=3)
    with pytest.raises(ConfigError, match="does not go with mode: multilabel"):
        create_format("index", Labels(("a", "b"), 255, "multilabel"))
    for name in MASK_FORMATS:
        assert MASK_FORMATS[name].__doc__


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("index", {"values": 3}),
        ("index", {"values": {"ground": None, "thing": 1, "other": 2}}),
        ("rgb", {"colors": 3}),
        ("rgb", {"colors": {"ground": 3}}),
        ("rgb", {"colors": {"ground": [[1, 2]]}}),
        ("binary", {"threshold": "128"}),
        ("per_class", {"files": 3}),
        ("instances", {"label": 1}),
        ("instances", {"label": "thing", "gap": "1"}),
        ("coco", {"background": 0}),
        ("labelme", {"other": ["ignore"]}),
    ],
)
def test_options_of_another_type_are_errors_of_the_configuration(name, options):
    classes = ("ground", "thing") if name == "binary" else tuple(CLASSES)
    with pytest.raises(ConfigError, match=r"masks"):
        create_format(name, Labels(classes), **options)


def test_a_damaged_page_is_an_error_that_names_the_file(root, truth):
    """A second page without its width and height, on which Pillow raises a TypeError."""
    path = root / "masks" / "a.tif"
    first, *rest = (Image.fromarray(np.uint8(255) * (truth == n)) for n in range(3))
    first.save(path, save_all=True, append_images=rest)
    data = bytearray(path.read_bytes())
    for tag in (256, 257):
        entry = tag.to_bytes(2, "little") + (4).to_bytes(2, "little")
        at = data.index(entry, data.index(entry) + 1)
        data[at : at + 2] = (60000 + tag).to_bytes(2, "little")
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.tif: cannot be read as a mask"):
        read(root, "channels", multilabel=True)
