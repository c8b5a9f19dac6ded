"""Mean IoU as a Keras metric with an exact, dataset-wide state."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from segzoo.errors import DataError
from segzoo.losses.base import split_distances
from segzoo.metrics.confusion import ConfusionMatrix, MultilabelCounts
from segzoo.task import Mode

# Counts are kept in base 2^24: `low` holds the last digit of each, `high` the rest. JAX has no int64 by
# default and a plain int32 overflows at 2^31 pixels, which a Cityscapes validation set (10^9 pixels) is close
# to. The digit is smaller than it need be, so that 127 replicas' digits can be summed in int32 when a
# distribution strategy reads them.
_BASE = 2**24


@keras.saving.register_keras_serializable("segzoo")
class MeanIoU(keras.metrics.Metric):
    """Mean IoU over the classes that occur in target or prediction, from one confusion matrix of all pixels.

    The same as that of `ConfusionMatrix`, or in binary and multilabel mode `MultilabelCounts`, up to float32 rounding,
    whatever the batch size; the exact counts and the figures per class come from `exact()`. The state is exact to 2^55
    pixels on every backend, as long as one batch has fewer than 2^24 (4096 x 4096) pixels on torch, whose `segment_sum`
    adds in float32, or 2^30 elsewhere.

    A graph cannot raise on labels that are neither a class nor the ignore index, so they are counted apart:
    from the first one on the result is NaN, and `exact()` raises.

    Args:
        classes: number of classes C: at least 2 in multiclass mode, 1 in binary mode.
        ignore_index: label or value of the target that is not counted, or None.
        mode: "multiclass", "binary" (the IoU of the one class) or "multilabel", as in `segzoo.losses`.
        threshold: in binary and multilabel mode, the logit above which a class is predicted.
        name: name of the metric.
        dtype: dtype of the result, float32 by default.
        distances: whether signed distances, which the boundary loss takes, stand behind the target's own channels, as
            `segzoo.data.with_distances` makes them; they are left alone. Pixels without its mark count as no class.

    Raises:
        ValueError: an unknown mode, or a number of classes that it does not support.
    """

    def __init__(
        self,
        classes: int,
        ignore_index: int | None = None,
        mode: Mode = "multiclass",
        threshold: float = 0.0,
        name: str | None = "mean_iou",
        dtype: Any = None,
        distances: bool = False,
    ):
        super().__init__(name=name, dtype=dtype or "float32")
        least = {"multiclass": 2, "binary": 1, "multilabel": 1}
        if mode not in least:
            raise ValueError(f"MeanIoU has no mode {mode!r}; it has {', '.join(least)}.")
        if classes < least[mode] or (mode == "binary" and classes != 1):
            wanted = "1 class" if mode == "binary" else f"at least {least[mode]} classes"
            raise ValueError(f"MeanIoU needs {wanted} in {mode} mode, not {classes}.")
        self.classes = int(classes)
        self.ignore_index = None if ignore_index is None else int(ignore_index)
        self.mode: Mode = mode
        self.threshold = float(threshold)
        self.distances = bool(distances)
        # By target and prediction: C * C cells, or 2 * 2 for each class. One more for what is no class.
        self.cells = self.classes**2 if mode == "multiclass" else 4 * self.classes
        shape = (self.cells + 1,)
        self.low = self.add_variable(shape, "zeros", dtype="int32", name="low")
        self.high = self.add_variable(shape, "zeros", dtype="int32", name="high")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count a batch.

        Args:
            y_true: integer labels (B, H, W) or (B, H, W, 1); in multilabel mode 0 and 1, (B, H, W, C). With
                `distances` as `segzoo.data.with_distances` makes them.
            y_pred: logits (B, H, W, C); in multiclass mode also probabilities, or an integer class map (B, H, W) or
                (B, H, W, 1).
            sample_weight: must be None; pixels are counted, and a count has no weight.

        Raises:
            ValueError: invalid shapes, a class map that is not of integer type, or a sample_weight.
        """
        if sample_weight is not None:
            raise ValueError("MeanIoU counts pixels and takes no sample_weight: use `metrics`, not `weighted_metrics`.")
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        target = self._without_distances(y_true) if self.distances else y_true
        if self.mode == "multiclass":
            target, predicted = _without_channel(target), self._class_map(y_pred)
            allowed = f"(B, H, W) and predictions (B, H, W, {self.classes}) or (B, H, W)"
            channels = []
        else:
            target = target[..., None] if self.classes == 1 and len(target.shape) == 3 else target
            predicted = y_pred > self.threshold
            allowed = f"(B, H, W, {self.classes}) and logits of the same shape"
            channels = [(self.classes, self.classes)]
        pairs = list(zip(target.shape, predicted.shape, strict=False))
        fits = len(target.shape) == len(predicted.shape) == 3 + len(channels) and pairs[3:] == channels
        if not fits or any(a != b for a, b in pairs if None not in (a, b)):
            raise ValueError(
                f"Labels must be {allowed}; got {tuple(y_true.shape)} and {tuple(y_pred.shape)}. Turn one-hot labels "
                "into class indices (argmax; for a binary model the channel of the object), and give distances=True "
                "where signed distances stand behind the labels."
            )
        if any(None in pair for pair in pairs):
            target = ops.reshape(target, ops.shape(predicted))  # fails where sizes differ, and does not broadcast
        self._add(ops.cast(target, "int32"), ops.cast(predicted, "int32"))

    def _without_distances(self, y_true: Any) -> Any:
        """Return the target's own channels: no class where the mark of distances is missing."""
        target, distances = split_distances(y_true, self.classes, self.mode)
        no_class = -1 if self.ignore_index != -1 else -2
        return ops.where(ops.isnan(distances[..., :1]), no_class, ops.cast(target, "int32"))

    def _class_map(self, y_pred: Any) -> Any:
        """Return predictions of multiclass mode as a class map, (B, H, W) where their shape is one of those allowed."""
        if len(y_pred.shape) == 4 and y_pred.shape[-1] == self.classes:
            return ops.argmax(y_pred, axis=-1)
        if "float" in keras.backend.standardize_dtype(y_pred.dtype):
            raise ValueError(
                f"Predictions {tuple(y_pred.shape)} of {keras.backend.standardize_dtype(y_pred.dtype)} are neither "
                f"logits (B, H, W, {self.classes}) nor a class map of integers. A model with a single logit needs "
                'MeanIoU(1, mode="binary").'
            )
        return _without_channel(y_pred)

    def _add(self, target: Any, predicted: Any) -> None:
        """Add int32 class maps (B, H, W), or maps of 0 and 1 (B, H, W, C), to the state."""
        kinds = self.classes if self.mode == "multiclass" else 2
        known = (target >= 0) & (target < kinds) & (predicted >= 0) & (predicted < kinds)
        cell = target * kinds + predicted
        if self.mode != "multiclass":
            cell = cell + 4 * ops.arange(self.classes, dtype="int32")
        cell = ops.where(known, cell, self.cells)
        if self.ignore_index is not None:
            cell = ops.where(ops.equal(target, self.ignore_index), self.cells + 1, cell)
        cell = ops.reshape(cell, (-1,))
        # Not ops.bincount: it cannot be compiled by XLA, neither on TensorFlow nor on JAX.
        counts = ops.segment_sum(ops.ones_like(cell), cell, num_segments=self.cells + 2)
        low = self.low + counts[: self.cells + 1]
        self.high.assign(self.high + low // _BASE)
        self.low.assign(low % _BASE)

    def result(self) -> Any:
        """Return the mean IoU as a scalar; NaN where nothing was counted or a label was no class."""
        counts = ops.cast(self.high, "float32") * _BASE + ops.cast(self.low, "float32")
        if self.mode == "multiclass":
            matrix = ops.reshape(counts[:-1], (self.classes, self.classes))
            hits = ops.diagonal(matrix)
            union = ops.sum(matrix, axis=0) + ops.sum(matrix, axis=1) - hits
        else:
            matrix = ops.reshape(counts[:-1], (self.classes, 4))
            hits, union = matrix[:, 3], ops.sum(matrix[:, 1:], axis=1)
        present = ops.cast(union > 0, "float32")
        mean = ops.divide_no_nan(ops.sum(ops.divide_no_nan(hits, union)), ops.sum(present))
        defined = (ops.sum(present) > 0) & ops.equal(counts[-1], 0)
        return ops.cast(ops.where(defined, mean, float("nan")), self.dtype)

    def exact(self) -> ConfusionMatrix | MultilabelCounts:
        """Return the exact counts so far, for figures per class: a `ConfusionMatrix` in multiclass mode.

        Raises:
            DataError: invalid labels or predictions were seen.
        """
        low, high = (ops.convert_to_numpy(digits).astype(np.int64) for digits in (self.low, self.high))
        counts = high * _BASE + low
        if counts[-1]:
            classes = f"a class (0 to {self.classes - 1})" if self.mode == "multiclass" else "0 or 1"
            raise DataError(
                f"{counts[-1]} pixels have a label or prediction that is neither {classes} nor the ignore index "
                f"({self.ignore_index}). `segzoo check-data` names the files."
            )
        if self.mode == "multiclass":
            return ConfusionMatrix(self.classes, self.ignore_index, counts[:-1].reshape(self.classes, self.classes))
        return MultilabelCounts(self.classes, self.ignore_index, counts[:-1].reshape(self.classes, 2, 2))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the metric."""
        return {
            **super().get_config(),
            "classes": self.classes,
            "ignore_index": self.ignore_index,
            "mode": self.mode,
            "threshold": self.threshold,
            "distances": self.distances,
        }


def _without_channel(labels: Any) -> Any:
    """Return (B, H, W, 1) as (B, H, W), anything else as it is."""
    if len(labels.shape) == 4 and labels.shape[-1] == 1:
        return ops.squeeze(labels, axis=-1)
    return labels
