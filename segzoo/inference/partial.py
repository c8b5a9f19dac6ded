"""Results of an image that is predicted by windows: rasters that grow, and a record from which a prediction goes on."""

from __future__ import annotations

import errno
import json
import math
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from segzoo.data.tiff import TiffError, cut_tiles
from segzoo.data.tiff_decoding import import_rasterio
from segzoo.errors import SegzooError, StorageError
from segzoo.files import flush, make_folder, move_whole, operation, remove, replacing
from segzoo.inference.georeference import Bands, create_geotiff, write_window
from segzoo.inference.image_lock import remove_empty_folders
from segzoo.inference.writers.contract import Job, Output, Prediction

FOLDER = ".partial"  # below that of all results
_STATE = "state.json"
_SECONDS = 30.0  # between two records; each costs reading back what was written since
_BLOCKS = (512, 256, 128, 64, 32)
_KEYS = ("settings", "probe", "rows", "ends", "totals", "whole")
_HEADER = 16  # bytes of a BigTIFF's
_SHORT = 40  # letters of a setting that a message shows
_ALIKE = 1e-3  # logits of one network on different processors differ by less


def block_of(*steps: int) -> int:
    """Return the side of a raster's tiles: the largest of 512 to 32 that divides the steps of windows, in pixels."""
    return next((block for block in _BLOCKS if not any(step % block for step in steps)), _BLOCKS[-1])


def has_whole_rasters(folder: Path) -> bool:
    """Return whether an interrupted prediction had finished the rasters of the image with this folder."""
    return bool((_read(folder) or {}).get("whole"))


def remove_partial(root: Path, job: Job) -> None:
    """Remove the partial results of an image, and the folders above them up to `root` that are empty then."""
    remove(root / job.name)
    remove_empty_folders(root, job)


