"""Class maps are read from the files that predictions write as they were written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from segzoo.data import Labels, create_format
from segzoo.inference.writers.classes import write_class_map, write_layers
from segzoo.reporting.pictures import palette

SHARED = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # each example overwrites the file
)


@SHARED
@given(st.integers(1, 40), st.integers(1, 40), st.integers(2, 400), st.integers(0, 2**32 - 1))
def test_class_maps(tmp_path: Path, height: int, width: int, classes: int, seed: int) -> None:
    path = tmp_path / "map.png"
    dtype = np.uint8 if classes <= 256 else np.uint16
    class_map = np.random.default_rng(seed).integers(0, classes, (height, width)).astype(dtype)
    write_class_map(path, class_map, palette(classes))
    with Image.open(path) as picture:
        np.testing.assert_array_equal(np.asarray(picture), class_map)
    masks = create_format("index", Labels([f"c{n}" for n in range(classes)], ignore_index=65535))
    np.testing.assert_array_equal(masks.read(path, path, (height, width)), class_map)


@SHARED
@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_layers(tmp_path: Path, height: int, width: int, classes: int, seed: int) -> None:
    path = tmp_path / "layers.tif"
    layers = np.random.default_rng(seed).integers(0, 2, (height, width, classes)).astype(np.uint8)
    write_layers(path, layers)
    with Image.open(path) as picture:
        for page in range(classes):
            picture.seek(page)
            np.testing.assert_array_equal(np.asarray(picture), 255 * layers[..., page])
