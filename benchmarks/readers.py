"""Images per second of the reader of each mask format, on generated data in a temporary folder.

    python benchmarks/readers.py [--size 256] [--objects 44] [--images 20] [--rounds 3] [--formats "index;coco"]

Every format holds the same objects, ellipses of three classes, with the same images as PNG: 44 objects in 256 x 256 are
what the 2018 Data Science Bowl has. One thread reads through `FolderSource`, as training does without a cache, files
being in the system's cache. CPU time (user and system) is measured, which depends less than a clock on what else the
machine does: of the image alone, and of the whole sample, the median over rounds in which the formats take turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from segzoo.data import FolderSource, ImageReader, Labels, create_format

CLASSES = [f"class_{number}" for number in range(4)]
IGNORE = 255
COLORS = {name: [60 * number, 255 - 50 * number, 40] for number, name in enumerate(CLASSES)}


@dataclass
class Scene:
    """Objects of an image: polygons (N, 2) in pixels with their classes, drawn in this order."""

    size: int
    outlines: list[np.ndarray] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)

    @classmethod
    def random(cls, rng: np.random.Generator, size: int, objects: int) -> Scene:
        """Return ellipses of 3 to 12 % of the side."""
        scene = cls(size)
        for _ in range(objects):
            centre = rng.integers(size // 8, size - size // 8, 2).tolist()
            axes = rng.integers(max(2, size // 32), max(3, size // 8), 2).tolist()
            scene.outlines.append(cv2.ellipse2Poly(centre, axes, int(rng.integers(180)), 0, 360, 10))
            scene.labels.append(int(rng.integers(1, len(CLASSES))))
        return scene

    def mask(self) -> np.ndarray:
        """Return class indices (H, W)."""
        mask = np.zeros((self.size, self.size), np.uint8)
        for outline, label in zip(self.outlines, self.labels, strict=True):
            cv2.fillPoly(mask, [outline], label)
        return mask

    def objects(self) -> list[np.ndarray]:
        """Return a mask of 0 and 255 (H, W) for each object."""
        found = []
        for outline in self.outlines:
            found.append(cv2.fillPoly(np.zeros((self.size, self.size), np.uint8), [outline], 255))
        return found


def write_png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels)


def index(folder: Path, name: str, scene: Scene) -> None:
    write_png(folder / f"{name}.png", scene.mask())


def index_tiff(folder: Path, name: str, scene: Scene) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / f"{name}.tif"), scene.mask())


def rgb(folder: Path, name: str, scene: Scene) -> None:
    write_png(folder / f"{name}.png", np.array(list(COLORS.values()), np.uint8)[scene.mask()][..., ::-1])


def binary(folder: Path, name: str, scene: Scene) -> None:
    write_png(folder / f"{name}.png", (scene.mask() > 0).astype(np.uint8) * 255)


def per_class(folder: Path, name: str, scene: Scene) -> None:
    mask = scene.mask()
    for label, of in enumerate(CLASSES):
        write_png(folder / of / f"{name}.png", (mask == label).astype(np.uint8) * 255)


def instances(folder: Path, name: str, scene: Scene) -> None:
    for number, pixels in enumerate(scene.objects()):
        write_png(folder / name / f"{number:03}.png", pixels)


def channels(folder: Path, name: str, scene: Scene) -> None:
    mask = scene.mask()
    write_png(folder / f"{name}.png", np.stack([(mask == label) * 255 for label in (3, 2, 1, 0)], -1).astype(np.uint8))


def array(folder: Path, name: str, scene: Scene) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{name}.npy", scene.mask())


def labelme(folder: Path, name: str, scene: Scene) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shapes = [
        {"label": CLASSES[label], "points": outline.tolist(), "shape_type": "polygon"}
        for outline, label in zip(scene.outlines, scene.labels, strict=True)
    ]
    found = {"imageHeight": scene.size, "imageWidth": scene.size, "imagePath": f"{name}.png", "shapes": shapes}
    (folder / f"{name}.json").write_text(json.dumps(found))


def coco(folder: Path, name: str, scene: Scene) -> None:
    """Add an image to the one JSON file of the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "all.json"
    categories = [{"id": label, "name": of} for label, of in enumerate(CLASSES)]
    empty: dict[str, Any] = {"images": [], "annotations": [], "categories": categories}
    found = json.loads(path.read_text()) if path.exists() else empty
    number = len(found["images"])
    found["images"].append({"id": number, "file_name": f"{name}.png", "height": scene.size, "width": scene.size})
    for outline, label in zip(scene.outlines, scene.labels, strict=True):
        x, y, width, height = cv2.boundingRect(outline)
        found["annotations"].append(
            {
                "id": len(found["annotations"]), "image_id": number, "category_id": label, "iscrowd": 0,
                "segmentation": [outline.ravel().tolist()], "bbox": [x, y, width, height], "area": width * height,
            }
        )  # fmt: skip
    path.write_text(json.dumps(found))


