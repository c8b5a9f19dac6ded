"""Inputs of a prediction: images and videos in files, folders and patterns."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from segzoo.data.images import IMAGE_SUFFIXES
from segzoo.errors import DataError

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg")


@dataclass
class Inputs:
    """Images and videos to predict.

    Attributes:
        images: image files.
        videos: video files, told by their endings.
        root: folder whose sub-folders the results keep.
        left_out: numbers of the files in folders and patterns that are neither, by their endings.
    """

    images: list[Path] = field(default_factory=list)
    videos: list[Path] = field(default_factory=list)
    root: Path | None = None
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def left_out_words(self) -> str:
        """Numbers and endings of what was left out, such as "2 .heic, 1 .txt"; "" for nothing."""
        return ", ".join(f"{count} {ending or 'without an ending'}" for ending, count in self.left_out.most_common(8))


def find_inputs(given: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> Inputs:
    """Find the images and videos that paths, folders and patterns name.

    Folders are searched with their sub-folders; hidden files and folders are left out, and links to folders not
    followed. A pattern, such as "photos/**/*_left.png", counts as one only where there is no file of this name. A file
    that is named itself is an image whatever its ending, unless that is one of a video.

    Args:
        given: one of them, or several.

    Returns:
        The files, without duplicates: those of folders and patterns sorted. A single folder is their root, otherwise
        the deepest that holds all.

    Raises:
        DataError: a single path that does not exist, a pattern that matches nothing, or nothing to predict.
    """
    texts = [os.fspath(given)] if isinstance(given, str | os.PathLike) else [os.fspath(one) for one in given]
    found = Inputs()
    files: dict[Path, None] = {}
    for text in texts:
        files.update(dict.fromkeys(_named_by(text, found.left_out, alone=len(texts) == 1)))
    found.images = [path for path in files if path.suffix.lower() not in VIDEO_SUFFIXES]
    found.videos = [path for path in files if path.suffix.lower() in VIDEO_SUFFIXES]
    if not texts:
        raise DataError("There is nothing to predict: no image was named.")
    if not files:
        where = ", ".join(texts[:3])
        among = f" among {found.left_out_words}" if found.left_out else ""
        raise DataError(
            f"{where}: no image in this folder or below{among} (looked for {', '.join(IMAGE_SUFFIXES)} and videos, "
            f"{', '.join(VIDEO_SUFFIXES)})."
        )
    if len(texts) == 1 and Path(texts[0]).is_dir():
        found.root = Path(texts[0])
    else:
        found.root = Path(os.path.commonpath([path.absolute().parent for path in files]))
    return found


def _named_by(text: str, left_out: Counter[str], alone: bool) -> Iterator[Path]:
    path = Path(text)
    if path.is_dir():
        yield from _known(sorted(_below(path)), left_out)
    elif path.exists() or not glob.has_magic(text):
        if alone and not path.exists():
            raise DataError(f"{path}: no such image or folder.")
        yield path  # one that is missing fails by itself where there are others
    else:
        matches = sorted(map(Path, glob.glob(text, recursive=True)))  # noqa: PTH207 - Path's takes no absolute pattern
        if not matches:
            raise DataError(f"{text}: no file matches this pattern.")
        for match in matches:
            yield from _known(sorted(_below(match)) if match.is_dir() else [match], left_out)


def _below(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place, name) for name in names if not name.startswith("."))


def _known(paths: Iterable[Path], left_out: Counter[str]) -> Iterator[Path]:
    """Yield the files with endings of images or videos; count the others."""
    for path in paths:
        ending = path.suffix.lower()
        if ending in IMAGE_SUFFIXES or ending in VIDEO_SUFFIXES:
            yield path
        else:
            left_out[ending] += 1


def find_images(path: str | Path) -> list[Path]:
    """List the image itself, or all images in a folder and, recursively, its sub-folders, sorted.

    JPEG, PNG, BMP, TIFF, WebP, GIF, .npy and .npz by their endings. Hidden files and folders are left out (archives
    from macOS bring "._NAME.jpg"), and links to folders are not followed, for they can lead in circles.

    Raises:
        DataError: a missing file or folder, or a folder without images.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    found = find_inputs(path).images
    if not found:
        raise DataError(f"{path}: no image in this folder or below (looked for {', '.join(IMAGE_SUFFIXES)}).")
    return found
