"""Splits deal out every sample once, whatever the order of the names, and keep groups together."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from segzoo.data.splits import deal

IDS = st.lists(st.text("abcdefgh/_0123456789", min_size=1, max_size=6), min_size=4, max_size=60, unique=True)
SHARES = st.lists(st.floats(0.05, 1.0), min_size=2, max_size=4)
EXAMPLES = settings(max_examples=100, deadline=None, derandomize=True)  # the same ones every time


@EXAMPLES
@given(IDS, SHARES, st.integers(0, 2**31), st.randoms(use_true_random=False))
def test_every_sample_is_in_one_part_whatever_the_order(ids, shares, seed, random) -> None:
    parts = deal(ids, shares, seed)
    assert sorted(place for part in parts for place in part) == list(range(len(ids)))
    named = [[ids[place] for place in part] for part in parts]
    assert all(part == sorted(part) for part in named)
    shuffled = random.sample(ids, len(ids))
    assert [[shuffled[place] for place in part] for part in deal(shuffled, shares, seed)] == named
    for part, share in zip(parts, shares, strict=True):
        assert abs(len(part) - len(ids) * share / sum(shares)) <= len(shares)  # no part is empty


@EXAMPLES
@given(st.lists(st.integers(0, 9), min_size=20, max_size=60), st.integers(0, 1000), st.booleans())
def test_groups_stay_together(numbers: list[int], seed: int, stratified: bool) -> None:
    groups = [f"g{number}" for number in numbers]
    ids = [f"s{place:03d}" for place in range(len(groups))]
    if len(set(groups)) < 2:
        return
    shown = np.random.default_rng(seed).random((len(ids), 3)) < 0.3 if stratified else None
    one, other = deal(ids, [0.7, 0.3], seed, groups, shown)
    assert sorted([*one, *other]) == list(range(len(ids)))
    assert not {groups[place] for place in one} & {groups[place] for place in other}
    largest = max(groups.count(group) for group in groups)
    assert stratified or abs(len(one) - 0.7 * len(ids)) <= largest
