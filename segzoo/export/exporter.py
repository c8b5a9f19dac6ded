"""Export pipeline: trace, write to a temporary place, compare, and only then move the result to its destination."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from segzoo.backend import dtype_policy
from segzoo.errors import SegzooError, StorageError, unknown_name
from segzoo.export.accuracy import Accuracy, Validation
from segzoo.export.contract import FLOAT32, Format, Run
from segzoo.export.formats import FORMATS, check_precision
from segzoo.export.graph import Graph, Output, check_model, traced
from segzoo.export.memory import release
from segzoo.export.metadata import ModelMetadata
from segzoo.export.parity import TOLERANCE, ExportReport, compare, comparison_batches
from segzoo.export.precision import in_float32
from segzoo.export.samples import Calibration
from segzoo.task import Mode, takes_multilabel


class Exporter:
    """Model traced for export, which is written in as many formats and precisions as one likes.

    Args:
        graph: the traced model.
        network: the Keras model that exports are compared with, in float32.
        batches: images to compare on, `(B, H, W, C)`.
        metadata: metadata for the files; None: none is written.
        calibration: images for precisions that measure ranges.
        validation: labelled images; None: accuracy is not measured.
        from_half: whether the model computes in half precision and was rebuilt in float32.
    """

    def __init__(
        self,
        graph: Graph,
        network: keras.Model,
        batches: Sequence[np.ndarray],
        *,
        metadata: ModelMetadata | None = None,
        calibration: Calibration | None = None,
        validation: Validation | None = None,
        from_half: bool = False,
    ):
        self.graph = graph
        self.network = network
        self.batches = batches
        self.metadata = metadata
        self.calibration = calibration
        self.validation = validation
        self.from_half = from_half

    def write(self, format: str, path: Path, precision: str = FLOAT32, *, overwrite: bool = True) -> ExportReport:
        """Write the model, compare it, and move it to its place, the artefact of the format in or at `path`.

        Raises:
            SegzooError: a package or images are missing, the conversion failed, the exported model differs from the
                Keras model or loses too much, or the place is taken.
        """
        chosen: Format = FORMATS[format]
        graph = self.graph
        check_precision(format, precision)
        chosen.check_packages(precision)
        _check_images(chosen, precision, self.calibration, self.validation)
        target = chosen.target(path, precision)
        _check_target(chosen, target, overwrite)
        reduced = chosen.reduced.get(precision)
        kind = format if reduced is None else f"{format} ({precision})"
        target.parent.mkdir(parents=True, exist_ok=True)
        # Beside the target, hence on the same file system: the last step is a rename.
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as folder:
            draft = Path(folder) / target.name
            try:
                if reduced is None:
                    chosen.write(graph, draft)
                else:
                    reduced.write(graph, draft, self.calibration or Calibration(()))
                release(graph.weights.size)
                if self.metadata is not None and chosen.put_metadata is not None:
                    chosen.put_metadata(draft, self._described(self.metadata, precision).to_json())
                release(graph.weights.size)
                run = chosen.load(draft)
            except Exception as error:  # converters raise whatever they like
                raise SegzooError(
                    f"Export to {kind} failed; nothing was written. {_reason(error, target.parent)}"
                ) from error
            try:
                tolerance = TOLERANCE if reduced is None else reduced.tolerance
                comparisons = compare(
                    self.network, run, graph.output, self.batches, graph.mode, tolerance, graph.thresholds
                )
                accuracy = self._accuracy(run)
            except Exception as error:
                raise SegzooError(
                    f"The {kind} export did not pass its comparison with the Keras model; nothing was written. "
                    f"{_reason(error)}"
                ) from error
            megabytes = _bytes(draft) / 1e6
            _check_target(chosen, target, overwrite)
            if target.is_dir():
                target.rename(Path(folder) / "replaced")
            draft.replace(target)
        return ExportReport(
            format,
            target,
            graph.output,
            graph.input_shape,
            megabytes,
            comparisons,
            self.from_half,
            precision,
            accuracy,
        )

    def _described(self, metadata: ModelMetadata, precision: str) -> ModelMetadata:
        _, height, width, channels = self.graph.input_shape
        size = None if height is None or width is None else (height, width)
        return dataclasses.replace(
            metadata,
            mode=self.graph.mode,
            output=self.graph.output,
            channels=channels,
            size=size,
            precision=precision,
        )

    def _accuracy(self, run: Run) -> Accuracy | None:
        if self.validation is None:
            return None
        graph = self.graph
        found = self.validation.score(self.network, run, graph.output, graph.mode, graph.thresholds)
        found.check(self.validation.max_drop)
        return found


@contextmanager
def exporter(
    model: keras.Model | Callable[[], keras.Model],
    output: Output = "logits",
    *,
    image_size: tuple[int, int] | None = None,
    samples: Sequence[np.ndarray] | None = None,
    mode: Mode = "multiclass",
    metadata: ModelMetadata | None = None,
    calibration: Iterable[Any] | None = None,
    calibration_images: int = 100,
    validation: Iterable[Any] | None = None,
    ignore_index: int = 255,
    max_drop: float = 1.0,
) -> Iterator[Exporter]:
    """Trace a model for export; arguments are those of `export_model`, but `validation` is read for each export.

    Example:
        >>> with exporter(model, calibration=train, validation=val) as exports:
        ...     whole = exports.write("onnx", Path("out"))
        ...     small = exports.write("onnx", Path("out"), "int8")
    """
    if output not in ("logits", "classes"):
        raise unknown_name("output", output, ("logits", "classes"))
    given = model if isinstance(model, keras.Model) else _build(model)
    check_model(given, image_size)
    channels = given.input_shape[3]
    batches = comparison_batches(samples, image_size, channels)
    ranges = None if calibration is None else Calibration.of(calibration, calibration_images, channels, image_size)
    labelled = None
    if validation is not None:
        labelled = Validation(validation, ignore_index=ignore_index, max_drop=max_drop, size=image_size)
    network = in_float32(given)
    thresholds = None if metadata is None else metadata.thresholds
    with traced(network, output, image_size, mode, thresholds) as graph:
        yield Exporter(
            graph,
            network,
            batches,
            metadata=metadata,
            calibration=ranges,
            validation=labelled,
            from_half=network is not given,
        )


@takes_multilabel
def export_model(
    model: keras.Model | Callable[[], keras.Model],
    path: str | Path,
    format: str,
    output: Output = "logits",
    *,
    image_size: tuple[int, int] | None = None,
    samples: Sequence[np.ndarray] | None = None,
    overwrite: bool = True,
    mode: Mode = "multiclass",
    metadata: ModelMetadata | None = None,
    precision: str = FLOAT32,
    calibration: Iterable[Any] | None = None,
    calibration_images: int = 100,
    validation: Iterable[Any] | None = None,
    ignore_index: int = 255,
    max_drop: float = 1.0,
) -> ExportReport:
    """Export a model for another runtime, and compare its output there with the Keras model's.

    The exported model takes "image": raw pixels, float32 `(B, H, W, C)`, 0..255, three
    channels in the order RGB; normalisation is inside. A
    model in mixed precision is rebuilt in float32, and the comparison is with that one. Nothing is left behind where
    the conversion or the comparison fails.

    Fewer bits make a smaller file, and int8 a faster one where the processor has instructions for it. How much the
    classes suffer depends on the images, so "int8" and "dynamic" need `validation`, and are kept only if mean IoU falls
    by at most `max_drop`.

    Args:
        model: a model from images to logits, or a function that builds it (called under the float32 policy).
        path: a folder, in which `model.onnx`, `model.tflite`, `saved_model/` or `openvino/` is written; or the file
            itself, with the format's ending.
        format: "saved_model", "onnx", "litert" or "openvino".
        output: "logits": float32 `(B, H, W, classes)`. "classes": int32 `(B, H, W)`, the largest
            logit, or of a single one whether it is above 0; in multilabel `(B, H, W, classes)` of 0 and 1.
        image_size: fix the input to `(1, height, width, 3)`, as phones and accelerators like it; by default batch,
            height and width are free in every format.
        samples: images `(H, W, 3)`, 0..255, to compare on; by default random ones of an even and an odd size.
        overwrite: whether an earlier export of this format may be replaced.
        mode: "multiclass", "binary" or "multilabel", where classes may overlap, each there where its own logit is
            above 0.
        metadata: classes, colours and more for the file, which `read_metadata` gives back; its mode, output,
            channels, size and precision become those of the export, whose output "classes" is made by its thresholds.
        precision: "float32"; "float16": weights rounded to half precision; "int8": weights and activations in 8 bits,
            whose ranges come from `calibration`; "dynamic": weights in 8 bits. Formats have some of them, see
            `FORMATS[format].precisions`.
        calibration: training images `(H, W, C)`, or batches of them, or pairs whose first they are, 0..255, as the
            model sees them; read until there are enough. Needed by "int8".
        calibration_images: number of images that are taken of `calibration`.
        validation: pairs of images and masks that training did not see, `(B, H, W, C)` and `(B, H, W)` or without B,
            in multilabel masks `(B, H, W, classes)` of 0 and 1. Read once.
        ignore_index: the value of mask pixels that do not count.
        max_drop: points of mean IoU on `validation` (hundredths) that the export may lose.

    Raises:
        UnknownNameError: no such format, precision or output.
        SegzooError: a package is missing, the model or a size does not fit, the conversion failed, the exported
            model differs from the Keras model, images are missing, or `path` is taken.
    """
    chosen: Format = FORMATS[format]
    check_precision(format, precision)
    chosen.check_packages(precision)
    _check_target(chosen, chosen.target(Path(path), precision), overwrite)
    _check_images(chosen, precision, calibration, validation)
    with exporter(
        model,
        output,
        image_size=image_size,
        samples=samples,
        mode=mode,
        metadata=metadata,
        calibration=calibration if precision != FLOAT32 and chosen.reduced[precision].calibrated else None,
        calibration_images=calibration_images,
        validation=validation,
        ignore_index=ignore_index,
        max_drop=max_drop,
    ) as exports:
        return exports.write(format, Path(path), precision, overwrite=overwrite)


def _check_images(chosen: Format, precision: str, calibration: object, validation: object) -> None:
    """Raise SegzooError if a precision lacks the images that it takes."""
    if precision == FLOAT32:
        return
    reduced = chosen.reduced[precision]
    if reduced.calibrated and calibration is None:
        raise SegzooError(
            f"{precision} measures the ranges of activations on training images: give some as calibration, such as 100."
        )
    if reduced.tolerance is None and validation is None:
        raise SegzooError(
            f"{precision} is done only if the model stays accurate: give pairs of images and masks as validation."
        )


def _check_target(chosen: Format, target: Path, overwrite: bool) -> None:
    if not target.exists():
        return
    if not overwrite:
        raise SegzooError(f"{target} exists. Choose another path, or allow replacing it with overwrite=True.")
    if target.is_dir() and not (chosen.marker and (target / chosen.marker).is_file()):
        raise SegzooError(f"{target} is a folder with something else in it than an export. Choose another path.")
    if target.is_file() and chosen.marker:
        raise SegzooError(f"{target} is a file, where a folder is to be written. Choose another path.")


def _build(builder: Callable[[], keras.Model]) -> keras.Model:
    if not callable(builder):
        raise SegzooError(f"Only a keras.Model, or a function that builds one, can be exported, not {builder!r}.")
    with dtype_policy("float32"):
        return builder()


def _reason(error: Exception, folder: Path | None = None) -> str:
    """Say what went wrong, in a few hundred characters; `folder` is the one that files were written in."""
    if folder and isinstance(error, OSError) and error.errno and error.filename is None:  # a full disk names no file
        error = StorageError.of(error, folder)
    text = str(error).strip()
    kind = "" if isinstance(error, SegzooError) else f"{type(error).__name__}: "
    return kind + (text if len(text) < 600 else text[:600] + " ...")


def _bytes(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
