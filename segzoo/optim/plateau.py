"""Learning-rate factor that is reduced when the validation score reaches a plateau."""

from __future__ import annotations

from typing import Any

import keras

from segzoo.keras_compat import schedule_of


class PlateauFactor(keras.optimizers.schedules.LearningRateSchedule):
    """Schedule multiplied by a variable factor, which starts at 1.

    Args:
        schedule: function of the step.
        factor: a scalar variable. It is one of the optimizer's (`of`), so that it is saved, restored and, on JAX,
            handed to the compiled step with the others.
    """

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule, factor: keras.Variable):
        super().__init__()
        self.schedule = schedule
        self.factor = factor

    @classmethod
    def of(cls, optimizer: keras.optimizers.Optimizer) -> PlateauFactor:
        """Wrap the schedule of an optimizer that is not built yet."""
        factor = keras.Variable(1.0, name="plateau_factor", trainable=False)
        optimizer.plateau_factor = factor  # an attribute that is a variable is among `optimizer.variables`
        reduced = cls(schedule_of(optimizer), factor)
        optimizer.learning_rate = reduced
        return reduced

    def __call__(self, step: Any) -> Any:
        """Return the learning rate of this step."""
        return self.schedule(step) * keras.ops.convert_to_tensor(self.factor)

    def lower(self, factor: float, floor: float) -> float:
        """Multiply the factor by `factor`, bounded below by `floor`; return the new value."""
        now = max(floor, float(keras.ops.convert_to_numpy(self.factor)) * factor)
        self.factor.assign(now)
        return now
