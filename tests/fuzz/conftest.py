"""Fuzzing of everything that reads what others wrote: only `SegzooError` may come out.

`pytest -m fuzz` tries 50 cases of each test, the same ones every time. The nightly run takes 2,000 new ones of each of
the 50 tests, which are 100,000 in all, one file after the other:

    for file in tests/fuzz/test_*.py; do SEGZOO_FUZZ_CASES=2000 nice pytest -n 0 -m fuzz "$file"; done

Hypothesis keeps failing inputs in .hypothesis/, which the next run tries first, and prints a line that gives one
again (`@reproduce_failure`); those worth keeping become an `@example` of the test.
"""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings


def pytest_configure() -> None:
    """Choose how many cases a test tries."""
    settings.register_profile(
        "fuzz",
        max_examples=int(os.environ.get("SEGZOO_FUZZ_CASES", "50")),
        deadline=None,
        derandomize="SEGZOO_FUZZ_CASES" not in os.environ,  # the same answer twice, where nightly runs look further
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    settings.load_profile("fuzz")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests of this folder the marker `fuzz`."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker("fuzz")
