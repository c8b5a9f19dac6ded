"""Wishes of a prediction of files: its images, its outputs, and the summary of what was made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from segzoo.errors import SegzooError, unknown_name
from segzoo.inference.writers.table import OUTPUTS

DEFAULT_OUTPUTS = ("classes", "overlay")
Probabilities = Literal["all", "top"]
Uncertainty = Literal["entropy", "disagreement"]
Coordinates = Literal["auto", "crs", "wgs84", "pixels"]
_CHOICES = {"probabilities": Probabilities, "uncertainty": Uncertainty, "coordinates": Coordinates}


@dataclass(frozen=True)
class OutputOptions:
    """Outputs of a prediction, and how they are made.

    Attributes:
        names: names of `OUTPUTS`.
        probabilities: "all": of every class; "top": of the most probable one.
        uncertainty: "entropy": of the probabilities; "disagreement": of the members of an ensemble.
        coordinates: of polygons. "auto": those of the image's CRS, pixels where it has none; "crs": those of the CRS,
            an error without one; "wgs84": longitude and latitude; "pixels": x to the right and y down, from the outer
            corner of the first pixel.
        min_area: pixels of the smallest object that counts, for objects, polygons, coco and table.
        fill_holes: pixels of the largest hole in an object that is filled, for the same; 0: none is.
        georeference: whether images with a place on Earth give GeoTIFFs.
        alpha: opacity of the colours in overlays, 0..1.
        contours: whether regions in overlays have contours.
        legend: whether overlays have a legend below the image, of the classes that it shows.

    Raises:
        UnknownNameError: no such output.
        SegzooError: no output, one twice, or a value out of range.
    """

    names: Sequence[str] = DEFAULT_OUTPUTS
    probabilities: Probabilities = "all"
    uncertainty: Uncertainty = "entropy"
    coordinates: Coordinates = "auto"
    min_area: int = 1
    fill_holes: int = 0
    georeference: bool = True
    alpha: float = 0.5
    contours: bool = True
    legend: bool = True

    def __post_init__(self) -> None:
        names = self.names.split(",") if isinstance(self.names, str) else self.names
        object.__setattr__(self, "names", tuple(name.strip() for name in names))
        for name in self.names:
            OUTPUTS.check(name)
        if not self.names or len(set(self.names)) < len(self.names):
            raise SegzooError(f"Name at least one output, and each once; got {', '.join(self.names) or 'none'}.")
        for option, known in _CHOICES.items():
            if (value := getattr(self, option)) not in get_args(known):
                raise unknown_name(f"value of {option}", value, get_args(known))
        if self.min_area < 1 or self.fill_holes < 0:
            raise SegzooError(
                f"min_area must be 1 or more and fill_holes 0 or more, in pixels; got {self.min_area} and "
                f"{self.fill_holes}."
            )
        if not 0 <= self.alpha <= 1:
            raise SegzooError(f"alpha must be 0 to 1, got {self.alpha}.")

    def check_videos(self, videos: Sequence[Path]) -> None:
        """Raise SegzooError if there are videos, and an output that cannot be made of them."""
        without = [name for name in self.names if OUTPUTS[name].video_suffixes is None]
        if videos and without:
            known = ", ".join(name for name in OUTPUTS if OUTPUTS[name].video_suffixes is not None)
            raise SegzooError(
                f"Of a video come {known}, not {', '.join(without)}. Leave that out (--output), or write its frames as "
                f"images: ffmpeg -i {videos[0].name} frames/%06d.png."
            )

    def check_members(self, count: int) -> None:
        """Raise SegzooError where disagreement is wanted of a single network; `count` is that of the networks."""
        if count < 2 and self.uncertainty == "disagreement" and "uncertainty" in self.names:
            raise SegzooError(
                "A single network has no members that could disagree: add one by --ensemble RUN (a list of models), or "
                "take --uncertainty entropy (uncertainty=...)."
            )


@dataclass
class PredictionSummary:
    """Results of predicting a set of images.

    Attributes:
        out: the folder of all results.
        predicted: images whose results were written, in their order.
        files: files written, by the name of the output.
        failed: images that could not be read, with the reason, which names the file.
        thresholds: probabilities above which classes were predicted, by name; empty where the largest logit decided.
        left_out: files in folders that are neither images nor videos, such as "2 .heic"; "" for none.
    """

    out: Path
    predicted: list[Path] = field(default_factory=list)
    files: dict[str, list[Path]] = field(default_factory=dict)
    failed: dict[Path, str] = field(default_factory=dict)
    thresholds: dict[str, float] = field(default_factory=dict)
    left_out: str = ""

    @property
    def written(self) -> list[Path]:
        """Files of the first output, by default the class maps, in the order of the images."""
        return next(iter(self.files.values()), [])

    def __str__(self) -> str:
        """Return one line of counts and the folder, one of thresholds if there are any, then one for each failure."""
        total = len(self.predicted) + len(self.failed)
        lines = [f"{len(self.predicted)} of {total} images predicted, {len(self.failed)} failed. Results: {self.out}"]
        if self.thresholds:
            lines.append("Thresholds: " + ", ".join(f"{name} {value:.3g}" for name, value in self.thresholds.items()))
        if self.left_out:
            lines.append(f"Left out, by the endings of images and videos: {self.left_out}")
        return "\n".join([*lines, *(f"  failed: {reason}" for reason in self.failed.values())])
