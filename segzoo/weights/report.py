"""Report of loaded weights."""

from __future__ import annotations

from dataclasses import dataclass, field


class WeightsWarning(UserWarning):
    """Requested pretrained weights are not available."""


@dataclass
class WeightsReport:
    """Report of loading weights; tensor names are layer paths with an index, followed by shapes where relevant.

    Attributes:
        source: "none", "imagenet", "preset:" and its name, or the file.
        loaded: loaded tensors.
        reshaped: loaded tensors that were adapted to another shape, with both shapes.
        skipped: tensors of the file that were not loaded, each with the reason.
        missing: tensors of the model that keep their initial values.
        note: text that replaces the counts in `str(report)`, or "".
    """

    source: str
    loaded: list[str] = field(default_factory=list)
    reshaped: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    note: str = ""

    def __str__(self) -> str:
        """Return one line: the source, and the note or the counts."""
        kinds = ("loaded", "reshaped", "skipped", "missing")
        counts = ", ".join(f"{len(getattr(self, kind))} {kind}" for kind in kinds)
        return f"weights {self.source}: " + (self.note or counts)
