"""Where samples come from, how they are augmented, and how they become batches.

Nothing here needs a deep-learning framework: batches are NumPy arrays. The names below are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import Any

from segzoo.data.sources import Sample, Source, remarks
from segzoo.registry import Registry

SOURCES = Registry(
    "data source",
    {
        "generated": "segzoo.data.generated:GeneratedShapes",
        "folder": "segzoo.data.folder:FolderSource",
    },
)

_LAZY = {
    "Augmentation": "segzoo.data.augmentation",
    "CachedSource": "segzoo.data.cache",
    "Crop": "segzoo.data.crop",
    "DiskCachedSource": "segzoo.data.disk_cache",
    "EvalBatches": "segzoo.data.pipeline",
    "Findings": "segzoo.data.checks",
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
    "Report": "segzoo.data.checks",
    "Subset": "segzoo.data.splits",
    "TrainBatches": "segzoo.data.pipeline",
    "check_source": "segzoo.data.checks",
    "check_splits": "segzoo.data.checks",
    "listed_pairs": "segzoo.data.splits",
    "refuse_common": "segzoo.data.splits",
    "presence": "segzoo.data.sampling",
    "repeat_factors": "segzoo.data.sampling",
    "signed_distances": "segzoo.data.distances",
    "split": "segzoo.data.splits",
    "validate_transforms": "segzoo.data.augmentation",
    "with_distances": "segzoo.data.distances",
}

__all__ = ["SOURCES", "Sample", "Source", "create_source", "remarks", *sorted(_LAZY)]


def create_source(name: str, **arguments: Any) -> Source:
    """Build the data source registered as `name`.

    Args:
        name: a key of `SOURCES` ("generated", "folder").
        **arguments: passed to the source's constructor.

    Raises:
        UnknownNameError: no such source; the message lists those there are.
        DataError: the source found its data unusable.
    """
    source: Source = SOURCES[name](**arguments)
    return source


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'segzoo.data' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
