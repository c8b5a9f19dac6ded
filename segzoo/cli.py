"""The command line of segzoo; `segzoo --help` lists the commands."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from segzoo import __version__
from segzoo.backend import start_backend
from segzoo.errors import RunInterruptedError, SegzooError

app = typer.Typer(
    help="Segmentation models in Keras 3: train from one YAML file, evaluate, predict, export.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigOption = Annotated[str, typer.Option("--config", "-c", help="YAML file, or the name of a recipe.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Override one key: a.b=value. May be repeated.")]
RunArgument = Annotated[Path, typer.Argument(help="A run folder, as train prints it.")]
_PRINTED = 10  # problems of one kind that check-data prints; the report has all
WeightsOption = Annotated[Literal["best", "last"], typer.Option(help="Which weights of the run.")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; errors that a user can act on are printed as one paragraph, with exit code 1.

    A training run that a signal stopped has exit code 75: its state is saved, and the same command goes on with it.
    """
    # TensorFlow's start-up chatter hides the messages that matter; whoever wants it sets the variable.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        app(list(arguments) if arguments is not None else None)
    except RunInterruptedError as stop:
        from segzoo.training.interrupts import EXIT_CODE

        Console(stderr=True).print(_escape(str(stop)), highlight=False, soft_wrap=True)
        sys.exit(EXIT_CODE)
    except SegzooError as error:
        Console(stderr=True).print(f"[bold red]Error:[/] {_escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(1)


@app.command()
def train(
    config: ConfigOption,
    overrides: SetOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="There must be a run to go on with; a finished one is shown again.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run that the folder holds.")] = False,
    resume_anyway: Annotated[
        bool, typer.Option("--resume-anyway", help="Go on although configuration, data or code have changed.")
    ] = False,
) -> None:
    """Train a model; ends with a table of per-class figures and the path of the run folder.

    The same command goes on with a run that was interrupted. SIGTERM and Ctrl-C save the state and stop with exit code
    75; a second one stops at once. Exit code 1: an error, 0: the run is finished.
    """
    from segzoo.config import load_config

    resolved = load_config(config, overrides or ())
    start_backend()
    from segzoo.training import train as run

    run(resolved, resume=resume, overwrite=overwrite, resume_anyway=resume_anyway, console=_console())


@app.command("find-lr")
def find_lr(
    config: Annotated[str, typer.Argument(help="YAML file, or the name of a recipe.")],
    overrides: SetOption = None,
    start: Annotated[float, typer.Option(help="First learning rate, above 0.")] = 1e-6,
    end: Annotated[float, typer.Option(help="Last learning rate.")] = 1.0,
    updates: Annotated[int, typer.Option(help="How many learning rates to try, 10 or more.")] = 100,
    out: Annotated[Path | None, typer.Option(help="PNG to write; by default NAME.lr.png among the runs.")] = None,
) -> None:
    """Find a learning rate: train with a growing one until the loss blows up; draws the loss and suggests a rate."""
    from segzoo.config import load_config

    resolved = load_config(config, overrides or ())
    start_backend()
    from segzoo.training.finder import find_learning_rate, plot

    finding = find_learning_rate(resolved, start=start, end=end, updates=updates)
    path = out or Path(resolved.output.root) / f"{resolved.name}.lr.png"
    plot(finding, path)
    console = _console()
    seen = f"{len(finding.rates)} rates from {finding.rates[0]:.2g} to {finding.rates[-1]:.2g}"
    ending = "then the loss blew up" if finding.diverged else "without the loss blowing up"
    console.print(f"{seen}, {ending}; it was lowest at {finding.lowest:.2g}.", highlight=False, soft_wrap=True)
    if finding.suggested is None:
        console.print("No suggestion: the loss fell at no rate. Try other --start and --end, or look at the data.")
    else:
        console.print(f"Suggested, where it fell most steeply: learning_rate: {finding.suggested:.2g}", highlight=False)
    console.print(f"Plot: {path}", highlight=False, soft_wrap=True)


