"""Examples for the page: pictures of a run's validation split."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from segzoo.errors import DataError, SegzooError
from segzoo.workflows.sources import Model, RunModel, refuse_given_data

if TYPE_CHECKING:
    from segzoo.data import Source

_COUNT = 6


def write_examples(model: Model, folder: Path, max_pixels: int) -> list[Path]:
    """Write pictures of the validation split as PNG, spread evenly over it, pixel by pixel as the model reads them.

    Args:
        model: an opened run; other models have no data.
        folder: an existing folder.
        max_pixels: most pixels of a picture; larger ones are left out.

    Raises:
        SegzooError: there is none, with the reason.
    """
    if not isinstance(model, RunModel):
        raise SegzooError(f"No examples: {model.name} is a model file, which has no validation pictures.")
    from segzoo.engine import builders

    try:
        refuse_given_data(model.run, "val", ".")
        source = builders.build_source(model.run.config, "val", strict=False)
    except SegzooError as error:
        raise SegzooError(f"No examples, as the run's validation pictures are not there: {error}") from error
    found = _written(source, folder, max_pixels)
    if not found:
        raise SegzooError(
            "No examples: none of the run's validation pictures is one of 8 bits, grey or RGB, that can be read."
        )
    return found


def _written(source: Source, folder: Path, max_pixels: int) -> list[Path]:
    import numpy as np
    from PIL import Image

    found: list[Path] = []
    for place in np.unique(np.linspace(0, len(source) - 1, min(_COUNT, len(source))).round().astype(int)):
        try:
            image = source[int(place)].image
        except DataError:  # check-data says what is wrong with it
            continue
        height, width, channels = image.shape
        if image.dtype == np.uint8 and channels in (1, 3) and height * width <= max_pixels:
            found.append(folder / f"{len(found) + 1}.png")
            Image.fromarray(image if channels == 3 else image[..., 0]).save(found[-1])
    return found
