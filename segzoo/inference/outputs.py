"""Files of a prediction: discovery of images, output paths, and storage of class maps."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from segzoo.data.images import IMAGE_SUFFIXES
from segzoo.errors import DataError, SegzooError
from segzoo.files import replacing

MAP_FOLDER, OVERLAY_FOLDER, LEGEND = "classes", "overlays", "classes.json"


@dataclass(frozen=True)
class Job:
    """One image and the two files made from it."""

    image: Path
    class_map: Path
    overlay: Path


@dataclass
class PredictionSummary:
    """Results of predicting a set of images.

    Attributes:
        out: the folder of all results.
        written: class maps written, in the order of the images.
        failed: images that could not be read, with the reason, which names the file.
    """

    out: Path
    written: list[Path] = field(default_factory=list)
    failed: dict[Path, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return one line of counts and the folder; then a line for each failure."""
        total = len(self.written) + len(self.failed)
        lines = [f"{len(self.written)} of {total} images predicted, {len(self.failed)} failed. Results: {self.out}"]
        return "\n".join([*lines, *(f"  failed: {reason}" for reason in self.failed.values())])


def find_images(path: str | Path) -> list[Path]:
    """List the image itself, or all images in a folder and, recursively, its sub-folders, sorted.

    JPEG, PNG, BMP, TIFF, WebP, GIF, .npy and .npz by their endings. Hidden files and folders are left out (archives
    from macOS bring "._NAME.jpg"), and links to folders are not followed, for they can lead in circles.

    Raises:
        DataError: a missing file or folder, or a folder without images.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path}: no such image or folder.")
    found = []
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(folder, name)
            for name in names
            if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".")
        ]
    if not found:
        raise DataError(f"{path}: no image in this folder or below (looked for {', '.join(IMAGE_SUFFIXES)}).")
    return sorted(found)


def plan(
    paths: Iterable[str | Path], out: Path, root: Path | None, overlays: bool, overwrite: bool, suffix: str = ".png"
) -> list[Job]:
    """Assign each image its output files, and check up front that none would be overwritten.

    Results keep the image's path relative to `root`, by default the deepest folder that holds all images:
    `<root>/a/1.jpg` becomes `<out>/classes/a/1.png` and `<out>/overlays/a/1.jpg`. Images of one folder that differ
    only in their endings keep them: `1.jpg.png` and `1.png.png`.

    Raises:
        DataError: no images, an image outside `root` or in the output folder, or two images with the same output files.
        SegzooError: results exist and `overwrite` is False.
    """
    images = list(dict.fromkeys(Path(path).absolute() for path in paths))
    if not images:
        raise DataError("There are no images to predict.")
    out = out.absolute()
    root = root.absolute() if root else Path(os.path.commonpath([image.parent for image in images]))
    relative = []
    for image in images:
        if not image.is_relative_to(root):
            raise DataError(f"{image}: not in {root}, so it has no place among the results.")
        if any(image.is_relative_to(out / folder) for folder in (MAP_FOLDER, OVERLAY_FOLDER)):
            raise DataError(f"{image}: is itself a result of a prediction into {out}. Choose another output folder.")
        relative.append(image.relative_to(root))
    # Case is ignored, as some file systems do.
    stems = Counter(str(name.with_suffix("")).casefold() for name in relative)
    jobs = []
    for image, name in zip(images, relative, strict=True):
        alone = stems[str(name.with_suffix("")).casefold()] == 1
        base = name.stem if alone else name.name
        jobs.append(
            Job(
                image,
                out / MAP_FOLDER / name.with_name(base + suffix),
                out / OVERLAY_FOLDER / name.with_name(base + ".jpg"),
            )
        )
    _refuse_collisions(jobs)
    results = [job.class_map for job in jobs] + ([job.overlay for job in jobs] if overlays else [])
    existing = [path for path in results if path.exists()]
    if existing and not overwrite:
        raise SegzooError(
            f"{len(existing)} results exist already, first {existing[0]}. Choose another output folder, or allow "
            "replacing them with overwrite=True (--overwrite)."
        )
    return jobs


def _refuse_collisions(jobs: list[Job]) -> None:
    # 1.jpg, 1.png and 1.jpg.tif in one folder: rare enough to ask for a rename.
    taken: dict[str, Path] = {}
    for job in jobs:
        other = taken.setdefault(str(job.class_map).casefold(), job.image)
        if other != job.image:
            raise DataError(f"{other} and {job.image} would get the same result file; rename one of them.")


def write_class_map(path: Path, class_map: np.ndarray, colours: np.ndarray) -> None:
    """Write class indices as a PNG, whole or not at all.

    Up to 256 classes: 8 bits with a palette, so that viewers show colours while the pixel values are the indices
    (Pillow gives them as they are; OpenCV and TensorFlow apply the palette). More classes: 16 bits, grey.

    Args:
        path: path of the PNG file.
        class_map: `(H, W)` uint8 or uint16.
        colours: `(classes, 3)` uint8.
    """
    picture = Image.fromarray(class_map)
    if class_map.dtype == np.uint8:
        picture.putpalette(np.asarray(colours, np.uint8).tobytes())
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG")


def write_layers(path: Path, layers: np.ndarray) -> None:
    """Write classes that may overlap, `(H, W, C)` of 0 and 1, as a TIFF of C pages of 0 and 255; whole or not."""
    pages = [
        Image.fromarray(np.ascontiguousarray(layers[..., n]).astype(np.uint8) * 255) for n in range(layers.shape[2])
    ]
    with replacing(path) as temporary:
        pages[0].save(
            temporary, format="TIFF", save_all=True, append_images=pages[1:], compression="tiff_adobe_deflate"
        )


def write_overlay(path: Path, picture: np.ndarray) -> None:
    """Write an RGB picture `(H, W, 3)` uint8 as a JPEG, whole or not at all."""
    with replacing(path) as temporary:
        Image.fromarray(picture).save(temporary, format="JPEG", quality=92)


def write_legend(out: Path, colours: np.ndarray, class_names: Sequence[str], overwrite: bool) -> None:
    """Write `classes.json`: index, name and colour of each class.

    Raises:
        SegzooError: the folder has a different legend, and `overwrite` is False.
    """
    rows = [
        {"index": index, "name": name, "colour": [int(value) for value in colour]}
        for index, (name, colour) in enumerate(zip(class_names, colours, strict=True))
    ]
    text = json.dumps(rows, indent=2, ensure_ascii=False) + "\n"
    path = out / LEGEND
    if path.exists() and not overwrite and path.read_text(encoding="utf-8") != text:
        raise SegzooError(
            f"{path} describes other classes, so results of another model lie in this folder. Choose another output "
            "folder, or allow replacing them with overwrite=True (--overwrite)."
        )
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
