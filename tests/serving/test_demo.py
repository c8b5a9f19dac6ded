"""The page answers Gradio's own client: uploads come back as overlay, table and files. It needs the extra demo.

pytest -m peers tests/serving/test_demo.py
"""

import io
import json
import os
import re
import signal
import sys
import threading
from pathlib import Path

import httpx2
import numpy as np
import pytest
from demo_page import demo_page
from PIL import Image

sys.path.append(str(Path(__file__).parents[1] / "inference"))
from painted import painted, painted_predictor, save

import segzoo
from segzoo.engine import builders
from segzoo.serving.limits import Limits

pytestmark = pytest.mark.peers
MAP = np.zeros((40, 50), np.uint8)
MAP[5:30, 5:40] = 1


@pytest.fixture(scope="module")
def client():
    """A client of a page that runs in a thread."""
    with demo_page(painted_predictor(), limits=Limits(max_bytes=20_000, max_pixels=5_000)) as address:
        from gradio_client import Client

        yield Client(address, verbose=False)


def test_an_upload_comes_back_as_overlay_table_and_files(client, tmp_path):
    from gradio_client import handle_file

    image = save(tmp_path / "a.png", MAP)
    picture, choice, table, classes, polygons = client.predict(handle_file(str(image)), 1.0, api_name="/predict")
    np.testing.assert_array_equal(np.asarray(Image.open(classes)), MAP)
    assert {feature["properties"]["class"] for feature in json.loads(Path(polygons).read_text())["features"]} == {
        "tree"
    }
    shown = np.asarray(Image.open(picture).convert("RGB"))
    np.testing.assert_array_equal((shown != painted(MAP)).any(axis=-1), MAP == 1)
    assert choice["value"] == ["tree"] and "tree" in table
    again = client.predict([], 1.0, api_name="/draw")
    np.testing.assert_array_equal(np.asarray(Image.open(again).convert("RGB")), painted(MAP))


def test_what_cannot_be_read_is_an_error_of_the_page(client, tmp_path):
    from gradio_client import handle_file
    from gradio_client.exceptions import AppError

    Image.fromarray(np.full((101, 50, 3), 255, np.uint8)).save(tmp_path / "large.png")
    with pytest.raises(AppError, match="The image: 50 x 101 is 5050 pixels, over the limit of 5000"):
        client.predict(handle_file(str(tmp_path / "large.png")), 1.0, api_name="/predict")


def test_the_page_asks_no_other_server(client):
    text = httpx2.get(client.src).text
    assert "tiny" in text
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=[\"']?https?://(?!127\.0\.0\.1)", text)


@pytest.mark.usefixtures("small_network", "no_trial")
def test_a_signal_stops_the_page_whose_examples_are_validation_pictures(tiny_run):
    pages, notes = [], []

    def visit(serving):
        text = httpx2.get(serving.address).text
        (example, *_) = re.findall(r'"path":"([^"]+/1\.png)"', text)
        pages.append((text, httpx2.get(f"{serving.address}/gradio_api/file={example}")))
        os.kill(os.getpid(), signal.SIGTERM)

    def started(serving):
        notes.append(str(serving))
        threading.Thread(target=visit, args=(serving,)).start()

    segzoo.demo(tiny_run, port=0, started=started)
    ((text, example),) = pages
    assert "tiny" in text and "No examples" not in notes[0]
    source = builders.build_source(segzoo.load_run(tiny_run).config, "val")
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(example.content))), source[0].image)
