"""Table of compatible decoders and backbones, written by the tests in this folder.

pytest tests/zoo -m "zoo or not zoo" --zoo-table docs/zoo.md
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

Cells = dict[tuple[str, str], str]
FOUND = pytest.StashKey[Cells]()
HEAD = """# The zoo

Compatible decoders and backbones, written by `pytest tests/zoo -m "zoo or not zoo" --zoo-table docs/zoo.md`: a cell is
filled if its model was built and passed the tests in tests/zoo. Cells are parameters in millions / GFLOPs (two for each
multiply-add) for one image of 256x256, three classes, default options; the output stride is the decoder's if the
network can be dilated. Pairs that a run skips keep their cells, so that `-k convnext` updates some rows; "?" is a
compatible pair that has not passed here yet, an empty cell an incompatible one: the backbone lacks the levels, or the
stride.
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that names the page to write."""
    parser.addoption("--zoo-table", metavar="PATH", help="write the table of what fits what to this page")


def pytest_configure(config: pytest.Config) -> None:
    """Create the store of the tests' findings."""
    config.stash[FOUND] = {}


class _Collector:
    """Takes the findings from the reports, which also workers send."""

    def __init__(self, cells: Cells):
        self.cells = cells

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what a passed test noted; a failed one empties its cell, a skipped one keeps it."""
        pair = re.search(r"::test_pair\[(\w+)-(\w+)\]", report.nodeid)
        noted = dict(report.user_properties)
        if pair and report.failed:  # also of a worker that crashed, which has no phase
            self.cells[pair[1], pair[2]] = ""
        elif pair and report.when == "call" and report.passed and "gflops" in noted:
            self.cells[pair[1], pair[2]] = f"{noted['parameters'] / 1e6:.1f} / {noted['gflops']:.1f}"


def pytest_sessionstart(session: pytest.Session) -> None:
    """Listen to the reports."""
    session.config.pluginmanager.register(_Collector(session.config.stash[FOUND]))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the page where it is asked for."""
    target = session.config.getoption("--zoo-table", default=None)
    if target and not hasattr(session.config, "workerinput"):
        earlier = _cells(Path(target).read_text(encoding="utf-8")) if Path(target).is_file() else {}
        Path(target).write_text(_page({**earlier, **session.config.stash[FOUND]}), encoding="utf-8")


@pytest.fixture
def wants_table(request: pytest.FixtureRequest) -> bool:
    """Return True if the page is requested; GFLOPs are counted for it only."""
    return bool(request.config.getoption("--zoo-table", default=None))


def _cells(page: str) -> Cells:
    """Parse the first table of a page."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("|")]
    decoders = rows[0][1:] if rows else []
    own = [row for row in rows[2:] if len(row) == len(decoders) + 1]
    return {(row[0].strip("`"), name): cell for row in own for name, cell in zip(decoders, row[1:], strict=True)}


def _page(cells: Cells) -> str:
    from test_zoo import fits

    from segzoo.backbones import BACKBONES
    from segzoo.decoders import DECODERS

    decoders = list(DECODERS)
    lines = [HEAD, _row(["backbone", *decoders]), _row(["---"] + ["---:"] * len(decoders))]
    for name in BACKBONES:
        row = [cells.get((name, decoder)) or "?" if fits(name, decoder) else "" for decoder in decoders]
        lines.append(_row([f"`{name}`", *row]))
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
