"""Data: sources of samples, augmentation and batching.

Nothing here needs a deep-learning framework: batches are NumPy arrays. The names below are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segzoo.data.sources import Sample, Source, remarks
from segzoo.lazy import attach
from segzoo.registry import Registry

if TYPE_CHECKING:
    from segzoo.data.augmentation import Augmentation as Augmentation
    from segzoo.data.augmentation import validate_transforms as validate_transforms
    from segzoo.data.batch_transforms import BATCH_TRANSFORMS as BATCH_TRANSFORMS
    from segzoo.data.batch_transforms import BatchTransform as BatchTransform
    from segzoo.data.batch_transforms import BatchTransforms as BatchTransforms
    from segzoo.data.batch_transforms import create_batch_transform as create_batch_transform
    from segzoo.data.cache import CachedSource as CachedSource
    from segzoo.data.checks import Rehearsal as Rehearsal
    from segzoo.data.checks import check_source as check_source
    from segzoo.data.checks import check_splits as check_splits
    from segzoo.data.crop import Crop as Crop
    from segzoo.data.disk_cache import DiskCachedSource as DiskCachedSource
    from segzoo.data.findings import Findings as Findings
    from segzoo.data.findings import Report as Report
    from segzoo.data.folder import FolderSource as FolderSource
    from segzoo.data.folder import Pair as Pair
    from segzoo.data.formats import MASK_FORMATS as MASK_FORMATS
    from segzoo.data.formats import Labels as Labels
    from segzoo.data.formats import MaskFormat as MaskFormat
    from segzoo.data.formats import create_format as create_format
    from segzoo.data.generated import GeneratedShapes as GeneratedShapes
    from segzoo.data.images import ImageReader as ImageReader
    from segzoo.data.pipeline import EvalBatches as EvalBatches
    from segzoo.data.pipeline import TrainBatches as TrainBatches
    from segzoo.data.problems import Problem as Problem
    from segzoo.data.sampling import presence as presence
    from segzoo.data.sampling import repeat_factors as repeat_factors
    from segzoo.data.splits import Subset as Subset
    from segzoo.data.splits import listed_pairs as listed_pairs
    from segzoo.data.splits import refuse_common as refuse_common
    from segzoo.data.splits import split as split
    from segzoo.losses.distances import signed_distances as signed_distances
    from segzoo.losses.distances import with_distances as with_distances

SOURCES = Registry(
    "data source",
    {
        "generated": "segzoo.data.generated:GeneratedShapes",
        "folder": "segzoo.data.folder:FolderSource",
    },
)

_LAZY = {
    "Augmentation": "segzoo.data.augmentation",
    "BATCH_TRANSFORMS": "segzoo.data.batch_transforms",
    "BatchTransform": "segzoo.data.batch_transforms",
    "BatchTransforms": "segzoo.data.batch_transforms",
    "create_batch_transform": "segzoo.data.batch_transforms",
    "CachedSource": "segzoo.data.cache",
    "Crop": "segzoo.data.crop",
    "DiskCachedSource": "segzoo.data.disk_cache",
    "EvalBatches": "segzoo.data.pipeline",
    "Findings": "segzoo.data.findings",
    "FolderSource": "segzoo.data.folder",
    "GeneratedShapes": "segzoo.data.generated",
    "ImageReader": "segzoo.data.images",
    "Labels": "segzoo.data.formats",
    "MASK_FORMATS": "segzoo.data.formats",
    "MaskFormat": "segzoo.data.formats",
    "create_format": "segzoo.data.formats",
    "Pair": "segzoo.data.folder",
    "Problem": "segzoo.data.problems",
    "Rehearsal": "segzoo.data.checks",
    "Report": "segzoo.data.findings",
    "Subset": "segzoo.data.splits",
    "TrainBatches": "segzoo.data.pipeline",
    "check_source": "segzoo.data.checks",
    "check_splits": "segzoo.data.checks",
    "listed_pairs": "segzoo.data.splits",
    "refuse_common": "segzoo.data.splits",
    "presence": "segzoo.data.sampling",
    "repeat_factors": "segzoo.data.sampling",
    "signed_distances": "segzoo.losses.distances",
    "split": "segzoo.data.splits",
    "validate_transforms": "segzoo.data.augmentation",
    "with_distances": "segzoo.losses.distances",
}

__all__ = ["SOURCES", "Sample", "Source", "create_source", "remarks", *sorted(_LAZY)]


def create_source(name: str, **arguments: Any) -> Source:
    """Build the data source registered as `name`.

    Args:
        name: a key of `SOURCES` ("generated", "folder").
        **arguments: passed to the source's constructor.

    Raises:
        UnknownNameError: an unknown source; the message lists the known ones.
        DataError: the source found its data unusable.
    """
    source: Source = SOURCES[name](**arguments)
    return source


__getattr__, __dir__ = attach(__name__, _LAZY)
