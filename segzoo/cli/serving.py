"""Commands that serve a model: serve, for programs, and demo, a page to try it on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from segzoo import workflows
from segzoo.cli import options
from segzoo.terminal import new_console, say, warn

if TYPE_CHECKING:
    from segzoo.workflows.serving import Serving

_Host = Annotated[
    str, typer.Option(help="Interface to listen on; by default only this machine is answered. There is no login.")
]
_Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")]
_MaxBytes = Annotated[int, typer.Option(min=1, help="Most bytes of a request.")]


def _command(name: Literal["serve", "demo"], default_port: int, what: str) -> Callable[..., None]:
    """Return the command of one of the servers, which differ by their port and what they show."""

    def command(
        run: options.ModelArgument,
        host: _Host = "127.0.0.1",
        port: _Port = default_port,
        max_bytes: _MaxBytes = 32 * 2**20,
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
        start = workflows.serve if name == "serve" else workflows.demo
        start(
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
            started=_teller(new_console()),
        )

    command.__doc__ = (
        f"{what}; see docs/serve.md.\n\nCtrl-C or SIGTERM stops the server after the requests that it has."
    )
    return command


serve = _command("serve", 8000, "Serve predictions over HTTP: POST an image to /predict")
demo = _command("demo", 7860, "Serve a page to try the model on: drop an image, see its classes")


def _teller(console: Console) -> Callable[[Serving], None]:
    """Return a function that prints where a server that has started is reached."""

    def tell(serving: Serving) -> None:
        say(console, str(serving))
        if not serving.private:
            warn(console, "Everybody who reaches this machine can send images: there is no login and no encryption.")

    return tell
