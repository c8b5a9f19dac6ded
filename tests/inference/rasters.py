"""GeoTIFFs for tests: painted class maps with a place on Earth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from painted import painted
from rasterio.transform import Affine

UTM = "EPSG:25832"
PLACE = Affine(0.5, 0, 400_000, 0, -0.5, 5_500_000)  # half a metre a pixel, north up
TURNED = Affine.translation(400_000, 5_500_000) @ Affine.rotation(30) @ Affine.scale(0.5, -0.5)


def save_raster(path: Path, class_map: np.ndarray, crs: str | None = UTM, transform: Any = PLACE, **profile) -> Path:
    """Write the painted class map as a GeoTIFF of three bands; 255 in class maps is all bands at nodata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = painted(np.where(class_map == 255, 0, class_map))
    if "nodata" in profile:
        bands[class_map == 255] = profile["nodata"]
    shape = {"height": class_map.shape[0], "width": class_map.shape[1], "count": 3, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", crs=crs, transform=transform, **shape, **profile) as raster:
        raster.write(bands.transpose(2, 0, 1))
    return path
