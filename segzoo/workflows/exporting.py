"""Export of a run's model for another runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
) -> ExportReport:
    """Export a run's model, which takes raw pixels 0..255, and compare it in its runtime with the Keras model.

    Nothing is left behind unless the two agree. For a Keras model without a run see `segzoo.export.export_model`.

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

    Raises:
        UnknownNameError: no such format or output.
        RunError: not a run folder, or a run that has no such weights yet.
        HubError: a run of a hub that cannot be fetched.
        WeightsError: weights that are unreadable or belong to another network.
        SegzooError: a package is missing, a size does not fit, or the exported model differs from the Keras model.
        StorageError: the export cannot be written.

    Example:
        >>> report = segzoo.export_model("runs/unet_b3", "onnx")
        >>> report.path, report.difference
    """
    from segzoo.engine.checkpoint.run import Run, load_run
    from segzoo.engine.checkpoint.thresholds import thresholds_of
    from segzoo.export import FORMATS

    if not isinstance(run, str | PathLike | Run):
        raise SegzooError(
            f"A run is a run folder or what segzoo.load_run returns, not {run!r:.60}. A Keras model by itself is "
            "exported by segzoo.export.export_model(model, path, format)."
        )
    FORMATS.check(format)
    description(weights, model, saved)
    opened = load_run(run, overrides)
    place = opened.results / "export" if out is None else Path(out)
    check_folder(place.parent if place.suffix and not place.is_dir() else place)  # a file by its ending
    thresholds = thresholds_of(opened, "best" if saved else weights, threshold)
    backend.start_backend()
    from segzoo.engine.builders import model_metadata
    from segzoo.export import export_model as write

    return write(
        network_of(opened, weights, model, saved),
        place,
        format,
        output=output,
        image_size=size,
        mode=opened.config.mode,
        metadata=model_metadata(
            opened.config, given=model is not None or "model" in opened.given, thresholds=thresholds.numbers
        ),
    )
