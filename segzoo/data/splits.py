"""Deterministic splits of a data set that has none: by share, by fold, by group or by lists."""

from __future__ import annotations

import csv as csv_files
import hashlib
import io
import itertools
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from segzoo.data.folder import Pair
from segzoo.data.images import IMAGE_SUFFIXES
from segzoo.data.sampling import presence
from segzoo.data.sources import Sample, Source, may_give_float
from segzoo.errors import DataError
from segzoo.files import read_text


class Subset:
    """Subset of a source, in the given order.

    Args:
        source: source to take the samples from.
        places: their positions in it, 0 to len - 1.
    """

    def __init__(self, source: Source, places: Sequence[int]):
        self.source = source
        self.places = [int(place) for place in places]
        self.ids = [source.ids[place] for place in self.places]
        self.classes = source.classes
        self.ignore_index = source.ignore_index

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.places)

    def __getitem__(self, index: int) -> Sample:
        """Read sample `index` of the subset, as the source reads it."""
        return self.source[self.places[index]]

    def gives_float(self, places: Iterable[int] | None = None) -> bool:
        """Return whether images of these samples, or of any, may come as float32."""
        taken = self.places if places is None else [self.places[place] for place in places]
        return may_give_float(self.source, taken)

    def fingerprint(self) -> str:
        """Return a sha256 (hex) over the source's fingerprint and the places taken."""
        return hashlib.sha256(f"{self.source.fingerprint()} {self.places}".encode()).hexdigest()


def split(
    source: Source,
    *,
    fraction: float | None = None,
    fold: tuple[int, int] | None = None,
    train: str | Path | None = None,
    val: str | Path | None = None,
    test: str | Path | None = None,
    test_fraction: float | None = None,
    csv: str | Path | None = None,
    seed: int = 0,
    group: str | None = None,
    stratify: bool = False,
    workers: int = 2,
    strict: bool = True,
) -> dict[str, Subset]:
    """Split a source into "train" and "val", and "test" where there is one, in one of four ways.

    Args:
        source: all samples.
        fraction: share of the samples in "val", between 0 and 1.
        fold: (index, number of folds): "val" is that fold of a cross-validation.
        train: a list file, see `listed`; with `val`.
        val: likewise.
        test: likewise, with both.
        test_fraction: with `fraction` or `fold`: share of the samples in "test", which is dealt first.
        csv: a CSV file, see `by_column`. Without the above, its column "split" says what is "train", "val" (or "valid",
            "validation") and "test" (or "testing"); rows with another word are in none.
        seed: seed of the random assignment to splits.
        group: with `fraction` or `fold`: samples of one group stay together. A regular expression, see `groups_of`, or
            with `csv` one of its columns.
        stratify: with `fraction` or `fold`: every class gets its share in both; all masks are read.
        workers: number of threads that read the masks.
        strict: raise where a mask cannot be read; otherwise its sample counts as one that shows no class.

    Raises:
        DataError: an unusable list, table or expression; a sample in two splits; an empty split; a folder's masks in
            "train" that show nothing but background and the ignore index.
    """
    ids = source.ids
    if train is not None and val is not None:
        lists = {"train": train, "val": val, **({} if test is None else {"test": test})}
        places = {name: listed(Path(path), ids) for name, path in lists.items()}
        for one, other in itertools.combinations(lists, 2):
            if both := sorted(set(places[one]) & set(places[other])):
                raise DataError(
                    f"{ids[both[0]]!r} and {len(both) - 1} more stand in both {lists[one]} and {lists[other]}."
                )
    elif fraction is None and fold is None:
        words = by_column(Path(csv or ""), ids, "split")
        named = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
        places = {
            name: [place for place, word in enumerate(words) if word.strip().lower() in known]
            for name, known in named.items()
        }
        if not places["test"]:
            del places["test"]
        for name in places:
            if not places[name]:
                found = ", ".join(sorted(set(words))[:8])
                raise DataError(
                    f"{csv}: no sample is in the split {name}; the column split holds {found or 'nothing'}."
                )
    else:
        groups = None
        if group is not None:
            groups = groups_of(ids, group) if csv is None else by_column(Path(csv), ids, group)
        shown = presence(source, workers, strict) if stratify else None
        left, places = list(range(len(ids))), {}
        if test_fraction is not None:
            places["test"], left = deal(ids, [test_fraction, 1.0 - test_fraction], seed, groups, shown)
        index, count = fold or (0, 2)
        share = (fraction or 0.0) / (1.0 - (test_fraction or 0.0))  # of what is left
        shares = [1.0] * count if fold else [share, 1.0 - share]
        parts = deal(
            [ids[place] for place in left],
            shares,
            seed,
            None if groups is None else [groups[place] for place in left],
            None if shown is None else shown[left],
        )
        kept = [left[place] for number, part in enumerate(parts) if number != index for place in part]
        places |= {"train": sorted(kept, key=lambda place: ids[place]), "val": [left[place] for place in parts[index]]}
    if (refuse := getattr(source, "refuse_ignored_objects", None)) is not None:
        refuse(places["train"], "train")  # what the others show does not help it to learn
    return {name: Subset(source, found) for name, found in places.items()}


