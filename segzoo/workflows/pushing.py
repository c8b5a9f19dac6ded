"""Push of a run to a hub or a folder: configuration, weights, manifest and model card, and nothing else."""

from __future__ import annotations

import csv
import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any, Literal

import segzoo
from segzoo import backend
from segzoo.errors import HubError, RunError, unknown_name
from segzoo.files import operation
from segzoo.hub import Address, Manifest, is_address, manifest, parse
from segzoo.hub.folders import push_to_folder, refuse_taken
from segzoo.hub.services import PushOptions, of, refuse_file
from segzoo.workflows.networks import WEIGHTS

if TYPE_CHECKING:
    from segzoo.config import Config
    from segzoo.engine.checkpoint.run import Run
    from segzoo.reporting.model_card import ModelCard

# Of environment.json, what results depend on; the rest describes the machine.
_ENVIRONMENT = ("packages", "python", "backend", "xla", "seed", "data_fingerprints", "weights", "given")
# Keys of the configuration that hold places; absolute ones mean nothing elsewhere, and name people and machines.
_PLACES = (
    *(("data", key) for key in ("root", "train_split", "val_split", "test_split", "image_dir", "mask_dir")),
    *(("data", "split", key) for key in ("train", "val", "test", "csv")),
    ("model", "weights"),
    ("training", "init_from"),
)
_ABSOLUTE = re.compile(r"(?<![^\s\"'(])(?:/|[A-Za-z]:[\\/])(?:[^/\\:]+[\\/])*")  # the folders of a path within a text


@dataclass(frozen=True)
class Pushed:
    """Result of a push.

    Attributes:
        address: the folder, or the address at the revision that was made, where the hub says it.
        files: name of each file to its sha256.
    """

    address: str
    files: dict[str, str]

    def __str__(self) -> str:
        """Return one paragraph: what lies where, and the way to use it."""
        return f"Pushed to {self.address}: {', '.join(self.files)}, a manifest and a model card."


def push(
    run: str | PathLike[str] | Run,
    address: str | PathLike[str],
    *,
    weights: Literal["best", "last"] = "best",
    license: str | None = None,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
    overwrite: bool = False,
    overrides: Sequence[str] = (),
) -> Pushed:
    """Push a run to a hub or a folder, from which `load`, `predict`, `evaluate`, `export_model` and training take it.

    What is pushed: the configuration without places of this machine and without trackers, the weights, versions and
    data fingerprints, pixel counts of the classes where the loss needs them, a manifest with the sha256 of each, and a
    model card. On a hub it is one commit or version; a folder is replaced in one step. The hub's own login is used.

    Args:
        run: a run folder, or what `load_run` returns.
        address: "hf://user/name", "kaggle://owner/model/framework/variation", or a folder.
        weights: "best" or "last" weights of the run.
        license: identifier of the licence as the hub spells it, such as "mit" or, on Kaggle, "MIT".
        private: make the repository private if it is created; Kaggle makes all new ones private.
        revision: branch to push to, which is made if it is not there. Not for Kaggle and folders.
        message: message of the commit or version.
        overwrite: replace a pushed run in a folder; on a hub the earlier ones stay in its history.
        overrides: changes to the run's configuration.

    Raises:
        RunError: not a run folder, no such weights yet, or a model that was given to `train`.
        HubError: no permission, no connection, options that the hub does not have, or a folder that holds something.
        MissingPackageError: the hub's library is not installed.
        StorageError: the folder cannot be written.

    Example:
        >>> segzoo.push("runs/unet_b3", "hf://user/unet-b3", license="mit", private=True)
    """
    from segzoo.engine.checkpoint.run import load_run

    if weights not in WEIGHTS:
        raise unknown_name("weights of a run", weights, WEIGHTS)
    place = str(address)
    if not place.strip():
        raise HubError("The address to push to is empty. Name hf://user/name, kaggle://..., or a folder.")
    target = parse(place) if is_address(place) else None
    if target is None:
        if private or revision is not None:
            raise HubError("A folder is neither private nor has it branches: leave --private and --revision out.")
        refuse_taken(Path(place), overwrite)
    else:
        refuse_file(target)
        if target.revision is not None and revision is not None:
            raise HubError(f"The branch was given twice, in {target} and as {revision}: leave one of them out.")
    opened = load_run(run, overrides)
    backend.start_backend()
    with tempfile.TemporaryDirectory(prefix="segzoo-push-") as private_folder:
        folder = Path(private_folder) / "run"  # whose rights are those of any new folder
        folder.mkdir()
        files = _stage(opened, folder, weights, place, license)
        if target is None:
            push_to_folder(folder, Path(place))
            return Pushed(place, files)
        branch = revision or (target.revision if target.scheme == "hf" else None)
        extra = {} if message is None else {"message": message}
        made = of(target).push(target, folder, PushOptions(license, private, branch, **extra))
    return Pushed(str(target if made is None else Address(target.scheme, target.repository, made)), files)


