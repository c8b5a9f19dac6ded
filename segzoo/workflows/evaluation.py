"""Evaluation of a trained model on a split of a data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from segzoo import backend
from segzoo.errors import SegzooError, unknown_name
from segzoo.files import check_folder
from segzoo.workflows.compute import Compute, build_predictor
from segzoo.workflows.sources import (
    Model,
    RunModel,
    check_same_classes,
    open_models,
    refuse_given_data,
    thresholds_of_models,
)
from segzoo.workflows.tuning import check_tuning, tune

if TYPE_CHECKING:
    import keras
    import numpy as np

    from segzoo.config import Config
    from segzoo.data.images import ImageReader
    from segzoo.engine.checkpoint.thresholds import Thresholds
    from segzoo.engine.forward import Predicts
    from segzoo.inference.predictor import Predictor
    from segzoo.metrics import (
        Calibration,
        ConfusionMatrix,
        ImageCounts,
        Intervals,
        MultilabelCounts,
        ProbabilityHistogram,
    )
    from segzoo.workflows.sources import Source

#: Splits of a data set.
SPLITS = ("train", "val", "test")
_WORST = 10  # samples that the report shows


@dataclass(frozen=True)
class RunEvaluation:
    """Figures of a model on a split.

    Attributes:
        run: name of the run folder, the address of a run of a hub with its revision, or the path of a model file; of
            an ensemble these with commas between them.
        split: "train", "val" or "test".
        network: "best weights", "last weights", "model.keras", "given model" or the name of a model file, and what else
            the computation was told, such as "best weights, tta d4".
        class_names: names of the classes, in the order of their labels.
        confusion: pixel counts over the whole split; `confusion.table(class_names)` has IoU, Dice and more by class.
        intervals: 95 % intervals of the figures over the samples.
        calibration: confidence and accuracy of all pixels.
        images: pixel counts of each sample.
        loss: mean over the samples of the batch losses.
        thresholds: probabilities above which classes were predicted; none in multiclass mode.
        report: the HTML page; None where none was asked for.
        metrics: further metrics of the tables by class, `output.metrics` of the run.
        probabilities: histogram of the probabilities of the classes that have a threshold, with precision and recall at
            each; None in multiclass mode.
        background: label of the background, which the foreground mean leaves out; None where there is none.
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
    thresholds: Thresholds
    report: Path | None = None
    metrics: Sequence[Any] = ()
    probabilities: ProbabilityHistogram | None = None
    background: int | None = None

    @property
    def mean_iou(self) -> float:
        """Mean IoU over the classes that occur, 0..1; NaN where none does."""
        return self.confusion.mean_iou()

    @property
    def title(self) -> str:
        """One line that says what was evaluated."""
        return f"{self.run}: {self.split} split, {self.network}"


