"""Prediction of videos: their frames, decoded one batch at a time, and the results of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from segzoo.data.images import ImageReader
from segzoo.errors import DataError
from segzoo.inference.results import Results

_USUAL_RATE = 25.0  # frames a second, of a video that does not say
_MISSING = 0.02  # share of frames by which a header may be wrong, beside two: containers count roughly


def predict_videos(
    results: Results,
    reader: ImageReader,
    predict: Callable[[np.ndarray], Iterable[Sequence[np.ndarray | None]]],
    batch: int = 1,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Predict the videos of `results`; one that cannot be read is listed as failed, and the next ones go on.

    Args:
        results: takes and writes what was predicted.
        reader: makes of a frame what the model takes.
        predict: function from images `(B, H, W, C)` to the class map, probabilities and disagreement of each.
        batch: most frames in one pass.
        progress: called after each batch with the number of frames done so far.
    """
    before = 0
    for job in results.videos:
        done = 0
        try:
            source = Video(job.image, reader)
            with results.open_video(job, source.rate) as add:
                for frames in source.batches(batch):
                    for frame, found in zip(frames, predict(source.images(frames)), strict=True):
                        add(frame, *found)
                    done += len(frames)
                    if progress is not None:
                        progress(before + done)
                source.check_whole(done)
        except DataError as error:
            results.summary.failed[job.image] = str(error)
        before += done


class Video:
    """Frames of a video file, decoded by OpenCV, turned as the file says.

    Args:
        path: the file.
        reader: makes of a frame what the model takes; its limit of pixels holds for frames.

    Attributes:
        rate: frames a second; 25 where the file does not say.
        frames: their number as the file states it, which may be a little off; 0 where it does not.
        size: height and width.

    Raises:
        DataError: a file that is missing, that OpenCV cannot decode, or whose frames are too large.
    """

    def __init__(self, path: Path, reader: ImageReader):
        self.path = path
        self._reader = reader
        self._capture = cv2.VideoCapture(str(path))
        read, first = self._capture.read() if self._capture.isOpened() else (False, None)
        if not read or first is None:
            reason = "OpenCV finds no frame in this video" if path.is_file() else "no such video"
            raise DataError(f"{path}: {reason}. Convert it to MP4 or AVI: ffmpeg -i {path.name} clip.mp4.")
        self._first = first
        self.size: tuple[int, int] = first.shape[:2]
        rate, frames = (self._capture.get(key) for key in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT))
        self.rate = rate if math.isfinite(rate) and 0 < rate < 1000 else _USUAL_RATE
        self.frames = int(frames) if math.isfinite(frames) and frames > 0 else 0
        if self.size[0] * self.size[1] > reader.max_pixels:
            raise DataError(
                f"{path}: has frames of {self.size[1]} x {self.size[0]} pixels, and {reader.max_pixels:,} are the "
                "most. Raise --max-pixels (max_pixels) for them."
            )

    def batches(self, most: int) -> Iterator[list[np.ndarray]]:
        """Iterate over lists of at most `most` frames `(H, W, 3)`, RGB uint8."""
        batch, frame, read = [], self._first, True
        while read:
            if frame.shape[:2] != self.size:
                raise DataError(f"{self.path}: its frames change their size.")
            batch.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
            if len(batch) == most:
                yield batch
                batch = []
            read, frame = self._capture.read()
        if batch:
            yield batch
        self._capture.release()

    def images(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """Convert frames to images `(B, H, W, C)` as the reader makes them of pictures."""
        return np.stack([self._reader.of_array(frame, self.path) for frame in frames])

    def check_whole(self, done: int) -> None:
        """Raise DataError if far fewer frames were read than the file states: OpenCV ends in silence at damage."""
        if done < self.frames * (1 - _MISSING) - 2:
            raise DataError(
                f"{self.path}: ends after {done} of {self.frames} frames, so it is damaged or not whole. Repair it: "
                f"ffmpeg -i {self.path.name} clip.mp4."
            )
