"""Tables of backbones for the command line and docs/backbones.md; no framework is loaded."""

from __future__ import annotations

from collections.abc import Callable

from segzoo.backbones import BACKBONES, names
from segzoo.backbones.figures import SIZE, figures, is_measured
from segzoo.backbones.spec import Variant
from segzoo.extras import index_command, install_command
from segzoo.interop.smp_tensors import ENCODERS
from segzoo.levels import LEVELS

OVERVIEW = ("backbone", "params", "GFLOPs", *LEVELS, "strides", "weights")
# Found by building ViTBackbone and DINOV2Backbone of keras-hub 0.32 and calling them at other sizes.
_ABSENT = (
    "There is no plain ViT, and so no DPT decoder (Ranftl et al., 2021), which reads one at several depths. keras-",
    "hub's `ViTBackbone` refuses an image size of None, takes only the size that it was built for, and has a learnt",
    "position for each patch of it, which it does not interpolate: 197 at 224x224, 577 at 384x384, and weights of the",
    "one do not load into the other. `DINOV2Backbone` interpolates its positions once, when it is built, for square",
    "images of one size. A backbone of segzoo takes any size: positions would have to be interpolated in the graph,",
    "by custom layers, which segzoo does not have.",
)
TAPS = ("level", "stride", "channels", "layer", "what it is")


def overview(size: tuple[int, int] = SIZE) -> list[list[str]]:
    """Return a row of `OVERVIEW` per backbone: millions of parameters, GFLOPs at `size`, channels of default taps."""
    rows = []
    for name in names():
        variant, found = BACKBONES[name], figures(name, size) if is_measured(name) else None
        channels = {level: str(tap.channels) for level, tap in variant.levels().items()}
        rows.append(
            [
                name,
                f"{found.parameters / 1e6:.1f} M" if found else "",
                f"{found.gflops:.1f}" if found else "",
                *(channels.get(level, "") for level in LEVELS),
                "32" if variant.undilated else "8, 16, 32",
                _weights(variant),
            ]
        )
    return rows


def _weights(variant: Variant) -> str:
    """Return the kind of pretrained weights of a variant: "preset", "imagenet", "pip", "convert" or ""."""
    if variant.presets:
        return "preset"
    if variant.package:
        return ""
    if variant.weights_extra:
        return "pip"
    if variant.published:
        return "imagenet"
    return "convert" if variant.name in ENCODERS.values() else ""


def taps(name: str) -> dict[str, list[list[str]]]:
    """Map each kind of taps of a backbone, the default first, to rows of `TAPS`."""
    return {
        kind: [[tap.level or "", str(tap.stride), str(tap.channels), tap.layer, tap.reason] for tap in table]
        for kind, table in BACKBONES[name].tables.items()
    }


def remarks(name: str, install: Callable[[str], str] = install_command) -> list[str]:
    """List the peculiarities of a backbone, a sentence each; `install` formats the command that installs an extra."""
    variant = BACKBONES[name]
    undilated = f"Output stride 32 only: {variant.undilated}" if variant.undilated else ""
    package = f"Built by {variant.package}: {install(variant.package)}." if variant.package else ""
    presets = ", ".join(f"preset:{preset}" for preset in variant.presets)
    presets = f"Weights: {presets}; imagenet takes the first." if presets else ""
    extra = f"ImageNet weights: {install(variant.weights_extra)}." if variant.weights_extra else ""
    return [remark for remark in (package, presets, extra, variant.quirk, undilated) if remark]


def page() -> str:
    """Return docs/backbones.md."""
    lines = [
        "# Backbones",
        "",
        "Written by `segzoo backbones --markdown docs/backbones.md`; tests compare the taps with the networks of",
        "keras.applications, keras-cv (`kcv_`) and keras-hub (`hub_`). Parameters are those of the backbone cut at its",
        "deepest default tap, P1 to P5 the channels of the default taps, GFLOPs (two for each multiply-add) for one",
        f"image of {SIZE[0]}x{SIZE[1]}; strides are the output strides to choose from. Weights: `imagenet` from",
        "keras.applications; `pip`, `imagenet` from a package that an extra installs; `preset`, which keras-cv or",
        "keras-hub fetches; `convert`, a file made by `segzoo weights convert`.",
        "",
        *_table(OVERVIEW, overview()),
        "",
        *_ABSENT,
    ]
    for name in names():
        lines += ["", f"## {name}", ""]
        lines += [line for remark in remarks(name, index_command) for line in (remark, "")]
        for kind, rows in taps(name).items():
            default = ", the default" if len(taps(name)) > 1 and kind == next(iter(taps(name))) else ""
            lines += [f"Taps `{kind}`{default}:", "", *_table(TAPS, rows), ""]
        lines.pop()
    return "\n".join(lines) + "\n"


def _table(headings: tuple[str, ...], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (headings, ["---"] * len(headings), *rows)]
