"""Some of the samples of a source, in an order of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from segzoo.data.sources import Sample, Source


class Subset:
    """The samples of `source` at `indices`.

    Args:
        source: where samples come from.
        indices: positions in it, each at most once.
    """

    def __init__(self, source: Source, indices: Sequence[int]):
        self.ids = [source.ids[index] for index in indices]
        self.classes = source.classes
        self.ignore_index = source.ignore_index
        self.source = source
        self.indices = [int(index) for index in indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        """Return sample `index` of the subset; IndexError outside 0..len-1."""
        if not 0 <= index < len(self.indices):
            raise IndexError(f"sample {index} of {len(self.indices)}")
        return self.source[self.indices[index]]

    def fingerprint(self) -> str:
        """Return a sha256 (hex) over the source's fingerprint and the indices."""
        return hashlib.sha256(repr((self.source.fingerprint(), self.indices)).encode()).hexdigest()
