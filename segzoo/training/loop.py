"""The training loop: from a Config to a run folder with a trained model, figures and a table."""

from __future__ import annotations

import math
import time
import warnings
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
from rich.console import Console

from segzoo.backend import precision_note, start_backend, use_xla
from segzoo.config import Config
from segzoo.errors import RunError
from segzoo.files import replacing
from segzoo.metrics import ConfusionMatrix
from segzoo.model import LOGITS, logits_only
from segzoo.tracking import check_packages
from segzoo.training import assemble
from segzoo.training.batchnorm import momentum_for, set_momentum
from segzoo.training.class_pixels import ClassPixels
from segzoo.training.curves import plot_curves
from segzoo.training.evaluation import Evaluation, evaluate, evenly_spaced
from segzoo.training.feed import Feed
from segzoo.training.logs import TensorBoardLog, write_csv
from segzoo.training.reports import Reports
from segzoo.training.run import RunFolder, run_folder
from segzoo.training.screen import Screen, class_table
from segzoo.training.state import Progress, load_state, save_state
from segzoo.training.summary import write_summary
from segzoo.weights import WeightsWarning, bare, load_file, save_file

if TYPE_CHECKING:
    from segzoo.data import EvalBatches, Source


@dataclass
class Result:
    """What a run came to.

    Attributes:
        folder: the run folder.
        confusion: confusion matrix of the validation split at the best epoch.
        best_epoch: that epoch, the first being 1.
        history: one row of figures for each epoch.
        model: the network with its best weights.
    """

    folder: Path
    confusion: ConfusionMatrix
    best_epoch: int
    history: list[dict[str, Any]]
    model: keras.Model


