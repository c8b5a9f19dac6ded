"""Sheets of predictions beside the truth, drawn after an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from segzoo.engine.callbacks.base import RunCallback, is_evaluated
from segzoo.engine.evaluation import Evaluation, Picture
from segzoo.files import move_whole, remove

_OF_EPOCH = ".epoch-"


class PredictionSheets(RunCallback):
    """Draws predictions.png and worst.png of the best epoch so far, predictions_latest.png of others from time to time.

    A sheet is drawn under the name of its epoch, and gets its own name with the epoch's checkpoint: a run that is
    killed between the two has the sheet of the epoch that it resumes from.

    Args:
        folder: folder for the PNG files.
        draw: writes a sheet of pictures to a path.
        every: epochs between two sheets of epochs that are not the best; None: none of these.
        evaluate_every: epochs from one evaluation to the next.
    """

    def __init__(
        self,
        folder: Path,
        draw: Callable[[Sequence[Picture], Path], None],
        every: int | None = None,
        evaluate_every: int = 1,
    ):
        super().__init__()
        self.folder = folder
        self.draw = draw
        self.every = every
        self.evaluate_every = evaluate_every

    def on_evaluation(self, epoch: int, found: Evaluation, improved: bool) -> None:
        """Draw the sheets that this epoch calls for, before its checkpoint is written."""
        if improved:
            self._sheet(found.pictures, "predictions", epoch)
            self._sheet(found.worst, "worst", epoch)
        elif self._is_due(epoch):
            self._sheet(found.pictures, "predictions_latest", epoch)

    def on_checkpoint(self, row: Mapping[str, Any], is_best: bool, resumed: bool) -> None:
        """Give the sheets of this epoch their names, and remove what a killed run drew of a later one."""
        for path in self.folder.glob(f"*{_OF_EPOCH}*.png"):
            name, _, epoch = path.stem.partition(_OF_EPOCH)
            if epoch == str(row["epoch"]):
                move_whole(path, self.folder / f"{name}.png")
            else:
                remove(path)

    def of_epoch(self, row: Mapping[str, Any], is_best: bool) -> dict[str, Path]:
        """Return the sheets of an epoch that lie in the folder, by the names that loggers give them."""
        wanted = {}
        if is_best:
            wanted["predictions_best"] = "predictions"
        if is_evaluated(row) and self._is_due(row["epoch"]):
            wanted["predictions"] = "predictions" if is_best else "predictions_latest"
        paths = {tag: self.folder / f"{name}.png" for tag, name in wanted.items()}
        return {tag: path for tag, path in paths.items() if path.is_file()}

    def _is_due(self, epoch: int) -> bool:
        """Return True if a multiple of `every` lies between the previous evaluation and this one."""
        return self.every is not None and epoch // self.every > (epoch - self.evaluate_every) // self.every

    def _sheet(self, pictures: Sequence[Picture], name: str, epoch: int) -> None:
        if pictures:
            self.draw(pictures, self.folder / f"{name}{_OF_EPOCH}{epoch}.png")
