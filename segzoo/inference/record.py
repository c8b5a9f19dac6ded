"""Record of an interrupted prediction: what its rasters held, and the settings with which a prediction goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from segzoo.files import replacing

_FILE = "state.json"
_KEYS = ("settings", "probe", "rows", "bottom", "ends", "totals", "whole", "objects")
_SHORT = 40  # letters of a setting that a message shows
_ALIKE = 1e-3  # logits of one network on different processors differ by less


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return the record of partial results; None where there is none, or it is damaged or of an older version."""
    try:
        state = json.loads((folder / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) and {*_KEYS} <= {*state} else None


def write_record(folder: Path, state: Mapping[str, Any]) -> None:
    """Write the record of partial results, whole or not at all."""
    assert {*_KEYS} == {*state}
    with replacing(folder / _FILE) as temporary:
        temporary.write_text(json.dumps(state), encoding="utf-8")


def differences(state: Mapping[str, Any], settings: Mapping[str, Any], probe: list[float]) -> list[str]:
    """Return what has changed since a record was written: names of settings, with their values if these are short.

    Args:
        state: the record.
        settings: of the prediction that is to go on.
        probe: logits by which its network is recognised.
    """
    found = [_difference(key, state["settings"].get(key), value) for key, value in settings.items()]
    same = len(state["probe"]) == len(probe) and np.allclose(state["probe"], probe, _ALIKE, _ALIKE, equal_nan=True)
    return [difference for difference in [*found, "" if same else "network"] if difference]


def _difference(name: str, then: Any, now: Any) -> str:
    """Return the name of a setting that is not what it was, with short values of both; "" for one that is."""
    if then == now:
        return ""
    words = [json.dumps(value, ensure_ascii=False) for value in (then, now)]
    told = then is not None and max(map(len, words)) <= _SHORT
    return f"{name} ({words[0]} then, {words[1]} now)" if told else name
