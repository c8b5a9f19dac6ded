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
from rich.text import Text

from segzoo import __version__, plugins
from segzoo.backend import start_backend
from segzoo.errors import RunInterruptedError, SegzooError, shortened
from segzoo.escaping import unbroken
from segzoo.files import check_file, check_folder
from segzoo.terminal import new_console as _console
from segzoo.terminal import say, steady_streams, warn
from segzoo.training.interrupts import EXIT_CODE, SignalReceived, stopped_by_signals

app = typer.Typer(
    help="Segmentation models in Keras 3: train from one YAML file, evaluate, predict, export.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigOption = Annotated[str, typer.Option("--config", "-c", help="YAML file, or the name of a recipe.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Override one key: a.b=value. May be repeated.")]


def _load_plugins(names: list[str] | None) -> list[str] | None:
    plugins.load(names or ())
    return names


PluginOption = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        callback=_load_plugins,
        is_eager=True,
        help="Python module of yours that registers decoders, losses and the like. May be repeated.",
    ),
]
RunArgument = Annotated[Path, typer.Argument(help="A run folder, as train prints it.")]
_PRINTED = 10  # problems of one kind that check-data prints; the report has all
WeightsOption = Annotated[Literal["best", "last"], typer.Option(help="Which weights of the run.")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; errors that a user can act on are printed as one paragraph.

    Exit codes: 0, done; 1, an error; 2, options or arguments that the command does not have; 75, stopped by SIGTERM, or
    a training by either signal with its state saved: the same command goes on; 130, stopped by Ctrl-C.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    # TensorFlow's start-up chatter hides the messages that matter; whoever wants it sets the variable.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    training = given[:1] == ["train"]  # its log holds what is shown, so a terminal that is lost does not end it
    with steady_streams(_PATIENCE if training else None) as streams, stopped_by_signals(ignore_hangup=training) as by:
        try:
            code = _run(given)
        except BaseException:
            if not by:
                raise
            code = _stopped(by[0])  # which an import or a library has made into another error
        for stream in streams:
            stream.flush()
            if stream.lost and code == 0 and not training:
                _complain(f"What the command printed could not be written: {stream.lost}.")
                code = 1
    sys.exit(code)


_PATIENCE = 2.0  # seconds that a training waits for who reads its output


def _run(arguments: list[str]) -> int:
    """Run a command and print what went wrong; returns the exit code."""
    try:
        app(arguments)
    except SystemExit as stop:  # what typer ends every command with
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except SignalReceived as stop:
        return _stopped(stop)
    except RunInterruptedError as stop:
        say(Console(stderr=True), str(stop))
        return EXIT_CODE
    except SegzooError as error:
        _complain(str(error))
        return 1
    except OSError as error:  # a path that cannot even be looked at, a temporary folder that is full
        where = f"{error.filename}: " if error.filename else ""
        _complain(f"{where}{error.strerror or error}.")
        return 1
    return 0


def _stopped(stop: SignalReceived) -> int:
    say(Console(stderr=True), f"{stop.signal}: stopped. Nothing was saved by this command since its start.")
    return stop.exit_code


def _complain(text: str) -> None:
    message = Text.assemble(("Error:", "bold red"), " ", unbroken(text))
    Console(stderr=True).print(message, soft_wrap=True)


@app.command()
def train(
    config: ConfigOption,
    overrides: SetOption = None,
    plugin: PluginOption = None,
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
    if resolved.training.distribution != "multi_host":  # where one process alone writes
        check_folder(Path(resolved.output.root) / str(resolved.name))
    start_backend()
    from segzoo.training import train as run

    run(resolved, resume=resume, overwrite=overwrite, resume_anyway=resume_anyway, console=_console())


@app.command("find-lr")
def find_lr(
    config: Annotated[str, typer.Argument(help="YAML file, or the name of a recipe.")],
    overrides: SetOption = None,
    plugin: PluginOption = None,
    start: Annotated[float, typer.Option(help="First learning rate, above 0.")] = 1e-6,
    end: Annotated[float, typer.Option(help="Last learning rate.")] = 1.0,
    updates: Annotated[int, typer.Option(help="How many learning rates to try, 10 or more.")] = 100,
    out: Annotated[Path | None, typer.Option(help="PNG to write; by default NAME.lr.png among the runs.")] = None,
) -> None:
    """Find a learning rate: train with a growing one until the loss blows up; draws the loss and suggests a rate."""
    from segzoo.config import load_config

    resolved = load_config(config, overrides or ())
    path = out or Path(resolved.output.root) / f"{resolved.name}.lr.png"
    check_file(path)
    start_backend()
    from segzoo.training.finder import find_learning_rate, plot

    finding = find_learning_rate(resolved, start=start, end=end, updates=updates)
    plot(finding, path)
    console = _console()
    seen = f"{len(finding.rates)} rates from {finding.rates[0]:.2g} to {finding.rates[-1]:.2g}"
    ending = "then the loss blew up" if finding.diverged else "without the loss blowing up"
    say(console, f"{seen}, {ending}; it was lowest at {finding.lowest:.2g}.")
    if finding.suggested is None:
        say(console, "No suggestion: the loss fell at no rate. Try other --start and --end, or look at the data.")
    else:
        say(console, f"Suggested, where it fell most steeply: learning_rate: {finding.suggested:.2g}")
    say(console, f"Plot: {path}")


@app.command()
def evaluate(
    run: RunArgument,
    split: Annotated[
        Literal["train", "val", "test"], typer.Option(help="Which split to evaluate on; test: see data.test_split.")
    ] = "val",
    weights: WeightsOption = "best",
    overrides: SetOption = None,
    plugin: PluginOption = None,
) -> None:
    """Evaluate a run's model on a split; prints the table and writes a report with pictures into the run folder."""
    place = run / f"evaluation_{split}_{weights}"
    check_folder(place)
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
    page = report.write(place)
    say(console, f"Report: {page}")


@app.command()
def predict(
    run: RunArgument,
    images: Annotated[Path, typer.Argument(help="An image or a folder of images.")],
    out: Annotated[Path, typer.Option(help="Folder for the class maps and overlays.")],
    weights: WeightsOption = "best",
    plugin: PluginOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that are there.")] = False,
    max_pixels: Annotated[
        int | None,
        typer.Option(min=1, help="Most pixels of an image, to guard memory; by default data.max_pixels of the run."),
    ] = None,
) -> None:
    """Predict new images: for each a PNG of class indices (multilabel: a TIFF, a page a class) and an overlay."""
    check_folder(out)
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
    say(console, str(summary))
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
    plugin: PluginOption = None,
) -> None:
    """Export a run's model (raw pixels 0..255 in); done only when it agrees with the Keras model."""
    from segzoo.export import FORMATS, export_model

    FORMATS.check(format)
    place = out or run / "export"
    check_folder(place)
    start_backend()
    from segzoo.training import load_run

    opened = load_run(run)
    report = export_model(
        opened.model(weights),
        place,
        format,
        output=output,
        image_size=_size(size),
        multilabel=opened.config.mode == "multilabel",
    )
    say(_console(), str(report))


@app.command("check-data")
def check_data(
    config: Annotated[str, typer.Argument(help="YAML file, or the name of a recipe.")],
    overrides: SetOption = None,
    plugin: PluginOption = None,
    report: Annotated[
        Path | None, typer.Option(help="Folder for report.html; by default NAME_data in the folder of all runs.")
    ] = None,
    fix: Annotated[
        Path | None,
        typer.Option(help="New folder for a copy without the errors that can be mended without losing anything."),
    ] = None,
) -> None:
    """Read every sample of all splits once, augment it as the run does, and report what is wrong.

    Exit code 1 where training or its evaluation would stop at something, or an image is in two splits; else 0.
    """
    from segzoo.config import load_config

    resolved = load_config(config, overrides or ())
    section = resolved.data
    place = report or Path(resolved.output.root) / f"{resolved.name}_data"
    check_folder(place)
    if fix is not None:
        check_folder(fix)
    start_backend()
    from segzoo.data import FolderSource, check_splits
    from segzoo.inference.data_report import DataReport, kind_table, split_table
    from segzoo.training import assemble

    splits = ("train", "val", "test") if assemble.has_test_split(resolved) else ("train", "val")
    sources = {split: assemble.whole_source(resolved, split, strict=False) for split in splits}
    if resolved.training.overfit is not None:
        assemble.few(sources["train"], resolved.training.overfit)
    pairs: dict[str, FolderSource] = {name: s for name, s in sources.items() if isinstance(s, FolderSource)}
    if fix is not None and not pairs:
        raise SegzooError("--fix copies a data set with a folder for each split, which this is not.")
    console = _console()
    with _progress(console, "reading", sum(len(source) for source in sources.values())) as done:
        findings = check_splits(
            sources,
            workers=max(1, section.workers),
            progress=done,
            rehearsals=assemble.rehearsals(resolved, sources),
        )
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
            say(console, f"{problem.split}: {problem.message}")
        if len(problems) > _PRINTED:
            say(console, f"and {len(problems) - _PRINTED:,} more of the kind {kind}, in the report")
    page = data_report.write(place)
    say(console, f"Report: {page}")
    if fix is not None:
        from segzoo.data.repair import repair

        mended = repair(pairs, findings, fix)
        say(
            console,
            f"{fix}: {mended.copied:,} pairs copied, {mended.turned:,} with the image turned, {mended.left_out:,} left "
            f"out (repair.json says why). Train on it by --set data.root={fix}",
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
    plugin: PluginOption = None,
) -> None:
    """Draw training samples as they are stored and as they are cropped and augmented, with their classes laid over."""
    from segzoo.config import load_config

    resolved = load_config(config, overrides or ())
    check_file(out)
    start_backend()
    from segzoo.training.preview import preview as draw

    draw(resolved, out, count, variants)
    say(_console(), f"Samples: {out}")


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
    """Look at images and masks, and write a configuration with the evidence for every value.

    Samples are read as the configuration says before it is written, so that check-data and train can use it. Names of
    classes and colours are taken from the files where these have them, and from labelmap.txt, _classes.csv, classes.txt
    and the like beside. data.root is relative where the data lie in the folder that init is started in.
    """
    from segzoo.propose import class_names, look, look_at_names, propose, save, try_out

    if out.suffix not in (".yaml", ".yml"):
        raise SegzooError(f"--out must end in .yaml, got {out}.")
    check_file(out)
    if out.exists() and not overwrite:
        raise SegzooError(f"{out} is there already; replace it with --overwrite, or name another by --out.")
    console = _console()
    with console.status("Looking at the masks"):
        found = look_at_names(images, masks, threshold) or look(images, masks, mask_suffix, ignore_index, threshold)
        names = [name.strip() for name in classes.split(",")] if classes is not None else None
        if names is None or len(names) == found.classes:
            try_out(found, names or class_names(found)[0], group)
    text = propose(found, names, group=group).replace("THIS_FILE", str(out))
    save(text, out, found)
    say(console, f"{found.pairs} pairs, {found.classes} classes; masks: {found.why}.")
    for remark in found.remarks:
        say(console, f"Note: {remark}")
    say(console, f"Wrote {out}. Read it, then: segzoo check-data {out}")


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
    check_file(out)
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
    say(console, text + ". For the configuration:")
    say(console, "model: " + json.dumps({**found.settings, "weights": str(out)}))


@app.command()
def backbones(
    name: Annotated[str | None, typer.Argument(help="Show this backbone's taps.")] = None,
    size: Annotated[str, typer.Option(help="Image size for the GFLOPs, as HEIGHTxWIDTH in pixels.")] = "256x256",
    markdown: Annotated[Path | None, typer.Option(help="Write all tables to this page instead.")] = None,
    plugin: PluginOption = None,
) -> None:
    """List the backbones with size, cost, levels and weights, or show one with its documented taps."""
    from segzoo.backbones import BACKBONES, listing
    from segzoo.files import replacing

    if markdown is not None:
        check_file(markdown)
        with replacing(markdown) as temporary:
            temporary.write_text(listing.page(), encoding="utf-8")
        return
    if name is not None:
        BACKBONES.check(name)
    rows = [row for row in listing.overview(_size(size) or (0, 0)) if name in (None, row[0])]
    _console().print(_table(listing.OVERVIEW, rows, f"GFLOPs at {size}", right=range(1, 8)))
    if name is not None:
        for remark in listing.remarks(name):
            say(_console(), remark)
        for kind, taps in listing.taps(name).items():
            _console().print(_table(listing.TAPS, taps, f"{name}, {kind} taps", right=range(1, 3)))


@app.command()
def decoders(plugin: PluginOption = None) -> None:
    """List the decoders with their options and defaults."""
    start_backend()
    from segzoo.decoders import DECODERS

    rows = []
    for name in DECODERS:
        decoder = DECODERS[name]
        options = ", ".join(f"{option}={default!r}" for option, default in decoder.options().items())
        rows.append((name, options, re.split(r":\s", decoder.__doc__ or "")[0]))
    _console().print(_table(("decoder", "options", "source"), rows, "decoders", wrapped=("options", "source")))


@app.command()
def schema(
    out: Annotated[Path | None, typer.Option(help="File to write; by default the standard output.")] = None,
    plugin: PluginOption = None,
) -> None:
    """Write the JSON Schema of configurations, for editors that complete and check YAML."""
    from segzoo.config import json_schema, write_json_schema

    if out is None:
        print(json.dumps(json_schema(), indent=2))
    else:
        check_file(out)
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
        table.add_row(*map(Text, row))
    return table


def _say_device(console: Console) -> None:
    """Print the device in use, and a warning where a better one lies idle."""
    from segzoo.device import device_name, idle_card_note

    say(console, f"Device: {device_name()}")
    if note := idle_card_note():
        warn(console, note)


@contextmanager
def _progress(console: Console, words: str, total: int) -> Iterator[Callable[[int], None]]:
    """Draw a bar on a terminal while the block runs; yields what to call with the number done so far."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(words), BarColumn(bar_width=None), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(words, total=total)
        yield lambda done: bar.update(task, completed=done)


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    sides = re.fullmatch(r"0*([1-9][0-9]{0,4})x0*([1-9][0-9]{0,4})", text, re.IGNORECASE)
    if sides is None:
        raise SegzooError(
            f"--size must be HEIGHTxWIDTH in pixels, such as 512x768, each 1 to 99999, got {shortened(text)}."
        )
    return int(sides[1]), int(sides[2])


if __name__ == "__main__":
    main()
