"""The page answers Gradio's own client: uploads come back as overlay, table and files. It needs the extra demo.

pytest -m peers tests/serving/test_demo.py
"""

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
from PIL import Image

sys.path.append(str(Path(__file__).parents[1] / "inference"))
from painted import painted, painted_predictor, save

import segzoo

pytestmark = pytest.mark.peers
MAP = np.zeros((40, 50), np.uint8)
MAP[5:30, 5:40] = 1


@pytest.fixture(scope="module")
def client():
    """A client of a page that runs in a thread."""
    pytest.importorskip("gradio")
    import uvicorn
    from gradio_client import Client

    from segzoo.serving.demo import create_app
    from segzoo.serving.limits import Limits
    from segzoo.serving.server import address_of, listen

    app = create_app(painted_predictor(), Limits(max_bytes=20_000, max_pixels=5_000), ["tiny"])
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    with listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        yield Client(address_of(listener), verbose=False)
        server.should_exit = True
        thread.join(60)


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
def test_a_signal_stops_the_page(tiny_run):
    pages = []

    def visit(address):
        pages.append(httpx2.get(address))
        os.kill(os.getpid(), signal.SIGTERM)

    segzoo.demo(tiny_run, port=0, started=lambda it: threading.Thread(target=visit, args=(it.address,)).start())
    assert pages[0].status_code == 200 and "tiny" in pages[0].text
