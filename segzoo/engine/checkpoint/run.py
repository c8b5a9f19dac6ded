"""A run read from its folder: its configuration, loss and networks."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segzoo.compat import SMP, SMP_0_1_0
from segzoo.config import Config, load_config
from segzoo.decoders import legacy_options
from segzoo.engine.checkpoint.provenance import LEGACY
from segzoo.engine.checkpoint.run_folder import RunFolder
from segzoo.errors import RunError, WeightsError, unknown_name
from segzoo.hub import Address, FetchedRun, fetch_run, is_address, open_folder, parse

if TYPE_CHECKING:
    import keras
    import numpy as np


# Results of runs of hubs, whose folder is a cache of their library's.
_RESULTS = Path("runs")
_SHOWN_DIGITS = 12  # of a commit, in the name of a folder


class Run:
    """Finished or unfinished run, read from its folder.

    Args:
        path: the run folder.
        overrides: "a.b=value" changes to its configuration, such as another data.root.
        pushed: the run as `segzoo push` pushed it, whose files were verified, if `path` is its folder.

    Raises:
        RunError: the folder is not a run folder.
    """

    def __init__(self, path: str | os.PathLike[str], overrides: Sequence[str] = (), pushed: FetchedRun | None = None):
        self.overrides = tuple(overrides)
        self.pushed = pushed
        self.folder = RunFolder(Path(path))
        if not self.folder.config.is_file():
            hint = "" if self.folder.path.is_dir() else " (there is no such folder)"
            raise RunError(
                f"{path} is not a run folder{hint}: it should hold config.yaml and weights, as train writes."
            )

    @property
    def name(self) -> str:
        """Name of the run folder; of a run of a hub its address, with the revision."""
        return str(self._address or self.folder.path.name)

    @property
    def results(self) -> Path:
        """Folder for what is made of the run: its own; of a run of a hub one below runs/, by hub, name and revision."""
        address = self._address
        if address is None:
            return self.folder.path
        return _RESULTS.joinpath(address.scheme, *address.repository.split("/"), str(address.revision)[:_SHOWN_DIGITS])

    @property
    def _address(self) -> Address | None:
        """Address of a run of a hub, at its revision; None for one in a folder."""
        return parse(self.pushed.origin) if self.pushed is not None and is_address(self.pushed.origin) else None

    @cached_property
    def config(self) -> Config:
        """Resolved configuration; that of segzoo 0.1.0 is completed by the options that it did not write."""
        found = load_config(self.folder.config, self._overrides, import_plugins=False)
        if self.version != LEGACY:
            return found
        written = found.model.options
        then = legacy_options(found.model.decoder).items()
        own = [f"model.options.{name}={value}" for name, value in then if name not in written]
        if found.model.compat == SMP:  # its name was imitate, and it left the decoder alone
            own += ["model.imitate=null", f"model.compat={SMP_0_1_0}"]
        return load_config(self.folder.config, [*own, *self._overrides], import_plugins=False)

    @property
    def _overrides(self) -> Sequence[str]:
        # A configuration from elsewhere does not choose where this machine writes.
        return self.overrides if self._address is None else ["data.disk_cache=null", *self.overrides]

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

        path = self.weights_file(weights)
        model = build_network(self.config, weights="none")
        _load_all(model, path)
        return logits_only(model)

    def load_weights(self, model: keras.Model, weights: str = "best") -> None:
        """Load the run's "best" or "last" weights into a model, such as the one passed to `train`, in place.

        Raises:
            RunError: no such weights yet, or they lack tensors that the model has.
            WeightsError: a weights file that cannot be read or was made for another network.
        """
        _load_all(model, self.weights_file(weights))

    def saved_model(self) -> keras.Model:
        """Load model.keras, the finished model with the best weights, as Keras saved it.

        Keras builds what the file describes: layers of Keras, segzoo and whatever is registered here. Modules that the
        file names are not imported and pickled code is not run.

        Raises:
            RunError: training has not come to its end, where the file is written, or the run was pushed without it.
            WeightsError: a file that cannot be read, or with classes that nobody registered here.
        """
        import keras

        from segzoo.initial_values import drawn_in_blocks
        from segzoo.models.build import logits_only

        path = self.folder.model
        if self.pushed is not None:
            raise RunError(
                f"{self.name} was pushed by segzoo push. Of such a run only configuration and weights are read, not "
                f"{path.name}, which describes layers that Keras would build: leave --saved-model (saved=True) out."
            )
        if not path.is_file():
            raise RunError(f"{self.folder.path} holds no {path.name} yet: it is written when training has ended.")
        try:
            with drawn_in_blocks():
                model = keras.models.load_model(path, compile=False)
        except Exception as error:  # Keras raises whatever the file makes it raise
            # Its text ends with what went wrong first, after the descriptions of all layers around
            reason = str(error).rpartition("Exception encountered: ")[2].strip().partition("\n")[0][:200].rstrip(".")
            raise WeightsError(
                f"{path} cannot be loaded ({reason or type(error).__name__}). Where it has layers of your own, import "
                "the module that registers them first: --plugin MODULE, or segzoo.plugins.load."
            ) from error
        return logits_only(model)

    def weights_file(self, weights: str) -> Path:
        """Return the file of the run's "best" or "last" weights.

        Raises:
            UnknownNameError: other weights.
            RunError: no such weights yet, or the run was pushed with the others alone.
        """
        files_of = {"best": self.folder.best, "last": self.folder.last}
        if weights not in files_of:
            raise unknown_name("weights of a run", weights, files_of)
        path = files_of[weights]
        if not path.is_file() and self.pushed is not None:
            there = " and ".join(name for name, file in files_of.items() if file.is_file())
            raise RunError(f"{self.name} was pushed with its {there} weights alone: take these, by weights {there}.")
        if not path.is_file():
            raise RunError(f"{self.folder.path} holds no {path.name} yet: no epoch was evaluated there.")
        return path


def _load_all(model: keras.Model, path: Path) -> None:
    """Load a weights file; RunError if it lacks some of the model's tensors."""
    from segzoo.weights import load_file

    report = load_file(model, path, configured=True)
    if report.missing:
        raise RunError(f"{path} lacks {len(report.missing)} tensors of its network, first {report.missing[0]}.")


def load_run(path: str | os.PathLike[str] | Run, overrides: Sequence[str] = ()) -> Run:
    """Open a run folder, or a run of a hub; `overrides` ("a.b=value") change its configuration, as another data.root.

    An open `Run` is returned as it is, or anew with further overrides.

    Args:
        path: a run folder, a folder that `segzoo push` wrote, or an address such as "hf://user/name" (docs/hub.md).
        overrides: changes to the configuration.

    Raises:
        RunError: the folder is not a run folder.
        HubError: a run of a hub that cannot be fetched, or a pushed one whose files are not those that were pushed.
        MissingPackageError: the hub's library is not installed.

    Example:
        >>> model = segzoo.load_run("runs/unet_b3").model()
    """
    if isinstance(path, Run):
        return Run(path.folder.path, [*path.overrides, *overrides], path.pushed) if overrides else path
    if not isinstance(path, str | os.PathLike):
        raise RunError(f"A run is a run folder or what segzoo.load_run returns, not {path!r:.60}.")
    text = os.fspath(path)
    pushed = fetch_run(text) if is_address(text) else open_folder(Path(text))
    return Run(path if pushed is None else pushed.folder, overrides, pushed)
