"""Sources of a trained model: runs, exported files and `.keras` files, alone or several as an ensemble."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeGuard

from segzoo.errors import RunError, SegzooError, WeightsError
from segzoo.hub import is_address
from segzoo.workflows.networks import description, network_of

if TYPE_CHECKING:
    import keras
    import numpy as np

    from segzoo.data.images import ImageReader
    from segzoo.engine.checkpoint.run import Run
    from segzoo.engine.checkpoint.thresholds import Thresholds
    from segzoo.export import ModelMetadata
    from segzoo.inference.network import Network
    from segzoo.task import Task

    #: A run folder, an address, an opened run, or a model file.
    Source = str | os.PathLike[str] | Run


class Model(Protocol):
    """Opened source of a model, which tells of it before any framework is started.

    Attributes:
        name: its name in titles and messages.
        words: a few words for the choice of its weights, such as "best weights".
        results: folder for what is made of it, and the start of the names in it.
    """

    name: str
    words: str
    results: tuple[Path, str]

    @property
    def task(self) -> Task:
        """Classes and mode."""

    def reader(self) -> ImageReader:
        """Build the reader of image files."""

    def display(self) -> tuple[np.ndarray | None, int | None]:
        """Return the colours of the classes and the background."""

    def thresholds(self, given: float | Mapping[str, float] | None) -> Thresholds:
        """Return the thresholds of its classes: given ones, else its own, else 0.5."""

    def network(self, device: str | None) -> Network:
        """Build the network on a device."""


class RunModel:
    """Run as the source of a model; see `Model` and `segzoo.load`."""

    def __init__(self, run: Run, weights: Literal["best", "last"] | None, model: keras.Model | None, saved: bool):
        self.run = run
        self.name = run.name
        self.words = description(weights, model, saved)
        self.results = run.results, ""
        self._weights, self._model, self._saved = weights, model, saved
        self.tuned_for = "best" if saved else weights  # weights that thresholds are stored with

    @property
    def task(self) -> Task:
        """Classes and mode."""
        return self.run.config.task

    def reader(self) -> ImageReader:
        """Build the reader of image files."""
        from segzoo.engine import builders

        return builders.image_reader(self.run.config, alone=True)

    def display(self) -> tuple[np.ndarray | None, int | None]:
        """Return the colours of the classes and the background."""
        from segzoo.engine import builders

        return self.run.palette, builders.background(self.run.config)

    def thresholds(self, given: float | Mapping[str, float] | None) -> Thresholds:
        """Return the thresholds of its classes: given ones, else those tuned for its weights, else 0.5."""
        from segzoo.engine.checkpoint.thresholds import thresholds_of

        return thresholds_of(self.run, self.tuned_for, given)

    def keras_model(self) -> keras.Model:
        """Build the Keras model; see `network_of`."""
        return network_of(self.run, self._weights, self._model, self._saved)

    def network(self, device: str | None) -> Network:
        """Build the network on a device."""
        from segzoo.device import on_device
        from segzoo.inference.network import KerasNetwork

        with on_device(device):
            model = self.keras_model()
        return KerasNetwork(model, self.task.mode, device)


class FileModel:
    """Exported file or folder, or a `.keras` file, as the source of a model; see `Model`.

    Raises:
        SegzooError: the file cannot be read, or does not say of which classes it is.
    """

    def __init__(self, path: Path):
        self.path = path
        self.name = str(path)
        self.words = path.name
        self.results = path.absolute().parent, f"{path.stem}_"

    @cached_property
    def metadata(self) -> ModelMetadata:
        """Metadata of the file."""
        from segzoo.export.opening import KERAS, read_metadata

        found = read_metadata(self.path)
        if found is None:
            again = (
                "Files that training of this version writes have them; of an older run take the run folder"
                if self.path.suffix == KERAS
                else "Export it again by segzoo export"
            )
            raise SegzooError(
                f"{self.path} has no metadata of segzoo, which say of which classes it is and what pixels it takes. "
                f"{again}, or take it into Python: segzoo.inference.Predictor(model, class_names=...)."
            )
        if found.value_range != (0, 255):
            low, high = found.value_range
            raise SegzooError(
                f"{self.path} takes pixels from {low:g} to {high:g}; segzoo predicts with 0 to 255 alone."
            )
        return found

    @property
    def task(self) -> Task:
        """Classes and mode."""
        return self.metadata.task

    def reader(self) -> ImageReader:
        """Build the reader of image files."""
        from segzoo.data.images import ImageReader

        of = self.metadata.reading
        return ImageReader(self.metadata.channels, of.bands, of.value_range, of.alpha, upright=of.upright)

    def display(self) -> tuple[np.ndarray | None, int | None]:
        """Return the colours of the classes and the background."""
        import numpy as np

        colours = self.metadata.colours
        return None if colours is None else np.array(colours, np.uint8), self.metadata.background

    def thresholds(self, given: float | Mapping[str, float] | None) -> Thresholds:
        """Return the thresholds of its classes: given ones, else those that the file states, else 0.5."""
        from segzoo.engine.checkpoint.thresholds import chosen, of_file

        if given is not None and self.metadata.output == "classes":
            raise SegzooError(
                f"{self.path} returns classes alone, decided by the thresholds that it was exported with. Leave "
                "--threshold out, or export the model with --output logits."
            )
        return chosen(self.task, self.name, given, lambda: of_file(self.task, self.metadata.thresholds))

    def network(self, device: str | None) -> Network:
        """Build the network, of a `.keras` file anew from its description, or open the file in its runtime."""
        from segzoo.device import check_device, on_device
        from segzoo.export.opening import KERAS
        from segzoo.inference.exported import ExportedNetwork
        from segzoo.inference.network import KerasNetwork

        if self.path.suffix == KERAS:
            with on_device(device):
                model = self._rebuilt()
            return KerasNetwork(model, self.task.mode, device)
        if device is not None and check_device(device) != "CPU:0":
            raise SegzooError(f"{self.path}: exported files are computed on the processor; leave --device out.")
        return ExportedNetwork(self.path, self.metadata)

    def _rebuilt(self) -> keras.Model:
        """Build the network that the file describes, and load its weights; nothing in the file is run."""
        from segzoo.models.build import build_model
        from segzoo.weights import load_file

        of = self.metadata.network
        if of is None:
            raise SegzooError(
                f"{self.path} holds a network that was given to segzoo.train, which no description rebuilds. Take the "
                "run folder, with --saved-model (saved=True) if you trust it, or with model=..."
            )
        options: dict[str, Any] = dict(of.options)
        model = build_model(of.decoder, of.backbone, self.task.channels, weights="none", **options)
        report = load_file(model, self.path, configured=True)
        if report.missing:
            raise WeightsError(
                f"{self.path} lacks {len(report.missing)} tensors of the network that it describes, first "
                f"{report.missing[0]}."
            )
        return model


def open_models(
    sources: Source | Sequence[Source],
    weights: Literal["best", "last"] | None = "best",
    overrides: Sequence[str] = (),
    model: keras.Model | None = None,
    saved: bool = False,
) -> list[Model]:
    """Open the sources of a model, and check that those of an ensemble have the same classes.

    Args:
        sources: runs, addresses of runs, and model files, one or several.
        weights: weights of runs, see `segzoo.load`; so are the other options.
        overrides: changes to the configurations of runs.
        model: takes the place of the network of a single run.
        saved: take the model.keras of runs.

    Raises:
        SegzooError: a source that is neither a run nor a model file; options that do not go together; members of an
            ensemble that differ.
    """
    description(weights, model, saved)
    given = list(sources) if _are_several(sources) else [sources]
    if not given:
        raise SegzooError("Give a run or a model file, or several of them for an ensemble.")
    if model is not None and len(given) > 1:
        raise SegzooError("model= takes the place of the network of one run; give one run.")
    opened = [_open(source, weights, overrides, model, saved) for source in given]
    for other in opened[1:]:
        check_same_classes(opened[0].name, opened[0].task, other.name, other.task)
    return opened


def _are_several(sources: Any) -> TypeGuard[Sequence[Source]]:
    return isinstance(sources, list | tuple)


def _open(source: Any, weights: Any, overrides: Sequence[str], model: Any, saved: bool) -> Model:
    from segzoo.engine.checkpoint.run import load_run

    if not isinstance(source, str | os.PathLike) or is_address(os.fspath(source)):
        return RunModel(load_run(source, overrides), weights, model, saved)
    path = Path(source)
    if path.suffix and not path.exists():
        raise RunError(f"{path} does not exist. A model is a run folder, an address of a hub, or a model file.")
    if not path.exists() or (path / "config.yaml").is_file() or not _is_model_file(path):
        _refuse_others(path)
        return RunModel(load_run(source, overrides), weights, model, saved)
    if weights != "best" or model is not None or saved:
        raise SegzooError(f"{path} is a model file, which has one network: leave weights, model and saved out.")
    if overrides:
        raise SegzooError(f"{path} is a model file, which has no configuration: leave {overrides[0]} (--set) out.")
    return FileModel(path)


def _is_model_file(path: Path) -> bool:
    from segzoo.export.opening import is_model_file  # starts Keras, which runs must not before their backend is chosen

    return is_model_file(path)


_OTHERS = {
    ".bin": "holds the weights of an OpenVINO model alone: give the model.xml beside it, or their folder",
    ".h5": "is a weights file, which does not describe its network: give the run folder that it is of, or model.keras",
    ".pt": "is a checkpoint of PyTorch: segzoo weights convert makes weights of it, for a configuration",
    ".yaml": "is a configuration: give the run folder that segzoo train made of it",
}
_OTHERS |= {".pth": _OTHERS[".pt"], ".safetensors": _OTHERS[".pt"], ".yml": _OTHERS[".yaml"]}


def _refuse_others(path: Path) -> None:
    """Raise RunError, saying what it is and what to give, for files and folders that people take for a model."""
    if path.is_file() and path.suffix.lower() in _OTHERS:
        raise RunError(f"{path} {_OTHERS[path.suffix.lower()]}.")
    if path.is_dir() and not (path / "config.yaml").is_file():
        exports = sorted(entry.name for entry in path.iterdir() if _is_model_file(entry))
        if exports:
            raise RunError(
                f"{path} is a folder of model files, and no run folder: give one of them, such as {path / exports[0]} "
                f"(of {', '.join(exports[:8])}), or several by --ensemble."
            )


def refuse_given_data(run: Run, split: str, then: str) -> None:
    """Raise RunError if a split of a run is data that was given to `segzoo.train` and no override names others.

    Args:
        run: the run.
        split: "train", "val" or "test".
        then: end of the message, behind "which its configuration does not describe".
    """
    if f"{split}_data" in run.given and not any(change.startswith("data.") for change in run.overrides):
        raise RunError(
            f"{run.folder.path} was trained with {split}_data that was given to segzoo.train, which its configuration "
            f"does not describe{then}"
        )


def check_same_classes(one: str, task: Task, other: str, other_task: Task) -> None:
    """Raise SegzooError, naming the first difference, unless two tasks have the same classes and mode.

    Args:
        one: name of what has the first task.
        task: classes and mode.
        other: name of what has the other task.
        other_task: its classes and mode.
    """
    if task.mode != other_task.mode:
        raise SegzooError(f"{one} and {other} must agree: {one} is {task.mode}, {other} {other_task.mode}.")
    for label, (first, second) in enumerate(itertools.zip_longest(task.classes, other_task.classes)):
        if first != second:
            raise SegzooError(
                f"{one} and {other} must have the same classes: class {label} is {_quoted(first)} in {one} and "
                f"{_quoted(second)} in {other}."
            )


def _quoted(name: str | None) -> str:
    return "missing" if name is None else repr(name)


def thresholds_of_models(models: Sequence[Model], given: float | Mapping[str, float] | None) -> Thresholds:
    """Return the thresholds of a model or an ensemble; those of members do not hold for the mean of probabilities.

    Raises:
        RunError: a run's thresholds are damaged, or were tuned for other weights.
        SegzooError: given ones that do not fit.
    """
    from segzoo.engine.checkpoint.thresholds import chosen

    if len(models) == 1:
        return models[0].thresholds(given)
    return chosen(models[0].task, "The ensemble", given, lambda: None)
