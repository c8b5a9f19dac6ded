"""The run state: everything that the next step depends on, in one atomic file."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from segzoo.errors import RunError
from segzoo.files import replacing

_FORMAT = 1


@dataclass
class Progress:
    """Where a run stands.

    The data position needs no more than the step: order and augmentation are functions of seed, epoch and sample.

    Attributes:
        step: optimizer steps done.
        epoch: epochs done.
        best_score: best validation mIoU so far, or None.
        best_epoch: the epoch that reached it, or None.
        stale_epochs: epochs since then, for early stopping.
        finished: whether the run came to its end.
        history: one row of figures for each epoch.
        best_counts: confusion matrix (rows true, columns predicted) of the best epoch, or None.
    """

    step: int = 0
    epoch: int = 0
    best_score: float | None = None
    best_epoch: int | None = None
    stale_epochs: int = 0
    finished: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)
    best_counts: list[list[int]] | None = None


#: Named groups of variables that belong to a run besides its network's and optimizer's.
Extra = Mapping[str, Sequence[keras.Variable]]


def save_state(path: Path, model: keras.Model, progress: Progress, extra: Extra | None = None) -> None:
    """Write progress, all variables of the model (seed generators too), its optimizer and `extra` to one file."""
    arrays: dict[str, Any] = {key: keras.ops.convert_to_numpy(variable) for key, variable in _variables(model, extra)}
    meta = {"format": _FORMAT, **vars(progress)}
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, meta=np.array(json.dumps(meta)), **arrays)


def load_progress(path: Path) -> Progress:
    """Read where a run stands, without its variables.

    Raises:
        RunError: no such file, or one that cannot be read.
    """
    with _open(path) as archive:
        meta = json.loads(str(archive["meta"]))
    if meta.pop("format") != _FORMAT:
        raise RunError(f"{path} was written by another version of segzoo; train again, or use that version.")
    return Progress(**meta)


def load_state(path: Path, model: keras.Model, extra: Extra | None = None) -> Progress:
    """Give a compiled model, its optimizer and `extra` the variables of a run state; returns where the run stands.

    Raises:
        RunError: a file that cannot be read, or whose variables are not those of the model; the model is unchanged.
    """
    progress = load_progress(path)
    variables = _variables(model, extra)
    with _open(path) as archive:
        names = set(archive.files) - {"meta"}
        expected = {key for key, _ in variables}
        if names != expected:
            odd = sorted(names ^ expected)
            raise RunError(f"{path} belongs to another network: {len(odd)} variables differ, first {odd[0]}.")
        values = [archive[key] for key, _ in variables]
    for (key, variable), value in zip(variables, values, strict=True):
        if tuple(variable.shape) != value.shape:
            raise RunError(f"{path} belongs to another network: {key} is {value.shape}, not {tuple(variable.shape)}.")
    for (_, variable), value in zip(variables, values, strict=True):
        variable.assign(value)
    return progress


def _variables(model: keras.Model, extra: Extra | None) -> list[tuple[str, Any]]:
    """Variables under names that do not depend on what else was built in the process."""
    optimizer = model.optimizer
    if not optimizer.built:  # before the first step it has no variables to give or take
        optimizer.build(model.trainable_variables)
    groups = {"model": model.variables, "optimizer": optimizer.variables, **(extra or {})}
    return [(f"{name}/{index:05d}", variable) for name, group in groups.items() for index, variable in enumerate(group)]


def _open(path: Path) -> Any:
    if not path.is_file():
        raise RunError(f"There is no run state at {path}: nothing was trained there, or not to the end of an epoch.")
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"The run state {path} cannot be read: {error}. Start again in a new run folder.") from error
