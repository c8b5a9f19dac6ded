"""The course of a run: epochs of steps, their evaluation, and the state that each leaves in the run folder."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import keras
from rich.console import Console

from segzoo.config import Config
from segzoo.device import device_name
from segzoo.engine import builders
from segzoo.engine.artifacts import Artifacts, Result, TrainingBundle
from segzoo.engine.callbacks.calls import MetricsReset, RunCallbacks
from segzoo.engine.callbacks.states import set_states, states_of
from segzoo.engine.checkpoint.checkpoint_file import Stored
from segzoo.engine.checkpoint.progress import CLOCKED, Progress
from segzoo.engine.checkpoint.run_folder import RunFolder
from segzoo.engine.checkpoint.state import NotFiniteError, restore_metrics, save_state
from segzoo.engine.distribution import Distribution
from segzoo.engine.evaluation import Evaluation, evaluate, merged
from segzoo.engine.fit_dataset import Batch, FitDataset
from segzoo.engine.interrupts import Interrupts
from segzoo.engine.monitor import Monitor
from segzoo.engine.progress_display import ProgressDisplay
from segzoo.errors import RunError, RunInterruptedError, SegzooError
from segzoo.files import remove
from segzoo.models.build import LOGITS
from segzoo.terminal import say

if TYPE_CHECKING:
    from segzoo.data import EvalBatches
    from segzoo.engine.batched import Batched


class Epochs:
    """Trains a compiled network to the end of its run.

    The state is what counts. At the end of an epoch it is written before weights, tables and curves, which are made
    from it again where a crash came between; so none of them is ever ahead of it, and none is lost.

    Args:
        config: the resolved configuration.
        folder: the run folder, locked.
        trained: the network, compiled, and what moves with it.
        loss: of the logits, for the evaluation.
        steps: steps of an epoch.
        val_batches: the validation split, once in each iteration.
        console: where progress is shown.
        interrupts: signals that ask for a stop.
        pictured: ids of the validation samples in the sheet of predictions.
        distribution: the devices; of several processes each has its share of `val_batches`.
        callbacks: the user's, called as `fit` calls them, an epoch's end after its evaluation.
        may_vary: whether training batches can be of other sizes than the first.
        after_first_step: called after the first step, when it has been traced.
        why_not_finite: says why the loss of a step, the first being 0, or the weights after it are not finite.
    """

    def __init__(
        self,
        config: Config,
        folder: RunFolder,
        trained: TrainingBundle,
        loss: keras.losses.Loss,
        steps: int,
        val_batches: EvalBatches | Batched,
        console: Console,
        interrupts: Interrupts,
        *,
        pictured: frozenset[str] = frozenset(),
        distribution: Distribution | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        may_vary: bool = False,
        after_first_step: Callable[[], None] = lambda: None,
        why_not_finite: Callable[[int], str] = lambda step: "",
    ):
        self.config = config
        self.settings = config.training
        self.folder = folder
        self.trained = trained
        self.network = trained.network
        self.loss = loss
        self.steps = steps
        self.val_batches = val_batches
        self.console = console
        self.interrupts = interrupts
        self.pictured = pictured
        self.names = builders.class_names(config)
        self.monitor = Monitor.of(config)
        self.distribution = distribution or Distribution()
        self.after_first_step = after_first_step
        self.why_not_finite = why_not_finite
        self.callbacks = list(callbacks)
        self.may_vary = may_vary
        self.is_stopped = False  # by a callback
        self.outputs = Artifacts(config, folder, trained, self.distribution, console)
        self._predictor = self.distribution.predictor(self.outputs.predicting)
        self._resumed: Stored | None = None  # until the metrics of its epoch are restored
        self._ticked = self._saved = time.perf_counter()

    def run(self, batches: Callable[[int], Iterator[Batch]], progress: Progress, stored: Stored | None) -> Result:
        """Train from `progress` to the end and write what the run came to; `progress` is kept up to date.

        Args:
            batches: function of a step that returns the endless training batches from there on.
            progress: where the run stands; the network has the variables that belong to it.
            stored: the state that they come from, None at the start of a run.
        """
        self._resumed = stored
        if self.folder.is_written:
            remove(self.folder.result)  # there is one where a finished run is continued
        self.folder.write_session("start" if stored is None else "resume", step=progress.step, device=device_name())
        self.folder.rewrite_log(progress)
        if stored is None:
            self.folder.write_log(
                progress, "start", weights=str(self.network.weights_report), xla=bool(self.network.jit_compile)
            )
        heads = list(self.network.output) if isinstance(self.network.output, dict) else None
        total = self.steps * self.settings.epochs
        with self.outputs.opened(progress), closing(FitDataset(batches, heads, self.may_vary)) as feed:
            with ProgressDisplay(self.console, total, self.config.data.batch_size) as screen:
                calls = self._begun(progress, screen, stored)
                self._ticked = self._saved = time.perf_counter()
                if progress.history and progress.position == 0:
                    self.outputs.epoch(progress)  # a crash may have come between the state and these
                while not self.is_over(progress):
                    if self.interrupts.requested and self.distribution.processes == 1:
                        self._stop(progress, self.interrupts.requested)
                    try:
                        self._train_epoch(feed, progress, screen, calls)
                        self._close_epoch(progress, screen, calls)
                    except NotFiniteError as error:
                        raise RunError(self._not_finite_message(error, progress)) from None
                calls.end(logs_of(progress.history[-1]))
            return self.outputs.finish(progress)

    def _begun(self, progress: Progress, screen: ProgressDisplay, stored: Stored | None) -> RunCallbacks:
        """The callbacks, told that the training begins or goes on, with the states that they had."""
        watch, saver = _Watch(self, progress, screen), _Saver(self, progress)
        calls = RunCallbacks([watch], self.callbacks, [saver], self.network, self.settings.epochs, self.steps)
        calls.begin()
        if stored is not None:
            set_states(self.callbacks, stored.arrays)
        return calls

    def restore_metrics(self, progress: Progress) -> None:
        """Give the metrics of a resumed epoch what they held, once: later epochs begin with none."""
        resumed, self._resumed = self._resumed, None
        if resumed is not None and progress.position:
            restore_metrics(resumed, self.network)

    def is_over(self, progress: Progress) -> bool:
        """Whether no epoch is left, or is under way."""
        return progress.is_over(self.settings.epochs)

    def evaluate(self, progress: Progress) -> Evaluation:
        """Evaluate the network as it is on the validation split."""
        found = evaluate(
            self._predictor(),
            self._until_asked_to_stop(self.val_batches, progress),
            len(self.names),
            self.config.data.ignore_index,
            loss=self.loss,
            target=builders.target_maker(self.config, self.loss),
            keep=self.pictured,
            worst=self.config.output.pictures,
            multilabel=self.config.mode == "multilabel",
        )
        return merged(found, self.distribution.gather)

    def _train_epoch(self, feed: FitDataset, progress: Progress, screen: ProgressDisplay, calls: RunCallbacks) -> None:
        """Train what is left of an epoch."""
        self._enter_stage(progress)
        screen.epoch(progress.epoch + 1, self.settings.epochs, progress.step)
        left = 0 if progress.stopped else self.steps - progress.position
        if left == 0:  # the state was saved between the last step and the evaluation
            self._resumed = None
            return
        calls.begin_epoch(progress.epoch, progress.position)
        try:
            self.network.fit(
                feed.from_step(progress.step),
                initial_epoch=progress.epoch,
                epochs=progress.epoch + 1,
                steps_per_epoch=left,
                callbacks=calls,
                verbose=0,
                shuffle=False,
            )
        except (SegzooError, NotFiniteError):
            raise
        except Exception:
            if feed.error is not None:
                raise feed.error from None
            raise

    def _enter_stage(self, progress: Progress) -> None:
        """Freeze and unfreeze what the epoch's stage says; a new stage has all of the patience."""
        fresh = progress.position == 0
        stage = self.trained.stages.enter(progress.epoch, fresh)
        if stage is None:
            return
        say(self.console, f"Stage from epoch {stage.first_epoch + 1} on: {stage}.")
        if fresh and stage.first_epoch == progress.epoch:
            progress.early_stopping.stale = progress.plateau.stale = 0
            self.folder.write_log(progress, "stage", epoch=progress.epoch, what=str(stage))

    def after_step(self, progress: Progress) -> bool:
        """Save the state if it is time to, stop if a signal came; returns whether the epoch may go on."""
        self._tick(progress)
        over = self.settings.max_time is not None and progress.seconds >= self.settings.max_time
        wishes = (self.interrupts.requested, "max_time" if over else "callback" if self.is_stopped else None)
        requested, stopped = self.distribution.agree(progress.step, wishes)
        progress.stopped = stopped or progress.stopped
        if requested:
            self._save(progress)
            self._stop(progress, requested)
        if time.perf_counter() - self._saved >= self.settings.save_every:
            self._save(progress)
        return progress.stopped is None

    def _close_epoch(self, progress: Progress, screen: ProgressDisplay, calls: RunCallbacks) -> None:
        """Evaluate the epoch, then write the state, then all that is made from it."""
        epoch = progress.epoch + 1
        speed = screen.images_per_second(progress.step)
        row = {
            "epoch": epoch,
            "step": progress.step,
            **_own_and_auxiliary(progress.losses),
            "learning_rate": float(keras.ops.convert_to_numpy(self.network.optimizer.learning_rate)),
            "images_per_second": None if speed is None else round(speed, 2),
            "seconds": round(progress.seconds - progress.epoch_began, 2),
        }
        last = epoch == self.settings.epochs or progress.stopped is not None
        improved = False
        if epoch % self.settings.evaluate_every == 0 or last:
            improved = self._evaluate_epoch(row, progress)
        calls.end_epoch(progress.epoch, logs_of(row))
        if any(self.distribution.gather(bool(self.network.stop_training))):
            progress.stopped = progress.stopped or "callback"
        progress.epoch, progress.position, progress.losses = epoch, 0, {}
        progress.epoch_began = progress.seconds
        self.folder.write_log(progress, "epoch", **row)
        self._save(progress)
        own = None if self.monitor.name in ("mean_iou", "loss") else self.monitor.key  # these stand there anyway
        screen.row(row, self.settings.epochs, improved, own)
        self.outputs.epoch(progress)
        if progress.stopped:
            say(self.console, _STOPPED[progress.stopped].format(progress=progress, monitor=self.monitor))

    def _evaluate_epoch(self, row: dict[str, Any], progress: Progress) -> bool:
        """Evaluate, add the figures to `row`, act on them; returns whether they are the best so far."""
        before = progress.seconds
        found = self.evaluate(progress)
        self._tick(progress)
        row["val_loss"] = found.loss
        row["val_mean_iou"] = found.confusion.mean_iou()
        row["val_pixel_accuracy"] = found.confusion.pixel_accuracy()
        for name, value in zip(self.names, found.confusion.iou(), strict=True):
            row[f"val_iou/{name}"] = None if math.isnan(value) else float(value)
        figure = self.monitor.figure(found)
        row.setdefault(self.monitor.key, None if math.isnan(figure) else figure)
        score = self.monitor.score(figure)
        row["val_seconds"] = round(progress.seconds - before, 2)
        self._lose_patience(score, row["epoch"], progress)
        improved = progress.best_score is None or score > progress.best_score
        if improved:
            progress.best_score, progress.best_epoch = score, row["epoch"]
            progress.best_counts = found.confusion.counts.tolist()
        self.outputs.draw(found, row["epoch"], improved)
        return improved

    def _lose_patience(self, score: float, epoch: int, progress: Progress) -> None:
        """Lower the learning rate or end the training where the score no longer rises."""
        passed = self.settings.evaluate_every
        lowering, stopping = self.settings.reduce_on_plateau, self.settings.early_stopping
        if lowering is not None and self.trained.plateau is not None:
            stale = progress.plateau.wait(score, lowering.min_delta, passed)
            if stale >= lowering.patience:
                factor = self.trained.plateau.lower(lowering.factor, lowering.final_fraction)
                progress.plateau.stale = 0
                say(self.console, f"No better {self.monitor.label}: learning rate at {factor:.3g} of its schedule.")
        if stopping is not None:
            stale = progress.early_stopping.wait(score, stopping.min_delta, passed)
            over = stale >= stopping.patience and self.trained.stages.ended_in_last(epoch)
            if over and progress.stopped is None:
                progress.stopped = "early_stopping"

    def _save(self, progress: Progress) -> None:
        self._tick(progress)
        if not self.folder.is_written:
            return
        save_state(self.folder.state, self.network, progress, self.trained.extra, states_of(self.callbacks))
        self._saved = time.perf_counter()

    def _stop(self, progress: Progress, signal: str) -> None:
        """End the process's part of the run; the state is saved."""
        self.folder.write_session("interrupted", step=progress.step, signal=signal)
        kept = f"the state is in {self.folder.path}" if progress.step else "there is no state yet"
        raise RunInterruptedError(
            f"{signal}: stopped after step {progress.step} of {self.steps * self.settings.epochs}; {kept}. The same "
            "command goes on from there."
        )

    def _until_asked_to_stop(self, batches: Iterable[Any], progress: Progress) -> Iterator[Any]:
        for batch in batches:
            # Of several processes none may leave alone: they agree on it after a step.
            if self.interrupts.requested and self.distribution.processes == 1:
                self._save(progress)
                self._stop(progress, self.interrupts.requested)
            yield batch

    def _tick(self, progress: Progress) -> None:
        now = time.perf_counter()
        progress.seconds += now - self._ticked
        self._ticked = now

    def _not_finite_message(self, error: NotFiniteError, progress: Progress) -> str:
        why = self.why_not_finite(progress.step - 1)
        self.folder.write_log(progress, "not_finite", step=progress.step, what=str(error), why=why)
        kept = f"{self.folder.last} holds the last good weights." if self.folder.last.exists() else ""
        kept = kept or "No epoch was finished before it, so there are no weights to keep."
        return (
            f"{error} at step {progress.step} (epoch {(progress.step - 1) // self.steps + 1}), so training stopped. "
            f"{kept} {why}"
        )


