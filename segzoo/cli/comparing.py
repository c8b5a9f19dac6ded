"""Command on several trained models: compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from segzoo import workflows
from segzoo.cli import options
from segzoo.cli.display import progress_bar
from segzoo.escaping import printable
from segzoo.terminal import new_console, say


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Two or more run folders, addresses or model files; the others are compared with the first.",
            metavar="RUN RUN...",
        ),
    ],
    split: options.SplitOption = "val",
    data: options.DataOption = None,
    tta: options.TtaOption = None,
    tile: Annotated[int | None, options.tile("no image")] = None,
    overlap: options.OverlapOption = None,
    batch: options.BatchOption = 1,
    device: options.DeviceOption = None,
    weights: options.WeightsOption = "best",
    saved: options.SavedOption = False,
    overrides: options.SetOption = None,
    plugin: options.PluginOption = None,
    report: options.ReportOption = None,
) -> None:
    """Compare models on one split: IoU and the differences to the first, with intervals, as tables and a page."""
    console = new_console()
    with progress_bar(console, "evaluating", device or True, "images") as progress:
        found = workflows.compare(
            runs,
            split,
            weights=weights,
            overrides=overrides or (),
            saved=saved,
            data=data,
            tta=tta,
            tile=tile,
            overlap=overlap,
            batch=batch,
            device=device,
            report=report,
            progress=progress,
        )
    console.print(_table(f"IoU on the {split} split", found.contents.iou_rows()))
    console.print(_table(f"Differences to {found.names[0]}", found.contents.difference_rows()))
    say(console, f"Report: {found.report}")


def _table(title: str, rows: Sequence[Sequence[str]]) -> Table:
    """Return a table whose last row is of the mean."""
    heading, *classes, mean = rows
    table = Table(title=Text(printable(title)), title_justify="left")
    for place, name in enumerate(heading):
        table.add_column(Text(printable(name)), justify="right" if place else "left")
    for cells in classes:
        table.add_row(*(Text(printable(cell)) for cell in cells))
    table.add_section()
    table.add_row(*mean, style="bold")
    return table
