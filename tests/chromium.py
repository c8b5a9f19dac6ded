"""Chromium without a window, driven by selenium; tests that need it are skipped where it is missing."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def chromium(*arguments: str, **preferences: Any) -> Iterator[Any]:
    """Start a browser, which records what pages write to the console.

    Args:
        arguments: further ones of its command line.
        preferences: Chromium's preferences, such as the folder of downloads.
    """
    webdriver = pytest.importorskip("selenium.webdriver", reason="pip install selenium")
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    missing = [name for name, path in programs.items() if path is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not found: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = programs["chromium"]
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", *arguments):
        options.add_argument(argument)  # without the sandbox it runs as root, as in containers
    options.add_experimental_option("prefs", preferences)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(programs["chromedriver"]))
    yield driver
    driver.quit()
