"""One thread predicts for all: images of one size that wait go in batches, and everybody gets his own result."""

import numpy as np
import pytest

from segzoo.serving.worker import PredictionWorker


class Counting:
    """Predictor whose class map is the first channel; it keeps the shapes of its batches."""

    def __init__(self):
        self.batches = []

    def predictions(self, images, with_probabilities=False):
        self.batches.append((images.shape, with_probabilities))
        if (images == 255).any():
            raise ValueError("white is not liked")
        for image in images:
            yield image[..., 0], np.ones((*image.shape[:2], 2)) if with_probabilities else None


def image(value, height=4, width=4):
    return np.full((height, width, 3), value, np.uint8)


def results(worker, futures):
    worker.start()
    worker.close()
    return [int(future.result(timeout=0)[0][0, 0]) for future in futures]


def test_waiting_images_of_one_size_are_batched_and_the_oldest_goes_first():
    predictor = Counting()
    worker = PredictionWorker(predictor, batch=3)
    sizes = [(4, 4), (4, 4), (5, 4), (4, 4), (4, 4), (5, 4)]
    futures = [worker.submit(image(value, *size)) for value, size in enumerate(sizes)]
    assert results(worker, futures) == [0, 1, 2, 3, 4, 5]
    assert [shape[:3] for shape, _ in predictor.batches] == [(3, 4, 4), (2, 5, 4), (1, 4, 4)]


def test_numbers_and_wishes_that_differ_do_not_share_a_batch():
    predictor = Counting()
    worker = PredictionWorker(predictor, batch=8)
    futures = [
        worker.submit(image(1)),
        worker.submit(image(2), True),
        worker.submit(image(3).astype(np.float32)),
        worker.submit(image(4), True),
    ]
    assert results(worker, futures) == [1, 2, 3, 4]
    assert [(shape[0], wished) for shape, wished in predictor.batches] == [(1, False), (2, True), (1, False)]
    assert [future.result()[1] is not None for future in futures] == [False, True, False, True]


def test_large_images_go_in_smaller_batches():
    predictor = Counting()
    worker = PredictionWorker(predictor, batch=8)
    futures = [worker.submit(image(value, 1024, 1366)) for value in range(4)]  # three have 2048 x 2048 pixels
    results(worker, futures)
    assert [shape[0] for shape, _ in predictor.batches] == [2, 2]


def test_a_failure_is_told_to_those_of_its_batch_and_the_thread_goes_on():
    worker = PredictionWorker(Counting(), batch=2)
    bad, same, good = (worker.submit(image(value)) for value in (255, 1, 2))
    worker.start()
    worker.close()
    for future in (bad, same):
        with pytest.raises(ValueError, match="white"):
            future.result(timeout=0)
    assert good.result(timeout=0)[0][0, 0] == 2


def test_a_cancelled_request_is_not_computed():
    predictor = Counting()
    worker = PredictionWorker(predictor, batch=2)
    first, second = worker.submit(image(1)), worker.submit(image(2))
    assert first.cancel()
    assert results(worker, [second]) == [2]
    assert [shape[0] for shape, _ in predictor.batches] == [1]


def test_a_closed_worker_takes_nothing():
    worker = PredictionWorker(Counting())
    worker.start()
    worker.close()
    with pytest.raises(RuntimeError, match="closed"):
        worker.submit(image(1))
