"""Gradient clipping over the whole batch under `tf.distribute`, where each replica holds a part of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from segzoo.keras_compat import UpdateHooks
from segzoo.losses.replicas import replica_count, replica_sum


class WholeClipping(UpdateHooks):
    """Mixin for a Keras optimizer, which under `tf.distribute` would clip each replica's part before the sum."""

    clipnorm: float | None
    global_clipnorm: float | None
    clipvalue: float | None

    def clip_gradients(self, grads: Sequence[Any]) -> Sequence[Any]:
        """Clip the gradient of the whole batch."""
        replicas = replica_count()
        if replicas == 1 or not (self.clipnorm or self.global_clipnorm or self.clipvalue):
            return super().clip_gradients(grads)
        clipped = super().clip_gradients(replica_sum(list(grads)))
        # Every replica has the whole now, and the update adds up what they hand on.
        return [gradient / replicas for gradient in clipped]