def evaluate(
    run: Source | Sequence[Source],
    split: Literal["train", "val", "test"] = "val",
    *,
    weights: Literal["best", "last"] | None = "best",
    overrides: Sequence[str] = (),
    model: keras.Model | None = None,
    saved: bool = False,
    data: str | PathLike[str] | Config | None = None,
    tta: str | None = None,
    tile: int | None = None,
    overlap: int | None = None,
    batch: int = 1,
    device: str | None = None,
    threshold: float | Mapping[str, float] | None = None,
    tune_threshold: str | None = None,
    report: str | PathLike[str] | Literal[False] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> RunEvaluation:
    """Evaluate a trained model on a split, and write a report with pictures.

    Args:
        run: a run folder, an address such as "hf://user/name" (docs/hub.md), or what `load_run` returns; a model file,
            with `data`; or a list of these: an ensemble, whose probabilities are averaged; see `load`.
        split: "train", "val" or "test".
        weights: "best" or "last" weights of the run; None: those that `model` has.
        overrides: changes to the configuration that the data are of, such as "data.root=elsewhere".
        model: takes the place of the network that the configuration describes, as for a run that `train` was given a
            model for; gets the run's weights, in place, unless `weights` is None.
        saved: take the run's model.keras instead, which holds the best weights, as Keras loads it.
        data: configuration whose data and loss the model is evaluated with; by default the run's, of an ensemble the
            first one's. Its classes must be those of the model.
        tta: test-time augmentation, such as "mirror", "d4" or "mirror+scales"; see `segzoo.inference.Predictor`.
        tile: height and width of the tiles of larger images, a multiple of 32; by default no image is tiled.
        overlap: pixels that neighbouring tiles share, a multiple of 32; by default a quarter of a tile.
        batch: most tiles that are computed at once; images come in batches of data.eval_batch_size.
        device: device that computes, such as "CPU" or "GPU:1"; by default the backend's choice.
        threshold: probability above which a class is predicted, as in `load`.
        tune_threshold: tune the threshold of each class on the validation split first, by "f1", "f2" or another F-beta,
            "iou", or "recall@0.9" (the largest recall at which precision is at least 0.9), and store them with the run,
            for which `predict`, `evaluate` and exports use them. The split is read twice.
        report: folder for the report; by default evaluation_SPLIT_WEIGHTS in the run folder, of a hub's run below
            runs/, and beside a model file; what else the computation was told is in its name. False: no report.
        progress: called with the number of samples done so far and that of all, first with (0, all).

    Raises:
        UnknownNameError: no such split, weights or class.
        RunError: not a run folder, a run that has no such weights yet, or thresholds that were tuned for other weights.
        SegzooError: thresholds in multiclass mode, no such criterion, or tuning on another split.
        HubError: a run of a hub that cannot be fetched.
        WeightsError: weights that are unreadable or belong to another network.
        DataError: the split does not exist, or samples are unusable.
        ConfigError: an invalid override or configuration.
        SegzooError: a model file without `data`, classes other than those of the data, and as in `load`.
        StorageError: the report cannot be written.

    Example:
        >>> found = segzoo.evaluate("runs/unet_b3", "test", report=False)
        >>> found.mean_iou, found.intervals.mean_iou, found.confusion.iou()
    """
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    compute = Compute(tta, tile, overlap, batch, device)
    models = open_models(run, weights, () if data is not None else overrides, model, saved)
    if tune_threshold is None:
        thresholds = thresholds_of_models(models, threshold)
    else:
        tuned_run, tuned_weights = check_tuning(models, compute, tune_threshold, split, threshold)
    config = config_of_data(models, data, split, overrides)
    words = [models[0].words, *compute.words]
    place = _place(models, split, words) if report in (None, False) else Path(str(report))
    if report is not False:
        check_folder(place)
    backend.start_backend()
    from segzoo.engine import builders
    from segzoo.engine.evaluation import evaluate as measure
    from segzoo.metrics import Calibration, ProbabilityHistogram, bootstrap
    from segzoo.reporting.evaluation import Report
    from segzoo.task import threshold_count

    _check_reading(models[0], builders.image_reader(config))
    source = builders.build_source(config, split)
    passes = 1 if tune_threshold is None else 2
    if progress is not None:  # the network, built next, may take as long as the first images
        progress(0, passes * len(source))
    calibration = Calibration(
        ignore_index=config.task.ignore_index,
        mode="multilabel" if config.task.multilabel else "multiclass",
        classes=len(config.task.classes),
    )
    network, loss = _network(models, compute), _loss(models[0], config, data)
    colours, background = models[0].display()
    names = list(config.task.classes)

    def report_progress(before: int) -> Callable[[int], None] | None:
        return None if progress is None else lambda done: progress(before + done, passes * len(source))

    batches = builders.eval_batches(config, source)
    count = threshold_count(config.mode, len(config.task.classes))
    histogram = ProbabilityHistogram(count, config.task.ignore_index) if count else None
    if tune_threshold is not None:
        assert histogram is not None
        measure(network, batches, config.task, histogram=histogram, progress=report_progress(0))
        thresholds = tune(tuned_run, tuned_weights, histogram, tune_threshold)
    found = measure(
        network,
        batches,
        config.task,
        loss=loss,
        target=builders.target_maker(config),
        worst=0 if report is False else _WORST,
        calibration=calibration,
        thresholds=thresholds.numbers,
        histogram=histogram if tune_threshold is None else None,
        order=batches.ids,
        progress=report_progress((passes - 1) * len(source)),
    )
    result = RunEvaluation(
        ", ".join(opened.name for opened in models),
        split,
        ", ".join(words),
        names,
        found.confusion,
        bootstrap(found.images),
        calibration,
        found.images,
        found.loss,
        thresholds,
        None if report is False else place / "index.html",
        config.output.metrics,
        histogram,
        background,
    )
    if report is not False:
        Report(
            title=result.title,
            names=names,
            colours=builders.colours(config) if colours is None else colours,
            confusion=found.confusion,
            intervals=result.intervals,
            calibration=calibration,
            worst=found.worst,
            samples=len(found.images),
            images=found.images,
            loss=found.loss,
            background=background,
            metrics=config.output.metrics,
            thresholds=thresholds.values,
            thresholds_from=str(thresholds),
            probabilities=histogram,
        ).write(place)
    return result


def config_of_data(
    models: Sequence[Model], data: str | PathLike[str] | Config | None, split: str, overrides: Sequence[str]
) -> Config:
    """Return the configuration of the data that the models are evaluated with, after checking that it fits them.

    Raises:
        ConfigError: an invalid configuration or override.
        RunError: the split was given to `segzoo.train` as an object.
        SegzooError: no configuration, or one of other classes.
    """
    first = models[0]
    if data is not None:
        from segzoo.config import resolve_config

        config = resolve_config(data, overrides)
    elif isinstance(first, RunModel):
        config = first.run.config
        refuse_given_data(
            first.run,
            split,
            ". Evaluate on data that it does describe, with --set data.root=... and the like, by --data CONFIG, or on "
            "another split.",
        )
    else:
        raise SegzooError(
            f"{first.name} is a model file, which has no data. Name the configuration of the data to evaluate it on: "
            "--data CONFIG (data=...)."
        )
    check_same_classes(first.name, first.task, str(data if isinstance(data, str | PathLike) else "data"), config.task)
    return config


def _check_reading(model: Model, reader: ImageReader) -> None:
    """Raise SegzooError if the data's images are read to other pixels than those that the model was trained on."""
    own = model.reader()
    for of, key in (("channels", "model.input_channels"), ("value_range", "data.value_range")):
        trained, given = getattr(own, of), getattr(reader, of)
        if trained != given:
            raise SegzooError(
                f"{model.name} was trained with {key}: {trained}, and the configuration of the data has {given}. Set "
                f"{key} to what the model takes (--set)."
            )


def _place(models: Sequence[Model], split: str, words: Sequence[str]) -> Path:
    """Return the folder of a report, whose name says what was evaluated and how."""
    folder, start = models[0].results
    run = isinstance(models[0], RunModel)
    weights = {"model.keras": "saved", "given model": "given"}.get(words[0], words[0].partition(" ")[0])
    others = [f"with_{Path(model.name).stem}" for model in models[1:]]
    how = [*([weights] if run else []), *others, *(word.replace(" ", "-") for word in words[1:])]
    return folder / "_".join([f"{start}evaluation_{split}", *how])


def _network(models: Sequence[Model], compute: Compute) -> Predicts:
    """Return what computes logits by `predict_on_batch`: as in training, where nothing else is asked of a run."""
    from segzoo.engine.forward import Forward

    if len(models) == 1 and isinstance(models[0], RunModel) and compute == Compute():
        return Forward(models[0].keras_model())
    return _Predicting(build_predictor(models, compute, tiled=False))


class _Predicting:
    """Predictor under the name of Keras's function."""

    def __init__(self, predictor: Predictor):
        self._predictor = predictor

    def predict_on_batch(self, images: np.ndarray) -> np.ndarray:
        """Compute the logits `(B, H, W, outputs)` of images `(B, H, W, C)`."""
        return self._predictor.logits(images)


def _loss(model: Model, config: Config, data: Any) -> keras.losses.Loss | None:
    """Return the loss of a run, or that of the data's configuration; None where neither can be rebuilt."""
    from segzoo.engine import builders

    if data is None and isinstance(model, RunModel):
        return model.run.loss()
    return None if builders.weight_schemes(config) else builders.build_loss(config)
