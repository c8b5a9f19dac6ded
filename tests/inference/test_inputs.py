"""Inputs of a prediction: files, folders and patterns; what is neither image nor video is counted, not forgotten."""

from __future__ import annotations

from pathlib import Path

import pytest

from segzoo.errors import DataError
from segzoo.inference.inputs import find_inputs


@pytest.fixture
def tree(tmp_path) -> Path:
    """A folder of images, a video and other files."""
    for name in (
        "a.png",
        "b/1.JPG",
        "b/clip.MP4",
        "b/notes.txt",
        "c/x_left.webp",
        "c/x_right.webp",
        ".b/2.png",
        "d.heic",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def names(paths: list[Path], root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def test_folders_are_searched_and_what_is_left_out_is_counted(tree):
    found = find_inputs(tree)
    assert names(found.images, tree) == ["a.png", "b/1.JPG", "c/x_left.webp", "c/x_right.webp"]
    assert names(found.videos, tree) == ["b/clip.MP4"] and found.root == tree
    assert sorted(found.left_out_words.split(", ")) == ["1 .heic", "1 .txt"]


def test_patterns_match_as_in_a_shell_and_several_are_joined_without_duplicates(tree):
    assert names(find_inputs(f"{tree}/**/*_left.*").images, tree) == ["c/x_left.webp"]
    found = find_inputs([f"{tree}/c/*", tree / "a.png", str(tree / "c")])
    assert names(found.images, tree) == ["c/x_left.webp", "c/x_right.webp", "a.png"] and found.root == tree
    assert names(find_inputs(f"{tree}/[bc]").images, tree) == ["b/1.JPG", "c/x_left.webp", "c/x_right.webp"]
    (tree / "[1].png").touch()
    assert names(find_inputs(tree / "[1].png").images, tree) == ["[1].png"]


def test_a_file_that_is_named_is_an_image_whatever_its_ending(tree):
    assert names(find_inputs(tree / "d.heic").images, tree) == ["d.heic"]
    several = find_inputs([tree / "a.png", tree / "missing.png"])
    assert names(several.images, tree) == ["a.png", "missing.png"]  # which fails by itself when it is read


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("missing.png", "no such image or folder"),
        ("*.tif", "no file matches this pattern"),
        ("empty", r"no image in this folder or below among 1 .csv \(looked for .jpg"),
        ([], "nothing to predict: no image was named"),
    ],
)
def test_nothing_to_predict_is_an_error(tree, monkeypatch, given, message):
    monkeypatch.chdir(tree)
    (tree / "empty").mkdir()
    (tree / "empty" / "table.csv").touch()
    with pytest.raises(DataError, match=message):
        find_inputs(given)
