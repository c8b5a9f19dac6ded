"""Targets and logits on which the losses of all backends are compared; also imported by the processes of the tests."""

from __future__ import annotations

import numpy as np

from segzoo.data import with_distances

IGNORE = 255


def loss_arrays() -> dict[str, np.ndarray]:
    """Targets with distances, and logits, for every mode: `target MODE`, `logits MODE`."""
    rng = np.random.default_rng(11)
    labels = np.kron(rng.integers(0, 4, (2, 3, 3)), np.ones((4, 3), int))
    labels[:, :2, 4:] = IGNORE
    distances = np.stack([with_distances(mask, 4, IGNORE) for mask in labels])
    made = {"target multiclass": distances}
    for mode, classes in (("binary", 1), ("multilabel", 4)):
        values = (rng.uniform(size=(*labels.shape, classes)) < 0.4).astype("float32")
        values[labels == IGNORE] = IGNORE
        made[f"target {mode}"] = np.concatenate([values, distances[..., 1 : 1 + classes], distances[..., -1:]], axis=-1)
    for mode, classes in (("multiclass", 4), ("binary", 1), ("multilabel", 4)):
        made[f"logits {mode}"] = rng.normal(0, 2, (*labels.shape, classes)).astype("float32")
    return made
