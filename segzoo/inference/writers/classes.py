"""Class maps: class indices as PNG, as GeoTIFF where the image has a place on Earth, in multilabel a page a class."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from segzoo.files import replacing
from segzoo.inference.frames import frame_archive
from segzoo.inference.georeference import Bands, write_geotiff
from segzoo.inference.writers.contract import Job, Output, Prediction
from segzoo.inference.writers.table import OUTPUTS


@OUTPUTS.register("classes")
class Classes(Output):
    """Class of each pixel.

    PNG of indices, 8 bits with the classes' colours as palette, 16 bits grey for more than 256 classes. In multilabel a
    TIFF of one page a class, 0 or 255. A GeoTIFF has the CRS and the transform of its image, and the largest number of
    its type (255 or 65535) as nodata where the image has no data; in multilabel one band a class, 0 or 1.
    """

    folder = "classes"
    video_suffixes = (".npz",)
    by_windows = True
    options_by_windows = ()

    def suffixes(self, job: Job) -> tuple[str, ...]:
        """Return .png, or .tif for a GeoTIFF or several pages."""
        return (".tif",) if job.is_raster or self.legend.multilabel else (".png",)

    def write(self, prediction: Prediction) -> list[Path]:
        """Write the class map of an image."""
        (path,) = self.files(prediction.job)
        if prediction.job.georeference is not None:
            write_geotiff(path, self.pixels(prediction), prediction.job.georeference, self.bands())
        elif self.legend.multilabel:
            write_layers(path, prediction.class_map)
        else:
            write_class_map(path, prediction.class_map, self.legend.colours)
        return [path]

    @contextmanager
    def open_video(self, job: Job, rate: float) -> Iterator[Callable[[Prediction], None]]:
        """Open an archive of the class maps, with the names of the classes under "classes"."""
        (path,) = self.files_of_video(job)
        with frame_archive(path, rate, classes=np.array(self.legend.names)) as put:
            yield lambda prediction: put(prediction.frame or 0, prediction.class_map)

    def bands(self) -> Bands:
        """Return one band of classes, or one for each class where they may overlap."""
        names, layered = self.legend.names, self.legend.multilabel
        dtype, nodata = (np.uint8, 255) if layered or len(names) <= 255 else (np.uint16, 65535)
        if layered:
            return Bands(len(names), dtype, nodata, names=names)
        return Bands(1, dtype, nodata, self.legend.colours)

    def pixels(self, prediction: Prediction) -> np.ndarray:
        """Return the class map with its nodata value where the image has no data."""
        bands = self.bands()
        classes = prediction.class_map.astype(bands.dtype)
        if prediction.valid is not None:
            classes[~prediction.valid] = bands.nodata
        return classes


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
    write_pages(path, [np.ascontiguousarray(layers[..., n]).astype(np.uint8) * 255 for n in range(layers.shape[2])])


def write_pages(path: Path, layers: list[np.ndarray]) -> None:
    """Write arrays `(H, W)` of uint8, uint16 or int32 as the pages of a TIFF, whole or not at all."""
    pages = [Image.fromarray(layer) for layer in layers]
    with replacing(path) as temporary:
        pages[0].save(
            temporary, format="TIFF", save_all=True, append_images=pages[1:], compression="tiff_adobe_deflate"
        )
