"""Polygons lie on the edges of pixels: rasterised again, they give the objects they came from."""

import json

import numpy as np
import pytest
from painted import painted_predictor, save
from rasters import PLACE, TURNED, UTM, save_raster
from test_objects import blobs

from segzoo.data import Labels, create_format
from segzoo.errors import SegzooError
from segzoo.inference import OutputOptions
from segzoo.inference.polygons import outlines

rasterio = pytest.importorskip("rasterio")
from rasterio.features import rasterize  # noqa: E402
from rasterio.warp import transform_geom  # noqa: E402

HOLES = np.zeros((40, 50), np.uint8)
HOLES[5:30, 5:40] = 1
HOLES[10:20, 10:20] = 0
HOLES[12:15, 12:15] = 2  # a house in the hole
HOLES[30, 40] = 1  # touches at a corner
HOLES[0, 0] = 2  # a single pixel


@pytest.fixture(scope="module")
def predictor():
    return painted_predictor()


def geojson(predictor, image, out, **options):
    wanted = OutputOptions(["polygons"], **options)
    (path,) = predictor.predict_files([image], out, outputs=wanted).written
    return json.loads(path.read_text(encoding="utf-8"))


def burnt(content, transform, size=HOLES.shape) -> np.ndarray:
    """Rasterise the features by GDAL: a pixel gets the class of the polygon that its centre lies in."""
    shapes = [(feature["geometry"], feature["properties"]["class_index"]) for feature in content["features"]]
    return rasterize(shapes, size, transform=transform, dtype="uint8")


