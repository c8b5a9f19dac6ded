"""Masks of every format, mutated: a mask of the image's size whose labels are classes or ignored, or a SegzooError."""

import base64
import copy
import functools
import io
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from segzoo.data import MASK_FORMATS, FolderSource, Labels, create_format
from segzoo.errors import SegzooError

SIZE = (12, 16)  # height, width
CLASSES = ("ground", "thing", "other")
COLORS = {"ground": [0, 0, 0], "thing": [255, 255, 255], "other": [1, 1, 1]}
PICTURES = {
    "index": {},
    "index values": {"values": {"ground": 0, "thing": [1, 255], "other": 2, "ignore": -9999}},
    "binary": {},
    "binary alpha": {"channel": "alpha"},
    "binary threshold": {"threshold": 128},
    "rgb": {"colors": COLORS},
    "per_class": {"files": "{name}_{class}.png", "background": "ground"},
    "instances": {"label": "thing", "gap": 1},
    "channels": {},
}
# Values that a JSON file can have where another is meant; text of JSON where Python would not write it
NUMBERS = (
    0,
    1,
    -1,
    2,
    0.5,
    -0.0,
    1e9,
    -(10**9),
    10**400,
    1e308,
    2**31,
    2**63,
    2**64,
    *map(float, ("inf", "-inf", "nan")),
)
TEXTS = ("", "1", "thing", "ignore", "\0", "🦓", "9" * 5000, "/" * 9, "~" * 9, "A" * 4000)
LISTS = ([], [[]], [None], [0, 0, 5, 5], [[0, 0, 9, 0, 9, 9]], [[1e9, 0, 0, 1e9, -1e9, -1e9]], [[0] * 7], [192])
RUNS = ({"size": list(SIZE), "counts": counts} for counts in ("0" * 40, [5, -5], [192], "c1660o", None))
ODD = st.sampled_from((None, True, False, *NUMBERS, *TEXTS, *LISTS, {}, {"a": 1}, *RUNS))


@functools.cache
def image_file() -> bytes:
    return encoded(Image.fromarray(np.arange(SIZE[0] * SIZE[1], dtype=np.uint8).reshape(SIZE)), "PNG")


def encoded(picture: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def labels(multilabel: bool = False, classes: tuple[str, ...] = CLASSES) -> Labels:
    return Labels(classes, 255, "multilabel" if multilabel else "multiclass", max_pixels=4096)


def check(name: str, options: dict, files: dict[str, bytes], mask_dir: str, multilabel: bool = False) -> None:
    """Read the only sample of a folder that holds `files`, and check what comes out."""
    classes = CLASSES[:2] if name == "binary" else CLASSES
    made = labels(multilabel, classes)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "images").mkdir()
        (root / "images" / "a.png").write_bytes(image_file())
        for place, data in files.items():
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            (root / place).write_bytes(data)
        try:
            masks = create_format(name, made, **options)
            source = FolderSource(root, "", classes, mask_dir=mask_dir, masks=masks)
            mask = source[0].mask
        except SegzooError as error:
            assert str(error) and len(str(error)) < 4000
            return
    assert mask.shape == ((*SIZE, len(classes)) if multilabel else SIZE)
    assert mask.dtype in (np.uint8, np.uint16)
    most = 1 if multilabel else len(classes) - 1
    assert set(np.unique(mask)) <= {*range(most + 1), 255}


# --- JSON -----------------------------------------------------------------------------------------------------------


def coco() -> dict:
    runs = {"size": list(SIZE), "counts": [20, 30, 12 * 16 - 50]}
    text = {"size": list(SIZE), "counts": "c16600000000000i1"}  # rows 3..8, columns 4..10
    return {
        "images": [{"id": 1, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}],
        "categories": [{"id": 1, "name": "thing"}, {"id": "2", "name": "other"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[2, 2, 9, 2, 9, 9.5]], "bbox": [2, 2, 7, 7]},
            {"id": 2, "image_id": 1, "category_id": 2, "segmentation": runs, "iscrowd": 0},
            {"id": 3, "image_id": 1, "category_id": 1, "segmentation": text, "iscrowd": 1},
            {"id": 4, "image_id": 1, "category_id": 1, "bbox": [1, 1, 3, 3]},
        ],
    }


@functools.cache
def pasted() -> str:
    return base64.b64encode(encoded(Image.fromarray(np.full((3, 4), 255, np.uint8)), "PNG")).decode()


