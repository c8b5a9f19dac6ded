"""GeoTIFFs give GeoTIFFs: CRS, transform and nodata as rasterio reads them, and areas in square metres."""

import csv

import numpy as np
import pytest
from painted import painted, painted_predictor, save
from PIL import Image
from rasters import PLACE, TURNED, UTM, save_raster

from segzoo.data.formats.pictures import read_indices
from segzoo.errors import MissingPackageError
from segzoo.inference import OutputOptions
from segzoo.inference import georeference as module
from segzoo.inference.writers.uncertainty import entropy
from segzoo.reporting.pictures import palette

rasterio = pytest.importorskip("rasterio")

MAP = np.random.default_rng(0).integers(0, 3, (40, 50)).astype(np.uint8)
GAPS = MAP.copy()
GAPS[:5] = GAPS[:, 47:] = 255  # no data


@pytest.fixture(scope="module")
def predictor():
    return painted_predictor()


def opened(path):
    """Return pixels `(bands, H, W)`, profile and colours of a raster."""
    with rasterio.open(path) as raster:
        colours = raster.colormap(1) if raster.colorinterp[0].name == "palette" else {}
        return raster.read(), raster.profile, raster.descriptions, colours


@pytest.mark.parametrize("transform", [PLACE, TURNED])
def test_a_class_map_has_crs_transform_and_nodata(predictor, tmp_path, transform):
    image = save_raster(tmp_path / "a.tif", GAPS, transform=transform, nodata=7)
    done = predictor.predict_files([image], tmp_path / "out", outputs=["classes"])

    pixels, profile, _, colours = opened(done.written[0])
    np.testing.assert_array_equal(pixels[0], GAPS)
    assert profile["crs"] == UTM and profile["transform"].almost_equals(transform) and profile["nodata"] == 255
    assert [colours[label][:3] for label in range(3)] == [tuple(map(int, colour)) for colour in palette(3)]
    np.testing.assert_array_equal(read_indices(done.written[0], 10**6), GAPS)


def test_overlays_tint_nothing_where_there_is_no_data(tmp_path):
    class_map = np.ones((48, 48), np.uint8)
    class_map[:16] = 255
    image = save_raster(tmp_path / "a.tif", class_map, nodata=7)
    predictor = painted_predictor(background=None)
    for georeference in (True, False):
        options = OutputOptions(["overlay"], georeference=georeference, legend=False)
        (path,) = predictor.predict_files([image], tmp_path / str(georeference), outputs=options).written
        shown = np.asarray(Image.open(path))[:16].astype(int)
        assert (np.abs(shown - 7).max() < 8) == georeference


def test_without_nodata_every_pixel_has_a_class(predictor, tmp_path):
    image = save_raster(tmp_path / "a.tif", MAP)
    (path,) = predictor.predict_files([image], tmp_path / "out", outputs=["classes"]).written
    np.testing.assert_array_equal(opened(path)[0][0], MAP)


def test_a_transform_without_a_crs_is_kept(predictor, tmp_path):
    image = save_raster(tmp_path / "a.tif", MAP, crs=None)
    (path,) = predictor.predict_files([image], tmp_path / "out", outputs=["classes"]).written
    profile = opened(path)[1]
    assert profile["crs"] is None and profile["transform"] == PLACE


def test_control_points_are_kept_and_give_no_coordinates(predictor, tmp_path):
    corners = [(0, 0), (0, 50), (40, 0), (40, 50)]
    points = [rasterio.control.GroundControlPoint(r, c, 10 + c / 100, 50 - r / 100) for r, c in corners]
    image = tmp_path / "a.tif"
    shape = {"height": 40, "width": 50, "count": 3, "dtype": "uint8"}
    with rasterio.open(image, "w", driver="GTiff", gcps=points, crs="EPSG:4326", **shape) as raster:
        raster.write(painted(MAP).transpose(2, 0, 1))
    done = predictor.predict_files([image], tmp_path / "out", outputs=["classes", "polygons"])
    with rasterio.open(done.written[0]) as raster:
        found, crs = raster.gcps
    assert crs == "EPSG:4326" and [(p.row, p.col, p.x) for p in found] == [(p.row, p.col, p.x) for p in points]
    assert "pixels" in done.files["polygons"][0].read_text()[:100]


