"""A copy of a data set in which everything is mended that can be mended without losing anything."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import cv2

from segzoo.data.checks import Findings
from segzoo.data.folder import FolderSource, turned_image
from segzoo.errors import DataError
from segzoo.files import replacing


class Repair(NamedTuple):
    """What a repair did.

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
        findings: of these sources, by `check_splits`.
        out: a folder that is not there yet, or empty.

    Raises:
        DataError: `out` holds something, or cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} is there already; --fix writes a copy into a new or empty folder and replaces nothing.")
    bad = {(p.split, p.id): p for p in findings.problems if p.severity == "error" and p.kind != "leak"}
    done: list[dict[str, str]] = []
    copied = turned = 0
    try:
        for split, source in sources.items():
            images, masks = (out / folder for folder in source.folders)
            images.mkdir(parents=True, exist_ok=True)
            masks.mkdir(parents=True, exist_ok=True)
            for index, name in enumerate(source.ids):
                image, mask = source.files(index)
                problem = bad.get((split, name))
                pixels = turned_image(source, index) if problem and problem.kind == "size_mismatch" else None
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
                shutil.copyfile(mask, masks / mask.name)
        with replacing(out / "repair.json") as temporary:
            temporary.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{out}: the copy cannot be written ({error}). What is there is incomplete.") from error
    return Repair(copied, turned, sum(entry["done"] == "left out" for entry in done))
