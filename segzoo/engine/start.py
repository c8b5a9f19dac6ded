"""Initialisation from the weights of another run or file, possibly with other classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import keras

from segzoo.config import Config
from segzoo.engine.checkpoint.run import load_run
from segzoo.errors import HubError, RunError, WeightsError
from segzoo.hub import fetch_file, is_address, parse
from segzoo.optim.param_groups import HEAD, parts
from segzoo.weights import WeightsReport, load_file


@dataclass(frozen=True)
class Start:
    """Source of the weights of `training.init_from`.

    Attributes:
        given: value given in the configuration.
        path: the weights file.
        origin: where it is from, for the report: the file, or its address on a hub at the revision that was fetched.
        classes: names of the classes there; None where nothing says them.
        own_classes: names of the classes here.
    """

    given: str
    path: Path
    origin: str
    classes: list[str] | None
    own_classes: list[str]

    @classmethod
    def of(cls, config: Config) -> Start | None:
        """Locate the weights that `training.init_from` names; None if it is not set.

        Raises:
            RunError: no such run or file, or a run that has no weights yet.
            HubError: an address of a hub from which they cannot be fetched.
            MissingPackageError: the hub's library is not installed.
        """
        given = config.training.init_from
        if given is None:
            return None
        own_classes = list(config.task.classes)
        try:
            if is_address(given) and parse(given).file is not None:
                file = fetch_file(given)
                return cls(given, file.path, file.origin, None, own_classes)
            place = Path(given)
            if is_address(given) or place.is_dir():
                return cls._of_run(given, own_classes)
        except HubError as error:
            raise HubError(f"training.init_from: {error}") from error
        if not place.is_file():
            raise RunError(
                f"training.init_from: there is no run folder or file {place}. It takes a run folder, a .keras file or "
                "a .weights.h5 file, or an address such as hf://user/name; a relative path starts at the working "
                "directory."
            )
        return cls(given, place, given, None, own_classes)

    @classmethod
    def _of_run(cls, given: str, own_classes: list[str]) -> Start:
        """Return the weights of a run, the best where there are any; RunError if it has none yet."""
        run = load_run(given)
        path = next((path for path in (run.folder.best, run.folder.last) if path.is_file()), None)
        if path is None:
            raise RunError(f"training.init_from: the run {given} has no weights yet: no epoch was evaluated there.")
        origin = str(path) if run.pushed is None else run.pushed.weights.origin
        return cls(given, path, origin, run.classes, own_classes)

    def check_outlives(self, folder: Path) -> None:
        """Raise RunError if the file lies in `folder`, which is about to be removed."""
        if folder.resolve() in self.path.resolve().parents:
            raise RunError(
                f"training.init_from: {self.given} is the run that --overwrite would remove first. Give the new run "
                "another folder with --set name=..."
            )

    def load_into(self, network: keras.Model) -> None:
        """Load all matching tensors into the network, and list the new ones in `network.weights_report`.

        The heads start anew where the classes are others, by name where both names are known, else by number.

        Raises:
            WeightsError: a file that cannot be read, or was made for another backbone or other pixels.
        """
        heads = {layer.name for layer in parts(network)[HEAD]}
        others = self.classes is not None and self.classes != self.own_classes
        try:
            report = load_file(network, self.path, keep=heads if others else ())
        except WeightsError as error:
            raise WeightsError(f"training.init_from: {error}") from error
        report.source = self.origin
        network.weights_report = report
        report.note = self._note(report, heads)

    def _note(self, report: WeightsReport, heads: set[str]) -> str:
        new: dict[str, int] = {}
        for name in report.missing:
            top = name.partition("/")[0]
            part = "the head" if top in heads else "the decoder" if top == "decoder" else "the backbone"
            new[part] = new.get(part, 0) + 1
        note = f"{len(report.loaded)} tensors loaded"
        for part, count in new.items():
            note += f"; {count} of {part} start anew"
            if part == "the head":
                note += self._why_another_head()
        return note

    def _why_another_head(self) -> str:
        own, there = self.own_classes, self.classes
        if there is None:
            return f": the file's does not fit {len(own)} classes"
        new = [name for name in own if name not in there]
        if new:
            return f": {len(there)} classes there and {len(own)} here, {', '.join(new[:5])} among them new"
        if len(own) == len(there):
            return ": the classes there stand in another order"
        return f": {len(there)} classes there and {len(own)} here"
