"""Comparison of several models on the same split."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from segzoo.errors import SegzooError, unknown_name
from segzoo.files import check_folder
from segzoo.workflows.compute import Compute
from segzoo.workflows.evaluation import SPLITS, RunEvaluation, config_of_data, evaluate
from segzoo.workflows.sources import Model, RunModel, check_same_classes, open_models

if TYPE_CHECKING:
    from segzoo.config import Config
    from segzoo.metrics import Differences
    from segzoo.reporting.comparison import Compared, ComparisonReport
    from segzoo.task import Task
    from segzoo.workflows.sources import Source

    Split = Literal["train", "val", "test"]

_OWN = ("name", "output.root")  # keys that every run has to itself


@dataclass(frozen=True)
class RunComparison:
    """Figures of several models on the same images.

    Attributes:
        names: names of the models, each once: those of their evaluations, numbered where they repeat.
        evaluations: figures of each model.
        differences: of each model but the first, its differences to the first, by the paired bootstrap over the images.
        contents: tables and figures of the report.
        report: the HTML page; None where none was written.
    """

    names: list[str]
    evaluations: list[RunEvaluation]
    differences: list[Differences]
    contents: ComparisonReport
    report: Path | None = None


def compare(
    models: Sequence[Source | RunEvaluation],
    split: Split | None = None,
    *,
    weights: Literal["best", "last"] = "best",
    overrides: Sequence[str] = (),
    saved: bool = False,
    data: str | PathLike[str] | Config | None = None,
    tta: str | None = None,
    tile: int | None = None,
    overlap: int | None = None,
    batch: int = 1,
    device: str | None = None,
    report: str | PathLike[str] | Literal[False] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> RunComparison:
    """Evaluate models on the same split, and compare the first with each of the others by the paired bootstrap.

    Args:
        models: two or more run folders, addresses of runs, model files, what `load_run` returns, or evaluations that
            `evaluate` returned. The others are compared with the first.
        split: "train", "val" or "test"; by default that of the evaluations, or "val".
        weights: "best" or "last" weights of the runs.
        overrides: changes to the configuration of the data, such as "data.root=elsewhere".
        saved: take the runs' model.keras; see `evaluate`.
        data: configuration whose data all models are evaluated on; by default that of the first run.
        tta: test-time augmentation of all models, as in `evaluate`; evaluations stay as they are.
        tile: height and width of the tiles of larger images, a multiple of 32; by default no image is tiled.
        overlap: pixels that neighbouring tiles share, a multiple of 32; by default a quarter of a tile.
        batch: most tiles that are computed at once, as in `evaluate`.
        device: device that computes; by default the backend's choice.
        report: folder for the report; by default in the folder of the first run or file, and none where there are
            evaluations alone. False: no report.
        progress: called with the number of images done so far, by all models together, and that of all.

    Raises:
        UnknownNameError: no such split or test-time augmentation.
        SegzooError: fewer than two models; models of other classes, which names the first difference; evaluations of
            other images or another split; and as in `evaluate`.

    Example:
        >>> found = segzoo.compare(["runs/unet_b3", "runs/fpn_b3"], "test", report=False)
        >>> found.differences[0].mean_iou.value, found.differences[0].mean_iou.interval
    """
    if isinstance(models, str | PathLike) or len(models) < 2:
        raise SegzooError("Give two or more runs, model files or evaluations to compare, as a list.")
    split = _split_of(models, split)
    compute = Compute(tta, tile, overlap, batch, device)
    opened = [model if isinstance(model, RunEvaluation) else _open(model, weights, saved) for model in models]
    first, *others = opened
    for other in others:
        check_same_classes(_name(first), _task(first), _name(other), _task(other))
    sources = [model for model in opened if not isinstance(model, RunEvaluation)]
    config = _config(sources, data, split, overrides) if sources else None
    place = Path(str(report)) if report not in (None, False) else _place(opened, sources, split, compute)
    if report is not False and place is not None:
        check_folder(place)

    found, done = [], 0
    for model in opened:
        if not isinstance(model, RunEvaluation):
            model = evaluate(
                model.run if isinstance(model, RunModel) else model.path,  # type: ignore[attr-defined]
                split,
                weights=weights if isinstance(model, RunModel) else "best",
                saved=saved and isinstance(model, RunModel),
                data=config,
                **asdict(compute),
                report=False,
                progress=_shifted(progress, done, len(sources)),
            )
            done += 1
        found.append(model)
    from segzoo.reporting.comparison import ComparisonReport

    names = _numbered([evaluation.run for evaluation in found])
    differences = [_difference(names, found, index) for index in range(1, len(found))]
    compared = [_compared(*each) for each in zip(names, found, opened, strict=True)]
    title = f"{' and '.join(names) if len(names) == 2 else f'{len(names)} models'}: comparison on the {split} split"
    contents = ComparisonReport(title, found[0].class_names, compared, differences, len(found[0].images))
    page = contents.write(place) if report is not False and place is not None else None
    return RunComparison(names, found, differences, contents, page)


def _split_of(models: Sequence[Source | RunEvaluation], split: Split | None) -> Split:
    """Return the split, after checking that evaluations are of it."""
    evaluations = [model for model in models if isinstance(model, RunEvaluation)]
    if split is None:
        split = cast("Split", evaluations[0].split) if evaluations else "val"
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    for evaluation in evaluations:
        if evaluation.split != split:
            raise SegzooError(
                f"The models must be compared on one split: {evaluation.run} was evaluated on the {evaluation.split} "
                f"split, not on {split}."
            )
    return split


def _open(source: Source, weights: Literal["best", "last"], saved: bool) -> Model:
    """Open a run by its options, or a model file, which has none."""
    (found,) = open_models(source)
    return found if not isinstance(found, RunModel) else RunModel(found.run, weights, None, saved)


def _name(model: Model | RunEvaluation) -> str:
    return model.run if isinstance(model, RunEvaluation) else model.name


def _task(model: Model | RunEvaluation) -> Task:
    if not isinstance(model, RunEvaluation):
        return model.task
    from segzoo.metrics import MultilabelCounts
    from segzoo.task import Task

    if isinstance(model.confusion, MultilabelCounts):
        return Task(tuple(model.class_names), mode="multilabel")
    return Task(tuple(model.class_names), mode="binary" if model.thresholds.values else "multiclass")


def _config(
    sources: Sequence[Model], data: str | PathLike[str] | Config | None, split: str, overrides: Sequence[str]
) -> Config:
    """Return the configuration of the data: the given one, else that of the first run."""
    first = next((model for model in sources if isinstance(model, RunModel)), sources[0])
    if data is None and overrides and isinstance(first, RunModel):
        first = open_models(first.run, overrides=overrides)[0]
    return config_of_data([first], data, split, overrides)


def _place(
    opened: Sequence[Model | RunEvaluation], sources: Sequence[Model], split: str, compute: Compute
) -> Path | None:
    """Return the default folder of the report, whose name says what was compared; None without a run or file."""
    if not sources:
        return None
    folder, start = sources[0].results
    others = [Path(_name(model)).stem for model in opened if model is not sources[0]]
    how = [word.replace(" ", "-") for word in compute.words]
    return folder / "_".join([f"{start}comparison_{split}", *(f"with_{name}" for name in others), *how])


def _shifted(progress: Callable[[int, int], None] | None, index: int, models: int) -> Callable[[int, int], None] | None:
    """Return what reports the progress of one of several models as a part of that of all."""
    return None if progress is None else lambda done, total: progress(index * total + done, models * total)


def _numbered(names: Sequence[str]) -> list[str]:
    """Return the names with a number behind those that repeat, such as "a", "b", "a (2)"."""
    found: list[str] = []
    for name in names:
        number, unique = 1, name
        while unique in found:
            number += 1
            unique = f"{name} ({number})"
        found.append(unique)
    return found


def _difference(names: Sequence[str], found: Sequence[RunEvaluation], index: int) -> Differences:
    from segzoo.metrics import paired_bootstrap

    try:
        return paired_bootstrap(found[index].images, found[0].images)
    except ValueError as error:
        raise SegzooError(
            f"{names[index]} and {names[0]} were not evaluated on the same images, so there are no pairs: {error}"
        ) from error


def _compared(name: str, evaluation: RunEvaluation, model: Model | RunEvaluation) -> Compared:
    """Return what the report shows of a model; of a run also its training and configuration."""
    from segzoo.reporting.comparison import Compared, flattened

    history: list[dict[str, Any]] = []
    settings = automatic = None
    if isinstance(model, RunModel):
        events = _events(model.run.folder.log)
        history = [event for event in events if event.get("event") == "epoch"]
        automatic = next((of for event in reversed(events) if isinstance(of := event.get("automatic"), dict)), None)
        given = flattened(model.run.config.model_dump(mode="json"))
        settings = {key: value for key, value in given.items() if key not in _OWN}
    return Compared(name, evaluation.title, evaluation.confusion, evaluation.intervals, history, settings, automatic)


def _events(log: Path) -> list[dict[str, Any]]:
    """Return the events in a run's log; none of a run without one, such as that of a hub."""
    if not log.is_file():
        return []
    events = []
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            event = json.loads(line)
        except ValueError:  # the last line of a killed process may be half written
            continue
        if isinstance(event, dict):
            events.append(event)
    return events