@dataclass(frozen=True)
class Layout:
    """A format as a data set has it.

    Attributes:
        write: writes the mask of one image into a folder.
        format: the mask format.
        options: its options.
        mode: mode of the labels.
        classes: their classes.
        masks: name of the place of masks, in the folder of the format.
    """

    write: Callable[[Path, str, Scene], None]
    format: str
    options: dict[str, Any] = field(default_factory=dict)
    mode: str = "multiclass"
    classes: Sequence[str] = tuple(CLASSES)
    masks: str = "masks"


_TWO = ("background", "object")
LAYOUTS = {
    "index": Layout(index, "index"),
    "index, TIFF": Layout(index_tiff, "index"),
    "rgb": Layout(rgb, "rgb", {"colors": COLORS}),
    "binary": Layout(binary, "binary", mode="binary", classes=_TWO),
    "per_class": Layout(per_class, "per_class", {"files": "{class}/{name}.png"}),
    "instances": Layout(instances, "instances", mode="binary", classes=_TWO),
    "instances, gap": Layout(instances, "instances", {"gap": 2, "gap_label": "ignore"}, "binary", _TWO),
    "channels": Layout(channels, "channels", mode="multilabel"),
    "array": Layout(array, "array"),
    "coco": Layout(coco, "coco", masks="masks/all.json"),
    "labelme": Layout(labelme, "labelme"),
}


def source_of(folder: Path, layout: Layout, scenes: Sequence[Scene]) -> FolderSource:
    """Write a data set and return its source."""
    rng = np.random.default_rng(1)
    for number, scene in enumerate(scenes):
        write_png(folder / "images" / f"{number:03}.png", rng.integers(0, 256, (scene.size, scene.size, 3), np.uint8))
        layout.write(folder / "masks", f"{number:03}", scene)
    labels = Labels(tuple(layout.classes), IGNORE, layout.mode, 2**28)
    masks = create_format(layout.format, labels, **layout.options)
    return FolderSource(
        folder, ".", list(layout.classes), IGNORE, mask_dir=layout.masks, masks=masks, images=ImageReader(3)
    )


def milliseconds(read: Callable[[int], object], count: int) -> float:
    """Return the CPU time of one image (user and system)."""
    before = time.process_time()
    for number in range(count):
        read(number)
    return 1000 * (time.process_time() - before) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="side of the images in pixels")
    parser.add_argument("--objects", type=int, default=44, help="objects in an image")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--formats", help="names of the table, separated by semicolons")
    options = parser.parse_args()
    names = options.formats.split(";") if options.formats else list(LAYOUTS)
    if unknown := set(names) - set(LAYOUTS):
        sys.exit(f"{', '.join(sorted(unknown))}: not among {', '.join(LAYOUTS)}.")
    cv2.setNumThreads(0)
    rng = np.random.default_rng(0)
    scenes = [Scene.random(rng, options.size, options.objects) for _ in range(options.images)]
    times: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as place:
        sources = {
            name: source_of(Path(place) / str(number), LAYOUTS[name], scenes) for number, name in enumerate(names)
        }
        image = Path(place) / "0" / "images"
        reader, images = ImageReader(3), sorted(image.iterdir())
        alone: list[float] = []
        for source in sources.values():
            source[0]  # imports, and files listed once
        for _ in range(options.rounds):
            alone.append(milliseconds(lambda number: reader(images[number]), options.images))
            for name, source in sources.items():
                times[name].append(milliseconds(source.__getitem__, options.images))
    base = statistics.median(alone)
    print(f"{options.size} x {options.size}, {options.objects} objects; the image alone {base:.2f} ms of CPU time\n")
    print("| Masks | ms a sample | of it the mask | images/s of a core |\n|---|---:|---:|---:|")
    for name, found in times.items():
        middle = statistics.median(found)
        print(f"| {name} | {middle:.2f} | {middle - base:.2f} | {1000 / middle:,.0f} |")


if __name__ == "__main__":
    main()
