"""Computation of predictions: its options, and the predictor of a model or an ensemble by them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from segzoo.errors import SegzooError

if TYPE_CHECKING:
    from segzoo.engine.checkpoint.thresholds import Thresholds
    from segzoo.inference.predictor import Predictor
    from segzoo.workflows.sources import Model


@dataclass(frozen=True)
class Compute:
    """Options of the computation of predictions, the same for `load`, `predict` and `evaluate`.

    Attributes:
        tta: test-time augmentation: "mirror", "flips", "d4", "scales", or one of the first three with scales, such as
            "mirror+scales"; see `segzoo.inference.Predictor`.
        tile: height and width of tiles, a multiple of 32: larger images are computed in such tiles. 0: none ever is. By
            default tiles of 1024 for predictions of images above 2048 x 2048, of 512 for those read by windows, and
            none in evaluations.
        overlap: pixels that neighbouring tiles share, a multiple of 32; by default a quarter of `tile`.
        batch: most tiles that are computed at once, 1 or more.
        device: name of the device, such as "CPU" or "GPU:1"; by default the backend's choice.

    Raises:
        UnknownNameError: no such test-time augmentation.
        SegzooError: a batch below 1, an overlap of tiles that there are not, or sizes of tiles that cannot be.
    """

    tta: str | None = None
    tile: int | None = None
    overlap: int | None = None
    batch: int = 1
    device: str | None = None

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise SegzooError(f"batch must be 1 or more, got {self.batch}.")
        if self.tile == 0 and self.overlap is not None:
            raise SegzooError("overlap is of tiles; leave it out where tile is 0.")
        # Here, and not only by the predictor: it is built after the network.
        if self.tta is not None:
            from segzoo.inference.views import views_of

            views_of(self.tta)
        if self.tile or self.overlap is not None:
            from segzoo.inference.tiling import TILE, Tiling

            Tiling.square(self.tile or TILE, self.overlap, 0)

    @property
    def words(self) -> list[str]:
        """The options that change results, as words for titles."""
        given = {"tta": self.tta, "tile": self.tile, "overlap": self.overlap}
        return [f"{name} {value}" for name, value in given.items() if value is not None]

    def arguments(self, tiled: bool) -> dict[str, Any]:
        """Return the arguments of `Predictor`; `tiled`: large images are tiled without being told to."""
        shared: dict[str, Any] = {"tta": self.tta, "batch": self.batch}
        if self.tile == 0 or (self.tile is None and self.overlap is None and not tiled):
            return {**shared, "tile": None}
        if self.tile is None:
            return {**shared, "overlap": self.overlap}
        return {**shared, "tile": self.tile, "overlap": self.overlap, "tile_above": 0}


def build_predictor(
    models: Sequence[Model], compute: Compute, thresholds: Thresholds | None = None, *, tiled: bool = True
) -> Predictor:
    """Build the predictor of one model or an ensemble.

    Args:
        models: opened sources.
        compute: options of the computation.
        thresholds: those of the classes; None: 0.5.
        tiled: whether large images are tiled without being told to.

    Raises:
        SegzooError: invalid options, or members of an ensemble that read images differently.
    """
    from segzoo.device import check_device
    from segzoo.inference.ensemble import EnsembleNetwork
    from segzoo.inference.predictor import Predictor

    first, *others = models
    reader = first.reader()
    for other in others:
        if (settings := other.reader().settings) != reader.settings:
            raise SegzooError(
                f"The members of an ensemble must read images alike: {first.name} by {reader.settings}, {other.name} "
                f"by {settings} (channels, bands, value_range, alpha, turned by EXIF)."
            )
    device = None if compute.device is None else check_device(compute.device)
    networks = [model.network(device) for model in models]
    for network in networks:
        if network.size is not None and (compute.tile is not None or compute.overlap is not None):
            height, width = network.size
            raise SegzooError(
                f"{network} computes on images of {height} x {width} (height x width) alone, so these are its tiles: "
                "leave --tile and --overlap out (tile=..., overlap=...)."
            )
    palette, background = first.display()
    return Predictor(
        networks[0] if len(networks) == 1 else EnsembleNetwork(networks),
        reader=reader,
        class_names=first.task.classes,
        palette=palette,
        background=background,
        thresholds=None if thresholds is None else thresholds.numbers,
        **compute.arguments(tiled),
    )
