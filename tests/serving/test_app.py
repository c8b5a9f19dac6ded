"""The server answers as `predict` does, and refuses what it cannot take by 4xx that tell nothing of the machine."""

import io
import json
import re
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.append(str(Path(__file__).parents[1] / "inference"))
from painted import NAMES, painted, painted_predictor

pytest.importorskip("fastapi")
pytest.importorskip("multipart")
from fastapi.testclient import TestClient

from segzoo.errors import SegzooError
from segzoo.serving.app import create_app
from segzoo.serving.limits import Limits

LIMITS = Limits(max_bytes=20_000, max_pixels=5_000)
MAP = np.zeros((40, 50), np.uint8)
MAP[5:30, 5:40] = 1
MAP[10:20, 10:20] = 0
MAP[35:38, 44:50] = 2


def encoded(pixels: np.ndarray, format: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format=format)
    return stream.getvalue()


def as_array(answer) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(answer.content)))


PNG = encoded(painted(MAP))


@pytest.fixture(scope="module")
def predictor():
    return painted_predictor()


@pytest.fixture(scope="module")
def client(predictor):
    with TestClient(create_app(predictor, LIMITS, ["tiny"]), raise_server_exceptions=False) as client:
        yield client


def post(client, data=PNG, query="", **options):
    return client.post(f"/predict{query}", content=data, **options)


def refusal(answer, status: int) -> str:
    assert answer.status_code == status, answer.text
    text = answer.json()["error"]
    assert tempfile.gettempdir() not in answer.text and "Traceback" not in answer.text
    return text


@pytest.mark.parametrize("form", [False, True])
def test_the_class_map_is_that_of_the_predictor(client, predictor, form):
    photo = np.random.default_rng(0).integers(0, 256, (33, 47, 3), np.uint8)
    data = encoded(photo)
    answer = client.post("/predict", files={"any": data}) if form else post(client, data)
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/png"
    np.testing.assert_array_equal(as_array(answer), predictor(photo))
    assert len(np.unique(as_array(answer))) == 3


def test_the_bytes_that_curl_sends_as_a_form_unasked_are_an_image(client):
    answer = post(client, headers={"content-type": "application/x-www-form-urlencoded"})
    np.testing.assert_array_equal(as_array(answer), MAP)


def test_arrays_are_read_too(client):
    stream = io.BytesIO()
    np.save(stream, painted(MAP))
    np.testing.assert_array_equal(as_array(post(client, stream.getvalue())), MAP)
    stream = io.BytesIO()
    np.savez_compressed(stream, image=painted(MAP))
    np.testing.assert_array_equal(as_array(post(client, stream.getvalue())), MAP)


def test_probabilities(client, predictor):
    answer = post(client, query="?output=probabilities")
    with np.load(io.BytesIO(answer.content)) as archive:
        assert list(archive["classes"]) == NAMES
        expected = predictor.probabilities(painted(MAP)).astype(np.float16)
        np.testing.assert_array_equal(archive["probabilities"], expected)
    with np.load(io.BytesIO(post(client, query="?output=probabilities&probabilities=top").content)) as archive:
        np.testing.assert_array_equal(archive["probabilities"], expected.max(axis=-1))


