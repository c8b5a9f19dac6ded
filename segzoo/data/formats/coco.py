"""Masks from one COCO JSON for a whole split: polygons and run lengths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from segzoo.data.formats.annotations import (
    coordinates,
    differs,
    entries,
    identifier,
    path_length,
    read_json,
    shown,
    whole,
)
from segzoo.data.formats.contract import Labels, Missing, painted
from segzoo.data.formats.table import MASK_FORMATS
from segzoo.data.refusals import too_many_pixels
from segzoo.errors import ConfigError, DataError
from segzoo.extras import install_command
from segzoo.task import MODES, Mode

Boxes = Literal["error", "fill", "ignore", "background"]
_LONGEST = 4e6  # pixels along a polygon: pycocotools takes 80 bytes for each, whether they lie in the image or not
_FLAGS: dict[Any, bool] = {
    None: False,
    False: False,
    True: True,
    "0": False,
    "1": True,
}  # of iscrowd; 0 and 1 equal False and True


class _Object(NamedTuple):
    """An annotation: its label, its name for messages, and the values under its keys.

    `label` is a message where the annotation cannot be used, for which its image is refused.
    """

    label: int | str
    name: str
    segmentation: Any
    box: Any


class _Listed(NamedTuple):
    """An image of the JSON: the size that it states, and its objects."""

    height: Any
    width: Any
    objects: list[_Object]


@MASK_FORMATS.register("coco")
class CocoFormat:
    """`data.mask_dir` is the JSON file; its `images` are found by the stem of their file name.

    Polygons become pixels through pycocotools, run lengths, compressed or not, as it decodes them. Larger objects are
    painted first, so that small ones in front of them stay visible; crowds carry the ignore index. Ids may be numbers
    or text. Annotations of images that the file does not list are left out, and polygons of fewer than three points
    enclose nothing; `remarks` counts both. An annotation that cannot be used is an error of its image alone.

    Args:
        labels: the classes, which are the names of categories.
        background: class, or "ignore", of pixels without an object (not in multilabel); None: the first class.
        other: treatment of categories outside `labels`: "error"; "ignore" for the ignore index; "background" as if they
            were not there.
        boxes: treatment of annotations with a box and no segmentation: "error"; "fill" for its box; "ignore" for the
            ignore index in its box; "background" as if it were not there.
    """

    modes: tuple[Mode, ...] = MODES
    suffixes: tuple[str, ...] = ()
    settings = ""
    white = ""
    missing: Missing = "background"
    first_is_background = True
    catalogue = True

    def __init__(
        self,
        labels: Labels,
        background: str | None = None,
        other: Literal["error", "ignore", "background"] = "error",
        boxes: Boxes = "error",
    ):
        if other not in ("error", "ignore", "background"):
            raise ConfigError(f"masks.other must be error, ignore or background, got {other!r}.")
        if boxes not in ("error", "fill", "ignore", "background"):
            raise ConfigError(f"masks.boxes must be error, fill, ignore or background, got {boxes!r}.")
        self.labels = labels
        self.remarks: list[str] = []
        self._background = 0 if background is None else labels.number(background, "masks.background")
        self._other = other
        self._boxes = boxes
        self._listed: dict[Path, dict[str, _Listed]] = {}

    def find(self, folders: Sequence[Path], pattern: str) -> dict[str, Path]:
        """Return the JSON for each image that it lists, by stem; a place is `annotations.json/stem`.

        Raises:
            ConfigError: pycocotools is missing; only reading requires it, not prediction with a trained model.
            DataError: the JSON file is missing or unusable.
        """
        try:
            import pycocotools.mask  # noqa: F401
        except ImportError as error:
            raise ConfigError(f"masks: coco needs pycocotools: {install_command('coco')}.") from error
        return {stem: path / stem for path in folders for stem in self._read(path)}

    def read(self, place: Path, image: Path, size: tuple[int, int]) -> np.ndarray:
        """Return labels (H, W), or in multilabel (H, W, C)."""
        listed = self._listed[place.parent][place.name]
        if differs(listed.height, size[0]) or differs(listed.width, size[1]):
            raise DataError(
                f"{place.parent}: says that {image.name} is {shown(listed.width)} x {shown(listed.height)} (width x "
                f"height), but {image} is {size[1]} x {size[0]}. Correct it, or make both the same size.",
                "size_mismatch",
            )
        if size[0] * size[1] > self.labels.max_pixels:
            raise too_many_pixels(image, size[::-1], self.labels.max_pixels)
        shapes = [shape for found in listed.objects if (shape := self._shape(found, size)) is not None]
        shapes.sort(key=lambda shape: -int(shape[1].sum()))
        return painted(shapes, size, self.labels, self._background, f"{place.parent}, {image.name}")

    def files(self, place: Path) -> Iterable[Path]:
        """Return the JSON."""
        return (place.parent,)

    def blank(self, size: tuple[int, int]) -> np.ndarray:
        """Return the mask of an image that the file does not list: it shows no object."""
        return painted((), size, self.labels, self._background, "")

    def _read(self, path: Path) -> dict[str, _Listed]:
        """Parse a file; return its entry for each image by the image's stem."""
        if path.suffix.lower() != ".json" or not path.is_file():
            raise DataError(f"{path}: no such JSON file; with masks: coco, data.mask_dir is the file of annotations.")
        content = read_json(path, "file of COCO annotations")
        categories = _categories(content, path)
        found: dict[str, _Listed] = {}
        images: dict[str, str] = {}
        for number, entry in enumerate(entries(content, "images", path)):
            key, name = identifier(entry.get("id")), entry.get("file_name")
            if key is None or not isinstance(name, str) or not Path(name.replace("\\", "/")).stem:
                wrong = "id" if key is None else "file_name"
                raise DataError(
                    f"{path}: images[{number}].{wrong} is {shown(entry.get(wrong))}, not the {wrong} of an image."
                )
            stem = Path(name.replace("\\", "/")).stem
            if stem in found:
                raise DataError(f"{path}: two images are called {stem}, so which mask is whose is ambiguous.")
            if key in images:
                raise DataError(f"{path}: the images {images[key]} and {stem} have the id {key} both.")
            images[key] = stem
            found[stem] = _Listed(entry.get("height"), entry.get("width"), [])
        left_out: Counter[str] = Counter()
        for number, entry in enumerate(entries(content, "annotations", path)):
            called = f"{path}: annotation {shown(entry['id'])}" if "id" in entry else f"{path}: annotations[{number}]"
            stem = images.get(identifier(entry.get("image_id")) or "", "")
            if not stem:
                left_out["belong to images that it does not list"] += 1
                continue
            label = self._label(entry, categories, called, path)
            if label is not None:
                found[stem].objects.append(_Object(label, called, entry.get("segmentation"), entry.get("bbox")))
                left_out["have polygons of fewer than three points, which enclose nothing"] += _degenerate(entry)
        self.remarks += [f"{path}: {count} annotation(s) {why}; left out." for why, count in left_out.items() if count]
        self._listed[path] = found
        return found

    def _label(self, entry: dict[str, Any], categories: dict[str, str], name: str, path: Path) -> int | str | None:
        """Return the label of an annotation; a message if it has none, None if it is left out."""
        category = categories.get(identifier(entry.get("category_id")) or "")
        if category is None:
            given = shown(entry.get("category_id"))
            return f"{name}: its category_id is {given}, which is no id among the categories. Correct or remove it."
        crowd = entry.get("iscrowd")
        if isinstance(crowd, list | dict) or crowd not in _FLAGS:
            return f"{name}: its iscrowd is {shown(crowd)}, not 0 or 1. Correct or remove it."
        if category in self.labels.classes:
            return self.labels.ignore_index if _FLAGS[crowd] else self.labels.classes.index(category)
        if self._other == "error":
            raise DataError(
                f"{path}: annotations of the category {category!r}, which is no class. Add it to data.classes, or set "
                "masks.other: ignore or background."
            )
        return self.labels.ignore_index if self._other == "ignore" else None

    def _shape(self, found: _Object, size: tuple[int, int]) -> tuple[int, np.ndarray] | None:
        """Return label and pixels (H, W) bool of an annotation; None if it is left out."""
        if isinstance(found.label, str):
            raise DataError(found.label)
        if found.segmentation is None or (isinstance(found.segmentation, list) and not any(found.segmentation)):
            return self._box(found, found.label, size)
        if isinstance(found.segmentation, dict):
            return found.label, _runs(found.segmentation, size, f"{found.name}, segmentation")
        return found.label, _polygons(found.segmentation, size, f"{found.name}, segmentation")

    def _box(self, found: _Object, label: int, size: tuple[int, int]) -> tuple[int, np.ndarray] | None:
        if self._boxes == "background":
            return None
        if self._boxes == "error" or found.box is None:
            cure = (
                ""
                if found.box is None
                else (
                    ", or set masks.boxes: ignore (it counts in no loss), fill (the box is the mask) or background "
                    "(the annotation is left out)"
                )
            )
            raise DataError(
                f"{found.name} has {'a box but ' if found.box is not None else ''}no segmentation, so where its object "
                f"is cannot be told. Draw its outline, remove the annotation{cure}."
            )
        box = coordinates(found.box, size, f"{found.name}, bbox")
        if len(box) != 4:
            raise DataError(f"{found.name}, bbox has {len(box)} numbers, not x, y, width and height.")
        x, y, width, height = box
        edges = [x, y, x + width, y, x + width, y + height, x, y + height]
        where = _polygons([edges], size, f"{found.name}, bbox")
        return (self.labels.ignore_index if self._boxes == "ignore" else label), where


