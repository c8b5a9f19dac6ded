"""Detection of data sets with named annotations: COCO, LabelMe, folders per class or per image's objects."""

from __future__ import annotations

import collections
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segzoo.autoconfig.evidence import Evidence
from segzoo.autoconfig.look import image_sizes
from segzoo.autoconfig.names import check_name
from segzoo.autoconfig.trial import sample_errors, source_of
from segzoo.data.folder import FolderSource
from segzoo.data.formats.annotations import entries as listed_in
from segzoo.data.formats.annotations import identifier, read_json
from segzoo.data.formats.annotations import shown as in_json
from segzoo.data.formats.binary import BinaryFormat
from segzoo.data.formats.contract import IGNORE
from segzoo.data.images import IMAGE_SUFFIXES
from segzoo.errors import ConfigError, DataError

_READ = 200  # samples that are read to count pixels
_MANY = 65535  # the ignore index where there are more classes than the usual one leaves room for
_BACKGROUND = ("background", "_background_")
_VAL_NAMES = ("val", "valid", "validation", "test")
_PICTURES = BinaryFormat.suffixes


def look_at_names(images: Path, masks: Path, threshold: int | None = None) -> Evidence | None:
    """Inspect a data set of one of these kinds; None if it is of another kind.

    Args:
        images: folder of the images.
        masks: a COCO JSON; a folder of LabelMe's JSON, which may be that of the images; or a folder of folders, one
            for each class or for each image.
        threshold: value from which up a pixel is of the class or object, in files of one for each.

    Raises:
        DataError: files that cannot be read.
        ConfigError: no file contains a drawing, or the format is ambiguous; the message names the option that decides.
    """
    if not images.is_dir() or not masks.exists():
        return None
    images, masks = images.resolve(), masks.resolve()
    stems = {path.stem for path in images.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES}
    seen = _kind(masks, stems, images)
    if seen is None or not stems:
        return None
    kind, names, why, options = seen
    if not names:
        raise ConfigError(f"{masks}: {kind} without a single object, so there are no classes to learn.")
    first = [name for name in names if name in _BACKGROUND][:1] or ["background"]
    classes = [*first, *(name for name in names if name not in first)]
    found = _placed(images, masks)
    found.masks, found.why, found.names, found.classes = {"format": kind, **options}, why, classes, len(classes)
    found.named = "as the files name them"
    if kind == "per_class" and first[0] not in names:
        found.why += "; pixels in none are background"
    found.ignored = "no pixel has it so far"
    if len(classes) > found.ignore_index:
        found.ignore_index = _MANY
    if found.masks.get("background") == IGNORE:
        _leave_the_rest(found)
    if threshold is not None and kind in ("per_class", "instances"):
        found.masks["threshold"] = threshold
    part = found.splits[0] if found.splits else None
    source = source_of(found, classes, part)
    found.pairs, found.unpaired = len(source), sum(problem.kind == "unpaired" for problem in source.problems)
    found.total = found.pairs
    image_sizes(found, [source.files(index)[0] for index in range(len(source))])
    _settle(found, part)
    _count(found, source_of(found, found.names, part))
    return found


def _placed(images: Path, masks: Path) -> Evidence:
    """Return evidence of the layout: split folders if train has a sibling with the same content, else flat."""
    root = Path(os.path.commonpath([images, masks if masks.is_dir() else masks.parent]))
    image_dir, mask_dir = (path.relative_to(root).as_posix() for path in (images, masks))
    if root.name == "train":
        for name in _VAL_NAMES:
            beside = root.parent / name
            if (beside / image_dir).is_dir() and (beside / mask_dir).exists():
                return Evidence(root.parent, image_dir, mask_dir, ("train", name))
    return Evidence(root, image_dir, mask_dir, None)


def _kind(masks: Path, stems: set[str], images: Path) -> tuple[str, Sequence[str], str, dict[str, Any]] | None:
    """Return the format, the names of the annotated classes, the evidence, and the format's options.

    The folder of the images may lie among those of the classes.
    """
    if masks.is_file():
        return _coco(masks) if masks.suffix.lower() == ".json" else None
    entries = [path for path in sorted(masks.iterdir()) if not path.name.startswith(".")]
    sheets = [path for path in entries if path.suffix.lower() == ".json" and path.stem in stems]
    others = [path for path in entries if path.suffix.lower() in IMAGE_SUFFIXES and path.stem not in stems]
    if sheets and not others:
        labels: set[str] = set()
        for path in sheets:
            labels |= _labels_of(path)
        return "labelme", sorted(labels - {"__ignore__"}), f"LabelMe, {len(sheets)} files with {len(labels)} labels", {}
    folders = [path for path in entries if path.is_dir() and path != images]
    if not folders or any(path.suffix.lower() in IMAGE_SUFFIXES for path in entries):
        return None
    if sum(path.name in stems for path in folders) * 2 > len(folders):
        why = f"{len(folders)} folders called like images, with a file for each object"
        return "instances", ["object"], why, {}
    return _per_class(folders, stems)


