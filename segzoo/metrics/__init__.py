"""Data-set-wide segmentation metrics, per class and mean; a class that does not occur is n/a."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segzoo.lazy import attach

if TYPE_CHECKING:
    from segzoo.metrics.calibration import Calibration as Calibration
    from segzoo.metrics.class_metrics import figures_by_class as figures_by_class
    from segzoo.metrics.confusion import ConfusionMatrix as ConfusionMatrix
    from segzoo.metrics.confusion import MultilabelCounts as MultilabelCounts
    from segzoo.metrics.confusion import pixel_counts as pixel_counts
    from segzoo.metrics.mean_iou import MeanIoU as MeanIoU
    from segzoo.metrics.paired_resampling import Difference as Difference
    from segzoo.metrics.paired_resampling import Differences as Differences
    from segzoo.metrics.paired_resampling import paired_bootstrap as paired_bootstrap
    from segzoo.metrics.probability_histogram import ProbabilityHistogram as ProbabilityHistogram
    from segzoo.metrics.resampling import ImageCounts as ImageCounts
    from segzoo.metrics.resampling import Intervals as Intervals
    from segzoo.metrics.resampling import bootstrap as bootstrap
    from segzoo.metrics.surface import SurfaceMetrics as SurfaceMetrics
    from segzoo.metrics.table import METRICS as METRICS

_CLASSES = {
    "METRICS": "segzoo.metrics.table",
    "Calibration": "segzoo.metrics.calibration",
    "ConfusionMatrix": "segzoo.metrics.confusion",
    "Difference": "segzoo.metrics.paired_resampling",
    "Differences": "segzoo.metrics.paired_resampling",
    "ImageCounts": "segzoo.metrics.resampling",
    "Intervals": "segzoo.metrics.resampling",
    "MeanIoU": "segzoo.metrics.mean_iou",
    "MultilabelCounts": "segzoo.metrics.confusion",
    "ProbabilityHistogram": "segzoo.metrics.probability_histogram",
    "SurfaceMetrics": "segzoo.metrics.surface",
    "bootstrap": "segzoo.metrics.resampling",
    "figures_by_class": "segzoo.metrics.class_metrics",
    "paired_bootstrap": "segzoo.metrics.paired_resampling",
    "pixel_counts": "segzoo.metrics.confusion",
}

__all__ = [
    "METRICS",
    "Calibration",
    "ConfusionMatrix",
    "Difference",
    "Differences",
    "ImageCounts",
    "Intervals",
    "MeanIoU",
    "MultilabelCounts",
    "ProbabilityHistogram",
    "SurfaceMetrics",
    "bootstrap",
    "figures_by_class",
    "paired_bootstrap",
    "pixel_counts",
]


__getattr__, __dir__ = attach(__name__, _CLASSES)
