"""Fuzzing of everything that reads what others wrote: only `SegzooError` may come out.

`pytest tests/fuzz` runs a share of the cases in CI: 50 of each of the 50 tests, the same ones every time. The nightly
run takes 2,000 new ones of each, which are 100,000 in all, one file after the other:

    for file in tests/fuzz/test_*.py; do SEGZOO_FUZZ_CASES=2000 nice pytest -n 0 "$file"; done

Hypothesis keeps failing inputs in .hypothesis/, which the next run tries first, and prints a line that gives one
again (`@reproduce_failure`); those worth keeping become an `@example` of the test.
"""

import os

from hypothesis import HealthCheck, settings

CASES = int(os.environ.get("SEGZOO_FUZZ_CASES", "50"))

settings.register_profile(
    "fuzz",
    max_examples=CASES,
    deadline=None,
    derandomize="SEGZOO_FUZZ_CASES" not in os.environ,  # CI gives the same answer twice, nightly runs look further
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
settings.load_profile("fuzz")