_STOPPED = {
    "early_stopping": "Stopped early: no better {monitor.label} for {progress.early_stopping.stale} epochs.",
    "callback": "Stopped by a callback.",
    "max_time": "Stopped after {progress.seconds:.0f} s: training.max_time is over.",
}


def _own_and_auxiliary(losses: dict[str, float]) -> dict[str, float]:
    """Loss of the logits, which the validation's compares with, and apart from it what the other heads add."""
    if f"{LOGITS}_loss" not in losses:
        return {"loss": losses["loss"]}
    own = losses[f"{LOGITS}_loss"]
    return {"loss": own, "auxiliary_loss": losses["loss"] - own}


def logs_of(row: Mapping[str, Any]) -> dict[str, float]:
    """What callbacks are told at the end of an epoch: its figures, `val_*` where it was evaluated."""
    return {name: value for name, value in row.items() if isinstance(value, float) and name not in CLOCKED}


class _Watch(MetricsReset):
    """Keeps the progress up to date within an epoch, and stops at once when the loss is not finite."""

    def __init__(self, epochs: Epochs, progress: Progress, screen: ProgressDisplay):
        super().__init__()
        self.epochs = epochs
        self.progress = progress
        self.screen = screen
        self.is_traced = False  # before the first step

    def on_metrics_reset(self) -> None:
        """Within an epoch give the metrics what they held when the state was saved."""
        self.epochs.restore_metrics(self.progress)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras after each step with the mean losses of the epoch so far."""
        if not self.is_traced:
            self.is_traced = True
            self.epochs.after_first_step()
        progress = self.progress
        progress.step += 1
        progress.position += 1
        progress.losses = {name: float(value) for name, value in (logs or {}).items()}
        loss = progress.losses["loss"]
        if not math.isfinite(loss):
            raise NotFiniteError(f"The loss became {loss}")
        if self.epochs.trained.averages is not None:
            self.epochs.trained.averages.follow(progress.step)
        if progress.step == 1:
            self.epochs.folder.write_log(progress, "first_step", step=1, loss=loss)
        self.screen.step(progress.step, loss)


class _Saver(keras.callbacks.Callback):
    """Comes after all other callbacks, so that the state that it saves holds what they made of the step."""

    def __init__(self, epochs: Epochs, progress: Progress):
        super().__init__()
        self.epochs = epochs
        self.progress = progress

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras after each step; of several processes none may stop before all have agreed to."""
        self.epochs.is_stopped = self.epochs.is_stopped or self.model.stop_training
        self.model.stop_training = not self.epochs.after_step(self.progress)
