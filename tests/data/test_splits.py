from pathlib import Path

import numpy as np
import pytest

from segzoo.data import Sample, Subset, split
from segzoo.data.splits import by_column, deal, groups_of, listed, listed_pairs
from segzoo.errors import DataError

IDS = [f"p{n // 4:02d}_{n % 4}" for n in range(100)]


class Labelled:
    """Samples of one pixel for each class that they show."""

    def __init__(self, shown: np.ndarray):
        self.shown = shown
        self.ids = [f"s{n:03d}" for n in range(len(shown))]
        self.classes, self.ignore_index = [f"c{n}" for n in range(shown.shape[1])], 255

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        mask = np.append(np.flatnonzero(self.shown[index]), 255)[None].astype(np.uint8)
        return Sample(np.zeros((*mask.shape, 3), np.uint8), mask, self.ids[index])

    def fingerprint(self) -> str:
        return "labelled"


@pytest.fixture
def rare() -> Labelled:
    """200 samples: a class in all, one in 40, one in 10."""
    shown = np.zeros((200, 3), bool)
    shown[:, 0] = True
    rng = np.random.default_rng(0)
    shown[rng.choice(200, 40, replace=False), 1] = True
    shown[rng.choice(200, 10, replace=False), 2] = True
    return Labelled(shown)


def names(parts: list[list[int]], ids: list[str]) -> list[set[str]]:
    return [{ids[place] for place in part} for part in parts]


def test_a_test_share_is_dealt_first_and_the_same_in_every_fold():
    source = Labelled(np.ones((100, 2), bool))
    shared = split(source, fraction=0.3, test_fraction=0.2)
    assert {name: len(part) for name, part in shared.items()} == {"test": 20, "train": 50, "val": 30}
    assert sorted(name for part in shared.values() for name in part.ids) == source.ids
    folds = [split(source, fold=(index, 4), test_fraction=0.2) for index in range(4)]
    assert all(fold["test"].ids == shared["test"].ids for fold in folds)
    assert [len(fold["val"]) for fold in folds] == [20] * 4
    assert sorted(name for fold in folds for name in fold["val"].ids) == sorted(
        set(source.ids) - set(shared["test"].ids)
    )
    grouped = split(source, fraction=0.3, test_fraction=0.2, group=r"^s\d\d")
    tens = {name: {id[:3] for id in part.ids} for name, part in grouped.items()}
    assert [len(tens[name]) for name in ("test", "val", "train")] == [2, 3, 5]
    assert not tens["test"] & tens["val"] and not tens["test"] & tens["train"]
    # Without a test split the deal is what it always was.
    assert split(source, fraction=0.3)["val"].places == deal(source.ids, [0.3, 0.7])[0]


def test_a_list_or_a_word_in_the_table_names_the_test_split(tmp_path):
    source = Labelled(np.ones((6, 2), bool))
    for name, ids in {"train": source.ids[:3], "val": source.ids[3:5], "test": source.ids[5:]}.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(ids))
    lists = {name: tmp_path / f"{name}.txt" for name in ("train", "val", "test")}
    assert split(source, **lists)["test"].ids == ["s005"]
    (tmp_path / "test.txt").write_text("s004\ns005")
    with pytest.raises(DataError, match=r"'s004' .* in both .*val\.txt and .*test\.txt"):
        split(source, **lists)
    table = tmp_path / "table.csv"
    table.write_text("image,split\n" + "\n".join(f"{id},{w}" for id, w in zip(source.ids, "aabbcc", strict=True)))
    table.write_text(table.read_text().replace(",a", ",train").replace(",b", ",valid").replace(",c", ",Test"))
    assert split(source, csv=table)["test"].ids == ["s004", "s005"]
    table.write_text(table.read_text().replace(",Test", ",unused"))
    assert set(split(source, csv=table)) == {"train", "val"}


@pytest.mark.parametrize("share", [0.1, 0.2, 0.37, 0.5])
def test_every_sample_is_in_one_part_and_the_shares_are_met(share):
    val, train = deal(IDS, [share, 1 - share])
    assert len(val) == round(share * 100)
    assert sorted(val + train) == list(range(100))


def test_the_deal_depends_on_names_and_seed_and_not_on_the_order_of_files():
    other = [IDS[place] for place in np.random.default_rng(1).permutation(100)]
    assert names(deal(IDS, [0.3, 0.7]), IDS) == names(deal(other, [0.3, 0.7]), other)
    assert names(deal(IDS, [0.3, 0.7]), IDS) != names(deal(IDS, [0.3, 0.7], seed=1), IDS)


