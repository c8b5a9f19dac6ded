"""Learning-rate finder: a range test with growing learning rates."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from segzoo.backend import start_backend, use_xla
from segzoo.config import Config
from segzoo.config.memory import refuse_what_cannot_fit
from segzoo.engine import builders
from segzoo.engine.class_pixels import ClassPixels
from segzoo.engine.diagnosis import explain
from segzoo.engine.fit_dataset import FitDataset
from segzoo.engine.memory import device_bytes
from segzoo.engine.start import Start
from segzoo.errors import RunError
from segzoo.files import replacing
from segzoo.optim.schedules import Ramp
from segzoo.reporting.figure import new_figure
from segzoo.weights import WeightsWarning

# A loss so many times the lowest one is divergence; as in fastai.
_FEWEST, _MOST = 10, 10_000  # updates; smoothing takes time and memory with their square
_HIGHEST = 1e6  # learning rate
_DIVERGED = 4.0
_MEMORY = 0.9
# The curve is smoothed over a standard deviation of this part of it.
_NEIGHBOURS = 30


@dataclass(frozen=True)
class Finding:
    """Result of the learning-rate finder.

    Attributes:
        rates: learning rate of each update.
        losses: loss of each, before the update.
        smoothed: their mean over neighbours.
        suggested: the rate at which the smoothed loss falls most steeply; None where it does not fall.
        lowest: the rate with the lowest smoothed loss.
        diverged: whether the loss blew up before the last rate.
        figure: the PNG of it, where one was written.
    """

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    suggested: float | None
    lowest: float
    diverged: bool
    figure: Path | None = None


def judge(rates: Sequence[float], losses: Sequence[float]) -> Finding:
    """Derive a finding from the losses of growing learning rates; those after the divergence are ignored."""
    count = _steps_before_divergence(losses)
    smoothed = _smooth(losses[:count])
    suggested = None
    lowest = int(np.argmin(smoothed)) if count else 0
    if lowest >= 2:
        # Rates grow by one factor, so the slope from step to step is that over the logarithm of the rate.
        slopes = np.gradient(smoothed[: lowest + 1])
        if slopes.min() < 0:
            suggested = float(rates[int(np.argmin(slopes))])
    return Finding(
        list(rates[:count]),
        list(losses[:count]),
        smoothed.tolist(),
        suggested,
        float(rates[lowest]),
        count < len(losses),
    )


def _steps_before_divergence(losses: Sequence[float]) -> int:
    """Return the steps before a trailing average is not finite, or many times its lowest value."""
    average, lowest = 0.0, math.inf
    for step, loss in enumerate(losses, start=1):
        average = _MEMORY * average + (1.0 - _MEMORY) * loss
        now = average / (1.0 - _MEMORY**step)  # without the share of the zero that it starts from
        if not math.isfinite(now) or now > _DIVERGED * lowest:
            return step - 1
        lowest = min(lowest, now)
    return len(losses)


def _smooth(losses: Sequence[float]) -> np.ndarray:
    """Smooth with a centred Gaussian: a trailing average would shift the descent to larger rates."""
    places = np.arange(len(losses))
    weights = np.exp(-0.5 * ((places[:, None] - places) / max(1.0, len(losses) / _NEIGHBOURS)) ** 2)
    return weights @ np.asarray(losses, "float64") / weights.sum(1)


def find_learning_rate(
    config: Config,
    *,
    start: float = 1e-6,
    end: float = 1.0,
    updates: int = 100,
    progress: Callable[[int, int], None] | None = None,
) -> Finding:
    """Train a new network with a learning rate that grows with every update, until the loss diverges or they end.

    Smith, "Cyclical Learning Rates for Training Neural Networks" (2015), section 3.3, with the suggestion of fastai's
    finder: the steepest fall. Network, data, loss, optimizer and accumulation are the configuration's; nothing is kept.

    Args:
        config: the resolved configuration.
        start: first learning rate.
        end: last learning rate, at most a million.
        updates: how many rates are tried, 10 to 10,000.
        progress: called with the number of rates tried so far and that of all, first with (0, updates).

    Raises:
        RunError: an invalid range of rates, or a loss that is not finite from the start.
        DataError: unusable samples.
        WeightsError: unavailable weights.
    """
    if not 0 < start < end <= _HIGHEST or not _FEWEST <= updates <= _MOST:
        raise RunError(
            f"The finder needs 0 < start < end <= {_HIGHEST:,.0f} and {_FEWEST} to {_MOST:,} updates, got {start:g}, "
            f"{end:g} and {updates:,}."
        )
    start_backend()
    refuse_what_cannot_fit(config, on_processor=device_bytes() is None)
    if progress is not None:
        progress(0, updates)
    start_weights = Start.of(config)
    source = builders.build_source(config, "train")
    batches = builders.train_batches(config, source)
    counted = ClassPixels.of(source, config.data.workers) if builders.weight_schemes(config) else None
    loss = builders.build_loss(config, counted)
    keras.utils.set_random_seed(config.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WeightsWarning)
        network = builders.build_network(config)
    if start_weights is not None:
        start_weights.load_into(network)
    losses, weights = builders.losses_of_outputs(config, network, loss)
    accumulate = config.training.accumulate
    ramp = Ramp(start, end, updates)
    network.compile(
        builders.build_optimizer(config, updates * accumulate, ramp),
        losses,
        loss_weights=weights,
        jit_compile=use_xla(config.training.xla),
    )
    epoch = builders.steps_per_epoch(config, batches.steps_per_epoch)
    builders.start_optimizer(config, network, epoch * config.training.epochs)
    outputs = list(network.output) if isinstance(network.output, dict) else None
    record = _Record(accumulate, None if progress is None else lambda done: progress(done, updates))
    with closing(FitDataset(batches.batches, outputs)) as dataset:
        try:
            network.fit(
                dataset.from_step(0), steps_per_epoch=updates * accumulate, callbacks=[record], verbose=0, shuffle=False
            )
        except _EnoughSeenError:
            pass
        except Exception:
            if dataset.error is not None:
                raise dataset.error from None
            raise
    rates = [float(keras.ops.convert_to_numpy(ramp(update))) for update in range(len(record.losses))]
    finding = judge(rates, record.losses)
    if not finding.smoothed:
        raise RunError(
            f"The loss is not finite at the first step already. {explain(config, network, loss, batches, 0)}"
        )
    return finding


def plot(finding: Finding, path: Path) -> None:
    """Plot the loss over the learning rate, with the suggestion marked, as a PNG."""
    figure = new_figure(figsize=(8, 4.6), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    axes.plot(finding.rates, finding.losses, color="#bbbbbb", linewidth=1, label="loss of a batch")
    axes.plot(finding.rates, finding.smoothed, color="#0072b2", linewidth=2, label="smoothed")
    if finding.suggested is not None:
        axes.axvline(finding.suggested, color="#d55e00", linestyle="--", label=f"suggested {finding.suggested:.2g}")
    axes.set_xscale("log")
    low, high = min(finding.smoothed), max(finding.smoothed)
    margin = 0.15 * (high - low) or 0.1
    axes.set_ylim(low - margin, high + margin)
    axes.set_xlabel("learning rate")
    axes.set_title("loss while the learning rate grows", loc="left", fontsize=11)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left" if finding.diverged else "best")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


class _EnoughSeenError(Exception):
    """The loss has diverged."""


class _Record(keras.callbacks.Callback):
    """Record the loss of every update; Keras's logs hold the mean of the epoch so far."""

    def __init__(self, accumulate: int, progress: Callable[[int], None] | None):
        super().__init__()
        self.accumulate = accumulate
        self.progress = progress
        self.losses: list[float] = []
        self._batches = 0
        self._sum = 0.0
        self._sum_before = 0.0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras after each step."""
        self._batches += 1
        self._sum = float((logs or {})["loss"]) * self._batches
        if self._batches % self.accumulate:
            return
        self.losses.append((self._sum - self._sum_before) / self.accumulate)
        self._sum_before = self._sum
        if self.progress is not None:
            self.progress(len(self.losses))
        if judge(range(len(self.losses)), self.losses).diverged:
            raise _EnoughSeenError