def test_numbers_are_rasters_of_16_bits_with_nan_where_there_is_no_data(predictor, tmp_path):
    image = save_raster(tmp_path / "a.tif", GAPS, nodata=7)
    outputs = ["probabilities", "uncertainty", "objects"]
    done = predictor.predict_files([image], tmp_path / "out", outputs=outputs)
    filled = np.where(GAPS == 255, 0, GAPS)
    expected = predictor.probabilities(np.where((GAPS == 255)[..., None], 7, painted(filled)).astype(np.uint8))
    gaps = GAPS == 255

    pixels, profile, names, _ = opened(done.written[0])
    assert names == ("ground", "tree", "house") and profile["crs"] == UTM and np.isnan(profile["nodata"])
    np.testing.assert_array_equal(np.isnan(pixels), np.stack([gaps] * 3))
    np.testing.assert_allclose(pixels.transpose(1, 2, 0)[~gaps], expected[~gaps], rtol=1e-3)
    with rasterio.open(done.written[0]) as raster:
        assert raster.tags(1, ns="IMAGE_STRUCTURE")["NBITS"] == "16"
    uncertainty = opened(done.files["uncertainty"][1])[0][0]
    np.testing.assert_allclose(uncertainty[~gaps], entropy(expected)[~gaps], atol=1e-3)
    numbers, profile, _, _ = opened(done.files["objects"][0])
    np.testing.assert_array_equal(numbers[0] > 0, ~gaps & (GAPS > 0))
    assert profile["crs"] == UTM


def test_classes_that_overlap_are_bands(tmp_path):
    layers = np.random.default_rng(0).integers(0, 2, (40, 50, 3)).astype(np.uint8)
    image = tmp_path / "a.tif"
    shape = {"height": 40, "width": 50, "count": 3, "dtype": "uint8", "nodata": 7}
    bands = painted(layers)
    bands[:3] = 7
    with rasterio.open(image, "w", driver="GTiff", crs=UTM, transform=PLACE, **shape) as raster:
        raster.write(bands.transpose(2, 0, 1))
    (path,) = painted_predictor("multilabel").predict_files([image], tmp_path / "out", outputs=["classes"]).written
    pixels, profile, names, _ = opened(path)
    assert names == ("ground", "tree", "house") and profile["nodata"] == 255
    np.testing.assert_array_equal(pixels.transpose(1, 2, 0)[3:], layers[3:])
    assert (pixels[:, :3] == 255).all()


def test_the_place_is_left_out_on_request(predictor, tmp_path):
    image = save_raster(tmp_path / "a.tif", MAP)
    options = OutputOptions(["classes"], georeference=False)
    (path,) = predictor.predict_files([image], tmp_path / "out", outputs=options).written
    assert path.suffix == ".png"


