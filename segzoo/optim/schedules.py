"""Learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

_SHAPES = ("poly", "cosine", "constant", "step")


@keras.saving.register_keras_serializable("segzoo")
class WarmUpDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up (Goyal et al., 2017), then polynomial, cosine, stepwise or no decay.

    Args:
        peak: learning rate after the warm-up.
        total_steps: steps of the whole run; the decay ends there.
        warmup_steps: steps of the warm-up; step n of them has n + 1 parts of the peak, so none is wasted at zero.
        shape: "poly" (Chen et al., 2017: `(1 - progress) ** power`), "cosine" (Loshchilov and Hutter, 2017),
            "step" (He et al., 2016: times `drop` at each milestone) or "constant".
        power: exponent of "poly".
        final_fraction: learning rate at the end, as a fraction of the peak; of "poly" and "cosine".
        milestones: for "step", fractions of the run, between 0 and 1.
        drop: for "step", factor between 0 and 1.
    """

    def __init__(
        self,
        peak: float,
        total_steps: int,
        warmup_steps: int = 0,
        shape: str = "poly",
        power: float = 0.9,
        final_fraction: float = 0.0,
        milestones: Sequence[float] = (0.5, 0.75),
        drop: float = 0.1,
    ):
        super().__init__()
        if shape not in _SHAPES:
            raise ValueError(f"shape must be one of {', '.join(_SHAPES)}, got {shape!r}.")
        self.peak = peak
        self.total_steps = total_steps
        self.warmup_steps = min(warmup_steps, total_steps - 1)
        self.shape = shape
        self.power = power
        self.final_fraction = final_fraction
        self.milestones = list(milestones)
        self.drop = drop

    def __call__(self, step: Any) -> Any:
        """Learning rate of this step, the first being 0."""
        step = ops.cast(step, "float32")
        warm = (step + 1.0) / max(1, self.warmup_steps + 1)
        return self.peak * ops.minimum(warm, 1.0) * self._decay(step)

    def _decay(self, step: Any) -> Any:
        """Return the fraction of the peak after the warm-up."""
        if self.shape == "step":
            decay = ops.ones_like(step)
            for milestone in self.milestones:
                # Compared in whole steps, so that rounding never moves a milestone.
                decay *= ops.where(step >= math.ceil(milestone * self.total_steps), self.drop, 1.0)
            return decay
        progress = (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
        progress = ops.clip(progress, 0.0, 1.0)
        if self.shape == "poly":
            decay = ops.power(1.0 - progress, self.power)
        elif self.shape == "cosine":
            decay = _half_cosine(progress)
        else:
            decay = ops.ones_like(progress)
        return self.final_fraction + (1.0 - self.final_fraction) * decay

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {
            "peak": self.peak,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "shape": self.shape,
            "power": self.power,
            "final_fraction": self.final_fraction,
            "milestones": self.milestones,
            "drop": self.drop,
        }


@keras.saving.register_keras_serializable("segzoo")
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """One-cycle schedule with cosine annealing: Smith and Topin, "Super-Convergence" (2018).

    In PyTorch's form, with two phases; the momentum is not cycled.

    Args:
        peak: largest learning rate.
        total_steps: steps of the whole run.
        rise: fraction of the run in which the rate climbs, between 0 and 1.
        start_fraction: rate of the first step, as a fraction of the peak.
        final_fraction: rate of the last step, as a fraction of the peak.
    """

    def __init__(
        self,
        peak: float,
        total_steps: int,
        rise: float = 0.3,
        start_fraction: float = 0.04,
        final_fraction: float = 0.0,
    ):
        super().__init__()
        self.peak = peak
        self.total_steps = total_steps
        self.rise = rise
        self.start_fraction = start_fraction
        self.final_fraction = final_fraction

    def __call__(self, step: Any) -> Any:
        """Learning rate of this step, the first being 0."""
        step = ops.cast(step, "float32")
        top = self.rise * self.total_steps - 1.0  # the step at the peak; need not be whole
        up = ops.clip(step / max(top, 1e-6), 0.0, 1.0)
        down = ops.clip((step - top) / max(self.total_steps - 1.0 - top, 1e-6), 0.0, 1.0)
        low = ops.where(step < top, self.start_fraction, self.final_fraction)
        height = ops.where(step < top, 1.0 - _half_cosine(up), _half_cosine(down))
        return self.peak * (low + (1.0 - low) * height)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        names = ("peak", "total_steps", "rise", "start_fraction", "final_fraction")
        return {name: getattr(self, name) for name in names}


def _half_cosine(progress: Any) -> Any:
    """Anneal along a half cosine from 1 at progress 0 to 0 at progress 1."""
    return 0.5 * (1.0 + ops.cos(math.pi * progress))


@keras.saving.register_keras_serializable("segzoo")
class Ramp(keras.optimizers.schedules.LearningRateSchedule):
    """Exponential growth of the learning rate: `start` at step 0, `end` at step `steps` - 1."""

    def __init__(self, start: float, end: float, steps: int):
        super().__init__()
        self.start = start
        self.end = end
        self.steps = steps

    def __call__(self, step: Any) -> Any:
        """Learning rate of this step, the first being 0."""
        progress = ops.cast(step, "float32") / max(1, self.steps - 1)
        return self.start * ops.exp(math.log(self.end / self.start) * progress)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {"start": self.start, "end": self.end, "steps": self.steps}
