"""Commands on training: train, find-lr, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segzoo import backend, workflows
from segzoo.cli import options
from segzoo.cli.display import progress_bar
from segzoo.files import check_folder
from segzoo.terminal import new_console, say, warn


def train(
    config: options.ConfigArgument = None,
    config_option: options.ConfigOption = None,
    overrides: options.SetOption = None,
    plugin: options.PluginOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Require an existing run; if it is finished, show its results.")
    ] = False,
    overwrite: options.OverwriteOption = False,
    resume_anyway: Annotated[
        bool, typer.Option("--resume-anyway", help="Resume although configuration, data or code have changed.")
    ] = False,
    profile: Annotated[
        bool,
        typer.Option(
            "--profile",
            help="Measure where the time of the training loop goes, over 20 steps: a table, and a trace of 3 steps for "
            "TensorBoard.",
        ),
    ] = False,
) -> None:
    """Train a model; ends with a table of per-class figures and the path of the run folder.

    The same command resumes an interrupted run. SIGTERM and Ctrl-C save the state and stop with exit code
    75; a second one stops at once. Exit code 1: an error, 0: the run is finished.
    """
    from segzoo.config import load_config

    with backend.collection_paused():
        resolved = load_config(options.one_config(config, config_option), overrides or ())
        if resolved.training.distribution != "multi_host":  # where one process alone writes
            check_folder(Path(resolved.output.root) / str(resolved.name))
        backend.start_backend()
        from segzoo.engine import train as run

    run(
        resolved,
        resume=resume,
        overwrite=overwrite,
        resume_anyway=resume_anyway,
        profile=profile,
        console=new_console(),
    )


def find_lr(
    config: options.ConfigArgument = None,
    config_option: options.ConfigOption = None,
    overrides: options.SetOption = None,
    plugin: options.PluginOption = None,
    start: Annotated[float, typer.Option(help="First learning rate, above 0.")] = 1e-6,
    end: Annotated[float, typer.Option(help="Last learning rate.")] = 1.0,
    updates: Annotated[int, typer.Option(help="Number of learning rates to try, 10 or more.")] = 100,
    out: Annotated[Path | None, options.out("a PNG; by default NAME.lr.png in the folder of all runs")] = None,
) -> None:
    """Find a learning rate: train with a growing one until the loss blows up; draws the loss and suggests a rate."""
    console = new_console()
    with progress_bar(console, "trying learning rates", unit="updates") as progress:
        finding = workflows.find_learning_rate(
            options.one_config(config, config_option),
            overrides or (),
            start=start,
            end=end,
            updates=updates,
            out=out,
            progress=progress,
        )
    seen = f"{len(finding.rates)} rates from {finding.rates[0]:.2g} to {finding.rates[-1]:.2g}"
    ending = "then the loss blew up" if finding.diverged else "without the loss blowing up"
    say(console, f"{seen}, {ending}; it was lowest at {finding.lowest:.2g}.")
    if finding.suggested is None:
        say(console, "No suggestion: the loss fell at no rate. Try other --start and --end, or look at the data.")
    else:
        say(console, f"Suggested, where it fell most steeply: learning_rate: {finding.suggested:.2g}")
        if finding.lowest / 10 > finding.suggested:
            say(console, f"A good peak lies between that and {finding.lowest / 10:.2g}, a tenth of the lowest.")
    say(console, f"Plot: {finding.figure}")


def evaluate(
    run: options.ModelArgument,
    split: options.SplitOption = "val",
    data: options.DataOption = None,
    ensemble: options.EnsembleOption = None,
    tta: options.TtaOption = None,
    tile: Annotated[int | None, options.tile("none")] = None,
    overlap: options.OverlapOption = None,
    batch: options.BatchOption = 1,
    device: options.DeviceOption = None,
    weights: options.WeightsOption = "best",
    saved: options.SavedOption = False,
    threshold: options.ThresholdOption = None,
    tune_threshold: Annotated[
        str | None,
        typer.Option(
            metavar="f1|f2|iou|recall@P",
            help="Choose the threshold of each class on the validation split, by F-beta, IoU, or the recall at a "
            "precision of P, and store them with the weights, for evaluate, predict and export.",
        ),
    ] = None,
    overrides: options.SetOption = None,
    plugin: options.PluginOption = None,
    report: options.ReportOption = None,
) -> None:
    """Evaluate a model on a split; prints the table and writes a report with pictures into the run folder."""
    console = new_console()
    with progress_bar(console, "evaluating", device or True, "images") as progress:
        found = workflows.evaluate(
            [run, *(ensemble or ())],
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
            threshold=options.parsed_threshold(threshold),
            tune_threshold=tune_threshold,
            report=report,
            progress=progress,
        )
    from segzoo.engine.callbacks.progress_display import class_table

    title = f"{split} split, {found.network}"
    console.print(class_table(found.confusion, found.class_names, title, found.metrics, found.background))
    if found.thresholds.values:
        say(console, f"Thresholds: {found.thresholds}")
        for note in found.thresholds.notes():
            warn(console, note)
    say(console, f"Report: {found.report}")
