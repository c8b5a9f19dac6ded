"""The command line: `segzoo train | evaluate | predict | export | check-data | weights | backbones | decoders`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer
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


@app.command()
def evaluate(
    run: RunArgument,
    split: Annotated[Literal["train", "val"], typer.Option(help="Which split to evaluate on.")] = "val",
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
    batches = assemble.eval_batches(opened.config, assemble.build_source(opened.config, split))
    calibration = Calibration(ignore_index=ignored)
    found = measure(
        opened.model(weights),
        batches,
        len(opened.classes),
        ignored,
        loss=opened.loss(),
        target=assemble.target_maker(opened.config),
        worst=10,
        calibration=calibration,
    )
    _console().print(class_table(found.confusion, opened.classes, f"{split} split, {weights} weights"))
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
    )
    page = report.write(opened.folder.path / f"evaluation_{split}_{weights}")
    _console().print(f"Report: {page}", highlight=False, soft_wrap=True)


@app.command()
def predict(
    run: RunArgument,
    images: Annotated[Path, typer.Argument(help="An image or a folder of images.")],
    out: Annotated[Path, typer.Option(help="Folder for the class maps and overlays.")],
    weights: WeightsOption = "best",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that are there.")] = False,
) -> None:
    """Predict new images: for each a PNG of class indices and a coloured overlay."""
    start_backend()
    from segzoo.inference.predictor import Predictor, find_images
    from segzoo.training import load_run

    opened = load_run(run)
    paths = find_images(images)
    predictor = Predictor(opened.model(weights))
    root = images if images.is_dir() else None
    summary = predictor.predict_files(paths, out, opened.palette, opened.classes, root=root, overwrite=overwrite)
    _console().print(str(summary), highlight=False, soft_wrap=True)
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
        opened.model(weights), out or opened.folder.path / "export", format, output=output, image_size=_size(size)
    )
    _console().print(str(report), highlight=False, soft_wrap=True)


@app.command("check-data")
def check_data(
    config: Annotated[str, typer.Argument(help="YAML file, or the name of a recipe.")],
    overrides: SetOption = None,
) -> None:
    """Read every sample of both splits once and list what is wrong; exit code 1 where something is."""
    from segzoo.config import load_config
    from segzoo.data import check_source
    from segzoo.training import assemble

    resolved = load_config(config, overrides or ())
    console, bad = _console(), False
    for split in ("train", "val"):
        source = assemble.build_source(resolved, split)
        report = check_source(source, workers=max(1, resolved.data.workers))
        bad = bad or not report.ok
        table = Table(title=f"{split}: {report.samples} samples, {len(report.problems)} problems", title_justify="left")
        table.add_column("class")
        table.add_column("samples", justify="right")
        table.add_column("pixels", justify="right")
        for name, pixels in report.pixels.items():
            table.add_row(name, f"{report.images[name]:,}", f"{pixels:,}")
        table.add_row("ignored", "", f"{report.ignored:,}")
        console.print(table)
        for problem in report.problems:
            console.print(problem.message, highlight=False, soft_wrap=True, markup=False)
    if bad:
        raise typer.Exit(1)


weights_app = typer.Typer(help="Weights files.", no_args_is_help=True)
app.add_typer(weights_app, name="weights")


@weights_app.command("convert")
def convert_weights(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of save_pretrained, safetensors file, or state dict.")],
    out: Annotated[Path, typer.Option(help="Where to, a name that ends in .weights.h5.")],
    encoder: Annotated[
        str | None, typer.Option(help="The original's encoder, such as resnet34; a folder says it itself.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file where there is one.")] = False,
) -> None:
    """Convert a checkpoint of segmentation_models.pytorch: U-Net, FPN, DeepLabV3+ or PSPNet on ResNet, EfficientNet."""
    if not out.name.endswith(".weights.h5"):
        raise SegzooError(f"--out must end in .weights.h5, which is what segzoo reads, got {out}.")
    if out.exists() and not overwrite:
        raise SegzooError(f"{out} is there already; replace it with --overwrite.")
    start_backend()
    from segzoo.convert import convert
    from segzoo.weights import save_file

    found = convert(checkpoint, encoder)
    save_file(found.model, out)
    text = f"{out}: {len(found.model.weights)} tensors"
    if found.unused:
        text += f"; {len(found.unused)} more of the checkpoint lie behind the last feature in use"
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
            _console().print(remark, highlight=False)
        for kind, taps in listing.taps(name).items():
            _console().print(_table(listing.TAPS, taps, f"{name}, {kind} taps", right=range(1, 3)))


@app.command()
def decoders() -> None:
    """List the decoders with their options and defaults."""
    from segzoo.decoders import DECODERS

    start_backend()

    table = Table()
    for heading in ("decoder", "options", "source"):
        table.add_column(heading)
    for name in DECODERS:
        decoder = DECODERS[name]
        options = ", ".join(f"{option}={default!r}" for option, default in decoder.options().items())
        table.add_row(name, options, (decoder.__doc__ or "").partition(":")[0])
    _console().print(table)


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


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], title: str, right: Sequence[int]) -> Table:
    table = Table(title=title, title_justify="left")
    for index, heading in enumerate(headings):
        table.add_column(
            heading, no_wrap=heading in ("backbone", "layer"), justify="right" if index in right else "left"
        )
    for row in rows:
        table.add_row(*row)
    return table


def _console() -> Console:
    return Console()


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