@app.command()
def evaluate(
    run: RunArgument,
    split: Annotated[
        Literal["train", "val", "test"], typer.Option(help="Which split to evaluate on; test: see data.test_split.")
    ] = "val",
    weights: WeightsOption = "best",
    overrides: SetOption = None,
) -> None:
    """Evaluate a run's model on a split; prints the table and writes a report with pictures into the run folder."""
    start_backend()
    from segzoo.inference.report import Report
    from segzoo.metrics import Calibration, bootstrap
    from segzoo.training import assemble, load_run
    from segzoo.training.evaluation import evaluate as measure
    from segzoo.training.screen import class_table

    opened = load_run(run, overrides or ())
    ignored = opened.config.data.ignore_index
    source = assemble.build_source(opened.config, split)
    batches = assemble.eval_batches(opened.config, source)
    multilabel = opened.config.mode == "multilabel"
    calibration = Calibration(ignore_index=ignored, mode="multilabel" if multilabel else "multiclass")
    console = _console()
    _say_device(console)
    model, loss = opened.model(weights), opened.loss()
    with _progress(console, "evaluating", len(source)) as done:
        found = measure(
            model,
            batches,
            len(opened.classes),
            ignored,
            loss=loss,
            target=assemble.target_maker(opened.config),
            worst=10,
            calibration=calibration,
            multilabel=multilabel,
            progress=done,
        )
    console.print(class_table(found.confusion, opened.classes, f"{split} split, {weights} weights"))
    report = Report(
        title=f"{opened.folder.path.name}: {split} split, {weights} weights",
        names=opened.classes,
        colours=opened.palette,
        confusion=found.confusion,
        intervals=bootstrap(found.images),
        calibration=calibration,
        worst=found.worst,
        samples=len(found.images),
        loss=found.loss,
        background=assemble.background(opened.config),
    )
    page = report.write(opened.folder.path / f"evaluation_{split}_{weights}")
    console.print(f"Report: {page}", highlight=False, soft_wrap=True)


@app.command()
def predict(
    run: RunArgument,
    images: Annotated[Path, typer.Argument(help="An image or a folder of images.")],
    out: Annotated[Path, typer.Option(help="Folder for the class maps and overlays.")],
    weights: WeightsOption = "best",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that are there.")] = False,
    max_pixels: Annotated[
        int | None,
        typer.Option(min=1, help="Most pixels of an image, to guard memory; by default data.max_pixels of the run."),
    ] = None,
) -> None:
    """Predict new images: for each a PNG of class indices (multilabel: a TIFF, a page a class) and an overlay."""
    start_backend()
    from segzoo.inference.predictor import Predictor, find_images
    from segzoo.training import assemble, load_run

    opened = load_run(run)
    paths = find_images(images)
    multilabel = opened.config.mode == "multilabel"
    reader = assemble.image_reader(opened.config, alone=True)
    console = _console()
    _say_device(console)
    predictor = Predictor(opened.model(weights), reader=reader, multilabel=multilabel)
    with _progress(console, "predicting", len(paths)) as done:
        summary = predictor.predict_files(
            paths,
            out,
            opened.palette,
            opened.classes,
            root=images if images.is_dir() else None,
            overwrite=overwrite,
            max_pixels=max_pixels,
            background=assemble.background(opened.config),
            progress=done,
        )
    console.print(str(summary), highlight=False, soft_wrap=True)
    if summary.failed:
        raise typer.Exit(1)


@app.command()
def export(
    run: RunArgument,
    format: Annotated[str, typer.Option("--format", help="onnx, litert, saved_model or openvino.")],
    out: Annotated[Path | None, typer.Option(help="Where to; by default export/ in the run folder.")] = None,
    output: Annotated[
        Literal["logits", "classes"], typer.Option(help="What the exported model returns: logits or classes.")
    ] = "logits",
    size: Annotated[str | None, typer.Option(help="Fixed input size, as HEIGHTxWIDTH in pixels.")] = None,
    weights: WeightsOption = "best",
) -> None:
    """Export a run's model (raw pixels 0..255 in); done only when it agrees with the Keras model."""
    from segzoo.export import FORMATS, export_model

    FORMATS.check(format)
    start_backend()
    from segzoo.training import load_run

    opened = load_run(run)
    report = export_model(
        opened.model(weights),
        out or opened.folder.path / "export",
        format,
        output=output,
        image_size=_size(size),
        multilabel=opened.config.mode == "multilabel",
    )
    _console().print(str(report), highlight=False, soft_wrap=True)