def test_the_overlay_is_the_picture_that_predict_draws_but_without_loss(client, predictor, tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    (written,) = predictor.predict_files([tmp_path / "a.png"], tmp_path / "out", outputs=["overlay"]).written
    answer = post(client, query="?output=overlay")
    assert answer.headers["content-type"] == "image/png"
    again = io.BytesIO()
    Image.fromarray(as_array(answer)).save(again, format="JPEG", quality=92)
    assert again.getvalue() == written.read_bytes()
    clear = as_array(post(client, query="?output=overlay&alpha=0"))
    np.testing.assert_array_equal(clear[6:9, 6:39], painted(MAP)[6:9, 6:39])  # within the contour


def test_polygons(client):
    pytest.importorskip("rasterio")
    pytest.importorskip("skimage")
    from rasterio.features import rasterize

    answer = post(client, query="?output=polygons")
    assert answer.headers["content-type"] == "application/geo+json"
    content = answer.json()
    shapes = [(feature["geometry"], feature["properties"]["class_index"]) for feature in content["features"]]
    np.testing.assert_array_equal(rasterize(shapes, MAP.shape, dtype="uint8"), MAP)
    few = post(client, query="?output=polygons&min_area=100&fill_holes=200").json()["features"]
    assert [feature["properties"]["pixels"] for feature in few] == [25 * 35]
    assert "CRS missing" in refusal(post(client, query="?output=polygons&coordinates=crs"), 422)


def test_a_geotiff_gets_geotiffs(client, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    from rasters import PLACE, save_raster

    data = save_raster(tmp_path / "a.tif", MAP).read_bytes()
    answer = post(client, data)
    assert answer.headers["content-type"] == "image/tiff"
    with rasterio.MemoryFile(answer.content) as memory, memory.open() as raster:
        assert raster.transform == PLACE and raster.crs.to_epsg() == 25832
        np.testing.assert_array_equal(raster.read(1), MAP)
    plain = post(client, data, "?georeference=false")
    assert plain.headers["content-type"] == "image/png"
    np.testing.assert_array_equal(as_array(plain), MAP)


def test_classes_that_overlap_come_as_pages():
    with TestClient(create_app(painted_predictor("multilabel"))) as client:
        layers = np.stack([MAP == 0, MAP == 1, MAP > 0], axis=-1)
        answer = post(client, encoded(painted(layers)))
        assert answer.headers["content-type"] == "image/tiff"
        pages = Image.open(io.BytesIO(answer.content))
        for number in range(3):
            pages.seek(number)
            np.testing.assert_array_equal(np.asarray(pages) == 255, layers[..., number])


def test_a_server_says_what_it_is(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    about = client.get("/").json()
    assert about["models"] == ["tiny"] and about["mode"] == "multiclass" and about["channels"] == 3
    assert [row["name"] for row in about["classes"]] == NAMES
    assert about["limits"] == {"bytes": 20_000, "pixels": 5_000, "requests": 64}
    assert {"classes", "overlay", "probabilities"} <= set(about["outputs"])
    assert "/predict" in client.get("/openapi.json").json()["paths"]


def test_too_many_bytes(client):
    noise = encoded(np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8))
    assert len(noise) > LIMITS.max_bytes
    assert "more than 20000 bytes" in refusal(post(client, noise), 413)
    assert "more than 20000 bytes" in refusal(client.post("/predict", files={"image": noise}), 413)
    parts = iter([noise[:15_000], noise[15_000:]])  # sent in chunks, without a length
    assert "more than 20000 bytes" in refusal(post(client, parts), 413)


def test_too_many_pixels_are_not_decoded(client):
    white = encoded(np.full((101, 50, 3), 255, np.uint8))
    assert "The image: 50 x 101 is 5050 pixels, over the limit of 5000" in refusal(post(client, white), 422)
    assert post(client, encoded(np.full((100, 50, 3), 255, np.uint8))).status_code == 200
    stream = io.BytesIO()
    np.savez_compressed(stream, np.zeros((2000, 2000, 3), np.uint8))  # 12 MB from 12 kB
    assert "over the limit" in refusal(post(client, stream.getvalue()), 422)


@pytest.mark.parametrize(
    "data",
    [
        b"no image",
        PNG[: len(PNG) // 2],
        PNG[:40] + bytes(30) + PNG[70:],
        b"\x93NUMPY" + bytes(60),
        b"PK\x03\x04" + bytes(60),
        b"II*\x00" + bytes(60),
        b"GIF89a" + bytes(20),
        encoded(np.zeros((4, 4), np.uint8), "GIF")[:-9],
    ],
    ids=["text", "half", "holed", "npy", "zip", "tiff", "gif", "half gif"],
)
def test_malformed_images(client, data):
    assert "image" in refusal(post(client, data), 422)
    refusal(client.post("/predict", files={"image": data}), 422)
    assert post(client).status_code == 200


def test_pickles_are_not_loaded(client):
    stream = io.BytesIO()
    np.save(stream, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    refusal(post(client, stream.getvalue()), 422)


def test_malformed_forms(client):
    form = {"content-type": "multipart/form-data; boundary=x"}
    assert "boundary" in refusal(post(client, PNG, headers={"content-type": "multipart/form-data"}), 400)
    assert "form" in refusal(post(client, b"no form", headers=form), 400)
    half = b'--x\r\nContent-Disposition: form-data; name="a"; filename="a.png"\r\n\r\n' + PNG
    assert "no complete file" in refusal(post(client, half, headers=form), 400)
    text = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n'
    assert "no complete file" in refusal(post(client, text, headers=form), 400)
    assert "Send one file" in refusal(client.post("/predict", files=[("a", PNG), ("b", PNG)]), 400)
    assert "empty" in refusal(client.post("/predict", files={"a": b""}), 422)
    assert "empty" in refusal(post(client, b""), 422)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("?output=masks", "'classes', 'overlay'"),
        ("?outputs=classes", "outputs: .* Known: output,"),
        ("?min_area=0&output=polygons", "min_area"),
        ("?alpha=nan&output=overlay", "alpha"),
        ("?coordinates=moon", "coordinates"),
    ],
)
def test_unknown_wishes(client, query, words):
    assert re.search(words, refusal(post(client, query=query), 422))


def test_unknown_addresses_and_methods(client):
    assert "POST /predict" in refusal(client.get("/../../etc/passwd"), 404)
    assert "POST /predict" in refusal(client.get("/predict"), 405)


def test_what_nobody_foresaw_tells_nothing(predictor, monkeypatch):
    def broken(images):
        raise RuntimeError("secret /etc/place.py")

    monkeypatch.setattr(predictor, "predict_batch", broken)
    with TestClient(create_app(predictor), raise_server_exceptions=False) as client:
        assert refusal(post(client), 500) == "The prediction failed; the server's log says why."
        monkeypatch.undo()
        assert post(client).status_code == 200


def test_an_output_that_this_server_lacks_is_named(monkeypatch):
    network = painted_predictor()
    monkeypatch.setattr(network.network, "decides", True, raising=False)
    with TestClient(create_app(network)) as client:
        assert "probabilities" not in client.get("/").json()["outputs"]
        message = refusal(post(client, query="?output=probabilities"), 501)
        assert "it gives classes, overlay" in message


def test_more_requests_than_may_be_inside_are_told_to_come_again(predictor, monkeypatch):
    running, go_on = threading.Event(), threading.Event()
    predict = predictor.predict_batch

    def waiting(images):
        running.set()
        assert go_on.wait(60)
        return predict(images)

    monkeypatch.setattr(predictor, "predict_batch", waiting)
    with TestClient(create_app(predictor, Limits(waiting=1))) as client, ThreadPoolExecutor(1) as other:
        first = other.submit(post, client)
        assert running.wait(60)
        second = post(client)
        assert "try again" in refusal(second, 503) and second.headers["retry-after"] == "1"
        assert client.get("/healthz").status_code == 200
        go_on.set()
        np.testing.assert_array_equal(as_array(first.result()), MAP)
        assert post(client).status_code == 200  # the place is free again


def test_clients_at_once_get_their_own_results(client, predictor):
    random = np.random.default_rng(1)
    photos = [random.integers(0, 256, (32 + number % 3, 40, 3), np.uint8) for number in range(24)]
    queries = ["", "?output=probabilities"] * 12
    with ThreadPoolExecutor(8) as clients:
        answers = list(
            clients.map(lambda one: post(client, encoded(one[0]), one[1]), zip(photos, queries, strict=True))
        )
    for photo, query, answer in zip(photos, queries, answers, strict=True):
        assert answer.status_code == 200
        if query:
            with np.load(io.BytesIO(answer.content)) as archive:
                expected = predictor.probabilities(photo)
                np.testing.assert_allclose(archive["probabilities"], expected, atol=1e-3)
        else:
            np.testing.assert_array_equal(as_array(answer), predictor(photo))


@pytest.mark.parametrize("name", ["max_bytes", "max_pixels", "batch", "waiting", "seconds"])
def test_limits_below_one_are_refused(name):
    with pytest.raises(SegzooError, match=name):
        Limits(**{name: 0})


def test_the_legend_of_the_server_is_that_of_predict(client, predictor, tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    predictor.predict_files([tmp_path / "a.png"], tmp_path / "out", outputs=["classes"])
    assert client.get("/").json()["classes"] == json.loads((tmp_path / "out" / "classes.json").read_text())
