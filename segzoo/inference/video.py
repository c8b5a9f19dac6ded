"""Prediction of videos: a video of overlays, and an archive with the class map of every frame."""

from __future__ import annotations

import errno
import math
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import cv2
import numpy as np

from segzoo.data.images import ImageReader
from segzoo.errors import DataError, SegzooError, StorageError
from segzoo.files import replacing
from segzoo.inference.legend import Legend
from segzoo.inference.outputs import OutputOptions, PredictionSummary
from segzoo.inference.predictor import Predictor

_FILES = {"classes": ("classes", ".npz"), "overlay": ("overlays", ".mp4")}
_USUAL_RATE = 25.0  # frames a second, of a video that does not say
_MISSING = 0.02  # share of frames by which a header may be wrong, beside two: containers count roughly


class VideoResults:
    """Results of predicting videos; see `predict`.

    Of `<root>/a/clip.mov` they are `<out>/classes/a/clip.npz` and `<out>/overlays/a/clip.mp4`. The archive has an array
    `frame_000000` and so on for each frame, as `Predictor.predict` returns it, and `rate`, frames a second, and
    `classes`, their names: `numpy.load` reads one frame at a time. The video has no sound, and where height or width
    are odd, one row or column more.

    Args:
        videos: video files.
        out: folder of all results.
        options: the outputs, classes and overlay at most.
        root: folder whose sub-folders are kept among the results.
        overwrite: whether results that exist may be replaced.

    Raises:
        DataError: two videos with the same results, or one outside `root`.
        SegzooError: other outputs; results exist and `overwrite` is False.
    """

    def __init__(self, videos: Sequence[Path], out: Path, options: OutputOptions, root: Path, overwrite: bool):
        others = [name for name in options.names if name not in _FILES]
        if videos and others:
            raise SegzooError(
                f"Of a video come {' and '.join(_FILES)}, not {', '.join(others)}. Leave that out (--output), or write "
                f"its frames as images: ffmpeg -i {videos[0].name} frames/%06d.png."
            )
        self._options = options
        self._files = {video: self._named(video, out, root) for video in videos}
        owners: dict[str, Path] = {}
        for video, files in self._files.items():
            for path in files.values():
                if (other := owners.setdefault(str(path).casefold(), video)) != video:
                    raise DataError(f"{other} and {video} would get the same result file; rename one of them.")
                if path.exists() and not overwrite:
                    raise SegzooError(
                        f"{path} exists already. Choose another output folder, or allow replacing it with "
                        "overwrite=True (--overwrite)."
                    )

    def _named(self, video: Path, out: Path, root: Path) -> dict[str, Path]:
        if not video.absolute().is_relative_to(root.absolute()):
            raise DataError(f"{video}: not in {root}, so it has no place among the results.")
        name = video.absolute().relative_to(root.absolute())
        return {
            output: out / _FILES[output][0] / name.with_name(name.stem + _FILES[output][1])
            for output in self._options.names
        }

    def predict(
        self,
        predictor: Predictor,
        legend: Legend,
        summary: PredictionSummary,
        batch: int = 1,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Predict the videos; one that cannot be read is listed as failed, and prediction continues with the next.

        Args:
            predictor: predicts the frames.
            legend: the classes.
            summary: gets the files that were written, and the reasons of failures.
            batch: most frames in one pass.
            progress: called after each batch with the number of frames done so far.
        """
        before = 0
        for video, files in self._files.items():
            done = 0
            try:
                with ExitStack() as stack:
                    for done in self._frames(predictor, legend, video, files, batch, stack):
                        if progress is not None:
                            progress(before + done)
            except DataError as error:
                summary.failed[video] = str(error)
            else:
                summary.predicted.append(video)
                for output, path in files.items():
                    summary.files.setdefault(output, []).append(path)
            before += done

    def _frames(
        self, predictor: Predictor, legend: Legend, video: Path, files: dict[str, Path], batch: int, stack: ExitStack
    ) -> Iterator[int]:
        """Predict the frames of a video, and yield their number so far; the files are there when `stack` ends."""
        from segzoo.reporting.pictures import overlay

        source = Video(video, predictor.reader)
        archive = picture = None
        if "classes" in files:
            archive = stack.enter_context(_archive(files["classes"], source.rate, legend.names))
        if "overlay" in files:
            picture = stack.enter_context(_written(files["overlay"], source))
        done = 0
        for frames in source.batches(batch):
            for frame, class_map in zip(frames, predictor.predict_batch(source.images(frames)), strict=True):
                if archive is not None:
                    _put(archive, f"frame_{done:06d}", class_map)
                if picture is not None:
                    background = legend.background
                    tinted = overlay(
                        frame, class_map, legend.colours, self._options.alpha, background=background, contours=True
                    )
                    picture(tinted)
                done += 1
            yield done
        source.check_whole(done)


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


def count_frames(path: Path) -> int:
    """Return the number of frames that a video states, 0 where it does not or cannot be opened."""
    count = cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT)
    return int(count) if math.isfinite(count) and count > 0 else 0


@contextmanager
def _archive(path: Path, rate: float, names: Sequence[str]) -> Iterator[zipfile.ZipFile]:
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        _put(archive, "rate", np.array(rate))
        _put(archive, "classes", np.array(list(names)))
        yield archive


def _put(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    with archive.open(f"{name}.npy", "w") as stream:
        np.lib.format.write_array(stream, np.asarray(array, order="C"), allow_pickle=False)


@contextmanager
def _written(path: Path, source: Video) -> Iterator[Callable[[np.ndarray], None]]:
    """Yield a function that appends an RGB frame to a video; the file is there, and whole, when the block ends."""
    height, width = (side + side % 2 for side in source.size)  # the codec takes even sizes, and would cut
    count = 0
    with replacing(path) as temporary:
        writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*"mp4v"), source.rate, (width, height))
        if not writer.isOpened():
            raise StorageError(errno.EIO, f"OpenCV opens no MP4 of {width} x {height} pixels there", str(path))

        def append(frame: np.ndarray) -> None:
            nonlocal count
            below, beside = height - frame.shape[0], width - frame.shape[1]
            padded = np.pad(frame, ((0, below), (0, beside), (0, 0)), mode="edge")
            writer.write(cv2.cvtColor(padded, cv2.COLOR_RGB2BGR))
            count += 1

        try:
            yield append
        finally:
            writer.release()
        if (kept := count_frames(temporary)) != count:  # a full disk, of which OpenCV says nothing
            raise StorageError(
                errno.EIO,
                f"{kept} of {count} frames arrived, as on a disk that is full",
                str(path),
            )
