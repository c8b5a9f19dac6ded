"""Preview of training samples after cropping and augmentation."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from segzoo.config import Config
from segzoo.data import Sample
from segzoo.data.batch_transforms import hard
from segzoo.engine import builders
from segzoo.engine.spread import evenly_spaced
from segzoo.errors import DataError
from segzoo.reporting.pictures import sample_sheet

_MOST = 1000  # pictures on a sheet, which has to fit into memory as a whole


def preview(config: Config, path: Path, count: int = 6, variants: int = 3) -> None:
    """Draw samples of the training split as they are stored and as they are cropped, augmented and mixed.

    Batch transforms mix the samples of the sheet with each other, as if they were a batch.

    Args:
        config: the resolved configuration.
        path: the PNG to write.
        count: samples, spread evenly over the split, 1 or more.
        variants: how often each is augmented, 1 or more; the seeds are those of the first epochs of a training.

    Raises:
        DataError: unusable samples, or more than 1,000 pictures.
    """
    source = builders.build_source(config, "train")
    if (pictures := min(count, len(source)) * (1 + variants)) > _MOST:
        raise DataError(
            f"A sheet of {min(count, len(source)):,} samples, each as stored and augmented {variants:,} times, has "
            f"{pictures:,} pictures, and at most {_MOST:,} are drawn. Lower count or variants."
        )
    batches = builders.train_batches(config, source)
    chosen = evenly_spaced(source.ids, count)
    indices = [place for place, name in enumerate(source.ids) if name in chosen]
    made = [[source[index] for index in indices]]
    for epoch in range(variants):
        made.append(batches.mixed([batches.sample(index, epoch) for index in indices], epoch, 0))
    samples = [([_panel(config, sample) for sample in row], row[0].id) for row in zip(*made, strict=True)]
    columns = ["as stored", *(f"epoch {epoch + 1}" for epoch in range(variants))]
    sample_sheet(
        samples,
        columns,
        config.task.classes,
        builders.colours(config),
        config.data.ignore_index,
        path,
        builders.background(config),
    )


def _panel(config: Config, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Return image and labels; for mixed samples the class with the largest share of each pixel."""
    return sample.image, hard(sample.mask, config.task)
