"""Data sets whose masks say by name what they show: COCO, LabelMe, folders of a class or of an image's objects."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segzoo.data.folder import IMAGE_SUFFIXES, FolderSource
from segzoo.data.formats import Labels, create_format
from segzoo.errors import ConfigError, DataError
from segzoo.propose.look import Evidence, image_sizes

_READ = 200  # samples that are read to count pixels
_BACKGROUND = ("background", "_background_")


def look_at_names(images: Path, masks: Path) -> Evidence | None:
    """Look at a data set of one of these kinds; None where it is none of them.

    Args:
        images: folder of the images.
        masks: a COCO JSON; a folder of LabelMe's JSON, which may be that of the images; or a folder of folders, one
            for each class or for each image.

    Raises:
        DataError: files that cannot be read.
        ConfigError: nothing is drawn in any of them.
    """
    if not images.is_dir() or not masks.exists():
        return None
    images, masks = images.resolve(), masks.resolve()
    stems = {path.stem for path in images.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES}
    seen = _kind(masks, stems)
    if seen is None or not stems:
        return None
    kind, names, why = seen
    if not names:
        raise ConfigError(f"{masks}: {kind} without a single object, so there are no classes to learn.")
    first = [name for name in names if name in _BACKGROUND][:1] or ["background"]
    classes = [*first, *(name for name in names if name not in first)]
    root = Path(os.path.commonpath([images, masks if masks.is_dir() else masks.parent]))
    found = Evidence(root, images.relative_to(root).as_posix(), masks.relative_to(root).as_posix(), None)
    found.masks, found.why, found.names, found.classes = {"format": kind}, why, classes, len(classes)
    if kind == "per_class" and first[0] not in names:
        found.why += "; pixels in none are background"
    found.ignored = "no pixel has it so far"
    source = FolderSource(
        root,
        ".",
        classes,
        image_dir=found.image_dir,
        mask_dir=found.mask_dir,
        masks=create_format(kind, Labels(tuple(classes))),
        strict=False,
    )
    found.pairs, found.lonely = len(source), sum(problem.kind == "unpaired" for problem in source.problems)
    image_sizes(found, [source.files(index)[0] for index in range(len(source))])
    _count(found, source)
    return found


def _kind(masks: Path, stems: set[str]) -> tuple[str, Sequence[str], str] | None:
    """Return the format, the names of what is drawn, and the evidence."""
    if masks.is_file():
        if masks.suffix.lower() != ".json":
            return None
        try:
            content = json.loads(masks.read_text(encoding="utf-8"))
            names = [str(entry["name"]) for entry in content["categories"]]
            count = len(content["annotations"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{masks}: no COCO annotations ({type(error).__name__}: {error}).") from error
        return "coco", list(dict.fromkeys(names)), f"COCO, {count} annotations of {len(names)} categories"
    entries = [path for path in sorted(masks.iterdir()) if not path.name.startswith(".")]
    sheets = [path for path in entries if path.suffix.lower() == ".json" and path.stem in stems]
    others = [path for path in entries if path.suffix.lower() in IMAGE_SUFFIXES and path.stem not in stems]
    if sheets and not others:
        labels: set[str] = set()
        for path in sheets:
            try:
                labels |= {str(shape["label"]) for shape in json.loads(path.read_text(encoding="utf-8"))["shapes"]}
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise DataError(f"{path}: no LabelMe annotation ({type(error).__name__}: {error}).") from error
        return "labelme", sorted(labels - {"__ignore__"}), f"LabelMe, {len(sheets)} files with {len(labels)} labels"
    folders = [path for path in entries if path.is_dir()]
    if not folders or any(path.suffix.lower() in IMAGE_SUFFIXES for path in entries):
        return None
    if sum(path.name in stems for path in folders) * 2 > len(folders):
        return "instances", ["object"], f"{len(folders)} folders called like images, with a file for each object"
    holding = [path for path in folders if any(inside.stem in stems for inside in path.iterdir())]
    if len(holding) == len(folders):
        return "per_class", [path.name for path in folders], f"{len(folders)} folders of files called like images"
    return None


def _count(found: Evidence, source: FolderSource) -> None:
    """Count the pixels of each class in some samples."""
    pixels = np.zeros(found.classes, np.int64)
    errors: list[str] = []
    for index in np.unique(np.linspace(0, len(source) - 1, min(_READ, len(source))).astype(int)):
        try:
            mask = source[int(index)].mask
        except DataError as error:
            errors.append(str(error))
            continue
        pixels += np.bincount(mask[mask != source.ignore_index], minlength=found.classes)[: found.classes]
        found.read += 1
    if not found.read:
        raise DataError(f"No mask can be read. The first: {errors[0]}")
    found.pixels = pixels.tolist()
