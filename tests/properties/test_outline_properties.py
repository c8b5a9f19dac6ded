"""Outlines of any objects: pycocotools makes the same pixels of COCO's polygons, and GDAL of all."""

from __future__ import annotations

import numpy as np
import pycocotools.mask
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.features import rasterize

from segzoo.inference.legend import Legend
from segzoo.inference.objects import find_objects
from segzoo.inference.polygons import outlines
from segzoo.inference.writers.coco import _polygons

LEGEND = Legend(["ground", "tree", "house"], np.zeros((3, 3), np.uint8), background=0)


@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 2)))
@settings(max_examples=60, deadline=None)
def test_outlines_give_the_objects_back(class_map: np.ndarray) -> None:
    (layer,), classes = find_objects(class_map, LEGEND)
    found = outlines(layer)
    assert [outline.number for outline in found] == list(range(1, len(classes) + 1))
    shapes = [(outline.geometry(), outline.number) for outline in found]
    if shapes:
        np.testing.assert_array_equal(rasterize(shapes, layer.shape, dtype="int32"), layer)
    for outline in found:
        if not outline.has_holes:
            coded = pycocotools.mask.merge(pycocotools.mask.frPyObjects(_polygons(outline), *layer.shape))
            np.testing.assert_array_equal(pycocotools.mask.decode(coded), layer == outline.number)
