"""Provenance of a run: configuration, data and code, and the differences between two provenances."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segzoo import __version__
from segzoo.compat import SMP_0_1_0
from segzoo.config import Config
from segzoo.decoders import DECODERS
from segzoo.errors import RunError
from segzoo.losses.renamed import RENAMED

#: The version that did not write some options of decoders, see `segzoo.decoders.legacy_options`.
LEGACY = "0.1.0"

#: The key that holds the factor on the head's learning rate, if any does.
HEAD_FACTOR = "training.optimizer.lr_scale.head"

# What may change between two parts of one run: it moves files or changes how long things take, but no figure. (Where
# the data lie is among them because their fingerprint is compared.)
_FREE = {
    "config.name",
    "config.plugins",
    "config.output.root",
    "config.data.root",
    "config.data.test_split",
    "config.data.split.test",
    "config.data.workers",
    "config.data.cache_mb",
    "config.data.disk_cache",
    "config.training.max_time",
    "config.training.save_every",
    "config.output.pictures",
    "config.output.metrics",
    "config.output.pictures_every",
    "config.output.keep_state",
    "config.tracking",
}


def provenance_of(
    config: Config,
    fingerprints: Mapping[str, str],
    given: Mapping[str, Any] | None = None,
    head_factor: float = 1.0,
) -> dict[str, Any]:
    """Return the configuration, data fingerprints by split, and the versions that results depend on bit by bit.

    What was given to `train` ready-made (`Given.facts`) is a part of it where there was something, and so is a factor
    on the head's learning rate that no key of the configuration holds, where it is not 1, as it was before 0.2.0.
    """
    import keras

    backend = keras.backend.backend()
    versions = {"segzoo": __version__, "keras": keras.__version__, "backend": backend}
    versions[backend] = sys.modules[backend].__version__  # a package's name can be tensorflow-cpu
    own: dict[str, Any] = {"given": dict(given)} if given else {}
    if head_factor != 1.0:
        own["automatic"] = {HEAD_FACTOR: head_factor}
    return {"config": config.model_dump(mode="json"), "data": dict(fingerprints), "versions": versions, **own}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """List changes between two provenances, as "training.epochs was 3 and is 5"; permitted changes are left out."""
    absent = {"given": {}, "automatic": {HEAD_FACTOR: 1.0}}
    then, today = (absent | _with_present_names(json.loads(json.dumps(origin))) for origin in (before, now))
    found = {key.removeprefix("config."): text for key, text in _differences(then, today, "") if not _is_free(key)}
    given, automatic = found.pop(HEAD_FACTOR, None), found.pop(f"automatic.{HEAD_FACTOR}", None)
    if given or automatic:
        then_head, head = _head_factor(then), _head_factor(today)
        if then_head is None or head is None:
            found[HEAD_FACTOR] = automatic or given or ""
        elif then_head != head:
            found[HEAD_FACTOR] = f"was {then_head:g} and is {head:g}"
    return sorted(f"{key} {text}" for key, text in found.items())


def _head_factor(origin: dict[str, Any]) -> float | None:
    """Return the factor on the head's learning rate, given or automatic; None where stages have both."""
    automatic = origin["automatic"].get(HEAD_FACTOR, 1.0)
    given = origin["config"]["training"]["optimizer"]["lr_scale"].get("head")
    if given is None:
        return automatic
    return given if automatic == 1.0 else None


def _with_present_names(origin: dict[str, Any]) -> dict[str, Any]:
    """Rename options of losses in place to their current names, if they have the form of options."""
    config = origin.get("config")
    losses = config.get("loss") if isinstance(config, dict) else None
    for name, term in losses.items() if isinstance(losses, dict) else ():
        for old, new in RENAMED.get(name, {}).items():
            if isinstance(term, dict) and old in term and new not in term:
                term[new] = term.pop(old)
    return origin


def _is_free(key: str) -> bool:
    return any(key == free or key.startswith(f"{free}.") for free in _FREE)


def _differences(before: Any, now: Any, key: str) -> list[tuple[str, str]]:
    if isinstance(before, dict) and isinstance(now, dict):
        found = []
        # A key that an older version did not write has what was done then: nothing, for lists and sections.
        unwritten = {name for name in now.keys() - before.keys() if now[name] in ([], {})}
        for name in (before.keys() | now.keys()) - unwritten:
            found += _differences(before.get(name), now.get(name), f"{key}.{name}" if key else str(name))
        return found
    return [] if before == now else [(key, f"was {before!r} and is {now!r}")]


def refuse_another_decoder(path: Path, config: Config, origin: dict[str, Any]) -> None:
    """Raise RunError if a state of segzoo 0.1.0 would be resumed as another network."""
    if origin["versions"]["segzoo"] != LEGACY:
        return
    model = config.model
    changed = DECODERS[model.decoder](**model.options).differences(None)
    if origin["config"]["model"].get("imitate") and model.compat != SMP_0_1_0:
        raise RunError(
            f"The run in {path} was started by segzoo {LEGACY} with imitate: smp, which left the decoder alone. Go on "
            f"with that network by --resume-anyway --set model.imitate=null --set model.compat={SMP_0_1_0}, or start a "
            "new run by --set name=..."
        )
    if changed:
        cure = " ".join(f"--set model.options.{name}={there}" for name, (there, _) in changed.items())
        listed = ", ".join(f"{name}: {there} then, {here} now" for name, (there, here) in changed.items())
        raise RunError(
            f"The run in {path} was started by segzoo {LEGACY}, whose decoder {model.decoder} was another one "
            f"({listed}). Go on with that one by --resume-anyway {cure}, or start a new run by --set name=..."
        )
