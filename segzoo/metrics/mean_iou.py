"""Mean IoU as a Keras metric with an exact, dataset-wide state."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from segzoo.errors import DataError
from segzoo.metrics.confusion import ConfusionMatrix

# Counts are kept in base 2^24: `low` holds the last digit of each, `high` the rest. JAX has no int64 by
# default and a plain int32 overflows at 2^31 pixels, which a Cityscapes validation set (10^9 pixels) is close
# to. The digit is smaller than it need be, so that 127 replicas' digits can be summed in int32 when a
# distribution strategy reads them.
_BASE = 2**24


@keras.saving.register_keras_serializable("segzoo")
class MeanIoU(keras.metrics.Metric):
    """Mean IoU over the classes that occur in target or prediction, from one matrix of all pixels seen.

    The same as `ConfusionMatrix.mean_iou` up to float32 rounding, whatever the batch size; the exact counts
    and the figures per class come from `confusion_matrix()`. The state is exact to 2^55 pixels on every
    backend, as long as one batch has fewer than 2^24 (4096 x 4096) pixels on torch, whose `segment_sum` adds
    in float32, or 2^30 elsewhere.

    A graph cannot raise on labels that are neither a class nor the ignore index, so they are counted apart:
    from the first one on the result is NaN, and `confusion_matrix()` raises.

    Args:
        classes: number of classes C, at least 2.
        ignore_index: label of the target pixels that are not counted, or None.
        name: name of the metric.
        dtype: dtype of the result, float32 unless told.
    """

    def __init__(
        self,
        classes: int,
        ignore_index: int | None = None,
        name: str | None = "mean_iou",
        dtype: Any = None,
    ):
        super().__init__(name=name, dtype=dtype or "float32")
        if classes < 2:
            raise ValueError(f"MeanIoU needs at least 2 classes, not {classes}.")
        self.classes = int(classes)
        self.ignore_index = None if ignore_index is None else int(ignore_index)
        # C * C cells, then one for pixels whose label or prediction is no class.
        shape = (self.classes**2 + 1,)
        self.low = self.add_variable(shape, "zeros", dtype="int32", name="low")
        self.high = self.add_variable(shape, "zeros", dtype="int32", name="high")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count a batch.

        Args:
            y_true: integer labels (B, H, W) or (B, H, W, 1).
            y_pred: logits or probabilities (B, H, W, C), or a class map (B, H, W) or (B, H, W, 1).
            sample_weight: must be None; pixels are counted, and a count has no weight.

        Raises:
            ValueError: shapes other than these, or a sample_weight.
        """
        if sample_weight is not None:
            raise ValueError("MeanIoU counts pixels and takes no sample_weight: use `metrics`, not `weighted_metrics`.")
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        target = ops.cast(_without_channel(y_true), "int32")
        if len(y_pred.shape) == 4 and y_pred.shape[-1] == self.classes:
            predicted = ops.cast(ops.argmax(y_pred, axis=-1), "int32")
        else:
            predicted = ops.cast(_without_channel(y_pred), "int32")
        pairs = zip(target.shape, predicted.shape, strict=False)
        if not len(target.shape) == len(predicted.shape) == 3 or any(a != b for a, b in pairs if a and b):
            raise ValueError(
                f"Labels must be (B, H, W) and predictions (B, H, W, {self.classes}) or (B, H, W); "
                f"got {tuple(y_true.shape)} and {tuple(y_pred.shape)}."
            )
        self._add(target, predicted)

    def _add(self, target: Any, predicted: Any) -> None:
        """Add int32 class maps (B, H, W) to the state."""
        cells = self.classes**2
        known = (target >= 0) & (target < self.classes) & (predicted >= 0) & (predicted < self.classes)
        cell = ops.where(known, target * self.classes + predicted, cells)
        if self.ignore_index is not None:
            cell = ops.where(ops.equal(target, self.ignore_index), cells + 1, cell)
        cell = ops.reshape(cell, (-1,))
        # Not ops.bincount: it cannot be compiled by XLA, neither on TensorFlow nor on JAX.
        counts = ops.segment_sum(ops.ones_like(cell), cell, num_segments=cells + 2)
        low = self.low + counts[: cells + 1]
        self.high.assign(self.high + low // _BASE)
        self.low.assign(low % _BASE)

    def result(self) -> Any:
        """Return the mean IoU as a scalar; NaN where nothing was counted or a label was no class."""
        counts = ops.cast(self.high, "float32") * _BASE + ops.cast(self.low, "float32")
        matrix = ops.reshape(counts[:-1], (self.classes, self.classes))
        hits = ops.diagonal(matrix)
        union = ops.sum(matrix, axis=0) + ops.sum(matrix, axis=1) - hits
        present = ops.cast(union > 0, "float32")
        mean = ops.divide_no_nan(ops.sum(ops.divide_no_nan(hits, union)), ops.sum(present))
        defined = (ops.sum(present) > 0) & ops.equal(counts[-1], 0)
        return ops.cast(ops.where(defined, mean, float("nan")), self.dtype)

    def confusion_matrix(self) -> ConfusionMatrix:
        """Return the exact counts so far, for figures per class.

        Raises:
            DataError: labels or predictions that are no class were seen.
        """
        low, high = (ops.convert_to_numpy(digits).astype(np.int64) for digits in (self.low, self.high))
        counts = high * _BASE + low
        if counts[-1]:
            raise DataError(
                f"{counts[-1]} pixels have a label or prediction that is neither a class (0 to {self.classes - 1}) "
                f"nor the ignore index ({self.ignore_index}). `segzoo check-data` names the files."
            )
        return ConfusionMatrix(self.classes, self.ignore_index, counts[:-1].reshape(self.classes, self.classes))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the metric."""
        return {**super().get_config(), "classes": self.classes, "ignore_index": self.ignore_index}


def _without_channel(labels: Any) -> Any:
    """Return (B, H, W, 1) as (B, H, W), anything else as it is."""
    if len(labels.shape) == 4 and labels.shape[-1] == 1:
        return ops.squeeze(labels, axis=-1)
    return labels
