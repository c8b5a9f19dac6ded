"""Connected pieces of a class map that memory does not hold: labelled band by band, and joined across the bands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

ReadKeys = Callable[[int, int], np.ndarray]
Table = dict[str, np.ndarray]

FREE = 1  # key of pixels that a hole may consist of
BLOCKED = 2  # key of pixels that belong to no object and to no hole that is filled
FIRST = 3  # key of class 0; that of class n is FIRST + n

_MOST_PIXELS = 2**22  # of a band, for each of which labelling takes about 40 bytes
_HIGHEST = 256
_LOWEST = 16
#: What a table says of a piece, and how it is combined of parts of the piece.
_COMBINED = {
    "key": np.minimum,
    "pixels": np.add,
    "first": np.minimum,  # the first pixel, counted along the rows from 0
    "sum_x": np.add,
    "sum_y": np.add,
    "left": np.minimum,
    "top": np.minimum,
    "right": np.maximum,  # the column after the last
    "bottom": np.maximum,
}
# Slices of pixels, and of those that touch them.
_Slices = tuple[tuple[Any, Any], ...]
_CORNERS: _Slices = ((np.s_[:-1, :-1], np.s_[1:, 1:]), (np.s_[:-1, 1:], np.s_[1:, :-1]))
_EDGES: _Slices = ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:]))


def band_height(width: int) -> int:
    """Return the number of rows of a band: a power of 2 from 16 to 256."""
    height = _HIGHEST
    while height > _LOWEST and height * width > _MOST_PIXELS:
        height //= 2
    return height


def bands_of(size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Yield the first row of each band of an image of this height and width, and the row after its last."""
    height, step = size[0], band_height(size[1])
    for top in range(0, height, step):
        yield top, min(top + step, height)


@dataclass
class Pieces:
    """Pieces of a layer: pixels of one key, connected by their edges, as far as the whole image goes.

    Attributes:
        table: properties of each piece; see `_COMBINED`.
        piece: piece of each label, `(labels,)`: those of the bands one after another.
        offsets: number of labels in all bands above each band.
        diagonal: pairs of pieces of one class that touch at a corner, `(n, 2)`.
        adjacent: pairs of pieces of different keys that touch along an edge, `(n, 2)`; none unless holes count.
    """

    table: Table
    piece: np.ndarray
    offsets: list[int]
    diagonal: np.ndarray
    adjacent: np.ndarray


def label(keys: np.ndarray) -> np.ndarray:
    """Return labels from 1 of the pieces of a band of keys `(h, W)`, 0 where the key is 0; the same at each call."""
    import skimage.measure

    return skimage.measure.label(keys, background=0, connectivity=1)


def find_pieces(read: ReadKeys, size: tuple[int, int], holes: bool) -> Pieces:
    """Find the pieces of a layer in one pass over its bands.

    Args:
        read: returns the keys `(h, W)` of the rows from the first to the one before the second; 0: they count nowhere.
        size: height and width of the image.
        holes: whether it matters which pieces touch.
    """
    tables, offsets, total = [], [], 0
    joined, diagonal, adjacent = _Pairs(), _Pairs(), _Pairs()
    above_keys, above = np.zeros((1, size[1]), np.int32), np.zeros((1, size[1]), np.int64)
    for top, bottom in bands_of(size):
        keys = read(top, bottom)
        labels = label(keys)
        table = _measured(keys, labels, top)
        numbers = np.concatenate([above, np.where(labels > 0, labels + (total - 1), 0)])
        keys = np.concatenate([above_keys, keys])
        joined.add(numbers[:1], numbers[1:2], (keys[:1] == keys[1:2]) & (keys[:1] > 0))
        for one, other in _CORNERS:
            diagonal.add(numbers[one], numbers[other], (keys[one] == keys[other]) & (keys[one] >= FIRST))
        if holes:
            for one, other in _EDGES:
                differ = (keys[one] != keys[other]) & (keys[one] > 0) & (keys[other] > 0)
                adjacent.add(numbers[one], numbers[other], differ)
        above_keys, above = keys[-1:], numbers[-1:]
        tables.append(table)
        offsets.append(total)
        total += len(table["key"])
    count, piece = components(total, joined.found())
    table = {name: np.concatenate([table[name] for table in tables]) for name in _COMBINED}
    return Pieces(combined(table, piece, count), piece, offsets, piece[diagonal.found()], piece[adjacent.found()])


def combined(table: Table, groups: np.ndarray, count: int) -> Table:
    """Return the table of `count` groups of pieces; `groups` is that of each piece."""
    found = {}
    for name, combine in _COMBINED.items():
        found[name] = np.full(count, np.iinfo(np.int64).max if combine is np.minimum else 0, np.int64)
        combine.at(found[name], groups, table[name])
    return found


def components(count: int, pairs: np.ndarray) -> tuple[int, np.ndarray]:
    """Return the number of connected components of `count` nodes, and the one of each; `pairs` `(n, 2)` connect."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not count:
        return 0, np.zeros(0, np.int32)
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return connected_components(graph.tocsr(), directed=False)


class _Pairs:
    """Pairs of different labels, each once in a band."""

    def __init__(self) -> None:
        self._found: list[np.ndarray] = [np.zeros((0, 2), np.int64)]

    def add(self, one: np.ndarray, other: np.ndarray, where: np.ndarray) -> None:
        """Add the pairs of two arrays of labels, where the third array is True."""
        one, other = one[where], other[where]
        low, high = np.minimum(one, other), np.maximum(one, other)
        codes = np.unique((low << 32 | high)[low != high])  # labels are below 2**31: numbers of objects are int32
        self._found.append(np.stack([codes >> 32, codes & 0xFFFFFFFF], axis=1))

    def found(self) -> np.ndarray:
        """Return all pairs, `(n, 2)`."""
        return np.concatenate(self._found)


def _measured(keys: np.ndarray, labels: np.ndarray, top: int) -> Table:
    """Return the table of a band's pieces, in the order of their labels."""
    height, width = labels.shape
    count = int(labels.max(initial=0))
    first, last = _ends(labels, count)
    first_down, last_down = _ends(labels.T, count)
    flat = labels.ravel()

    def sums(weights: np.ndarray) -> np.ndarray:
        return np.bincount(flat, weights.ravel(), count + 1)[1:].astype(np.int64)

    return {
        "key": keys.ravel()[first].astype(np.int64),
        "pixels": np.bincount(flat, minlength=count + 1)[1:],
        "first": first + top * width,
        "sum_x": sums(np.broadcast_to(np.arange(width, dtype=np.float64), labels.shape)),
        "sum_y": sums(np.broadcast_to(np.arange(top, top + height, dtype=np.float64)[:, None], labels.shape)),
        "left": first_down // height,
        "top": first // width + top,
        "right": last_down // height + 1,
        "bottom": last // width + top + 1,
    }


def _ends(labels: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the last index of each label from 1, counted along the rows."""
    flat = labels.ravel()
    index = np.arange(flat.size)
    first, last = np.zeros((2, count + 1), np.int64)
    first[flat[::-1]] = index[::-1]  # of several values for one place the last one stays
    last[flat] = index
    return first[1:], last[1:]
