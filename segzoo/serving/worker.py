"""The one thread that runs the predictor, and the queue before it, from which images of one size go in batches."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from segzoo.inference.predictor import Predictor
from segzoo.inference.predicts import Found

# Pixels of a batch: those of the largest image that is not tiled, whose memory has to be there anyway.
_BATCH_PIXELS = 2048 * 2048


@dataclass(eq=False)
class _Request:
    image: np.ndarray
    with_probabilities: bool
    future: Future[Found] = field(default_factory=Future)

    @property
    def kind(self) -> tuple[object, ...]:
        """Properties that the images of a batch share."""
        return self.image.shape, self.image.dtype, self.with_probabilities

    @property
    def pixels(self) -> int:
        return self.image.shape[0] * self.image.shape[1]


class PredictionWorker:
    """Thread that predicts the images of a queue, first come, first served.

    It takes the oldest image, and with it those behind that have its size: what has gathered while the batch before was
    computed. So a batch is never waited for.

    Args:
        predictor: used by this thread alone.
        batch: most images of a batch, 1 or more; of large ones fewer, 2048 x 2048 pixels in all.
    """

    def __init__(self, predictor: Predictor, batch: int = 1):
        self._predictor = predictor
        self._batch = batch
        self._waiting: list[_Request] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="segzoo predictions", daemon=True)

    def start(self) -> None:
        """Start the thread; what was submitted before is computed first."""
        self._thread.start()

    def submit(self, image: np.ndarray, with_probabilities: bool = False) -> Future[Found]:
        """Put an image into the queue.

        Args:
            image: `(H, W, C)`, as `Predictor.predict` takes it.
            with_probabilities: whether probabilities are wanted beside the class map.

        Returns:
            the class map and probabilities to come; cancelled, the image is not computed if it still waits.

        Raises:
            RuntimeError: the worker was closed.
        """
        request = _Request(image, with_probabilities)
        with self._changed:
            if self._closed:
                raise RuntimeError("The worker is closed.")
            self._waiting.append(request)
            self._changed.notify()
        return request.future

    def close(self) -> None:
        """Compute what waits, then end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next():
            running = [request for request in batch if request.future.set_running_or_notify_cancel()]
            if running:
                self._compute(running)

    def _next(self) -> list[_Request]:
        """Wait for images and take the next batch; empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return []
            first = self._waiting[0]
            most = min(self._batch, max(1, _BATCH_PIXELS // first.pixels))
            batch = [request for request in self._waiting if request.kind == first.kind][:most]
            self._waiting = [request for request in self._waiting if request not in batch]
            return batch

    def _compute(self, batch: list[_Request]) -> None:
        images = np.stack([request.image for request in batch])
        try:
            found = list(self._predictor.predictions(images, batch[0].with_probabilities))
        except Exception as error:  # whatever it is, those who wait are told, and the thread goes on
            for request in batch:
                request.future.set_exception(error)
        else:
            for request, result in zip(batch, found, strict=True):
                request.future.set_result(result)
