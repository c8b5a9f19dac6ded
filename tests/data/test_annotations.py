"""Values in COCO and LabelMe files are taken as they are meant, or refused by file, annotation and key."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.data import FolderSource, Labels, create_format
from segzoo.errors import ConfigError, DataError

CLASSES = ("rest", "thing", "other")
SIZE = (24, 32)
SQUARE = [[4, 4, 12, 4, 12, 12, 4, 12]]  # 8 x 8 pixels from x 4, y 4
AT = (slice(4, 12), slice(4, 12))


@pytest.fixture
def root(tmp_path) -> Path:
    (tmp_path / "images").mkdir()
    add_image(tmp_path, "a")
    return tmp_path


def add_image(root: Path, name: str) -> None:
    Image.fromarray(np.full((*SIZE, 3), 90, np.uint8)).save(root / "images" / f"{name}.png")


def square(label: int = 1) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    mask[AT] = label
    return mask


def coco_text(*annotations: dict, **changes) -> str:
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}],
        "categories": [{"id": 0, "name": "objects"}, {"id": 1, "name": "thing"}, {"id": 2, "name": "other"}],
        "annotations": [{"id": n, "image_id": 1, "category_id": 1, **a} for n, a in enumerate(annotations, 1)],
        **changes,
    }
    return json.dumps(content)


def coco(root: Path, text: str | bytes, multilabel: bool = False, **options) -> FolderSource:
    pytest.importorskip("pycocotools")
    path = root / "all.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    masks = create_format("coco", Labels(CLASSES, 255, "multilabel" if multilabel else "multiclass"), **options)
    return FolderSource(root, "", CLASSES, mask_dir="all.json", masks=masks)


# --- COCO -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("empty", [{}, {"segmentation": []}, {"segmentation": None}, {"segmentation": [[]]}])
def test_a_box_without_a_segmentation_is_what_the_configuration_says(root, empty):
    box = {"bbox": [16, 8, 6, 4], **empty}
    text = coco_text({"segmentation": SQUARE}, box)
    with pytest.raises(DataError, match=r"all\.json: annotation 2 has a box but no segmentation.*masks\.boxes: ignore"):
        coco(root, text)[0]
    inside = np.s_[8:12, 16:22]
    for boxes, label in (("fill", 1), ("ignore", 255), ("background", 0)):
        expected = square()
        expected[inside] = label
        np.testing.assert_array_equal(coco(root, text, boxes=boxes)[0].mask, expected)
    with pytest.raises(DataError, match=r"annotation 1 has no segmentation.*Draw its outline, remove the annotation\."):
        coco(root, coco_text(empty), boxes="fill")[0]
    with pytest.raises(ConfigError, match=r"masks\.boxes must be error, fill, ignore or background, got 'draw'"):
        coco(root, text, boxes="draw")


def test_one_bad_annotation_is_an_error_of_its_image_alone(root):
    add_image(root, "b")
    images = [{"id": n, "file_name": f"{name}.png"} for n, name in ((1, "a"), (2, "b"))]
    text = coco_text({"segmentation": SQUARE}, {"image_id": 2, "category_id": 77}, images=images)
    made = coco(root, text)
    np.testing.assert_array_equal(made[0].mask, square())
    with pytest.raises(DataError, match=r"annotation 2: its category_id is 77, which is no id among the categories"):
        made[1]


def test_ids_may_be_text_and_sizes_may_be_missing(root):
    images = [{"id": "1", "file_name": "sub\\a.png", "height": None}]
    text = coco_text({"segmentation": SQUARE, "category_id": "2", "iscrowd": "0"}, images=images)
    np.testing.assert_array_equal(coco(root, text)[0].mask, square(2))
    images = [{"id": 1.0, "file_name": "a.png", "height": "24", "width": 32.0}]
    np.testing.assert_array_equal(coco(root, coco_text({"segmentation": SQUARE}, images=images))[0].mask, square())


def test_annotations_and_images_without_a_partner_are_left_out_and_counted(root):
    images = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "gone.png"}]
    annotations = ({"segmentation": SQUARE}, {"image_id": 99, "segmentation": SQUARE}, {"image_id": None})
    made = coco(root, coco_text(*annotations, images=images))
    assert made.ids == ["a"] and len(made.remarks) == 2
    np.testing.assert_array_equal(made[0].mask, square())
    assert "all.json: 2 annotation(s) belong to images that it does not list; left out." in made.remarks[0]
    assert "all.json: 1 image(s) (gone) listed there and not in" in made.remarks[1]


def test_polygons_of_two_points_enclose_nothing_and_are_no_boxes(root):
    made = coco(root, coco_text({"segmentation": [*SQUARE, [20, 2, 8, 8]]}))  # pycocotools alone would draw a box
    np.testing.assert_array_equal(made[0].mask, square())
    assert "1 annotation(s) have polygons of fewer than three points" in made.remarks[0]


def test_a_polygon_may_stand_without_its_outer_list(root):
    np.testing.assert_array_equal(coco(root, coco_text({"segmentation": SQUARE[0]}))[0].mask, square())


@pytest.mark.parametrize("seed", range(4))
def test_run_lengths_are_decoded_as_pycocotools_does(root, seed):
    coded = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(seed)
    mask = np.zeros(SIZE, np.uint8) if seed == 0 else (rng.random(SIZE) < [0, 0.5, 0.02, 0.98][seed]).astype(np.uint8)
    if seed == 2:
        mask[:, 10:20] = 1  # long runs have several characters, negative differences a sign
    run = coded.encode(np.asfortranarray(mask))
    text = coco_text({"segmentation": {"size": list(SIZE), "counts": run["counts"].decode()}})
    np.testing.assert_array_equal(coco(root, text)[0].mask, mask)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"size": [24, 32], "counts": [700]}, r"its runs cover 700 of the image's 768 pixels"),
        ({"size": [24, 32], "counts": [800, -32]}, r"counts holds 800, which is no length of a run"),
        ({"size": [24, 32], "counts": [1.5, 766.5]}, r"counts holds 1\.5, which is no length"),
        ({"size": [24, 33], "counts": [792]}, r"run lengths of size \[24, 33\], where the image has \[24, 32\]"),
        ({"size": [24, 32], "counts": "o"}, r"counts is cut off"),
        ({"size": [24, 32], "counts": "c1 6"}, r"counts holds \" \", which no run lengths have"),
        ({"size": [24, 32], "counts": "oooooooooo0"}, r"which no run lengths have"),
        ({"size": "24", "counts": [768]}, r"run lengths of size \"24\""),
        ({"size": [24, 32]}, r"counts is null, not a list of run lengths"),
        ([[1, 2, 3, 4, 5, 6, 7]], r"segmentation\[0\] has 7 numbers, where pairs of x and y are due"),
        ([[4, 4, float("nan"), 4, 12, 12]], r"segmentation\[0\] holds NaN, far outside of the image of 32 x 24"),
        ([[4, 4, float("inf"), 4, 12, 12]], r"holds Infinity, far outside"),
        ([[4, 4, 1e9, 4, 12, 12]], r"holds 1000000000\.0, far outside"),
        ([[4, 4, 10**400, 4, 12, 12]], r"holds a number of about 400 digits, far outside"),
        ([[4, 4, "12", 4, 12, 12]], r'segmentation\[0\] holds "12", which is no number'),
        ([[4, 4, True, 4, 12, 12]], r"holds true, which is no number"),
        ([{"x": 4}], r"segmentation\[0\] is an object of 1, not a list of numbers"),
        ("4 4 12 4", r'segmentation is "4 4 12 4", not a list of polygons'),
    ],
)
def test_segmentations_are_checked_before_any_c_code(root, segmentation, message):
    with pytest.raises(DataError, match=r"all\.json: annotation 1, segmentation.*") as caught:
        coco(root, coco_text({"segmentation": segmentation}))[0]
    assert caught.match(message)


def test_endless_polygons_are_refused(root):
    zigzag = [value for n in range(20_000) for value in (500 * (n % 2), n % 24)]
    with pytest.raises(DataError, match=r"segmentation\[0\] is longer than 4000000 pixels"):
        coco(root, coco_text({"segmentation": [zigzag]}))[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 200_000, "lists within lists, too deep"),
        ("[]", "it holds a list of 0, not an object"),
        ("{", "JSONDecodeError"),
        (b"\xff\xfe\xfd", "Error"),
        ("{}", "'categories' is missing"),
        (coco_text(categories=3), "'categories' is 3, not a list"),
        (coco_text(categories=[3]), r"categories\[0\] is 3, not an object"),
        (coco_text(categories=[{"id": 1}]), r"categories\[0\]\.name is null"),
        (coco_text(categories=[{"id": 1, "name": "a"}, {"id": "1", "name": "b"}]), "'a' and 'b' have the id 1 both"),
        (coco_text(images=None), "'images' is null, not a list"),
        (coco_text(images=[{"id": [], "file_name": "a.png"}]), r"images\[0\]\.id is a list of 0"),
        (coco_text(images=[{"id": 1, "file_name": 5}]), r"images\[0\]\.file_name is 5"),
        (coco_text(images=[{"id": n, "file_name": f"{n}/a.png"} for n in (1, 2)]), "two images are called a"),
        (coco_text(images=[{"id": 1, "file_name": f"{n}.png"} for n in "ab"]), "images a and b have the id 1 both"),
        (coco_text(annotations={}), "'annotations' is an object of 0, not a list"),
        (coco_text(annotations=["x"]), r'annotations\[0\] is "x", not an object'),
    ],
)
def test_files_that_are_no_coco_say_where(root, text, message):
    with pytest.raises(DataError, match=r"all\.json: .*") as caught:
        coco(root, text)
    assert caught.match(message)


@pytest.mark.parametrize("height", [10**400, -24, 24.5, "24 px", [24], True])
def test_sizes_that_are_not_the_images_are_refused(root, height):
    images = [{"id": 1, "file_name": "a.png", "height": height, "width": 32}]
    with pytest.raises(DataError, match=r"all\.json: says that a\.png is 32 x .*, but .* is 32 x 24") as caught:
        coco(root, coco_text(images=images))[0]
    assert caught.value.kind == "size_mismatch" and len(str(caught.value)) < 600


def test_iscrowd_is_a_flag(root):
    for crowd, label in ((1, 255), (True, 255), ("1", 255), (0, 1), (None, 1), ("0", 1)):
        text = coco_text({"segmentation": SQUARE, "iscrowd": crowd})
        np.testing.assert_array_equal(coco(root, text)[0].mask, square(label))
    for crowd in ("no", 2, [], {}):
        with pytest.raises(DataError, match=r"annotation 1: its iscrowd is .*, not 0 or 1"):
            coco(root, coco_text({"segmentation": SQUARE, "iscrowd": crowd}))[0]


def test_a_byte_order_mark_is_no_damage(root):
    text = b"\xef\xbb\xbf" + coco_text({"segmentation": SQUARE}).encode()
    np.testing.assert_array_equal(coco(root, text)[0].mask, square())
    (root / "images" / "a.json").write_bytes(b"\xef\xbb\xbf" + labelme_text().encode())
    np.testing.assert_array_equal(labelme(root), 0)


def test_a_category_that_owns_no_annotation_need_not_be_a_class(root):
    """Roboflow writes a root category of all others, here the first."""
    np.testing.assert_array_equal(coco(root, coco_text({"segmentation": SQUARE}))[0].mask, square())


# --- LabelMe --------------------------------------------------------------------------------------------------------

OUTER, INNER = [[4, 4], [20, 4], [20, 20], [4, 20]], [[8, 8], [12, 8], [12, 12], [8, 12]]


def labelme_text(*shapes: dict, **changes) -> str:
    return json.dumps({"shapes": list(shapes), "imageHeight": SIZE[0], "imageWidth": SIZE[1], **changes})


def labelme(root: Path, text: str | None = None, classes=CLASSES, multilabel: bool = False, **options) -> np.ndarray:
    path = root / "images" / "a.json"
    if text is not None:
        path.write_text(text)
    masks = create_format(
        "labelme", Labels(tuple(classes), 255, "multilabel" if multilabel else "multiclass"), **options
    )
    return FolderSource(root, "", classes, mask_dir="images", masks=masks)[0].mask


def ring() -> np.ndarray:
    """OUTER without INNER, outlines included in both, as Pillow fills them."""
    mask = np.zeros(SIZE, np.uint8)
    mask[4:21, 4:21] = 1
    mask[8:13, 8:13] = 0
    return mask


@pytest.mark.parametrize(
    ("hole", "classes"),
    [
        ("_background_", ("rest", "thing")),
        ("_background_", ("_background_", "thing")),
        ("rest", ("rest", "thing")),
    ],
)
def test_a_shape_of_the_background_is_a_hole(root, hole, classes):
    text = labelme_text({"label": "thing", "points": OUTER}, {"label": hole, "points": INNER})
    np.testing.assert_array_equal(labelme(root, text, classes), ring())


def test_a_hole_in_multilabel_and_in_ignored_ground(root):
    shapes = ({"label": "thing", "points": OUTER}, {"label": "other", "points": OUTER})
    text = labelme_text(*shapes, {"label": "_background_", "points": INNER})
    layers = np.stack([0 * ring(), ring(), ring()], -1)
    np.testing.assert_array_equal(labelme(root, text, multilabel=True), layers)
    text = labelme_text(shapes[0], {"label": "_background_", "points": INNER})
    np.testing.assert_array_equal(labelme(root, text, background="ignore"), np.where(ring() == 1, 1, 255))


@pytest.mark.parametrize("place", [0, 2])
def test_a_hole_that_is_a_class_in_multilabel_clears_the_others(root, place):
    classes = ["thing", "other"]
    classes.insert(place, "_background_")
    shapes = [{"label": name, "points": OUTER} for name in ("thing", "other", "__ignore__", "thing", "other")]
    text = labelme_text(*shapes, {"label": "_background_", "points": INNER})
    found = labelme(root, text, classes, multilabel=True)
    hole = np.zeros(SIZE, np.uint8)
    hole[8:13, 8:13] = 1
    layers = {name: ring() for name in ("thing", "other")}
    ignored = np.where(ring() == 1, 255, 0)
    for number, name in enumerate(classes):
        expected = layers.get(name, hole)
        if name == "_background_":
            expected = np.where(ignored == 255, 255, hole)
        np.testing.assert_array_equal(found[..., number], expected)


@pytest.mark.parametrize("kind", ["rectangle", "rotation", "oriented_rectangle", "quadrilateral", "polygon", None])
def test_four_corners_are_a_polygon(root, kind):
    turned = [[10, 4], [16, 10], [10, 16], [4, 10]]
    text = labelme_text({"label": "thing", "points": turned, "shape_type": kind})
    down, across = np.mgrid[: SIZE[0], : SIZE[1]]
    np.testing.assert_array_equal(labelme(root, text), np.abs(down - 10) + np.abs(across - 10) <= 6)


def test_lines_are_refused_or_drawn_with_the_given_width(root):
    line = {"label": "thing", "points": [[5, 10], [20, 10]], "shape_type": "line"}
    strip = {"label": "thing", "points": [[5, 3], [20, 3], [20, 15]], "shape_type": "linestrip"}
    point = {"label": "thing", "points": [[10, 10]], "shape_type": "point"}
    for shape in (line, strip, point):
        with pytest.raises(DataError, match=rf"shape 1: a {shape['shape_type']} of .*Set masks\.line_width"):
            labelme(root, labelme_text(shape))
    expected = np.zeros(SIZE, np.uint8)
    expected[10, 5:21] = 1
    np.testing.assert_array_equal(labelme(root, labelme_text(line), line_width=1), expected)
    wide = labelme(root, labelme_text(line), line_width=5)
    assert (wide[8:13, 5:21] == 1).all() and wide[[7, 13]].sum() == 0 and wide[10, [3, 22]].all()
    expected = np.zeros(SIZE, np.uint8)
    expected[3, 5:21], expected[3:16, 20] = 1, 1
    np.testing.assert_array_equal(labelme(root, labelme_text(strip), line_width=1), expected)
    dot = labelme(root, labelme_text(point), line_width=7)
    assert dot[7:14, 10].all() and dot[10, 7:14].all() and dot.sum() < 49 and dot[:, :7].sum() == 0
    with pytest.raises(ConfigError, match=r"masks\.line_width must be 1 to 256 pixels, got 0"):
        labelme(root, labelme_text(line), line_width=0)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"shape_type": "circle", "points": [[10, 10], [10, 10**6]]}, r"points\[1\] holds 1000000, far outside"),
        ({"points": [[0, 0], [9, 0], [9, 10**400]]}, r"points\[2\] holds a number of about 400 digits"),
        ({"points": [[0, 0], [9, 0], [9, float("nan")]]}, r"points\[2\] holds NaN"),
        ({"points": [[0, 0], [9, 0], [9, "9"]]}, r'points\[2\] holds "9", which is no number'),
        ({"points": [[0, 0], [9, 0], [9]]}, r"points\[2\] has 1 numbers"),
        ({"points": [[0, 0], [9, 0], 9]}, r"points\[2\] is 9, not a list of numbers"),
        ({"points": "0 0"}, r'points is "0 0", not a list of points'),
        ({"points": None}, r"points is null, not a list of points"),
        ({"points": []}, r"a polygon of 0 points encloses no pixels\. Draw it again, or remove it"),
        ({"shape_type": ["polygon"], "points": []}, r"a a list of 1 of 0 points|encloses no pixels"),
        ({"shape_type": "mask", "points": [[0, 0], [3, 3]]}, r"its mask is null, not a picture in base64"),
        ({"shape_type": "mask", "points": [[0, 0], [3, 3]], "mask": "AAAA"}, r"its mask cannot be read"),
        ({"shape_type": "mask", "points": [[0, 0], [3, 3]], "mask": "é"}, r"its mask cannot be read"),
        ({"label": None, "points": []}, r"its label is null"),
        ({"label": ["thing"], "points": []}, r"its label is a list of 1"),
    ],
)
def test_shapes_are_checked_by_their_key(root, shape, message):
    with pytest.raises(DataError, match=r"a\.json: shape 1.*") as caught:
        labelme(root, labelme_text({"label": "thing", **shape}))
    assert caught.match(message) and len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 200_000, "lists within lists, too deep"),
        ("[1]", "it holds a list of 1, not an object"),
        (labelme_text(shapes={}), "'shapes' is an object of 0, not a list"),
        (labelme_text(shapes=[1]), r"shapes\[0\] is 1, not an object"),
        (labelme_text(imageHeight="tall"), 'drawn on an image of 32 x "tall"'),
        (labelme_text(imageHeight=10**400), "drawn on an image of 32 x a number of about 400 digits"),
    ],
)
def test_files_that_are_no_labelme_say_where(root, text, message):
    with pytest.raises(DataError, match=r"a\.json: ") as caught:
        labelme(root, text)
    assert caught.match(message) and len(str(caught.value)) < 600


def test_image_data_and_sizes_that_are_missing_are_no_matter(root):
    text = labelme_text({"label": "thing", "points": INNER}, imageData="A" * 10**6, imageHeight=None, imageWidth=0)
    assert labelme(root, text).sum() == 25
