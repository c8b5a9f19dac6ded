"""Loading of a YAML file with overrides into a validated Config, and dumping back to YAML."""

from __future__ import annotations

import importlib.resources
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq
from ruamel.yaml.representer import RoundTripRepresenter

from segzoo.config import text_checks
from segzoo.config.messages import config_error
from segzoo.config.overrides import apply_overrides
from segzoo.config.schema import Config
from segzoo.document import Document, read_document
from segzoo.errors import ConfigError, nearest, shortened
from segzoo.files import expanded, replacing

_ENDINGS = (".yaml", ".yml")


def load_config(path: str | os.PathLike[str], overrides: Sequence[str] = (), *, import_plugins: bool = True) -> Config:
    """Read, complete and check a configuration.

    Args:
        path: a YAML file, or the name of a recipe as `find_config` takes it.
        overrides: changes such as "training.epochs=3", applied in order; the value is read as YAML 1.2.
        import_plugins: whether the modules listed under `plugins` are imported, which executes their code. Use False
            for files from untrusted sources: plugins that are not loaded yet are then refused.

    Returns:
        The configuration with every default filled in; `name` is the stem of the file unless the file or an override
        sets it.

    Raises:
        ConfigError: the file, a key, a value or an override is invalid. The message has one line per problem: the
            file and line, or the override, the key, the value, and the valid values.
    """
    found = find_config(path)
    document = read_document(found)
    origins = apply_overrides(document.data, overrides)
    if document.data.get("name") is None:
        document.data["name"] = found.stem
    try:
        return Config.model_validate(document.data, context={"import_plugins": import_plugins})
    except ValidationError as error:
        raise config_error(error, document, origins) from None


def resolve_config(config: Config | str | os.PathLike[str], overrides: Sequence[str] = ()) -> Config:
    """Return a validated configuration from a file, a recipe or a `Config`.

    Args:
        config: a YAML file, the name of a recipe, or a `Config`, which is not modified.
        overrides: changes such as "training.epochs=3", applied in order.

    Raises:
        ConfigError: `config` has another type, or a file, key, value or override is invalid.
    """
    if not isinstance(config, Config):
        return load_config(config, overrides)
    if not overrides:
        return config
    document = Document("the configuration", config.model_dump(mode="json"), {})
    origins = apply_overrides(document.data, overrides)
    try:
        return Config.model_validate(document.data)
    except ValidationError as error:
        raise config_error(error, document, origins) from None


def find_config(name: str | os.PathLike[str]) -> Path:
    """Find a configuration file by path or by the name of a recipe.

    `name` is looked up as a path from the working directory, then in ./configs/, then among the recipes
    included in segzoo; the extension .yaml may be omitted.

    Raises:
        ConfigError: the file does not exist; the message lists the places searched and the nearest recipes.
    """
    if not isinstance(name, str | os.PathLike):
        raise ConfigError(
            f"A configuration is a YAML file or the name of a recipe, or a segzoo.config.Config to train or evaluate "
            f"with, not {name!r:.60}."
        )
    text = os.fspath(name)
    try:
        wanted = expanded(text)
    except ValueError as error:
        raise ConfigError(f"{shortened(text)}: {error}.") from None
    try:
        text_checks.path(text_checks.one_line(text))
    except ValueError as error:
        raise ConfigError(f"There is no configuration {shortened(text)}: {error}.") from None
    packaged = _packaged_recipes()
    folders = [Path(), *([] if wanted.is_absolute() else [Path("configs"), packaged])]
    candidates = [candidate for folder in folders for candidate in _spellings(folder / wanted)]
    try:
        for candidate in candidates:
            if candidate.is_file():
                return candidate
        for candidate in candidates:
            if candidate.exists():  # a folder or a device: reading it says what it is
                return candidate
    except OSError as error:  # a path that is too long as a whole, a folder that may not be looked into
        raise ConfigError(f"The configuration {shortened(text)} cannot be read: {error.strerror}.") from None
    recipes = recipe_names()
    near = nearest(wanted.stem, recipes, most=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    listed = f" Recipes: {', '.join(recipes)}." if recipes else ""
    endings = "" if wanted.suffix in _ENDINGS else f", also with {' and '.join(_ENDINGS)},"
    places = ", ".join(str(folder / wanted) for folder in folders)
    raise ConfigError(f"There is no configuration {os.fspath(name)!r}.{hint} Looked{endings} for {places}.{listed}")


def recipe_names() -> list[str]:
    """Return the sorted names of the recipes in ./configs/ and of those included in segzoo."""
    folders = (Path("configs"), _packaged_recipes())
    return sorted({file.stem for folder in folders for ending in _ENDINGS for file in folder.glob(f"*{ending}")})


def _packaged_recipes() -> Path:
    package = Path(str(importlib.resources.files("segzoo")))
    installed = package / "recipes"
    # A source checkout has the same files in configs/; the wheel build copies them into the package.
    return installed if installed.is_dir() else package.parent / "configs"


def _spellings(path: Path) -> list[Path]:
    if path.suffix in _ENDINGS:
        return [path]
    # Not with_suffix: in "unet.v2" the last part is no ending.
    return [path, *(path.parent / (path.name + ending) for ending in _ENDINGS)]


class _Representer(RoundTripRepresenter):
    """Represent None as `null`; ruamel writes an empty value."""


_Representer.add_representer(type(None), lambda self, value: self.represent_scalar("tag:yaml.org,2002:null", "null"))


def _flow_rows(value: Any) -> Any:
    """Return `value` with short lists of numbers, such as [128, 64, 0], in flow style."""
    if isinstance(value, dict):
        return {key: _flow_rows(entry) for key, entry in value.items()}
    if not isinstance(value, list):
        return value
    sequence = CommentedSeq(_flow_rows(entry) for entry in value)
    if len(value) <= 8 and all(isinstance(entry, int | float) for entry in value):
        sequence.fa.set_flow_style()
    return sequence


def dump_config(config: Config, path: str | os.PathLike[str]) -> None:
    """Write the configuration with every default spelled out; `load_config` reads an equal one back.

    The file is written atomically.

    Raises:
        ConfigError: the file cannot be written.
    """
    yaml = YAML(typ="rt", pure=True)
    yaml.Representer = _Representer
    yaml.default_flow_style = False
    yaml.width = 120
    text = io.StringIO()
    text.write("# The complete configuration of a segzoo run: every default is spelled out.\n")
    yaml.dump(_flow_rows(config.model_dump(mode="json")), text)
    target = Path(path)
    try:
        with replacing(target) as temporary:
            temporary.write_text(text.getvalue(), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{target}: cannot be written: {error.strerror}.") from None