def test_without_rasterio_a_place_is_not_lost_in_silence(predictor, tmp_path, monkeypatch):
    def missing():
        raise ImportError("No module named 'rasterio'")

    image, plain = save_raster(tmp_path / "a.tif", MAP), save(tmp_path / "b.tif", MAP)
    monkeypatch.setattr(module, "import_rasterio", missing)
    with pytest.raises(MissingPackageError, match=r"a.tif is a GeoTIFF.*\[geo\].*--no-georeference"):
        predictor.predict_files([image], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (path,) = predictor.predict_files([plain], tmp_path / "out", outputs=["classes"]).written
    assert path.suffix == ".png"


def test_a_damaged_geotiff_is_listed_with_its_reason(predictor, tmp_path):
    image = save_raster(tmp_path / "a.tif", MAP)
    image.write_bytes(image.read_bytes()[:300])
    done = predictor.predict_files([image], tmp_path / "out")
    assert list(done.failed) == [image]


def test_a_place_that_cannot_be_read_fails_its_image_alone(predictor, tmp_path, monkeypatch):
    images = [save_raster(tmp_path / f"{name}.tif", MAP) for name in "abc"]
    real = rasterio.open

    class Rasterio:
        errors = rasterio.errors

        @staticmethod
        def open(path, **options):
            if path == images[0] or (path == images[1] and path in opened_once):
                raise rasterio.errors.RasterioIOError("bad block")
            opened_once.append(path)
            return real(path, **options)

    opened_once, seen = [], []
    monkeypatch.setattr(Rasterio, "MemoryFile", rasterio.MemoryFile, raising=False)
    monkeypatch.setattr(module, "import_rasterio", lambda: Rasterio)
    done = predictor.predict_files(images, tmp_path / "out", progress=seen.append)
    assert [path.name for path in done.predicted] == ["c.tif"] and seen[-1] == 3
    assert list(done.failed) == images[:2]
    assert all("bad block" in reason and "--no-georeference" in reason for reason in done.failed.values())
    assert not (tmp_path / "out" / "classes" / "b.tif").exists()


def test_alpha_tells_where_there_is_no_data(tmp_path):
    alpha = np.full((40, 50), 255, np.uint8)
    alpha[:, :7] = 0
    bands = np.concatenate([painted(MAP), alpha[..., None]], axis=-1).transpose(2, 0, 1)
    shape = {"height": 40, "width": 50, "count": 4, "dtype": "uint8", "photometric": "RGB", "alpha": "yes"}
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", crs=UTM, transform=PLACE, **shape) as raster:
        raster.write(bands)
    (path,) = painted_predictor().predict_files([tmp_path / "a.tif"], tmp_path / "out", outputs=["classes"]).written
    np.testing.assert_array_equal(opened(path)[0][0], np.where(alpha == 0, 255, MAP))


def areas(path) -> dict[tuple[str, str], dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return {(row["image"], row["class"]): row for row in csv.DictReader(stream)}


def test_the_table_has_areas_and_counts_of_all_images(predictor, tmp_path):
    clear = np.zeros((40, 50), np.uint8)
    clear[2:6, 2:7] = clear[20:22, 20:30] = 1
    clear[30:32, 2:4] = 2
    clear[:, 40:] = 255
    feet = "EPSG:2263"  # New York, in US survey feet
    images = [
        save_raster(tmp_path / "in" / "metres.tif", clear, nodata=7),
        save_raster(tmp_path / "in" / "feet.tif", clear, crs=feet, nodata=7),
        save_raster(tmp_path / "in" / "degrees.tif", clear, crs="EPSG:4326", nodata=7),
        save_raster(tmp_path / "in" / "mercator.tif", clear, crs="EPSG:3857", nodata=7),
        save(tmp_path / "in" / "sub" / "photo.png", np.where(clear == 255, 0, clear)),
    ]
    done = predictor.predict_files(images, tmp_path / "out", outputs=["table"])
    found = areas(done.written[0])

    assert len(found) == 15 and done.written == [(tmp_path / "out" / "table.csv")]
    trees = {name: found[name, "tree"] for name, _ in found}
    assert {row["pixels"] for row in trees.values()} == {"40"} and {row["objects"] for row in trees.values()} == {"2"}
    assert float(trees["metres.tif"]["square_metres"]) == 10
    assert float(trees["feet.tif"]["square_metres"]) == pytest.approx(10 * (1200 / 3937) ** 2, rel=1e-8)
    assert not any(trees[name]["square_metres"] for name in ("degrees.tif", "mercator.tif", "sub/photo.png"))
    assert float(trees["metres.tif"]["share"]) == pytest.approx(40 / 1600)  # of the pixels with data
    assert float(trees["sub/photo.png"]["share"]) == pytest.approx(40 / 2000)
    assert found["metres.tif", "ground"]["objects"] == "" and found["metres.tif", "house"]["objects"] == "1"
