"""Commands on data sets: check-data, preview, init."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from segzoo import workflows
from segzoo.cli import options
from segzoo.cli.display import progress_bar
from segzoo.files import check_file
from segzoo.terminal import new_console, say

_PRINTED = 10  # problems of one kind that check-data prints; the report has all


def check_data(
    config: options.ConfigArgument = None,
    config_option: options.ConfigOption = None,
    overrides: options.SetOption = None,
    plugin: options.PluginOption = None,
    report: options.ReportOption = None,
    fix: Annotated[
        Path | None,
        typer.Option(help="New folder for a repaired copy of the data set (docs/custom-masks.md)."),
    ] = None,
) -> None:
    """Read every sample of all splits once, augment it as training does, and report problems.

    The report is written to NAME_data in the folder of all runs. The exit code is 1 if training or evaluation would
    fail, or if an image is in two splits, otherwise 0.
    """
    console = new_console()
    with progress_bar(console, "reading", device=False, unit="samples") as progress:
        found = workflows.check_data(
            options.one_config(config, config_option), overrides or (), report=report, fix=fix, progress=progress
        )
    _print_problems(console, found)
    say(console, f"Report: {found.report}")
    if found.repair is not None:
        mended = found.repair
        say(
            console,
            f"{fix}: {mended.copied:,} pairs copied, {mended.turned:,} with the image turned, {mended.left_out:,} left "
            f"out ({mended.record} says why). Train on it by --set {shlex.quote(f'data.root={fix}')}",
        )
    if not found.ok:
        raise typer.Exit(1)


def _print_problems(console: Console, found: workflows.DataCheck) -> None:
    """Print a table for each split and one of the kinds of problems, then some of each kind."""
    from segzoo.reporting.data_quality import kind_table, split_table

    for name, report in found.findings.splits.items():
        console.print(split_table(name, report))
    if found.problems:
        console.print(kind_table(list(found.problems.items())))
    for kind, problems in found.problems.items():
        for problem in problems[:_PRINTED]:
            say(console, f"{problem.split}: {problem.message}")
        if len(problems) > _PRINTED:
            say(console, f"and {len(problems) - _PRINTED:,} more of the kind {kind}, in the report")


def preview(
    config: options.ConfigArgument = None,
    config_option: options.ConfigOption = None,
    out: Annotated[Path, options.out("a PNG")] = Path("preview.png"),
    count: Annotated[int, typer.Option(min=1, help="Number of samples, spread evenly over the training split.")] = 6,
    variants: Annotated[int, typer.Option(min=1, help="Number of augmentations of each sample.")] = 3,
    overrides: options.SetOption = None,
    plugin: options.PluginOption = None,
) -> None:
    """Draw training samples as they are stored and as they are cropped and augmented, with their classes laid over."""
    from segzoo.config import load_config

    resolved = load_config(options.one_config(config, config_option), overrides or ())
    check_file(out)
    from segzoo.engine.preview import preview as draw

    draw(resolved, out, count, variants)
    say(new_console(), f"Samples: {out}")


def init(
    images: Annotated[Path, typer.Argument(help="Folder of the images.")],
    masks: Annotated[Path, typer.Argument(help="Folder of the masks, or a COCO JSON.")],
    out: Annotated[Path, options.out("a configuration, with the ending .yaml")] = Path("my_data.yaml"),
    classes: Annotated[
        str | None, typer.Option(help="Class names in the order of the labels, separated by commas.")
    ] = None,
    mask_suffix: Annotated[str | None, typer.Option(help="Suffix of the masks' stems, such as _mask.")] = None,
    ignore_index: Annotated[int | None, typer.Option(help="Value of unlabelled pixels in the masks.")] = None,
    threshold: Annotated[
        int | None, typer.Option(help="Threshold: the minimum value of foreground pixels in a grey mask.")
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(help="Regular expression that matches the group in a sample's id; a group stays in one split."),
    ] = None,
    overwrite: options.OverwriteOption = False,
) -> None:
    """Look at images and masks, and write a configuration with the evidence for every value.

    Samples are read as the configuration says before it is written, so that check-data and train can use it. Names of
    classes and colours are taken from the files where these have them, and from labelmap.txt, _classes.csv, classes.txt
    and the like beside. data.root is relative where the data lie in the folder that init is started in.
    """
    console = new_console()
    with console.status("Looking at the masks"):
        proposal = workflows.init(
            images,
            masks,
            out,
            classes=None if classes is None else [name.strip() for name in classes.split(",")],
            mask_suffix=mask_suffix,
            ignore_index=ignore_index,
            threshold=threshold,
            group=group,
            overwrite=overwrite,
        )
    found = proposal.found
    say(console, f"{found.pairs} pairs, {found.classes} classes; masks: {found.why}.")
    for remark in found.remarks:
        say(console, f"Note: {remark}")
    say(console, f"Wrote {out}. Read it, then: segzoo check-data {shlex.quote(str(out))}")
