"""Export of a run's model in several formats and precisions, with the table that one chooses from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from segzoo import backend
from segzoo.errors import DataError, MissingPackageError, RunError, SegzooError
from segzoo.files import check_folder
from segzoo.workflows.exporting import check_numbers, data_of, metadata_of
from segzoo.workflows.networks import description
from segzoo.workflows.sources import RunModel

if TYPE_CHECKING:
    import keras

    from segzoo.engine.checkpoint.run import Run
    from segzoo.export.exporter import Exporter
    from segzoo.reporting.exports import ExportRow, ExportTable

_SIZE = (256, 256)  # of the images that are timed, where nothing says a size


def export_all(
    run: str | PathLike[str] | Run,
    out: str | PathLike[str] | None = None,
    *,
    formats: Sequence[str] | None = None,
    precisions: Sequence[str] | None = None,
    output: Literal["logits", "classes"] = "logits",
    size: tuple[int, int] | None = None,
    weights: Literal["best", "last"] | None = "best",
    overrides: Sequence[str] = (),
    model: keras.Model | None = None,
    saved: bool = False,
    calibration_images: int = 100,
    max_drop: float = 1.0,
    license: str | None = None,
    benchmark: bool = False,
    runs: int = 30,
    threads: int | None = None,
    threshold: float | Mapping[str, float] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ExportTable:
    """Export a run's model in several formats and precisions, and write the table of what came of it.

    The table lies beside the exports as exports.html, exports.md and exports.json. All exports are scored on the
    validation split, where the run has one. One that fails is a row with the reason, and the others go on.

    Args:
        run: a run folder, an address such as "hf://user/name" (docs/hub.md), or what `load_run` returns.
        out: a folder; by default export/ in the run folder, of a hub's run below runs/. Earlier exports there are
            replaced.
        formats: names of formats; None: all.
        precisions: names of precisions, of which each format is written in those that it has; None: all.
        output: "logits" or "classes", see `export_model`.
        size: height and width to fix the input to, in pixels; None: any.
        weights: "best" or "last" weights of the run; None: those that `model` has.
        overrides: changes to the run's configuration.
        model: takes the place of the network that the configuration describes; gets the run's weights, in place,
            unless `weights` is None.
        saved: take the run's model.keras instead, which holds the best weights.
        calibration_images: number of training images that "int8" is calibrated on.
        max_drop: points of mean IoU on the validation split (hundredths) that an export may lose.
        license: identifier of the licence, such as "mit", for the metadata of the files.
        benchmark: time each export, and measure its memory, in a process of its own; on one image of `size`, or of the
            size of the first validation image.
        runs: number of images that are timed.
        threads: number of threads; None: one for each core that this process may use.
        threshold: probability above which a class is predicted, see `export_model`.
        progress: called with the number of exports done so far and that of all, first with (0, all).

    Raises:
        UnknownNameError: no such format, precision or output.
        RunError: not a run folder, or a run that has no such weights yet.
        HubError: a run of a hub that cannot be fetched.
        WeightsError: weights that are unreadable or belong to another network.
        StorageError: the exports or the table cannot be written.

    Example:
        >>> table = segzoo.export_all("runs/unet_b3", benchmark=True)
        >>> [(row.file, row.milliseconds, row.mean_iou) for row in table.rows]
    """
    from segzoo.engine.checkpoint.run import load_run
    from segzoo.export import FORMATS

    for format in formats or ():
        FORMATS.check(format)
    check_numbers(calibration_images, max_drop)
    description(weights, model, saved)
    opened = load_run(run, overrides)
    folder = opened.results / "export" if out is None else Path(out)
    if folder.suffix and folder.suffix in {Path(FORMATS[name].artefact).suffix for name in FORMATS}:
        raise SegzooError(f"{folder} is the name of a file, and several exports are written into a folder: name one.")
    check_folder(folder)
    source = RunModel(opened, weights, model, saved)
    thresholds = source.thresholds(threshold)
    chosen = _choices(formats or list(FORMATS), precisions)
    backend.start_backend()
    from segzoo.export.exporter import exporter
    from segzoo.reporting.exports import ExportRow, ExportTable

    data, notes = _data(opened, calibration_images, max_drop)
    shape = _timed_shape(size, data, opened.config.model.input_channels)
    rows: list[ExportRow] = []
    with exporter(
        source.keras_model(),
        output,
        image_size=size,
        mode=opened.config.mode,
        metadata=metadata_of(opened, model, license, thresholds.numbers),
        **data,
    ) as exports:
        for done, (format, precision) in enumerate(chosen):
            if progress is not None:
                progress(done, len(chosen))
            row = _exported(exports, format, precision, folder)
            rows.append(_timed(row, folder, shape, threads, runs) if benchmark and row.file else row)
    if progress is not None:
        progress(len(chosen), len(chosen))
    if exports.validation is not None and exports.validation.keras is not None:
        rows.insert(0, ExportRow("keras", "float32", mean_iou=exports.validation.keras))
    notes += _speed_notes(shape, threads, runs) if benchmark else []
    title = f"Exports of {opened.name}, {source.words}"
    return ExportTable(title, rows, notes).written(folder)


def _choices(formats: Sequence[str], precisions: Sequence[str] | None) -> list[tuple[str, str]]:
    """Return pairs of format and precision; UnknownNameError for a precision that none of the formats has."""
    from segzoo.errors import unknown_name
    from segzoo.export import FORMATS

    known = list(dict.fromkeys(precision for format in formats for precision in FORMATS[format].precisions))
    for precision in precisions or ():
        if precision not in known:
            raise unknown_name(f"precision of {', '.join(formats)}", precision, known)
    return [
        (format, precision)
        for format in formats
        for precision in FORMATS[format].precisions
        if precisions is None or precision in precisions
    ]


def _data(opened: Run, calibration_images: int, max_drop: float) -> tuple[dict[str, Any], list[str]]:
    """Return the arguments of an export that are made of the run's data, and notes; none, and why, without data."""
    try:
        return data_of(opened, calibration_images, max_drop), []
    except (DataError, RunError) as error:
        return {}, [f"Mean IoU was not measured, and nothing was written in 8 bits: {error}"]


