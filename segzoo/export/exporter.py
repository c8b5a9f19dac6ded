"""Export pipeline: trace, write to a temporary place, compare, and only then move the result to its destination."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np

from segzoo.backend import dtype_policy
from segzoo.errors import SegzooError, unknown_name
from segzoo.export.contract import Format
from segzoo.export.formats import FORMATS
from segzoo.export.graph import Graph, Output, check_model, traced
from segzoo.export.metadata import ModelMetadata
from segzoo.export.parity import ExportReport, compare, comparison_batches
from segzoo.export.precision import in_float32
from segzoo.task import Mode, takes_multilabel


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
) -> ExportReport:
    """Export a model for another runtime, and compare its output there with the Keras model's.

    The exported model takes "image": raw pixels, float32 `(B, H, W, C)`, 0..255, three
    channels in the order RGB; normalisation is inside. It
    computes in float32, a model in mixed precision too, and the comparison is with that model in float32. Nothing
    is left behind where the conversion or the comparison fails.

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
            channels and size become those of the export, whose output "classes" is made by its thresholds.

    Raises:
        UnknownNameError: no such format or output.
        SegzooError: a package is missing, the model or a size does not fit, the conversion failed, the exported
            model differs from the Keras model, or `path` is taken.
    """
    chosen: Format = FORMATS[format]
    if output not in ("logits", "classes"):
        raise unknown_name("output", output, ("logits", "classes"))
    chosen.check_packages()
    target = chosen.target(Path(path))
    _check_target(chosen, target, overwrite)
    given = model if isinstance(model, keras.Model) else _build(model)
    check_model(given, image_size)
    batches = comparison_batches(samples, image_size, given.input_shape[3])
    network = in_float32(given)
    thresholds = None if metadata is None else metadata.thresholds
    with traced(network, output, image_size, mode, thresholds) as graph:
        return write_checked(
            graph, network, target, format, batches, overwrite, from_half=network is not given, metadata=metadata
        )


def write_checked(
    graph: Graph,
    network: keras.Model,
    target: Path,
    format: str,
    batches: Sequence[np.ndarray],
    overwrite: bool = True,
    from_half: bool = False,
    metadata: ModelMetadata | None = None,
) -> ExportReport:
    """Write a traced model, compare it with `network`, and move it to `target`; see `export_model`."""
    chosen: Format = FORMATS[format]
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, hence on the same file system: the last step is a rename.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as folder:
        draft = Path(folder) / target.name
        try:
            chosen.write(graph, draft)
            if metadata is not None and chosen.put_metadata is not None:
                chosen.put_metadata(draft, _of_graph(metadata, graph).to_json())
            run = chosen.load(draft)
        except Exception as error:  # converters raise whatever they like
            raise SegzooError(f"Export to {format} failed; nothing was written. {_reason(error)}") from error
        try:
            comparisons = compare(network, run, graph.output, batches, graph.mode, graph.thresholds)
        except Exception as error:
            raise SegzooError(
                f"The {format} export did not pass its comparison with the Keras model; nothing was written. "
                f"{_reason(error)}"
            ) from error
        megabytes = _bytes(draft) / 1e6
        _check_target(chosen, target, overwrite)
        if target.is_dir():
            target.rename(Path(folder) / "replaced")
        draft.replace(target)
    return ExportReport(format, target, graph.output, graph.input_shape, megabytes, comparisons, from_half)


def _of_graph(metadata: ModelMetadata, graph: Graph) -> ModelMetadata:
    _, height, width, channels = graph.input_shape
    size = None if height is None or width is None else (height, width)
    return dataclasses.replace(
        metadata, mode=graph.mode, output=graph.output, channels=channels, size=size, precision="float32"
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


def _reason(error: Exception) -> str:
    text = str(error).strip()
    kind = "" if isinstance(error, SegzooError) else f"{type(error).__name__}: "
    return kind + (text if len(text) < 600 else text[:600] + " ...")


def _bytes(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
