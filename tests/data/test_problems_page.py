"""The page on custom masks lists every problem that `check-data` knows, as the table has it."""

from pathlib import Path

from segzoo.data.problems import KINDS

PAGE = Path(__file__).parents[2] / "docs" / "custom-masks.md"


def test_the_page_has_every_kind():
    page = PAGE.read_text(encoding="utf-8")
    for name, kind in KINDS.items():
        if name != "unusable":
            assert f"| {kind.title} | {kind.severity} | {kind.fix or 'nothing'} |" in page
