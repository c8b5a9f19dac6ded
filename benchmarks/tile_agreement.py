"""Agreement of predictions in tiles with those in one pass, on photographs joined to larger images.

    python benchmarks/tile_agreement.py RUN IMAGES MASKS [--images 2] [--rows 6] [--columns 5] [--ignore 11]

Joins images of one size, in the order of their names, to a mosaic and predicts it in one pass and in tiles. MASKS holds
a PNG of class indices for each image. A mosaic is cut to the largest square whose tiles have no more in common than the
overlap says, as in huge rasters, where the surplus is small. Printed are the percentage of pixels of the same class,
and the mIoU of both; the one pass of 2048 x 2048 needs 3 GB.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import segzoo
from segzoo.inference import Predictor

_TILES = ((256, 0), (256, 64), (256, 128), (512, 0), (512, 128), (512, 256), (1024, 0), (1024, 256), (1024, 512))


def joined(paths: list[Path], columns: int) -> np.ndarray:
    """Return images of one size as one, row by row."""
    pixels = [np.asarray(Image.open(path)) for path in paths]
    lines = [np.concatenate(pixels[at : at + columns], axis=1) for at in range(0, len(pixels), columns)]
    return np.concatenate(lines)


def mean_iou(truth: np.ndarray, predicted: np.ndarray, classes: int, ignored: int) -> float:
    """Return the mean over the classes of the mask, in percent, of pixels that are not `ignored`."""
    counted = truth != ignored
    pairs = classes * truth[counted].astype(int) + predicted[counted]
    confusion = np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
    hits, there = np.diag(confusion), confusion.sum(axis=1)
    return 100 * float(np.mean((hits / np.maximum(there + confusion.sum(axis=0) - hits, 1))[there > 0]))


def main() -> None:
    """Print a row for each size of tiles, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("images", type=Path)
    parser.add_argument("masks", type=Path)
    parser.add_argument("--images", dest="count", type=int, default=2)
    parser.add_argument("--rows", type=int, default=6)
    parser.add_argument("--columns", type=int, default=5)
    parser.add_argument("--ignore", type=int, default=11)
    options = parser.parse_args()
    model = segzoo.load(options.run).model
    one = Predictor(model, tile=None)
    each, images = options.rows * options.columns, sorted(options.images.iterdir())
    print("| Tile | Overlap | Same class, % | mIoU in one pass | mIoU in tiles |")
    print("|---:|---:|---:|---:|---:|", flush=True)
    mosaics, passes = [], {}
    for chosen in (images[each * number : each * (number + 1)] for number in range(options.count)):
        masks = [options.masks / f"{path.stem}.png" for path in chosen]
        mosaics.append((joined(chosen, options.columns), joined(masks, options.columns)))
    for tile, overlap in _TILES:
        shortest = min(side for image, _ in mosaics for side in image.shape[:2])
        side = tile + (min(shortest, 2048) - tile) // (tile - overlap) * (tile - overlap)
        tiled = Predictor(model, tile=tile, overlap=overlap, tile_above=0)
        rows = []
        for number, (image, mask) in enumerate(mosaics):
            image, mask = image[:side, :side], mask[:side, :side]
            if (number, side) not in passes:
                passes[number, side] = one.predict(image)
            whole, found = passes[number, side], tiled.predict(image)
            scores = [mean_iou(mask, classes, one.classes, options.ignore) for classes in (whole, found)]
            rows.append((100 * float((whole == found).mean()), *scores))
        print(
            f"| {tile} | {overlap} | " + " | ".join(f"{value:.2f}" for value in np.mean(rows, axis=0)) + " |",
            flush=True,
        )


if __name__ == "__main__":
    main()
