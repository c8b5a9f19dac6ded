"""Files of a prediction: their names, checked before any work, and their writing, image by image and at the end."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from segzoo.errors import DataError, SegzooError
from segzoo.files import remove, replacing
from segzoo.inference.georeference import read_georeference, valid_pixels
from segzoo.inference.image_lock import locked_image
from segzoo.inference.legend import Legend
from segzoo.inference.outputs import OutputOptions, PredictionSummary
from segzoo.inference.partial import PartialResults, has_whole_rasters, remove_partial
from segzoo.inference.writers.contract import PARTIAL, Job, Output, Prediction
from segzoo.inference.writers.table import OUTPUTS

LEGEND_FILE = "classes.json"


class Results:
    """Results of a prediction, from the names of their files to the last one written.

    They keep the image's path relative to `root`, by default the deepest folder that holds all images: class map and
    overlay of `<root>/a/1.jpg` are `<out>/classes/a/1.png` and `<out>/overlays/a/1.jpg`. Images of one folder that
    differ only in their endings keep them: `1.jpg.png` and `1.png.png`.

    Args:
        paths: image files.
        out: folder of all results; made when the first is written.
        legend: the classes.
        options: the outputs.
        root: folder whose sub-folders are kept among the results.
        overwrite: whether results that exist may be replaced.
        videos: video files.
        tiles_by_windows: returns the number of tiles of an image that is read, and whose results are written, by
            windows, 0 for another; None: none is.

    Attributes:
        jobs: the images, without duplicates and without those that have failed.
        videos: the videos, without duplicates.
        summary: what was made so far.

    Raises:
        DataError: nothing to predict, an image outside `root` or among the results, or two with the same files.
        MissingPackageError: an output needs a package that is not installed.
        SegzooError: results exist and `overwrite` is False, or an output cannot be made for one of the images, or of
            videos.
    """

    def __init__(
        self,
        paths: Iterable[str | Path],
        out: Path,
        legend: Legend,
        options: OutputOptions,
        root: Path | None = None,
        overwrite: bool = False,
        videos: Iterable[str | Path] = (),
        tiles_by_windows: Callable[[Path], int] | None = None,
    ):
        self.legend = legend
        self.options = options
        self.summary = PredictionSummary(
            out, files={name: [] for name in options.names}, thresholds=legend.named_thresholds
        )
        out = out.absolute()
        self._outputs: dict[str, Output] = {name: OUTPUTS[name](out, legend, options) for name in options.names}
        for output in self._outputs.values():
            output.check_packages()
        clips = dict.fromkeys(Path(video).absolute() for video in videos)
        named = _named([*paths, *clips], out, root, self._folders())
        self.videos = [job for job in named if job.image in clips]
        options.check_videos([job.image for job in self.videos])
        self._partial, self._overwrite = out / PARTIAL, overwrite
        jobs = [job for job in named if job.image not in clips]
        if tiles_by_windows is not None:
            jobs = [replace(job, tiles=tiles_by_windows(job.image)) for job in jobs]
        self.jobs = self._located(jobs)
        for name, output in self._outputs.items():
            for job in self.jobs:
                _check_windows(name, output, job)
                output.check(job)
        self._check_files(overwrite)

    @property
    def needs_probabilities(self) -> bool:
        """True if one of the outputs is made of probabilities."""
        return any(output.needs_probabilities for output in self._outputs.values())

    @property
    def needs_disagreement(self) -> bool:
        """True if one of the outputs is made of the disagreement of an ensemble's members."""
        return any(output.needs_disagreement for output in self._outputs.values())

    def add(
        self,
        job: Job,
        image: np.ndarray,
        class_map: np.ndarray,
        probabilities: np.ndarray | None = None,
        disagreement: np.ndarray | None = None,
    ) -> None:
        """Write the results of an image; one whose pixels without data cannot be told is listed as failed.

        Args:
            job: one of `jobs`.
            image: `(H, W, C)`.
            class_map: `(H, W)`, in multilabel `(H, W, classes)` of 0 and 1.
            probabilities: `(H, W, classes)`; None unless `needs_probabilities`.
            disagreement: `(H, W)`; None unless `needs_disagreement`.
        """
        place = job.georeference
        try:
            valid = None if place is None else valid_pixels(job.image, place, class_map.shape[:2])
        except DataError as error:
            self.summary.failed[job.image] = str(error)
            return
        prediction = Prediction(job, self.legend, self.options, image, class_map, probabilities, disagreement, valid)
        for name, output in self._outputs.items():
            written = output.write(prediction)
            for stale in set(output.files(job)) - {*written}:  # of an earlier prediction, which this one replaces
                remove(stale)
            self.summary.files[name] += written
        self.summary.predicted.append(job.image)

    @contextmanager
    def open_video(self, job: Job, rate: float) -> Iterator[Callable[..., None]]:
        """Open the results of a video, one of `videos`, which are there when the block ends without an error.

        Args:
            job: the video.
            rate: frames a second.

        Yields:
            a function that takes the frames in turn, each by image, class map, probabilities and disagreement, as `add`
            takes them.
        """
        numbers = itertools.count()
        with ExitStack() as stack:
            writers = [stack.enter_context(output.open_video(job, rate)) for output in self._outputs.values()]

            def add(
                image: np.ndarray,
                class_map: np.ndarray,
                probabilities: np.ndarray | None = None,
                disagreement: np.ndarray | None = None,
            ) -> None:
                found = image, class_map, probabilities, disagreement
                prediction = Prediction(job, self.legend, self.options, *found, frame=next(numbers))
                for write in writers:
                    write(prediction)

            yield add
        for name, output in self._outputs.items():
            self.summary.files[name] += output.files_of_video(job)
        self.summary.predicted.append(job.image)

    @property
    def window_options(self) -> dict[str, Any]:
        """The options on which results depend that are written by windows, by their names."""
        read = [output.options_by_windows for output in self._outputs.values()]
        every = dataclasses.asdict(self.options)
        named = every if None in read else ["georeference", *itertools.chain(*filter(None, read))]
        return {name: every[name] for name in every if name in named and name != "names"}

    def lock(self, job: Job) -> AbstractContextManager[None]:
        """Lock the partial results of an image; see `segzoo.inference.image_lock.locked_image`."""
        return locked_image(self._partial, job)

    def partial(self, job: Job, settings: Mapping[str, Any], probe: list[float]) -> PartialResults:
        """Return the results of an image that is written by windows, as far as an earlier prediction has made them."""
        return PartialResults(self._partial / job.name, job, self._outputs, settings, probe, self._overwrite)

    def add_windows(self, job: Job, files: Mapping[str, list[Path]]) -> None:
        """Count an image whose files were written by windows."""
        for name, written in files.items():
            self.summary.files[name] += written
        self.summary.predicted.append(job.image)

    def finish(self) -> None:
        """Write the files about all images, nothing where no image was predicted; remove what was kept to go on."""
        for name, output in self._outputs.items():
            if output.run_file is not None and self.summary.predicted:
                output.finish()
                self.summary.files[name].append(output.run_file)
        for job in self.jobs:
            if job.by_windows and job.image not in self.summary.failed:
                remove_partial(self._partial, job)

    def _folders(self) -> set[str]:
        """Return the folders in which results lie that no prediction takes for images."""
        built_in = {OUTPUTS[name].folder for name in OUTPUTS if OUTPUTS.is_built_in(name)}
        return built_in | {output.folder for output in self._outputs.values()}

    def _located(self, jobs: list[Job]) -> list[Job]:
        """Return the jobs with the places of their images on Earth: those of pixels without data matter to all."""
        if not self.options.georeference:
            return jobs
        found = []
        for job in jobs:
            try:
                found.append(replace(job, georeference=read_georeference(job.image)))
            except DataError as error:
                self.summary.failed[job.image] = str(error)
        return found

    def _check_files(self, overwrite: bool) -> None:
        """Raise if two results would be one file, or if one exists and must not be replaced."""
        taken: dict[str, object] = {}
        for path, owner in self._owned_files():
            other = taken.setdefault(str(path).casefold(), owner)  # case is ignored, as some file systems do
            if other != owner:
                raise DataError(f"{other} and {owner} would get the same result file; rename one of them.")
        resumed = [job for job in self.jobs if job.by_windows and has_whole_rasters(self._partial / job.name)]
        moved = {path for job in resumed for output in self._outputs.values() for path in output.files(job)}
        existing = [path for path, _ in self._owned_files() if path.exists() and path not in moved]
        if existing and not overwrite:
            raise SegzooError(
                f"{len(existing)} results exist already, first {existing[0]}. Choose another output folder, or allow "
                "replacing them with overwrite=True (--overwrite)."
            )

    def _owned_files(self) -> Iterator[tuple[Path, object]]:
        """Yield every file that may be written, and what it is made of: an image, or with other outputs its name."""
        for name, output in self._outputs.items():
            if output.run_file is not None:
                yield output.run_file, f"The output {name}"
            same = [other for other in self._outputs if self._outputs[other].folder == output.folder]
            for job in self.jobs:
                for path in output.files(job):
                    yield path, job.image if len(same) == 1 else f"{job.image} as {name}"
            for job in self.videos:
                for path in output.files_of_video(job):
                    yield path, job.image


