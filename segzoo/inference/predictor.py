"""Predictor of class maps for arrays, files and folders of images of any size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import keras
import numpy as np

from segzoo.data.images import ImageReader, ReadWindow
from segzoo.data.tiff_windows import tiff_size
from segzoo.errors import DataError, SegzooError
from segzoo.inference.augmented import ViewsNetwork
from segzoo.inference.inputs import find_images
from segzoo.inference.legend import Legend
from segzoo.inference.network import KerasNetwork, Network
from segzoo.inference.outputs import DEFAULT_OUTPUTS, OutputOptions, PredictionSummary
from segzoo.inference.predicts import Found
from segzoo.inference.results import Results, check_legend
from segzoo.inference.sequence import FileSequence
from segzoo.inference.tiling import Tiling, Window, grid_of, logit_bands, logit_windows
from segzoo.task import Mode, array_probabilities, predict_classes, takes_multilabel, threshold_count

__all__ = ["PredictionSummary", "Predictor", "find_images"]


class Predictor:
    """Predict class maps with a segmentation model; the class of a pixel is the one with the largest logit.

    Args:
        model: a Keras model from images `(B, H, W, C)`, pixels 0..255, any H and W, to logits `(B, H, W, classes)`; or
            another `Network`.
        tile: height and width of the tiles of a large image, a multiple of 32; "auto": 1024, and 512 for images that
            are read by windows; None: never tile. Decoders that pool over the whole image (ASPP) see the tile in its
            place, so results differ a little from one pass.
        overlap: pixels that neighbouring tiles share, a multiple of 32; by default a quarter of `tile`.
        tile_above: images with more pixels than this are tiled. One pass of U-Net on EfficientNet-B0 takes
            0.5 GB per million pixels.
        tta: test-time augmentation, logits averaged over views of an image: "mirror" (left-right), "flips", "d4" (all
            eight turns and mirror images), "scales" (0.75, 1 and 1.25), or one of the others with scales, such as
            "mirror+scales". Tiles are viewed one by one.
        batch: most tiles of an image that are computed at once, 1 or more.
        reader: reader of image files; None reads pictures with as many channels as the model takes.
        mode: "multilabel" for classes that may overlap: instead of a class map `(H, W)` comes 0 or 1 for each class,
            `(H, W, classes)`. None: "binary" for a model of one logit, else "multiclass".
        class_names: one for each class; `predict_files` writes them into the legend.
        palette: one colour for each class, `(classes, 3)` uint8, for class maps and overlays.
        background: class that overlays leave as the image is; None: every class is tinted.
        thresholds: probabilities above which a class is predicted, in binary mode one, in multilabel one for each
            class; None: 0.5. In multiclass mode the largest logit decides.

    Attributes:
        network: computes the logits of images.
        classes: number of classes.
        channels: C, channels of the images.
        mode: "multiclass", "binary" or "multilabel".
        reader: reader of image files.
        thresholds: probabilities above which a class is predicted; None: 0.5.

    Raises:
        UnknownNameError: no such test-time augmentation.
        SegzooError: an unsupported model, invalid tile sizes, or a number of names, colours or thresholds
            other than that of the classes.

    Example:
        >>> predictor = segzoo.load("runs/unet_b3")
        >>> class_map = predictor("photo.jpg")  # (H, W) uint8; an array (H, W, 3) does as well
    """

    @takes_multilabel
    def __init__(
        self,
        model: keras.Model | Network,
        *,
        tile: int | Literal["auto"] | None = "auto",
        overlap: int | None = None,
        tile_above: int = 2048 * 2048,
        tta: str | None = None,
        batch: int = 1,
        reader: ImageReader | None = None,
        mode: Mode | None = None,
        class_names: Sequence[str] | None = None,
        palette: np.ndarray | None = None,
        background: int | None = None,
        thresholds: Sequence[float] | None = None,
    ):
        self._model = model
        network = model if isinstance(model, Network) else KerasNetwork(model, mode)
        self.network: Network = network if tta is None else ViewsNetwork(network, tta)
        self.mode: Mode = self.network.mode
        outputs = self.network.outputs
        self.classes = outputs if self.mode == "multilabel" else max(2, outputs)  # one logit tells two classes apart
        self.channels = self.network.channels
        self.reader = reader or ImageReader(self.channels)
        self.class_names = None if class_names is None else list(class_names)
        self.palette = None if palette is None else np.asarray(palette, np.uint8)
        self.background = background
        self._check_one_for_each(self.palette, self.class_names)
        self.thresholds = None if thresholds is None else tuple(thresholds)
        self._check_thresholds()
        self.dtype = np.uint8 if self.classes <= 256 else np.uint16
        self._batch = batch
        self._tiling, self._window_tiling = Tiling.choose(tile, overlap, tile_above)
        if self.network.size is not None:
            self._tiling = self._window_tiling = Tiling.of_size(self.network.size)

    @property
    def tiling(self) -> Tiling | None:
        """Size and overlap of tiles; None: images are never tiled."""
        return self._tiling

    @property
    def window_tiling(self) -> Tiling | None:
        """Size and overlap of tiles of images that are read by windows; None: none is."""
        return self._window_tiling

    @property
    def model(self) -> keras.Model:
        """The Keras model, logits for pixels 0..255; SegzooError where there is none, as of an exported file."""
        found = self._model.model if isinstance(self._model, KerasNetwork) else self._model
        if isinstance(found, Network):
            raise SegzooError(f"{found} is no Keras model; `network.logits` computes its logits.")
        return found

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
        if self._tiles(*images.shape[1:3]):
            return np.stack([self._predict_tiled(image) for image in images])
        if self.thresholds is None or self.network.decides:  # by thresholds of its own
            return self.network.classes(images).astype(self.dtype)
        return predict_classes(self.network.logits(images), self.mode, self.thresholds).astype(self.dtype)

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
        for top, logits in self._logit_bands(image):
            yield top, array_probabilities(logits, self.mode)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Compute the logits of images of one size, of large ones by tiles.

        Args:
            images: `(B, H, W, C)`, uint8 or float32, 0..255.

        Returns:
            `(B, H, W, outputs)` float32: a logit for each class, in binary mode a single one.

        Raises:
            DataError: an array of unsupported shape or type.
        """
        return self._computed(*self._numbers(False), images)

    def disagreement(self, image: np.ndarray) -> np.ndarray:
        """Compute the disagreement of the members of an ensemble at every pixel of one image.

        Of several views of an image (`tta`) it is the mean, and tiles are blended, as logits are.

        Args:
            image: `(H, W, C)` as `predict` takes it.

        Returns:
            `(H, W)` float32, 0..1; see `segzoo.inference.uncertainty.disagreement`.

        Raises:
            SegzooError: the model is no ensemble.
            DataError: an array of unsupported shape or type.
        """
        (found,) = self.predictions(self._one(image)[None], with_disagreement=True)
        assert found.disagreement is not None
        return found.disagreement

    def predictions(
        self, images: np.ndarray, with_probabilities: bool = False, with_disagreement: bool = False
    ) -> Iterator[Found]:
        """Predict images of one size.

        Args:
            images: `(B, H, W, C)`, uint8 or float32, 0..255.
            with_probabilities: whether probabilities are wanted, which cost memory.
            with_disagreement: whether disagreement is wanted, with which probabilities come too.

        Yields:
            class map, probabilities and disagreement of an image.

        Raises:
            SegzooError: disagreement is wanted of a model that is no ensemble.
            DataError: an array of unsupported shape or type.
        """
        if with_probabilities or with_disagreement:
            yield from map(self._decided, self._computed(*self._numbers(with_disagreement), images))
        else:
            yield from map(Found, self.predict_batch(images))

    def windows(
        self,
        read: ReadWindow,
        size: tuple[int, int],
        with_probabilities: bool = False,
        with_disagreement: bool = False,
        first: int = 0,
    ) -> Iterator[tuple[Window, Found]]:
        """Predict an image that is read by windows, tile by tile, from top to bottom and from left to right.

        The windows are those of `predict` for an image that is tiled alike, to the bit. `reader.windows` opens a TIFF
        so.

        Args:
            read: returns a window `(h, w, C)`, of its rows and its columns, each as the first and the one after it.
            size: height and width of the image.
            with_probabilities: whether probabilities are wanted.
            with_disagreement: whether disagreement is wanted, with which probabilities come too.
            first: row of tiles to begin with.

        Yields:
            a window, and what is predicted for it.

        Raises:
            SegzooError: a predictor that never tiles, or disagreement is wanted of a model that is no ensemble.
        """
        if self._window_tiling is None:
            raise SegzooError("Reading by windows is by tiles: give the predictor a tile (--tile).")
        function, channels = self._numbers(with_disagreement)
        for window in logit_windows(function, read, size, channels, self._window_tiling, self._batch, first):
            yield window, self._decided(window.logits, with_probabilities or with_disagreement)

    def tiles_by_windows(self, path: Path) -> int:
        """Return the number of tiles of an image that `predict_files` reads by windows; 0 for one it reads whole.

        By windows is read a TIFF of more pixels than the reader's limit, unless the predictor never tiles.
        """
        size = tiff_size(path) if self._window_tiling is not None else None
        if self._window_tiling is None or size is None or size[0] * size[1] <= self.reader.max_pixels:
            return 0
        return math.prod(grid_of(size[::-1], self._window_tiling))

    def _numbers(self, with_disagreement: bool) -> tuple[Callable[[np.ndarray], np.ndarray], int]:
        """Return the function that computes logits, and disagreement behind them if it is wanted; and their number."""
        network = self.network
        if with_disagreement:
            return network.logits_and_disagreement, network.outputs + 1
        return network.logits, network.outputs

    def _decided(self, numbers: np.ndarray, with_probabilities: bool = True) -> Found:
        """Return the prediction of logits `(H, W, outputs)`, behind which disagreement may be."""
        outputs = self.network.outputs
        logits = numbers[..., :outputs]
        class_map = predict_classes(logits, self.mode, self.thresholds).astype(self.dtype)
        probabilities = array_probabilities(logits, self.mode) if with_probabilities else None
        return Found(class_map, probabilities, numbers[..., outputs] if numbers.shape[-1] > outputs else None)

    def _computed(self, function: Callable[[np.ndarray], np.ndarray], channels: int, images: np.ndarray) -> np.ndarray:
        """Return what a function computes of images, `(B, H, W, channels)`; of large ones by tiles."""
        self._check_images(images)
        if self._tiling is None or not self._tiling.applies(*images.shape[1:3]):
            return function(images)
        found = np.empty((*images.shape[:3], channels), np.float32)
        for image, numbers in zip(images, found, strict=True):
            for top, band in logit_bands(function, image, channels, self._tiling, self._batch):
                numbers[top : top + len(band)] = band
        return found

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
        outputs: OutputOptions | Sequence[str] = DEFAULT_OUTPUTS,
        root: str | Path | None = None,
        overwrite: bool = False,
        batch_size: int = 1,
        max_pixels: int | None = None,
        background: int | None = None,
        videos: Iterable[str | Path] = (),
        progress: Callable[[int], None] | None = None,
    ) -> PredictionSummary:
        """Predict image files; an image that cannot be read is reported, and prediction continues with the next.

        A TIFF of more pixels than `max_pixels` is read, and its results are written, by windows (docs/predict.md). If
        that is interrupted, the same call goes on where it was.

        By default, for `<root>/a/1.jpg` come a PNG of class indices, `<out>/classes/a/1.png`, and the image under the
        classes' colours with their contours, `<out>/overlays/a/1.jpg`; docs/predict.md lists the outputs. With
        `class_names` comes a legend, `<out>/classes.json`. Each file is written whole or not at all, those about all
        images at the end. Unless the reader turns images, an EXIF orientation is not applied: a class map lies on the
        pixel grid that its image file stores.

        Args:
            paths: image files; `find_images` lists those of a folder.
            out: folder for the results; made if it does not exist.
            colours: `(classes, 3)` uint8; by default the predictor's palette, else distinct colours.
            class_names: one for each class; by default the predictor's.
            outputs: names of outputs, or these with their options.
            root: folder whose sub-folders are kept in `out`; by default the deepest that holds all images.
            overwrite: whether results that exist may be replaced.
            batch_size: most images in one pass; only neighbours of the same size share one.
            max_pixels: an image with more pixels is read by windows, or refused before it is decoded; None: the
                reader's limit.
            background: class without objects, which overlays leave as the image is; by default the predictor's.
            videos: video files, which come after the images.
            progress: called after each batch with the number of images and frames done so far, with images that failed.
                An image that is read by windows counts as `tiles_by_windows` images.

        Raises:
            UnknownNameError: no such output.
            DataError: no images, images outside `root`, in the output folder, or with the same output files.
            MissingPackageError: an output needs a package that is not installed.
            SegzooError: results exist and `overwrite` is False; a number of names or colours other than that of the
                classes; an output that cannot be made for one of the images, of videos, or of a single network.
        """
        options = outputs if isinstance(outputs, OutputOptions) else OutputOptions(outputs)
        names = self.class_names if class_names is None else class_names
        legend = self.legend(colours, names, background)
        options.check_members(self.network.member_count)
        if max_pixels is not None:
            self.reader.max_pixels = max_pixels
        root = Path(root) if root else None
        results = Results(paths, Path(out), legend, options, root, overwrite, videos, self.tiles_by_windows)
        if names is not None:
            check_legend(Path(out), legend, overwrite)
        FileSequence(self, results, batch_size, names is not None, progress).predict()
        return results.summary

    def legend(
        self, colours: np.ndarray | None, class_names: Sequence[str] | None, background: int | None = None
    ) -> Legend:
        """Return the classes as outputs show them: the predictor's, where nothing else is given."""
        from segzoo.reporting.pictures import palette

        colours = self.palette if colours is None else colours
        colours = palette(self.classes) if colours is None else np.asarray(colours, np.uint8)
        self._check_one_for_each(colours, class_names)
        names = [str(index) for index in range(self.classes)] if class_names is None else list(class_names)
        thresholds = self.thresholds or (0.5,) * threshold_count(self.mode, self.classes)
        return Legend(names, colours, self.mode, self.background if background is None else background, thresholds)

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

    def _check_thresholds(self) -> None:
        if self.thresholds is None:
            return
        due = threshold_count(self.mode, self.classes)
        if len(self.thresholds) != due or not all(0 < value < 1 for value in self.thresholds):
            raise SegzooError(
                f"A model in {self.mode} mode has {due or 'no'} thresholds, above 0 and below 1; got "
                f"{', '.join(map(str, self.thresholds))}."
            )

    def _tiles(self, height: int, width: int) -> bool:
        return self._tiling is not None and self._tiling.applies(height, width)

    def _predict_tiled(self, image: np.ndarray) -> np.ndarray:
        found = np.empty((*image.shape[:2], *((self.classes,) if self.multilabel else ())), self.dtype)
        for top, band in self._logit_bands(image):
            found[top : top + len(band)] = predict_classes(band, self.mode, self.thresholds)
        return found

    def _logit_bands(self, image: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        if self._tiling is None or not self._tiling.applies(*image.shape[:2]):
            return iter([(0, self.network.logits(image[None])[0])])
        return logit_bands(self.network.logits, image, self.network.outputs, self._tiling, self._batch)