def _categories(content: dict[str, Any], path: Path) -> dict[str, str]:
    """Return the name of each category by its id."""
    found: dict[str, str] = {}
    for number, entry in enumerate(entries(content, "categories", path)):
        key, name = identifier(entry.get("id")), entry.get("name")
        if key is None or not isinstance(name, str | int | float):
            wrong = "id" if key is None else "name"
            raise DataError(f"{path}: categories[{number}].{wrong} is {shown(entry.get(wrong))}. Correct it.")
        if found.setdefault(key, str(name)) != str(name):
            raise DataError(f"{path}: the categories {found[key]!r} and {str(name)!r} have the id {key} both.")
    return found


def _degenerate(entry: dict[str, Any]) -> bool:
    """Return whether a polygon of an annotation has too few points to enclose a pixel."""
    polygons = entry.get("segmentation")
    return isinstance(polygons, list) and any(isinstance(each, list) and len(each) < 6 for each in polygons)


def _polygons(polygons: Any, size: tuple[int, int], name: str) -> np.ndarray:
    """Rasterise polygons [x, y, x, y, ...] to (H, W) bool; a single one may stand without its outer list."""
    import pycocotools.mask

    if isinstance(polygons, list) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in polygons):
        polygons = [polygons]
    if not isinstance(polygons, list):
        raise DataError(f"{name} is {shown(polygons)}, not a list of polygons or run lengths.")
    checked = []
    for number, polygon in enumerate(polygons):
        corners = coordinates(polygon, size, f"{name}[{number}]")
        if len(corners) % 2:
            raise DataError(f"{name}[{number}] has {len(corners)} numbers, where pairs of x and y are due.")
        if path_length(list(zip(corners[::2], corners[1::2], strict=True))) > _LONGEST:
            raise DataError(f"{name}[{number}] is longer than {_LONGEST:.0f} pixels. Correct or remove it.")
        if len(corners) >= 6:  # fewer enclose nothing, and pycocotools would take four numbers for a box
            checked.append(corners)
    if not checked:
        return np.zeros(size, bool)
    coded = pycocotools.mask.merge(pycocotools.mask.frPyObjects(checked, *size))
    return pycocotools.mask.decode(coded).astype(bool)


