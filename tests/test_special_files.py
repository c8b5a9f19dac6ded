"""Pipes, devices and files that cannot be read, where text or a picture is due: refused by name, never waited for."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.autoconfig import look
from segzoo.config import load_config
from segzoo.config.loader import find_config
from segzoo.data import ImageReader, Labels, create_format
from segzoo.data.arrays import load_array
from segzoo.data.formats.annotations import read_json
from segzoo.data.formats.rgb import read_colors
from segzoo.data.images import exif_orientation
from segzoo.data.splits import by_column, listed
from segzoo.errors import SegzooError
from segzoo.files import read_at_most, read_text

SPECIAL: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "no end": lambda path: path.symlink_to("/dev/zero"),
    "a pipe behind a link": lambda path: (os.mkfifo(path.with_name("pipe")), path.symlink_to("pipe")),
}
READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "configuration": ("a.yaml", load_config),
    "list": ("a.txt", lambda path: listed(path, ["a"])),
    "table": ("a.csv", lambda path: by_column(path, ["a"], "split")),
    "colours in lines": ("a.csv", read_colors),
    "colours in YAML": ("a.yaml", read_colors),
    "annotations": ("a.json", lambda path: read_json(path, "COCO")),
    "array": ("a.npy", lambda path: load_array(path, 1000)),
    "arrays": ("a.npz", lambda path: load_array(path, 1000)),
    "picture": ("a.png", ImageReader()),
    "TIFF": ("a.tif", ImageReader()),
    "mask": ("a.png", lambda path: create_format("index", Labels(("a", "b"))).read(path, path, (8, 8))),
}


@pytest.fixture(autouse=True)
def never_waits() -> Iterator[None]:
    """Fail a test that waits for ten seconds."""

    def stop(*_: object) -> None:
        raise AssertionError("it waits for a pipe, or reads without an end")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("what", SPECIAL)
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file_is_refused_by_name(reader: str, what: str, tmp_path: Path) -> None:
    name, read = READERS[reader]
    SPECIAL[what](tmp_path / name)
    with pytest.raises(SegzooError) as refused:
        read(tmp_path / name)
    message = str(refused.value)
    assert str(tmp_path / name) in message and "it is a device, pipe or socket, where a file is due" in message


@pytest.mark.parametrize("reader", sorted(READERS.keys() - {"configuration"}))
def test_what_the_system_does_not_read_is_refused_by_name(reader: str, tmp_path: Path) -> None:
    """The memory of a process is a file to `stat`, and reading its first byte fails."""
    name, read = READERS[reader]
    (tmp_path / name).symlink_to("/proc/self/mem")
    with pytest.raises(SegzooError) as refused:
        read(tmp_path / name)
    assert str(tmp_path / name) in str(refused.value)


def test_an_orientation_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    assert exif_orientation(tmp_path / "a.jpg") == 1


def test_limits_and_marks_of_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfab\r\n")
    assert read_text(path) == "ab\r\n" and read_at_most(path, 7) == b"\xef\xbb\xbfab\r\n"
    with pytest.raises(ValueError, match="over 6 bytes"):
        read_text(path, 6)
    (tmp_path / "link").symlink_to(path)
    assert read_text(tmp_path / "link") == "ab\r\n"
    assert find_config(str(path)) == path


def test_a_data_set_with_pipes_is_proposed_without_them(tmp_path: Path) -> None:
    for folder, classes in (("images", 256), ("masks", 2)):
        (tmp_path / folder).mkdir()
        for number in range(4):
            pixels = np.random.default_rng(number).integers(0, classes, (40, 48), np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
        os.mkfifo(tmp_path / folder / "9.png")
    os.mkfifo(tmp_path / "labelmap.txt")
    found = look(tmp_path / "images", tmp_path / "masks")
    assert found.sizes == {(40, 48): 4} and found.read == 4 and found.masks == {"format": "index"}
