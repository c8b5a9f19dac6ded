"""Prediction with the model of a run: on single images or on files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from segzoo import backend
from segzoo.errors import SegzooError
from segzoo.files import check_folder
from segzoo.workflows.networks import description, network_of

if TYPE_CHECKING:
    import keras

    from segzoo.engine.checkpoint.run import Run
    from segzoo.inference.outputs import PredictionSummary
    from segzoo.inference.predictor import Predictor


def load(
    run: str | PathLike[str] | Run,
    weights: Literal["best", "last"] | None = "best",
    *,
    overrides: Sequence[str] = (),
    model: keras.Model | None = None,
    saved: bool = False,
) -> Predictor:
    """Load the model of a run, ready to predict images.

    Args:
        run: a run folder, an address such as "hf://user/name" (docs/hub.md), or what `load_run` returns.
        weights: "best" or "last" weights of the run; None: those that `model` has.
        overrides: changes to the run's configuration.
        model: takes the place of the network that the configuration describes, as for a run that `train` was given a
            model for; gets the run's weights, in place, unless `weights` is None.
        saved: take the run's model.keras instead, which holds the best weights.

    Returns:
        A `Predictor`: called with an image `(H, W, C)` or the path of one it returns the class map `(H, W)`, in
        multilabel `(H, W, classes)`. Its Keras model, logits for pixels 0..255, is `.model`; `.class_names`,
        `.palette`, `.background`, `.mode` and `.reader` are those of the run.

    Raises:
        RunError: not a run folder, or a run that has no such weights yet.
        HubError: a run of a hub that cannot be fetched.
        WeightsError: weights that are unreadable or belong to another network.
        ConfigError: an invalid override.

    Example:
        >>> predictor = segzoo.load("runs/unet_b3")
        >>> class_map = predictor("photo.jpg")
        >>> predictor.model.summary()
    """
    from segzoo.engine.checkpoint.run import load_run

    description(weights, model, saved)
    opened = load_run(run, overrides)
    backend.start_backend()
    from segzoo.engine import builders
    from segzoo.inference.predictor import Predictor

    return Predictor(
        network_of(opened, weights, model, saved),
        reader=builders.image_reader(opened.config, alone=True),
        mode=opened.config.mode,
        class_names=opened.classes,
        palette=opened.palette,
        background=builders.background(opened.config),
    )


def predict(
    run: str | PathLike[str] | Run,
    images: str | PathLike[str] | Iterable[str | Path],
    out: str | PathLike[str],
    *,
    weights: Literal["best", "last"] | None = "best",
    overrides: Sequence[str] = (),
    model: keras.Model | None = None,
    saved: bool = False,
    overwrite: bool = False,
    max_pixels: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PredictionSummary:
    """Predict image files: for each a PNG of class indices (multilabel: a TIFF, a page a class) and an overlay.

    An image that cannot be read is listed in the result's `failed`, with the reason, and the others go on. For single
    images as arrays see `load`.

    Args:
        run: a run folder, an address such as "hf://user/name" (docs/hub.md), or what `load_run` returns.
        images: an image, a folder of images, whose sub-folders are kept among the results, or paths of images.
        out: folder for the class maps and overlays.
        weights: "best" or "last" weights of the run; None: those that `model` has.
        overrides: changes to the run's configuration.
        model: takes the place of the network that the configuration describes; gets the run's weights, in place,
            unless `weights` is None.
        saved: take the run's model.keras instead, which holds the best weights.
        overwrite: replace what is there.
        max_pixels: most pixels of an image, 1 or more, to guard memory; by default data.max_pixels of the run.
        progress: called with the number of images done so far, failed ones too, and that of all, first with (0, all).

    Raises:
        RunError: not a run folder, or a run that has no such weights yet.
        HubError: a run of a hub that cannot be fetched.
        WeightsError: weights that are unreadable or belong to another network.
        DataError: no images, or two with the same result files.
        SegzooError: results that exist and `overwrite` is False.
        StorageError: the results cannot be written.

    Example:
        >>> done = segzoo.predict("runs/unet_b3", "photos", "predictions")
        >>> done.written, done.failed
    """
    from segzoo.engine.checkpoint.run import load_run
    from segzoo.inference.outputs import find_images

    description(weights, model, saved)
    if max_pixels is not None and max_pixels < 1:
        raise SegzooError(f"max_pixels must be 1 or more, got {max_pixels}.")
    out = Path(out)
    check_folder(out)
    opened = load_run(run, overrides)
    if isinstance(images, str | PathLike):
        paths, root = find_images(Path(images)), Path(images) if Path(images).is_dir() else None
    else:
        paths, root = [Path(path) for path in images], None
    predictor = load(opened, weights, model=model, saved=saved)
    if progress is not None:
        progress(0, len(paths))
    return predictor.predict_files(
        paths,
        out,
        root=root,
        overwrite=overwrite,
        max_pixels=max_pixels,
        progress=None if progress is None else lambda done: progress(done, len(paths)),
    )
