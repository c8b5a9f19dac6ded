"""Results of an image that is predicted by windows: rasters that grow, and a record from which a prediction goes on."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from segzoo.data.tiff import TiffError, cut_tiles
from segzoo.data.tiff_decoding import import_rasterio
from segzoo.data.tiff_windows import limited_cache
from segzoo.errors import SegzooError, StorageError
from segzoo.files import flush, make_folder, move_whole, operation, remove
from segzoo.inference.georeference import checksum, create_geotiff, read_window, write_window
from segzoo.inference.image_lock import remove_empty_folders
from segzoo.inference.raster_objects import RasterObjects
from segzoo.inference.record import differences, read_record, write_record
from segzoo.inference.writers.classes import Classes
from segzoo.inference.writers.contract import Job, Output, Prediction

_SECONDS = 30.0  # between two records; each costs reading back what was written since
_BLOCKS = (512, 256, 128, 64, 32)
_CLASS_MAP = "class map"  # part that is no output, where objects are wanted and classes are not
_OBJECTS = "objects.tif"
_HEADER = 16  # bytes of a BigTIFF's


def block_of(*steps: int) -> int:
    """Return the side of a raster's tiles: the largest of 512 to 32 that divides the steps of windows, in pixels."""
    return next((block for block in _BLOCKS if not any(step % block for step in steps)), _BLOCKS[-1])


def has_whole_rasters(folder: Path) -> bool:
    """Return whether an interrupted prediction had finished the rasters of the image with this folder."""
    return bool((read_record(folder) or {}).get("whole"))


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
        self._by_objects = {name: output for name, output in outputs.items() if output.by_objects}
        self._writers = dict(outputs)
        if self._by_objects and "classes" not in outputs:
            one = next(iter(outputs.values()))
            self._writers[_CLASS_MAP] = Classes(one.out, one.legend, one.options)
        self._settings = json.loads(json.dumps(settings))
        self._probe = probe
        self._parts = {
            name: (folder / f"{name}.tif", bands)
            for name, output in self._writers.items()
            if (bands := output.bands()) is not None
        }
        self._rasters: dict[str, Any] = {}
        self._unread: list[tuple[str, tuple[int, int], tuple[int, int], int]] = []
        self._saved_at = time.monotonic()
        state = self._known(overwrite) or {"rows": 0, "bottom": 0, "totals": {}, "whole": False, "objects": False}
        self.rows: int = state["rows"]
        self._bottom: int = state["bottom"]
        self.whole: bool = state["whole"]
        self._has_objects: bool = state["objects"]
        self._totals: dict[str, dict[str, Any]] = {name: state["totals"].get(name, {}) for name in outputs}

    def start(self, size: tuple[int, int], tops: Sequence[int], block: int) -> None:
        """Create the rasters, unless a part of them is there that ends where a row of tiles begins.

        Args:
            size: height and width of the image in pixels.
            tops: first row of pixels of each row of tiles. They may be others than when the part was written, by a
                version of segzoo that blends otherwise: going on would leave a gap.
            block: side of the rasters' own tiles.
        """
        self._block = block
        if self.rows and [*tops[self.rows : self.rows + 1]] == [self._bottom]:
            return
        self.rows, self._totals = 0, {name: {} for name in self._outputs}
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
            pixels = self._writers[name].pixels(prediction)
            with self._written(path):
                if name not in self._rasters:
                    self._rasters[name] = import_rasterio().open(path, "r+", driver="GTiff")
                write_window(self._rasters[name], pixels, rows, columns)
            self._unread.append((name, rows, columns, checksum(pixels, bands)))

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
        self.rows, self._bottom, self.whole = rows, bottom, last
        self._save()

    def publish(self) -> dict[str, list[Path]]:
        """Write what is made of objects, give all files their names, and return those of each output."""
        self._write_objects()
        found: dict[str, list[Path]] = {name: [] for name in self._outputs}
        for name, part, path in self._files():
            if part.exists():  # or it was moved before an interruption
                make_folder(path.parent)
                move_whole(part, path)
            found[name].append(path)
        for part in (self._folder / _OBJECTS, self._folder / f"{_CLASS_MAP}.tif"):
            remove(part)  # large, and of no more use
        for name, output in self._outputs.items():
            output.finish_windows(self.job, self._totals[name])
        return found

    def _files(self) -> Iterator[tuple[str, Path, Path]]:
        """Yield the output, the place before and the name of each file of the image."""
        for name, output in self._outputs.items():
            for number, (path, suffix) in enumerate(
                zip(output.files(self.job), output.suffixes(self.job), strict=True)
            ):
                if output.by_objects:
                    yield name, output.unfinished(self.job, suffix), path
                elif name in self._parts and number == 0:
                    yield name, self._parts[name][0], path

    def _write_objects(self) -> None:
        """Write what is made of the objects of the class map; an interruption loses no more than this step."""
        if self._has_objects or not self._by_objects:
            return
        part, _ = self._parts["classes" if "classes" in self._parts else _CLASS_MAP]
        one = next(iter(self._by_objects.values()))
        wanted = one.options.min_area, one.options.fill_holes
        with limited_cache(), self._written(part):
            objects = RasterObjects(part, one.legend, self.job.georeference, self._folder / _OBJECTS, *wanted)
            for name, output in self._by_objects.items():
                output.write_objects(self.job, objects, self._totals[name])
        for path in self._folder.iterdir():
            if path.is_file():
                flush(path)
        self._has_objects = True
        self._save()

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
        if (state := read_record(self._folder)) is None:
            return None
        others = differences(state, self._settings, self._probe)
        if others and not overwrite:
            raise SegzooError(
                f"{self._folder} holds a part of a prediction of {self.job.image} with another {' and '.join(others)}. "
                "Repeat that command to go on with it, choose another output folder, or begin anew with "
                "overwrite=True (--overwrite)."
            )
        if not others and (self._exists(state["objects"]) if state["whole"] else self._restore(state["ends"])):
            return state
        remove(self._folder)
        return None

    def _exists(self, has_objects: bool) -> bool:
        """Return whether each file is there, under its own name or still without it."""
        if self._by_objects and not has_objects:  # nothing was moved yet
            return all(part.exists() for part, _ in self._parts.values())
        return all(part.exists() or path.exists() for _, part, path in self._files())

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
                for written, rows, columns, expected in self._unread:
                    if written == name and checksum(read_window(raster, rows, columns), bands) != expected:
                        raise StorageError(errno.EIO, "other pixels arrived than were written", str(path))
        self._unread.clear()

    def _save(self) -> None:
        state = {
            "settings": self._settings,
            "probe": self._probe,
            "rows": self.rows,
            "bottom": self._bottom,
            "ends": {name: _end(path) for name, (path, _) in self._parts.items()},
            "totals": self._totals,
            "whole": self.whole,
            "objects": self._has_objects,
        }
        write_record(self._folder, state)
        self._saved_at = time.monotonic()

    @contextmanager
    def _written(self, path: Path) -> Iterator[None]:
        """Turn what rasterio raises on writing, some of it under private names, into a StorageError."""
        try:
            yield
        except (SegzooError, MemoryError):
            raise
        except Exception as error:
            raise StorageError(errno.EIO, f"{error}, as on a disk that is full", str(path)) from error


def _end(path: Path) -> tuple[int, str]:
    """Return the length of a raster, and its header, which says where its directory is."""
    with path.open("rb") as stream:
        return path.stat().st_size, stream.read(_HEADER).hex()