def test_folds_are_disjoint_cover_all_and_differ_by_one_at_most():
    folds = deal(IDS[:98], [1] * 5)
    assert sorted(place for fold in folds for place in fold) == list(range(98))
    assert {len(fold) for fold in folds} == {19, 20}


def test_without_strata_every_sample_is_as_likely_to_be_held_out():
    held = np.zeros(20)
    for seed in range(600):
        held[deal(IDS[:20], [0.25, 0.75], seed)[0]] += 1
    assert np.abs(held / 600 - 0.25).max() < 0.075  # 4 standard deviations


def test_no_group_is_in_two_parts():
    groups = groups_of(IDS, r"^(p\d+)_")
    parts = deal(IDS, [0.2, 0.8], 3, groups)
    assert not {groups[place] for place in parts[0]} & {groups[place] for place in parts[1]}
    assert len(parts[0]) == 20


def test_strata_give_every_class_its_share(rare):
    # A uniform deal would leave the class of ten samples out of one fold of five in two cases of three.
    folds = deal(rare.ids, [1] * 5, shown=rare.shown)
    for fold in folds:
        assert rare.shown[fold].sum(0).tolist() == [40, 8, 2]


def test_groups_and_strata_together(rare):
    groups = [f"g{n // 4}" for n in range(200)]
    val, train = deal(rare.ids, [0.25, 0.75], 0, groups, rare.shown)
    assert not {groups[place] for place in val} & {groups[place] for place in train}
    assert 1 <= rare.shown[val, 2].sum() <= 4 and 8 <= rare.shown[val, 1].sum() <= 12


def test_a_small_share_of_few_samples_is_not_empty():
    assert [len(part) for part in deal(IDS[:4], [0.05, 0.95])] == [1, 3]


def test_fewer_groups_than_parts_are_refused():
    with pytest.raises(DataError, match="2 groups cannot be split into 3 parts"):
        deal(IDS[:8], [1, 1, 1], groups=groups_of(IDS[:8], "^p.."))


def test_a_pattern_that_misses_samples_names_one():
    with pytest.raises(DataError, match="finds no group in 1 of 3 samples, first 'odd'"):
        groups_of(["p1_a", "odd", "p2_b"], r"p\d")


def test_lists_hold_names_or_paths_of_images_in_their_order(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("# all\n/x/train/b.png\n\na\r\nC:\\data\\c.v2.png\n", encoding="utf-8")
    assert listed(path, ["a", "b", "c.v2"]) == [1, 0, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\nnobody\n", "line 2: there is no sample 'nobody'"),
        ("a\nb\nx/a.png\n", "line 3: 'a' stands in line 1 already"),
        ("# nothing\n", "names no sample"),
    ],
)
def test_lists_that_cannot_be_used_are_refused_with_their_line(tmp_path, text, message):
    path = tmp_path / "list.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        listed(path, ["a", "b"])


