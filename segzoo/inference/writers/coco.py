"""Objects of all images as one COCO JSON, as annotation tools and segzoo's own `masks: coco` read it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segzoo.data.tiff_decoding import import_rasterio
from segzoo.data.tiff_windows import tiff_size
from segzoo.errors import SegzooError
from segzoo.files import operation, replacing
from segzoo.inference.json_lists import json_lines, json_with_list
from segzoo.inference.legend import Legend
from segzoo.inference.objects import Measures
from segzoo.inference.outputs import OutputOptions
from segzoo.inference.polygons import Outline, outlines
from segzoo.inference.raster_outlines import run_lengths
from segzoo.inference.writers.contract import Job, Output, Prediction
from segzoo.inference.writers.table import OUTPUTS

if TYPE_CHECKING:
    from segzoo.inference.raster_objects import RasterObjects

_MOST_PIXELS = 2**32 - 1  # run lengths have 32 bits in pycocotools


@OUTPUTS.register("coco")
class Coco(Output):
    """COCO JSON, https://cocodataset.org/#format-data: an annotation for each object, with pixel-exact segmentation.

    Objects without holes are polygons along the edges of pixels, from which pycocotools makes the same pixels again;
    those with holes, which COCO's polygons cannot have, are compressed run lengths. The id of a category is the index
    of its class, plus one where class 0 has objects too, as COCO counts from 1.
    """

    folder = "coco"
    by_windows = True
    by_objects = True
    options_by_windows = ("min_area", "fill_holes")
    packages = (("skimage", "objects"), ("rasterio", "geo"), ("pycocotools", "coco"))

    def __init__(self, out: Path, legend: Legend, options: OutputOptions):
        super().__init__(out, legend, options)
        self.run_file = out / "annotations.json"
        self._first = 1 if 0 in legend.foreground else 0
        self._images: list[dict[str, Any]] = []
        self._annotations: list[Iterable[dict[str, Any]]] = []  # of each image, without ids

    def check(self, job: Job) -> None:
        """Raise SegzooError for an image whose pixels run lengths cannot count."""
        width, height = (job.by_windows and tiff_size(job.image)) or (0, 0)
        if width * height > _MOST_PIXELS:
            raise SegzooError(
                f"{job.image}: has {width * height:,} pixels, and COCO's run lengths, as pycocotools has them, count "
                f"to {_MOST_PIXELS:,}. Take polygons (--output polygons), or cut the image: gdal_translate -srcwin."
            )

    def write(self, prediction: Prediction) -> list[Path]:
        """Keep the annotations of an image."""
        size = prediction.class_map.shape[:2]
        canvas = np.zeros(size, np.uint8, order="F")
        annotations = []
        for layer in prediction.objects.layers:
            for outline in outlines(layer):
                found = prediction.measures[outline.number]
                coded = _runs(layer, found, canvas) if outline.has_holes else _polygons(outline)
                annotations.append(self._annotation(found, coded))
        self._keep(prediction.job, size, annotations)
        return []

    def write_objects(self, job: Job, objects: RasterObjects, totals: dict[str, Any]) -> None:
        """Write the annotations of an image to a file of its own, from which `finish` takes them."""
        totals["size"] = list(objects.size)
        path = self._lines(job)
        with (
            operation("write", path),
            path.open("w", encoding="utf-8") as stream,
            import_rasterio().open(objects.raster, driver="GTiff") as source,
        ):
            for outline in objects.outlines(in_pixels=True):
                found = objects.measures(outline.number)
                if outline.has_holes:
                    coded: Any = run_lengths(source, objects.layer(found.class_index) + 1, found)
                else:
                    coded = _polygons(outline)
                stream.write(json.dumps(self._annotation(found, coded)) + "\n")

    def finish_windows(self, job: Job, totals: dict[str, Any]) -> None:
        """Keep the place of the annotations of an image."""
        self._keep(job, totals["size"], json_lines(self._lines(job)))

    def _lines(self, job: Job) -> Path:
        return self.unfinished(job, ".jsonl")

    def _keep(self, job: Job, size: Sequence[int], annotations: Iterable[dict[str, Any]]) -> None:
        number = len(self._images) + 1
        self._images.append({"id": number, "file_name": job.shown, "height": size[0], "width": size[1]})
        self._annotations.append(annotations)

    def _annotation(self, found: Measures, segmentation: Any) -> dict[str, Any]:
        annotation: dict[str, Any] = {
            "category_id": found.class_index + self._first,
            "segmentation": segmentation,
            "area": found.pixels,
            "bbox": [found.left, found.top, found.width, found.height],
            "iscrowd": 0,
        }
        if found.probability is not None:
            annotation["score"] = found.probability
        return annotation

    def _numbered(self) -> Iterator[dict[str, Any]]:
        """Yield the annotations of all images, with their ids and those of their images."""
        numbers = itertools.count(1)
        for image, found in zip(self._images, self._annotations, strict=True):
            for annotation in found:
                yield {"id": next(numbers), "image_id": image["id"], **annotation}

    def finish(self) -> None:
        """Write the file."""
        assert self.run_file is not None
        head = {
            "images": self._images,
            "categories": [
                {"id": label + self._first, "name": self.legend.names[label]} for label in self.legend.foreground
            ],
        }
        with replacing(self.run_file) as temporary, temporary.open("w", encoding="utf-8") as stream:
            stream.writelines(json_with_list(head, "annotations", self._numbered()))


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
