"""Classes of a prediction: names, colours, and which of them are objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segzoo.task import Mode

_BORDER = "border"


@dataclass(frozen=True)
class Legend:
    """Classes of a prediction.

    Attributes:
        names: names of the classes; their numbers where the predictor has none.
        colours: one for each class, `(classes, 3)` uint8.
        mode: "multiclass", "binary" or "multilabel", in which classes may overlap.
        background: class that overlays leave as the image is, and that has no objects; None where there is none.
        thresholds: probabilities above which a class is predicted: one in binary mode, in multilabel one for each
            class, none in multiclass.
    """

    names: Sequence[str]
    colours: np.ndarray
    mode: Mode = "multiclass"
    background: int | None = None
    thresholds: Sequence[float] = ()

    @property
    def multilabel(self) -> bool:
        """True where classes may overlap."""
        return self.mode == "multilabel"

    def threshold(self, label: int) -> float | None:
        """Return the threshold of a class; None where it has none, as the background of binary mode."""
        if self.multilabel:
            return self.thresholds[label] if self.thresholds else None
        return self.thresholds[0] if self.thresholds and label == 1 else None

    @property
    def named_thresholds(self) -> dict[str, float]:
        """Thresholds by the names of the classes that have one."""
        found = {name: self.threshold(label) for label, name in enumerate(self.names)}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Index, name and colour of each class, and its threshold where it has one, as JSON takes them."""
        found: list[dict[str, Any]] = [
            {"index": index, "name": name, "colour": [int(value) for value in colour]}
            for index, (name, colour) in enumerate(zip(self.names, self.colours, strict=True))
        ]
        for row in found:
            if (threshold := self.threshold(row["index"])) is not None:
                row["threshold"] = threshold
        return found

    @property
    def border(self) -> int | None:
        """Class "border", which was trained to part touching objects of the others; None where there is none."""
        found = [index for index, name in enumerate(self.names) if name.strip("_ ").lower() == _BORDER]
        return found[0] if found and not self.multilabel else None

    @property
    def empty(self) -> int | None:
        """Class of pixels that belong to no object: the background, and in binary mode the first class anyway."""
        return 0 if self.background is None and self.mode == "binary" else self.background

    @property
    def foreground(self) -> list[int]:
        """Classes of objects: all but the empty one and border."""
        return [index for index in range(len(self.names)) if index not in (self.empty, self.border)]
