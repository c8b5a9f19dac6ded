"""Run folder: layout, locking, and reconstruction of models from it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
from filelock import FileLock

from segzoo import __version__, files
from segzoo.compat import SMP, SMP_0_1_0
from segzoo.config import Config, dump_config, load_config
from segzoo.decoders import DECODERS, legacy_options
from segzoo.engine.checkpoint import checkpoint_file
from segzoo.engine.checkpoint.progress import Progress
from segzoo.engine.checkpoint.provenance import differences
from segzoo.errors import RunError, WeightsError, unknown_name

if TYPE_CHECKING:
    import keras
    import numpy as np

_LEGACY = "0.1.0"  # the version that did not write some options of decoders, see `segzoo.decoders.legacy_options`
_PACKAGES = (
    "keras",
    "tensorflow",
    "jax",
    "torch",
    "numpy",
    "albumentations",
    "grain",
    "opencv-python-headless",
)


class OriginWarning(UserWarning):
    """A run is resumed with another configuration, other data or other code than it was started with."""


@dataclass(frozen=True)
class RunFolder:
    """Paths of all files in a run folder, and the operations on them.

    Attributes:
        path: the folder.
        is_written: whether this process writes to it; of several that train together only one does.
    """

    path: Path
    is_written: bool = True

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def state(self) -> Path:
        """The run state, one atomic file; the one before it is kept beside it (`checkpoint_file.previous_of`)."""
        return self.path / "state.npz"

    @property
    def log(self) -> Path:
        """Events, one JSON object a line."""
        return self.path / "log.jsonl"

    @property
    def metrics(self) -> Path:
        """One row for each epoch."""
        return self.path / "metrics.csv"

    @property
    def best(self) -> Path:
        """Weights of the best epoch."""
        return self.path / "best.weights.h5"

    @property
    def last(self) -> Path:
        """Weights of the last whole epoch."""
        return self.path / "last.weights.h5"

    @property
    def model(self) -> Path:
        """The finished model, with the best weights."""
        return self.path / "model.keras"

    @property
    def figures(self) -> Path:
        """Folder of pictures."""
        return self.path / "figures"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's event files."""
        return self.path / "tensorboard"

    @property
    def summary(self) -> Path:
        """The page on the finished run; summary.md beside it says the same for a merge request."""
        return self.path / "summary.html"

    @property
    def trackers(self) -> Path:
        """Run ids of the trackers, if there are any."""
        return self.path / "trackers.json"

    @property
    def class_pixels(self) -> Path:
        """Pixel counts of the training split, where class weights are made from them."""
        return self.path / "class_pixels.json"

    @property
    def environment(self) -> Path:
        """Versions, machine, seed and data fingerprints."""
        return self.path / "environment.json"

    @property
    def result(self) -> Path:
        """Result of the run; it is written last, so a run without it is not finished."""
        return self.path / "result.json"

    @property
    def sessions(self) -> Path:
        """Starts and ends of the processes that worked on the run, one JSON object a line; never rewritten."""
        return self.path / "sessions.jsonl"

    @contextmanager
    def locked(self, *, resume: bool = False) -> Iterator[None]:
        """Create the folder and lock it against other processes; the lock of a killed process is released at once.

        Args:
            resume: whether it must hold a run already.

        Raises:
            RunError: another process has the lock; the folder is something else; there is nothing to resume.
            StorageError: the folder cannot be made or written to.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"The run folder {self.path} is a file; choose another name with --set name=...")
        lock = self.path / ".lock"
        if not self.config.is_file():
            # Only what segzoo made: somebody may have pointed `name` at a folder with other things in it.
            found = list(self.path.iterdir()) if self.path.is_dir() else []
            if any(path != lock and not files.is_temporary(path) for path in found):
                raise RunError(
                    f"{self.path} is not a run folder (it has no config.yaml) and not empty, so it is left alone; "
                    "choose another one with --set name=..."
                )
            if resume:
                raise RunError(f"There is no run to resume in {self.path}; start it without --resume.")
        with files.operation("make folder", self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        held = FileLock(lock)
        with files.operation("lock", lock):
            try:
                held.acquire(timeout=0)
            except filelock.Timeout:
                raise RunError(
                    f"Another process is training in {self.path}{self._last_session()}. Wait for it or stop it, or "
                    "choose another folder with --set name=..."
                ) from None
        try:
            yield
        finally:
            held.release()

    def begin(
        self, config: Config, origin: dict[str, Any], *, resume: bool, overwrite: bool, resume_anyway: bool
    ) -> checkpoint_file.Stored | None:
        """Prepare the locked folder; return the state to resume from, or None for a new run.

        Args:
            config: the resolved configuration.
            origin: provenance of what this process would train, see `provenance.provenance_of`.
            resume: also open a finished run.
            overwrite: remove the run that is there.
            resume_anyway: go on although the origin is another one, with a warning.

        Raises:
            RunError: a finished run and neither `resume` nor `overwrite`; one that dropped its variables and should be
                trained further; a run of another configuration, other data or other code; a state that cannot be read.

        Warns:
            DamagedStateWarning: the newest state is damaged and the one before it is used.
            OriginWarning: the origin is another one and `resume_anyway` is set.
        """
        files.remove_temporaries(self.path)
        if overwrite:
            self._remove()
        stored = checkpoint_file.read(self.state, mend=True)
        if stored is None:
            if self.last.exists():
                raise RunError(
                    f"{self.path} holds weights but no run state ({self.state.name}), so training cannot go on there. "
                    "Choose another folder with --set name=..., or replace the run by --overwrite."
                )
            dump_config(config, self.config)
            return None
        if stored.is_bare:
            self._check_kept(stored, config)
            files.remove(checkpoint_file.previous_of(self.state))  # where a kill came while the run dropped it
        before = Progress.from_json(stored.facts).origin
        if changed := differences(before, origin):
            text = f"The run in {self.path} was started with something else: {'; '.join(changed)}."
            if not resume_anyway:
                raise RunError(
                    f"{text} Go on with what it was started with, or with this at your own risk by --resume-anyway; "
                    "or start a new run by --set name=..., or replace this one by --overwrite."
                )
            _refuse_another_decoder(self.path, config, before)
            warnings.warn(f"{text} Training goes on with what is given now.", OriginWarning, stacklevel=2)
        elif (stored.is_bare or self.result.is_file()) and not resume:
            raise RunError(
                f"{self.path} already holds a finished run. Show it again by --resume, choose another folder by "
                "--set name=..., or replace it by --overwrite."
            )
        return stored

    def _check_kept(self, stored: checkpoint_file.Stored, config: Config) -> None:
        """Raise RunError if the configuration asks for more epochs of a run that has dropped its variables."""
        epochs, done = config.training.epochs, stored.facts["epoch"]
        if stored.facts["stopped"] is None and done < epochs:
            raise RunError(
                f"{self.path} holds a finished run of {done} epochs without the optimizer's variables, which it "
                f"dropped at its end (output.keep_state: false), so it cannot be trained on to {epochs}. Start a new "
                f"run from its weights: --set name=... --set training.init_from={self.path}; or train anew with "
                "output.keep_state: true, by --set name=... or --overwrite."
            )

    def _remove(self) -> None:
        # The configuration goes last: until then this is a run folder, which --overwrite may replace.
        for path in sorted(self.path.iterdir(), key=lambda path: path == self.config):
            if path.name != ".lock":
                files.remove(path)

    def write_log(self, progress: Progress, event: str, **fields: Any) -> None:
        """Record an event in `progress`, and append it with the time (seconds since 1970) to the log.

        After a crash the log can hold more than the state; `rewrite_log` puts that right.
        """
        progress.events.append({"event": event, "time": round(time.time(), 3), **fields})
        if not self.is_written:
            return
        files.append(self.log, json.dumps(progress.events[-1]) + "\n")

    def rewrite_log(self, progress: Progress) -> None:
        """Rewrite the log from the events in the state."""
        if not self.is_written:
            return
        with files.replacing(self.log) as temporary:
            temporary.write_text("".join(json.dumps(event) + "\n" for event in progress.events), encoding="utf-8")

    def write_session(self, event: str, **fields: Any) -> None:
        """Append an entry of this process to the list of sessions, with time, host and process id."""
        if not self.is_written:
            return
        line = {"event": event, "time": round(time.time(), 3), "host": platform.node(), "pid": os.getpid(), **fields}
        files.append(self.sessions, json.dumps(line) + "\n")

    def _last_session(self) -> str:
        try:
            last = json.loads(self.sessions.read_text(encoding="utf-8").splitlines()[-1])
            return f" (process {last['pid']} on {last['host']})"
        except (OSError, ValueError, LookupError, TypeError):
            return ""

    def write_environment(
        self,
        config: Config,
        fingerprints: dict[str, str],
        weights: str,
        device: str,
        xla: bool,
        given: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the environment of the run: everything beyond its configuration that its figures depend on.

        Args:
            config: the resolved configuration.
            fingerprints: of the data, by split.
            weights: where the weights came from.
            device: name of what computes, see `device_name`.
            xla: whether the training step is compiled by XLA.
            given: what was given to `train` ready-made, by argument.
        """
        if not self.is_written:
            return
        found = {"segzoo": __version__}
        for package in _PACKAGES:
            try:
                found[package] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                continue
        facts = {
            "packages": found,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "cpu_count": os.cpu_count(),
            "backend": sys.modules["keras"].backend.backend() if "keras" in sys.modules else None,
            "device": device,
            "xla": xla,
            "git_commit": _git_commit(),
            "seed": config.seed,
            "data_fingerprints": fingerprints,
            "weights": weights,
            "given": dict(given or {}),
            "command": sys.argv,
        }
        with files.replacing(self.environment) as temporary:
            temporary.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def run_folder(config: Config, is_written: bool = True) -> RunFolder:
    """Return the folder of the run that `config` describes."""
    return RunFolder(Path(config.output.root) / str(config.name), is_written)