def deal(
    ids: Sequence[str],
    shares: Sequence[float],
    seed: int = 0,
    groups: Sequence[str] | None = None,
    shown: np.ndarray | None = None,
) -> list[list[int]]:
    """Deal samples out to parts of the given shares.

    Without `shown` the deal is uniformly random. With it, every class gets its share in every part as far as that
    can be had: iterative stratification, which deals out the rarest class first (Sechidis, Tsoumakas and Vlahavas,
    "On the stratification of multi-label data", 2011). A group is dealt as a whole, so the shares of few large
    groups are approximate.

    Args:
        ids: names of the samples; the result depends on them, not on their order.
        shares: a positive number for each part; they need not add up to 1.
        seed: seed of the random assignment, 0 or more.
        groups: the group of each sample, such as the patient; None: every sample is one.
        shown: which class each sample shows, bool `(samples, classes)`; None: no matter.

    Returns:
        The positions of each part's samples, ordered by id.

    Raises:
        DataError: fewer groups than parts.
    """
    names = list(ids) if groups is None else list(groups)
    members: dict[str, list[int]] = {}
    for place in sorted(range(len(ids)), key=lambda place: ids[place]):
        members.setdefault(names[place], []).append(place)
    if len(members) < len(shares):
        what = "samples" if groups is None else "groups"
        raise DataError(f"{len(members)} {what} cannot be split into {len(shares)} parts; there must be one for each.")
    found = [members[name] for name in sorted(members)]
    rng = np.random.default_rng(seed)
    rng.shuffle(found)
    # A column for each class and one for the number of samples; a row for each group.
    counts = np.array([[*(shown[group].sum(0) if shown is not None else ()), len(group)] for group in found])
    parts = _stratified(counts.astype(np.float64), np.array(shares, np.float64), rng)
    chosen = [
        [place for group, part in zip(found, parts, strict=True) if part == n for place in group]
        for n in range(len(shares))
    ]
    return [sorted(part, key=lambda place: ids[place]) for part in chosen]


