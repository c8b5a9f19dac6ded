"""Table of where the time of a training loop goes, for the screen, a run's summary and its JSON file."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from rich.table import Table

# Parts of a step and of an evaluation, as the table names them.
WAITING = "waiting for batches"
COMPUTING = "forward pass, gradients, update, mean loss"
CALLBACKS = "callbacks"
BETWEEN = "between two steps"
READING = "reading"
AUGMENTING = "augmenting"
TARGETS = "targets of the loss"
FIRST_BATCH = "first batch, which may build a graph"
FORWARD = "forward pass of the others"
LOSS = "loss"
METRICS = "confusion matrix, pictures, what is left"

HEADING = ("part", "ms", "share")


@dataclass(frozen=True)
class TimeTable:
    """Times of the parts of a training loop.

    Attributes:
        steps: number of steps measured.
        step: seconds of a step by part, means over the steps; they follow each other.
        making: seconds of making a batch by part, a mean over the batches made meanwhile; threads do it beside the
            steps, so that it costs a step only what it waits.
        copying: seconds of a copy of a batch to the framework, timed by itself; None where there was no batch.
        evaluation: seconds of the last evaluation by part.
        backend: name of the framework.
        note: remark on the trace.
    """

    steps: int
    step: dict[str, float] = field(default_factory=dict)
    making: dict[str, float] = field(default_factory=dict)
    copying: float | None = None
    evaluation: dict[str, float] = field(default_factory=dict)
    backend: str = ""
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the table as JSON takes it."""
        return asdict(self)

    def sections(self) -> list[tuple[str, list[tuple[str, str, str]]]]:
        """Return the sections, (title, rows of part, milliseconds and share of the section), without empty ones."""
        copying = {} if self.copying is None else {f"copying to {self.backend}, timed alone": self.copying}
        found = [
            (f"Training step, mean of {self.steps}", self.step),
            ("Making a batch meanwhile, time of its threads", {**self.making, **copying}),
            ("Evaluation, the last one", self.evaluation),
        ]
        return [(title, _rows(parts)) for title, parts in found if parts]

    def on_screen(self) -> Table:
        """Return the table for a console."""
        table = Table(title="Where the time goes", title_justify="left", caption=self.caption, caption_justify="left")
        for place, name in enumerate(HEADING):
            table.add_column(name, justify="right" if place else "left")
        for title, rows in self.sections():
            table.add_section()
            table.add_row(title, style="bold")
            for part, milliseconds, share in rows:
                table.add_row(f"  {part}", milliseconds, share)
        return table

    @property
    def caption(self) -> str:
        """Remarks below the table."""
        few = "" if self.steps else "No step was measured: the run has too few. "
        return f"{few}{self.note}".strip()


def _rows(parts: dict[str, float]) -> list[tuple[str, str, str]]:
    whole = sum(parts.values())
    rows = [(part, f"{1000 * seconds:,.1f}", _share(seconds, whole)) for part, seconds in parts.items()]
    return [*rows, ("all", f"{1000 * whole:,.1f}", _share(whole, whole))]


def _share(seconds: float, whole: float) -> str:
    return f"{100 * seconds / whole:.0f} %" if whole else "n/a"
