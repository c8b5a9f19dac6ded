"""Detection of duplicate and near-duplicate images by hashing, without comparing all pairs."""

from __future__ import annotations

import hashlib
import itertools
from typing import NamedTuple

import cv2
import numpy as np

DISTANCE = 4  # most bits of 64 in which the hashes of near-duplicates differ
CORRELATION = 0.97  # of the two pictures at 16 x 16; see `near_pairs`
_SIDE = 16
_LEAST_CONTRAST = 4.0  # standard deviation at 16 x 16, of 0..255; below, the hash is noise


class Fingerprint(NamedTuple):
    """Digest and perceptual hash of an image, some 350 bytes.

    Attributes:
        digest: digest of the decoded pixels, so that the same picture in another lossless format has the same one.
        bits: difference hash of 64 bits.
        tiny: the picture in grey at 16 x 16, (256,) uint8.
    """

    digest: bytes
    bits: int
    tiny: np.ndarray


def fingerprint(image: np.ndarray) -> Fingerprint:
    """Return the fingerprint of an image (H, W, C) of any number type.

    The hash is dHash: the picture in grey at 9 x 8, one bit for each pixel that is brighter than its left neighbour
    (Krawetz 2013, https://www.hackerfactor.com/blog/index.php?/archives/529-Kind-of-Like-That.html). It survives
    another size, another compression and small changes of brightness and contrast, but no mirroring and no crop.
    """
    digest = hashlib.blake2b(repr((image.shape, image.dtype.str)).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image).data)
    grey = _grey(image)
    small = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA)
    bits = int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big")
    tiny = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return Fingerprint(digest.digest(), bits, tiny.ravel())


def near_pairs(first: list[Fingerprint], second: list[Fingerprint]) -> dict[int, int]:
    """Match images of `second` to their nearest near-duplicate in `first`: index to index.

    Two pictures are near where their hashes differ in at most `DISTANCE` bits, and their pictures at 16 x 16 correlate
    by at least `CORRELATION`, which sets apart what a hash of 64 bits confuses. Candidates come from a multi-index
    (Norouzi, Punjani, Fleet 2012, https://arxiv.org/abs/1307.2982): of DISTANCE + 1 parts of a hash at least one is
    equal, so only images that share a part are compared. Pictures without contrast are left out.
    """
    found: dict[int, int] = {}
    if not first or not second:
        return found
    hashes = np.array([f.bits for f in first], np.uint64)
    pictures, there = _standardised(first)
    queries, usable = _standardised(second)
    tables = []
    for shift, mask in _parts():
        keys = (hashes >> shift) & mask
        order = np.argsort(keys, kind="stable")
        tables.append((shift, mask, keys[order], order))
    for index in np.flatnonzero(usable):
        bits = np.uint64(second[index].bits)
        candidates = []
        for shift, mask, keys, order in tables:
            key = (bits >> shift) & mask
            candidates.append(order[np.searchsorted(keys, key, "left") : np.searchsorted(keys, key, "right")])
        near = np.unique(np.concatenate(candidates))
        near = near[there[near] & (np.bitwise_count(hashes[near] ^ bits) <= DISTANCE)]
        if near.size:
            alike = pictures[near] @ queries[index]
            if alike.max() >= CORRELATION:
                found[int(index)] = int(near[alike.argmax()])
    return found


def _parts() -> list[tuple[np.uint64, np.uint64]]:
    """Return (shift, mask) of the DISTANCE + 1 parts that a 64-bit hash is cut into."""
    ends = np.linspace(0, 64, DISTANCE + 2).astype(int)
    return [(np.uint64(a), np.uint64(2 ** (b - a) - 1)) for a, b in itertools.pairwise(ends.tolist())]


def _standardised(prints: list[Fingerprint]) -> tuple[np.ndarray, np.ndarray]:
    """Normalise the pictures to mean 0 and length 1, (N, 256) float32; also return which have contrast, (N,) bool."""
    pictures = np.stack([f.tiny for f in prints]).astype(np.float32)
    pictures -= pictures.mean(1, keepdims=True)
    contrast = pictures.std(1)
    pictures /= np.maximum(np.linalg.norm(pictures, axis=1, keepdims=True), 1e-6)
    return pictures, contrast >= _LEAST_CONTRAST


def _grey(image: np.ndarray) -> np.ndarray:
    """Return an image as (H, W) uint8, stretched to 0..255 if it has another type."""
    grey = image if image.ndim == 2 else image[..., 0] if image.shape[2] < 3 else None
    if grey is None and image.dtype == np.uint8:
        return cv2.cvtColor(np.ascontiguousarray(image[..., :3]), cv2.COLOR_RGB2GRAY)
    grey = image[..., :3].astype(np.float32).mean(-1) if grey is None else grey
    if grey.dtype == np.uint8:
        return grey
    values = np.nan_to_num(grey.astype(np.float32))
    low, high = float(values.min()), float(values.max())
    return ((values - low) * (255 / max(high - low, 1e-6))).astype(np.uint8)
