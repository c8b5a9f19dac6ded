"""What a backbone variant documents about itself: its taps, its preprocessing and where its network comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from segzoo.errors import unknown_name
from segzoo.levels import levels_at


@dataclass(frozen=True)
class Tap:
    """One place where features leave the network.

    Attributes:
        layer: name of the layer in the reference network.
        stride: input pixels per feature pixel.
        channels: channels of the feature map.
        level: "P1" to "P5" where this tap serves that level, else None (documented, but not used by decoders).
        reason: what the tap is, in the paper's terms.
    """

    layer: str
    stride: int
    channels: int
    level: str | None
    reason: str


@dataclass(frozen=True)
class Pixels:
    """How a network wants its pixels: `(x * scale - mean) / std` for x in 0..255."""

    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Variant:
    """One backbone variant.

    Attributes:
        name: public name.
        constructor: name of the constructor in keras.applications.
        pixels: preprocessing of the pretrained weights.
        tables: kind of taps to its table, first the default kind.
    """

    name: str
    constructor: str
    pixels: Pixels
    tables: Mapping[str, tuple[Tap, ...]]

    def tap_table(self, kind: str | None = None) -> tuple[Tap, ...]:
        """Return the table of the given kind, or of the default kind; UnknownNameError lists the kinds."""
        kind = kind or next(iter(self.tables))
        if kind not in self.tables:
            raise unknown_name(f"kind of taps of {self.name}", kind, self.tables)
        return self.tables[kind]

    def levels(self, kind: str | None = None, output_stride: int = 32) -> dict[str, Tap]:
        """Level to tap. With output stride 16 or 8 the deepest tap serves P4 or P3, and the levels end there.

        Raises:
            SegzooError: an output stride other than 8, 16 and 32.
        """
        *upper, last = levels_at(output_stride)
        table = {tap.level: tap for tap in self.tap_table(kind) if tap.level}
        return {**{level: table[level] for level in upper}, last: table["P5"]}
