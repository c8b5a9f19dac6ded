"""Learning-rate range test, with a plot."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from segzoo import backend
from segzoo.files import check_file

if TYPE_CHECKING:
    from segzoo.config import Config
    from segzoo.engine.lr_finder import Finding


def find_learning_rate(
    config: Config | str | PathLike[str],
    overrides: Sequence[str] = (),
    *,
    start: float = 1e-6,
    end: float = 1.0,
    updates: int = 100,
    out: str | PathLike[str] | Literal[False] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Finding:
    """Train with a growing learning rate until the loss blows up; plots the loss and suggests a rate.

    Nothing is kept of the training. The method is in `segzoo.engine.lr_finder`.

    Args:
        config: a YAML file, the name of a recipe, or a `Config`.
        overrides: changes such as "data.batch_size=4".
        start: first learning rate, above 0.
        end: last learning rate, above `start`.
        updates: learning rates to try, 10 or more.
        out: PNG to write; by default NAME.lr.png in the folder of all runs. False: none.
        progress: called with the number of rates tried so far and that of all, first with (0, updates); it ends early
            where the loss blows up.

    Returns:
        Rates and losses, with `suggested`, the rate at which the loss falls most steeply (None if it does not fall),
        and `figure`, the PNG.

    Raises:
        ConfigError: an invalid configuration or override.
        RunError: an invalid range of rates, or a loss that is not finite from the start.
        DataError: unusable samples.
        WeightsError: unavailable weights.
        StorageError: the plot cannot be written.

    Example:
        >>> found = segzoo.find_learning_rate("my_data.yaml", out=False)
        >>> segzoo.train(segzoo.load_config("my_data.yaml", [f"training.optimizer.learning_rate={found.suggested}"]))
    """
    from segzoo.config import resolve_config

    resolved = resolve_config(config, overrides)
    path = Path(out) if out else Path(resolved.output.root) / f"{resolved.name}.lr.png"
    if out is not False:
        check_file(path)
    backend.start_backend()
    from segzoo.engine import lr_finder

    finding = lr_finder.find_learning_rate(resolved, start=start, end=end, updates=updates, progress=progress)
    if out is False:
        return finding
    lr_finder.plot(finding, path)
    return dataclasses.replace(finding, figure=path)