def _stratified(counts: np.ndarray, shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Assign each row to a part, so that the sums of the columns come close to `shares` in every part."""
    wanted = np.outer(shares / shares.sum(), counts.sum(0))  # (parts, columns): what is still to be dealt
    parts = np.full(len(counts), -1)
    left = np.ones(len(counts), bool)
    while left.any():
        remaining = counts[left].sum(0)
        columns = np.flatnonzero(remaining[:-1])
        # The last column, the number of samples, is for groups that show no class that is still to be dealt.
        column = columns[remaining[columns].argmin()] if len(columns) else counts.shape[1] - 1
        rows = np.flatnonzero(left & (counts[:, column] > 0))
        for row in rows[np.argsort(-counts[rows, column], kind="stable")]:  # large groups first, while there is room
            need = wanted[:, column]
            best = np.flatnonzero(need >= need.max() - 1e-9)
            if len(best) > 1:
                room = wanted[best, -1]
                best = best[room >= room.max() - 1e-9]
            part = best[0] if len(best) == 1 else rng.choice(best)
            parts[row] = part
            wanted[part] -= counts[row]
            left[row] = False
    for part in np.setdiff1d(np.arange(len(shares)), parts):  # a small share of few groups may have come to nothing
        largest = np.bincount(parts, minlength=len(shares)).argmax()
        rows = np.flatnonzero(parts == largest)
        parts[rows[counts[rows, -1].argmin()]] = part
    return parts


def groups_of(ids: Sequence[str], pattern: str) -> list[str]:
    r"""Return the group of each sample: what `pattern` finds in its id, or its first parenthesis.

    Args:
        ids: names of the samples.
        pattern: a regular expression, such as `^(patient\d+)_`.

    Raises:
        DataError: the expression does not match some ids; the message names them.
    """
    found = [re.search(pattern, name) for name in ids]
    lost = [name for name, match in zip(ids, found, strict=True) if match is None]
    if lost:
        raise DataError(
            f"data.split.group: {pattern!r} finds no group in {len(lost)} of {len(ids)} samples, first {lost[0]!r}. "
            "Write an expression that matches every name; what is in its first parenthesis is the group."
        )
    return [match.group(1) if match.re.groups else match.group() for match in found if match is not None]


def listed(path: Path, ids: Sequence[str]) -> list[int]:
    """Return the positions of the samples that a list file names, in its order.

    Each line holds an id, or the path of an image, whose stem is the id; either may have spaces in it, and be put in
    quotes. What follows behind an id without spaces is left alone. Empty lines and lines that begin with # count for
    nothing.

    Raises:
        DataError: a missing file, an unknown or repeated sample, or an empty list; the message names the line.
    """
    places = {name: place for place, name in enumerate(ids)}
    found: dict[int, int] = {}
    for number, line in _lines(path):
        words = (line, _fields(line, f"{path}, line {number}")[0])
        named = [name for word in words for name in (word, Path(word.replace("\\", "/")).stem) if name in places]
        place = places[named[0]] if named else None
        if place is None:
            raise DataError(
                f"{path}, line {number}: there is no sample {line!r} among the {len(ids)}, such as {ids[0]!r}."
            )
        if place in found:
            raise DataError(f"{path}, line {number}: {ids[place]!r} stands in line {found[place]} already.")
        found[place] = number
    return list(found)


def listed_pairs(path: Path, root: Path) -> list[Pair] | None:
    """Return the images and masks that a list file names, in its order; None where it names samples alone.

    Each line holds two paths, of an image and of its mask, with a tab or other white space between; relative paths
    start at `root`, as do those with a leading slash where there is no such file, as in the lists that CamVid is
    published with. Paths with spaces may be put in quotes; without quotes a line is cut where both files exist.

    Raises:
        DataError: a missing file, a line without two paths although the first line has two, or a line that can be split
            into two files in several ways; the message names the line.
    """
    lines = _lines(path)
    first = _fields(lines[0][1], f"{path}, line {lines[0][0]}")
    if len(first) == 1 or not (_cuts(first, root) or any(_is_path(word) for word in first)):
        return None
    pairs = []
    for number, line in lines:
        where = f"{path}, line {number}"
        words = _fields(line, where)
        if len(words) > 2 and (cuts := _cuts(words, root)):
            if len(cuts) > 1:
                raise DataError(f"{where}: can be cut into two files in {len(cuts)} ways. Put each path in quotes.")
            words = cuts[0]
        if len(words) != 2:
            raise DataError(
                f"{where}: holds {len(words)} words, not the paths of an image and its mask. Put paths with spaces in "
                "quotes, or a tab between the two."
            )
        image, mask = (_located(word, root) for word in words)
        for file in (image, mask):
            if not file.exists():
                raise DataError(
                    f"{path}, line {number}: there is no {file}. Relative paths start at data.root, {root}."
                )
        pairs.append((number, words[0], image, mask))
    stems = Counter(image.stem for _, _, image, _ in pairs)
    if max(stems.values()) == 1:
        return [Pair(image.stem, image, mask) for _, _, image, mask in pairs]
    named: dict[str, Pair] = {}
    for number, word, image, mask in pairs:
        if (pair := Pair(Path(word).with_suffix("").as_posix(), image, mask)).name in named:
            raise DataError(f"{path}, line {number}: {image} stands there twice.")
        named[pair.name] = pair
    return list(named.values())


def refuse_common(train: Sequence[Pair], val: Sequence[Pair], names: tuple[str, str]) -> None:
    """Raise DataError where an image is listed for both splits; `names` are those of the lists."""
    seen = {pair.image.resolve() for pair in train}
    both = [pair for pair in val if pair.image.resolve() in seen]
    if both:
        more = f" and {len(both) - 1} more stand" if len(both) > 1 else " stands"
        raise DataError(f"{both[0].image}{more} in both {names[0]} and {names[1]}. Leave each image in one list.")


def _located(word: str, root: Path) -> Path:
    """Resolve the path of a file that a list names."""
    return Path(word) if Path(word).is_absolute() and Path(word).exists() else root / word.lstrip("/")


def _cuts(words: Sequence[str], root: Path) -> list[list[str]]:
    """Return the ways to join words into two paths that both exist."""
    ways = ([" ".join(words[:place]), " ".join(words[place:])] for place in range(1, len(words)))
    return [way for way in ways if all(_located(word, root).exists() for word in way)]


def _is_path(word: str) -> bool:
    return any(mark in word for mark in "/\\") or Path(word).suffix.lower() in IMAGE_SUFFIXES


def _fields(line: str, where: str) -> list[str]:
    """Split a line of a list into fields: between tabs, in quotes, or else its words."""
    if "\t" in line:
        return [part for field in line.split("\t") if (part := field.strip().strip("\"'"))]
    if line[0] not in "\"'":
        return line.split()
    try:
        return shlex.split(line)
    except ValueError as error:
        raise DataError(f"{where}: its quotes do not match ({error}).") from error


def _lines(path: Path) -> list[tuple[int, str]]:
    """Return number and text of the lines of a list file that hold any."""
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        raise DataError(f"The list {path} cannot be read ({error}). Check data.split.") from error
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    found = [(number, line) for number, line in lines if line and not line.startswith("#")]
    if not found:
        raise DataError(f"The list {path} names no sample.")
    return found


def by_column(path: Path, ids: Sequence[str], column: str, key: str = "image") -> list[str]:
    """Return one column of a CSV file for each sample.

    Args:
        path: a CSV file whose first line names the columns.
        ids: names of the samples.
        column: the column wanted, such as "split" or "patient".
        key: the column that holds the id of the sample, or the path of its image, whose stem is the id.

    Raises:
        DataError: a missing file or column, samples without a row, or two rows for one sample.
    """
    try:
        reader = csv_files.DictReader(io.StringIO(read_text(path), newline=""))
        rows, columns = list(reader), reader.fieldnames or []
    except (OSError, ValueError, csv_files.Error) as error:
        raise DataError(f"{path} cannot be read as CSV ({error}). Check data.split.csv.") from error
    for name in (key, column):
        if name not in columns:
            raise DataError(f"{path} has no column {name!r}; it has {', '.join(columns) or 'none'}. Check data.split.")
    values: dict[str, str] = {}
    known = set(ids)
    for number, row in enumerate(rows, 2):
        word = row[key] or ""
        name = word if word in known else Path(word.replace("\\", "/")).stem
        if name in values:
            raise DataError(f"{path}, line {number}: {word!r} has a row already.")
        values[name] = row[column] or ""
    lost = [name for name in ids if name not in values]
    if lost:
        raise DataError(f"{path} has no row for {len(lost)} of {len(ids)} samples, first {lost[0]!r}.")
    return [values[name] for name in ids]
