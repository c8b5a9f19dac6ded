"""The tables of backbones that the command line prints and docs/backbones.md holds; no framework is loaded."""

from __future__ import annotations

from segzoo.backbones import BACKBONES, names
from segzoo.backbones.figures import SIZE, figures
from segzoo.levels import LEVELS

OVERVIEW = ("backbone", "parameters", "GFLOPs", *LEVELS, "output strides", "weights")
TAPS = ("level", "stride", "channels", "layer", "what it is")


def overview(size: tuple[int, int] = SIZE) -> list[list[str]]:
    """A row of `OVERVIEW` for each backbone: millions of parameters, GFLOPs at `size`, channels of the default taps."""
    rows = []
    for name in names():
        variant, found = BACKBONES[name], figures(name, size)
        channels = {level: str(tap.channels) for level, tap in variant.levels().items()}
        rows.append(
            [
                name,
                f"{found.parameters / 1e6:.1f} M",
                f"{found.gflops:.1f}",
                *(channels.get(level, "") for level in LEVELS),
                "32" if variant.undilated else "8, 16, 32",
                "imagenet" if variant.published else "convert",
            ]
        )
    return rows


def taps(name: str) -> dict[str, list[list[str]]]:
    """Kind of taps of a backbone, the default first, to rows of `TAPS`."""
    return {
        kind: [[tap.level or "", str(tap.stride), str(tap.channels), tap.layer, tap.reason] for tap in table]
        for kind, table in BACKBONES[name].tables.items()
    }


def remarks(name: str) -> list[str]:
    """What is peculiar about a backbone, in sentences."""
    variant = BACKBONES[name]
    undilated = f"Output stride 32 only: {variant.undilated}" if variant.undilated else ""
    return [remark for remark in (variant.quirk, undilated) if remark]


def page() -> str:
    """Return docs/backbones.md."""
    lines = [
        "# Backbones",
        "",
        "Written by `segzoo backbones --markdown docs/backbones.md`; tests compare the taps with the networks of",
        "keras.applications. Parameters are those of the backbone cut at its deepest default tap, GFLOPs (two for each",
        f"multiply-add) for one image of {SIZE[0]}x{SIZE[1]}, P1 to P5 the channels of the default taps.",
        "",
        *_table(OVERVIEW, overview()),
    ]
    for name in names():
        lines += ["", f"## {name}", ""]
        lines += [line for remark in remarks(name) for line in (remark, "")]
        for kind, rows in taps(name).items():
            default = ", the default" if len(taps(name)) > 1 and kind == next(iter(taps(name))) else ""
            lines += [f"Taps `{kind}`{default}:", "", *_table(TAPS, rows), ""]
        lines.pop()
    return "\n".join(lines) + "\n"


def _table(headings: tuple[str, ...], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (headings, ["---"] * len(headings), *rows)]
