"""Command that shares a run: push."""

from __future__ import annotations

from typing import Annotated

import typer

from segzoo import workflows
from segzoo.cli import options
from segzoo.terminal import new_console, say


def push(
    run: options.RunArgument,
    address: Annotated[
        str,
        typer.Argument(
            help="hf://USER/NAME, kaggle://OWNER/MODEL/FRAMEWORK/VARIATION, or a folder.", metavar="ADDRESS"
        ),
    ],
    weights: options.WeightsOption = "best",
    license: Annotated[
        str | None,
        typer.Option(help="Licence: as the hub spells it, mit or apache-2.0 on Hugging Face, MIT on Kaggle."),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Make a new repository private; Kaggle makes all new ones private.")
    ] = False,
    revision: Annotated[
        str | None, typer.Option(help="Branch of a Hugging Face repository, which is made if it is not there.")
    ] = None,
    message: Annotated[str | None, typer.Option(help="Message of the commit or version.")] = None,
    overrides: options.SetOption = None,
    plugin: options.PluginOption = None,
    overwrite: options.OverwriteOption = False,
) -> None:
    """Push a run's configuration, weights and model card to a hub or a folder; see docs/hub.md.

    The login is the hub's own: hf auth login, or kagglehub.login(). predict, evaluate, export, training.init_from and
    model.weights take the same addresses.
    """
    found = workflows.push(
        run,
        address,
        weights=weights,
        license=license,
        private=private,
        revision=revision,
        message=message,
        overwrite=overwrite,
        overrides=overrides or (),
    )
    say(new_console(), str(found))
