"""Files that pair by name, and entries of a folder that are no file or look like another."""

from __future__ import annotations

import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.data import FolderSource
from segzoo.errors import DataError

CLASSES = ["ground", "thing"]


def write(root: Path, image: str = "{}.png", mask: str = "{}.png", count: int = 3, split: str = "train") -> Path:
    for folder, name in (("images", image), ("masks", mask)):
        (root / split / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            size = (8, 8, 3) if folder == "images" else (8, 8)
            Image.fromarray(np.full(size, number % 2, np.uint8)).save(root / split / folder / name.format(number))
    return root


def source(root: Path, **changes) -> FolderSource:
    return FolderSource(root, "train", CLASSES, **changes)


def both_verdicts(root: Path, **changes) -> tuple[str, list[tuple[str, str]]]:
    """Return training's refusal, "" for none, and the errors that check-data finds by listing: (kind, message)."""
    refusal = ""
    try:
        training = source(root, **changes)
        for index in range(len(training)):
            training[index]
    except DataError as error:
        refusal = str(error)
    lenient = source(root, strict=False, **changes)
    return refusal, [(problem.kind, problem.message) for problem in lenient.problems if problem.severity == "error"]


def test_prefixes(tmp_path) -> None:
    write(tmp_path, "image_{}.png", "mask_{}.png")
    found = source(tmp_path, image_prefix="image_", mask_prefix="mask_")
    assert found.ids == ["0", "1", "2"]
    assert [int(found[index].mask.max()) for index in range(3)] == [0, 1, 0]
    with pytest.raises(DataError, match=r"looked for scan_\*\.jpg"):
        source(tmp_path, image_prefix="scan_")


def test_prefixes_tell_images_and_masks_of_one_folder_apart(tmp_path) -> None:
    write(tmp_path, "{}.png", "mask_{}.png")
    for path in (tmp_path / "train" / "masks").iterdir():
        path.rename(tmp_path / "train" / "images" / path.name)
    assert source(tmp_path, mask_dir="images", mask_prefix="mask_").ids == ["0", "1", "2"]


def test_init_finds_prefixes(tmp_path) -> None:
    from segzoo.autoconfig import look

    write(tmp_path, "image_{}.png", "mask_{}.png", 6)
    found = look(tmp_path / "train" / "images", tmp_path / "train" / "masks", None, None, None)
    assert (found.pairs, found.image_prefix, found.mask_prefix, found.unpaired) == (6, "image_", "mask_", 0)


def test_names_in_two_unicode_forms_are_named_with_the_cure(tmp_path) -> None:
    write(tmp_path, unicodedata.normalize("NFD", "vélo{}.png"), unicodedata.normalize("NFC", "vélo{}.png"))
    with pytest.raises(DataError, match=r"no image has a mask|another Unicode form \(NFD and NFC\)") as refused:
        source(tmp_path)
    assert "convmv" in str(refused.value)
    with pytest.raises(DataError, match="another Unicode form"):
        source(tmp_path, strict=False)
    write(tmp_path)  # beside pairs that are right
    refusal, errors = both_verdicts(tmp_path)
    assert "another Unicode form (NFD and NFC)" in refusal
    assert sum("another Unicode form" in message for _, message in errors) == 6


def fifo(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to(path.name)


def dangling(path: Path) -> None:
    path.symlink_to("nowhere.png")


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


ENTRIES = {"a folder": Path.mkdir, "pipe": fifo, "leads back": endless, "not there": dangling, "a device": device}


@pytest.mark.parametrize("place", ["images", "masks"])
@pytest.mark.parametrize("what", ENTRIES)
def test_entries_that_are_no_files_are_named_and_never_opened(tmp_path, what: str, place: str) -> None:
    write(tmp_path)
    path = tmp_path / "train" / place / "1.png"
    path.unlink()
    ENTRIES[what](path)
    refusal, errors = both_verdicts(tmp_path)
    assert str(path) in refusal and what in refusal
    assert any(str(path) in message and what in message for _, message in errors)


def test_the_same_name_in_two_folders_of_a_star(tmp_path) -> None:
    for part in ("a", "b"):
        write(tmp_path / "train", split=part)
    refusal, errors = both_verdicts(tmp_path, image_dir="*/images", mask_dir="*/masks")
    assert "have the same stem, so one image is ambiguous" in refusal
    assert [kind for kind, _ in errors].count("same_stem") == 6


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints", ".site9"])
def test_a_star_stands_for_no_hidden_folder(tmp_path, hidden: str) -> None:
    write(tmp_path / "train", split="a")
    shutil.copytree(tmp_path / "train" / "a", tmp_path / "train" / hidden)
    for kind in ("images", "masks"):
        (tmp_path / "train" / hidden / kind / "2.png").rename(tmp_path / "train" / hidden / kind / "9.png")
    stars = {"image_dir": "*/images", "mask_dir": "*/masks"}
    assert source(tmp_path, **stars).ids == source(tmp_path, strict=False, **stars).ids == ["0", "1", "2"]
    named = {"image_dir": f"{hidden}/image*", "mask_dir": f"{hidden}/mask*"}
    assert source(tmp_path, **named).ids == ["0", "1", "9"]


def test_files_of_other_endings_are_named(tmp_path) -> None:
    write(tmp_path)
    (tmp_path / "train" / "images" / "3.jp2").write_bytes(b"x")
    (tmp_path / "train" / "masks" / "3.jpg").write_bytes(b"x")
    found = {problem.id: problem for problem in source(tmp_path, strict=False).problems}
    assert {"3.jp2", "3.jpg"} <= found.keys()
    assert all(found[name].kind == "not_an_image" for name in ("3.jp2", "3.jpg"))
