"""Command that exports a run's model, in one format or in all with a table to choose from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from segzoo import workflows
from segzoo.cli import options
from segzoo.cli.display import listing_table, progress_bar
from segzoo.terminal import new_console, say

_ALL = "all"  # every export format


def export(
    run: options.RunArgument,
    format: Annotated[
        str,
        typer.Option("--format", help="onnx, litert, saved_model or openvino; or all, in all precisions."),
    ],
    out: Annotated[Path | None, options.out("a folder or file; by default export/ in the run folder")] = None,
    output: Annotated[
        Literal["logits", "classes"], options.output("logits or classes, of the exported model")
    ] = "logits",
    size: Annotated[str | None, options.size("the only one that the exported model takes; by default any")] = None,
    precision: Annotated[
        Literal["float32", "float16", "int8", "dynamic"] | None,
        typer.Option(
            help="Numbers of the file: by default float32, with --format all each. float16 rounds the weights; int8 is "
            "calibrated on training images; dynamic rounds the weights to 8 bits. int8 and dynamic are done only if "
            "the model stays accurate (--max-drop)."
        ),
    ] = None,
    calibration_images: Annotated[
        int, typer.Option(min=1, help="Number of training images that int8 is calibrated on.")
    ] = 100,
    max_drop: Annotated[
        float, typer.Option(min=0, help="Points of mean IoU on the validation split that int8 and dynamic may lose.")
    ] = 1.0,
    license: Annotated[
        str | None, typer.Option(help="Licence: its identifier, such as mit, for the metadata of the file.")
    ] = None,
    benchmark: Annotated[
        bool, typer.Option("--benchmark", help="Measure latency and memory, and write a table of the exports.")
    ] = False,
    runs: Annotated[int, typer.Option(min=1, help="Number of images that --benchmark times.")] = 30,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Number of threads that --benchmark uses; by default one for each core.")
    ] = None,
    weights: options.WeightsOption = "best",
    saved: options.SavedOption = False,
    threshold: options.ThresholdOption = None,
    overrides: options.SetOption = None,
    plugin: options.PluginOption = None,
) -> None:
    """Export a run's model (raw pixels 0..255 in); done only when it agrees with the Keras model."""
    console = new_console()
    common: dict[str, Any] = {
        "output": output,
        "size": options.parsed_size(size),
        "weights": weights,
        "overrides": overrides or (),
        "saved": saved,
        "threshold": options.parsed_threshold(threshold),
        "calibration_images": calibration_images,
        "max_drop": max_drop,
        "license": license,
    }
    if format != _ALL and not benchmark:
        say(console, str(workflows.export_model(run, format, out, precision=precision or "float32", **common)))
        return
    formats, precisions = ([format], [precision or "float32"]) if format != _ALL else (None, precision and [precision])
    with progress_bar(console, "exporting") as progress:
        table = workflows.export_all(
            run,
            out,
            formats=formats,
            precisions=precisions,
            benchmark=benchmark,
            runs=runs,
            threads=threads,
            progress=progress,
            **common,
        )
    headings, *rows = table.cells()
    numbers = range(3, len(headings))
    console.print(listing_table(headings, rows, table.title, right=numbers, wrapped=("Remark",)))
    for note in table.notes:
        say(console, note)
    say(console, f"Table: {table.path}")
    if table.failed:
        raise typer.Exit(1)
