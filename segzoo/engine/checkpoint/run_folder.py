"""Run folder: layout, locking, logs, and what may begin or go on in it."""

from __future__ import annotations

import json
import os
import platform
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segzoo import files, locks
from segzoo.config import Config, dump_config
from segzoo.engine.checkpoint import checkpoint_file
from segzoo.engine.checkpoint.progress import Progress
from segzoo.engine.checkpoint.provenance import differences, refuse_another_decoder
from segzoo.errors import RunError


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
    def profile(self) -> Path:
        """Times of the parts of the training loop, where `train` was asked for a profile."""
        return self.path / "profile.json"

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
            StorageError: the folder cannot be created or written to.
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
        with locks.locked(lock, self._refusal):
            yield

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
            if self.last.exists() or self.best.exists():
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
            refuse_another_decoder(self.path, config, before)
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

    def _refusal(self) -> RunError:
        try:
            last = json.loads(self.sessions.read_text(encoding="utf-8").splitlines()[-1])
            who = f" (process {last['pid']} on {last['host']})"
        except (OSError, ValueError, LookupError, TypeError):
            who = ""
        return RunError(
            f"Another process is training in {self.path}{who}. Wait for it or stop it, or choose another folder with "
            "--set name=..."
        )

    def write_environment(self, facts: Mapping[str, Any]) -> None:
        """Write the environment of the run, see `environment.facts`."""
        if not self.is_written:
            return
        with files.replacing(self.environment) as temporary:
            temporary.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def run_folder(config: Config, is_written: bool = True) -> RunFolder:
    """Return the folder of the run that `config` describes."""
    return RunFolder(Path(config.output.root) / str(config.name), is_written)
