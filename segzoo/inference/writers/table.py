"""The table of outputs of a prediction; each is registered by the module that defines it."""

from __future__ import annotations

from segzoo.registry import Registry

OUTPUTS = Registry(
    "output",
    absent={"overlays": "it is called overlay.", "geojson": "it is called polygons.", "csv": "it is called table."},
    base="segzoo.inference.writers.contract:Output",
    package="segzoo.inference.writers",
    order=("classes", "overlay", "probabilities", "uncertainty", "objects", "polygons", "coco", "areas"),
)