def _check_windows(name: str, output: Output, job: Job) -> None:
    """Raise SegzooError for an image that is predicted by windows, and an output that cannot be made so."""
    if not job.by_windows:
        return
    over = f"{job.image}: has more pixels than --max-pixels (max_pixels), so it is predicted by windows"
    cure = "Leave it out (--output), or raise the limit where the memory is enough for the whole image."
    if not output.by_windows:
        able = [other for other in OUTPUTS if OUTPUTS[other].by_windows]
        raise SegzooError(f"{over}, which give {', '.join(able)}; {name} needs the whole class map. {cure}")
    if output.by_objects and (border := output.legend.border) is not None:
        raise SegzooError(
            f"{over}, and {name} has objects that the class {output.legend.names[border]} parts: by a watershed, which "
            f"needs the whole class map, as what it finds depends on pixels at any distance. {cure}"
        )


def _named(paths: Iterable[str | Path], out: Path, root: Path | None, folders: set[str]) -> list[Job]:
    """Name the results of each image; see `Results`."""
    images = list(dict.fromkeys(Path(path).absolute() for path in paths))
    if not images:
        raise DataError("There are no images to predict.")
    root = root.absolute() if root else Path(os.path.commonpath([image.parent for image in images]))
    relative = []
    for image in images:
        if not image.is_relative_to(root):
            raise DataError(f"{image}: not in {root}, so it has no place among the results.")
        if any(image.is_relative_to(out / folder) for folder in folders):
            raise DataError(f"{image}: is itself a result of a prediction into {out}. Choose another output folder.")
        relative.append(image.relative_to(root))
    stems = Counter(str(name.with_suffix("")).casefold() for name in relative)
    alone = [stems[str(name.with_suffix("")).casefold()] == 1 for name in relative]
    return [
        Job(image, name.with_name(name.stem if single else name.name), name.as_posix())
        for image, name, single in zip(images, relative, alone, strict=True)
    ]


def check_legend(out: Path, legend: Legend, overwrite: bool) -> None:
    """Raise SegzooError if the folder has another legend, and `overwrite` is False."""
    path = out / LEGEND_FILE
    if path.exists() and not overwrite and path.read_text(encoding="utf-8") != _text(legend):
        raise SegzooError(
            f"{path} describes other classes or thresholds, so results of another model lie in this folder. Choose "
            "another output folder, or allow replacing them with overwrite=True (--overwrite)."
        )


def write_legend(out: Path, legend: Legend) -> None:
    """Write `classes.json`: index, name and colour of each class, and its threshold where it has one."""
    with replacing(out / LEGEND_FILE) as temporary:
        temporary.write_text(_text(legend), encoding="utf-8")


def _text(legend: Legend) -> str:
    return json.dumps(legend.rows, indent=2, ensure_ascii=False) + "\n"
