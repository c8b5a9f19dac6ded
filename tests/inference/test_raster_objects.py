"""Objects, polygons and COCO of rasters by windows are those of the whole image, byte for byte, after failures too."""

import csv
import errno
from pathlib import Path

import numpy as np
import pytest
from painted import painted_predictor
from rasters import PLACE, TURNED, save_raster
from scipy.ndimage import gaussian_filter
from test_huge import BLOCKS, TILED, blurring, opened, predict_again, same_results

from segzoo import files
from segzoo.errors import SegzooError, StorageError
from segzoo.inference import OutputOptions, pieces, raster_objects, raster_outlines
from segzoo.inference.legend import Legend
from segzoo.inference.objects import find_objects, measure
from segzoo.inference.polygons import outlines
from segzoo.inference.raster_objects import RasterObjects
from segzoo.inference.writers import coco

rasterio = pytest.importorskip("rasterio")
pytest.importorskip("pycocotools")

OUTPUTS = ("table", "coco", "polygons", "objects")


def save_class_map(path: Path, class_map: np.ndarray) -> Path:
    """Write a class map `(H, W)` or `(H, W, classes)` as the output `classes` does, with 255 for no data."""
    layers = class_map.reshape(*class_map.shape[:2], -1).transpose(2, 0, 1)
    shape = {"height": layers.shape[1], "width": layers.shape[2], "count": len(layers), "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", **shape) as raster:
        raster.write(layers)
    return path


