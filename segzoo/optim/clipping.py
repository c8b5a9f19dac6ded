"""Gradient clipping over the whole batch under `tf.distribute`, where each replica holds a part of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from segzoo.losses.replicas import replica_count, replica_sum


class WholeClipping:
    """Mixin for a Keras optimizer, which under `tf.distribute` would clip each replica's part before the sum."""

    clipnorm: float | None
    global_clipnorm: float | None
    clipvalue: float | None

    def _clip_gradients(self, grads: Sequence[Any]) -> Sequence[Any]:
        replicas = replica_count()
        if replicas == 1 or not (self.clipnorm or self.global_clipnorm or self.clipvalue):
            return super()._clip_gradients(grads)  # type: ignore[misc]
        clipped = super()._clip_gradients(replica_sum(list(grads)))  # type: ignore[misc]
        # Every replica has the whole now, and the update adds up what they hand on.
        return [gradient / replicas for gradient in clipped]
