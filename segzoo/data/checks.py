"""Data set checks: read every sample once and list all problems instead of stopping at the first."""

from __future__ import annotations

import collections
import functools
import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import cv2
import numpy as np

from segzoo.data.duplicates import Fingerprint, fingerprint, near_pairs
from segzoo.data.findings import Findings, Report, Thumbnail
from segzoo.data.problems import Problem
from segzoo.data.sources import Sample, Size, Source
from segzoo.data.value_range import DARK, is_dark, suggested_for
from segzoo.errors import DataError
from segzoo.levels import SMALLEST_SIDE

_OUTLIER_PIXELS, _OUTLIER_ASPECT = 4.0, 2.0  # factors off the median, see `_outliers`
_EXACT_FLOAT32 = 2**24  # OpenCV's histograms count in float32
_Found = TypeVar("_Found")
_THUMBNAIL = 240  # pixels, the longer side of a picture in the sample sheet


class _Counts(NamedTuple):
    """Label counts of a mask: pixels of each class (C,), labelled pixels, ignored pixels, (height, width).

    `overlapping`: whether a pixel may be of several classes, or of none.
    """

    pixels: np.ndarray
    labelled: int
    ignored: int
    size: tuple[int, int]
    overlapping: bool = False

    @property
    def background_alone(self) -> bool:
        """True if the background is the only class that is labelled."""
        return not self.pixels.any() if self.overlapping else self.pixels[0] == self.labelled


@dataclass(frozen=True)
class Rehearsal:
    """Preprocessing of a split's samples as a run does it, up to the network's input.

    Attributes:
        prepare: takes a sample's index and the sample as it is stored, and returns the sizes (height, width) that it
            has in batches; DataError where a transform fails.
        check_sizes: takes the sizes by index; DataError where they cannot share batches. None: they need not.
        check_report: takes what was found in the split; DataError where the run cannot use that. None: it does not.
    """

    prepare: Callable[[int, Sample], list[Size]]
    check_sizes: Callable[[Mapping[int, list[Size]]], None] | None = None
    check_report: Callable[[Report], None] | None = None

    def problems(self, split: str, sizes: Mapping[int, list[Size]], report: Report) -> Iterator[Problem]:
        """Yield the problems that concern a split as a whole."""
        checks: list[Callable[[], None]] = []
        if self.check_sizes is not None:
            checks.append(functools.partial(self.check_sizes, sizes))
        if self.check_report is not None:
            checks.append(functools.partial(self.check_report, report))
        for check in checks:
            try:
                check()
            except DataError as error:
                yield Problem(split, str(error), error.kind, split)


class _Look(NamedTuple):
    """Digest of one sample; `sizes` are those in batches, or the reason why there are none."""

    counts: _Counts
    print: Fingerprint
    mask_digest: bytes
    constant: bool
    thumbnail: Thumbnail | None
    dark: bool = False
    sizes: list[Size] | Problem | None = None


def check_source(source: Source, workers: int = 2, progress: Callable[[int], None] | None = None) -> Report:
    """Read every sample once, and count its labels.

    Args:
        source: source to check.
        workers: threads that read.
        progress: called after each sample with the number read so far, in the calling thread.
    """

    def read(index: int) -> _Counts | Problem:
        try:
            return _counts(source[index].mask, source)
        except DataError as error:
            return Problem(source.ids[index], str(error), error.kind)

    totals = _Totals(source)
    for done, found in enumerate(_in_order(read, len(source), workers), 1):
        totals.add(found)
        if progress is not None:
            progress(done)
    return totals.report()


