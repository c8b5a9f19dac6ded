"""Dividing samples into training and validation: by fraction or fold, by group, with every class in both."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segzoo.data.folder import FolderSource
from segzoo.data.lists import read_csv, read_list
from segzoo.data.presence import class_presence
from segzoo.data.sources import Source
from segzoo.data.subset import Subset
from segzoo.errors import DataError


@dataclass(frozen=True)
class Division:
    """How samples become training and validation samples; a function of the samples' names and these values.

    Attributes:
        lists: list file of each split, see `read_list`; or
        csv: one file for both, see `read_csv`: with the column `split` (train or val), or divided as follows.
        val_fraction: share of the samples to validate on, 0..1; or
        fold: (i, k): validate on the i-th of k parts, i from 1.
        seed: another seed is another division.
        group: column of the CSV, or regular expression of which the first group (or the whole match) in a sample's name
            says which samples belong together (one patient, one scene): no group is in both splits.
        stratify: keep each class's share of samples alike in all parts; reads every mask once.
    """

    lists: Mapping[str, str] | None = None
    csv: str | None = None
    val_fraction: float | None = None
    fold: tuple[int, int] | None = None
    seed: int = 0
    group: str | None = None
    stratify: bool = False

    @property
    def divides(self) -> bool:
        """Whether the samples of one split are divided, in place of reading two."""
        return self.val_fraction is not None or self.fold is not None

    def source(self, which: str, make: Callable[..., FolderSource], root: Path, split: str, workers: int = 2) -> Source:
        """Return the samples of "train" or "val".

        Args:
            which: "train" or "val".
            make: builds the source of a split's folder, or of `pairs`.
            root: where paths in lists start.
            split: name of the folder whose samples are divided, or in which listed names are looked up.
            workers: threads that read masks, where classes are looked at.

        Raises:
            DataError: a list or CSV that cannot be used; a group in both splits; fewer groups than parts.
        """
        groups: list[str] | None = None
        if self.lists is not None:
            named = {key: self._listed(key, make, root, split) for key in ("train", "val")}
            _refuse_common(named, self.group)
            return named[which]
        if self.csv is not None:
            columns = [] if self.divides else ["split"]
            columns += [self.group] if self.group else []
            rows = read_csv(Path(self.csv), root, columns)
            groups = [row.cells[self.group] for row in rows] if self.group else None
            whole: Source = make(split=split, pairs=[row.pair for row in rows])
            if not self.divides:
                return Subset(whole, _by_column([row.cells["split"] for row in rows], groups, which, self.csv))
        else:
            whole = make(split=split)
        if groups is None:
            groups = [group_of(name, self.group) for name in whole.ids]
        presence = class_presence(whole, workers) if self.stratify else None
        if self.fold is not None:
            number, count = self.fold
            parts = divide(whole.ids, groups, [1 / count] * count, presence, self.seed)
            in_val = parts == number - 1
        else:
            share = self.val_fraction or 0.0
            in_val = divide(whole.ids, groups, [share, 1 - share], presence, self.seed) == 0
        return Subset(whole, np.flatnonzero(in_val if which == "val" else ~in_val).tolist())

    def _listed(self, which: str, make: Callable[..., FolderSource], root: Path, split: str) -> Source:
        path = Path((self.lists or {})[which])
        found = read_list(path, root)
        if not isinstance(found[0], str):
            source = make(split=split, pairs=found)
            if not source.format.suffixes:
                raise DataError(
                    f"{path}: with this mask format masks are found in data.mask_dir: list only the images' names."
                )
            return source
        whole = make(split=split)
        place = {name: index for index, name in enumerate(whole.ids)}
        names = [str(name) if name in place else Path(str(name)).stem for name in found]
        for name in names:
            if name not in place:
                raise DataError(f"{path}: there is no image {name!r} in data.image_dir.")
        return Subset(whole, [place[name] for name in names])


def group_of(name: str, pattern: str | None) -> str:
    """Return the group of a sample: the first group of the match, or the whole match; without a pattern its name.

    Raises:
        DataError: the pattern is nowhere in the name.
    """
    if pattern is None:
        return name
    match = re.search(pattern, name)
    if match is None:
        raise DataError(f"data.split.group: {pattern!r} is nowhere in the name {name!r}.")
    return match[1] if match.re.groups else match[0]


def divide(
    names: Sequence[str],
    groups: Sequence[str],
    shares: Sequence[float],
    presence: np.ndarray | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Return which part each sample belongs to, int64 (N,): parts of the given shares, groups never torn.

    With `presence`, iterative stratification: the class with the fewest samples left goes first, each of its groups to
    the part that lacks the class most. Sechidis et al. 2011, https://doi.org/10.1007/978-3-642-23808-6_10, with groups
    in place of samples. The result does not depend on the order of the samples.

    Args:
        names: of the samples, all different.
        groups: group of each.
        shares: of the parts; they add up to 1.
        presence: bool (N, C), which classes each sample shows, or None.
        seed: 0 or more.

    Raises:
        DataError: fewer groups than parts.
    """
    known = sorted(set(groups))
    if len(known) < len(shares):
        raise DataError(f"{len(known)} group(s) of samples cannot be divided into {len(shares)} parts.")
    number = {group: index for index, group in enumerate(known)}
    of = np.array([number[group] for group in groups])
    sizes = np.bincount(of, minlength=len(known))
    counts = np.zeros((len(known), 0 if presence is None else presence.shape[1]))
    if presence is not None:
        np.add.at(counts, of, presence)
    order = np.random.default_rng(seed).permutation(len(known))
    wanted = np.asarray(shares, float)
    room, lack = wanted * len(names), wanted[:, None] * counts.sum(0)
    part = np.full(len(known), -1)

    def put(group: int, to: int) -> None:
        part[group] = to
        room[to] -= sizes[group]
        lack[to] -= counts[group]

    while counts.shape[1] and (left := (counts[part < 0] > 0).sum(0)).any():
        rarest = int(np.where(left > 0, left, len(known) + 1).argmin())
        for group in order:
            if part[group] < 0 and counts[group, rarest] > 0:
                best = np.flatnonzero(lack[:, rarest] >= lack[:, rarest].max() - 1e-9)
                put(group, int(best[room[best].argmax()]))
    for group in order:
        if part[group] < 0:
            put(group, int(room.argmax()))
    for empty in sorted(set(range(len(shares))) - set(part.tolist())):
        # a share below one sample: the smallest group of the fullest part
        fullest = int(np.bincount(part, minlength=len(shares)).argmax())
        inside = np.flatnonzero(part == fullest)
        part[inside[sizes[inside].argmin()]] = empty
    return part[of]


def _by_column(splits: Sequence[str], groups: Sequence[str] | None, which: str, csv: str) -> list[int]:
    """Return the rows of a split by the column `split`; groups must be in one."""
    seen: dict[str, str] = {}
    for split, group in zip(splits, groups or [], strict=False):
        if split in ("train", "val") and seen.setdefault(group, split) != split:
            raise DataError(f"{csv}: the group {group!r} is in train and in val. Put each group into one split.")
    found = [index for index, split in enumerate(splits) if split == which]
    if not found:
        raise DataError(f"{csv}: no row whose column split is {which!r}; there are {', '.join(sorted(set(splits)))}.")
    return found


def _refuse_common(named: Mapping[str, Source], group: str | None) -> None:
    """Raise DataError where a sample, or its group, is in both splits."""
    train, val = ({group_of(name, group) for name in source.ids} for source in (named["train"], named["val"]))
    if common := sorted(train & val):
        what = "sample" if group is None else "group"
        shown = ", ".join(common[:5]) + (", ..." if len(common) > 5 else "")
        raise DataError(f"data.split: {len(common)} {what}(s) are in train and in val: {shown}.")
