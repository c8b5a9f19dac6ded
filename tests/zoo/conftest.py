"""The table of what fits what, written by the tests that found it out.

pytest tests/zoo -m "zoo or not zoo" --zoo-table docs/zoo.md
"""

from __future__ import annotations

from pathlib import Path

import pytest

ROWS = pytest.StashKey[dict[str, dict]]()
HEAD = """# The zoo

What fits what, written by `pytest tests/zoo -m "zoo or not zoo" --zoo-table docs/zoo.md`: a cell is there if its model
was built and passed the tests in tests/zoo. Cells are parameters in millions / GFLOPs (two for each multiply-add) for
one image of 256x256, three classes, default options; the output stride is the decoder's where the network can be
dilated.
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The page to write."""
    parser.addoption("--zoo-table", metavar="PATH", help="write the table of what fits what to this page")


def pytest_configure(config: pytest.Config) -> None:
    """Where the tests' findings are kept."""
    config.stash[ROWS] = {}


class _Collector:
    """Takes the findings from the reports, which also workers send."""

    def __init__(self, rows: dict[str, dict]):
        self.rows = rows

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what a passed test noted."""
        found = dict(report.user_properties)
        if report.when == "call" and report.passed and "backbone" in found:
            self.rows.setdefault(found["backbone"], {})[found["decoder"]] = found


def pytest_sessionstart(session: pytest.Session) -> None:
    """Listen to the reports."""
    session.config.pluginmanager.register(_Collector(session.config.stash[ROWS]))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the page where it is asked for."""
    target = session.config.getoption("--zoo-table", default=None)
    if target and not hasattr(session.config, "workerinput"):
        Path(target).write_text(_page(session.config.stash[ROWS]), encoding="utf-8")


@pytest.fixture
def wants_table(request: pytest.FixtureRequest) -> bool:
    """Whether the page is asked for; GFLOPs are counted for it alone."""
    return bool(request.config.getoption("--zoo-table", default=None))


def _page(rows: dict[str, dict]) -> str:
    from segzoo.backbones import BACKBONES
    from segzoo.decoders import DECODERS

    decoders = list(DECODERS)
    lines = [HEAD, _row(["backbone", *decoders]), _row(["---"] + ["---:"] * len(decoders))]
    for name in BACKBONES:
        if name in rows:
            found = [rows[name].get(decoder) for decoder in decoders]
            cells = [f"{one['parameters'] / 1e6:.1f} / {one['gflops']:.1f}" if one else "" for one in found]
            lines.append(_row([f"`{name}`", *cells]))
    lines += [
        "",
        "## Backbones",
        "",
        "Channels of the default taps; more in backbones.md.",
        "",
    ]
    lines += [_row(["backbone", "P1", "P2", "P3", "P4", "P5", "output strides", "remarks"]), _row(["---"] * 8)]
    for name in BACKBONES:
        variant = BACKBONES[name]
        channels = {tap.level: str(tap.channels) for tap in variant.tap_table() if tap.level}
        strides = "32" if variant.undilated else "8, 16, 32"
        cells = [channels.get(f"P{number}", "") for number in range(1, 6)]
        lines.append(_row([f"`{name}`", *cells, strides, variant.quirk]))
    return "\n".join(lines) + "\n"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
