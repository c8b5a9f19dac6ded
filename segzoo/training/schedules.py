"""Learning rates as functions of the step."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("segzoo")
class WarmUpDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up (Goyal et al., 2017), then polynomial, cosine or no decay.

    Args:
        peak: learning rate after the warm-up.
        total_steps: steps of the whole run; the decay ends there.
        warmup_steps: steps of the warm-up; step n of them has n + 1 parts of the peak, so none is wasted at zero.
        shape: "poly" (Chen et al., 2017: `(1 - progress) ** power`), "cosine" (Loshchilov and Hutter, 2017) or
            "constant".
        power: exponent of "poly".
        final_fraction: learning rate at the end, as a fraction of the peak.
    """

    def __init__(
        self,
        peak: float,
        total_steps: int,
        warmup_steps: int = 0,
        shape: str = "poly",
        power: float = 0.9,
        final_fraction: float = 0.0,
    ):
        super().__init__()
        if shape not in ("poly", "cosine", "constant"):
            raise ValueError(f"shape must be 'poly', 'cosine' or 'constant', got {shape!r}.")
        self.peak = peak
        self.total_steps = total_steps
        self.warmup_steps = min(warmup_steps, total_steps - 1)
        self.shape = shape
        self.power = power
        self.final_fraction = final_fraction

    def __call__(self, step: Any) -> Any:
        """Learning rate of this step, the first being 0."""
        step = ops.cast(step, "float32")
        warm = (step + 1.0) / max(1, self.warmup_steps + 1)
        progress = (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
        progress = ops.clip(progress, 0.0, 1.0)
        if self.shape == "poly":
            decay = ops.power(1.0 - progress, self.power)
        elif self.shape == "cosine":
            decay = 0.5 * (1.0 + ops.cos(3.141592653589793 * progress))
        else:
            decay = ops.ones_like(progress)
        decay = self.final_fraction + (1.0 - self.final_fraction) * decay
        return self.peak * ops.minimum(warm, 1.0) * decay

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {
            "peak": self.peak,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "shape": self.shape,
            "power": self.power,
            "final_fraction": self.final_fraction,
        }