class Run:
    """Finished or unfinished run, read from its folder.

    Args:
        path: the run folder.
        overrides: "a.b=value" changes to its configuration, such as another data.root.

    Raises:
        RunError: the folder is no run folder.
    """

    def __init__(self, path: str | os.PathLike[str], overrides: Sequence[str] = ()):
        self.overrides = tuple(overrides)
        self.folder = RunFolder(Path(path))
        if not self.folder.config.is_file():
            hint = "" if self.folder.path.is_dir() else " (there is no such folder)"
            raise RunError(
                f"{path} is not a run folder{hint}: it should hold config.yaml and weights, as train writes."
            )

    @cached_property
    def config(self) -> Config:
        """Resolved configuration; that of segzoo 0.1.0 is completed by the options that it did not write."""
        found = load_config(self.folder.config, self.overrides, import_plugins=False)
        if self.version != _LEGACY:
            return found
        written = found.model.options
        then = legacy_options(found.model.decoder).items()
        own = [f"model.options.{name}={value}" for name, value in then if name not in written]
        if found.model.compat == SMP:  # its name was imitate, and it left the decoder alone
            own += ["model.imitate=null", f"model.compat={SMP_0_1_0}"]
        return load_config(self.folder.config, [*own, *self.overrides], import_plugins=False)

    @cached_property
    def version(self) -> str | None:
        """Version of segzoo that started the run; None if the folder does not record it."""
        try:
            return str(self._environment["packages"]["segzoo"])
        except (LookupError, TypeError):
            return None

    @property
    def given(self) -> dict[str, Any]:
        """Objects that were passed to `segzoo.train`, by argument; the configuration does not describe them."""
        found = self._environment.get("given")
        return found if isinstance(found, dict) else {}

    @cached_property
    def _environment(self) -> dict[str, Any]:
        try:
            found = json.loads(self.folder.environment.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    @cached_property
    def classes(self) -> list[str]:
        """Class names."""
        return list(self.config.task.classes)

    @cached_property
    def palette(self) -> np.ndarray:
        """Colours `(classes, 3)`, 0..255."""
        from segzoo.engine.builders import colours

        return colours(self.config)

    def loss(self) -> keras.losses.Loss | None:
        """Rebuild the loss, with the class weights of the training; None if a loss was passed to `train`.

        Raises:
            RunError: these are made from the training split's pixels, whose counts the folder does not hold.
        """
        from segzoo.engine.builders import build_loss, weight_schemes
        from segzoo.engine.class_pixels import ClassPixels

        if "loss" in self.given:
            return None
        needed = weight_schemes(self.config)
        return build_loss(self.config, ClassPixels.read(self.folder.class_pixels) if needed else None)

    def model(self, weights: str = "best") -> keras.Model:
        """Rebuild the network from the configuration and load its "best" or "last" weights.

        Only weights are read, never a pickled or whole model.

        Raises:
            RunError: no such weights yet.
            WeightsError: a weights file that cannot be read.
        """
        if "model" in self.given:
            raise RunError(
                f"{self.folder.path} was trained with a model that was given to segzoo.train, which its configuration "
                f"does not describe. Give that model again by model=..., or take {self.folder.model} by --saved-model "
                "(saved=True)."
            )
        from segzoo.engine.builders import build_network
        from segzoo.models.build import logits_only

        path = self._weights_file(weights)
        model = build_network(self.config, weights="none")
        _load_all(model, path)
        return logits_only(model)

    def load_weights(self, model: keras.Model, weights: str = "best") -> None:
        """Load the run's "best" or "last" weights into a model, such as the one passed to `train`, in place.

        Raises:
            RunError: no such weights yet, or they lack tensors that the model has.
            WeightsError: a weights file that cannot be read or was made for another network.
        """
        _load_all(model, self._weights_file(weights))

    def saved_model(self) -> keras.Model:
        """Load model.keras, the finished model with the best weights, as Keras saved it.

        Keras builds what the file describes: layers of Keras, segzoo and whatever is registered here. Modules that the
        file names are not imported and pickled code is not run.

        Raises:
            RunError: training has not come to its end, where the file is written.
            WeightsError: a file that cannot be read, or with classes that nobody registered here.
        """
        import keras

        from segzoo.models.build import logits_only

        path = self.folder.model
        if not path.is_file():
            raise RunError(f"{self.folder.path} holds no {path.name} yet: it is written when training has ended.")
        try:
            model = keras.models.load_model(path, compile=False)
        except Exception as error:  # Keras raises whatever the file makes it raise
            # Its text ends with what went wrong first, after the descriptions of all layers around
            reason = str(error).rpartition("Exception encountered: ")[2].strip().partition("\n")[0][:200].rstrip(".")
            raise WeightsError(
                f"{path} cannot be loaded ({reason or type(error).__name__}). Where it has layers of your own, import "
                "the module that registers them first: --plugin MODULE, or segzoo.plugins.load."
            ) from error
        return logits_only(model)

    def _weights_file(self, weights: str) -> Path:
        files_of = {"best": self.folder.best, "last": self.folder.last}
        if weights not in files_of:
            raise unknown_name("weights of a run", weights, files_of)
        path = files_of[weights]
        if not path.is_file():
            raise RunError(f"{self.folder.path} holds no {path.name} yet: no epoch was evaluated there.")
        return path


def _load_all(model: keras.Model, path: Path) -> None:
    """Load a weights file; RunError if it lacks some of the model's tensors."""
    from segzoo.weights import load_file

    report = load_file(model, path, configured=True)
    if report.missing:
        raise RunError(f"{path} lacks {len(report.missing)} tensors of its network, first {report.missing[0]}.")


def _refuse_another_decoder(path: Path, config: Config, origin: dict[str, Any]) -> None:
    """Raise RunError if a state of segzoo 0.1.0 would be resumed as another network."""
    if origin["versions"]["segzoo"] != _LEGACY:
        return
    model = config.model
    changed = DECODERS[model.decoder](**model.options).differences(None)
    if origin["config"]["model"].get("imitate") and model.compat != SMP_0_1_0:
        raise RunError(
            f"The run in {path} was started by segzoo {_LEGACY} with imitate: smp, which left the decoder alone. Go on "
            f"with that network by --resume-anyway --set model.imitate=null --set model.compat={SMP_0_1_0}, or start a "
            "new run by --set name=..."
        )
    if changed:
        cure = " ".join(f"--set model.options.{name}={there}" for name, (there, _) in changed.items())
        listed = ", ".join(f"{name}: {there} then, {here} now" for name, (there, here) in changed.items())
        raise RunError(
            f"The run in {path} was started by segzoo {_LEGACY}, whose decoder {model.decoder} was another one "
            f"({listed}). Go on with that one by --resume-anyway {cure}, or start a new run by --set name=..."
        )


def load_run(path: str | os.PathLike[str] | Run, overrides: Sequence[str] = ()) -> Run:
    """Open a run folder; `overrides` ("a.b=value") change its configuration, such as another data.root.

    An open `Run` is returned as it is, or anew with further overrides.

    Raises:
        RunError: it is none.

    Example:
        >>> model = segzoo.load_run("runs/unet_b3").model()
    """
    if isinstance(path, Run):
        return Run(path.folder.path, [*path.overrides, *overrides]) if overrides else path
    if not isinstance(path, str | os.PathLike):
        raise RunError(f"A run is a run folder or what segzoo.load_run returns, not {path!r:.60}.")
    return Run(path, overrides)


def _git_commit() -> str | None:
    """Return the commit of the source tree that segzoo runs from, "+changes" if it was edited; None without a tree."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True)
        status = subprocess.run(["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+changes" if status.stdout.strip() else "")
