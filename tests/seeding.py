"""Values for the weights of a network that need not be stored, because their names decide them."""

from __future__ import annotations

import zlib

import keras
import numpy as np


def fill(layer: keras.layers.Layer | keras.Model) -> None:
    """Give every weight normal values of deviation 0.3, drawn by its path; variances are 0.5 and their squares."""
    for weight in layer.weights:
        rng = np.random.default_rng(zlib.crc32(weight.path.encode()))
        values = rng.normal(0, 0.3, weight.shape)
        weight.assign(values**2 + 0.5 if weight.path.endswith("variance") else values)
