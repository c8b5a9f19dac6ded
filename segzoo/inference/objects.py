"""Objects in a class map: connected components, or what watershed makes of them where borders were trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from segzoo.inference.legend import Legend

_MOST_IN_16_BITS = 65_535
_PROMINENCE = 1.0  # pixels by which a peak of the distance must stand out to be an object of its own


class Objects(NamedTuple):
    """Objects of an image, numbered from 1 in the order of their classes, and then from top to bottom.

    Attributes:
        layers: numbers of the objects, `(H, W)` int32, 0 where there is none; one layer, or where classes may overlap
            one for each foreground class.
        classes: class of each object, `(n,)`; that of object 1 comes first.
    """

    layers: list[np.ndarray]
    classes: np.ndarray

    def of_class(self, label: int) -> int:
        """Return the number of objects of a class."""
        return int((self.classes == label).sum())


class Measures(NamedTuple):
    """Measures of an object; box and centre in pixels, from the outer corner of the first one.

    Attributes:
        object: its number.
        name: name of its class.
        class_index: index of its class.
        pixels: its area.
        square_metres: its area on Earth; None where that is not known.
        left, top, width, height: its box.
        centre_x, centre_y: its centroid.
        probability: mean probability of its class; None where probabilities were not predicted.
    """

    object: int
    name: str
    class_index: int
    pixels: int
    square_metres: float | None
    left: int
    top: int
    width: int
    height: int
    centre_x: float
    centre_y: float
    probability: float | None


def dtype_of_numbers(count: int) -> type[np.uint16] | type[np.int32]:
    """Return the type of images of the numbers of so many objects: 16 bits, which a PNG has too, or 32."""
    return np.uint16 if count <= _MOST_IN_16_BITS else np.int32


def find_objects(
    class_map: np.ndarray,
    legend: Legend,
    valid: np.ndarray | None = None,
    min_area: int = 1,
    fill_holes: int = 0,
) -> Objects:
    """Find the objects of the foreground classes.

    Pixels of a class that touch, also at a corner, are one object. With a class "border" they are parted by watershed
    on the distance to the outline (Meyer, 1994, https://doi.org/10.1016/0165-1684(94)90060-4), from peaks that stand
    out by a pixel; then each object takes the border pixels that are nearest to it, so that the gaps close.

    Args:
        class_map: `(H, W)` classes; in multilabel `(H, W, classes)` of 0 and 1.
        legend: the classes.
        valid: `(H, W)` bool, False for pixels without data, which belong to no object; None: all have data.
        min_area: pixels of the smallest object that is kept.
        fill_holes: pixels of the largest hole that is filled, where it shows the background; 0: none is.
    """
    layers, classes, count = [], [np.zeros(0, np.int64)], 0
    shared = np.zeros(class_map.shape[:2], np.int32)
    for label in legend.foreground:
        mask = class_map[..., label] == 1 if legend.multilabel else class_map == label
        mask = mask if valid is None else mask & valid
        found = _components(mask) if legend.border is None else _parted(mask)
        layer = np.zeros_like(shared) if legend.multilabel else shared
        layer[found > 0] = found[found > 0] + count
        if legend.multilabel:
            layers.append(layer)
        classes.append(np.full(found.max(initial=0), label))
        count += int(found.max(initial=0))
    if not legend.multilabel:
        if legend.border is not None:
            border = class_map == legend.border
            shared = _grown(shared, border if valid is None else border & valid)
        layers.append(shared)
    if fill_holes:
        layers = [_filled(layer, _free(class_map, legend, valid), fill_holes) for layer in layers]
    return _kept(layers, np.concatenate(classes), min_area)


def _components(mask: np.ndarray) -> np.ndarray:
    from skimage.measure import label

    return label(mask, connectivity=2).astype(np.int32)


def _parted(mask: np.ndarray) -> np.ndarray:
    """Return numbered parts of a mask: one for each peak of the distance to its outline."""
    from scipy.ndimage import distance_transform_edt
    from skimage.morphology import h_maxima
    from skimage.segmentation import watershed

    distance = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]  # the image's edge is an outline too
    # A component whose distance is nowhere above the prominence has no peak by it, and is one object.
    whole = _components(mask)
    peaks = _components(mask & (h_maxima(distance, _PROMINENCE) > 0))
    without = ~np.isin(whole, np.unique(whole[peaks > 0]))
    markers = _components((peaks > 0) | (without & mask))
    return watershed(-distance, markers, mask=mask, connectivity=2).astype(np.int32)


def _grown(objects: np.ndarray, border: np.ndarray) -> np.ndarray:
    """Give each border pixel to the nearest object that it is connected with."""
    from scipy.ndimage import distance_transform_edt
    from skimage.segmentation import watershed

    if not objects.any():
        return objects
    distance = distance_transform_edt(objects == 0)
    return watershed(distance, objects, mask=(objects > 0) | border, connectivity=2).astype(np.int32)


def _free(class_map: np.ndarray, legend: Legend, valid: np.ndarray | None) -> np.ndarray:
    """Return the pixels that a hole may consist of, `(H, W)` bool: those of no other class."""
    if legend.multilabel:
        free = np.ones(class_map.shape[:2], bool)
    elif legend.empty is None:
        free = np.zeros(class_map.shape, bool)
    else:
        free = class_map == legend.empty
    return free if valid is None else free & valid


def _filled(layer: np.ndarray, free: np.ndarray, most: int) -> np.ndarray:
    """Fill the holes of each object, of at most `most` pixels, where they are free."""
    from scipy.ndimage import binary_fill_holes
    from skimage.measure import label, regionprops

    layer = layer.copy()
    for region in regionprops(layer):
        holes = label(binary_fill_holes(region.image) & ~region.image, connectivity=1)
        small = np.bincount(holes.ravel()) <= most
        small[0] = False  # no hole
        inside = layer[region.slice]
        inside[small[holes] & free[region.slice] & (inside == 0)] = region.label
    return layer


def _kept(layers: list[np.ndarray], classes: np.ndarray, min_area: int) -> Objects:
    """Return the objects of at least `min_area` pixels, numbered anew."""
    areas = [np.bincount(layer.ravel(), minlength=len(classes) + 1) for layer in layers]
    keep = np.sum(areas, axis=0)[1:] >= min_area
    numbers = np.zeros(len(classes) + 1, np.int32)
    numbers[1:][keep] = np.arange(1, int(keep.sum()) + 1)
    return Objects([numbers[layer] for layer in layers], classes[keep])


def measure(
    objects: Objects, names: Sequence[str], probabilities: np.ndarray | None = None, square_metres: float | None = None
) -> dict[int, Measures]:
    """Measure objects; returns the measures by their numbers.

    Args:
        objects: the objects.
        names: names of the classes.
        probabilities: `(H, W, classes)`, or None.
        square_metres: area of a pixel, or None.
    """
    from skimage.measure import regionprops

    found = {}
    for region in (region for layer in objects.layers for region in regionprops(layer)):
        label = int(objects.classes[region.label - 1])
        top, left, bottom, right = region.bbox
        pixels, (y, x) = int(region.area), region.centroid
        probability = None
        if probabilities is not None:
            probability = float(probabilities[region.slice][..., label][region.image].mean(dtype=np.float64))
        area = None if square_metres is None else pixels * square_metres
        box = (left, top, right - left, bottom - top)
        number = int(region.label)
        found[number] = Measures(number, names[label], label, pixels, area, *box, x + 0.5, y + 0.5, probability)
    return found
