"""Evaluation of a run on one of its splits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from segzoo import backend
from segzoo.errors import RunError, unknown_name
from segzoo.files import check_folder
from segzoo.workflows.networks import description, network_of

if TYPE_CHECKING:
    import keras

    from segzoo.engine.checkpoint.run import Run
    from segzoo.metrics import Calibration, ConfusionMatrix, ImageCounts, Intervals, MultilabelCounts

_SPLITS = ("train", "val", "test")
_WORST = 10  # samples that the report shows


@dataclass(frozen=True)
class RunEvaluation:
    """Figures of a run's model on a split.

    Attributes:
        run: name of the run folder, or the address of a run of a hub with its revision.
        split: "train", "val" or "test".
        network: "best weights", "last weights", "model.keras" or "given model".
        class_names: names of the classes, in the order of their labels.
        confusion: pixel counts over the whole split; `confusion.table(class_names)` has IoU, Dice and more by class.
        intervals: 95 % intervals of the figures over the samples.
        calibration: confidence and accuracy of all pixels.
        images: pixel counts of each sample.
        loss: mean over the samples of the batch losses.
        report: the HTML page; None where none was asked for.
        metrics: further metrics of the tables by class, `output.metrics` of the run.
    """

    run: str
    split: str
    network: str
    class_names: list[str]
    confusion: ConfusionMatrix | MultilabelCounts
    intervals: Intervals
    calibration: Calibration
    images: list[ImageCounts]
    loss: float | None
    report: Path | None = None
    metrics: Sequence[Any] = ()

    @property
    def mean_iou(self) -> float:
        """Mean IoU over the classes that occur, 0..1; NaN where none does."""
        return self.confusion.mean_iou()

    @property
    def title(self) -> str:
        """One line that says what was evaluated."""
        return f"{self.run}: {self.split} split, {self.network}"


def evaluate(
    run: str | PathLike[str] | Run,
    split: Literal["train", "val", "test"] = "val",
    *,
    weights: Literal["best", "last"] | None = "best",
    overrides: Sequence[str] = (),
    model: keras.Model | None = None,
    saved: bool = False,
    report: str | PathLike[str] | Literal[False] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> RunEvaluation:
    """Evaluate a run's model on a split, and write a report with pictures.

    Args:
        run: a run folder, an address such as "hf://user/name" (docs/hub.md), or what `load_run` returns.
        split: "train", "val" or "test".
        weights: "best" or "last" weights of the run; None: those that `model` has.
        overrides: changes to the run's configuration, such as "data.root=elsewhere".
        model: takes the place of the network that the configuration describes, as for a run that `train` was given a
            model for; gets the run's weights, in place, unless `weights` is None.
        saved: take the run's model.keras instead, which holds the best weights.
        report: folder for the report; by default evaluation_SPLIT_WEIGHTS in the run folder, of a
            hub's run below runs/. False: no report.
        progress: called with the number of samples done so far and that of all, first with (0, all).

    Raises:
        UnknownNameError: no such split or weights.
        RunError: not a run folder, or a run that has no such weights yet.
        HubError: a run of a hub that cannot be fetched.
        WeightsError: weights that are unreadable or belong to another network.
        DataError: the split does not exist, or samples are unusable.
        ConfigError: an invalid override.
        StorageError: the report cannot be written.

    Example:
        >>> found = segzoo.evaluate("runs/unet_b3", "test", report=False)
        >>> found.mean_iou, found.intervals.mean_iou, found.confusion.iou()
    """
    from segzoo.engine.checkpoint.run import load_run

    network_name = description(weights, model, saved)
    if split not in _SPLITS:
        raise unknown_name("split", split, _SPLITS)
    opened = load_run(run, overrides)
    origin = "saved" if saved else "given" if weights is None else weights
    place = opened.results / f"evaluation_{split}_{origin}" if report in (None, False) else Path(str(report))
    if report is not False:
        check_folder(place)
    backend.start_backend()
    from segzoo.engine import builders
    from segzoo.engine.evaluation import evaluate as measure
    from segzoo.engine.forward import Forward
    from segzoo.metrics import Calibration, bootstrap
    from segzoo.reporting.evaluation import Report

    config = opened.config
    if f"{split}_data" in opened.given and not any(change.startswith("data.") for change in overrides):
        raise RunError(
            f"{opened.folder.path} was trained with {split}_data that was given to segzoo.train, which its "
            "configuration does not describe. Evaluate on data that it does describe, with --set data.root=... and the "
            "like, or another split."
        )
    source = builders.build_source(config, split)
    calibration = Calibration(
        ignore_index=config.task.ignore_index, mode="multilabel" if config.task.multilabel else "multiclass"
    )
    network, loss = network_of(opened, weights, model, saved), opened.loss()
    if progress is not None:
        progress(0, len(source))
    batches = builders.eval_batches(config, source)
    found = measure(
        Forward(network),
        batches,
        config.task,
        loss=loss,
        target=builders.target_maker(config),
        worst=0 if report is False else _WORST,
        calibration=calibration,
        order=batches.ids,
        progress=None if progress is None else lambda done: progress(done, len(source)),
    )
    result = RunEvaluation(
        opened.name,
        split,
        network_name,
        opened.classes,
        found.confusion,
        bootstrap(found.images),
        calibration,
        found.images,
        found.loss,
        None if report is False else place / "index.html",
        config.output.metrics,
    )
    if report is not False:
        Report(
            title=result.title,
            names=opened.classes,
            colours=opened.palette,
            confusion=found.confusion,
            intervals=result.intervals,
            calibration=calibration,
            worst=found.worst,
            samples=len(found.images),
            loss=found.loss,
            background=builders.background(config),
            metrics=config.output.metrics,
        ).write(place)
    return result
