"""Runs in Weights & Biases (https://wandb.ai): on its servers, or in files to be sent later."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from segzoo.tracking import TRACKERS, TrackedRun


@TRACKERS.register("wandb")
class WeightsAndBiases:
    """One run in Weights & Biases, whose local files lie in the run folder, below wandb.

    Args:
        run: the run.
        project: name of the project.
        entity: user or team that the project belongs to; None: the default of the account.
        mode: "online" or "offline", which keeps everything in files until `wandb sync`; None: what WANDB_MODE says,
            else online.
    """

    package: ClassVar[str] = "wandb"

    def __init__(
        self,
        run: TrackedRun,
        *,
        project: str = "segzoo",
        entity: str | None = None,
        mode: Literal["online", "offline"] | None = None,
    ):
        import wandb

        self.id = run.id or uuid.uuid4().hex
        self._run = wandb.init(
            project=project,
            entity=entity,
            name=run.name,
            id=self.id,
            resume="allow",
            config=dict(run.facts),
            allow_val_change=True,  # of a configuration that somebody resumed with
            mode=mode,
            dir=run.folder,
            # What it would print, and what it does to the standard output, disturb the progress bar.
            settings=wandb.Settings(console="off", silent=True),
        )
        # With a step of its own every figure is kept; wandb's has to rise, also over several processes.
        self._run.define_metric("*", step_metric="step")
        sent_later = f"{Path(self._run.dir).parent} (offline; wandb sync sends it)"
        self.where = sent_later if self._run.offline else str(self._run.url)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add one value under each name."""
        self._run.log({**values, "step": step})

    def picture(self, step: int, tag: str, path: Path) -> None:
        """Add the PNG at `path`."""
        import wandb

        self._run.log({tag: wandb.Image(str(path)), "step": step})

    def finish(self, figures: Mapping[str, float], files: Sequence[Path]) -> None:
        """Add figures to the summary, and the files as one artifact."""
        import wandb

        self._run.summary.update(dict(figures))
        artifact = wandb.Artifact(f"run-{self.id}", type="run")
        for path in files:
            artifact.add_file(str(path))
        self._run.log_artifact(artifact)

    def close(self, finished: bool) -> None:
        """End the run, as failed unless `finished`; it can be continued either way."""
        self._run.finish(exit_code=0 if finished else 1)
