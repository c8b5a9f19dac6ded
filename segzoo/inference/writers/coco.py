"""Objects of all images as one COCO JSON, as annotation tools and segzoo's own `masks: coco` read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from segzoo.files import replacing
from segzoo.inference.legend import Legend
from segzoo.inference.objects import Measures
from segzoo.inference.outputs import OutputOptions
from segzoo.inference.polygons import Outline, outlines
from segzoo.inference.writers.contract import Output, Prediction
from segzoo.inference.writers.table import OUTPUTS


@OUTPUTS.register("coco")
class Coco(Output):
    """COCO JSON, https://cocodataset.org/#format-data: an annotation for each object, with pixel-exact segmentation.

    Objects without holes are polygons along the edges of pixels, from which pycocotools makes the same pixels again;
    those with holes, which COCO's polygons cannot have, are compressed run lengths. The id of a category is the index
    of its class, plus one where class 0 has objects too, as COCO counts from 1.
    """

    folder = "coco"
    packages = (("skimage", "objects"), ("rasterio", "geo"), ("pycocotools", "coco"))

    def __init__(self, out: Path, legend: Legend, options: OutputOptions):
        super().__init__(out, legend, options)
        self.run_file = out / "annotations.json"
        self._first = 1 if 0 in legend.foreground else 0
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def write(self, prediction: Prediction) -> list[Path]:
        """Keep the annotations of an image."""
        height, width = prediction.class_map.shape[:2]
        image = len(self._images) + 1
        self._images.append({"id": image, "file_name": prediction.job.shown, "height": height, "width": width})
        canvas = np.zeros((height, width), np.uint8, order="F")
        for layer in prediction.objects.layers:
            for outline in outlines(layer):
                found = prediction.measures[outline.number]
                annotation: dict[str, Any] = {
                    "id": len(self._annotations) + 1,
                    "image_id": image,
                    "category_id": found.class_index + self._first,
                    "segmentation": _runs(layer, found, canvas) if outline.has_holes else _polygons(outline),
                    "area": found.pixels,
                    "bbox": [found.left, found.top, found.width, found.height],
                    "iscrowd": 0,
                }
                if found.probability is not None:
                    annotation["score"] = found.probability
                self._annotations.append(annotation)
        return []

    def finish(self) -> None:
        """Write the file."""
        assert self.run_file is not None
        content = {
            "images": self._images,
            "categories": [
                {"id": label + self._first, "name": self.legend.names[label]} for label in self.legend.foreground
            ],
            "annotations": self._annotations,
        }
        with replacing(self.run_file) as temporary, temporary.open("w", encoding="utf-8") as stream:
            json.dump(content, stream, ensure_ascii=False)


def _polygons(outline: Outline) -> list[list[float]]:
    """Return polygons [x, y, x, y, ...] of an outline without holes."""
    return [[value for point in rings[0][:-1] for value in point] for rings in outline.polygons]


def _runs(layer: np.ndarray, found: Measures, canvas: np.ndarray) -> dict[str, Any]:
    """Return compressed run lengths of an object.

    Args:
        layer: numbers of the objects, `(H, W)`.
        found: number and box of the object.
        canvas: zeros `(H, W)` uint8 in Fortran's order, which are zeros again at the end: an image for each object
            would take most of the time.
    """
    import pycocotools.mask

    box = (slice(found.top, found.top + found.height), slice(found.left, found.left + found.width))
    canvas[box] = layer[box] == found.object
    coded = pycocotools.mask.encode(canvas)
    canvas[box] = 0
    return {"size": list(coded["size"]), "counts": coded["counts"].decode("ascii")}
