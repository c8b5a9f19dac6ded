"""Classes that a mask holds, on NumPy arrays in the input pipeline: the target of a classification head."""

from __future__ import annotations

import numpy as np

from segzoo.task import Mode


def held_classes(mask: np.ndarray, classes: int, ignore_index: int | None, mode: Mode) -> np.ndarray:
    """Return which classes a mask holds, `(C,)` float32: 1 or 0, of shares the largest that a pixel has.

    Args:
        mask: integers `(H, W)`, multilabel `(H, W, C)`; or shares `(H, W, C)`, of a mixed sample.
        classes: number of logits C.
        ignore_index: label of the pixels that count for no class, or None.
        mode: "multiclass", "binary" or "multilabel".
    """
    if mode == "multiclass" and mask.ndim == 2:
        held = np.isin(np.arange(classes), mask)
        if ignore_index is not None and 0 <= ignore_index < classes:
            held[ignore_index] = False
        return held.astype(np.float32)
    values = mask.reshape(-1, classes)
    if ignore_index is not None and mode != "multiclass":
        values = np.where(values == ignore_index, 0, values)
    return values.max(axis=0, initial=0).astype(np.float32)
