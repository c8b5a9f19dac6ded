"""Command that serves a model: serve."""

from __future__ import annotations

from typing import Annotated

import typer

from segzoo import workflows
from segzoo.cli import options
from segzoo.terminal import new_console, say, warn
from segzoo.workflows.serving import Serving


def serve(
    run: options.ModelArgument,
    host: Annotated[
        str, typer.Option(help="Interface to listen on; by default only this machine is answered. There is no login.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8000,
    max_bytes: Annotated[int, typer.Option(min=1, help="Most bytes of a request.")] = 32 * 2**20,
    max_pixels: options.MaxPixelsOption = None,
    ensemble: options.EnsembleOption = None,
    tta: options.TtaOption = None,
    tile: Annotated[int | None, options.tile("1024 for images above 2048 x 2048")] = None,
    overlap: options.OverlapOption = None,
    batch: options.BatchOption = 4,
    device: options.DeviceOption = None,
    weights: options.WeightsOption = "best",
    saved: options.SavedOption = False,
    threshold: options.ThresholdOption = None,
    overrides: options.SetOption = None,
    plugin: options.PluginOption = None,
) -> None:
    """Serve predictions over HTTP: POST an image to /predict; see docs/serve.md.

    Ctrl-C or SIGTERM stops the server after the requests that it has.
    """
    console = new_console()

    def started(serving: Serving) -> None:
        say(console, str(serving))
        if not serving.private:
            warn(console, f"Everybody who reaches {host} can send images: there is no login and no encryption.")

    workflows.serve(
        [run, *(ensemble or ())],
        host,
        port,
        max_bytes=max_bytes,
        max_pixels=max_pixels,
        batch=batch,
        weights=weights,
        overrides=overrides or (),
        saved=saved,
        tta=tta,
        tile=tile,
        overlap=overlap,
        device=device,
        threshold=options.parsed_threshold(threshold),
        started=started,
    )
