"""Masks from one COCO JSON for a whole split: polygons and run lengths."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from segzoo.data.formats.contract import Labels, painted
from segzoo.errors import ConfigError, DataError
from segzoo.extras import install_command


class CocoFormat:
    """`data.mask_dir` is the JSON file; its `images` are found by the stem of their file name.

    Polygons and run lengths, compressed or not, become pixels through pycocotools. Larger objects are painted first,
    so that small ones in front of them stay visible; crowds carry the ignore index.

    Args:
        labels: the classes, which are the names of categories.
        background: class, or "ignore", of pixels without an object (not in multilabel); None: the first class.
        other: what categories that are no class are: "error"; "ignore" for the ignore index; "background" as if they
            were not there.
    """

    multilabel = (False, True)
    suffixes: tuple[str, ...] = ()
    settings = ""

    def __init__(
        self,
        labels: Labels,
        background: str | None = None,
        other: Literal["error", "ignore", "background"] = "error",
    ):
        if other not in ("error", "ignore", "background"):
            raise ConfigError(f"masks.other must be error, ignore or background, got {other!r}.")
        self.labels = labels
        self._background = 0 if background is None else labels.number(background, "masks.background")
        self._other = other
        self._objects: dict[Path, dict[str, tuple[tuple[int, int], list[Any]]]] = {}

    def find(self, folders: Sequence[Path], pattern: str) -> dict[str, Path]:
        """Return the JSON for each image that it lists, by stem; a place is `annotations.json/stem`.

        Raises:
            ConfigError: pycocotools is missing, which only reading needs: a trained model predicts without it.
            DataError: no such JSON, or one that cannot be used.
        """
        try:
            import pycocotools.mask  # noqa: F401
        except ImportError as error:
            raise ConfigError(f"masks: coco needs pycocotools: {install_command('coco')}.") from error
        return {stem: path / stem for path in folders for stem in self._read(path)}

    def read(self, place: Path, image: Path, size: tuple[int, int]) -> np.ndarray:
        """Return labels (H, W), or in multilabel (H, W, C)."""
        stated, objects = self._objects[place.parent][place.name]
        if stated != size:
            raise DataError(
                f"{place.parent}: says that {image.name} is {stated[1]} x {stated[0]} (width x height), but {image} is "
                f"{size[1]} x {size[0]}.",
                "size_mismatch",
            )
        if size[0] * size[1] > self.labels.max_pixels:
            raise DataError(f"{image}: over the limit of {self.labels.max_pixels} pixels that guards memory.")
        shapes = []
        for label, number, segmentation in objects:
            shapes.append((label, _decoded(segmentation, size, f"{place.parent}: annotation {number}")))
        shapes.sort(key=lambda shape: -int(shape[1].sum()))
        return painted(shapes, size, self.labels, self._background, f"{place.parent}, {image.name}")

    def files(self, place: Path) -> Iterable[Path]:
        """Return the JSON."""
        return (place.parent,)

    def _read(self, path: Path) -> dict[str, tuple[tuple[int, int], list[Any]]]:
        if path.suffix.lower() != ".json" or not path.is_file():
            raise DataError(f"{path}: no such JSON file; with masks: coco, data.mask_dir is the file of annotations.")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            categories = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
            images = {entry["id"]: entry for entry in content["images"]}
            found: dict[str, tuple[tuple[int, int], list[Any]]] = {}
            for entry in images.values():
                stem = Path(str(entry["file_name"])).stem
                if stem in found:
                    raise DataError(f"{path}: two images are called {stem}, so which mask is whose is ambiguous.")
                found[stem] = ((int(entry["height"]), int(entry["width"])), [])
            for entry in content["annotations"]:
                label = self._label(categories[entry["category_id"]], bool(entry.get("iscrowd")), path)
                if label is not None:
                    stem = Path(str(images[entry["image_id"]]["file_name"])).stem
                    found[stem][1].append((label, entry.get("id"), entry["segmentation"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: no COCO annotations ({type(error).__name__}: {error}).") from error
        self._objects[path] = found
        return found

    def _label(self, category: str, crowd: bool, path: Path) -> int | None:
        if category in self.labels.classes:
            return self.labels.ignore_index if crowd else self.labels.classes.index(category)
        if self._other == "error":
            raise DataError(
                f"{path}: annotations of the category {category!r}, which is no class. Add it to data.classes, or set "
                "masks.other: ignore or background."
            )
        return self.labels.ignore_index if self._other == "ignore" else None


def _decoded(segmentation: Any, size: tuple[int, int], name: str) -> np.ndarray:
    """Return polygons, or run lengths, as pixels (H, W) bool."""
    import pycocotools.mask

    try:
        if isinstance(segmentation, dict):
            if tuple(segmentation["size"]) != size:
                raise DataError(f"{name}: run lengths of {segmentation['size']} [height, width], not {list(size)}.")
            counts = segmentation["counts"]
            coded = (
                segmentation if isinstance(counts, (str, bytes)) else pycocotools.mask.frPyObjects(segmentation, *size)
            )
        else:
            coded = pycocotools.mask.merge(pycocotools.mask.frPyObjects(segmentation, *size))
        return pycocotools.mask.decode(coded).astype(bool)
    except DataError:
        raise
    except Exception as error:  # the C code raises what it likes
        raise DataError(f"{name} cannot be read ({type(error).__name__}: {error}).") from error
