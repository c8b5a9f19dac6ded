"""Commands on trained models and weights: predict, weights convert."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from segzoo import backend, workflows
from segzoo.cli import options
from segzoo.cli.display import progress_bar
from segzoo.errors import SegzooError, shortened
from segzoo.files import check_file
from segzoo.terminal import new_console, say, warn


def predict(
    run: options.ModelArgument,
    images: Annotated[
        list[str],
        typer.Argument(
            help="Images, videos, folders of them or quoted patterns such as 'photos/*.png'; - for paths on standard "
            "input, one a line or parted by NUL.",
            metavar="IMAGES...",
        ),
    ],
    out: Annotated[Path, options.out("a folder for the results")],
    output: Annotated[
        str,
        options.output(
            "one or more of classes, overlay, probabilities, uncertainty, objects, polygons, coco and table, with "
            "commas between (docs/predict.md)"
        ),
    ] = "classes,overlay",
    probabilities: Annotated[
        Literal["all", "top"], typer.Option(help="Probabilities to write: of all classes, or of the top one alone.")
    ] = "all",
    uncertainty: Annotated[
        Literal["entropy", "disagreement"],
        typer.Option(
            help="Measure of uncertainty: entropy of the probabilities, or disagreement of the members of an ensemble."
        ),
    ] = "entropy",
    coordinates: Annotated[
        Literal["auto", "crs", "wgs84", "pixels"],
        typer.Option(
            help="Coordinates of polygons: those of the image's CRS and pixels without one (auto), the CRS or an error "
            "(crs), longitude and latitude (wgs84), or pixels."
        ),
    ] = "auto",
    min_area: Annotated[
        int, typer.Option(min=1, help="Pixels of the smallest object, for objects, polygons, coco and table.")
    ] = 1,
    fill_holes: Annotated[
        int, typer.Option(min=0, help="Pixels of the largest hole in an object that is filled, for the same outputs.")
    ] = 0,
    georeference: Annotated[bool, typer.Option(help="Write GeoTIFFs for GeoTIFFs, with their place on Earth.")] = True,
    alpha: Annotated[float, typer.Option(min=0, max=1, help="Opacity of the colours in overlays.")] = 0.5,
    contours: Annotated[bool, typer.Option(help="Draw contours of regions in overlays.")] = True,
    legend: Annotated[
        bool, typer.Option(help="Draw a legend below overlays, of the classes that the image shows.")
    ] = True,
    ensemble: options.EnsembleOption = None,
    tta: options.TtaOption = None,
    tile: Annotated[int | None, options.tile("1024 for images above 2048 x 2048, 512 by windows")] = None,
    overlap: options.OverlapOption = None,
    batch: options.BatchOption = 1,
    device: options.DeviceOption = None,
    weights: options.WeightsOption = "best",
    saved: options.SavedOption = False,
    threshold: options.ThresholdOption = None,
    overrides: options.SetOption = None,
    plugin: options.PluginOption = None,
    overwrite: options.OverwriteOption = False,
    max_pixels: options.MaxPixelsOption = None,
) -> None:
    """Predict new images: for each a class map and an overlay, or other outputs (--output)."""
    from segzoo.inference.outputs import OutputOptions

    console = new_console()
    wanted = OutputOptions(
        output.split(","),
        probabilities=probabilities,
        uncertainty=uncertainty,
        coordinates=coordinates,
        min_area=min_area,
        fill_holes=fill_holes,
        georeference=georeference,
        alpha=alpha,
        contours=contours,
        legend=legend,
    )
    with progress_bar(console, "predicting", device or True, "images") as progress:
        summary = workflows.predict(
            [run, *(ensemble or ())],
            _listed(images),
            out,
            weights=weights,
            overrides=overrides or (),
            saved=saved,
            tta=tta,
            tile=tile,
            overlap=overlap,
            batch=batch,
            device=device,
            threshold=options.parsed_threshold(threshold),
            outputs=wanted,
            overwrite=overwrite,
            max_pixels=max_pixels,
            progress=progress,
        )
    say(console, str(summary))
    if summary.failed:
        raise typer.Exit(1)


def _listed(names: Sequence[str]) -> list[str]:
    """Return paths with those on the standard input in place of "-"."""
    found = []
    for name in names:
        if name != "-":
            found.append(name)
            continue
        data = sys.stdin.buffer.read()
        parts = data.split(b"\0") if b"\0" in data else data.splitlines()
        found += [os.fsdecode(part) for part in parts if part]
    return found


def convert_weights(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of save_pretrained, safetensors file, or state dict.")],
    out: Annotated[Path, options.out("a weights file, with the ending .weights.h5")],
    network: Annotated[
        str | None,
        typer.Option(
            "--as",
            help="Of a backbone's checkpoint, the network that it is of, as LIBRARY/NAME or NAME, such as "
            "timm/tf_efficientnet_b0; needed where the tensors leave a choice.",
        ),
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(
            help="Of a backbone's checkpoint, the mean of each channel that its weights want, in pixel values, such as "
            "127.5,127.5,127.5; by default that of the library's weights."
        ),
    ] = None,
    std: Annotated[
        str | None, typer.Option(help="Standard deviation of each channel, in pixel values; given with --mean.")
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Of a whole network of segmentation_models.pytorch, its encoder, such as resnet34; not needed if a "
            "configuration states it."
        ),
    ] = None,
    checkpoint_config: Annotated[
        Path | None, typer.Option(help="The original's config.json, for a checkpoint that is a single file.")
    ] = None,
    config: Annotated[Path | None, typer.Option(hidden=True, help="Old name of --checkpoint-config.")] = None,
    overwrite: options.OverwriteOption = False,
) -> None:
    """Convert a PyTorch checkpoint to a weights file, and print the model section for it.

    Classifiers and encoders of torchvision, timm and segmentation_models.pytorch become backbones, see
    docs/checkpoints.md; of the latter, whole networks on its usual encoders become models, see docs/smp.md.
    """
    console = new_console()
    if config is not None:
        if checkpoint_config is not None:
            raise typer.BadParameter("it is the old name of --checkpoint-config; leave it out.", param_hint="--config")
        warn(console, "--config is called --checkpoint-config here: elsewhere it names a configuration of segzoo.")
        checkpoint_config = config
    if not out.name.endswith(".weights.h5"):
        raise SegzooError(f"--out must end in .weights.h5, which is what segzoo reads, got {out}.")
    check_file(out)
    if out.exists() and not overwrite:
        raise SegzooError(f"{out} is there already; replace it with --overwrite.")
    of_backbone = any(value is not None for value in (network, mean, std))
    if of_backbone and (encoder is not None or checkpoint_config is not None):
        raise SegzooError(
            "--as, --mean and --std are of a backbone's checkpoint, --encoder and --checkpoint-config of a whole "
            "network of segmentation_models.pytorch; leave those of the other kind out."
        )
    means, deviations = (_numbers(option, value) for option, value in (("--mean", mean), ("--std", std)))
    backend.start_backend()
    from segzoo.weights import save_file
    from segzoo.workflows.backbone_conversion import convert_backbone
    from segzoo.workflows.conversion import convert

    if of_backbone:
        found = convert_backbone(checkpoint, network, means, deviations)
    else:
        found = convert(checkpoint, encoder, checkpoint_config)
    save_file(found.model, out)
    text = f"{out}: {len(found.model.weights)} tensors"
    if found.unused:
        text += f"; {len(found.unused)} more of the checkpoint are not used"
    if found.assumed:
        defaults = ", ".join(f"{key} {json.dumps(value)}" for key, value in found.assumed.items())
        text += (
            f". Without a configuration (--checkpoint-config), which alone says it, it was taken to be of {defaults}"
        )
    if found.note:
        text += f". {found.note}"
    say(console, text + ". For the configuration:")
    say(console, "model: " + json.dumps({**found.settings, "weights": str(out)}))


def _numbers(option: str, text: str | None) -> list[float] | None:
    """Parse finite numbers between commas; SegzooError for other text."""
    if text is None:
        return None
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = [math.nan]
    if not all(map(math.isfinite, found)):
        raise SegzooError(
            f"{option} must be a number for each channel, such as 127.5,127.5,127.5, got {shortened(text)}."
        )
    return found