def _runs(coded: dict[str, Any], size: tuple[int, int], name: str) -> np.ndarray:
    """Return run lengths as pixels (H, W) bool: zeros and ones in turn, down the columns.

    Decoded here, as pycocotools reads beyond the end of a text that is cut off, and writes beyond its array where the
    runs are too long.
    """
    given = coded.get("size")
    if not isinstance(given, list) or [whole(value) for value in given] != list(size):
        raise DataError(
            f"{name}: run lengths of size {given if isinstance(given, list) and len(given) == 2 else shown(given)}, "
            f"where the image has {list(size)} [height, width]. Export it again.",
            "size_mismatch",
        )
    counts = coded.get("counts")
    lengths = _decompressed(counts, name) if isinstance(counts, str) else counts
    if not isinstance(lengths, list):
        raise DataError(f"{name}: counts is {shown(counts)}, not a list of run lengths or their text.")
    total = size[0] * size[1]
    for value in lengths:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= total:
            raise DataError(f"{name}: counts holds {shown(value)}, which is no length of a run. Export it again.")
    if sum(lengths) != total:
        raise DataError(f"{name}: its runs cover {sum(lengths)} of the image's {total} pixels. Export it again.")
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, np.array(lengths, np.int64))
    return flat.reshape(size[::-1]).T


def _decompressed(text: str, name: str) -> list[int]:
    """Return the run lengths of COCO's text: groups of 5 bits, the next-but-one length's difference (maskApi.c)."""
    lengths: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 30:
            raise DataError(f"{name}: counts holds {shown(character)}, which no run lengths have. Export it again.")
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            if code & 16:
                value -= 1 << shift
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    if shift:
        raise DataError(f"{name}: counts is cut off. Export it again.")
    return lengths
