"""Stop of the training at a loss that is not finite."""

from __future__ import annotations

import math
from typing import Any

from segzoo.engine.callbacks.base import RunCallback
from segzoo.engine.checkpoint.state import NotFiniteError


class NanGuard(RunCallback):
    """Raises `NotFiniteError` at the first step whose mean loss is NaN or infinite."""

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Check the mean loss of the epoch so far."""
        loss = self.progress.losses["loss"]
        if not math.isfinite(loss):
            raise NotFiniteError(f"The loss became {loss}")
