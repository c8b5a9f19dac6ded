"""Run state: everything that the next step depends on, from the network's variables to the random generators."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np

from segzoo import files
from segzoo.engine.callbacks.stateful import PREFIX
from segzoo.engine.checkpoint import checkpoint_file
from segzoo.engine.checkpoint.progress import Progress
from segzoo.errors import RunError
from segzoo.escaping import printable
from segzoo.keras_compat import sync_variables

#: Named groups of variables that belong to a run besides its network's and optimizer's.
Extra = Mapping[str, Sequence[keras.Variable]]


class NotFiniteError(Exception):
    """A loss or a weight is NaN or infinite; the message says which."""


def save_state(
    path: Path,
    network: keras.Model,
    progress: Progress,
    extra: Extra | None = None,
    callbacks: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write a new generation of the state; the existing one is kept as the previous generation.

    It holds where the run stands, every variable of the compiled network (seed generators too), of its optimizer, of
    `extra` and, within an epoch, of the metrics (the running loss), the generators of `random` and `numpy.random`, and
    `callbacks`, see `callbacks.states.states_of`.

    Raises:
        StorageError: the file system refuses; the state that was there is intact.
        NotFiniteError: a variable of the network is not finite: nobody could go on from that. Nothing is written.
    """
    sync_variables(network)
    arrays = {key: keras.ops.convert_to_numpy(variable) for key, variable in _variables(network, extra).items()}
    for index, variable in enumerate(network.variables):
        if variable.trainable and not np.isfinite(arrays[f"model/{index:05d}"].sum(dtype="float64")):
            raise NotFiniteError(f"The weights {variable.path} became not finite")
    if progress.position:
        arrays |= {key: keras.ops.convert_to_numpy(variable) for key, variable in _metrics(network).items()}
    arrays["random/python"] = np.array(json.dumps(random.getstate()))
    arrays["random/numpy"] = np.array(json.dumps(np.random.get_state(legacy=False), default=np.ndarray.tolist))  # noqa: NPY002
    checkpoint_file.write(path, progress.to_json(), {**arrays, **(callbacks or {})})


def drop_variables(path: Path, progress: Progress) -> int:
    """Replace the state of a finished run by its progress without variables; return the number of bytes freed.

    A kill in between leaves the old state, or the new one and beside it the old one as the previous generation.

    Raises:
        StorageError: the file system refuses; a whole state is there.
    """
    previous = checkpoint_file.previous_of(path)
    before = _bytes(path, previous)
    checkpoint_file.write(path, progress.to_json(), {})
    files.remove(previous)
    return before - _bytes(path, previous)


def _bytes(*paths: Path) -> int:
    return sum(path.stat().st_size for path in paths if path.is_file())


def load_progress(path: Path) -> Progress:
    """Read the progress of a run, without its variables.

    Raises:
        RunError: there is no state, or none that can be read.
    """
    stored = checkpoint_file.read(path)
    if stored is None:
        raise RunError(f"There is no run state at {path}: nothing was trained there, or not for long enough.")
    return Progress.from_json(stored.facts)


def restore(stored: checkpoint_file.Stored, network: keras.Model, path: Path, extra: Extra | None = None) -> None:
    """Restore a compiled network, its optimizer, `extra` and the random generators from a state.

    The metrics are not among them, nor the callbacks: see `restore_metrics` and `callbacks.states.set_states`.

    Args:
        stored: the state.
        network: network with the graph that the state was saved from.
        path: path of the state, for messages.
        extra: as in `save_state`.

    Raises:
        RunError: its variables are not those of the network; the network is unchanged.
    """
    variables = _variables(network, extra)
    names = {name for name in stored.arrays if not name.startswith(("metrics/", "random/", PREFIX))}
    if names != variables.keys():
        odd = sorted(names ^ variables.keys())
        raise RunError(f"{path} belongs to another network: {len(odd)} variables differ, first {odd[0]}.")
    _check_arrays(stored, variables, f"{path} belongs to another network")
    _restore_generators(stored, path)
    for key, variable in variables.items():
        variable.assign(stored.arrays[key])


def _check_arrays(stored: checkpoint_file.Stored, variables: Mapping[str, keras.Variable], what: str) -> None:
    """Raise RunError unless the arrays have the shapes and types of the variables."""
    for key, variable in variables.items():
        array, shape, dtype = stored.arrays[key], tuple(variable.shape), keras.backend.standardize_dtype(variable.dtype)
        if array.shape != shape:
            raise RunError(f"{what}: {key} is {array.shape}, not {shape}.")
        is_bfloat16 = dtype == "bfloat16" and array.dtype == "V2"  # which NumPy does not have
        if array.dtype.name != dtype and not is_bfloat16:
            raise RunError(f"{what}: {key} is of the type {array.dtype.name}, not {dtype}.")


def _restore_generators(stored: checkpoint_file.Stored, path: Path) -> None:
    """Restore the generators of `random` and `numpy.random`; on RunError they are unchanged."""
    before = random.getstate()
    try:
        version, internal, gauss = json.loads(str(stored.arrays["random/python"]))
        state = json.loads(str(stored.arrays["random/numpy"]))
        random.setstate((version, tuple(internal), gauss))
        np.random.set_state(state)  # noqa: NPY002
    except Exception as error:  # whatever they make of values that are no state of theirs
        random.setstate(before)
        raise RunError(
            f"{path} holds no state of the random generators that can be set ({type(error).__name__}: "
            f"{printable(str(error))}), so the run cannot go on with the bits that it would have had. Train anew with "
            "--overwrite."
        ) from error


def restore_metrics(stored: checkpoint_file.Stored, network: keras.Model) -> None:
    """Restore the network's metrics from a state; Keras creates some of them no earlier than in `fit`.

    Raises:
        RunError: they are others.
    """
    metrics = _metrics(network)
    if metrics.keys() != {name for name in stored.arrays if name.startswith("metrics/")}:
        raise RunError("The run state holds other metrics than the network has, so its epoch cannot be gone on with.")
    _check_arrays(stored, metrics, "The run state holds other metrics than the network has")
    for key, variable in metrics.items():
        variable.assign(stored.arrays[key])


def _variables(network: keras.Model, extra: Extra | None) -> dict[str, keras.Variable]:
    """Name variables independently of what else was built in the process."""
    optimizer = network.optimizer
    if not optimizer.built:  # before the first step it has no variables to give or take
        optimizer.build(network.trainable_variables)
    groups = {"model": network.variables, "optimizer": optimizer.variables, **(extra or {})}
    return {f"{name}/{index:05d}": variable for name, group in groups.items() for index, variable in enumerate(group)}


def _metrics(network: keras.Model) -> dict[str, keras.Variable]:
    return {f"metrics/{index:05d}": variable for index, variable in enumerate(network.metrics_variables)}
