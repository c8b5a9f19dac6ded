"""Repair of a data set: a copy with every problem fixed that can be fixed without loss."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from segzoo.data.checks import Findings
from segzoo.data.folder import FolderSource
from segzoo.data.formats import FindsMasks
from segzoo.data.images import exif_orientation, turned
from segzoo.data.masks import check_labels
from segzoo.data.problems import KINDS
from segzoo.data.sources import Source
from segzoo.data.splits import Subset
from segzoo.errors import DataError
from segzoo.files import replacing


class Repair(NamedTuple):
    """Result of a repair.

    Attributes:
        copied: pairs copied, unchanged.
        turned: images whose pixels were turned as their EXIF orientation says; their labels fit since.
        left_out: samples that are not in the copy.
        record: JSON file in the copy that lists what was done with each sample that was not copied as it is.
    """

    copied: int
    turned: int
    left_out: int
    record: Path


def repair(sources: Mapping[str, Source], findings: Findings, out: Path) -> Repair:
    """Write the usable pairs to `out`, in the layout that `FolderSource` reads; the originals stay as they are.

    Splits with folders of their own have such in the copy; those that `segzoo.data.split` dealt from one folder of
    images and one of masks share these two there.

    Samples with errors are left out, save those whose mask fits the image once it is turned by its EXIF orientation:
    these are written turned, as PNG. Of samples with equal pixels and labels one is kept, in two splits that of the
    later one. Links become files.

    Args:
        sources: split to its samples, each a `FolderSource` or a subset of one.
        findings: findings of `check_splits` on these sources.
        out: a folder that is not there yet, or empty.

    Raises:
        DataError: `out` is not empty or cannot be written; masks are not one file per image, or folders are given by a
            pattern; samples are not stored in folders.
    """
    check_repairable(sources, out)
    errors = [problem for problem in findings.problems if problem.severity == "error" and KINDS[problem.kind].fix]
    bad = {(problem.split, problem.id): problem for problem in errors if problem.kind != "leak"}
    # Which of the two belongs to the mask nobody knows; their problem is named after a file, and after the first of
    # the splits that share a folder.
    same_stem = {(p.split, Path(p.id).stem): p for p in findings.problems if p.kind == "same_stem"}
    first_dealt = next((split for split, source in sources.items() if isinstance(source, Subset)), None)
    record = _record(sources, out)
    done: list[dict[str, str]] = []
    copied = turned = 0
    try:
        for split, samples in sources.items():
            source, places = _stored(samples)
            listed_for = first_dealt if isinstance(samples, Subset) else split
            images, masks = (out / folder for folder in source.folders)
            images.mkdir(parents=True, exist_ok=True)
            masks.mkdir(parents=True, exist_ok=True)
            for index, name in zip(places, samples.ids, strict=True):
                image, *found = source.files(index)  # of formats with one file each, or none
                problem = bad.get((split, name)) or same_stem.get((str(listed_for), name))
                pixels = _turned(source, index) if problem and problem.kind == "size_mismatch" else None
                if pixels is not None:
                    cv2.imwrite(str(images / f"{image.stem}.png"), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
                    turned += 1
                    done.append({"split": split, "id": name, "done": "turned by its EXIF orientation"})
                elif problem or (split, name) in findings.twins:
                    why = problem.message if problem else "another sample has the same pixels and the same mask"
                    done.append({"split": split, "id": name, "done": "left out", "why": why})
                    continue
                else:
                    shutil.copyfile(image, images / image.name)
                    copied += 1
                for mask in found:
                    shutil.copyfile(mask, masks / mask.name)
        with replacing(record) as temporary:
            temporary.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{out}: the copy cannot be written ({error}). What is there is incomplete.") from error
    return Repair(copied, turned, sum(entry["done"] == "left out" for entry in done), record)


def _stored(samples: Source) -> tuple[FolderSource, Sequence[int]]:
    """Return the folders that samples are stored in, and their places there; DataError if they are in none."""
    source = samples.source if isinstance(samples, Subset) else samples
    if not isinstance(source, FolderSource):
        raise DataError("--fix copies images and masks that are stored in folders; these samples are not.")
    return source, samples.places if isinstance(samples, Subset) else range(len(source))


def _record(sources: Mapping[str, Source], out: Path) -> Path:
    """Return the path of the record; it is hidden where `out` itself holds samples, beside which it is foreign."""
    folders = [folder for samples in sources.values() for folder in _stored(samples)[0].folders]
    return out / (".repair.json" if Path() in folders else "repair.json")


def check_repairable(sources: Mapping[str, Source], out: Path) -> None:
    """Raise DataError where `repair` would refuse to write these samples to `out`; reads none of them."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} is there already; --fix writes a copy into a new or empty folder and replaces nothing.")
    for samples in sources.values():
        source, _ = _stored(samples)
        if isinstance(source.format, FindsMasks) or any(set("*{") & set(str(folder)) for folder in source.folders):
            raise DataError("--fix copies data sets of one folder of images and one of masks, a file for each image.")
        for folder in source.folders:
            if folder.is_absolute() or ".." in folder.parts:  # the copy would be written among the originals
                raise DataError(
                    f"--fix copies the folders below data.root, and {folder} leads out of it. Set data.root to a "
                    "folder that holds images and masks, and data.image_dir and data.mask_dir to paths from there."
                )


def _turned(source: FolderSource, index: int) -> np.ndarray | None:
    """Return an RGB image turned by its EXIF orientation, where its sound mask fits it only then; else None."""
    image_path, *masks = source.files(index)
    if not masks:
        return None
    mask_path = masks[0]
    try:
        image = source.reader(image_path)
        size = (image.shape[0], image.shape[1])
        mask = source.format.read(mask_path, image_path, size)
        if mask.ndim == 2:
            check_labels(mask, len(source.classes), source.ignore_index, mask_path)
    except DataError:
        return None
    result = turned(image, exif_orientation(image_path))
    fits = result.shape[:2] == mask.shape[:2] != size
    return result if fits and image.dtype == np.uint8 and image.shape[2] == 3 else None