@app.command("check-data")
def check_data(
    config: Annotated[str, typer.Argument(help="YAML file, or the name of a recipe.")],
    overrides: SetOption = None,
    report: Annotated[
        Path | None, typer.Option(help="Folder for report.html; by default NAME_data in the folder of all runs.")
    ] = None,
    fix: Annotated[
        Path | None,
        typer.Option(help="New folder for a copy without the errors that can be mended without losing anything."),
    ] = None,
) -> None:
    """Read every sample of all splits once and report what is wrong; exit code 1 where there are errors."""
    from segzoo.config import load_config
    from segzoo.data import FolderSource, check_splits
    from segzoo.inference.data_report import DataReport, kind_table, split_table

    start_backend()
    from segzoo.training import assemble

    resolved = load_config(config, overrides or ())
    section = resolved.data
    splits = ("train", "val", "test") if assemble.has_test_split(resolved) else ("train", "val")
    sources = {split: assemble.whole_source(resolved, split, strict=False) for split in splits}
    pairs: dict[str, FolderSource] = {name: s for name, s in sources.items() if isinstance(s, FolderSource)}
    if fix is not None and not pairs:
        raise SegzooError("--fix copies a data set with a folder for each split, which this is not.")
    console = _console()
    with _progress(console, "reading", sum(len(source) for source in sources.values())) as done:
        findings = check_splits(sources, workers=max(1, section.workers), progress=done)
    colours = assemble.colours(resolved)
    background = assemble.background(resolved)
    title = f"{resolved.name}: check of the data"
    data_report = DataReport(title, findings, colours, section.ignore_index, background)
    for name, found in findings.splits.items():
        console.print(split_table(name, found))
    if findings.problems:
        console.print(kind_table(data_report.counts()))
    for kind, problems in data_report.counts():
        for problem in problems[:_PRINTED]:
            console.print(f"{problem.split}: {problem.message}", highlight=False, soft_wrap=True, markup=False)
        if len(problems) > _PRINTED:
            console.print(f"and {len(problems) - _PRINTED:,} more of the kind {kind}, in the report", highlight=False)
    page = data_report.write(report or Path(resolved.output.root) / f"{resolved.name}_data")
    console.print(f"Report: {page}", highlight=False, soft_wrap=True)
    if fix is not None:
        from segzoo.data.repair import repair

        mended = repair(pairs, findings, fix)
        console.print(
            f"{fix}: {mended.copied:,} pairs copied, {mended.turned:,} with the image turned, {mended.left_out:,} left "
            f"out (repair.json says why). Train on it by --set data.root={fix}",
            highlight=False,
            soft_wrap=True,
        )
    if not findings.ok:
        raise typer.Exit(1)


@app.command()
def preview(
    config: Annotated[str, typer.Argument(help="YAML file, or the name of a recipe.")],
    out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("preview.png"),
    count: Annotated[int, typer.Option(min=1, help="Samples, spread evenly over the training split.")] = 6,
    variants: Annotated[int, typer.Option(min=1, help="How often each is augmented.")] = 3,
    overrides: SetOption = None,
) -> None:
    """Draw training samples as they are stored and as they are cropped and augmented, with their classes laid over."""
    from segzoo.config import load_config

    resolved = load_config(config, overrides or ())
    start_backend()
    from segzoo.training.preview import preview as draw

    draw(resolved, out, count, variants)
    _console().print(f"Samples: {out}", highlight=False, soft_wrap=True)