def check_splits(
    sources: Mapping[str, Source],
    workers: int = 2,
    progress: Callable[[int], None] | None = None,
    thumbnails: int = 8,
    rehearsals: Mapping[str, Rehearsal] | None = None,
) -> Findings:
    """Read every sample of every split once, and check for all kinds of problems in `segzoo.data.problems`.

    Of each sample about 1.5 kB are kept, whatever its size: 10,000 of 512 x 512 took 82 s of processor time, and memory
    grew from 72 to 85 MiB. A source may have `problems`, what it found wrong with its files when it listed them; they
    are taken over.

    Args:
        sources: name of each split to its samples; duplicates are sought within and between them.
        workers: threads that read.
        progress: called after each sample with the number read so far, in the calling thread.
        thumbnails: samples of each split to keep for a sheet.
        rehearsals: name of a split to what a run does with its samples, which is tried on each; others are only read.
    """
    reports: dict[str, Report] = {}
    looks: dict[str, dict[str, _Look]] = {}
    problems: list[Problem] = []
    done = 0
    for split, source in sources.items():
        totals, seen = _Totals(source), looks.setdefault(split, {})
        # Splits dealt from one source share its files, and so what is wrong with them
        listed = getattr(getattr(source, "source", source), "problems", [])
        known = {problem.message for problem in problems}
        problems += [replace(problem, split=split) for problem in listed if problem.message not in known]
        shown = set(np.linspace(0, len(source) - 1, min(thumbnails, len(source))).astype(int).tolist())
        rehearsal = (rehearsals or {}).get(split)
        sizes: dict[int, list[Size]] = {}
        read = functools.partial(_read, source, split, shown, rehearsal)
        for index, found in enumerate(_in_order(read, len(source), workers)):
            if isinstance(found, Problem):
                totals.add(found)
            else:
                totals.add(found.counts)
                seen[source.ids[index]] = found
                if isinstance(found.sizes, Problem):
                    problems.append(found.sizes)
                elif found.sizes is not None:
                    sizes[index] = found.sizes
            done += 1
            if progress is not None:
                progress(done)
        reports[split] = totals.report()
        problems += reports[split].problems
        if rehearsal is not None:
            problems += rehearsal.problems(split, sizes, reports[split])
        if (range_needed := suggested_for(source)) is not None:
            problems.append(Problem(split, f"{split}: {range_needed}", "value_range", split))
        problems += _of_samples(split, seen, tell_dark=range_needed is None)
        for name in reports[split].absent:
            message = f"class {name!r} has no pixel in the split {split!r}."
            if split != next(iter(sources)):
                message += " Its figures there are n/a and left out of the means."
                message += _white_hint(source, reports[split])
            problems.append(Problem(name, message, "absent_class", split))
    copies, twins = _duplicates(looks)
    problems += copies + _outliers(looks)
    pictures = [look.thumbnail for seen in looks.values() for look in seen.values() if look.thumbnail is not None]
    return Findings(reports, problems, pictures, twins)


def _white_hint(source: Source, report: Report) -> str:
    """Return a sentence where all objects of a split may be ignored, because its masks are white there; or nothing."""
    masks = getattr(getattr(source, "source", source), "format", None)
    if masks is None or not getattr(masks, "white", "") or not report.ignored:
        return ""
    objects = list(report.pixels.values())[0 if masks.labels.multilabel else 1 :]
    if any(objects):
        return ""
    return f" Its masks show nothing but 0 and {source.ignore_index}; where that is the object, set {masks.white}."


class _Totals:
    """Sums over the samples of a source."""

    def __init__(self, source: Source):
        self._source = source
        self._problems: list[Problem] = []
        self._pixels, self._images, self._shown_in = (np.zeros(len(source.classes), np.int64) for _ in range(3))
        self._ignored = self._labelled = 0
        self._sizes: collections.Counter[tuple[int, int]] = collections.Counter()

    def add(self, found: _Counts | Problem) -> None:
        if isinstance(found, Problem):
            self._problems.append(found)
            return
        self._pixels += found.pixels
        self._images += found.pixels > 0
        self._shown_in += np.where(found.pixels > 0, found.labelled, 0)
        self._ignored += found.ignored
        self._labelled += found.labelled
        self._sizes[found.size] += 1

    def report(self) -> Report:
        def named(values: np.ndarray) -> dict[str, int]:
            return {name: int(n) for name, n in zip(self._source.classes, values, strict=True)}

        return Report(
            samples=len(self._source),
            problems=self._problems,
            pixels=named(self._pixels),
            images=named(self._images),
            shown_in=named(self._shown_in),
            ignored=self._ignored,
            sizes=dict(self._sizes.most_common()),
            fingerprint=self._source.fingerprint(),
            labelled=self._labelled,
        )


