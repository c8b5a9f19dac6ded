"""Every kind of page in headless Chromium: no console message, no missing picture, and the script's functions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from chromium import chromium

import segzoo
from segzoo.config import load_config
from segzoo.metrics import ImageCounts
from segzoo.reporting.page import html_table, page, picture

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("small_network", "no_trial")]


@pytest.fixture(scope="module")
def browser():
    """A browser for all tests of this file."""
    with chromium() as driver:
        yield driver


def complaints(browser, path: Path) -> list[str]:
    """Open a page; return console messages, pictures that were not shown, and what was fetched from elsewhere."""
    browser.get_log("browser")
    browser.get(path.resolve().as_uri())
    found = [entry["message"] for entry in browser.get_log("browser")]
    pictures = browser.execute_script(
        "return [...document.images].map((i) => [i.src, i.complete && i.naturalWidth > 0])"
    )
    found += [f"not shown: {source[:80]}" for source, shown in pictures if not shown]
    fetched = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    return found + [f"fetched: {url}" for url in fetched if not url.startswith(("file:", "data:"))]


def shown_rows(browser, place: int) -> list[list[str]]:
    """Return the cells of the rows that are shown in the body of a table."""
    return browser.execute_script(
        "return [...document.querySelectorAll('table')[arguments[0]].tBodies[0].rows]"
        ".filter((row) => row.offsetParent).map((row) => [...row.cells].map((cell) => cell.textContent))",
        place,
    )


def test_the_check_finds_errors_and_missing_pictures(browser, tmp_path):
    path = tmp_path / "bad.html"
    path.write_text(page("bad", [picture("missing.png", "none")]).replace("</body>", "<script>oh();</script></body>"))
    found = " ".join(complaints(browser, path))
    assert "not shown: file:" in found and "oh is not defined" in found


@pytest.mark.parametrize("kind", ["summary", "evaluation", "comparison", "data quality"])
def test_pages_show_their_pictures_and_complain_of_nothing(browser, tiny_run, tmp_path, kind):
    if kind == "summary":
        path, pictures = tiny_run / "summary.html", 3
    elif kind == "evaluation":
        path, pictures = segzoo.evaluate(tiny_run, report=tmp_path).report, 3
    elif kind == "comparison":
        path, pictures = segzoo.compare([tiny_run, tiny_run], report=tmp_path).report, 1
    else:
        config = load_config(tiny_run / "config.yaml", [f"output.root={tmp_path}"])
        path, pictures = segzoo.check_data(config, report=tmp_path).report, 2
    assert complaints(browser, path) == []
    assert len(browser.find_elements("tag name", "img")) >= pictures
    assert browser.find_elements("css selector", "th.sortable") and browser.find_elements("css selector", ".toggles")


def test_the_csv_that_an_evaluation_links_to_is_there(browser, tiny_run, tmp_path):
    browser.get(segzoo.evaluate(tiny_run, report=tmp_path).report.as_uri())
    (link,) = browser.find_elements("link text", "Metrics of each image (CSV)")
    assert Path(link.get_attribute("href").removeprefix("file://")).is_file()


@pytest.fixture
def table_page(tmp_path):
    """A page with two tables of classes and a picture."""
    from PIL import Image

    Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(tmp_path / "grey.png")
    rows = [["class", "IoU", "pixels"], ["b", "0.5", "1,000"], ["a", "n/a", "20"], ["c", "+0.75 (x)", "300"]]
    second = [["class", "error"], ["a", "0.1"], ["b", "0.2"]]
    path = tmp_path / "page.html"
    parts = [
        html_table([*rows, ["mean", "0.6", "1,320"]], footed=True),
        html_table(second),
        picture("grey.png", "grey"),
    ]
    path.write_text(page("tables", parts), encoding="utf-8")
    return path


def test_a_click_on_a_heading_sorts_by_value_in_both_directions(browser, table_page):
    assert complaints(browser, table_page) == []
    headings = browser.find_elements("css selector", "table:first-of-type th")
    for column, orders in ((2, ("acb", "bca")), (1, ("bca", "cba")), (0, ("abc", "cba"))):
        for order in orders:
            headings[column].click()
            assert "".join(row[0] for row in shown_rows(browser, 0)) == order, (column, order)
    assert headings[0].get_attribute("aria-sort") == "descending" and not headings[1].get_attribute("aria-sort")
    headings[0].send_keys("\n")
    assert headings[0].get_attribute("aria-sort") == "ascending"
    assert browser.find_element("css selector", "tfoot td").text == "mean"


def test_a_picture_is_enlarged_by_clicks_and_closed_by_escape(browser, table_page):
    browser.get(table_page.as_uri())
    browser.find_element("css selector", "img").click()
    large = browser.find_element("css selector", "dialog img")
    assert large.size["width"] == 60
    large.click()
    assert large.size["width"] == 120
    large.click()
    assert large.size["width"] == 60
    browser.switch_to.active_element.send_keys("\ue00c")
    wait = pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait(browser, 5)
    wait.until(lambda driver: not driver.find_elements("css selector", "dialog"))  # the event comes a moment later


def test_a_class_is_hidden_in_all_tables_and_shown_again(browser, table_page):
    browser.get(table_page.as_uri())
    browser.find_element("css selector", ".toggles summary").click()
    button = next(b for b in browser.find_elements("css selector", ".toggles button") if b.text == "a")
    for names in (("bc", "b"), ("bac", "ab")):
        button.click()
        assert tuple("".join(row[0] for row in shown_rows(browser, place)) for place in (0, 1)) == names


def test_names_that_are_html_are_text(browser, tiny_run, tmp_path):
    found = segzoo.evaluate(tiny_run, report=False)
    name = "<img src=x onerror=alert(1)>"
    classes = [name, *found.class_names[1:]]
    images = [ImageCounts(f"{name}{i}", each.hits, each.actual, each.predicted) for i, each in enumerate(found.images)]
    named = replace(found, run=name, class_names=classes, images=images)
    path = segzoo.compare([named, named], report=tmp_path).report
    assert complaints(browser, path) == []
    assert name in browser.find_element("tag name", "h1").text and not browser.find_elements("tag name", "img")
