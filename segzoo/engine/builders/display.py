"""Display of the classes in pictures: their colours, and the background, which is left untinted."""

from __future__ import annotations

import numpy as np

from segzoo.config import Config, FolderData
from segzoo.data import MASK_FORMATS

_BACKGROUND_NAMES = frozenset({"background", "bg", "unlabeled", "unlabelled", "void", "none"})


def colours(config: Config) -> np.ndarray:
    """Return one colour per class `(classes, 3)`, 0..255: the configured palette or a distinct one."""
    from segzoo.reporting.pictures import palette

    if isinstance(config.data, FolderData) and config.data.palette:
        return np.array(config.data.palette, dtype="uint8")
    return palette(len(config.task.classes))


def background(config: Config) -> int | None:
    """Return the label of the background, which pictures leave untinted; None if there is no such class."""
    names = config.task.classes
    if config.mode == "binary":
        return 0
    if isinstance(config.data, FolderData) and config.mode == "multiclass":
        stated = config.data.masks.get("background")
        if stated in names:
            return names.index(stated)
        kind = MASK_FORMATS[config.data.masks["format"]]
        if stated is None and getattr(kind, "first_is_background", False):
            return 0
    return next((label for label, name in enumerate(names) if name.strip("_ ").lower() in _BACKGROUND_NAMES), None)