@pytest.mark.parametrize("transform", [PLACE, TURNED])
def test_polygons_in_the_crs_of_the_image(predictor, tmp_path, transform):
    image = save_raster(tmp_path / "a.tif", HOLES, transform=transform)
    content = geojson(predictor, image, tmp_path / "out")

    np.testing.assert_array_equal(burnt(content, transform), HOLES)
    assert content["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::25832"
    assert content["coordinate_system"] == UTM
    by_class = {
        name: [f for f in content["features"] if f["properties"]["class"] == name] for name in ("tree", "house")
    }
    (tree,) = by_class["tree"]
    assert tree["geometry"]["type"] == "MultiPolygon" and len(tree["geometry"]["coordinates"]) == 2
    assert [len(rings) for rings in tree["geometry"]["coordinates"]] == [2, 1]  # a hole, and none
    assert tree["properties"]["pixels"] == (HOLES == 1).sum()
    assert tree["properties"]["square_metres"] == pytest.approx(tree["properties"]["pixels"] / 4)
    houses = [feature for feature in content["features"] if feature["properties"]["class"] == "house"]
    assert [house["properties"]["pixels"] for house in houses] == [1, 9]


@pytest.mark.parametrize("transform", [PLACE, PLACE * type(PLACE).scale(1, -1)], ids=["north-up", "south-up"])
def test_polygons_in_degrees(predictor, tmp_path, transform):
    image = save_raster(tmp_path / "a.tif", HOLES, transform=transform)
    content = geojson(predictor, image, tmp_path / "out", coordinates="wgs84")
    assert "crs" not in content and "WGS 84" in content["coordinate_system"]
    assert content["features"][1]["geometry"]["coordinates"][0][0] == pytest.approx([7.62, 49.64], abs=0.02)
    check_winding(content)
    for feature in content["features"]:
        feature["geometry"] = transform_geom("EPSG:4326", UTM, feature["geometry"])
    np.testing.assert_array_equal(burnt(content, transform), HOLES)


def test_an_image_in_degrees_needs_no_conversion_and_has_the_same_rings(predictor, tmp_path):
    transform = type(PLACE)(1e-7, 0, 7.62, 0, 1e-7, 49.64)  # rows run north, a centimetre each
    image = save_raster(tmp_path / "a.tif", HOLES, transform=transform, crs="EPSG:4326")
    content = geojson(predictor, image, tmp_path / "out")
    assert "crs" not in content and "WGS 84" in content["coordinate_system"]
    check_winding(content)
    np.testing.assert_array_equal(burnt(content, transform), HOLES)


def check_winding(content) -> None:
    """Check that outer rings run counterclockwise and holes clockwise (RFC 7946)."""
    for feature in content["features"]:
        parts = feature["geometry"]["coordinates"]
        for outer, *holes in parts if feature["geometry"]["type"] == "MultiPolygon" else [parts]:
            assert is_counterclockwise(outer) and not any(map(is_counterclockwise, holes))


def is_counterclockwise(ring) -> bool:
    """Return True if the ring's lowest point is passed from the left to the right."""
    points = ring[:-1]
    lowest = min(range(len(points)), key=lambda place: (points[place][1], points[place][0]))
    before, here, after = points[lowest - 1], points[lowest], points[(lowest + 1) % len(points)]
    return (here[0] - before[0]) * (after[1] - here[1]) - (here[1] - before[1]) * (after[0] - here[0]) > 0


@pytest.mark.parametrize("georeferenced", [False, True])
def test_polygons_in_pixels(predictor, tmp_path, georeferenced):
    image = save_raster(tmp_path / "a.tif", HOLES) if georeferenced else save(tmp_path / "a.png", HOLES)
    content = geojson(predictor, image, tmp_path / "out", coordinates="pixels" if georeferenced else "auto")
    assert "crs" not in content and content["coordinate_system"].startswith("pixels: x to the right, y down")
    np.testing.assert_array_equal(burnt(content, rasterio.Affine.identity()), HOLES)


@pytest.mark.parametrize("wanted", ["crs", "wgs84"])
def test_a_missing_crs_is_an_error_before_any_work(predictor, tmp_path, wanted):
    plain = save(tmp_path / "a.png", HOLES)
    bare = save_raster(tmp_path / "b.tif", HOLES, crs=None)
    options = OutputOptions(["classes", "polygons"], coordinates=wanted)
    for image in (plain, bare):
        with pytest.raises(SegzooError, match=f"{image.name}: CRS missing.*--coordinates"):
            predictor.predict_files([image], tmp_path / "out", outputs=options)
    assert not (tmp_path / "out").exists()


OWN = "+proj=laea +lat_0=51.3 +lon_0=9.7 +x_0=7 +y_0=3 +ellps=bessel +units=m"


def test_a_crs_without_a_number_is_named_by_its_wkt_beside_others(predictor, tmp_path):
    images = [save_raster(tmp_path / "a.tif", HOLES, crs=OWN), save_raster(tmp_path / "b.tif", HOLES)]
    done = predictor.predict_files(images, tmp_path / "out", outputs=OutputOptions(["polygons"]))
    own, usual = (json.loads(path.read_text()) for path in done.written)
    assert usual["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::25832"
    assert own["coordinate_system"] == own["crs"]["properties"]["name"]
    assert rasterio.crs.CRS.from_user_input(own["coordinate_system"]) == rasterio.crs.CRS.from_string(OWN)
    np.testing.assert_array_equal(burnt(own, PLACE), HOLES)
    assert geojson(predictor, images[0], tmp_path / "degrees", coordinates="wgs84")["features"]


@pytest.mark.peers
@pytest.mark.parametrize("crs", [OWN, "EPSG:25832", "ESRI:102003"])
def test_gdal_reads_the_crs_of_polygons(predictor, tmp_path, crs):
    pyogrio = pytest.importorskip("pyogrio")
    image = save_raster(tmp_path / "a.tif", HOLES, crs=crs)
    (path,) = predictor.predict_files([image], tmp_path / "out", outputs=OutputOptions(["polygons"])).written
    found = rasterio.crs.CRS.from_user_input(pyogrio.read_info(path)["crs"])
    assert found == rasterio.crs.CRS.from_user_input(crs)


def test_parts_that_touch_at_a_corner_are_polygons_of_one_object():
    layer = np.array([[1, 0, 0], [0, 1, 0], [2, 0, 0]], np.int32)
    found = outlines(layer)
    assert [(outline.number, len(outline.polygons), outline.has_holes) for outline in found] == [
        (1, 2, False),
        (2, 1, False),
    ]


@pytest.mark.parametrize("holes", [0, 1000])
def test_coco_is_read_back_by_segzoo_to_the_same_masks(predictor, tmp_path, holes):
    pytest.importorskip("pycocotools")
    maps = {"a": HOLES, "b": blobs(0), "c": blobs(3, size=(45, 80)), "d": np.zeros((33, 34), np.uint8)}
    images = [save(tmp_path / "in" / f"{name}.png", class_map) for name, class_map in maps.items()]
    options = OutputOptions(["coco", "objects"], fill_holes=holes)
    done = predictor.predict_files(images, tmp_path / "out", outputs=options)

    (path,) = done.files["coco"]
    content = json.loads(path.read_text())
    assert [category["name"] for category in content["categories"]] == ["tree", "house"]
    kinds = {type(annotation["segmentation"]) for annotation in content["annotations"]}
    assert kinds == {list, dict}  # polygons, and run lengths for objects with holes
    masks = create_format("coco", Labels(("ground", "tree", "house"), 255))
    places = masks.find([path], "")
    for image, (name, class_map) in zip(images, maps.items(), strict=True):
        found = masks.read(places[name], image, class_map.shape)
        if holes:
            assert (found >= class_map.astype(bool)).all()
        else:
            np.testing.assert_array_equal(found, class_map)
    assert not masks.remarks


def test_coco_of_classes_that_overlap_counts_categories_from_one(tmp_path):
    pytest.importorskip("pycocotools")
    layers = np.zeros((40, 50, 3), np.uint8)
    layers[:20, :20, 0] = layers[10:30, 10:30, 2] = 1
    image = save(tmp_path / "a.png", layers)
    done = painted_predictor("multilabel").predict_files([image], tmp_path / "out", outputs=["coco"])
    content = json.loads(done.written[0].read_text())
    assert [category["id"] for category in content["categories"]] == [1, 2, 3]
    masks = create_format("coco", Labels(("ground", "tree", "house"), 255, "multilabel"))
    found = masks.read(masks.find(done.written, "")["a"], image, (40, 50))
    np.testing.assert_array_equal(found, layers)