def scene(seed: int) -> tuple[np.ndarray, Legend, np.ndarray | None]:
    """Return a random class map, coarse or fine, with its classes, and the pixels with data."""
    rng = np.random.default_rng(seed)
    size, classes, mode = rng.integers(1, 70, 2), 3, ["multiclass", "binary", "multilabel"][seed % 3]
    classes = 2 if mode == "binary" else classes
    spread = [0, 0.5, 1, 2][seed // 3 % 4]
    heights = np.stack([gaussian_filter(rng.normal(size=size), spread) for _ in range(classes)], axis=-1)
    class_map = heights > 0 if mode == "multilabel" else heights.argmax(axis=-1)
    background = None if mode == "multilabel" or seed % 5 == 0 else int(rng.integers(classes))
    valid = gaussian_filter(rng.normal(size=size), 2) > -0.2 if seed % 2 else None
    legend = Legend(["a", "b", "c"][:classes], np.zeros((classes, 3), np.uint8), mode, background)
    return class_map.astype(np.uint8), legend, valid


@pytest.mark.parametrize("seed", range(36))
def test_objects_of_a_raster_are_those_of_the_array(tmp_path, monkeypatch, seed):
    class_map, legend, valid = scene(seed)
    rng = np.random.default_rng(seed)
    height = int(rng.choice([1, 2, 4, 16]))
    monkeypatch.setattr(pieces, "band_height", lambda width: height)
    wanted = int(rng.choice([1, 3, 20])), int(rng.choice([0, 1, 5, 50, 500]))
    expected = find_objects(class_map, legend, valid, *wanted)
    measures = measure(expected, legend.names)
    shown = class_map.copy()
    if valid is not None:
        shown[~valid] = 255

    found = RasterObjects(save_class_map(tmp_path / "a.tif", shown), legend, None, tmp_path / "objects.tif", *wanted)

    np.testing.assert_array_equal(found.classes, expected.classes)
    assert [*found.all_measures()] == [measures[number] for number in sorted(measures)]
    np.testing.assert_array_equal(opened(found.raster)[0], expected.layers)
    polygons = [(outline.number, outline.polygons) for layer in expected.layers for outline in outlines(layer)]
    given = [
        (outline.number, [[[tuple(point) for point in ring] for ring in rings] for rings in outline.polygons])
        for outline in found.outlines(in_pixels=True)
    ]
    assert given == polygons


def test_run_lengths_are_those_of_pycocotools_whatever_the_strips(tmp_path, monkeypatch):
    layer = np.zeros((40, 30), np.int32)
    layer[:, 3:9] = 1  # runs go on from column to column
    layer[10:20, 5:7] = 0
    layer[-5:, 20:] = 2  # to the last pixel
    layer[0, 0] = 3
    found = measure(find_objects(layer > 0, Legend(["a", "b"], np.zeros((2, 3), np.uint8), background=0)), "ab")
    raster = save_class_map(tmp_path / "a.tif", layer.astype(np.uint8))
    canvas = np.zeros(layer.shape, np.uint8, order="F")
    for most in (1, 100, 10**6):
        monkeypatch.setattr(raster_outlines, "_MOST_PIXELS", most)
        with rasterio.open(raster) as source:
            for number in (1, 2, 3):
                one = next(measures for measures in found.values() if layer[measures.top, measures.left] == number)
                one = one._replace(object=number)
                assert raster_outlines.run_lengths(source, 1, one) == coco._runs(layer, one, canvas)


@pytest.mark.parametrize(
    ("mode", "options", "tile"),
    [
        ("multiclass", {"min_area": 9, "fill_holes": 30}, 128),
        ("binary", {"coordinates": "wgs84", "min_area": 40}, 160),
        ("multilabel", {"coordinates": "pixels", "min_area": 200, "fill_holes": 5}, 96),
    ],
)
def test_files_are_those_of_the_whole_image(tmp_path, monkeypatch, mode, options, tile):
    monkeypatch.setattr(pieces, "_MOST_PIXELS", 1)  # bands of 16 rows
    raster = save_raster(tmp_path / "in" / "a.tif", BLOCKS, transform=TURNED if mode == "binary" else PLACE, **TILED)
    predictor = blurring(mode, tile=tile)
    wanted = OutputOptions(OUTPUTS, **options)
    predictor.predict_files([raster], tmp_path / "whole", outputs=wanted)
    done = predictor.predict_files([raster], tmp_path / "parts", outputs=wanted, max_pixels=1000)
    assert [len(done.files[name]) for name in OUTPUTS] == [1, 1, 1, 2]
    same_results(tmp_path / "whole", tmp_path / "parts")


def test_a_table_alone_counts_objects_but_those_that_a_border_parts(tmp_path):
    raster = save_raster(tmp_path / "in" / "a.tif", BLOCKS, **TILED)
    for name, count in (("house", True), ("border", False)):
        predictor = painted_predictor(names=["ground", "tree", name])
        done = predictor.predict_files([raster], tmp_path / name, outputs=["table"], max_pixels=1000)
        with done.files["table"][0].open(encoding="utf-8") as stream:
            rows = [*csv.DictReader(stream)]
        assert (rows[1]["objects"] != "") == count and rows[0]["objects"] == ""
        assert sorted(path.name for path in (tmp_path / name).rglob("*")) == ["classes.json", "table.csv"]


@pytest.mark.parametrize(
    "name",
    [
        "polygons.geojson",
        *(
            pytest.param(name, marks=pytest.mark.nightly)
            for name in ("objects.csv", "objects.polygons", "objects.vrt", "coco.jsonl")
        ),
    ],
)
def test_a_failure_among_objects_loses_that_step_alone(tmp_path, monkeypatch, name):
    raster = save_raster(tmp_path / "in" / "a.tif", BLOCKS, **TILED)
    outputs, out = OutputOptions([*OUTPUTS, "classes"], min_area=20), tmp_path / "out"

    def fault(operation, path):
        if operation == "write" and path.name == name:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "fault", fault)
    with pytest.raises(StorageError, match=r"No space.*3 of 3 rows of tiles are kept"):
        predict_again(raster, out, outputs=outputs)
    monkeypatch.undo()
    assert {path.parts[-3] for path in out.rglob("*") if path.is_file() and path.name != "classes.json"} == {".partial"}
    assert predict_again(raster, out, outputs=outputs) == [15]  # no tile is computed again
    predict_again(raster, tmp_path / "whole", outputs=outputs)
    same_results(tmp_path / "whole", out)
    assert not (out / ".partial").exists()


def test_numbers_that_did_not_arrive_and_outlines_that_gdal_lost_are_noticed(tmp_path, monkeypatch):
    raster = save_raster(tmp_path / "in" / "a.tif", BLOCKS, **TILED)
    with monkeypatch.context() as patch, pytest.raises(StorageError, match="other numbers arrived"):
        patch.setattr(raster_objects, "write_window", lambda *arguments: None)
        predict_again(raster, tmp_path / "out", outputs=["objects"])
    with monkeypatch.context() as patch, pytest.raises(StorageError, match=r"outlines of 0 of [0-9]+ objects"):
        patch.setattr("rasterio.features.shapes", lambda *arguments, **options: iter(()))
        predict_again(raster, tmp_path / "other", outputs=["polygons"])
    assert not (tmp_path / "other" / "polygons").exists()


def test_more_pixels_than_run_lengths_count_are_refused_for_coco(tmp_path, monkeypatch):
    raster = save_raster(tmp_path / "in" / "a.tif", BLOCKS, **TILED)
    monkeypatch.setattr(coco, "_MOST_PIXELS", 100_000)
    with pytest.raises(SegzooError, match=r"135,450 pixels.*run lengths.*--output polygons"):
        predict_again(raster, tmp_path / "out", outputs=["coco"])
    assert not (tmp_path / "out").exists()
