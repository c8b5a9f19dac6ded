"""Tuning of a run's thresholds on its validation split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from segzoo.errors import SegzooError
from segzoo.workflows.compute import Compute
from segzoo.workflows.sources import Model, RunModel

if TYPE_CHECKING:
    from segzoo.engine.checkpoint.run import Run
    from segzoo.engine.checkpoint.thresholds import Thresholds
    from segzoo.metrics import ProbabilityHistogram


def check_tuning(
    models: Sequence[Model],
    compute: Compute,
    criterion: str,
    split: str,
    given: float | Mapping[str, float] | None,
) -> tuple[Run, str]:
    """Return the run whose thresholds are to be tuned, and the weights that they are stored with.

    Args:
        models: what is evaluated.
        compute: options of the computation.
        criterion: see `segzoo.metrics.ProbabilityHistogram.tuned`.
        split: split that is evaluated.
        given: thresholds that were given.

    Raises:
        SegzooError: thresholds cannot be tuned so.
    """
    from segzoo.engine.checkpoint.thresholds import classes_with_thresholds
    from segzoo.metrics.probability_histogram import criterion_of

    criterion_of(criterion)
    (first, *others), name = models, models[0].name
    if not isinstance(first, RunModel) or others or first.tuned_for is None or compute.words:
        raise SegzooError(
            "Thresholds are tuned for the best or last weights of one run, with which they are stored, as it predicts "
            "by itself: neither for a model file, an ensemble or a given model, nor with --tta or --tile."
        )
    if not classes_with_thresholds(first.task):
        raise SegzooError(
            f"{name} is in multiclass mode, where the largest logit decides: it has no thresholds to tune."
        )
    if split != "val":
        raise SegzooError(
            f"Thresholds are tuned on the validation split, not on {split}, whose figures they would make look better "
            f"than they are. Tune first, then evaluate on {split}."
        )
    if given is not None:
        raise SegzooError("Give thresholds, or have them tuned, not both.")
    return first.run, first.tuned_for


def tune(run: Run, weights: str, histogram: ProbabilityHistogram, criterion: str) -> Thresholds:
    """Choose thresholds from the probabilities on the validation split, and store them with the run.

    Raises:
        StorageError: the file cannot be written.
    """
    from segzoo.engine.checkpoint.thresholds import classes_with_thresholds, store_thresholds, tuned_thresholds

    best = histogram.tuned(criterion)
    found = tuned_thresholds(classes_with_thresholds(run.config.task), criterion, best.values, best.scores)
    store_thresholds(run, weights, found)
    if weights == "best" and run.pushed is None and run.folder.model.is_file():
        _describe(run.folder.model, found)
    return found


def _describe(model: Path, found: Thresholds) -> None:
    """Write thresholds into the metadata of a run's model.keras, which holds the best weights."""
    from segzoo.export import read_metadata
    from segzoo.export.keras_file import put_metadata

    metadata = read_metadata(model)
    if metadata is not None:  # of a run of an earlier version there is none
        put_metadata(model, replace(metadata, thresholds=found.numbers).to_json())