def _coco(path: Path) -> tuple[str, Sequence[str], str, dict[str, Any]]:
    """Return the result of `_kind` for a COCO JSON.

    A category that owns nothing and only groups others, as Roboflow puts it first, is no class.
    """
    content = read_json(path, "file of COCO annotations")
    categories, annotations = listed_in(content, "categories", path), listed_in(content, "annotations", path)
    used = {identifier(entry.get("category_id")) for entry in annotations} - {None}
    groups = {str(entry.get("supercategory")) for entry in categories}
    names: dict[str, bool] = {}  # each to whether it is drawn
    for number, entry in enumerate(categories):
        name, where = entry.get("name"), f"{path}: categories[{number}]"
        if not isinstance(name, str | int | float):
            raise DataError(f"{where}.name is {in_json(name)}, not the name of a category. Correct it.")
        drawn = identifier(entry.get("id")) in used
        if drawn or str(name) not in groups - {str(entry.get("supercategory"))}:
            check_name(str(name), f"{where}.name")
            names[str(name)] = drawn or names.get(str(name), False)
    if not used:
        names = {}
    # Pixels without an annotation could not be told from those drawn as background
    options = {"background": IGNORE} if any(names.get(name) for name in _BACKGROUND) else {}
    return "coco", list(names), f"COCO, {len(annotations)} annotations of {len(names)} categories", options


def _labels_of(path: Path) -> set[str]:
    """Return the labels of a LabelMe JSON's shapes, except the label of ignored pixels."""
    found = set()
    for number, shape in enumerate(listed_in(read_json(path, "LabelMe annotation"), "shapes", path), 1):
        label = shape.get("label")
        if not isinstance(label, str | int | float):
            raise DataError(f"{path}: shape {number}: its label is {in_json(label)}. Name it, or remove the shape.")
        check_name(str(label), f"{path}: shape {number}: its label")
        found.add(str(label))
    return found


def _per_class(folders: Sequence[Path], stems: set[str]) -> tuple[str, Sequence[str], str, dict[str, Any]] | None:
    """Return the result of `_kind` for one folder per class; None if they hold anything else."""
    pictures = {
        folder: [
            path for path in folder.iterdir() if path.suffix.lower() in _PICTURES and not path.name.startswith(".")
        ]
        for folder in folders
    }
    held = [path for paths in pictures.values() for path in paths]
    fitting = [any(path.stem in stems for path in paths) or not paths for paths in pictures.values()]
    if not held or not all(fitting):
        return None
    for folder in folders:
        check_name(folder.name, f"{folder.parent}: the name of a folder")
    endings = collections.Counter(path.suffix.lower() for path in held)
    ending = endings.most_common(1)[0][0] if len(endings) == 1 else ".*"
    why = f"{len(folders)} folders of {', '.join(sorted(endings))} called like images"
    options = {} if ending == ".png" else {"files": f"{{class}}/{{name}}{ending}"}
    return "per_class", [folder.name for folder in folders], why, options


def _settle(found: Evidence, part: str | None) -> None:
    """Determine from the pixels of files per class or object whether classes overlap or leave pixels unlabelled.

    Raises:
        ConfigError: files with more than two values; the message names the option that decides.
    """
    assert found.names is not None
    if found.masks["format"] not in ("per_class", "instances"):
        return
    errors = sample_errors(source_of(found, found.names, part))
    if "threshold" not in found.masks and any("masks.threshold" in error for error in errors):
        raise ConfigError(
            f"The masks look like things in white with smooth edges. If they are, say from which value up a pixel is "
            f"the thing by --threshold 128. The first: {next(e for e in errors if 'masks.threshold' in e)}"
        )
    if found.masks["format"] == "per_class" and any("belong to several classes" in error for error in errors):
        found.mode = "multilabel"
        found.why += "; some pixels are in several, so classes overlap: mode: multilabel"
        drawn = {path.name for path in (found.root / (part or ".") / found.mask_dir).iterdir()}
        found.names = [name for name in found.names if name in drawn]
        found.classes = len(found.names)
    elif any("masks.background" in error for error in errors):
        found.masks["background"] = IGNORE
        _leave_the_rest(found)


def _leave_the_rest(found: Evidence) -> None:
    """Mark pixels outside all shapes as ignored, since the background is annotated like any other class."""
    assert found.names is not None
    found.why += f"; {found.names[0]} is drawn, so pixels in none are unlabelled"
    found.ignored = "pixels that no file marks"


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
        if mask.ndim == 3:
            pixels += (mask == 1).sum((0, 1))
            found.labelled += int((mask != source.ignore_index).any(-1).sum())
        else:
            valid = mask[mask != source.ignore_index]
            pixels += np.bincount(valid, minlength=found.classes)[: found.classes]
        found.read += 1
    if not found.read and not any("EXIF" in error for error in errors):
        raise DataError(f"No mask can be read. The first: {errors[0]}")
    found.pixels = pixels.tolist()