@pytest.fixture
def table(tmp_path) -> Path:
    path = tmp_path / "table.csv"
    rows = [f"img/s{n:03d}.png,{['train', 'valid', 'test'][n % 3]},ward{n % 7}" for n in range(200)]
    path.write_text("image,split,ward\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_a_column_says_the_split_and_other_words_are_in_neither(rare, table):
    found = split(rare, csv=table)
    assert found["train"].ids == rare.ids[::3] and found["val"].ids == rare.ids[1::3]


def test_a_column_says_the_group(rare, table):
    found = split(rare, csv=table, fraction=0.3, group="ward")
    wards = [{int(name[1:]) % 7 for name in part.ids} for part in found.values()]
    assert not wards[0] & wards[1] and wards[0] | wards[1] == set(range(7))


def test_tables_that_cannot_be_used_are_refused(rare, table, tmp_path):
    with pytest.raises(DataError, match="no column 'patient'; it has image, split, ward"):
        by_column(table, rare.ids, "patient")
    with pytest.raises(DataError, match="no row for 1 of 201 samples, first 's900'"):
        by_column(table, [*rare.ids, "s900"], "ward")
    (tmp_path / "two.csv").write_text("image,split\na.png,train\na.png,val\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"line 3: 'a.png' has a row already"):
        by_column(tmp_path / "two.csv", ["a"], "split")
    (tmp_path / "one.csv").write_text("image,split\ns007.png,train\n", encoding="utf-8")
    with pytest.raises(DataError, match="no sample is in the split val; the column split holds train"):
        split(Subset(rare, [7]), csv=tmp_path / "one.csv")


def test_folds_of_a_source_are_each_validated_once(rare):
    held = [name for index in range(4) for name in split(rare, fold=(index, 4), stratify=True)["val"].ids]
    assert sorted(held) == rare.ids


def test_a_sample_in_both_lists_is_refused(rare, tmp_path):
    for name, text in (("a", "s001\ns002\n"), ("b", "s002\n")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="'s002' and 0 more stand in both"):
        split(rare, train=tmp_path / "a", val=tmp_path / "b")


def test_a_subset_reads_its_samples_and_has_a_fingerprint_of_its_own(rare):
    part = Subset(rare, [5, 2])
    assert part.ids == ["s005", "s002"] and part[1].id == "s002" and len(part) == 2
    assert part.fingerprint() != Subset(rare, [2, 5]).fingerprint()


@pytest.fixture
def files(tmp_path) -> Path:
    """Images and masks in folders of their own, with a list of both, as CamVid publishes it."""
    for name in ("x/a.png", "y/b.png", "xannot/a.png", "yannot/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "list.txt").write_text("x/a.png xannot/a.png\n\n y/b.png\tyannot/b.png\n", encoding="utf-8")
    return tmp_path


def test_a_list_of_images_and_masks_names_both(files):
    pairs = listed_pairs(files / "list.txt", files)
    assert [(pair.name, pair.image, pair.mask.parent.name) for pair in pairs] == [
        ("a", files / "x/a.png", "xannot"),
        ("b", files / "y/b.png", "yannot"),
    ]


def test_images_of_one_name_in_two_folders_are_named_by_their_path(files):
    (files / "list.txt").write_text("x/a.png xannot/a.png\nxannot/a.png x/a.png\n", encoding="utf-8")
    assert [pair.name for pair in listed_pairs(files / "list.txt", files)] == ["x/a", "xannot/a"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x/a.png xannot/a.png\ny/b.png\n", "line 2: holds 1 words"),
        ("x/a.png xannot/z.png\n", r"line 1: there is no .*z\.png"),
        ("x/a.png xannot/a.png\nx/a.png xannot/a.png\n", "line 2: .* twice"),
    ],
)
def test_lists_of_files_that_cannot_be_used_are_refused(files, text, message):
    (files / "list.txt").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        listed_pairs(files / "list.txt", files)


def test_a_list_of_names_alone_is_no_list_of_files(files):
    (files / "list.txt").write_text("# names\na\nb\n", encoding="utf-8")
    assert listed_pairs(files / "list.txt", files) is None


SPACED = {
    "quotes": '"images/scan {0}.png" "masks/scan {0}.png"',
    "single quotes": "'images/scan {0}.png' 'masks/scan {0}.png'",
    "tab": "images/scan {0}.png\tmasks/scan {0}.png",
    "cut where both files exist": "images/scan {0}.png masks/scan {0}.png",
}


@pytest.fixture
def spaced(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for number in range(2):
            (tmp_path / folder / f"scan {number}.png").touch()
    return tmp_path


@pytest.mark.parametrize("form", SPACED)
def test_paths_with_spaces(form, spaced):
    (spaced / "list.txt").write_text("\n".join(SPACED[form].format(number) for number in range(2)), encoding="utf-8")
    pairs = listed_pairs(spaced / "list.txt", spaced)
    assert [pair.name for pair in pairs] == ["scan 0", "scan 1"]
    assert [pair.mask for pair in pairs] == [spaced / "masks" / f"scan {number}.png" for number in range(2)]


@pytest.mark.parametrize("form", ["scan {0}", '"scan {0}"', "images/scan {0}.png", '"images/scan {0}.png"'])
def test_names_with_spaces(form, spaced):
    path = spaced / "list.txt"
    path.write_text("\n".join(form.format(number) for number in (1, 0)), encoding="utf-8")
    assert listed(path, ["scan 0", "scan 1"]) == [1, 0]


def test_names_with_spaces_are_no_pairs_of_files(spaced):
    (spaced / "list.txt").write_text("scan 0\nscan 1\n", encoding="utf-8")
    assert listed_pairs(spaced / "list.txt", spaced) is None


def test_a_line_that_can_be_cut_in_two_ways_is_refused(tmp_path):
    for name in ("a", "a b", "b c", "c"):
        (tmp_path / name).touch()
    (tmp_path / "list.txt").write_text("a b c\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 1: can be cut into two files in 2 ways"):
        listed_pairs(tmp_path / "list.txt", tmp_path)
    (tmp_path / "list.txt").write_text('"a b c\n', encoding="utf-8")
    with pytest.raises(DataError, match="line 1: its quotes do not match"):
        listed_pairs(tmp_path / "list.txt", tmp_path)