def _stage(opened: Run, folder: Path, weights: str, place: str, license: str | None) -> dict[str, str]:
    """Write all files of a push into an empty folder; return the digests of those that the manifest lists."""
    from segzoo.config import dump_config
    from segzoo.engine.checkpoint.thresholds import thresholds_file, thresholds_of

    if "model" in opened.given:
        raise RunError(
            f"{opened.folder.path} was trained with a model that was given to segzoo.train, which no configuration "
            "describes, and configuration and weights are all that is pushed. Register its parts by name "
            "(docs/plugins.md) and train it from a configuration to push it."
        )
    source = opened.weights_file(weights)
    thresholds_of(opened, weights)  # refuses those of other weights
    config = _portable(opened.config)
    dump_config(config, folder / opened.folder.config.name)
    with operation("write", folder):
        shutil.copyfile(source, folder / source.name)
        if (tuned := thresholds_file(opened, weights)) is not None:
            shutil.copyfile(tuned, folder / tuned.name)
        if opened.folder.class_pixels.is_file():
            shutil.copyfile(opened.folder.class_pixels, folder / opened.folder.class_pixels.name)
        found = _read_json(opened.folder.environment)
        environment = {key: found[key] for key in _ENVIRONMENT if key in found}
        if "weights" in environment:
            environment["weights"] = _ABSOLUTE.sub("", str(environment["weights"]))
        text = json.dumps(environment, indent=2) + "\n"
        (folder / opened.folder.environment.name).write_text(text, encoding="utf-8")
    listed = Manifest.of(folder, segzoo.__version__)
    listed.write(folder)
    card = _card(opened, config, environment, weights, place, license, dict(listed.files))
    with operation("write", folder):
        (folder / manifest.CARD).write_text(card.as_markdown(), encoding="utf-8")
    return dict(listed.files)


def _portable(config: Config) -> Config:
    """Return a configuration without places of this machine, and without trackers, whose settings may hold secrets."""
    from segzoo.config import Config

    values = config.model_dump(mode="json")
    values["tracking"] = {}
    values["data"]["disk_cache"] = None
    values["output"].pop("root")
    for *sections, key in _PLACES:
        section: Any = values
        for name in sections:
            section = section.get(name) or {}
        if isinstance(section.get(key), str):
            section[key] = _portable_place(section[key])
    return Config.model_validate(values, context={"import_plugins": False})


def _portable_place(text: str) -> str:
    """Return the last component of an absolute path; anything else as it is."""
    is_absolute = text.startswith("/") or PureWindowsPath(text).is_absolute()
    return PureWindowsPath(text).name or text if is_absolute else text


def _card(
    opened: Run,
    config: Config,
    environment: dict[str, Any],
    weights: str,
    place: str,
    license: str | None,
    digests: dict[str, str],
) -> ModelCard:
    from segzoo.reporting.model_card import ModelCard

    is_local = not is_address(place)
    return ModelCard(
        name=str(config.name),
        address=Path(place).name if is_local else place,
        decoder=config.model.decoder,
        backbone=config.model.backbone,
        license=license,
        weights=weights,
        needs=config.plugins,
        classes=list(config.task.classes),
        mode=config.mode,
        channels=config.model.input_channels,
        data=_data_rows(config, environment),
        training=_training_rows(opened, config, environment) + _threshold_rows(opened, weights),
        evaluations=_evaluations(opened, weights),
        epoch=_best_epoch(opened) if weights == "best" else {},
        digests=digests,
    )


def _data_rows(config: Config, environment: dict[str, Any]) -> list[tuple[str, str]]:
    data = config.data
    rows = [("source", data.source), ("classes", ", ".join(config.task.classes))]
    rows += [("folder", str(root))] if (root := getattr(data, "root", None)) else []
    rows += [("ignored label", str(data.ignore_index))]
    fingerprints = environment.get("data_fingerprints")
    if isinstance(fingerprints, dict):
        rows += [(f"fingerprint, {split}", str(found)) for split, found in fingerprints.items()]
    return rows


def _training_rows(opened: Run, config: Config, environment: dict[str, Any]) -> list[tuple[str, str]]:
    result, packages = _read_json(opened.folder.result), environment.get("packages")
    rows = [
        ("initial weights", str(environment.get("weights", "unknown"))),
        ("epochs", str(result.get("epochs", "the run is not finished"))),
        ("steps", str(result.get("steps", "the run is not finished"))),
        ("best epoch", str(result.get("best_epoch", "the run is not finished"))),
        ("optimizer", f"{config.training.optimizer.name}, learning rate {config.training.optimizer.learning_rate:g}"),
        ("loss", ", ".join(config.loss)),
        ("batch", str(config.data.batch_size)),
        ("precision", config.training.precision),
        ("seed", str(config.seed)),
    ]
    return rows + [(name, str(version)) for name, version in (packages if isinstance(packages, dict) else {}).items()]


def _threshold_rows(opened: Run, weights: str) -> list[tuple[str, str]]:
    from segzoo.engine.checkpoint.thresholds import thresholds_of

    found = thresholds_of(opened, weights)
    return [("thresholds", str(found))] if found.values else []


def _evaluations(opened: Run, weights: str) -> dict[str, dict[str, Any]]:
    """Return the reports that `evaluate` has written on these weights; those on earlier weights are left out."""
    written = opened.weights_file(weights).stat().st_mtime
    found = {}
    for split in ("val", "test"):
        path = opened.results / f"evaluation_{split}_{weights}" / "report.json"
        if path.is_file() and path.stat().st_mtime >= written and (report := _read_json(path)):
            found[split] = report
    return found


def _best_epoch(opened: Run) -> dict[str, float | None]:
    """Return the figures of the validation split at the best epoch; none for a run that is not finished."""
    best, name = _read_json(opened.folder.result).get("best_epoch"), opened.folder.metrics
    if best is None or not name.is_file():
        return {}
    with name.open(newline="", encoding="utf-8") as file:
        row = next((row for row in csv.DictReader(file) if row["epoch"] == str(best)), {})
    figures = {key: text for key, text in row.items() if key.startswith("val_") and key != "val_seconds"}
    return {key: float(text) if text else None for key, text in figures.items()}


def _read_json(path: Path) -> dict[str, Any]:
    """Return a table of the run folder, empty if it is not there or damaged: the card goes without it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
