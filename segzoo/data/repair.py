"""Repair of a data set: a copy with every problem fixed that can be fixed without loss."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
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
from segzoo.errors import DataError
from segzoo.files import replacing


class Repair(NamedTuple):
    """Result of a repair.

    Attributes:
        copied: pairs copied, unchanged.
        turned: images whose pixels were turned as their EXIF orientation says; their labels fit since.
        left_out: samples that are not in the copy.
    """

    copied: int
    turned: int
    left_out: int


def repair(sources: Mapping[str, FolderSource], findings: Findings, out: Path) -> Repair:
    """Write the usable pairs to `out`, in the layout that `FolderSource` reads; the originals stay as they are.

    Samples with errors are left out, save those whose mask fits the image once it is turned by its EXIF orientation:
    these are written turned, as PNG. Of samples with equal pixels and labels one is kept, in two splits that of the
    later one. Links become files. `repair.json` lists what was done with every sample that was not copied as it is.

    Args:
        sources: split to its samples.
        findings: findings of `check_splits` on these sources.
        out: a folder that is not there yet, or empty.

    Raises:
        DataError: `out` is not empty or cannot be written; masks are not one file per image, or folders are given by a
            pattern.
    """
    check_repairable(sources, out)
    errors = [problem for problem in findings.problems if problem.severity == "error" and KINDS[problem.kind].fix]
    bad = {(problem.split, problem.id): problem for problem in errors if problem.kind != "leak"}
    # Which of the two belongs to the mask nobody knows; their problem is named after a file
    bad |= {(p.split, Path(p.id).stem): p for p in findings.problems if p.kind == "same_stem"}
    done: list[dict[str, str]] = []
    copied = turned = 0
    try:
        for split, source in sources.items():
            images, masks = (out / folder for folder in source.folders)
            images.mkdir(parents=True, exist_ok=True)
            masks.mkdir(parents=True, exist_ok=True)
            for index, name in enumerate(source.ids):
                image, *found = source.files(index)  # of formats with one file each, or none
                problem = bad.get((split, name))
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
        with replacing(out / "repair.json") as temporary:
            temporary.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{out}: the copy cannot be written ({error}). What is there is incomplete.") from error
    return Repair(copied, turned, sum(entry["done"] == "left out" for entry in done))


def check_repairable(sources: Mapping[str, FolderSource], out: Path) -> None:
    """Raise DataError where `repair` would refuse to write these samples to `out`; reads none of them."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} is there already; --fix writes a copy into a new or empty folder and replaces nothing.")
    for source in sources.values():
        if isinstance(source.format, FindsMasks) or any(set("*{") & set(str(folder)) for folder in source.folders):
            raise DataError("--fix copies data sets of one folder of images and one of masks, a file for each image.")


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
