"""Validation of a run: its network on the validation split, with the statistics of batch normalisation that it uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console

from segzoo.config import Config
from segzoo.engine import builders
from segzoo.engine.callbacks.callback_list import RunCallbacks
from segzoo.engine.checkpoint.progress import Progress
from segzoo.engine.checkpoint.run_folder import RunFolder
from segzoo.engine.distribution import Distribution
from segzoo.engine.evaluation import Evaluation, evaluate, merged
from segzoo.engine.forward import Predicts
from segzoo.engine.loop_profile import LoopProfile
from segzoo.engine.population import COMPARED, COMPARED_FROM, Comparison, PopulationStatistics, moving_at
from segzoo.terminal import warn

if TYPE_CHECKING:
    from segzoo.data import EvalBatches
    from segzoo.engine.batched import Batched


class Validation:
    """Evaluates the network of a run.

    Args:
        config: the resolved configuration.
        folder: the run folder, whose log gets the comparison of the last epoch's statistics.
        network: returns what predicts with the weights of the moment.
        loss: loss computed on the logits.
        batches: batches of the validation split; each iteration is one pass.
        console: console on which that comparison is shown.
        before_batch: called before each batch; it stops the run where a signal asked to.
        pictured: ids of the samples whose predictions are kept.
        distribution: the devices; of several processes each has its share of `batches`.
        statistics: estimates those of batch normalisation; None: the moving ones.
        profile: clocks around the parts of an evaluation; None: no clock is read.
    """

    def __init__(
        self,
        config: Config,
        folder: RunFolder,
        network: Callable[[], Predicts],
        loss: Callable[[Any, Any], Any],
        batches: EvalBatches | Batched,
        console: Console,
        before_batch: Callable[[Progress], None],
        *,
        pictured: frozenset[str],
        distribution: Distribution,
        statistics: PopulationStatistics | None = None,
        profile: LoopProfile | None = None,
    ):
        self.config = config
        self.folder = folder
        self.network = network
        self.loss = loss
        self.batches = batches
        self.console = console
        self.before_batch = before_batch
        self.pictured = pictured
        self.distribution = distribution
        self.statistics = statistics
        self.profile = profile

    def epoch(self, progress: Progress, calls: RunCallbacks) -> Evaluation:
        """Evaluate with the statistics of batch normalisation that the run uses."""
        if self.statistics is not None and self.config.training.uses_population_statistics:
            self.statistics.estimate()
        return self._as_it_is(progress, calls)

    def last(self, progress: Progress, calls: RunCallbacks) -> Evaluation:
        """Evaluate the last epoch, and the same weights with the other kind of statistics."""
        statistics, is_used = self.statistics, self.config.training.uses_population_statistics
        if statistics is None or (not is_used and progress.step < COMPARED_FROM):
            return self.epoch(progress, calls)

        def mean_iou() -> float:
            return evaluate(self.network(), self._batches(progress), self.config.task).confusion.mean_iou()

        if is_used:
            # Noted first: a state that is saved from here on holds the population's statistics.
            moving = moving_at(progress.events, progress.step)
            if moving is None:
                moving = mean_iou()
                self.folder.write_log(progress, COMPARED, step=progress.step, moving=moving)
            found = self.epoch(progress, calls)
            compared = Comparison(moving, found.confusion.mean_iou(), "population")
        else:
            found = self.epoch(progress, calls)
            with statistics.applied() as layers:
                if not layers:  # all are frozen, or there is none
                    return found
                population = mean_iou()
            compared = Comparison(found.confusion.mean_iou(), population, "moving")
        self.folder.write_log(progress, COMPARED, **asdict(compared))
        if compared.note:
            warn(self.console, compared.note)
        return found

    def _as_it_is(self, progress: Progress, calls: RunCallbacks) -> Evaluation:
        """Evaluate the network as it is on the validation split."""
        calls.on_test_begin()
        network, batches = self.network(), calls.tested(self._batches(progress))
        loss: Callable[[Any, Any], Any] | None = self.loss
        if self.profile is not None:
            network, batches, loss = self.profile.evaluated(network, batches, loss)
        found = evaluate(
            network,
            batches,
            self.config.task,
            loss=loss,
            target=builders.target_maker(self.config, self.loss),
            keep=self.pictured,
            worst=self.config.output.pictures,
            order=self.batches.ids,
        )
        found = merged(found, self.distribution.gather)
        figures = {"mean_iou": found.confusion.mean_iou(), "pixel_accuracy": found.confusion.pixel_accuracy()}
        calls.on_test_end(figures if found.loss is None else {"loss": found.loss, **figures})
        return found

    def _batches(self, progress: Progress) -> Iterator[Any]:
        for batch in self.batches:
            self.before_batch(progress)
            yield batch