def _in_order(make: Callable[[int], _Found], count: int, workers: int) -> Iterator[_Found]:
    """Yield make(0), make(1), ..., computed ahead by threads in a short queue that bounds the memory."""
    cv2.setNumThreads(0)  # OpenCV's own threads would only contend for the same cores
    waiting: collections.deque[Future[_Found]] = collections.deque()
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for index in range(count):
            waiting.append(pool.submit(make, index))
            if len(waiting) > 4 * max(1, workers):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _counts(mask: np.ndarray, source: Source) -> _Counts:
    """Count the labels of a mask (H, W), or (H, W, C) with a 1 where a pixel is of class C."""
    classes, size = len(source.classes), (mask.shape[0], mask.shape[1])
    if mask.ndim == 3:
        ignored = int((mask == source.ignore_index).all(-1).sum())  # a place may be labelled for some classes alone
        return _Counts((mask == 1).sum((0, 1)), size[0] * size[1] - ignored, ignored, size, overlapping=True)
    if mask.dtype == np.uint8 and mask.size <= _EXACT_FLOAT32:  # a tenth of bincount's time, and beside other threads
        histogram = cv2.calcHist([np.ascontiguousarray(mask)], [0], None, [256], [0, 256]).ravel().astype(np.int64)
        ignored = int(histogram[source.ignore_index]) if 0 <= source.ignore_index <= 255 else 0
        pixels = np.zeros(classes, np.int64)
        pixels[: min(classes, 256)] = histogram[:classes]
        return _Counts(pixels, mask.size - ignored, ignored, size)
    valid = mask[mask != source.ignore_index]
    return _Counts(np.bincount(valid, minlength=classes)[:classes], valid.size, mask.size - valid.size, size)


def _read(
    source: Source, split: str, shown: Collection[int], rehearsal: Rehearsal | None, index: int
) -> _Look | Problem:
    """Read a sample and return its digest, with a thumbnail if its index is among those `shown`."""
    try:
        sample = source[index]
    except DataError as error:
        return Problem(source.ids[index], str(error), error.kind, split)
    look = _look(sample, source, split if index in shown else None)
    if rehearsal is None:
        return look
    try:
        return look._replace(sizes=rehearsal.prepare(index, sample))
    except DataError as error:
        return look._replace(sizes=Problem(sample.id, str(error), error.kind, split))


def _look(sample: Sample, source: Source, split: str | None) -> _Look:
    """Return the digest of a sample, with a thumbnail if `split` is given."""
    small = None
    if split is not None:
        height, width = sample.mask.shape[:2]
        scale = min(1.0, _THUMBNAIL / max(height, width))
        to = (max(1, round(width * scale)), max(1, round(height * scale)))
        shown = np.ascontiguousarray(sample.image[..., :3])  # all that a picture shows, and OpenCV resizes at most 4
        image = cv2.resize(shown, to, interpolation=cv2.INTER_AREA)
        rows = np.minimum(((np.arange(to[1]) + 0.5) / scale).astype(int), height - 1)
        columns = np.minimum(((np.arange(to[0]) + 0.5) / scale).astype(int), width - 1)
        small = Thumbnail(split, sample.id, image, sample.mask[rows][:, columns].copy())
    known = fingerprint(sample.image)
    # at 16 x 16 a picture of one colour is one too, so only those that are take the longer look
    flat = int(known.tiny.max()) - int(known.tiny.min()) <= 1 and bool((sample.image == sample.image[0, 0]).all())
    dark = (sample.image.dtype != np.uint8 or int(known.tiny.max()) <= 2 * DARK) and is_dark(sample.image)
    return _Look(_counts(sample.mask, source), known, _digest(sample.mask), flat, small, dark)


