"""Sums over the replicas of a distributed step, so that a loss is that of the whole batch and not a mean of parts.

A replica of `tf.distribute` sees its share of the batch only. The mean of the replicas' ratios is not the ratio of the
whole: a replica with few valid pixels would count as much as a full one, and a Dice coefficient of half a batch is not
half of the batch's. So every loss hands its sums through here, which are then the same on all replicas. Elsewhere these
functions return what they are given: on JAX a distributed step is one program over the whole batch.

Both have the gradients of sums and copies over replicas. With the loss divided by their number on each, as Keras does,
and the gradients added up, as its optimizers do, the update is that of the whole batch on one device.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


def ratio_of_sums(numerator: Any, denominator: Any) -> Any:
    """Return the sum of `numerator` over that of `denominator`, each over all elements and replicas; 0 for 0 / 0."""
    numerator, denominator = replica_sum([ops.sum(numerator), ops.sum(denominator)])
    return ops.divide_no_nan(numerator, denominator)


def replica_sum(value: Any) -> Any:
    """Return the sum of a tensor, or of each in a list, over all replicas."""
    replicas = _replicas()
    if replicas is None:
        return value
    import tensorflow as tf

    return replicas.all_reduce(tf.distribute.ReduceOp.SUM, value)


def replica_concatenation(value: Any) -> Any:
    """Return all replicas' tensors, joined along the first axis: for what no sum can stand for, such as an order."""
    replicas = _replicas()
    return value if replicas is None else replicas.all_gather(value, axis=0)


def replica_count() -> int:
    """Return how many replicas share the step: 1 where there is no distribution or it divides no program."""
    replicas = _replicas()
    return 1 if replicas is None else replicas.num_replicas_in_sync


def _replicas() -> Any:
    """Return the replica context if there are several replicas; else None."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return context if context is not None and context.num_replicas_in_sync > 1 else None
