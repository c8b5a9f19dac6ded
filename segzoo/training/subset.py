"""A few samples of a source, to see whether a network can learn them by heart."""

from __future__ import annotations

import hashlib

import numpy as np

from segzoo.data import Sample, Source
from segzoo.errors import DataError


class Subset:
    """`count` samples of a source, spread evenly over it: neighbours often look alike.

    Raises:
        DataError: the source has fewer.
    """

    def __init__(self, source: Source, count: int):
        if count > len(source):
            raise DataError(f"training.overfit is {count}, but the training split has {len(source)} sample(s).")
        self.source = source
        self.places = np.linspace(0, len(source) - 1, count).round().astype(int).tolist()
        self.ids = [source.ids[place] for place in self.places]
        self.classes = source.classes
        self.ignore_index = source.ignore_index

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.places)

    def __getitem__(self, index: int) -> Sample:
        """Read sample `index` of the subset, as the source reads it."""
        return self.source[self.places[index]]

    def fingerprint(self) -> str:
        """The source's, with the places taken."""
        return hashlib.sha256(f"{self.source.fingerprint()} {self.places}".encode()).hexdigest()