@app.command()
def init(
    images: Annotated[Path, typer.Argument(help="Folder of the images.")],
    masks: Annotated[Path, typer.Argument(help="Folder of the masks, or a COCO JSON.")],
    out: Annotated[Path, typer.Option(help="The configuration to write.")] = Path("my_data.yaml"),
    classes: Annotated[str | None, typer.Option(help="Names of the classes by label, with commas between.")] = None,
    mask_suffix: Annotated[str | None, typer.Option(help="What the masks' names end in, such as _mask.")] = None,
    ignore_index: Annotated[int | None, typer.Option(help="Value of unlabelled pixels in the masks.")] = None,
    threshold: Annotated[
        int | None, typer.Option(help="Value from which up a pixel of a grey mask is the thing.")
    ] = None,
    group: Annotated[str | None, typer.Option(help="Regular expression for what stays in one split.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file where there is one.")] = False,
) -> None:
    """Look at images and masks, and write a configuration with the evidence for every value."""
    from segzoo.config import load_config
    from segzoo.files import replacing
    from segzoo.propose import look, look_at_names, propose

    if out.suffix not in (".yaml", ".yml"):
        raise SegzooError(f"--out must end in .yaml, got {out}.")
    if out.exists() and not overwrite:
        raise SegzooError(f"{out} is there already; replace it with --overwrite, or name another by --out.")
    found = look_at_names(images, masks) or look(images, masks, mask_suffix, ignore_index, threshold)
    names = [name.strip() for name in classes.split(",")] if classes is not None else None
    text = propose(found, names, group=group).replace("THIS_FILE", str(out))
    with replacing(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
        load_config(temporary, ["name=proposed"])  # what it refuses is not left behind
    console = _console()
    console.print(f"{found.pairs} pairs, {found.classes} classes; masks: {found.why}.", highlight=False, soft_wrap=True)
    console.print(f"Wrote {out}. Read it, then: segzoo check-data {out}", highlight=False, soft_wrap=True)


weights_app = typer.Typer(help="Weights files.", no_args_is_help=True)
app.add_typer(weights_app, name="weights")


@weights_app.command("convert")
def convert_weights(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of save_pretrained, safetensors file, or state dict.")],
    out: Annotated[Path, typer.Option(help="Where to, a name that ends in .weights.h5.")],
    encoder: Annotated[
        str | None, typer.Option(help="The original's encoder, such as resnet34; a configuration says it itself.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="The original's config.json, for a checkpoint that is a single file.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file where there is one.")] = False,
) -> None:
    """Convert a checkpoint of segmentation_models.pytorch, any decoder on a ResNet or EfficientNet, see docs/smp.md."""
    if not out.name.endswith(".weights.h5"):
        raise SegzooError(f"--out must end in .weights.h5, which is what segzoo reads, got {out}.")
    if out.exists() and not overwrite:
        raise SegzooError(f"{out} is there already; replace it with --overwrite.")
    start_backend()
    from segzoo.convert import convert
    from segzoo.weights import save_file

    found = convert(checkpoint, encoder, config)
    save_file(found.model, out)
    text = f"{out}: {len(found.model.weights)} tensors"
    if found.unused:
        text += f"; {len(found.unused)} more of the checkpoint are not used there either"
    if found.assumed:
        defaults = ", ".join(f"{key} {json.dumps(value)}" for key, value in found.assumed.items())
        text += f". Without a configuration (--config), which alone says it, it was taken to be of {defaults}"
    console = _console()
    console.print(text + ". For the configuration:", highlight=False, soft_wrap=True)
    console.print("model: " + json.dumps({**found.settings, "weights": str(out)}), highlight=False, soft_wrap=True)


@app.command()
def backbones(
    name: Annotated[str | None, typer.Argument(help="Show this backbone's taps.")] = None,
    size: Annotated[str, typer.Option(help="Image size for the GFLOPs, as HEIGHTxWIDTH in pixels.")] = "256x256",
    markdown: Annotated[Path | None, typer.Option(help="Write all tables to this page instead.")] = None,
) -> None:
    """List the backbones with size, cost, levels and weights, or show one with its documented taps."""
    from segzoo.backbones import BACKBONES, listing
    from segzoo.files import replacing

    if markdown is not None:
        with replacing(markdown) as temporary:
            temporary.write_text(listing.page(), encoding="utf-8")
        return
    if name is not None:
        BACKBONES.check(name)
    rows = [row for row in listing.overview(_size(size) or (0, 0)) if name in (None, row[0])]
    _console().print(_table(listing.OVERVIEW, rows, f"GFLOPs at {size}", right=range(1, 8)))
    if name is not None:
        for remark in listing.remarks(name):
            _console().print(remark, highlight=False, markup=False)
        for kind, taps in listing.taps(name).items():
            _console().print(_table(listing.TAPS, taps, f"{name}, {kind} taps", right=range(1, 3)))


@app.command()
def decoders() -> None:
    """List the decoders with their options and defaults."""
    from segzoo.decoders import DECODERS

    start_backend()

    rows = []
    for name in DECODERS:
        decoder = DECODERS[name]
        options = ", ".join(f"{option}={default!r}" for option, default in decoder.options().items())
        rows.append((name, options, re.split(r":\s", decoder.__doc__ or "")[0]))
    _console().print(_table(("decoder", "options", "source"), rows, "decoders", wrapped=("options", "source")))


@app.command()
def schema(
    out: Annotated[Path | None, typer.Option(help="File to write; by default the standard output.")] = None,
) -> None:
    """Write the JSON Schema of configurations, for editors that complete and check YAML."""
    from segzoo.config import json_schema, write_json_schema

    if out is None:
        print(json.dumps(json_schema(), indent=2))
    else:
        write_json_schema(out)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def _table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    title: str,
    right: Sequence[int] = (),
    wrapped: Sequence[str] = ("what it is",),
) -> Table:
    # Narrow, so that a row of all levels fits into 80 columns.
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)
    for index, heading in enumerate(headings):
        justify: Literal["right", "left"] = "right" if index in right else "left"
        table.add_column(heading, no_wrap=heading not in wrapped, overflow="fold", justify=justify)
    for row in rows:
        table.add_row(*row)
    return table


def _console() -> Console:
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 240  # a file or a pipe: Rich would cut tables to 80 columns
    return console


def _say_device(console: Console) -> None:
    """Print the device in use, and a warning where a better one lies idle."""
    from segzoo.device import device_name, idle_card_note

    console.print(f"Device: {device_name()}", highlight=False, markup=False, soft_wrap=True)
    if note := idle_card_note():
        console.print(f"[yellow]Warning:[/] {_escape(note)}", highlight=False, soft_wrap=True)


@contextmanager
def _progress(console: Console, words: str, total: int) -> Iterator[Callable[[int], None]]:
    """Draw a bar on a terminal while the block runs; yields what to call with the number done so far."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(words), BarColumn(bar_width=None), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(words, total=total)
        yield lambda done: bar.update(task, completed=done)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise SegzooError(f"--size must be HEIGHTxWIDTH in pixels, such as 512x768, got {text!r}.")
    return int(height), int(width)


if __name__ == "__main__":
    main()
