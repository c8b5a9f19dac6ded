"""Options and arguments that commands share: one name, one meaning and one help text each.

Where a shared option differs by command, as the place that `--out` writes to does, its help says so after a colon.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from segzoo import plugins
from segzoo.errors import SegzooError, shortened


def _load_plugins(names: list[str] | None) -> list[str] | None:
    plugins.load(names or ())
    return names


def out(what: str) -> Any:
    """Return the option --out; `what` describes the output and its default place."""
    return typer.Option("--out", help=f"Where to write: {what}.")


def size(what: str) -> Any:
    """Return the option --size; `what` describes the object of that size."""
    return typer.Option("--size", help=f"Height and width as HEIGHTxWIDTH in pixels: {what}.")


def tile(default: str) -> Any:
    """Return the option --tile; `default` says what is tiled without it."""
    return typer.Option(
        "--tile",
        min=0,
        help=f"Side of the tiles that larger images are computed in, a multiple of 32, or 0: by default {default}.",
    )


def output(what: str) -> Any:
    """Return the option --output; `what` lists what there is to choose from."""
    return typer.Option("--output", help=f"What comes out: {what}.")


ConfigArgument = Annotated[str | None, typer.Argument(help="YAML file, or the name of a recipe.", metavar="CONFIG")]
ConfigOption = Annotated[
    str | None, typer.Option("--config", "-c", help="Same as the argument CONFIG.", metavar="CONFIG")
]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Override one key: a.b=value. May be repeated.")]
PluginOption = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        callback=_load_plugins,
        is_eager=True,
        help="Your own Python module that registers decoders, losses and the like. May be repeated.",
    ),
]
ModelArgument = Annotated[
    str,
    typer.Argument(
        help="A run folder, as printed by train, an address such as hf://user/name, a file or folder that export "
        "wrote, or a run's model.keras.",
        metavar="RUN",
    ),
]
EnsembleOption = Annotated[
    list[str] | None,
    typer.Option(
        "--ensemble", help="Another run or model file, whose probabilities are averaged with RUN's. May be repeated."
    ),
]
TtaOption = Annotated[
    str | None,
    typer.Option(
        "--tta",
        help="Test-time augmentation, logits averaged: mirror (left-right), flips, d4 (turns and flips), scales (0.75, "
        "1, 1.25), or one of them with scales, as mirror+scales.",
        metavar="VIEWS",
    ),
]
OverlapOption = Annotated[
    int | None,
    typer.Option(
        "--overlap", min=0, help="Pixels that neighbouring tiles share, a multiple of 32; by default a quarter."
    ),
]
BatchOption = Annotated[
    int,
    typer.Option("--batch", min=1, help="Most images of one size, or tiles of an image, that are computed at once."),
]
DeviceOption = Annotated[
    str | None, typer.Option("--device", help="Device that computes, such as CPU or GPU:1; by default the first GPU.")
]
RunArgument = Annotated[
    str, typer.Argument(help="A run folder, as printed by train, or an address such as hf://user/name.", metavar="RUN")
]
WeightsOption = Annotated[Literal["best", "last"], typer.Option("--weights", help="Weights of the run to use.")]
SavedOption = Annotated[
    bool,
    typer.Option(
        "--saved-model",
        help="Take the run's model.keras, rather than rebuild the network from the configuration: for a run whose "
        "network was given to it. Keras builds what the file describes, so take it of runs that you trust.",
    ),
]
ThresholdOption = Annotated[
    list[str] | None,
    typer.Option(
        "--threshold",
        metavar="P|CLASS=P",
        help="Threshold: the probability above which a class is predicted in binary and multilabel mode, for all "
        "classes or for one. Repeated it is for all and exceptions: 0.2, then road=0.3. By default what evaluate "
        "--tune-threshold stored with the weights, or 0.5.",
    ),
]
SplitOption = Annotated[
    Literal["train", "val", "test"],
    typer.Option("--split", help="Split to evaluate on; for test, see data.test_split."),
]
DataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="Configuration whose data to evaluate on, of the same classes: a YAML file or the name of a recipe; by "
        "default the run's.",
        metavar="CONFIG",
    ),
]
MaxPixelsOption = Annotated[
    int | None,
    typer.Option(
        "--max-pixels",
        min=1,
        help="Maximum number of pixels of an image that is read whole, to protect memory; by default data.max_pixels "
        "of the run. predict reads larger TIFFs by windows.",
    ),
]
ReportOption = Annotated[
    Path | None, typer.Option("--report", help="Folder for the report: by default in the folder of the run or runs.")
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace existing output.")]


def one_config(argument: str | None, option: str | None) -> str:
    """Return the configuration that was named; a usage error, exit code 2, where none was or two were."""
    given = [name for name in (argument, option) if name is not None]
    if len(given) != 1:
        reason = f"it was given twice, as {argument} and by --config {option}" if given else "it is missing"
        raise typer.BadParameter(f"{reason}. It is a YAML file, or the name of a recipe.", param_hint="CONFIG")
    return given[0]


def parsed_threshold(texts: list[str] | None) -> float | dict[str, float] | None:
    """Read --threshold: one number, or numbers by the names of classes, "*" for all others; or raise SegzooError."""
    if not texts:
        return None
    pairs = [text.rpartition("=") if "=" in text else ("*", "", text) for text in texts]
    try:
        found = {name.strip(): float(value) for name, _, value in pairs}
    except ValueError:
        found = {}
    if len(found) < len(texts) or "" in found:
        raise SegzooError(
            "--threshold must be a number for all classes, such as 0.4, at most once, and CLASS=NUMBER for exceptions, "
            f"once for each class, such as road=0.3; got {' and '.join(map(shortened, texts))}."
        )
    return found["*"] if list(found) == ["*"] else found


def parsed_size(text: str | None) -> tuple[int, int] | None:
    """Read --size; SegzooError where it is not HEIGHTxWIDTH."""
    if text is None:
        return None
    sides = re.fullmatch(r"0*([1-9][0-9]{0,4})x0*([1-9][0-9]{0,4})", text, re.IGNORECASE)
    if sides is None:
        raise SegzooError(
            f"--size must be HEIGHTxWIDTH in pixels, such as 512x768, each 1 to 99999, got {shortened(text)}."
        )
    return int(sides[1]), int(sides[2])