class PartialResults:
    """Results of an image that is written by windows; nothing has its final name before all of it is on the disk.

    The rasters grow in a folder of their own. From time to time they are closed, flushed and read back, and a record
    says how many rows of tiles they hold: from there a prediction with the same settings goes on. GDAL only appends to
    a raster whose tiles are each written once; so its length and its header in the record tell which tiles it had then,
    and those that came later, perhaps in part, are cut off.

    Args:
        folder: folder of the image's partial results.
        job: the image.
        outputs: the outputs by their names.
        settings: what results depend on, as JSON holds it.
        probe: logits by which the network is recognised, see `probe`.
        overwrite: whether partial results of other settings may be replaced.

    Attributes:
        job: the image.
        rows: number of rows of tiles that need not be computed again.
        whole: whether all are.

    Raises:
        SegzooError: there are partial results of other settings, and `overwrite` is False.
    """

    def __init__(
        self,
        folder: Path,
        job: Job,
        outputs: Mapping[str, Output],
        settings: Mapping[str, Any],
        probe: list[float],
        overwrite: bool,
    ):
        self._folder = folder
        self.job = job
        self._outputs = outputs
        self._settings = json.loads(json.dumps(settings))
        self._probe = probe
        self._parts = {
            name: (folder / f"{name}.tif", bands)
            for name, output in outputs.items()
            if (bands := output.bands()) is not None
        }
        self._rasters: dict[str, Any] = {}
        self._unread: list[tuple[str, tuple[int, int], tuple[int, int], int]] = []
        self._saved_at = time.monotonic()
        state = self._known(overwrite) or {"rows": 0, "totals": {}, "whole": False}
        self.rows: int = state["rows"]
        self.whole: bool = state["whole"]
        self._totals: dict[str, dict[str, Any]] = {name: state["totals"].get(name, {}) for name in outputs}

    def start(self, size: tuple[int, int], block: int) -> None:
        """Create the rasters, of this height and width in pixels, unless a part of them is there."""
        self._block = block
        if self.rows:
            return
        make_folder(self._folder)
        for path, bands in self._parts.values():
            with self._written(path):
                create_geotiff(path, size, bands, self.job.georeference, block)

    def add(self, prediction: Prediction, rows: tuple[int, int], columns: tuple[int, int]) -> None:
        """Write a window of each output.

        Args:
            prediction: the window.
            rows: its first row of pixels and the one after the last.
            columns: its first column and the one after the last.

        Raises:
            StorageError: it cannot be written.
        """
        for name, output in self._outputs.items():
            output.tally(prediction, self._totals[name])
        for name, (path, bands) in self._parts.items():
            pixels = self._outputs[name].pixels(prediction)
            with self._written(path):
                if name not in self._rasters:
                    self._rasters[name] = import_rasterio().open(path, "r+", driver="GTiff")
                write_window(self._rasters[name], pixels, rows, columns)
            self._unread.append((name, rows, columns, _checksum(pixels, bands)))

    def end_row(self, rows: int, bottom: int, last: bool) -> None:
        """Record that so many rows of tiles are done, if the last record is old enough.

        Args:
            rows: number of rows of tiles that are done.
            bottom: number of rows of pixels that they fill.
            last: whether they are all.

        Raises:
            StorageError: what was written is not on the disk.
        """
        due = time.monotonic() - self._saved_at >= _SECONDS and bottom % self._block == 0
        # Rows of the raster's own tiles that are half full would be written again later, over what counts as done.
        if not (due or last):
            return
        self._check_disk()
        self.rows, self.whole = rows, last
        self._save()

    def publish(self) -> dict[str, list[Path]]:
        """Give the rasters their names, and return the files of each output."""
        found: dict[str, list[Path]] = {name: [] for name in self._outputs}
        for name, (part, _) in self._parts.items():
            path = self._outputs[name].files(self.job)[0]
            if part.exists():  # or it was moved before an interruption
                make_folder(path.parent)
                move_whole(part, path)
            found[name].append(path)
        for name, output in self._outputs.items():
            output.finish_windows(self.job, self._totals[name])
        return found

    def close(self) -> None:
        """Close the rasters without a record, after an error; remove them where there is none from which to go on."""
        for raster in self._rasters.values():
            with suppress(Exception):  # what went wrong before matters more
                raster.close()
        self._rasters.clear()
        if not self.rows:
            with suppress(OSError):
                remove_partial(self._folder.parents[len(self.job.name.parts) - 1], self.job)

    def _known(self, overwrite: bool) -> dict[str, Any] | None:
        """Return the record of an earlier prediction with the same settings; remove one that is of no use."""
        if (state := _read(self._folder)) is None:
            return None
        others = [_difference(key, state["settings"].get(key), value) for key, value in self._settings.items()]
        others = [difference for difference in others if difference]
        if len(state["probe"]) != len(self._probe) or not np.allclose(
            state["probe"], self._probe, _ALIKE, _ALIKE, equal_nan=True
        ):
            others.append("network")
        if others and not overwrite:
            raise SegzooError(
                f"{self._folder} holds a part of a prediction of {self.job.image} with another {' and '.join(others)}. "
                "Repeat that command to go on with it, choose another output folder, or begin anew with "
                "overwrite=True (--overwrite)."
            )
        if not others and (self._exists() if state["whole"] else self._restore(state["ends"])):
            return state
        remove(self._folder)
        return None

    def _exists(self) -> bool:
        """Return whether each raster is there, under its own name or still without it."""
        return all(
            part.exists() or self._outputs[name].files(self.job)[0].exists() for name, (part, _) in self._parts.items()
        )

    def _restore(self, ends: dict[str, Any]) -> bool:
        """Make the rasters what they were when the record was written; return False where one cannot be."""
        for name, (path, _) in self._parts.items():
            length, header = ends[name]
            if not path.is_file() or path.stat().st_size < length:
                return False
            try:
                with operation("write", path), path.open("r+b") as stream:
                    stream.write(bytes.fromhex(header))
                    cut_tiles(stream, length)
            except TiffError:
                return False
        return True

    def _check_disk(self) -> None:
        """Close the rasters, flush them, and read back what was written: of a full disk GDAL may tell its log alone."""
        for name, raster in self._rasters.items():
            with self._written(self._parts[name][0]):
                raster.close()
        self._rasters.clear()
        for path, _ in self._parts.values():
            flush(path)
        for name, (path, bands) in self._parts.items():
            with self._written(path), import_rasterio().open(path, driver="GTiff") as raster:
                for written, rows, columns, checksum in self._unread:
                    if written == name and _checksum(_read_window(raster, rows, columns), bands) != checksum:
                        raise StorageError(errno.EIO, "other pixels arrived than were written", str(path))
        self._unread.clear()

    def _save(self) -> None:
        state = {
            "settings": self._settings,
            "probe": self._probe,
            "rows": self.rows,
            "ends": {name: _end(path) for name, (path, _) in self._parts.items()},
            "totals": self._totals,
            "whole": self.whole,
        }
        with replacing(self._folder / _STATE) as temporary:
            temporary.write_text(json.dumps(state), encoding="utf-8")
        self._saved_at = time.monotonic()

    @contextmanager
    def _written(self, path: Path) -> Iterator[None]:
        """Turn what rasterio raises on writing, some of it under private names, into a StorageError."""
        try:
            yield
        except SegzooError:
            raise
        except Exception as error:
            raise StorageError(errno.EIO, f"{error}, as on a disk that is full", str(path)) from error


def _read(folder: Path) -> dict[str, Any] | None:
    """Return the record of partial results; None where there is none, or it is damaged."""
    try:
        state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) and {*_KEYS} <= {*state} else None


def _difference(name: str, then: Any, now: Any) -> str:
    """Return the name of a setting that is not what it was, with short values of both; "" for one that is."""
    if then == now:
        return ""
    words = [json.dumps(value, ensure_ascii=False) for value in (then, now)]
    told = then is not None and max(map(len, words)) <= _SHORT
    return f"{name} ({words[0]} then, {words[1]} now)" if told else name


def _end(path: Path) -> tuple[int, str]:
    """Return the length of a raster, and its header, which says where its directory is."""
    with path.open("rb") as stream:
        return path.stat().st_size, stream.read(_HEADER).hex()


def _read_window(raster: Any, rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
    return raster.read(window=(rows, columns)).transpose(1, 2, 0)


def _checksum(pixels: np.ndarray, bands: Bands) -> int:
    """Return the CRC-32 of pixels `(h, w)` or `(h, w, bands)` as the raster's type holds them; every NaN is alike."""
    numbers = pixels.astype(bands.dtype)
    if numbers.dtype.kind == "f":
        numbers = np.nan_to_num(numbers, nan=-math.inf)
    return zlib.crc32(np.ascontiguousarray(numbers).tobytes())
