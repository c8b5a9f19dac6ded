"""Assembly of what a run trains: the compiled network and the state that changes with it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from segzoo.backend import use_xla
from segzoo.config import Config
from segzoo.data import TrainBatches
from segzoo.engine import builders
from segzoo.engine.batched import Batched
from segzoo.engine.batchnorm import momentum_for, set_momentum
from segzoo.engine.callbacks.ema import ExponentialMovingAverage, decay_for
from segzoo.engine.callbacks.stages import Stages
from segzoo.engine.checkpoint.progress import Progress
from segzoo.engine.checkpoint.state import Extra
from segzoo.engine.distribution import Distribution
from segzoo.engine.given import Given
from segzoo.engine.population import PopulationStatistics, batches_for
from segzoo.engine.start import Start
from segzoo.errors import RunError
from segzoo.hub import is_address
from segzoo.keras_compat import build_losses
from segzoo.optim.plateau import PlateauFactor
from segzoo.weights import WeightsReport, WeightsWarning


@dataclass
class TrainingBundle:
    """Compiled network and the parts that belong to its training.

    Attributes:
        network: compiled, its optimizer built.
        stages: which parts of it are frozen when.
        averages: moving averages of its weights, where the configuration asks for them.
        plateau: factor on the learning rate, where the configuration has `reduce_on_plateau`.
        given: whether the network was passed to `train`, and the configuration does not describe it.
    """

    network: keras.Model
    stages: Stages
    averages: ExponentialMovingAverage | None = None
    plateau: PlateauFactor | None = None
    given: bool = False

    @property
    def evaluated(self) -> keras.Model:
        """The network that is evaluated and saved: that of the averages where there are any."""
        return self.network if self.averages is None else self.averages.averaged

    @property
    def extra(self) -> Extra:
        """Variables of the checkpoint beside those of the network and its optimizer."""
        return {} if self.averages is None else {"ema": self.averages.variables}


class Assembly:
    """Builder of what a run trains.

    Args:
        config: the resolved configuration.
        given: what was passed to `train` in place of what the configuration describes.
        distribution: the devices.
    """

    def __init__(self, config: Config, given: Given, distribution: Distribution):
        self.config = config
        self.given = given
        self.distribution = distribution

    def another_network(self, like: keras.Model | None = None) -> keras.Model:
        """A network like the one being trained, with its own weights, trainable as those of `like`."""
        if self.given.model is not None:
            return keras.models.clone_model(self.given.model)
        alike = builders.with_batch_norm(self.config, getattr(like, "batch_norm", None))
        return builders.build_network(alike, weights="none")

    def build(
        self,
        loss: Callable[[Any, Any], Any],
        steps: int,
        *,
        start: Start | None = None,
        begun: Progress | None = None,
    ) -> TrainingBundle:
        """Build and compile the network, and the state that changes with it, from the run's seed on.

        Args:
            loss: loss of the logits.
            steps: steps of an epoch.
            start: initial weights of a new run; None: those of the configuration.
            begun: progress of a run that has begun, whose variables are restored afterwards.

        Raises:
            WeightsError: unavailable weights.
        """
        keras.utils.set_random_seed(self.config.seed)
        with self.distribution.building():
            return self._compiled(loss, steps, start, begun)

    def _compiled(
        self, loss: Callable[[Any, Any], Any], steps: int, start: Start | None, begun: Progress | None
    ) -> TrainingBundle:
        config, network = self.config, self.given.model
        if network is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", WeightsWarning)  # the report is printed and logged
                # A run that has begun has its weights in its state, and needs no hub, which may have others by now.
                is_elsewhere = begun is not None and is_address(config.model.weights)
                # The same variables are trained, whether weights are out of reach by now or within it again.
                alike = builders.with_batch_norm(config, None if begun is None else begun.batch_norm)
                network = builders.build_network(alike, weights="none" if is_elsewhere else None)
        else:
            network.weights_report = WeightsReport("none", note="weights as the given model had them")
        if start is not None:
            start.load_into(network)
        momentum = config.training.batchnorm_momentum
        if momentum == "auto":
            momentum = momentum_for(steps * config.training.evaluate_every, steps * config.training.epochs)
        set_momentum(network, momentum)
        self.distribution.synchronize(network)
        losses, weights = builders.losses_of_outputs(config, network, loss)
        optimizer = builders.build_optimizer(config, steps * config.training.epochs)
        plateau = PlateauFactor.of(optimizer) if config.training.reduce_on_plateau else None
        network.compile(optimizer, losses, loss_weights=weights, jit_compile=use_xla(config.training.xla))
        # Built here, its variables are not made while the step is traced, which would trace everything twice.
        builders.start_optimizer(config, network, steps * config.training.epochs)
        if isinstance(network.output, dict):
            # Keras makes the mean losses of several outputs when the step is traced: too late to restore them.
            build_losses(network)
        averages = None
        if config.training.ema is not None:
            twin = self.another_network(network)
            twin.weights_report = network.weights_report
            decay, accumulate = config.training.ema, config.training.accumulate
            if decay == "auto":
                decay = decay_for(builders.updates(config, steps * config.training.epochs))
            averages = ExponentialMovingAverage(network, twin, decay, accumulate)
        stages = builders.build_stages(config, network, steps)
        return TrainingBundle(network, stages, averages, plateau, given=self.given.model is not None)

    def statistics(
        self, trained: TrainingBundle, batches: TrainBatches | Batched, steps: int
    ) -> PopulationStatistics | None:
        """The estimator of population statistics of batch normalisation, for each evaluation or to compare the last.

        None where there is none; moving averages need none.

        Raises:
            RunError: training.batchnorm_statistics is population, and this run cannot have it.
        """
        is_used = self.config.training.uses_population_statistics
        why = ""
        if self.distribution.devices > 1 or self.distribution.processes > 1:
            why = "several devices"
        elif isinstance(batches, Batched) and not batches.is_restartable:
            why = "train_data that can be read only once"
        if not is_used and (why or isinstance(batches, Batched)):  # whose batches would be held in memory
            return None
        if why:
            raise RunError(f"training.batchnorm_statistics: population does not work with {why}; set it to moving.")
        count = batches_for(self.config.data.batch_size, steps)
        found = PopulationStatistics(trained.evaluated, batches.batches, count, trained.network)
        if isinstance(batches, Batched):
            found.keep()  # what trains reads them in a thread of its own
        return found
