"""Listing commands: backbones, decoders, schema."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segzoo import backend
from segzoo.cli import options
from segzoo.cli.display import listing_table
from segzoo.files import check_file, replacing
from segzoo.terminal import new_console, say

if TYPE_CHECKING:
    from segzoo.registry import Registry


def backbones(
    name: Annotated[str | None, typer.Argument(help="Show this backbone's taps.")] = None,
    size: Annotated[str, options.size("that of the images, for the GFLOPs")] = "256x256",
    markdown: Annotated[Path | None, typer.Option(help="Write all tables to this file instead.")] = None,
    plugin: options.PluginOption = None,
) -> None:
    """List the backbones with size, cost, levels and weights, or show one with its documented taps."""
    from segzoo.backbones import BACKBONES, listing

    if markdown is not None:
        check_file(markdown)
        with replacing(markdown) as temporary:
            temporary.write_text(listing.page(), encoding="utf-8")
        return
    if name is not None:
        BACKBONES.check(name)
    console = new_console()
    rows = [row for row in listing.overview(options.parsed_size(size) or (0, 0)) if name in (None, row[0])]
    console.print(listing_table(listing.OVERVIEW, rows, f"GFLOPs at {size}", right=range(1, 8)))
    if name is not None:
        for remark in listing.remarks(name):
            say(console, remark)
        for kind, taps in listing.taps(name).items():
            console.print(listing_table(listing.TAPS, taps, f"{name}, {kind} taps", right=range(1, 3)))


def decoders(plugin: options.PluginOption = None) -> None:
    """List the decoders with their options and defaults."""
    from segzoo.decoders.table import DECODERS

    rows = []
    for name in DECODERS:
        doc, defaults = _declared(DECODERS, name)
        taken = ", ".join(f"{option}={default!r}" for option, default in defaults.items())
        rows.append((name, taken, re.split(r":\s", doc)[0]))
    new_console().print(
        listing_table(("decoder", "options", "source"), rows, "decoders", wrapped=("options", "source"))
    )


def _declared(decoders: Registry, name: str) -> tuple[str, dict[str, Any]]:
    """Return docstring and options of a decoder; for one from outside it is imported, and the framework with it."""
    from segzoo.declared import UndeclaredError, declared

    try:
        found = declared(decoders, name, "Decoder")
    except UndeclaredError:
        backend.start_backend()
        decoder = decoders[name]
        return decoder.__doc__ or "", decoder.options()
    return found.doc, found.defaults


def schema(
    out: Annotated[Path | None, options.out("a file; by default the standard output")] = None,
    plugin: options.PluginOption = None,
) -> None:
    """Write the JSON Schema of configurations, for editors that complete and check YAML."""
    from segzoo.config import json_schema, write_json_schema

    if out is None:
        print(json.dumps(json_schema(), indent=2))
    else:
        check_file(out)
        write_json_schema(out)
