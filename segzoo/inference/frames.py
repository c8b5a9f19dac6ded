"""Files with something for every frame of a video: archives of arrays, and videos; each is written whole or not."""

from __future__ import annotations

import errno
import math
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from segzoo.errors import StorageError
from segzoo.files import replacing


@contextmanager
def frame_archive(path: Path, rate: float, **arrays: np.ndarray) -> Iterator[Callable[[int, np.ndarray], None]]:
    """Write an .npz with an array for each frame, `frame_000000` and so on; `numpy.load` reads one frame at a time.

    Args:
        path: the file; it is there, and whole, when the block ends.
        rate: frames a second, kept under "rate".
        arrays: further arrays, by their names.

    Yields:
        a function that takes the number of a frame and its array.
    """
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:

        def put(name: str, array: np.ndarray) -> None:
            with archive.open(f"{name}.npy", "w") as stream:
                np.lib.format.write_array(stream, np.asarray(array, order="C"), allow_pickle=False)

        for name, array in {"rate": np.array(rate), **arrays}.items():
            put(name, array)
        yield lambda number, array: put(f"frame_{number:06d}", array)


@contextmanager
def video_file(path: Path, rate: float) -> Iterator[Callable[[np.ndarray], None]]:
    """Write an MP4 without sound; where height or width are odd, it has one row or column more.

    Args:
        path: the file; it is there, and whole, when the block ends.
        rate: frames a second.

    Yields:
        a function that appends a frame `(H, W, 3)`, RGB uint8, of one size all; one is needed at least.

    Raises:
        StorageError: OpenCV cannot write it, or did not write all of it.
    """
    writer, count = None, 0
    with replacing(path) as temporary:

        def append(frame: np.ndarray) -> None:
            nonlocal writer, count
            below, beside = (side % 2 for side in frame.shape[:2])  # the codec takes even sizes, and would cut
            padded = np.pad(frame, ((0, below), (0, beside), (0, 0)), mode="edge")
            height, width = padded.shape[:2]
            if writer is None:
                writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*"mp4v"), rate, (width, height))
                if not writer.isOpened():
                    raise StorageError(errno.EIO, f"OpenCV opens no MP4 of {width} x {height} pixels there", str(path))
            writer.write(cv2.cvtColor(padded, cv2.COLOR_RGB2BGR))
            count += 1

        try:
            yield append
        finally:
            if writer is not None:
                writer.release()
        if (kept := count_frames(temporary)) != count:  # a full disk, of which OpenCV says nothing
            raise StorageError(errno.EIO, f"{kept} of {count} frames arrived, as on a disk that is full", str(path))


def count_frames(path: Path) -> int:
    """Return the number of frames that a video states, 0 where it does not or cannot be opened."""
    count = cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT)
    return int(count) if math.isfinite(count) and count > 0 else 0
