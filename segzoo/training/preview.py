"""A picture of what a configuration makes of its training samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from segzoo.config import Config
from segzoo.errors import DataError
from segzoo.inference.pictures import sample_sheet
from segzoo.training import assemble
from segzoo.training.evaluation import evenly_spaced

_MOST = 1000  # pictures on a sheet, which has to fit into memory as a whole


def preview(config: Config, path: Path, count: int = 6, variants: int = 3) -> None:
    """Draw samples of the training split as they are stored and as they are cropped and augmented.

    Args:
        config: the resolved configuration.
        path: the PNG to write.
        count: samples, spread evenly over the split, 1 or more.
        variants: how often each is augmented, 1 or more; the seeds are those of the first epochs of a training.

    Raises:
        DataError: samples that cannot be used, or more than 1,000 pictures.
    """
    source = assemble.build_source(config, "train")
    if (pictures := min(count, len(source)) * (1 + variants)) > _MOST:
        raise DataError(
            f"A sheet of {min(count, len(source)):,} samples, each as stored and augmented {variants:,} times, has "
            f"{pictures:,} pictures, and at most {_MOST:,} are drawn. Lower count or variants."
        )
    batches = assemble.train_batches(config, source)
    chosen = evenly_spaced(source.ids, count)
    samples = []
    for index in [place for place, name in enumerate(source.ids) if name in chosen]:
        stored = source[index]
        shown: list[tuple[np.ndarray, np.ndarray]] = [(stored.image, stored.mask)]
        for epoch in range(variants):
            made = batches.sample(index, epoch)
            shown.append((made.image, made.mask))
        samples.append((shown, stored.id))
    columns = ["as stored", *(f"epoch {epoch + 1}" for epoch in range(variants))]
    sample_sheet(
        samples,
        columns,
        assemble.class_names(config),
        assemble.colours(config),
        config.data.ignore_index,
        path,
        assemble.background(config),
    )
