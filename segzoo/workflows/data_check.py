"""Check of the data set of a configuration, with a report and, on request, a repaired copy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from segzoo.errors import SegzooError
from segzoo.files import check_folder

if TYPE_CHECKING:
    from segzoo.config import Config
    from segzoo.data import Findings, Problem, Source
    from segzoo.data.repair import Repair


@dataclass(frozen=True)
class DataCheck:
    """Findings of a check.

    Attributes:
        findings: figures of every split, and all problems.
        problems: kind to the problems of that kind, the worst kind first; `segzoo.data.problems.KINDS` describes each.
        report: the HTML page; None where none was asked for.
        repair: counts of the mended copy; None where none was asked for.
    """

    findings: Findings
    problems: dict[str, list[Problem]]
    report: Path | None = None
    repair: Repair | None = None

    @property
    def ok(self) -> bool:
        """True if training and evaluation can use every sample and no image is in two splits."""
        return self.findings.ok


def check_data(
    config: Config | str | PathLike[str],
    overrides: Sequence[str] = (),
    *,
    report: str | PathLike[str] | Literal[False] | None = None,
    fix: str | PathLike[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DataCheck:
    """Read every sample of all splits once, augment it as training does, and report problems.

    Args:
        config: a YAML file, the name of a recipe, or a `Config`.
        overrides: changes such as "data.root=elsewhere".
        report: folder for report.html; by default NAME_data in the folder of all runs. False: no report.
        fix: new folder for a repaired copy of the data set, see docs/custom-masks.md.
        progress: called with the number of samples done so far and that of all, first with (0, all).

    Raises:
        ConfigError: an invalid configuration or override.
        DataError: the data set cannot be listed, or `fix` cannot copy it. Unusable samples do not raise; they are
            listed in the problems.
        StorageError: the report or the copy cannot be written.

    Example:
        >>> found = segzoo.check_data("my_data.yaml", report=False)
        >>> found.ok, [problem.message for problem in found.findings.problems]
    """
    from segzoo.config import resolve_config

    resolved = resolve_config(config, overrides)
    place = Path(report) if report else Path(resolved.output.root) / f"{resolved.name}_data"
    if report is not False:
        check_folder(place)
    copy = None if fix is None else Path(fix)
    if copy is not None:
        check_folder(copy)
    from segzoo.data import check_splits
    from segzoo.data.repair import check_repairable, repair
    from segzoo.engine import builders
    from segzoo.reporting.data_quality import DataReport

    sources = _sources(resolved)
    if copy is not None:
        _refuse_copy(resolved)
        check_repairable(sources, copy)
    total = sum(len(source) for source in sources.values())
    if progress is not None:
        progress(0, total)
    findings = check_splits(
        sources,
        workers=max(1, resolved.data.workers),
        progress=None if progress is None else lambda done: progress(done, total),
        rehearsals=builders.rehearsals(resolved, sources),
    )
    page = DataReport(
        f"{resolved.name}: check of the data",
        findings,
        builders.colours(resolved),
        resolved.data.ignore_index,
        builders.background(resolved),
    )
    written = None if report is False else page.write(place)
    mended = None if copy is None else repair(sources, findings, copy)
    return DataCheck(findings, dict(page.counts()), written, mended)


def _sources(config: Config) -> dict[str, Source]:
    """Return the existing splits, with `training.overfit` cut to its few samples."""
    from segzoo.engine import builders

    splits = ("train", "val", "test") if builders.has_test_split(config) else ("train", "val")
    sources = {split: builders.whole_source(config, split, strict=False) for split in splits}
    if config.training.overfit is not None:
        builders.few(sources["train"], config.training.overfit)
    return sources


def _refuse_copy(config: Config) -> None:
    """Raise SegzooError if the samples of a configuration are such that a repaired copy could not take their place."""
    split = config.data.split
    if config.data.source == "generated":
        why = f"the samples of {config.name} are generated. Check them without --fix"
    elif split is not None and split.train is not None:
        why = (
            f"the samples of {config.name} are listed by data.split.train and val, and lists would still name what is "
            "left out. Check them without --fix and mend the files that the report names, or take the samples out of "
            "the lists"
        )
    elif config.training.overfit is not None:
        why = "training.overfit leaves most samples out. Take it out, such as by --set training.overfit=null"
    else:
        return
    raise SegzooError(f"--fix copies all samples of folders of images and masks; {why}.")
