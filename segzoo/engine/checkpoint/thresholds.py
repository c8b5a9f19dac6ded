"""Thresholds of a run's classes: tuned ones, stored beside the weights that they were tuned for, or given ones."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from segzoo.engine.checkpoint.run import Run
from segzoo.errors import RunError, SegzooError, unknown_name
from segzoo.files import make_folder, read_at_most, replacing
from segzoo.hub.manifest import sha256_of
from segzoo.task import Task, threshold_count

_ENDING = ".thresholds.json"
_MOST = 2**20  # bytes
OTHERS = "*"  # in place of a name: all classes that are not named
_Threshold = Annotated[float, Field(gt=0, lt=1)]
_Score = Annotated[float, Field(ge=0, le=1)] | None


@dataclass(frozen=True)
class Thresholds:
    """Probabilities above which classes are predicted, and where they are from.

    Attributes:
        values: by the name of the class: in binary mode that of the second one, in multilabel of all; in multiclass
            mode none, as the largest logit decides.
        origin: "default", "tuned", "given", or "stored" in a model file.
        criterion: criterion that they were tuned by, such as "f1"; None for others.
        scores: its values on the validation split, in the order of the classes; None where it is undefined.
    """

    values: Mapping[str, float]
    origin: str = "default"
    criterion: str | None = None
    scores: tuple[float | None, ...] = ()

    @property
    def numbers(self) -> tuple[float, ...] | None:
        """Values in the order of the classes, as `segzoo.task.predict_classes` takes them; None for the default."""
        return None if self.origin == "default" else tuple(self.values.values())

    def __str__(self) -> str:
        """Return one line: values and origin."""
        if self.origin == "default":
            return "0.5 (default)"
        how = {"tuned": f"tuned by {self.criterion} on the validation split", "stored": "of the model file"}
        shown = ", ".join(f"{name} {value:.3g}" for name, value in self.values.items())
        return f"{shown} ({how.get(self.origin, self.origin)})"

    def notes(self) -> list[str]:
        """Return a sentence for each class whose threshold could not be tuned."""
        if self.origin != "tuned":
            return []
        untuned = [name for name, score in zip(self.values, self.scores, strict=True) if score is None]
        return [
            f"{name}: the validation split does not show it, or no threshold reaches {self.criterion}; it stays at 0.5."
            for name in untuned
        ]


@dataclass(frozen=True)
class _Stored:
    """Content of the file."""

    criterion: Annotated[str, Field(max_length=100)]
    thresholds: Annotated[dict[str, _Threshold], Field(max_length=65536)]
    scores: dict[str, _Score]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    format: Annotated[int, Field(ge=1, le=1)] = 1


def classes_with_thresholds(task: Task) -> list[str]:
    """Return the names of the classes that have a threshold."""
    return list(task.classes[len(task.classes) - threshold_count(task.mode, len(task.classes)) :])


def thresholds_of(run: Run, weights: str | None, given: float | Mapping[str, float] | None = None) -> Thresholds:
    """Return the thresholds of a run: given ones, else those that were tuned for its weights, else 0.5.

    Args:
        run: the run.
        weights: "best" or "last"; None for those of a model that was given, for which none are stored.
        given: as in `chosen`.

    Raises:
        RunError: the stored ones are damaged, or were tuned for other weights.
        UnknownNameError: no such class.
        SegzooError: given in multiclass mode, or not between 0 and 1.
    """
    names = classes_with_thresholds(run.config.task)
    return chosen(run.config.task, run.name, given, lambda: None if weights is None else _read(run, weights, names))


def chosen(
    task: Task, name: str, given: float | Mapping[str, float] | None, stored: Callable[[], Thresholds | None]
) -> Thresholds:
    """Return thresholds of a model: given ones, else stored ones, else 0.5.

    Args:
        task: classes and mode.
        name: name of the model, for messages.
        given: one for all classes, or by the names of classes. Others stay as they are, or get that of the name "*".
        stored: reads the stored ones, where they are needed; returns None where there are none.

    Raises:
        UnknownNameError: no such class.
        SegzooError: given in multiclass mode, or not between 0 and 1.
    """
    names = classes_with_thresholds(task)
    if not names:
        if given is not None:
            raise SegzooError(f"{name} is in multiclass mode, where the largest logit decides: it has no thresholds.")
        return Thresholds({})
    if given is None:
        return stored() or Thresholds(dict.fromkeys(names, 0.5))
    named = dict(given) if isinstance(given, Mapping) else {}
    rest = given if not isinstance(given, Mapping) else None if OTHERS in names else named.pop(OTHERS, None)
    for other in named:
        if other not in names:
            raise unknown_name("class with a threshold", other, names)
    if rest is None:
        before = stored()
        values = {**(before.values if before else dict.fromkeys(names, 0.5)), **named}
    else:
        values = {**dict.fromkeys(names, rest), **named}
    for other, value in values.items():
        if not 0 < value < 1:
            raise SegzooError(f"The threshold of {other} must be above 0 and below 1, got {value:g}.")
    return Thresholds(values, "given")


def of_file(task: Task, values: tuple[float, ...] | None) -> Thresholds | None:
    """Return the thresholds that a model file states in the order of the classes; None where it states none."""
    if values is None:
        return None
    return Thresholds(dict(zip(classes_with_thresholds(task), values, strict=True)), "stored")


def store_thresholds(run: Run, weights: str, found: Thresholds) -> Path:
    """Write tuned thresholds beside the weights, with the digest of these; of a run of a hub, into its results.

    Raises:
        StorageError: the file cannot be written.
    """
    source = run.weights_file(weights)
    path = run.results / _name(source)
    scores = dict(zip(found.values, found.scores, strict=True))
    content = _Stored(str(found.criterion), dict(found.values), scores, sha256_of(source))
    make_folder(path.parent)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(asdict(content), indent=2) + "\n", encoding="utf-8")
    return path


def tuned_thresholds(
    names: list[str], criterion: str, values: tuple[float, ...], scores: tuple[float, ...]
) -> Thresholds:
    """Return thresholds that were tuned by a criterion; scores that are NaN become None."""
    known = tuple(None if math.isnan(score) else score for score in scores)
    return Thresholds(dict(zip(names, values, strict=True)), "tuned", criterion, known)


def thresholds_file(run: Run, weights: str) -> Path | None:
    """Return the file of thresholds that were tuned for a run's "best" or "last" weights; None where there is none."""
    name = _name(run.folder.best if weights == "best" else run.folder.last)
    return next((path for folder in (run.results, run.folder.path) if (path := folder / name).is_file()), None)


def _name(weights: Path) -> str:
    return weights.name.removesuffix(".weights.h5") + _ENDING


def _read(run: Run, weights: str, names: list[str]) -> Thresholds | None:
    path = thresholds_file(run, weights)
    if path is None:
        return None
    cure = (
        "Tune them again by segzoo evaluate RUN --tune-threshold, remove the file, or give thresholds by --threshold."
    )
    try:
        stored = TypeAdapter(_Stored).validate_json(read_at_most(path, _MOST))
    except (OSError, ValueError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise RunError(f"{path} holds no thresholds ({reason}). {cure}") from None
    if list(stored.thresholds) != names or list(stored.scores) != names:
        raise RunError(f"{path} is of other classes than {run.name}. {cure}")
    source = run.weights_file(weights)
    if sha256_of(source) != stored.sha256:
        raise RunError(f"{path} was tuned for other weights than {source.name} holds now. {cure}")
    return Thresholds(stored.thresholds, "tuned", stored.criterion, tuple(stored.scores.values()))
