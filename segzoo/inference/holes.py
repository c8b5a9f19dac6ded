"""Holes of objects in a graph of pieces, so that no pixel is needed to find them."""

from __future__ import annotations

import numpy as np

from segzoo.inference.pieces import FREE, Table


def owners_of_holes(
    table: Table, adjacent: np.ndarray, objects: np.ndarray, size: tuple[int, int], most: int
) -> np.ndarray:
    """Return the object that fills each piece, `(pieces,)`; -1 for pieces that none does.

    A hole of an object is a connected component of all that the object is not, which the object encloses. Of a hole of
    at most `most` pixels the object fills the free ones. Of several objects that enclose a piece the first fills it.

    Args:
        table: properties of the pieces.
        adjacent: pairs of pieces of different keys that touch along an edge, `(n, 2)`.
        objects: object of each piece, -1 for none.
        size: height and width of the image.
        most: pixels of the largest hole that is filled.
    """
    owners = np.full(len(objects), -1, np.int64)
    inside = (table["left"] > 0) & (table["top"] > 0) & (table["right"] < size[1]) & (table["bottom"] < size[0])
    small = inside & (table["pixels"] <= most)
    pairs = np.concatenate([adjacent, adjacent[:, ::-1]])
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    starts = np.searchsorted(pairs[:, 0], np.arange(len(objects) + 1))
    candidates = pairs[(objects[pairs[:, 0]] >= 0) & small[pairs[:, 1]]]
    candidates = np.unique(np.stack([objects[candidates[:, 0]], candidates[:, 1]], axis=1), axis=0)
    search = _Search(pairs[:, 1], starts, objects, table["pixels"], inside, most)
    for number, piece in candidates.tolist():
        hole = np.array(search.hole(number, piece), np.int64)
        hole = hole[(table["key"][hole] == FREE) & (owners[hole] < 0)]
        owners[hole] = number
    return owners


class _Search:
    """Search for the holes of objects, one object after another."""

    def __init__(
        self,
        neighbours: np.ndarray,
        starts: np.ndarray,
        objects: np.ndarray,
        pixels: np.ndarray,
        inside: np.ndarray,
        most: int,
    ):
        self._neighbours, self._starts, self._objects = neighbours, starts, objects
        self._pixels, self._inside, self._most = pixels, inside, most
        self._number = -1
        self._visited: set[int] = set()

    def hole(self, number: int, piece: int) -> list[int]:
        """Return the pieces of the hole of an object that a piece is in; none where that is no small hole, or known."""
        if number != self._number:
            self._number, self._visited = number, set()
        if piece in self._visited:
            return []
        hole, known, pixels, place = [piece], {piece}, 0, 0
        while place < len(hole):
            here = hole[place]
            pixels += int(self._pixels[here])
            # What an earlier search visited, and gave up, is no hole.
            if pixels > self._most or not self._inside[here] or here in self._visited:
                self._visited |= known
                return []
            for other in self._neighbours[self._starts[here] : self._starts[here + 1]].tolist():
                if self._objects[other] != number and other not in known:
                    known.add(other)
                    hole.append(other)
            place += 1
        self._visited |= known
        return hole
