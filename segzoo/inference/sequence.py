"""Prediction of files one after another: images in batches, larger ones by windows, and then the videos."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np

from segzoo.errors import DataError
from segzoo.inference.huge import WindowedImages
from segzoo.inference.predicts import Predicts
from segzoo.inference.results import Results, write_legend
from segzoo.inference.video import predict_videos
from segzoo.inference.writers.contract import Job


class FileSequence:
    """Files of a prediction, from the first image to the last frame of a video.

    Args:
        predictor: predicts images, tiles and frames.
        results: the files, and the results of all.
        batch: most images or frames in one pass; only neighbours of the same size share one.
        explained: whether a legend is written, where there is something to explain.
        progress: called with the number of images and frames done so far, with images that failed. An image that is
            read by windows counts as its tiles.

    Raises:
        SegzooError: another process predicts one of the images by windows into the same folder, or a part of a
            prediction with other settings lies there.
    """

    def __init__(
        self,
        predictor: Predicts,
        results: Results,
        batch: int = 1,
        explained: bool = True,
        progress: Callable[[int], None] | None = None,
    ):
        self._predictor = predictor
        self._results = results
        self._summary = results.summary
        self._batch = batch
        self._explained = explained
        self._progress = progress or (lambda done: None)
        self._windowed = WindowedImages(predictor, results)
        self._beside = 0  # tiles of images read by windows, each without the one by which the summary counts the image
        for image in self._summary.failed:
            self._count_tiles(predictor.tiles_by_windows(image))
        self._predict = partial(
            predictor.predictions,
            with_probabilities=results.needs_probabilities,
            with_disagreement=results.needs_disagreement,
        )

    def predict(self) -> None:
        """Predict all files; one that cannot be read counts as failed, and the next ones go on.

        Raises:
            StorageError: results cannot be written.
        """
        try:
            self._predict_all()
        finally:
            self._windowed.close()

    def _predict_all(self) -> None:
        for by_windows, jobs in itertools.groupby(self._results.jobs, lambda job: job.by_windows):
            (self._predict_by_windows if by_windows else self._predict_whole)(jobs)
        self._progress(self._done)  # images that failed may have come last
        if self._results.videos:
            self._predict_videos()
        self._results.finish()

    def _predict_whole(self, jobs: Iterable[Job]) -> None:
        for batch in self._batches(jobs):
            found = self._predict(np.stack([image for _, image in batch]))
            self._explain_first()
            for (job, image), one in zip(batch, found, strict=True):
                self._results.add(job, image, *one)
            self._progress(self._done)

    def _predict_by_windows(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            self._explain_first()
            self._windowed.predict(job, self._further(self._done))
            self._count_tiles(job.tiles)

    def _predict_videos(self) -> None:
        further = self._further(self._done)
        predict_videos(self._results, self._predictor.reader, self._predict, self._batch, further)
        if self._summary.predicted:
            self._explain()

    def _further(self, before: int) -> Callable[[int], None]:
        """Return a function that takes the number of tiles or frames that are done beside so many images."""
        return lambda number: self._progress(before + number)

    @property
    def _done(self) -> int:
        return len(self._summary.predicted) + len(self._summary.failed) + self._beside

    def _count_tiles(self, tiles: int) -> None:
        self._beside += max(0, tiles - 1)

    def _explain_first(self) -> None:
        if not self._summary.predicted:
            self._explain()

    def _explain(self) -> None:
        if self._explained:
            write_legend(self._summary.out, self._results.legend)

    def _batches(self, jobs: Iterable[Job]) -> Iterator[list[tuple[Job, np.ndarray]]]:
        """Read images and batch neighbours of the same size; failures go into the summary."""
        batch: list[tuple[Job, np.ndarray]] = []
        for job in jobs:
            try:
                image = self._predictor.reader(job.image)
            except DataError as error:
                self._summary.failed[job.image] = str(error)
                continue
            if batch and (batch[0][1].shape != image.shape or len(batch) >= self._batch):
                yield batch
                batch = []
            batch.append((job, image))
        if batch:
            yield batch