def _digest(mask: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(mask).data, digest_size=8).digest()


def _of_samples(split: str, looks: Mapping[str, _Look], tell_dark: bool) -> list[Problem]:
    """List the problems of single samples; dark images only if no problem of the whole split explains them."""
    found = []
    for name, look in looks.items():
        if look.constant:
            found.append(Problem(name, f"{name}: all pixels of the image have one colour.", "constant_image", split))
        elif look.dark and tell_dark:
            message = f"{name}: 99.9 % of the image's values are {DARK} or less, of 0 to 255 where networks expect it."
            found.append(Problem(name, message, "dark_image", split))
        if look.counts.labelled == 0:
            found.append(Problem(name, f"{name}: all pixels of the mask are ignored.", "unlabelled", split))
        elif len(look.counts.pixels) > 1 and look.counts.background_alone:
            what = "no pixel is of any class" if look.counts.overlapping else "every label is class 0"
            found.append(Problem(name, f"{name}: {what}.", "only_background", split))
    return found


def _duplicates(looks: Mapping[str, Mapping[str, _Look]]) -> tuple[list[Problem], frozenset[tuple[str, str]]]:
    """List equal images within and between splits, and near-duplicates between them; and the redundant samples."""
    found: list[Problem] = []
    twins: set[tuple[str, str]] = set()
    copies: set[tuple[str, str]] = set()
    first: dict[bytes, tuple[str, str, _Look]] = {}
    for split, seen in looks.items():
        for name, look in seen.items():
            other = first.setdefault(look.print.digest, (split, name, look))
            if other[2] is look or look.constant:
                continue
            copies.add((split, name))
            same = look.mask_digest == other[2].mask_digest
            masks = "and the same mask" if same else "but another mask: one of the two is wrong"
            leak = other[0] != split
            where = f"{other[1]!r} of the split {other[0]!r}" if leak else repr(other[1])
            message = f"{name}: the same pixels as {where}, {masks}."
            found.append(Problem(name, message, "leak" if leak else "duplicate", split))
            if same:  # between splits the later one, which is evaluated on, keeps its sample
                twins.add((other[0], other[1]) if leak else (split, name))
    splits = list(looks)
    for position, split in enumerate(splits):
        for earlier in splits[:position]:
            names, others = list(looks[split]), list(looks[earlier])
            pairs = near_pairs(
                [look.print for look in looks[earlier].values()], [look.print for look in looks[split].values()]
            )
            for index, other_index in pairs.items():
                if (split, names[index]) not in copies:
                    message = f"{names[index]}: looks nearly like {others[other_index]!r} of the split {earlier!r}."
                    found.append(Problem(names[index], message, "near_leak", split))
    return found, frozenset(twins)


def _outliers(looks: Mapping[str, Mapping[str, _Look]]) -> list[Problem]:
    """List outliers in size: 4 times the median pixels, twice the aspect ratio; and images too small for a model."""
    sizes = [(split, name, look.counts.size) for split, seen in looks.items() for name, look in seen.items()]
    if not sizes:
        return []
    heights, widths = np.array([size for *_, size in sizes], float).T
    middle, aspect = float(np.median(heights * widths)), float(np.median(widths / heights))
    found = []
    for split, name, (height, width) in sizes:
        area, ratio = height * width / middle, width / height / aspect
        why = ""
        if min(height, width) < SMALLEST_SIDE:
            why = f"under {SMALLEST_SIDE} pixels a side, which no model takes without padding"
        elif not 1 / _OUTLIER_PIXELS <= area <= _OUTLIER_PIXELS:
            why = f"{area:.2g} times the pixels of the median image"
        elif not 1 / _OUTLIER_ASPECT <= ratio <= _OUTLIER_ASPECT:
            why = f"width by height is {width / height:.2f}, in the median image {aspect:.2f}"
        if why:
            message = f"{name}: {width} x {height} (width x height), {why}."
            found.append(Problem(name, message, "resolution", split))
    return found