def _timed_shape(size: tuple[int, int] | None, data: dict[str, Any], channels: int) -> tuple[int, int, int, int]:
    """Return the shape (1, H, W, C) of the images that are timed."""
    if size is None and "validation" in data:
        images: Iterator[Any] = iter(data["validation"])
        size = next(images)[0].shape[1:3]
    height, width = size or _SIZE
    return 1, height, width, channels


def _exported(exports: Exporter, format: str, precision: str, folder: Path) -> ExportRow:
    """Write an export, and return its row without speed."""
    from segzoo.reporting.exports import ExportRow

    try:
        report = exports.write(format, folder, precision)
    except MissingPackageError as error:
        return ExportRow(format, precision, remark=str(error))
    except SegzooError as error:
        return ExportRow(format, precision, remark=str(error), failed=True)
    return ExportRow(
        format,
        precision,
        report.path.name,
        report.megabytes,
        mean_iou=None if report.accuracy is None else report.accuracy.exported,
        agreement=report.agreement,
        difference=report.difference,
    )


def _timed(row: ExportRow, folder: Path, shape: tuple[int, int, int, int], threads: int | None, runs: int) -> ExportRow:
    """Return a row with the speed of its export."""
    from segzoo.export.benchmarking import benchmark

    try:
        speed = benchmark(folder / str(row.file), shape, threads=threads, runs=runs)
    except SegzooError as error:
        return dataclasses.replace(row, remark=str(error))
    return dataclasses.replace(
        row,
        milliseconds=speed.milliseconds,
        images_per_second=speed.images_per_second,
        memory=speed.megabytes,
    )


def _speed_notes(shape: tuple[int, int, int, int], threads: int | None, runs: int) -> list[str]:
    from segzoo.device import available_cores, processor_name

    _, height, width, _ = shape
    used = available_cores() if threads is None else threads
    return [
        f"Latency: median of {runs} images of {height} x {width} pixels, one at a time, on {used} threads of "
        f"{processor_name()}, in float32 where the file holds such numbers. Peak memory: of a process that runs "
        "nothing else, with Python and the runtime; without ai-edge-litert LiteRT is part of TensorFlow, and of its "
        "size."
    ]