def labelme() -> dict:
    return {
        "version": "5.5.0",
        "imageHeight": SIZE[0],
        "imageWidth": SIZE[1],
        "imageData": None,
        "shapes": [
            {"label": "thing", "points": [[1, 1], [9, 1], [9, 9]], "shape_type": "polygon"},
            {"label": "other", "points": [[3, 3], [6, 6]], "shape_type": "rectangle"},
            {"label": "_background_", "points": [[5, 5], [5, 7]], "shape_type": "circle"},
            {"label": "thing", "points": [[2, 2], [5, 4]], "shape_type": "mask", "mask": pasted()},
            {"label": "__ignore__", "points": [[0, 0], [9, 9]], "shape_type": "linestrip"},
        ],
    }


def places(value: object, path: tuple = ()) -> list[tuple]:
    """All paths of keys and positions inside a JSON value."""
    found = [path]
    if isinstance(value, dict):
        found += [place for key in value for place in places(value[key], (*path, key))]
    elif isinstance(value, list):
        found += [place for number, item in enumerate(value) for place in places(item, (*path, number))]
    return found


@st.composite
def documents(draw, whole) -> bytes:
    """A sound document with up to 3 changes, values replaced, deleted or doubled; then perhaps its text is bent."""
    content = copy.deepcopy(whole())
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from(places(content)))
        if not path:
            if draw(st.integers(0, 9)) == 0:
                return json.dumps(draw(ODD)).encode()
            continue
        parent = functools.reduce(lambda value, key: value[key], path[:-1], content)
        change = draw(st.sampled_from(["replace", "replace", "replace", "delete", "double"]))
        if change == "replace":
            parent[path[-1]] = copy.deepcopy(draw(ODD | st.integers() | st.floats() | st.text(max_size=8)))
        elif change == "delete":
            del parent[path[-1]]
        elif isinstance(parent, list):
            parent.append(copy.deepcopy(parent[path[-1]]))
    return bent(draw, json.dumps(content, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass"), 8)


def bent(draw, data: bytes, seldom: int) -> bytes:
    """Perhaps (1 in `seldom`) cut bytes off, or change, take out or put in some."""
    if draw(st.integers(1, seldom)) > 1 or not data:
        return data
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(changed) - 1)))
        kind = draw(st.sampled_from(["cut", "set", "set", "out", "in"]))
        if kind == "cut":
            del changed[at:]
        elif kind == "set" and changed:
            changed[at] = draw(st.integers(0, 255))
        elif kind == "out":
            del changed[at : at + draw(st.integers(1, 16))]
        elif kind == "in":
            changed[at:at] = draw(st.binary(min_size=1, max_size=8))
    return bytes(changed)


@given(documents(coco), st.sampled_from(["error", "fill", "ignore", "background"]), st.booleans())
@example(b"[" * 200_000, "error", False)
@example(b'{"images": ' + b'{"a":' * 100_000, "error", False)
@example(json.dumps(coco()).replace('"height": 12', '"height": 1' + "0" * 400).encode(), "fill", False)
@example(json.dumps(coco()).replace("9.5", "1e9").encode(), "fill", True)
@example(json.dumps(coco()).replace("c16600000000000i1", "c1660o").encode(), "fill", False)
@example(b"\xef\xbb\xbf" + json.dumps(coco()).encode(), "fill", False)
def test_coco(data, boxes, multilabel):
    pytest.importorskip("pycocotools")
    check("coco", {"boxes": boxes, "other": "ignore"}, {"all.json": data}, "all.json", multilabel)


@given(documents(labelme), st.sampled_from([None, 1, 5]), st.sampled_from(["error", "ignore"]), st.booleans())
@example(b"[" * 200_000, None, "error", False)
@example(json.dumps(labelme()).replace("[5, 7]", "[5, 1000000]").encode(), 1, "error", False)
@example(json.dumps(labelme()).replace("[9, 9]", "[9, 1" + "0" * 400 + "]").encode(), 1, "error", False)
@example(
    json.dumps(labelme()).replace('"imageData": null', '"imageData": "' + "A" * 10**6 + '"').encode(), 1, "error", True
)
def test_labelme(data, line_width, other, multilabel):
    check("labelme", {"line_width": line_width, "other": other}, {"masks/a.json": data}, "masks", multilabel)


# --- Pictures and arrays --------------------------------------------------------------------------------------------

