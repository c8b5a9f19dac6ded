"""Lists, CSV, fractions, folds, groups and strata."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from segzoo.config import load_config
from segzoo.data.splits import divide, group_of
from segzoo.errors import ConfigError, DataError
from segzoo.training import assemble

CONFIG = """
model: {{decoder: fpn, backbone: efficientnet_b0, weights: none}}
data: {{source: folder, root: data, classes: [ground, thing], train_split: ., split: {split}}}
training: {{epochs: 1}}
"""


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    """Twelve samples of four patients, of which every third shows the thing."""
    monkeypatch.chdir(tmp_path)
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    for number in range(12):
        mask = np.full((32, 32), 0, np.uint8)
        mask[:4] = number % 3 == 0
        name = f"p{number // 3}_{number:02d}"
        cv2.imwrite(str(tmp_path / "data" / "images" / f"{name}.jpg"), np.full((32, 32, 3), 20 * number, np.uint8))
        cv2.imwrite(str(tmp_path / "data" / "masks" / f"{name}.png"), mask)
    return tmp_path / "data"


def ids(split: str) -> tuple[list[str], list[str]]:
    Path("run.yaml").write_text(CONFIG.format(split=split))
    config = load_config("run.yaml")
    train, val = (assemble.build_source(config, which) for which in ("train", "val"))
    assert train[0].image.shape == (32, 32, 3) and train.fingerprint() != val.fingerprint()
    return train.ids, val.ids


def names(*numbers: int) -> list[str]:
    return [f"p{n // 3}_{n:02d}" for n in numbers]


def test_lists_of_image_and_mask(data):
    lines = [f"/images/{name}.jpg /masks/{name}.png" for name in names(*range(12))]
    Path("train.txt").write_text("# heading\n" + "\n".join(lines[:9]) + "\n\n")
    Path("val.txt").write_text("\n".join(line.replace(" ", "\t") for line in lines[9:]))
    train, val = ids("{lists: {train: train.txt, val: val.txt}}")
    assert train == [f"images/{name}" for name in names(*range(9))] and len(val) == 3


def test_lists_of_names(data):
    Path("train.txt").write_text("\n".join(names(3, 1, 2)))
    Path("val.txt").write_text("\n".join(names(7, 8)))
    assert ids("{lists: {train: train.txt, val: val.txt}}") == (names(3, 1, 2), names(7, 8))


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("p0_00\np0_00", "p0_00 is there twice"),
        ("p9_00", "there is no image 'p9_00'"),
        ("", "lists no sample"),
        ("images/p0_00.jpg masks/p0_00.png extra", r"train\.txt:1: .* is not an image and a mask"),
        ("images/p0_00.jpg masks/none.png", r"train\.txt:1: there is no data.masks.none\.png"),
        ("images/p0_00.jpg masks/p0_00.png\np0_01", "others one word only, such as 'p0_01'"),
        ("p3_11", r"1 sample\(s\) are in train and in val: p3_11"),
    ],
)
def test_lists_that_cannot_be_used(data, train, message):
    Path("train.txt").write_text(train)
    Path("val.txt").write_text("p3_11")
    with pytest.raises(DataError, match=message):
        ids("{lists: {train: train.txt, val: val.txt}}")


def write_csv(patients=True):
    rows = [
        f"images/{name}.jpg,masks/{name}.png,{'val' if name.startswith('p3') else 'train'},{name[:2]}"
        for name in names(*range(12))
    ]
    Path("all.csv").write_text("image,mask,split,patient\n" + "\n".join(rows) + "\n")


def test_a_csv_names_files_splits_and_groups(data):
    write_csv()
    train, val = ids("{csv: all.csv, group: patient}")
    assert len(train) == 9 and [Path(name).name for name in val] == names(9, 10, 11)
    text = Path("all.csv").read_text()
    Path("all.csv").write_text(text.replace("p3_11.png,val", "p3_11.png,train"))
    with pytest.raises(DataError, match="the group 'p3' is in train and in val"):
        ids("{csv: all.csv, group: patient}")
    with pytest.raises(DataError, match=r"no column 'scene'\. Its columns: image, mask, split, patient"):
        ids("{csv: all.csv, group: scene}")
    train, val = ids("{csv: all.csv, group: patient, val_fraction: 0.25}")
    assert len(val) == 3 and len({Path(name).name[:2] for name in val}) == 1


def test_a_fraction_is_a_function_of_the_seed(data):
    first, again, other = (ids(f"{{val_fraction: 0.25, seed: {seed}}}") for seed in (0, 0, 1))
    assert first == again != other
    assert len(first[1]) == 3 and sorted(first[0] + first[1]) == names(*range(12))


def test_no_group_is_in_two_splits(data):
    train, val = ids("{val_fraction: 0.5, group: '^(p[0-9]+)_'}")
    assert len(val) == 6 and not {name[:2] for name in train} & {name[:2] for name in val}
    with pytest.raises(DataError, match="'scene' is nowhere in the name"):
        ids("{val_fraction: 0.5, group: scene}")


def test_folds_are_disjoint_and_cover_everything(data):
    folds = [ids(f"{{fold: {number} of 4}}") for number in range(1, 5)]
    assert sorted(name for _, val in folds for name in val) == names(*range(12))
    assert all(len(val) == 3 and not set(train) & set(val) for train, val in folds)


def test_strata_have_the_class_in_every_fold(data):
    """Four samples of twelve show the thing: one in each of four folds, whatever the seed."""
    for seed in (0, 1):
        for number in range(1, 5):
            _, val = ids(f"{{fold: {number} of 4, stratify: true, seed: {seed}}}")
            assert len(val) == 3 and sum(int(name[-2:]) % 3 == 0 for name in val) == 1


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("{}", "needs lists, csv, val_fraction or fold"),
        ("{fold: 6 of 5}", "'6 of 5' is none"),
        ("{fold: five}", "fold"),
        ("{fold: 1 of 5, val_fraction: 0.1}", "goes without val_fraction"),
        ("{lists: {train: a.txt}}", "needs both train and val"),
        ("{val_fraction: 1.0}", "below 1"),
        ("{csv: a.csv, stratify: true}", "goes with val_fraction or fold"),
        ("{val_fraction: 0.1, group: '('}", "no regular expression"),
    ],
)
def test_ways_of_dividing_that_make_no_sense(data, split, message):
    with pytest.raises(ConfigError, match=message):
        ids(split)


def test_the_division_depends_on_names_and_not_on_their_order():
    labels = np.random.default_rng(0).random((60, 4)) < [0.9, 0.5, 0.1, 0.05]
    ids_ = [f"s{n}" for n in range(60)]
    groups = [f"g{n % 20}" for n in range(60)]
    parts = divide(ids_, groups, [0.3, 0.7], labels, seed=3)
    shuffled = np.random.default_rng(1).permutation(60)
    again = divide([ids_[n] for n in shuffled], [groups[n] for n in shuffled], [0.3, 0.7], labels[shuffled], seed=3)
    np.testing.assert_array_equal(again, parts[shuffled])
    assert all(len(set(parts[n::20])) == 1 for n in range(20)), "a group is torn"


def test_strata_are_nearer_to_the_shares_than_chance():
    labels = np.random.default_rng(0).random((200, 5)) < [0.8, 0.4, 0.1, 0.05, 0.03]
    names_ = [f"s{n}" for n in range(200)]

    def off(presence, seed):
        inside = divide(names_, names_, [0.25, 0.75], presence, seed) == 0
        assert inside.sum() == 50
        return np.abs(labels[inside].sum(0) / labels.sum(0) - 0.25).max()

    assert max(off(labels, seed) for seed in range(5)) < 0.11  # of six samples one or two are nearest to a quarter
    assert np.mean([off(labels, seed) for seed in range(5)]) < 0.5 * np.mean([off(None, seed) for seed in range(5)])


def test_a_share_below_one_sample_is_one_sample():
    assert (divide(["a", "b", "c"], ["a", "b", "c"], [0.01, 0.99]) == 0).sum() == 1
    with pytest.raises(DataError, match=r"1 group\(s\)"):
        divide(["a", "b"], ["g", "g"], [0.5, 0.5])


def test_groups_by_expression():
    assert (
        group_of("p12_x", r"^(p\d+)_") == "p12" and group_of("p12_x", r"p\d+") == "p12" and group_of("x", None) == "x"
    )
