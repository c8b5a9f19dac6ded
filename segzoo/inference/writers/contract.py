"""Interface of an output: what a writer is told of the classes and of each image, and what it has to say and do."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from segzoo.errors import MissingPackageError
from segzoo.extras import cure_of, missing_packages
from segzoo.inference.legend import Legend
from segzoo.inference.objects import Measures, Objects, find_objects, measure

if TYPE_CHECKING:
    from segzoo.inference.georeference import Bands, Georeference
    from segzoo.inference.outputs import OutputOptions
    from segzoo.inference.raster_objects import RasterObjects

PARTIAL = ".partial"  # folder, below that of all results, of what is not whole yet


@dataclass(frozen=True)
class Job:
    """An image to predict, and the name of its results.

    Attributes:
        image: the image file.
        name: relative path of the results, without their ending.
        shown: relative path of the image, as tables name it.
        georeference: place on Earth of the image; None for an image without one.
        tiles: number of tiles of an image that is read, and whose results are written, by windows; 0 for another.
    """

    image: Path
    name: Path
    shown: str
    georeference: Georeference | None = None
    tiles: int = 0

    @property
    def by_windows(self) -> bool:
        """True if the image is read, and its results are written, by windows."""
        return self.tiles > 0

    @property
    def is_raster(self) -> bool:
        """True where pixels are written as a GeoTIFF: for a place on Earth, and by windows."""
        return self.by_windows or self.georeference is not None


@dataclass
class Prediction:
    """Image and what was predicted for it; or a window of both, for an image that is read by windows.

    Attributes:
        job: its files.
        legend: the classes.
        options: wishes of the user.
        pixels: of the image, `(H, W, C)`, 0..255, or a function that reads them.
        class_map: class of each pixel `(H, W)`; in multilabel `(H, W, classes)` of 0 and 1.
        probabilities: `(H, W, classes)` float32; None unless one of the chosen outputs `needs_probabilities`.
        disagreement: of the members of an ensemble, `(H, W)` float32; None unless one `needs_disagreement`.
        valid: `(H, W)` bool, False where the image has no data; None: it has data everywhere.
        frame: number of the frame of a video, from 0; None: it is of no video.
    """

    job: Job
    legend: Legend
    options: OutputOptions
    pixels: np.ndarray | Callable[[], np.ndarray]
    class_map: np.ndarray
    probabilities: np.ndarray | None = None
    disagreement: np.ndarray | None = None
    valid: np.ndarray | None = None
    frame: int | None = None

    @cached_property
    def image(self) -> np.ndarray:
        """The image, `(H, W, C)`, 0..255; a window of it is read when the first output asks for it."""
        return self.pixels() if callable(self.pixels) else self.pixels

    @cached_property
    def objects(self) -> Objects:
        """Objects of the foreground classes, found once for all outputs."""
        options = self.options
        return find_objects(self.class_map, self.legend, self.valid, options.min_area, options.fill_holes)

    @cached_property
    def measures(self) -> dict[int, Measures]:
        """Measures of the objects, by their numbers."""
        place = self.job.georeference
        area = None if place is None else place.square_metres
        return measure(self.objects, self.legend.names, self.probabilities, area)

    @property
    def counted(self) -> int:
        """Number of pixels that have data."""
        height, width = self.class_map.shape[:2]
        return height * width if self.valid is None else int(self.valid.sum())

    def where(self, label: int) -> np.ndarray:
        """Return the pixels of a class, `(H, W)` bool, without those that have no data."""
        found = self.class_map[..., label] == 1 if self.legend.multilabel else self.class_map == label
        return found if self.valid is None else found & self.valid


class Output:
    """Writer of one kind of results; base of the registered ones.

    A class of its own sets the class attributes, and overrides `suffixes` and `write` for a file an image; for a file
    about all images it sets `run_file` in its constructor and overrides `finish`. Each file must be written whole or
    not at all (`segzoo.files.replacing`). One that can be made of videos sets `video_suffixes`, and overrides
    `open_video`.

    One that can be made by windows, for images that memory does not hold, says so by `by_windows`. For a GeoTIFF it
    overrides `bands` and `pixels`, for rows of a table `tally` and `finish_windows`, for what is made of the objects of
    the whole class map `by_objects` and `write_objects`; `write` is then not called.

    Args:
        out: folder of all results.
        legend: the classes.
        options: wishes of the user.

    Attributes:
        folder: name of the folder of its files, below that of all results.
        needs_probabilities: whether it reads `Prediction.probabilities`.
        by_windows: whether it can be made window by window.
        options_by_windows: options on which what is made so depends, so that a prediction that was interrupted does not
            go on with others; None: on all.
        packages: modules that it imports beside segzoo's own requirements, each with the extra that installs it.
        video_suffixes: endings of its files of a video; None: it cannot be made of videos.
        run_file: file that `finish` writes; None where there is none.
    """

    folder: ClassVar[str]
    needs_probabilities: ClassVar[bool] = False
    by_windows: ClassVar[bool] = False
    options_by_windows: ClassVar[tuple[str, ...] | None] = None
    packages: ClassVar[tuple[tuple[str, str], ...]] = ()
    video_suffixes: ClassVar[tuple[str, ...] | None] = None

    def __init__(self, out: Path, legend: Legend, options: OutputOptions):
        self.out = out
        self.legend = legend
        self.options = options
        self.run_file: Path | None = None

    @property
    def needs_disagreement(self) -> bool:
        """True if it reads `Prediction.disagreement`, which ensembles alone have."""
        return False

    @property
    def by_objects(self) -> bool:
        """True if by windows it is made of the objects, for which the whole class map is gone through again."""
        return False

    def suffixes(self, job: Job) -> tuple[str, ...]:
        """Return the endings of the files that `write` may make for an image, the main one first; none by default."""
        return ()

    def check(self, job: Job) -> None:
        """Raise SegzooError for an image that this output cannot be made for; called before any is predicted."""

    def write(self, prediction: Prediction) -> list[Path]:
        """Write the files of an image, and return them; or keep what `finish` writes."""
        return []

    def open_video(self, job: Job, rate: float) -> AbstractContextManager[Callable[[Prediction], None]]:
        """Open the files of a video, `files_of_video`, which are there, and whole, when the block ends.

        Args:
            job: the video.
            rate: frames a second.

        Returns:
            a context manager of a function that takes each frame in turn; what it got counts for nothing where the
            block ends by an error.
        """
        raise NotImplementedError(f"The output {self.folder} cannot be made of videos.")

    def bands(self) -> Bands | None:
        """Return the bands of the GeoTIFF, the main file, that is written by windows; None: there is none."""
        return None

    def pixels(self, prediction: Prediction) -> np.ndarray:
        """Return the pixels of a window as the GeoTIFF holds them, `(h, w)` or `(h, w, bands)`."""
        raise NotImplementedError(f"{type(self).__name__} has bands, and must define pixels.")

    def tally(self, prediction: Prediction, totals: dict[str, Any]) -> None:
        """Add a window to the totals of its image, in place.

        Args:
            prediction: the window.
            totals: what JSON holds, empty at first; saved with the progress of the image.
        """

    def write_objects(self, job: Job, objects: RasterObjects, totals: dict[str, Any]) -> None:
        """Write what is made of the objects of an image whose windows are all done; only called `by_objects`.

        Args:
            job: the image.
            objects: its objects, whose numbers are a raster.
            totals: as of `tally`; what is added is there in `finish_windows`.

        Raises:
            StorageError: it cannot be written.
        """

    def finish_windows(self, job: Job, totals: dict[str, Any]) -> None:
        """Keep what `finish` writes of an image whose windows are all done."""

    def finish(self) -> None:
        """Write `run_file`, about all images; called after the last one, and never after a failure."""

    def file(self, job: Job, suffix: str) -> Path:
        """Return the file of an image with this ending."""
        return self.out / self.folder / job.name.with_name(job.name.name + suffix)

    def unfinished(self, job: Job, suffix: str) -> Path:
        """Return the place of a file of `write_objects`, from which it gets its name when all of the image is there."""
        return self.out / PARTIAL / job.name / f"{self.folder}{suffix}"

    def files(self, job: Job) -> list[Path]:
        """Return the files that `write` may make for an image."""
        return [self.file(job, suffix) for suffix in self.suffixes(job)]

    def files_of_video(self, job: Job) -> list[Path]:
        """Return the files of a video."""
        return [self.file(job, suffix) for suffix in self.video_suffixes or ()]

    def check_packages(self) -> None:
        """Raise MissingPackageError, naming the cure, if a package is missing; imports none of them."""
        extras = dict(self.packages)
        if missing := missing_packages(extras):
            of_missing = dict.fromkeys(extras[name] for name in missing)
            raise MissingPackageError(cure_of(f"The output {self.folder}", missing, *of_missing))
