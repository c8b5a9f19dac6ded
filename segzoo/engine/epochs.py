"""Training loop of a run: epochs of steps, their evaluation and their checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
from rich.console import Console

from segzoo.config import Config
from segzoo.device import device_name
from segzoo.engine import builders
from segzoo.engine.artifacts import Artifacts, Result
from segzoo.engine.assembly import TrainingBundle
from segzoo.engine.callbacks.base import RunCallback
from segzoo.engine.callbacks.callback_list import RunCallbacks
from segzoo.engine.callbacks.early_stopping import EarlyStopping
from segzoo.engine.callbacks.nan_guard import NanGuard
from segzoo.engine.callbacks.plateau import ReduceOnPlateau
from segzoo.engine.callbacks.progress_display import ProgressDisplay
from segzoo.engine.callbacks.sheets import PredictionSheets
from segzoo.engine.callbacks.stages import Stage, StageSchedule
from segzoo.engine.callbacks.stateful import set_states, states_of
from segzoo.engine.callbacks.tensorboard import TensorBoard
from segzoo.engine.callbacks.trackers import Trackers
from segzoo.engine.checkpoint.checkpoint_file import Stored
from segzoo.engine.checkpoint.progress import CLOCKED, Progress
from segzoo.engine.checkpoint.run_folder import RunFolder
from segzoo.engine.checkpoint.state import NotFiniteError, restore_metrics, save_state
from segzoo.engine.distribution import Distribution
from segzoo.engine.evaluation import Picture
from segzoo.engine.fit_dataset import Batch, FitDataset
from segzoo.engine.interrupts import Interrupts
from segzoo.engine.loop_profile import LoopProfile, ProfileTable
from segzoo.engine.monitor import Monitor
from segzoo.engine.population import PopulationStatistics
from segzoo.engine.validation import Validation
from segzoo.errors import RunError, RunInterruptedError, SegzooError
from segzoo.files import remove
from segzoo.models.build import LOGITS
from segzoo.reporting.pictures import prediction_sheet
from segzoo.terminal import say, warn
from segzoo.tracking import Tracking

if TYPE_CHECKING:
    from segzoo.data import EvalBatches
    from segzoo.engine.batched import Batched


class Epochs:
    """Trains a compiled network to the end of its run.

    The checkpoint is written first, artifacts are rebuilt from it: at the end of an epoch weights, tables and curves
    follow the checkpoint, and are made again where a crash came between. So none is ever ahead of it, and none is lost.

    Args:
        config: the resolved configuration.
        folder: the run folder, locked.
        trained: the compiled network and the training state that belongs to it.
        loss: loss computed on the logits, for the evaluation.
        steps: steps of an epoch.
        val_batches: batches of the validation split; each iteration is one pass.
        console: console on which progress is shown.
        interrupts: signals that ask for a stop.
        pictured: ids of the validation samples in the sheet of predictions.
        distribution: the devices; of several processes each has its share of `val_batches`.
        callbacks: the user's, called as `fit` calls them, an epoch's end after its evaluation.
        may_vary: whether training batches can be of other sizes than the first.
        statistics: estimates those of batch normalisation before each evaluation; None: the moving ones.
        after_first_step: called after the first step, when it has been traced.
        why_not_finite: says why the loss of a step, the first being 0, or the weights after it are not finite.
        profile: clocks around the parts of the loop, the table of which is shown and kept; None: no clock is read.
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
        statistics: PopulationStatistics | None = None,
        after_first_step: Callable[[], None] = lambda: None,
        why_not_finite: Callable[[int], str] = lambda step: "",
        profile: LoopProfile | None = None,
    ):
        self.config = config
        self.settings = config.training
        self.folder = folder
        self.trained = trained
        self.network = trained.network
        self.steps = steps
        self.console = console
        self.interrupts = interrupts
        self.names = list(config.task.classes)
        self.monitor = Monitor.of(config)
        self.distribution = distribution or Distribution()
        self.after_first_step = after_first_step
        self.why_not_finite = why_not_finite
        self.callbacks = list(callbacks)
        self.may_vary = may_vary
        self.profile = profile
        self.is_stopped = False  # by a callback
        self.artifacts = Artifacts(config, folder, trained, self.distribution, console)
        self.validation = Validation(
            config,
            folder,
            self.distribution.predictor(self.artifacts.predicting),
            loss,
            val_batches,
            console,
            self._leave_if_asked,
            pictured=pictured,
            distribution=self.distribution,
            statistics=statistics,
            profile=profile,
        )
        self._resumed: Stored | None = None  # until the metrics of its epoch are restored
        self._ticked = self._saved = time.perf_counter()

    def run(self, batches: Callable[[int], Iterator[Batch]], progress: Progress, stored: Stored | None) -> Result:
        """Train from `progress` to the end and write what the run came to; `progress` is kept up to date.

        Args:
            batches: function of a step that returns the endless training batches from there on.
            progress: progress of the run; the network has the variables that belong to it.
            stored: the state that they come from, None at the start of a run.
        """
        self._resumed = stored
        if self.folder.is_written:
            remove(self.folder.result)  # there is one where a finished run is continued
        self.folder.write_session("start" if stored is None else "resume", step=progress.step, device=device_name())
        self.folder.rewrite_log(progress)
        automatic = builders.automatic(self.config, self.steps * self.settings.epochs, self.network)
        if stored is None:
            self.folder.write_log(
                progress,
                "start",
                weights=str(self.network.weights_report),
                batch_norm=getattr(self.network, "batch_norm", None),
                xla=bool(self.network.jit_compile),
                automatic=automatic,
            )
        elif automatic != progress.automatic:  # it goes on with another configuration
            self.folder.write_log(progress, "settings", automatic=automatic)
        heads = list(self.network.output) if isinstance(self.network.output, dict) else None
        with ExitStack() as opened:
            reporting, trackers = self._reporting(progress, opened)
            if self.profile is not None:
                batches = opened.enter_context(closing(self.profile)).read(batches)
            feed = opened.enter_context(closing(FitDataset(batches, heads, self.may_vary)))
            with self._display() as display:
                if self.profile is not None:
                    reporting = [*reporting, ProfileTable(self.profile, self.folder.profile, self.console)]
                calls = self._begun(progress, [*self._own(progress, display), self.artifacts, *reporting], stored)
                self._ticked = self._saved = time.perf_counter()
                if progress.history and progress.position == 0:
                    # A crash may have come between the checkpoint and what is derived from it.
                    calls.checkpointed(progress.history[-1], progress.best_epoch == progress.epoch, resumed=True)
                while not self.is_over(progress):
                    self._leave_if_asked(progress, save=False)
                    try:
                        self._train_epoch(feed, progress, calls)
                        self._close_epoch(progress, display, calls)
                    except NotFiniteError as error:
                        raise RunError(self._not_finite_message(error, progress)) from None
                calls.end(logs_of(progress.history[-1]))
            return self.artifacts.finish(progress, trackers)

    def _display(self) -> ProgressDisplay:
        # mIoU and the losses stand in an epoch's line anyway.
        monitored = None if self.monitor.name in ("mean_iou", "loss") else self.monitor.key
        total = self.steps * self.settings.epochs
        return ProgressDisplay(self.console, total, self.config.data.batch_size, monitored=monitored)

    def _own(self, progress: Progress, display: ProgressDisplay) -> list[RunCallback]:
        """Segzoo's own callbacks on training; each step is counted before any other sees it."""
        settings, trained, every = self.settings, self.trained, self.settings.evaluate_every

        def tell(text: str) -> None:
            say(self.console, text)

        def log(stage: Stage) -> None:
            self.folder.write_log(progress, "stage", epoch=progress.epoch, what=str(stage))

        found: list[RunCallback] = [_StepCounter(self), NanGuard(), StageSchedule(trained.stages, tell, log)]
        if trained.averages is not None:
            found.append(trained.averages)
        if (lowering := settings.reduce_on_plateau) is not None and trained.plateau is not None:
            numbers = lowering.patience, lowering.min_delta, lowering.factor, lowering.final_fraction
            found.append(ReduceOnPlateau(self.monitor, trained.plateau, *numbers, every, tell))
        if (stopping := settings.early_stopping) is not None:
            may_stop = trained.stages.ended_in_last
            found.append(EarlyStopping(self.monitor, stopping.patience, stopping.min_delta, every, may_stop))
        return [*found, display]

    def _reporting(self, progress: Progress, opened: ExitStack) -> tuple[list[RunCallback], Trackers | None]:
        """Callbacks that report to people, which one of several processes does; files and trackers are opened."""
        if not self.folder.is_written:
            return [], None
        config, folder = self.config, self.folder
        sheets = PredictionSheets(
            folder.figures, self._draw, config.output.pictures_every, self.settings.evaluate_every
        )
        tensorboard = opened.enter_context(TensorBoard(folder.tensorboard, self.network, sheets, progress))
        tracking = Tracking(
            config.trackers,
            str(config.name),
            config.model_dump(mode="json"),
            folder.trackers,
            tell=lambda text: say(self.console, f"Tracked by {text}"),
            warn=lambda text: warn(self.console, f"Tracker {text}"),
        )
        trackers = opened.enter_context(Trackers(tracking, sheets))
        return [sheets, tensorboard, trackers], trackers

    def _draw(self, pictures: Sequence[Picture], path: Path) -> None:
        prediction_sheet(
            pictures,
            self.names,
            builders.colours(self.config),
            self.config.data.ignore_index,
            path,
            background=builders.background(self.config),
        )

    def _begun(self, progress: Progress, own: Sequence[RunCallback], stored: Stored | None) -> RunCallbacks:
        """The callbacks, notified that training begins or resumes, with their restored states."""
        first, last = list(own), [_Saver(self)]
        if self.profile is not None:
            first, last = [self.profile.first(), *first], [*last, self.profile.last()]
        calls = RunCallbacks(first, self.callbacks, last, self.network, progress, self.settings.epochs, self.steps)
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
        """Return True if no epoch is left and none is in progress."""
        return progress.is_over(self.settings.epochs)

    def _train_epoch(self, feed: FitDataset, progress: Progress, calls: RunCallbacks) -> None:
        """Train the remainder of an epoch."""
        calls.begin_epoch(progress.epoch, progress.position)
        left = 0 if progress.stopped else self.steps - progress.position
        if left == 0:  # the state was saved between the last step and the evaluation
            self._resumed = None
            return
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

    def _close_epoch(self, progress: Progress, display: ProgressDisplay, calls: RunCallbacks) -> None:
        """Evaluate the epoch, then write the checkpoint, then all that is derived from it."""
        epoch = progress.epoch + 1
        speed = display.images_per_second(progress.step)
        row = {
            "epoch": epoch,
            "step": progress.step,
            **_own_and_auxiliary(progress.losses),
            "learning_rate": float(keras.ops.convert_to_numpy(self.network.optimizer.learning_rate)),
            "images_per_second": None if speed is None else round(speed, 2),
            "seconds": round(progress.seconds - progress.epoch_began, 2),
        }
        last = epoch == self.settings.epochs or progress.stopped is not None
        if epoch % self.settings.evaluate_every == 0 or last:
            self._evaluate_epoch(row, progress, calls, last)
        calls.end_epoch(progress.epoch, logs_of(row))
        if any(self.distribution.gather(bool(self.network.stop_training))):
            progress.stopped = progress.stopped or "callback"
        progress.epoch, progress.position, progress.losses = epoch, 0, {}
        progress.epoch_began = progress.seconds
        self.folder.write_log(progress, "epoch", **row)
        self._save(progress)
        calls.checkpointed(row, progress.best_epoch == epoch)
        if progress.stopped:
            say(self.console, _STOPPED[progress.stopped].format(progress=progress, monitor=self.monitor))

    def _evaluate_epoch(self, row: dict[str, Any], progress: Progress, calls: RunCallbacks, last: bool) -> None:
        """Evaluate, add the figures to `row`, and note whether they are the best so far."""
        before = progress.seconds
        found = (self.validation.last if last else self.validation.epoch)(progress, calls)
        self._tick(progress)
        row["val_loss"] = found.loss
        row["val_mean_iou"] = found.confusion.mean_iou()
        row["val_pixel_accuracy"] = found.confusion.pixel_accuracy()
        for name, value in zip(self.names, found.confusion.iou(), strict=True):
            row[f"val_iou/{name}"] = None if math.isnan(value) else float(value)
        figure = self.monitor.figure(found)
        row.setdefault(self.monitor.key, None if math.isnan(figure) else figure)
        row["val_seconds"] = round(progress.seconds - before, 2)
        score = self.monitor.score(figure)
        improved = progress.best_score is None or score > progress.best_score
        if improved:
            progress.best_score, progress.best_epoch = score, row["epoch"]
            progress.best_counts = found.confusion.counts.tolist()
        calls.evaluated(row["epoch"], found, improved)

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

    def _leave_if_asked(self, progress: Progress, save: bool = True) -> None:
        """Stop where a signal asked to; of several processes none may leave alone: they agree on it after a step."""
        if self.interrupts.requested and self.distribution.processes == 1:
            if save:
                self._save(progress)
            self._stop(progress, self.interrupts.requested)

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
    """Loss of the logits, comparable with the validation loss, and separately the loss of the other heads."""
    if f"{LOGITS}_loss" not in losses:
        return {"loss": losses["loss"]}
    own = losses[f"{LOGITS}_loss"]
    return {"loss": own, "auxiliary_loss": losses["loss"] - own}


def logs_of(row: Mapping[str, Any]) -> dict[str, float]:
    """Logs of an epoch's end for callbacks: its figures, with `val_*` if it was evaluated."""
    return {name: value for name, value in row.items() if isinstance(value, float) and name not in CLOCKED}


class _StepCounter(RunCallback):
    """Keeps the progress up to date within an epoch."""

    def __init__(self, epochs: Epochs):
        super().__init__()
        self.epochs = epochs
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
        if progress.step == 1 and math.isfinite(progress.losses["loss"]):
            self.epochs.folder.write_log(progress, "first_step", step=1, loss=progress.losses["loss"])


class _Saver(RunCallback):
    """Runs after all other callbacks, so that the checkpoint that it saves includes their effects on the step."""

    def __init__(self, epochs: Epochs):
        super().__init__()
        self.epochs = epochs

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras after each step; of several processes none may stop before all have agreed to."""
        self.epochs.is_stopped = self.epochs.is_stopped or self.model.stop_training
        self.model.stop_training = not self.epochs.after_step(self.progress)
