"""Predictor as those see it who feed it images of files, and what it finds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from segzoo.data.images import ImageReader, ReadWindow
from segzoo.inference.network import Network
from segzoo.inference.tiling import Tiling, Window
from segzoo.task import Mode


class Found(NamedTuple):
    """Prediction of an image, or of a window of one.

    Attributes:
        class_map: class of each pixel, as `Predictor.predict` returns it.
        probabilities: `(H, W, classes)` float32; None where they were not wanted.
        disagreement: of the members of an ensemble, `(H, W)` float32, 0..1; None where it was not wanted.
    """

    class_map: np.ndarray
    probabilities: np.ndarray | None = None
    disagreement: np.ndarray | None = None


class Predicts(Protocol):
    """Part of a `Predictor` that prediction of files needs."""

    network: Network
    mode: Mode
    thresholds: tuple[float, ...] | None
    reader: ImageReader

    @property
    def window_tiling(self) -> Tiling | None:
        """Size and overlap of tiles of images that are read by windows; None: none is."""

    def predictions(
        self, images: np.ndarray, with_probabilities: bool = False, with_disagreement: bool = False
    ) -> Iterator[Found]:
        """Predict images of one size; see `Predictor.predictions`."""

    def windows(
        self,
        read: ReadWindow,
        size: tuple[int, int],
        with_probabilities: bool = False,
        with_disagreement: bool = False,
        first: int = 0,
    ) -> Iterator[tuple[Window, Found]]:
        """Predict an image that is read by windows; see `Predictor.windows`."""

    def tiles_by_windows(self, path: Path) -> int:
        """Return the number of tiles of an image that is read by windows; see `Predictor.tiles_by_windows`."""
