"""The run folder: what lies where, who may write to it, and how a model is rebuilt from it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segzoo.config import Config, dump_config, load_config
from segzoo.errors import RunError
from segzoo.files import replacing

if TYPE_CHECKING:
    import keras
    import numpy as np

_PACKAGES = (
    "segzoo",
    "keras",
    "tensorflow",
    "jax",
    "torch",
    "numpy",
    "albumentations",
    "grain",
    "opencv-python-headless",
)


@dataclass(frozen=True)
class RunFolder:
    """Names of everything in a run folder."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def state(self) -> Path:
        """The run state, one atomic file."""
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
        """Which run of each tracker this one is, where there are trackers."""
        return self.path / "trackers.json"

    @property
    def class_pixels(self) -> Path:
        """Pixel counts of the training split, where class weights are made from them."""
        return self.path / "class_pixels.json"

    @property
    def environment(self) -> Path:
        """Versions, machine, seed and data fingerprints."""
        return self.path / "environment.json"

    def start(self, config: Config, *, resume: bool, overwrite: bool) -> bool:
        """Make the folder ready; returns whether there is a state to go on from.

        Raises:
            RunError: it holds a run and neither `resume` nor `overwrite` is set; or it cannot be resumed.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"The run folder {self.path} is a file; choose another name with --set name=...")
        if self.path.is_dir() and any(self.path.iterdir()):
            if resume and self.config.is_file():
                self._check_same(config)
                return self.state.is_file()
            if not overwrite:
                raise RunError(
                    f"The folder {self.path} already holds a run. Go on with it by --resume, choose another folder by "
                    f"--set name=..., or replace it by --overwrite."
                )
            self._remove()
        elif resume:
            raise RunError(f"There is no run to resume in {self.path}; start it without --resume.")
        self.path.mkdir(parents=True, exist_ok=True)
        dump_config(config, self.config)
        return False

    def _remove(self) -> None:
        # Only what segzoo made: somebody may have pointed `name` at a folder with other things in it.
        if not self.config.is_file():
            raise RunError(f"{self.path} is not a run folder (it has no config.yaml), so --overwrite leaves it alone.")
        shutil.rmtree(self.path)

    def _check_same(self, config: Config) -> None:
        before, now = load_config(self.config).model_dump(), config.model_dump()
        changed = sorted(_differences(before, now))
        if changed:
            raise RunError(
                f"The configuration is not the one that {self.path} was started with: " + "; ".join(changed) + ". "
                "Resume with the old values, or start a new run by --set name=..."
            )

    def write_log(self, event: str, **fields: Any) -> None:
        """Append one event with the time (seconds since 1970) to the log."""
        line = json.dumps({"event": event, "time": round(time.time(), 3), **fields})
        with self.log.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    def write_environment(self, config: Config, fingerprints: dict[str, str], weights: str) -> None:
        """Write what the figures of this run depend on beyond its configuration."""
        found = {}
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
            "git_commit": _git_commit(),
            "seed": config.seed,
            "data_fingerprints": fingerprints,
            "weights": weights,
            "command": sys.argv,
        }
        with replacing(self.environment) as temporary:
            temporary.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def run_folder(config: Config) -> RunFolder:
    """Folder of the run that `config` describes."""
    return RunFolder(Path(config.output.root) / str(config.name))


class Run:
    """A finished or unfinished run, read from its folder.

    Args:
        path: the run folder.
        overrides: "a.b=value" changes to its configuration, such as another data.root.

    Raises:
        RunError: the folder is no run folder.
    """

    def __init__(self, path: str | Path, overrides: Sequence[str] = ()):
        self.overrides = tuple(overrides)
        self.folder = RunFolder(Path(path))
        if not self.folder.config.is_file():
            hint = "" if self.folder.path.is_dir() else " (there is no such folder)"
            raise RunError(
                f"{path} is not a run folder{hint}: it should hold config.yaml and weights, as train writes."
            )

    @cached_property
    def config(self) -> Config:
        """The resolved configuration."""
        return load_config(self.folder.config, self.overrides)

    @cached_property
    def classes(self) -> list[str]:
        """Class names."""
        from segzoo.training.assemble import class_names

        return class_names(self.config)

    @cached_property
    def palette(self) -> np.ndarray:
        """Colours `(classes, 3)`, 0..255."""
        from segzoo.training.assemble import colours

        return colours(self.config)

    def loss(self) -> keras.losses.Loss:
        """Rebuild the loss, with the class weights of the training.

        Raises:
            RunError: these are made from the training split's pixels, whose counts the folder does not hold.
        """
        from segzoo.training.assemble import build_loss, weight_schemes
        from segzoo.training.class_pixels import ClassPixels

        needed = weight_schemes(self.config)
        return build_loss(self.config, ClassPixels.read(self.folder.class_pixels) if needed else None)

    def model(self, weights: str = "best") -> keras.Model:
        """Rebuild the network from the configuration and load its "best" or "last" weights.

        Only weights are read, never a pickled or whole model.

        Raises:
            RunError: no such weights yet.
            WeightsError: a weights file that cannot be read.
        """
        from segzoo.model import logits_only
        from segzoo.training.assemble import build_network
        from segzoo.weights import load_file

        path = {"best": self.folder.best, "last": self.folder.last}[weights]
        if not path.is_file():
            raise RunError(f"{self.folder.path} holds no {path.name} yet: no epoch was evaluated there.")
        model = build_network(self.config, weights="none")
        report = load_file(model, path)
        if report.missing:
            raise RunError(f"{path} lacks {len(report.missing)} tensors of its network, first {report.missing[0]}.")
        return logits_only(model)


def load_run(path: str | Path, overrides: Sequence[str] = ()) -> Run:
    """Open a run folder; `overrides` ("a.b=value") change its configuration, such as another data.root.

    Raises:
        RunError: it is none.

    Example:
        >>> model = segzoo.load_run("runs/unet_b3").model()
    """
    return Run(path, overrides)


def _differences(before: Any, now: Any, key: str = "") -> list[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        found = []
        for name in before.keys() | now.keys():
            found += _differences(before.get(name), now.get(name), f"{key}.{name}" if key else str(name))
        return found
    return [] if before == now else [f"{key} was {before!r} and is {now!r}"]


def _git_commit() -> str | None:
    """Commit of the source tree that segzoo runs from, "+changes" where it was edited; None where there is no tree."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True)
        status = subprocess.run(["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+changes" if status.stdout.strip() else "")
