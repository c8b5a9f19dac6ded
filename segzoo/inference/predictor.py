"""Predictor of class maps for arrays, files and folders of images of any size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from segzoo.data.images import ImageReader
from segzoo.errors import DataError, SegzooError
from segzoo.inference import outputs
from segzoo.inference.outputs import Job, PredictionSummary, find_images
from segzoo.inference.tiling import ALIGNMENT, logit_bands
from segzoo.task import Mode, array_probabilities, class_logits, predict_classes, takes_multilabel

__all__ = ["PredictionSummary", "Predictor", "find_images"]

_SMALLEST = 32  # below it the deepest features of a stride-32 network are a single padded pixel


class Predictor:
    """Predict class maps with a segmentation model; the class of a pixel is the one with the largest logit.

    On TensorFlow one graph, traced once with free batch, height and width, serves images of all sizes, without XLA,
    which would compile anew for each. JAX compiles once for each size.

    Args:
        model: from images `(B, H, W, C)`, pixels 0..255, any H and W, to logits `(B, H, W, classes)`.
        tile: height and width of the tiles of a large image, a multiple of 32; None: never tile. Decoders that pool
            over the whole image (ASPP) see the tile in its place, so results differ a little from one pass.
        overlap: pixels that neighbouring tiles share, a multiple of 32; by default a quarter of `tile`.
        tile_above: images with more pixels than this are tiled. One pass of U-Net on EfficientNet-B0 takes
            0.5 GB per million pixels.
        reader: reader of image files; None reads pictures with as many channels as the model takes.
        mode: "multilabel" for classes that may overlap: instead of a class map `(H, W)` comes 0 or 1 for each class,
            `(H, W, classes)`. None: "binary" for a model of one logit, else "multiclass".
        class_names: one for each class; `predict_files` writes them into the legend.
        palette: one colour for each class, `(classes, 3)` uint8, for class maps and overlays.
        background: class that overlays leave as the image is; None: every class is tinted.

    Attributes:
        model: the Keras model.
        classes: number of classes.
        channels: C, channels of the images.
        mode: "multiclass", "binary" or "multilabel".
        reader: reader of image files.

    Raises:
        SegzooError: an unsupported model, invalid tile sizes, or a number of names or colours
            other than that of the classes.

    Example:
        >>> predictor = segzoo.load("runs/unet_b3")
        >>> class_map = predictor("photo.jpg")  # (H, W) uint8; an array (H, W, 3) does as well
    """

    @takes_multilabel
    def __init__(
        self,
        model: keras.Model,
        *,
        tile: int | None = 1024,
        overlap: int | None = None,
        tile_above: int = 2048 * 2048,
        reader: ImageReader | None = None,
        mode: Mode | None = None,
        class_names: Sequence[str] | None = None,
        palette: np.ndarray | None = None,
        background: int | None = None,
    ):
        self.model = model
        channels = _logits_of(model)
        self.mode: Mode = mode or ("binary" if channels == 1 else "multiclass")
        if self.mode == "binary" and channels != 1:
            raise SegzooError(f"In binary mode a model returns one logit, not {channels}.")
        self.classes = channels if self.mode == "multilabel" else max(2, channels)  # one logit tells two classes apart
        self.channels: int = model.input_shape[3]
        self.reader = reader or ImageReader(self.channels)
        self.class_names = None if class_names is None else list(class_names)
        self.palette = None if palette is None else np.asarray(palette, np.uint8)
        self.background = background
        self._check_one_for_each(self.palette, self.class_names)
        self.dtype = np.uint8 if self.classes <= 256 else np.uint16
        self._tile = tile
        self._tile_above = tile_above
        if tile is not None:
            self._overlap = tile // (4 * ALIGNMENT) * ALIGNMENT if overlap is None else overlap
            _check_tiles(tile, self._overlap)
        self._logits, self._class_map = _compile(model, self.mode)

    @property
    def multilabel(self) -> bool:
        """True where classes may overlap."""
        return self.mode == "multilabel"

    def __call__(self, image: np.ndarray | str | Path) -> np.ndarray:
        """Return the class map of an image file, read by `reader`, or of an array; see `predict`."""
        return self.predict(self.reader(Path(image)) if isinstance(image, str | Path) else image)

    def predict(self, image: np.ndarray) -> np.ndarray:
        """Predict the class map of one image.

        Args:
            image: `(H, W, C)` uint8, RGB where C is 3, or float32 of 0..255. Below 32 pixels
                it is extended by reflection and the result cut.

        Returns:
            `(H, W)` class indices, uint8, or uint16 for more than 256 classes; in multilabel `(H, W, classes)` of 0
            and 1.

        Raises:
            DataError: an array of unsupported shape or type.
        """
        return self.predict_batch(self._one(image)[None])[0]

    def predict_batch(self, images: np.ndarray) -> np.ndarray:
        """Predict the class maps `(B, H, W)` of images of one size `(B, H, W, C)`; see `predict`."""
        self._check_images(images)
        height, width = images.shape[1:3]
        if self._tiles(height, width):
            return np.stack([self._predict_tiled(image) for image in images])
        return self._class_map(_extended(images))[:, :height, :width].astype(self.dtype)

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        """Predict the probabilities of the classes at every pixel of one image.

        They are computed as class maps are, large images by tiles, so that the most probable class of a pixel is that
        of `predict`. For images whose probabilities do not fit into memory see `probability_bands`.

        Args:
            image: `(H, W, C)` as `predict` takes it.

        Returns:
            `(H, W, classes)` float32, 0..1: the softmax of the logits, in binary mode (1 - p, p); both add up to 1. In
            multilabel the sigmoid of each logit.

        Raises:
            DataError: an array of unsupported shape or type.
        """
        image = self._one(image)
        found = np.empty((*image.shape[:2], self.classes), np.float32)
        for top, band in self.probability_bands(image):
            found[top : top + len(band)] = band
        return found

    def probability_bands(self, image: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Iterate over the probabilities of one image from top to bottom: one band a row of tiles, or all at once.

        Args:
            image: `(H, W, C)` as `predict` takes it.

        Yields:
            the first row of a band, and its probabilities `(h, W, classes)` float32; see `probabilities`.

        Raises:
            DataError: an array of unsupported shape or type.
        """
        image = self._one(image)
        self._check_images(image[None])
        height, width = image.shape[:2]
        if self._tiles(height, width):
            bands = self._logit_bands(image)
        else:
            bands = iter([(0, self._logits(_extended(image[None]))[0, :height, :width])])
        for top, logits in bands:
            yield top, array_probabilities(logits, self.mode)

    def _one(self, image: np.ndarray) -> np.ndarray:
        if np.ndim(image) != 3:
            raise DataError(f"An image must be (H, W, {self.channels}), got an array of shape {np.shape(image)}.")
        return np.asarray(image)

    def _check_images(self, images: np.ndarray) -> None:
        known = images.dtype in (np.uint8, np.float32)
        if images.ndim != 4 or images.shape[3] != self.channels or not known or 0 in images.shape:
            raise DataError(
                f"Images must be (B, H, W, {self.channels}) uint8 or float32, 0..255, got {images.shape} "
                f"{images.dtype}. segzoo.data.ImageReader gives them so."
            )

    def predict_files(
        self,
        paths: Iterable[str | Path],
        out: str | Path,
        colours: np.ndarray | None = None,
        class_names: Sequence[str] | None = None,
        *,
        root: str | Path | None = None,
        overlays: bool = True,
        alpha: float = 0.5,
        overwrite: bool = False,
        batch_size: int = 1,
        max_pixels: int | None = None,
        background: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> PredictionSummary:
        """Predict image files; an image that cannot be read is reported, and prediction continues with the next.

        For `<root>/a/1.jpg` come a PNG of class indices, `<out>/classes/a/1.png`, and the image under the classes'
        colours with their contours, `<out>/overlays/a/1.jpg`; with `class_names` also a legend, `<out>/classes.json`.
        Each is written whole or not at all. In multilabel the classes are a TIFF, with a page for each of them in their
        order, 0 or 255, as masks: channels reads it. Unless the reader turns images, an EXIF orientation is not
        applied: a class map lies on the pixel grid that its image file stores.

        Args:
            paths: image files; `find_images` lists those of a folder.
            out: folder for the results; made if it does not exist.
            colours: `(classes, 3)` uint8; by default the predictor's palette, else distinct colours.
            class_names: one for each class; by default the predictor's.
            root: folder whose sub-folders are kept in `out`; by default the deepest that holds all images.
            overlays: whether to write overlays too.
            alpha: opacity of the colours in overlays, 0..1.
            overwrite: whether results that exist may be replaced.
            batch_size: most images in one pass; only neighbours of the same size share one.
            max_pixels: an image with more pixels is refused before it is decoded; None: the reader's limit.
            background: class that overlays leave as the image is; by default the predictor's.
            progress: called after each batch with the number of images done so far, those that failed too.

        Raises:
            DataError: no images, images outside `root`, in the output folder, or with the same output files.
            SegzooError: results exist and `overwrite` is False; a number of names or colours other than that of the
                classes.
        """
        from segzoo.reporting.pictures import overlay, palette

        class_names = self.class_names if class_names is None else class_names
        background = self.background if background is None else background
        colours = self.palette if colours is None else colours
        if colours is None:  # there are 512 distinct colours; beyond them they repeat
            colours = np.resize(palette(min(self.classes, 512)), (self.classes, 3))
        colours = np.asarray(colours, np.uint8)
        self._check_one_for_each(colours, class_names)
        out = Path(out)
        jobs = outputs.plan(
            paths, out, Path(root) if root else None, overlays, overwrite, ".tif" if self.multilabel else ".png"
        )
        if class_names is not None:
            outputs.write_legend(out, colours, class_names, overwrite)
        summary = PredictionSummary(out)
        if max_pixels is not None:
            self.reader.max_pixels = max_pixels
        for batch in self._batches(jobs, batch_size, summary):
            class_maps = self.predict_batch(np.stack([image for _, image in batch]))
            for (job, image), class_map in zip(batch, class_maps, strict=True):
                if self.multilabel:
                    outputs.write_layers(job.class_map, class_map)
                else:
                    outputs.write_class_map(job.class_map, class_map, colours)
                if overlays:
                    tinted = overlay(image, class_map, colours, alpha, background=background, contours=True)
                    outputs.write_overlay(job.overlay, tinted)
                summary.written.append(job.class_map)
            if progress is not None:
                progress(len(summary.written) + len(summary.failed))
        if progress is not None:  # images that failed may have come last
            progress(len(jobs))
        return summary

    def predict_folder(
        self,
        folder: str | Path,
        out: str | Path,
        colours: np.ndarray | None = None,
        class_names: Sequence[str] | None = None,
        **options: object,
    ) -> PredictionSummary:
        """Predict all images of a folder and its sub-folders (see `find_images`); options as in `predict_files`."""
        return self.predict_files(
            find_images(folder),
            out,
            colours,
            class_names,
            **{"root": folder, **options},  # type: ignore[arg-type]
        )

    def _check_one_for_each(self, colours: np.ndarray | None, class_names: Sequence[str] | None) -> None:
        if any(given is not None and len(given) != self.classes for given in (colours, class_names)):
            raise SegzooError(f"The model has {self.classes} classes; give one colour and one name for each.")

    def _tiles(self, height: int, width: int) -> bool:
        return self._tile is not None and height * width > self._tile_above and max(height, width) > self._tile

    def _predict_tiled(self, image: np.ndarray) -> np.ndarray:
        found = np.empty((*image.shape[:2], *((self.classes,) if self.multilabel else ())), self.dtype)
        for top, band in self._logit_bands(image):
            found[top : top + len(band)] = predict_classes(band, self.mode)
        return found

    def _logit_bands(self, image: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        assert self._tile is not None

        def logits(part: np.ndarray) -> np.ndarray:
            # A strip thinner than the smallest input can only be as thin as the image itself.
            height, width = part.shape[:2]
            return self._logits(_extended(part[None]))[0, :height, :width]

        return logit_bands(logits, image, self.classes, self._tile, self._overlap)

    def _batches(
        self, jobs: list[Job], batch_size: int, summary: PredictionSummary
    ) -> Iterator[list[tuple[Job, np.ndarray]]]:
        """Read images and batch neighbours of the same size; failures go into the summary."""
        batch: list[tuple[Job, np.ndarray]] = []
        for job in jobs:
            try:
                image = self.reader(job.image)
            except DataError as error:
                summary.failed[job.image] = str(error)
                continue
            if batch and (batch[0][1].shape != image.shape or len(batch) >= batch_size):
                yield batch
                batch = []
            batch.append((job, image))
        if batch:
            yield batch


def _logits_of(model: keras.Model) -> int:
    """Return the number of logits of a pixel; SegzooError unless the model is one from images of any size to logits."""
    given, returned = model.input_shape, model.output_shape
    if not (isinstance(returned, tuple) and len(returned) == 4 and isinstance(returned[3], int)):
        raise SegzooError(f"The model must return logits (B, H, W, classes), not {returned}.")
    if not (isinstance(given, tuple) and len(given) == 4 and given[1:3] == (None, None) and given[3]):
        raise SegzooError(f"The model must take images (B, H, W, C) of any height and width, not {given}.")
    return returned[3]


def _extended(images: np.ndarray) -> np.ndarray:
    """Extend images `(B, H, W, C)` below 32 pixels to 32, downwards and to the right, by reflection."""
    below, beside = (max(0, _SMALLEST - side) for side in images.shape[1:3])
    return np.pad(images, ((0, 0), (0, below), (0, beside), (0, 0)), mode="reflect")


def _check_tiles(tile: int, overlap: int) -> None:
    if tile < ALIGNMENT or tile % ALIGNMENT or overlap % ALIGNMENT or not 0 <= overlap <= tile // 2:
        raise SegzooError(
            f"tile and overlap must be multiples of {ALIGNMENT}, and overlap at most half of tile; got tile {tile} "
            f"and overlap {overlap}."
        )


_Run = Callable[[np.ndarray], np.ndarray]


def _compile(model: keras.Model, mode: Mode) -> tuple[_Run, _Run]:
    """Compile functions from images to float32 logits, and to classes."""

    def spread(logits: Any) -> Any:
        return logits if mode == "multilabel" else class_logits(logits)

    if keras.backend.backend() != "tensorflow":

        def logits(images: np.ndarray) -> np.ndarray:
            return spread(np.asarray(model.predict_on_batch(images.astype(np.float32)), np.float32))

        return logits, lambda images: predict_classes(logits(images), mode)

    import tensorflow as tf

    def forward(images: tf.Tensor) -> tf.Tensor:
        return spread(tf.cast(model(tf.cast(images, tf.float32), training=False), tf.float32))

    def classes(images: tf.Tensor) -> tf.Tensor:
        logits = forward(images)
        return (
            tf.cast(logits > 0, tf.uint8) if mode == "multilabel" else tf.argmax(logits, axis=-1, output_type=tf.int32)
        )

    def compiled(function: Callable[[tf.Tensor], tf.Tensor]) -> _Run:
        # uint8 in and classes out: the device gets and gives a fraction of the bytes that floats would take.
        # One trace for each type: a signature names only one.
        spec = (None, None, None, model.input_shape[3])
        graphs = {
            dtype: tf.function(
                function, input_signature=[tf.TensorSpec(spec, dtype)], autograph=False, jit_compile=False
            )
            for dtype in ("uint8", "float32")
        }
        return lambda images: graphs[images.dtype.name](images).numpy()

    return compiled(forward), compiled(classes)