KINDS = ["u1", "u2", "i2", "i4", "u4", "f4", "f8", "bool"]
SUFFIXES = [".png", ".tif", ".gif", ".webp", ".bmp", ".jpg"]
VALUES = st.sampled_from([0, 1, 2, 3, 128, 254, 255, 256, 65535, -1, -9999, 0.5, 1e30, float("nan")])


@st.composite
def arrays(draw) -> np.ndarray:
    """An array (H, W) or (H, W, C) of a type of numbers, mostly of the image's size, with values from a few."""
    shape = draw(st.sampled_from([SIZE] * 8 + [SIZE[::-1], (1, 1), (80, 80)]))
    channels = draw(st.sampled_from([0, 0, 0, 1, 2, 3, 3, 4]))
    sets = st.sampled_from([[0, 1], [0, 255], [0, 1, 2], [0, 1, 255]])
    chosen = np.array(draw(sets | sets | st.lists(VALUES, min_size=1, max_size=3)), np.float64)
    places = np.arange(shape[0] * shape[1] * max(channels, 1)).reshape(*shape, *([channels] if channels else []))
    with np.errstate(invalid="ignore", over="ignore"):
        return chosen[places // draw(st.sampled_from([1, 7, 40])) % len(chosen)].astype(draw(st.sampled_from(KINDS)))


@st.composite
def pictures(draw) -> tuple[str, bytes]:
    """An ending, and the bytes of a picture of some kind, perhaps damaged."""
    array = draw(arrays())
    if array.ndim == 3 and array.shape[2] in (1, 2):
        mode = "LA" if array.shape[2] == 2 else "L"
        picture = Image.fromarray(np.nan_to_num(array[..., 0]).astype(np.int64).astype(np.uint8)).convert(mode)
    else:
        plain = array.ndim == 2 and array.dtype in (np.uint8, np.uint16, np.int32, np.float32, bool)
        picture = Image.fromarray(array if plain else np.nan_to_num(array).astype(np.int64).astype(np.uint8))
    if picture.mode == "L" and draw(st.booleans()):
        picture = draw(st.sampled_from([lambda p: p.convert("P"), lambda p: p.convert("1"), lambda p: p]))(picture)
    kind, suffix = draw(st.sampled_from(SUFFIXES)), draw(st.sampled_from(SUFFIXES))
    options = {"compression": draw(st.sampled_from([None, "tiff_lzw", "tiff_deflate"]))} if kind == ".tif" else {}
    if kind in (".tif", ".gif", ".webp") and draw(st.integers(0, 4)) == 0:
        options |= {"save_all": True, "append_images": [picture] * draw(st.integers(1, 3))}
    if kind == ".webp":
        options["lossless"] = draw(st.booleans())
    form = {".tif": "TIFF", ".jpg": "JPEG"}.get(kind, kind[1:].upper())
    try:
        data = encoded(picture, form, **options)
    except (OSError, ValueError):  # a picture that the form cannot have
        data = encoded(picture.convert("RGB"), form)
    return suffix if draw(st.integers(0, 3)) == 0 else kind, bent(draw, data, 2)


@given(pictures(), st.sampled_from(sorted(PICTURES)))
def test_pictures(picture, which):
    suffix, data = picture
    name = which.split()[0]
    files = {
        "per_class": {"masks/a_thing.png": data},
        "instances": {f"masks/a/1{suffix}": data, f"masks/a/2{suffix}": data},
    }.get(name, {f"masks/a{suffix}": data})
    check(name, PICTURES[which], files, "masks", multilabel=name == "channels")


@given(st.data(), st.sampled_from([".npy", ".npz"]), st.booleans())
def test_arrays(data, suffix, multilabel):
    stream = io.BytesIO()
    array = data.draw(arrays())
    if suffix == ".npy":
        np.save(stream, array)
    else:
        (np.savez_compressed if data.draw(st.booleans()) else np.savez)(stream, mask=array)
    check("array", {}, {f"masks/a{suffix}": bent(data.draw, stream.getvalue(), 2)}, "masks", multilabel)


OPTIONS = (
    "values", "other", "colors", "high", "key", "threshold", "invert", "channel", "files", "background", "label", "gap",
    "gap_label", "boxes", "line_width", "missing",
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(OPTIONS), ODD, max_size=3), st.sampled_from(sorted(MASK_FORMATS)))
def test_options(options, name):
    try:
        create_format(name, labels(name == "channels", CLASSES[:2] if name == "binary" else CLASSES), **options)
    except SegzooError as error:
        assert str(error)
