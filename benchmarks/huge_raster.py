"""Memory and duration of predictions of huge GeoTIFFs, which are read and written by windows.

    python benchmarks/huge_raster.py FOLDER [--sides 5000 10000 30000] [--rows N] [--tile N] [--classes 4]
        [--backbone NAME | --scene town --output classes,objects,polygons,coco,table]

Writes a GeoTIFF of three bands for each side to FOLDER, which needs a gigabyte or two for the largest, and predicts it
in a process of its own, in tiles of the default size unless --tile is given; --rows cuts it off below, as memory
depends on the width alone. Without --backbone the network is two convolutions at stride 8 and a transposed one, so that
reading, blending and writing are what is measured; with it, a U-Net with random weights. With --scene town the raster
shows houses and roads in channels of their own, and the network is a convolution of one pixel that tells them apart, so
that there are as many objects as a town has. The memory is the peak of the process's resident set less what it was when
the model was loaded, and less what it was after the first tile, for which TensorFlow starts its threads and takes its
buffers.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil

_BLOCK = 512


def squares(rng: np.random.Generator) -> np.ndarray:
    """Return a block of squares of random colours."""
    import cv2

    coarse = rng.integers(0, 256, (32, 32, 3), np.uint8)
    return cv2.resize(coarse, (_BLOCK, _BLOCK), interpolation=cv2.INTER_NEAREST)


def town(rng: np.random.Generator) -> np.ndarray:
    """Return a block with 64 houses of 100 to 1,100 pixels, bright in channel 1, and a crossing in channel 2."""
    import cv2

    block = np.full((_BLOCK, _BLOCK, 3), (120, 20, 20), np.uint8)
    for row, column in np.ndindex(8, 8):
        place = 64 * np.array([column, row]) + rng.uniform(28, 36, 2)
        corners = cv2.boxPoints((tuple(map(float, place)), tuple(rng.uniform(10, 33, 2)), rng.uniform(0, 90)))
        cv2.fillPoly(block, [corners.round().astype(int)], (20, 220, 20))
    block[:6] = block[:, :6] = (20, 20, 220)  # joins the roads of the next blocks: one object across the image
    return block


SCENES = {"squares": squares, "town": town}


def write_raster(path: Path, rows: int, side: int, scene: str) -> None:
    """Write a GeoTIFF `rows` x `side` of a scene, window by window."""
    import rasterio
    from rasterio.transform import Affine

    rng = np.random.default_rng(0)
    shape = {"height": rows, "width": side, "count": 3, "dtype": "uint8", "crs": "EPSG:25832"}
    tiles = {"tiled": True, "blockxsize": _BLOCK, "blockysize": _BLOCK, "compress": "deflate", "bigtiff": "if_safer"}
    place = Affine(0.5, 0, 400_000, 0, -0.5, 5_500_000)
    with rasterio.open(path, "w", driver="GTiff", transform=place, **shape, **tiles) as raster:
        for top in range(0, rows, _BLOCK):
            for left in range(0, side, _BLOCK):
                height, width = min(_BLOCK, rows - top), min(_BLOCK, side - left)
                pixels = SCENES[scene](rng)[:height, :width]
                window = ((top, top + height), (left, left + width))
                raster.write(pixels.transpose(2, 0, 1), window=window)


def model_of(options: argparse.Namespace):
    """Return a U-Net with random weights, a small network of stride 8, or one whose logits are the channels."""
    classes = options.classes
    if options.backbone is not None:
        import segzoo

        return segzoo.build_model("unet", options.backbone, classes, weights="none")
    import keras
    from keras import layers

    if options.scene == "town":
        channels = layers.Conv2D(3, 1)
        image = keras.Input((None, None, 3))
        model = keras.Model(image, channels(image))
        channels.set_weights([np.eye(3, dtype=np.float32)[None, None], np.zeros(3)])
        return model
    image = keras.Input((None, None, 3))
    x = layers.Conv2D(8, 8, strides=8, padding="same", activation="relu")(image)
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
    return keras.Model(image, layers.Conv2DTranspose(classes, 8, strides=8, padding="same")(x))


def measure(path: Path, options: argparse.Namespace) -> None:
    """Predict a raster in this process, and print its memory in MB and its duration in seconds as JSON."""
    from segzoo.backend import start_backend
    from segzoo.inference import Predictor

    start_backend()
    background = 0 if options.scene == "town" else None
    predictor = Predictor(model_of(options), tile=options.tile or "auto", background=background)
    process = psutil.Process()
    loaded = process.memory_info().rss
    after_first: list[int] = []

    def progress(tiles: int) -> None:
        if tiles and not after_first:
            after_first.append(process.memory_info().rss)

    began = time.monotonic()
    out = path.with_suffix("")
    outputs = options.output.split(",")
    done = predictor.predict_files([path], out, outputs=outputs, overwrite=True, max_pixels=1, progress=progress)
    assert not done.failed, done.failed
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found = {"loaded": loaded, "above loaded": peak - loaded, "above first tile": peak - after_first[0]}
    figures = {name: round(value / 1e6) for name, value in found.items()}
    print(json.dumps({**figures, "seconds": round(time.monotonic() - began)}))


def main() -> None:
    """Print a row for each raster, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sides", type=int, nargs="+", default=[5000, 10000, 30000])
    parser.add_argument("--rows", type=int)
    parser.add_argument("--tile", type=int)
    parser.add_argument("--classes", type=int, default=4)
    parser.add_argument("--backbone")
    parser.add_argument("--scene", choices=SCENES, default="squares")
    parser.add_argument("--output", default="classes,overlay,table")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        measure(options.child, options)
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    print("| Side | Model loaded | Peak above it | Peak above first tile | Seconds | Megapixels/s |")
    print("|---|---|---|---|---|---|", flush=True)
    for side in options.sides:
        rows = options.rows or side
        path = options.folder / f"{options.scene}-{rows}x{side}.tif"
        if not path.exists():
            write_raster(path, rows, side, options.scene)
        command = [sys.executable, __file__, *sys.argv[1:], "--child", str(path)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        found = json.loads(output.splitlines()[-1])
        speed = rows * side / 1e6 / max(found["seconds"], 1)
        cells = [f"{found[name]} MB" for name in ("loaded", "above loaded", "above first tile")]
        print(f"| {side} | {' | '.join(cells)} | {found['seconds']} | {speed:.1f} |", flush=True)


if __name__ == "__main__":
    main()
