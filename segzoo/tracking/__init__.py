"""Experiment trackers beside the run folder; their failures never end a run.

A tracker is one module with a class like `Tracker`, which it registers; its package is imported only where a
configuration asks for it.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from segzoo.errors import ConfigError, RunError
from segzoo.extras import install_command
from segzoo.files import replacing
from segzoo.registry import Registry

TRACKERS = Registry("tracker", package="segzoo.tracking")


@dataclass(frozen=True)
class TrackedRun:
    """Description of a run for a tracker at its start.

    Attributes:
        name: the run's name, for people.
        facts: the configuration, nested.
        folder: the run folder.
        id: the tracker's own name of the run where it has been started before, else None.
    """

    name: str
    facts: Mapping[str, Any]
    folder: Path
    id: str | None = None


class Tracker(Protocol):
    """Interface of an experiment tracker. Methods may raise any exception; `Tracking` handles it.

    Its constructor takes a `TrackedRun`, continues the service's run where that has an id, and takes settings by name.

    Attributes:
        package: package that must be importable; the extra that installs it has the tracker's name.
        id: the service's identifier of the run, used to continue it.
        where: location at which people find the run.
    """

    package: ClassVar[str]
    id: str
    where: str

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add one value under each name at `step`."""

    def picture(self, step: int, tag: str, path: Path) -> None:
        """Add the PNG at `path`."""

    def finish(self, figures: Mapping[str, float], files: Sequence[Path]) -> None:
        """Log the result of the run: figures without a step, and files of the run folder."""

    def close(self, finished: bool) -> None:
        """Close the process's session of the run; `finished` says whether the run itself is complete."""


def check_packages(names: Iterable[str]) -> None:
    """Import the packages of these trackers.

    Raises:
        ConfigError: a package cannot be imported; the message names the command that installs it.
        UnknownNameError: no such tracker.
    """
    for name in names:
        try:
            importlib.import_module(TRACKERS[name].package)
        except ImportError as error:
            raise ConfigError(
                f"tracking.{name} needs a package that cannot be imported ({error}). Install it: "
                f"{install_command(name)}, or train without by --set tracking.{name}=null."
            ) from error


class Tracking:
    """Trackers of one run; each receives every step once, also across resumed processes.

    A tracker that fails while the run is under way is left out from there on and warned of. What it has missed is not
    sent later, but the run folder holds it, and the next process on the run continues with the tracker.

    Args:
        settings: arguments of each tracker by its name.
        name: name of the run.
        facts: the configuration, nested.
        record: JSON file in the run folder that keeps, for each tracker, the id of its run and the last step sent.
        tell: is given one line for each tracker that starts.
        warn: is given one sentence for each that fails.

    Raises:
        RunError: a tracker cannot be started for a new run.
    """

    def __init__(
        self,
        settings: Mapping[str, Mapping[str, Any]],
        name: str,
        facts: Mapping[str, Any],
        record: Path,
        *,
        tell: Callable[[str], None],
        warn: Callable[[str], None],
    ):
        self._record = record
        self._warn = warn
        self._trackers: dict[str, Tracker] = {}
        self._kept = self._read() if settings else {}
        for tracker, arguments in settings.items():
            known = self._kept.get(tracker, {}).get("id")
            try:
                started = TRACKERS[tracker](TrackedRun(name, facts, record.parent, known), **arguments)
            except Exception as error:
                if known is not None:
                    warn(f"{tracker} cannot be continued ({_text(error)}); training goes on without it.")
                    continue
                self.close(finished=False)
                raise RunError(
                    f"The tracker {tracker} could not be started: {_text(error)}. Put it right, or train without by "
                    f"--set tracking.{tracker}=null."
                ) from error
            self._trackers[tracker] = started
            self._kept[tracker] = {"step": self._kept.get(tracker, {}).get("step", -1), "id": started.id}
            tell(f"{tracker}: {started.where}")
        if self._trackers:
            self._write()

    def send(self, step: int, values: Mapping[str, float], pictures: Mapping[str, Path]) -> None:
        """Send the figures and pictures (tag to PNG) of a step to each tracker that has not received them."""

        def add(tracker: Tracker) -> None:
            tracker.scalars(step, values)
            for tag, path in pictures.items():
                tracker.picture(step, tag, path)

        waiting = [name for name in self._trackers if self._kept[name]["step"] < step]
        for name in waiting:
            if self._safely(name, add):
                self._kept[name]["step"] = step
        if waiting:
            self._write()

    def finish(self, figures: Mapping[str, float], files: Sequence[Path]) -> None:
        """Send the result of the run to each tracker, and end its run."""
        for name in list(self._trackers):
            self._safely(name, lambda tracker: tracker.finish(figures, files))
        self.close(finished=True)

    def close(self, finished: bool) -> None:
        """End this process's part of each tracker's run."""
        for name in list(self._trackers):
            self._safely(name, lambda tracker: tracker.close(finished))
            self._trackers.pop(name, None)

    def _safely(self, name: str, call: Callable[[Tracker], None]) -> bool:
        """Call a function, and drop the tracker with a warning if it fails; return True on success."""
        try:
            call(self._trackers[name])
        except Exception as error:
            del self._trackers[name]
            self._warn(
                f"{name} failed ({_text(error)}) and is told no more until the run is resumed; training goes on, and "
                f"{self._record.parent} holds every figure."
            )
            return False
        return True

    def _read(self) -> dict[str, dict[str, Any]]:
        if not self._record.is_file():
            return {}
        try:
            kept = json.loads(self._record.read_text(encoding="utf-8"))
            return {name: {"id": str(entry["id"]), "step": int(entry["step"])} for name, entry in kept.items()}
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            self._warn(f"{self._record} cannot be read ({_text(error)}), so trackers start new runs.")
            return {}

    def _write(self) -> None:
        with replacing(self._record) as temporary:
            temporary.write_text(json.dumps(self._kept, indent=2) + "\n", encoding="utf-8")


def _text(error: Exception) -> str:
    """Return the first line of an error's message, with its type."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
