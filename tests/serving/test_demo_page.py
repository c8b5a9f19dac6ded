"""The page in headless Chromium: upload, overlay of chosen classes, examples, and the files of `segzoo predict`.

It needs selenium, Chromium with its driver, and Gradio, which wants an older Pillow than the tests have; in an
environment of its own:

    pip install -e ".[demo,objects,geo]" selenium pytest pytest-xdist httpx2
    pytest -n 0 -m peers tests/serving/test_demo_page.py
"""

import io
import json
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from chromium import chromium
from demo_page import demo_page
from PIL import Image

sys.path.append(str(Path(__file__).parents[1] / "inference"))
from painted import painted, painted_predictor, save

pytestmark = [pytest.mark.browser, pytest.mark.peers]
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")  # Chromium's own, green
MAP = np.zeros((40, 50), np.uint8)
MAP[5:30, 5:40], MAP[32:38, 10:20] = 1, 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder for downloads."""
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def browser(folder, tmp_path_factory):
    """A browser that shows the page of a model which sees classes in colours, with one example."""
    example = save(tmp_path_factory.mktemp("examples") / "1.png", MAP.T)
    with (
        demo_page(painted_predictor(), examples=[example]) as address,
        chromium(*CAMERA, **{"download.default_directory": str(folder)}) as driver,
    ):
        driver.get(address)
        yield driver


def until(what, seconds=60):
    """Wait for a true value of a function, and return it."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, f"waited {seconds} seconds in vain"
        time.sleep(0.1)
    return found


def rows(browser) -> dict[str, str]:
    """Return the pixels of each class, as the table shows them."""
    script = "return [...document.querySelectorAll('tbody tr')].map((r) => [...r.cells].map((c) => c.textContent))"
    return {cells[0]: cells[1] for cells in browser.execute_script(script)}


def overlay(browser) -> np.ndarray:
    """Fetch the picture that the page shows as overlay."""
    sources = [image.get_attribute("src") for image in browser.find_elements("css selector", ".image-frame img")]
    with urllib.request.urlopen(sources[-1]) as answer:
        return np.asarray(Image.open(io.BytesIO(answer.read())).convert("RGB"))


def changed(browser, image: np.ndarray) -> np.ndarray:
    """Return the pixels at which the overlay differs from the image."""
    shown = overlay(browser)
    return (shown != image).any(axis=-1) if shown.shape == image.shape else np.zeros(0, bool)


def upload(browser, path: Path) -> None:
    """Drop an image on the page, and wait for its table."""
    until(lambda: browser.find_elements("css selector", "input[type=file]"))[0].send_keys(str(path))
    until(lambda: rows(browser))


def test_an_upload_shows_an_overlay_whose_classes_are_chosen_and_gives_the_files_of_predict(browser, folder, tmp_path):
    image, pixels = save(tmp_path / "a.png", MAP), painted(MAP)
    upload(browser, image)
    assert rows(browser) == {"ground": "1,065", "tree": "875", "house": "60"}
    np.testing.assert_array_equal(changed(browser, pixels), MAP > 0)
    browser.find_element("css selector", "input[type=checkbox][name=tree]").click()
    until(lambda: np.array_equal(changed(browser, pixels), MAP == 2))
    browser.find_element("css selector", "input[type=checkbox][name=ground]").click()
    until(lambda: np.array_equal(changed(browser, pixels), MAP != 1))

    names = ["classes", "polygons"]
    for name in names:
        browser.find_element("xpath", f"//button[contains(., 'Download {name}')]").click()
    found = [until(lambda ending=ending: list(folder.glob(f"*{ending}"))) for ending in (".png", ".geojson")]
    done = painted_predictor().predict_files([image], tmp_path / "out", outputs=[*names, "probabilities"])
    with Image.open(found[0][0]) as downloaded, Image.open(done.files["classes"][0]) as predicted:
        np.testing.assert_array_equal(np.asarray(downloaded), np.asarray(predicted))
        assert downloaded.getpalette() == predicted.getpalette()
    assert json.loads(found[1][0].read_text()) == json.loads(done.files["polygons"][0].read_text())


def test_an_example_is_predicted_by_a_click(browser):
    browser.refresh()
    until(lambda: browser.find_elements("css selector", ".gallery-item"))[0].click()
    until(lambda: rows(browser))
    assert rows(browser)["tree"] == "875"
    until(lambda: np.array_equal(changed(browser, painted(MAP.T)), MAP.T > 0))


def test_a_picture_of_the_camera_is_predicted_and_no_other_server_is_asked(browser):
    browser.refresh()
    for button in ("@aria-label='Capture from camera'", "contains(., 'Access Webcam')"):
        until(lambda button=button: browser.find_elements("xpath", f"//button[{button}]"))[0].click()
    # A click before the first frame takes nothing.
    ready = "return [...document.querySelectorAll('video')].some((video) => video.readyState > 2 && video.videoWidth)"
    until(lambda: browser.execute_script(ready))
    until(lambda: browser.find_elements("css selector", "[aria-label='capture photo']"))[0].click()
    pixels = {name: int(text.replace(",", "")) for name, text in until(lambda: rows(browser)).items()}
    until(lambda: browser.find_elements("css selector", ".image-frame img"))
    height, width = overlay(browser).shape[:2]
    assert pixels["tree"] == max(pixels.values()) and sum(pixels.values()) == height * width  # the picture is green
    script = "return performance.getEntriesByType('resource').map((e) => e.name)"
    own = (browser.current_url, "data:", f"blob:{browser.current_url}")
    assert not [url for url in browser.execute_script(script) if not url.startswith(own)]
