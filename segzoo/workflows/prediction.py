"""Prediction with a trained model: on single images or on files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from segzoo import backend
from segzoo.errors import SegzooError
from segzoo.files import check_folder
from segzoo.workflows.compute import Compute, build_predictor
from segzoo.workflows.sources import Model, open_models, thresholds_of_models

if TYPE_CHECKING:
    import keras

    from segzoo.engine.checkpoint.thresholds import Thresholds
    from segzoo.inference.inputs import Inputs
    from segzoo.inference.outputs import OutputOptions, PredictionSummary
    from segzoo.inference.predictor import Predictor
    from segzoo.workflows.sources import Source


def load(
    run: Source | Sequence[Source],
    weights: Literal["best", "last"] | None = "best",
    *,
    overrides: Sequence[str] = (),
    model: keras.Model | None = None,
    saved: bool = False,
    tta: str | None = None,
    tile: int | None = None,
    overlap: int | None = None,
    batch: int = 1,
    device: str | None = None,
    threshold: float | Mapping[str, float] | None = None,
) -> Predictor:
    """Load a trained model, ready to predict images.

    Args:
        run: a run folder, an address such as "hf://user/name" (docs/hub.md), or what `load_run` returns; a file or
            folder that `segzoo export` wrote, or the model.keras of a run, whose network is rebuilt from its
            description; or a list of these: an ensemble, whose probabilities are averaged.
        weights: "best" or "last" weights of the run; None: those that `model` has.
        overrides: changes to the run's configuration.
        model: takes the place of the network that the configuration describes, as for a run that `train` was given a
            model for; gets the run's weights, in place, unless `weights` is None.
        saved: take the run's model.keras instead, which holds the best weights, as Keras loads it.
        tta: test-time augmentation, such as "mirror", "d4" or "mirror+scales"; see `segzoo.inference.Predictor`.
        tile: height and width of the tiles of larger images, a multiple of 32; 0: never tile. By default images above
            2048 x 2048 are predicted in tiles of 1024, and those read by windows in tiles of 512.
        overlap: pixels that neighbouring tiles share, a multiple of 32; by default a quarter of a tile.
        batch: most tiles that are computed at once.
        device: device that computes, such as "CPU" or "GPU:1"; by default the backend's choice.
        threshold: probability above which a class is predicted, of all classes or by their names ("*" for those that
            are not named), in binary and multilabel mode; None: those that were tuned for a run's weights
            (`segzoo.evaluate`) or that a model file states, else 0.5, as for ensembles.

    Returns:
        A `Predictor`: called with an image `(H, W, C)` or the path of one it returns the class map `(H, W)`, in
        multilabel `(H, W, classes)`. Its Keras model, logits for pixels 0..255, is `.model`; `.class_names`,
        `.palette`, `.background`, `.mode`, `.thresholds` and `.reader` are those of the run.

    Raises:
        RunError: not a run folder, a run that has no such weights yet, or thresholds that were tuned for other weights.
        UnknownNameError: a threshold of no class.
        HubError: a run of a hub that cannot be fetched.
        WeightsError: weights that are unreadable or belong to another network.
        ConfigError: an invalid override.
        SegzooError: a file that cannot be read or does not say of which classes it is, members of an ensemble that
            differ, or options that do not go together.

    Example:
        >>> predictor = segzoo.load("runs/unet_b3")
        >>> class_map = predictor("photo.jpg")
        >>> predictor.model.summary()
    """
    compute = Compute(tta, tile, overlap, batch, device)
    models = open_models(run, weights, overrides, model, saved)
    return _started(models, compute, thresholds_of_models(models, threshold))


def _started(models: Sequence[Model], compute: Compute, thresholds: Thresholds) -> Predictor:
    backend.start_backend()
    return build_predictor(models, compute, thresholds)


def predict(
    run: Source | Sequence[Source],
    images: str | PathLike[str] | Iterable[str | Path],
    out: str | PathLike[str],
    *,
    weights: Literal["best", "last"] | None = "best",
    overrides: Sequence[str] = (),
    model: keras.Model | None = None,
    saved: bool = False,
    tta: str | None = None,
    tile: int | None = None,
    overlap: int | None = None,
    batch: int = 1,
    device: str | None = None,
    threshold: float | Mapping[str, float] | None = None,
    outputs: OutputOptions | Sequence[str] = ("classes", "overlay"),
    overwrite: bool = False,
    max_pixels: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PredictionSummary:
    """Predict image files: for each a class map and an overlay, or other outputs (docs/predict.md).

    An image that cannot be read is listed in the result's `failed`, with the reason, and the others go on. For single
    images as arrays see `load`.

    Args:
        run: a run, a model file, or several for an ensemble, as `load` takes them.
        images: an image or video, a folder of them, whose sub-folders are kept among the results, a pattern such as
            "photos/*_left.png", or several of these. Of a video come archives with something
            for each frame, and videos.
        out: folder for the results.
        weights: "best" or "last" weights of the run; None: those that `model` has.
        overrides: changes to the run's configuration.
        model: takes the place of the network that the configuration describes; gets the run's weights, in place,
            unless `weights` is None.
        saved: take the run's model.keras instead, which holds the best weights, as Keras loads it.
        tta: test-time augmentation, such as "mirror", "d4" or "mirror+scales"; see `segzoo.inference.Predictor`.
        tile: height and width of the tiles of larger images, a multiple of 32; 0: never tile. By default images above
            2048 x 2048 are predicted in tiles of 1024, and those read by windows in tiles of 512.
        overlap: pixels that neighbouring tiles share, a multiple of 32; by default a quarter of a tile.
        batch: most images of one size, or tiles of a large one, that are computed at once.
        device: device that computes, such as "CPU" or "GPU:1"; by default the backend's choice.
        threshold: probability above which a class is predicted, as in `load`.
        outputs: names of outputs, or a `segzoo.inference.OutputOptions` of names and options.
        overwrite: replace what is there.
        max_pixels: most pixels of an image that is read whole, 1 or more, to guard memory; by default data.max_pixels
            of the run. Larger TIFFs are predicted by windows, other larger images are refused.
        progress: called with the number of images done so far, failed ones too, and that of all, first with (0, all).
            Frames of videos, and tiles of images that are predicted by windows, count as images.

    Raises:
        UnknownNameError: no such output.
        RunError: not a run folder, or a run that has no such weights yet.
        HubError: a run of a hub that cannot be fetched.
        WeightsError: weights that are unreadable or belong to another network.
        DataError: no images, or two with the same result files.
        MissingPackageError: an output needs a package that is not installed.
        SegzooError: results that exist and `overwrite` is False; an output that cannot be made for one of the images,
            as disagreement without an ensemble; and as in `load`.
        StorageError: the results cannot be written.

    Example:
        >>> done = segzoo.predict("runs/unet_b3", "photos", "predictions")
        >>> done.written, done.failed
    """
    from segzoo.inference.inputs import find_inputs
    from segzoo.inference.outputs import OutputOptions

    compute = Compute(tta, tile, overlap, batch, device)
    options = outputs if isinstance(outputs, OutputOptions) else OutputOptions(outputs)
    if max_pixels is not None and max_pixels < 1:
        raise SegzooError(f"max_pixels must be 1 or more, got {max_pixels}.")
    out = Path(out)
    check_folder(out)
    models = open_models(run, weights, overrides, model, saved)
    options.check_members(len(models))
    inputs = find_inputs(images)
    options.check_videos(inputs.videos)
    predictor = _started(models, compute, thresholds_of_models(models, threshold))
    if max_pixels is not None:
        predictor.reader.max_pixels = max_pixels
    summary = predictor.predict_files(
        inputs.images,
        out,
        outputs=options,
        root=inputs.root,
        overwrite=overwrite,
        batch_size=batch,
        videos=inputs.videos,
        progress=None if progress is None else _of_all(progress, predictor, inputs),
    )
    summary.left_out = inputs.left_out_words
    return summary


def _of_all(progress: Callable[[int, int], None], predictor: Predictor, inputs: Inputs) -> Callable[[int], None]:
    """Return a function that tells how much is done, and of how much; opens all files to count tiles and frames."""
    from segzoo.inference.frames import count_frames

    total = sum(predictor.tiles_by_windows(image) or 1 for image in inputs.images)
    total += sum(map(count_frames, inputs.videos))
    progress(0, total)
    return lambda count: progress(count, max(total, count))  # a video may have more frames than it states
