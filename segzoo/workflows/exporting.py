"""Export of a run's model for another runtime."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from segzoo import backend
from segzoo.errors import SegzooError
from segzoo.files import check_folder
from segzoo.workflows.networks import description
from segzoo.workflows.sources import RunModel, refuse_given_data

if TYPE_CHECKING:
    import keras

    from segzoo.engine.checkpoint.run import Run
    from segzoo.export.metadata import ModelMetadata
    from segzoo.export.parity import ExportReport


def export_model(
    run: str | PathLike[str] | Run,
    format: str,
    out: str | PathLike[str] | None = None,
    *,
    output: Literal["logits", "classes"] = "logits",
    size: tuple[int, int] | None = None,
    weights: Literal["best", "last"] | None = "best",
    overrides: Sequence[str] = (),
    model: keras.Model | None = None,
    saved: bool = False,
    threshold: float | Mapping[str, float] | None = None,
    precision: str = "float32",
    calibration_images: int = 100,
    max_drop: float = 1.0,
    license: str | None = None,
) -> ExportReport:
    """Export a run's model, which takes raw pixels 0..255, and compare it in its runtime with the Keras model.

    Nothing is left behind unless the two agree. In 8 bits they cannot to rounding: then mean IoU on the validation
    split decides. For a Keras model without a run see `segzoo.export.export_model`.

    Args:
        run: a run folder, an address such as "hf://user/name" (docs/hub.md), or what `load_run` returns.
        format: "onnx", "litert", "saved_model", "openvino" or a registered one.
        out: a folder, or the file itself with the format's ending; by default export/ in the run folder, of a hub's run
            below runs/. An earlier
            export there is replaced.
        output: "logits", float32 `(B, H, W, classes)`, or "classes", int32 `(B, H, W)`, in multilabel
            `(B, H, W, classes)` of 0 and 1.
        size: height and width to fix the input to, in pixels; None: any.
        weights: "best" or "last" weights of the run; None: those that `model` has.
        overrides: changes to the run's configuration.
        model: takes the place of the network that the configuration describes; gets the run's weights, in place,
            unless `weights` is None.
        saved: take the run's model.keras instead, which holds the best weights.
        threshold: probability above which a class is predicted, as in `segzoo.load`; the file's metadata say it, and
            the output "classes" is made by it.
        precision: "float32"; "float16": weights rounded to half precision; "int8": weights and activations in 8 bits,
            calibrated on training images; "dynamic": weights in 8 bits. Formats have some of them (docs/export.md).
        calibration_images: number of training images that "int8" is calibrated on, cropped and augmented as in
            training.
        max_drop: points of mean IoU on the validation split (hundredths) that "int8" and "dynamic" may lose.
        license: identifier of the licence, such as "mit", for the metadata of the file.

    Raises:
        UnknownNameError: no such format, precision or output.
        RunError: not a run folder, or a run that has no such weights yet.
        HubError: a run of a hub that cannot be fetched.
        WeightsError: weights that are unreadable or belong to another network.
        SegzooError: a package is missing, a size does not fit, or the exported model differs from the Keras model
            or loses too much.
        DataError: training or validation images that cannot be read, where they are needed.
        StorageError: the export cannot be written.

    Example:
        >>> report = segzoo.export_model("runs/unet_b3", "onnx")
        >>> report.path, report.difference
    """
    from segzoo.engine.checkpoint.run import Run, load_run
    from segzoo.export import FORMATS
    from segzoo.export.formats import check_precision

    if not isinstance(run, str | PathLike | Run):
        raise SegzooError(
            f"A run is a run folder or what segzoo.load_run returns, not {run!r:.60}. A Keras model by itself is "
            "exported by segzoo.export.export_model(model, path, format)."
        )
    FORMATS.check(format)
    check_numbers(calibration_images, max_drop)
    description(weights, model, saved)
    opened = load_run(run, overrides)
    place = opened.results / "export" if out is None else Path(out)
    check_folder(place.parent if place.suffix and not place.is_dir() else place)  # a file by its ending
    check_precision(format, precision)
    source = RunModel(opened, weights, model, saved)
    thresholds = source.thresholds(threshold)
    backend.start_backend()
    from segzoo.export import export_model as write

    return write(
        source.keras_model(),
        place,
        format,
        output=output,
        image_size=size,
        mode=opened.config.mode,
        metadata=metadata_of(opened, model, license, thresholds.numbers),
        precision=precision,
        **(data_of(opened, calibration_images, max_drop) if precision in ("int8", "dynamic") else {}),
    )


def check_numbers(calibration_images: int, max_drop: float) -> None:
    """Raise SegzooError for a number of images below 1, or for points of mean IoU below 0."""
    if calibration_images < 1 or not max_drop >= 0:
        raise SegzooError(
            f"calibration_images must be 1 or more and max_drop 0 or more, got {calibration_images} and {max_drop}."
        )


def metadata_of(
    opened: Run, model: keras.Model | None, license: str | None, thresholds: tuple[float, ...] | None
) -> ModelMetadata:
    """Return the metadata of a run's exports; of a `model` that was given they do not say how to build it."""
    from segzoo.engine.builders import model_metadata

    metadata = model_metadata(opened.config, given=model is not None or "model" in opened.given, thresholds=thresholds)
    return dataclasses.replace(metadata, license=license)


def data_of(opened: Run, calibration_images: int, max_drop: float) -> dict[str, Any]:
    """Return the arguments of an export that are made of the run's data.

    Raises:
        RunError: the run was trained with data that its configuration does not describe.
        DataError: images that cannot be found or read.
    """
    from segzoo.engine import builders

    config = opened.config
    for split in ("train", "val"):
        refuse_given_data(
            opened,
            split,
            ", and 8 bits need images of it. Describe data with --set data.root=... and the like, or call "
            "segzoo.export.export_model with calibration and validation.",
        )
    return {
        "calibration": builders.train_batches(config, builders.build_source(config, "train")).batches(),
        "calibration_images": calibration_images,
        "validation": builders.eval_batches(config, builders.build_source(config, "val")),
        "ignore_index": config.task.ignore_index,
        "max_drop": max_drop,
    }
