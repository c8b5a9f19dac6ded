"""Validators of the section `model` beyond types: names by registry, arguments by signature."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Sized
from typing import Any

from segzoo.compat import resolve
from segzoo.config import stated
from segzoo.config.problems import ProblemAt, given, not_among
from segzoo.errors import SegzooError


def renamed_compat(section: Any) -> Any:
    """Rename `imitate`, the name in segzoo 0.1.0, to `compat`; raise ProblemAt if both are given and differ."""
    if not isinstance(section, Mapping) or section.get("imitate") != "smp":
        return section
    try:
        compat = resolve(section.get("compat"), section["imitate"], stacklevel=4)
    except SegzooError as error:
        raise ProblemAt(("compat",), str(error)) from None
    return {**section, "compat": compat, "imitate": None}


def decoder_options(decoder: str, options: Mapping[str, Any]) -> None:
    """Check `model.options` against the decoder's constructor; raise ProblemAt at an unknown one."""
    if not options:
        return
    known = stated.decoder_options(decoder)
    for option in options:
        if option not in known:
            raise ProblemAt(("options", option), not_among(f"option of the decoder {decoder}", option, known))


def decoder_reads(decoder: str, backbone: str, auxiliary: Sized) -> None:
    """Check that a decoder of tokens has a backbone with them, and no heads on levels; raise ProblemAt otherwise."""
    from segzoo.backbones import BACKBONES
    from segzoo.decoders.table import OF_TOKENS

    if decoder not in OF_TOKENS:
        return
    if not BACKBONES[backbone].patch:
        smallest: dict[str, str] = {}
        for name in BACKBONES:
            if BACKBONES[name].patch:
                smallest.setdefault(BACKBONES[name].family, name)
        raise ProblemAt(
            ("decoder",),
            f"{decoder} reads the tokens of a plain vision transformer, and {backbone} makes a pyramid. Take one as "
            f"the backbone, such as {', '.join(smallest.values())}, or another decoder",
        )
    if auxiliary:
        raise ProblemAt(("auxiliary",), f"{decoder} reads tokens, which have no levels for auxiliary heads")


def backbone_options(backbone: str, taps: str | None, output_stride: int | None, weights: str) -> None:
    """Check that the backbone has these taps, output stride and preset; raise ProblemAt at one that it lacks."""
    from segzoo.backbones import BACKBONES

    variant = BACKBONES[backbone]  # a table: no framework is loaded
    if taps is not None and taps not in variant.tables:
        raise ProblemAt(("taps",), not_among(f"kind of taps of {backbone}", taps, variant.tables))
    if output_stride is not None:
        try:
            variant.levels(taps, output_stride)
        except SegzooError as error:
            raise ProblemAt(("output_stride",), str(error)) from None
    if weights.startswith("preset:") and weights.removeprefix("preset:") not in variant.presets:
        preset = weights.removeprefix("preset:")
        raise ProblemAt(("weights",), not_among(f"preset of {backbone}", preset, variant.presets))


def pixel_statistics(channels: int, mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
    """Check that mean and std are given together, with one number per channel; raise ProblemAt at the invalid one."""
    if (mean is None) != (std is None):
        raise ProblemAt(("mean" if std is None else "std",), "mean and std are given together or not at all")
    for key, values in (("mean", mean), ("std", std)):
        if values is not None and len(values) != channels:
            raise ProblemAt((key,), f"has {len(values)} numbers for images of {channels} channels")


def digest(weights: str, sha256: str | None) -> None:
    """Check that `sha256` is a SHA-256 digest and that `weights` is a file; raise ProblemAt otherwise."""
    if sha256 is None:
        return
    if not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ProblemAt(("weights_sha256",), f"must be 64 hexadecimal digits, got {given(sha256)}")
    if weights in ("auto", "imagenet", "none") or weights.startswith("preset:"):
        raise ProblemAt(("weights_sha256",), f"belongs to a weights file, but weights is {weights}")
