"""View of a prediction as the page shows it: overlay of chosen classes, areas and confidences, files to download."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segzoo.inference.drawing import draw
from segzoo.inference.outputs import OutputOptions
from segzoo.inference.writers.contract import Prediction
from segzoo.inference.writers.table import OUTPUTS


class ClassRow(NamedTuple):
    """Class of a prediction: its name and colour, its pixels, their share of the image, and its confidence.

    The confidence is the mean probability of the class over its pixels, 0..1; None for a class without pixels, and for
    a model that gives no probabilities.
    """

    name: str
    colour: tuple[int, int, int]
    pixels: int
    share: float
    confidence: float | None


@dataclass
class View:
    """View of a predicted image.

    Attributes:
        prediction: the image, its class map, and its probabilities where the model gives them.
    """

    prediction: Prediction

    @cached_property
    def rows(self) -> list[ClassRow]:
        """A row for each class."""
        found, legend = [], self.prediction.legend
        probabilities, counted = self.prediction.probabilities, self.prediction.counted
        for label, (name, colour) in enumerate(zip(legend.names, legend.colours, strict=True)):
            where = self.prediction.where(label)
            pixels = int(where.sum())
            known = pixels > 0 and probabilities is not None
            confidence = float(probabilities[where, label].mean()) if known else None  # type: ignore[index]
            red, green, blue = map(int, colour)
            found.append(ClassRow(name, (red, green, blue), pixels, pixels / max(1, counted), confidence))
        return found

    @property
    def tinted(self) -> list[str]:
        """Classes that are tinted at first: all but the background that are in the image."""
        background = self.prediction.legend.background
        return [row.name for label, row in enumerate(self.rows) if label != background and row.pixels]

    def overlay(self, tinted: Collection[str], alpha: float) -> np.ndarray:
        """Draw the image under the colours of some classes.

        Args:
            tinted: names of classes.
            alpha: opacity of the colours, 0..1.

        Returns:
            `(H, W, 3)` uint8.
        """
        found = self.prediction
        shown = [label for label, name in enumerate(found.legend.names) if name in tinted]
        return draw(
            found.image,
            found.class_map,
            found.legend,
            valid=found.valid,
            shown=shown,
            alpha=alpha,
            contours=alpha > 0,
        )

    def table(self) -> str:
        """Return the classes as an HTML table, with a swatch of each colour."""
        lines = []
        for row in sorted(self.rows, key=lambda row: -row.pixels):
            confidence = "" if row.confidence is None else f"{row.confidence:.3f}"
            swatch = f'<span style="background: rgb{row.colour}; padding: 0 .6em; margin-right: .5em"></span>'
            cells = (f"{swatch}{escape(row.name)}", f"{row.pixels:,}", f"{row.share:.1%}", confidence)
            lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
        head = "".join(f"<th>{title}</th>" for title in ("Class", "Pixels", "Share", "Mean confidence"))
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"

    def write(self, name: str, folder: Path) -> Path:
        """Write the file of an output as `segzoo predict` does, and return it.

        Args:
            name: an output of one file for each image, such as "classes" or "polygons".
            folder: where it is written.

        Raises:
            StorageError: it cannot be written.
        """
        prediction = self.prediction
        (path,) = OUTPUTS[name](folder, prediction.legend, OutputOptions([name])).write(prediction)
        return path
