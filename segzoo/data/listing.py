"""Checks on the file names of image and mask folders, without opening a file: pairs, links, foreign files."""

from __future__ import annotations

import errno
import stat
import unicodedata
from collections.abc import Iterator, Mapping
from operator import attrgetter
from pathlib import Path

from segzoo.data.problems import KINDS, Problem


def list_irregular(
    folder: Path, suffixes: tuple[str, ...], root: Path, partners: tuple[str, ...] = ()
) -> Iterator[Problem]:
    """Yield the problems of the entries of a folder that is read without its subfolders.

    That is: files of other endings, two files of one stem, links that leave `root` or lead back to themselves, and
    subfolders with pictures. Hidden files are no problem: no reader takes them.

    Args:
        folder: folder to search; a missing folder yields nothing.
        suffixes: lower-case endings of the files that are read.
        root: the folder that all files should lie in.
        partners: those of `suffixes` that masks have and images have not, so that an image may lie beside its mask.
    """
    stems: dict[tuple[str, bool], Path] = {}
    home = root.resolve()
    for path in sorted(folder.iterdir(), key=attrgetter("name")) if folder.is_dir() else []:
        if path.name.startswith("."):
            continue
        if is_endless(path):
            yield Problem(path.name, f"{path}: a link that leads back to itself.", "symlink_loop")
            continue
        target = path.resolve()
        if path.is_symlink() and not target.is_relative_to(home):
            yield Problem(path.name, f"{path}: a link to {target}, outside of {root}.", "outside_root")
        if path.is_dir():
            if path.is_symlink() and folder.resolve().is_relative_to(target):
                yield Problem(path.name, f"{path}: a link to the folder {target} that it lies in.", "symlink_loop")
            elif path.suffix.lower() in suffixes:
                continue  # which has a picture's name, and is an error
            elif any(inside.suffix.lower() in suffixes for inside in path.iterdir()):
                message = f"{path}: a folder with pictures inside, which are not read."
                yield Problem(path.name, message, "not_an_image")
        elif path.suffix.lower() not in suffixes:
            message = f"{path}: none of the endings that are read here ({', '.join(suffixes)})."
            yield Problem(path.name, message, "not_an_image")
        elif (other := stems.setdefault((path.stem, path.suffix.lower() in partners), path)) is not path:
            message = f"{path}: {other.name} has the same stem. {KINDS['same_stem'].cure}"
            yield Problem(path.name, message, "same_stem")


def list_unpaired(
    images: Mapping[str, Path], masks: Mapping[str, Path], image_folder: Path, mask_folder: Path
) -> Iterator[Problem]:
    """Yield each image without a mask and each mask without an image.

    Args:
        images: stem to file.
        masks: stem to file.
        image_folder: folder of the images.
        mask_folder: folder of the masks.
    """
    for mine, theirs, partner, where in (
        (images, masks, "mask", mask_folder),
        (masks, images, "image", image_folder),
    ):
        for stem in sorted(mine.keys() - theirs.keys()):
            message = f"{mine[stem]}: no {partner} called {stem}.* in {where}."
            alike = [name for name in theirs if name.lower() == stem.lower()]
            if alike:
                message += f" There is {theirs[alike[0]].name}: upper and lower case count."
            elif normal_form(stem) in (normal := {normal_form(name): name for name in theirs}):
                message += f" {same_letters(mine[stem], theirs[normal[normal_form(stem)]])}"
            yield Problem(mine[stem].name, message, "unpaired")


def normal_form(name: str) -> str:
    """Return a name in the Unicode form in which equal letters are equal numbers (NFC, Unicode Annex 15)."""
    return unicodedata.normalize("NFC", name)


def same_letters(one: Path, other: Path) -> str:
    """Return a sentence on two names that look alike and differ, with the cure."""
    forms = [
        next((form for form in ("NFC", "NFD") if unicodedata.is_normalized(form, path.stem)), "a mixed form")
        for path in (one, other)
    ]
    return (
        f"{other.name} looks the same, but its letters are stored in another Unicode form ({forms[0]} and {forms[1]}): "
        "macOS writes accents apart (NFD), other systems as one letter (NFC). Rename the files to one form, such as by "
        "convmv -r -f utf8 -t utf8 --nfc --notest FOLDER."
    )


def no_file(path: Path) -> str:
    """Describe an entry that has a picture's name but is not a file; "" for a file, or a link to one.

    Nothing is opened: reading a pipe or a device would never end.
    """
    if is_endless(path):
        return "a link that leads back to itself"
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return f"a link to {path.readlink()}, which is not there" if path.is_symlink() else f"not there ({error})"
    if stat.S_ISREG(mode):
        return ""
    return "a folder" if stat.S_ISDIR(mode) else "a device, pipe or socket"


def is_endless(path: Path) -> bool:
    """Return True if a path is part of a cycle of links."""
    if not path.is_symlink():
        return False
    try:
        path.stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    return False
