"""Prediction of rasters that memory does not hold: read by windows, computed tile by tile, written by windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial as bound
from typing import Any

import numpy as np

from segzoo.data.tiff_decoding import import_rasterio
from segzoo.data.tiff_windows import limited_cache
from segzoo.errors import DataError, StorageError
from segzoo.inference.network import SMALLEST, Network
from segzoo.inference.partial import PartialResults, block_of
from segzoo.inference.predicts import Predicts
from segzoo.inference.results import Results
from segzoo.inference.tiling import Tiling, grid_of, tops_of_rows
from segzoo.inference.writers.contract import Job, Prediction


def probe(network: Network) -> list[float]:
    """Return logits by which a network is recognised: those of a small image of noise that is always the same."""
    height, width = network.size or (2 * SMALLEST, 2 * SMALLEST)
    noise = np.random.default_rng(0).integers(0, 256, (1, height, width, network.channels), np.uint8)
    return [float(value) for value in network.logits(noise)[0, ::16, ::16].ravel()]


def settings_of(predictor: Predicts, tiling: Tiling, job: Job, results: Results) -> dict[str, Any]:
    """Return what the results of an image depend on beside the network, as JSON holds it."""
    stat = job.image.stat()
    return {
        "image": [job.image.name, stat.st_size, stat.st_mtime_ns],
        "tile": list(tiling.size),
        "overlap": list(tiling.overlap),
        "mode": predictor.mode,
        "thresholds": list(predictor.thresholds or ()),
        "reading of images": predictor.reader.settings,
        "output": list(results.options.names),
        **results.window_options,
        "classes": results.legend.rows,
        "background": results.legend.background,
    }


class WindowedImages:
    """Images of a prediction of files that are read by windows, locked against other processes until `close`.

    Args:
        predictor: predicts their tiles.
        results: the results of all images. What earlier, interrupted predictions have made of these is checked.

    Raises:
        SegzooError: another process predicts one of them into the same folder, or a part of a prediction with other
            settings lies there.
        StorageError: the locks cannot be written.
    """

    def __init__(self, predictor: Predicts, results: Results):
        self._predictor = predictor
        self._results = results
        jobs = [job for job in results.jobs if job.by_windows]
        with ExitStack() as locks:
            for job in jobs:
                locks.enter_context(results.lock(job))
            logits = probe(predictor.network) if jobs else []
            self._partial = {job.image: results.partial(job, self._settings(job), logits) for job in jobs}
            self._locks = locks.pop_all()

    def close(self) -> None:
        """Release the images to other processes."""
        self._locks.close()

    def _settings(self, job: Job) -> dict[str, Any]:
        tiling = self._predictor.window_tiling
        assert tiling is not None
        return settings_of(self._predictor, tiling, job, self._results)

    def predict(self, job: Job, progress: Callable[[int], None]) -> None:
        """Predict an image, from where an interrupted prediction of it ended; one that cannot be read counts as failed.

        Args:
            job: the image.
            progress: called with the number of its tiles that are done.

        Raises:
            StorageError: results cannot be written; what was written before stays, and the same call goes on there.
        """
        partial = self._partial[job.image]
        try:
            if not partial.whole:
                self._predict(partial, progress)
            with _told_to_go_on(partial, partial.rows):
                files = partial.publish()
            self._results.add_windows(job, files)
        except DataError as error:
            self._results.summary.failed[job.image] = str(error)
        finally:
            partial.close()

    def _predict(self, partial: PartialResults, progress: Callable[[int], None]) -> None:
        predictor, results, tiling = self._predictor, self._results, self._predictor.window_tiling
        assert tiling is not None
        job = partial.job
        with limited_cache(), predictor.reader.windows(job.image) as (size, read), _valid_windows(job) as valid:
            rows, columns = grid_of(size, tiling)
            with _told_to_go_on(partial, rows):
                block = block_of(*np.subtract(tiling.size, tiling.overlap).tolist())
                partial.start(size, tops_of_rows(size[0], tiling), block)
                done = partial.rows * columns
                progress(done)
                for window, found in predictor.windows(
                    read, size, results.needs_probabilities, results.needs_disagreement, partial.rows
                ):
                    place = window.rows, window.columns
                    pixels = bound(read, *place)
                    prediction = Prediction(job, results.legend, results.options, pixels, *found, valid=valid(*place))
                    partial.add(prediction, *place)
                    done += 1
                    progress(done)
                    if window.columns[1] == size[1]:
                        partial.end_row(window.row + 1, window.rows[1], last=window.row + 1 == rows)


@contextmanager
def _told_to_go_on(partial: PartialResults, rows: int) -> Iterator[None]:
    """Add to a StorageError what is kept."""
    try:
        yield
    except StorageError as error:
        raise StorageError(
            error.errno,
            f"{str(error.strerror).rstrip('.')}. {partial.rows} of {rows} rows of tiles are kept: with space on the "
            "disk, the same command goes on there",
            error.filename,
        ) from error


@contextmanager
def _valid_windows(job: Job) -> Iterator[Callable[[tuple[int, int], tuple[int, int]], np.ndarray | None]]:
    """Yield a function that returns the pixels of a window that have data, `(h, w)` bool; None where all have."""
    if job.georeference is None:
        yield lambda rows, columns: None
        return
    rasterio = import_rasterio()

    def valid(rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray | None:
        try:
            found: Any = raster.dataset_mask(window=(rows, columns)) != 0
        except rasterio.errors.RasterioError as error:
            raise DataError(
                f"{job.image}: the pixels without data cannot be told ({error}). Copy it again.", "unreadable"
            ) from error
        return None if found.all() else found

    with rasterio.open(job.image, driver="GTiff") as raster:
        yield valid