def train(config: Config, *, resume: bool = False, overwrite: bool = False, console: Console | None = None) -> Result:
    """Train the model that `config` describes; its run folder is `output.root/name`.

    Args:
        config: the resolved configuration.
        resume: go on from the last whole epoch of the run folder.
        overwrite: replace what the run folder holds.
        console: where progress is shown; by default the standard output.

    Raises:
        RunError: a run folder that holds a run, or cannot be resumed; a loss that is not finite.
        DataError: samples that cannot be used.
        WeightsError: weights that cannot be had.
    """
    console = console or Console()
    start_backend()
    check_packages(assemble.trackers(config))
    folder = run_folder(config)
    # These come first: a loss or data that cannot be used should leave no run folder behind.
    sources = {split: assemble.build_source(config, split) for split in ("train", "val")}
    batches = assemble.train_batches(config, sources["train"])
    counted = _class_pixels(config, folder, batches.source, console)
    loss = assemble.build_loss(config, counted)
    going_on = folder.start(config, resume=resume, overwrite=overwrite)
    if counted is not None:
        counted.write(folder.class_pixels)
    keras.utils.set_random_seed(config.seed)

    steps = config.training.steps_per_epoch or batches.steps_per_epoch
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WeightsWarning)  # the report is printed and logged below
        network = assemble.build_network(config)
    momentum = config.training.batchnorm_momentum
    set_momentum(network, momentum_for(steps * config.training.evaluate_every) if momentum == "auto" else momentum)
    network_losses, weights = assemble.losses_of_outputs(config, network, loss)
    optimizer = assemble.build_optimizer(config, steps * config.training.epochs)
    network.compile(optimizer, network_losses, loss_weights=weights, jit_compile=use_xla())
    # Built here, its variables are not made while the step is traced, which would trace everything twice.
    network.optimizer.build(network.trainable_variables)
    progress = load_state(folder.state, network) if going_on else Progress()
    folder.write_environment(
        config, {split: source.fingerprint() for split, source in sources.items()}, str(network.weights_report)
    )
    folder.write_log("resume" if going_on else "start", step=progress.step, weights=str(network.weights_report))
    console.print(
        f"{config.model.decoder} on {config.model.backbone}: {network.count_params():,} parameters, "
        f"{len(sources['train'])} training and {len(sources['val'])} validation samples, {steps} steps an epoch. "
        f"{network.weights_report}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    if note := precision_note(config.training.precision):
        console.print(f"[yellow]Warning:[/] {note}", highlight=False, soft_wrap=True)
    run = _Run(config, folder, network, loss, steps, assemble.eval_batches(config, sources["val"]), console)
    run.pictured = evenly_spaced(sources["val"].ids, config.output.pictures)
    if progress.finished:
        return run.finish(progress)
    outputs = list(network.output) if isinstance(network.output, dict) else None
    with (
        closing(TensorBoardLog(folder.tensorboard)) as tensorboard,
        Reports(config, folder, network, tensorboard, console) as run.reports,
        closing(Feed(batches.batches, outputs)) as feed,
    ):
        run.fit(feed, progress)
        return run.finish(progress)


def _class_pixels(config: Config, folder: RunFolder, source: Source, console: Console) -> ClassPixels | None:
    """Count the training split's pixels where class weights are made from them, or take the run folder's counts."""
    schemes = assemble.weight_schemes(config)
    if not schemes:
        return None
    counted = ClassPixels.read(folder.class_pixels) if folder.class_pixels.is_file() else None
    if counted is None or counted.fingerprint != source.fingerprint():
        console.print(f"Counting the pixels of each class in {len(source)} training samples ...", highlight=False)
        counted = ClassPixels.of(source, config.data.workers)
    for name, weights in assemble.class_weights(config, counted).items():
        numbers = ", ".join(f"{weight:.3g}" for weight in weights)
        console.print(f"Class weights of {name}, {schemes[name]}: {numbers}", highlight=False, soft_wrap=True)
    return counted


class _Run:
    """The moving parts of one run; `train` assembles them."""

    def __init__(
        self,
        config: Config,
        folder: RunFolder,
        network: keras.Model,
        loss: keras.losses.Loss,
        steps: int,
        val_batches: EvalBatches,
        console: Console,
    ):
        self.config = config
        self.folder = folder
        self.network = network
        self.predicting = logits_only(network)
        self.loss = loss
        self.steps = steps
        self.val_batches = val_batches
        self.console = console
        self.names = assemble.class_names(config)
        self.pictured: frozenset[str] = frozenset()
        self.reports: Reports | None = None

    def fit(self, feed: Feed, progress: Progress) -> None:
        """Train from `progress` to the last epoch, or until early stopping; `progress` is kept up to date."""
        settings = self.config.training
        with Screen(self.console, self.steps * settings.epochs, self.config.data.batch_size) as screen:
            while progress.epoch < settings.epochs and not self._is_stale(progress):
                row = self._train_epoch(feed, progress, screen)
                last = progress.epoch == settings.epochs
                improved = False
                if progress.epoch % settings.evaluate_every == 0 or last:
                    improved = self._evaluate_epoch(row, progress)
                progress.history.append(row)
                screen.row(row, settings.epochs, improved)
                self._write_epoch(row, progress)
        progress.finished = True
        save_state(self.folder.state, self.network, progress)

    def _is_stale(self, progress: Progress) -> bool:
        stopping = self.config.training.early_stopping
        if stopping is None or progress.stale_epochs < stopping.patience:
            return False
        self.console.print(f"Stopped early: no better validation mIoU for {progress.stale_epochs} epochs.")
        return True

    def _train_epoch(self, feed: Feed, progress: Progress, screen: Screen) -> dict[str, Any]:
        """Train one epoch; returns its row of figures."""
        started = time.perf_counter()
        screen.epoch(progress.epoch + 1, self.config.training.epochs, progress.step)
        watch = _Watch(progress.step, screen, self.folder, is_first_epoch=self.network.train_function is None)
        try:
            history = self.network.fit(
                feed.from_step(progress.step), steps_per_epoch=self.steps, callbacks=[watch], verbose=0, shuffle=False
            )
        except _NotFiniteError as error:
            raise RunError(self._not_finite_message(error)) from None
        except Exception:
            if feed.error is not None:
                raise feed.error from None
            raise
        progress.step += self.steps
        progress.epoch += 1
        return {
            "epoch": progress.epoch,
            "step": progress.step,
            **self._losses(history.history),
            "learning_rate": float(keras.ops.convert_to_numpy(self.network.optimizer.learning_rate)),
            "images_per_second": round(screen.images_per_second(progress.step), 2),
            "seconds": round(time.perf_counter() - started, 2),
        }

    def _losses(self, history: dict[str, list[float]]) -> dict[str, float]:
        """Loss of the logits, which the validation's compares with, and apart from it what the other heads add."""
        total = float(history["loss"][-1])
        if f"{LOGITS}_loss" not in history:
            return {"loss": total}
        own = float(history[f"{LOGITS}_loss"][-1])
        return {"loss": own, "auxiliary_loss": total - own}

    def _not_finite_message(self, error: _NotFiniteError) -> str:
        kept = f"{self.folder.last} holds the last good weights." if self.folder.last.exists() else ""
        kept = kept or "No epoch was finished before it, so there are no weights to keep."
        return (
            f"The loss became {error.value} at step {error.step} (epoch {(error.step - 1) // self.steps + 1}), so "
            f"training stopped. {kept} Lower training.optimizer.learning_rate, set training.optimizer.clip_norm: 1.0, "
            f"or use precision: float32."
        )

    def _evaluate_epoch(self, row: dict[str, Any], progress: Progress) -> bool:
        """Evaluate, add the figures to `row`, keep the best weights; returns whether they are the best so far."""
        started = time.perf_counter()
        found = self.evaluate()
        score = found.confusion.mean_iou()
        row["val_loss"] = found.loss
        row["val_mean_iou"] = score
        row["val_pixel_accuracy"] = found.confusion.pixel_accuracy()
        for name, value in zip(self.names, found.confusion.iou(), strict=True):
            row[f"val_iou/{name}"] = None if math.isnan(value) else float(value)
        row["val_seconds"] = round(time.perf_counter() - started, 2)
        stopping = self.config.training.early_stopping
        needed = progress.best_score + (stopping.min_delta if stopping else 0.0) if progress.best_score else -1.0
        improved = progress.best_score is None or score > progress.best_score
        progress.stale_epochs = 0 if score > needed else progress.stale_epochs + self.config.training.evaluate_every
        if improved:
            progress.best_score, progress.best_epoch = score, progress.epoch
            progress.best_counts = found.confusion.counts.tolist()
            save_file(self.network, self.folder.best)
        if self.reports:
            self.reports.draw(found, progress.epoch, improved)
        return improved

    def evaluate(self) -> Evaluation:
        """Evaluate the network as it is on the validation split."""
        return evaluate(
            self.predicting,
            self.val_batches,
            len(self.names),
            self.config.data.ignore_index,
            loss=self.loss,
            target=assemble.target_maker(self.config),
            keep=self.pictured,
            worst=self.config.output.pictures,
        )

    def _write_epoch(self, row: dict[str, Any], progress: Progress) -> None:
        """Write all that an epoch leaves behind; the state comes last, so what it promises is there."""
        save_file(self.network, self.folder.last)
        write_csv(self.folder.metrics, progress.history)
        plot_curves(progress.history, self.folder.figures / "curves.png")
        self.folder.write_log("epoch", **row)
        if self.reports:
            self.reports.epoch(row, is_best=progress.best_epoch == progress.epoch)
        save_state(self.folder.state, self.network, progress)

    def finish(self, progress: Progress) -> Result:
        """Load the best weights, save the finished model, print the table."""
        if progress.best_counts is None or progress.best_epoch is None:
            raise RunError(f"{self.folder.path} was never evaluated; there is no best model to report.")
        load_file(self.network, self.folder.best)
        with replacing(self.folder.model) as temporary:
            bare(self.predicting).save(temporary)
        confusion = ConfusionMatrix(len(self.names), self.config.data.ignore_index, progress.best_counts)
        self.folder.write_log("finish", best_epoch=progress.best_epoch, val_mean_iou=progress.best_score)
        title = f"validation, best epoch {progress.best_epoch} of {progress.epoch}"
        self.console.print(class_table(confusion, self.names, title))
        write_summary(self.config, self.folder, progress.history, confusion, progress.best_epoch)
        if self.reports:
            self.reports.finish(progress.best_epoch, confusion)
        self.console.print(f"Summary: {self.folder.summary}", highlight=False, soft_wrap=True)
        self.console.print(f"Run folder: {self.folder.path}", highlight=False, soft_wrap=True)
        return Result(self.folder.path, confusion, progress.best_epoch, progress.history, self.predicting)


class _NotFiniteError(Exception):
    """A loss that is NaN or infinite at a step."""

    def __init__(self, step: int, value: float):
        super().__init__(f"loss {value} at step {step}")
        self.step = step
        self.value = value


class _Watch(keras.callbacks.Callback):
    """Looks at every step's loss: shows it, logs it, and stops at once when it is not finite."""

    def __init__(self, step: int, screen: Screen, folder: RunFolder, is_first_epoch: bool):
        super().__init__()
        self.step = step
        self.is_first_epoch = is_first_epoch  # of this process: the one that traces the graph
        self.screen = screen
        self.folder = folder

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras after each step with the mean loss of the epoch so far."""
        self.step += 1
        loss = float((logs or {})["loss"])
        if not math.isfinite(loss):
            self.folder.write_log("not_finite", step=self.step, loss=str(loss))
            raise _NotFiniteError(self.step, loss)
        if batch == 0 and self.is_first_epoch:
            self.folder.write_log("first_step", step=self.step, loss=loss)
        self.screen.step(self.step, loss)
