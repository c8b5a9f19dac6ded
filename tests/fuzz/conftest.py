"""Fuzzing of everything that reads what others wrote: only `SegzooError` may come out.

`pytest tests/fuzz` runs a share of the cases in CI; `SEGZOO_FUZZ_CASES=10000 pytest tests/fuzz -n 0` runs that many of
each test. Hypothesis keeps failing inputs in .hypothesis/; those worth keeping become an `@example` of the test.
"""

import os

from hypothesis import HealthCheck, settings

CASES = int(os.environ.get("SEGZOO_FUZZ_CASES", "150"))

settings.register_profile(
    "fuzz",
    max_examples=CASES,
    deadline=None,
    derandomize="SEGZOO_FUZZ_CASES" not in os.environ,  # CI gives the same answer twice, nightly runs look further
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
settings.load_profile("fuzz")
