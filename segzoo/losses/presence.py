"""Class presence: the loss of an image-level classification head beside the segmentation."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from segzoo.losses.base import Loss, split_distances
from segzoo.losses.held_classes import held_classes
from segzoo.task import Mode


@keras.saving.register_keras_serializable("segzoo")
class ClassPresence(Loss):
    """Binary cross-entropy between logits `(B, C)` and the classes that each mask holds; a mean over both.

    Source: the semantic encoding loss of Zhang et al., "Context Encoding for Semantic Segmentation" (2018), which they
    weigh by 0.2. Ignored pixels count for no class. A run gives it the classes that `make_target` finds, `(B, C)`; it
    finds them itself in masks.

    Args:
        ignore_index: label of the pixels excluded from the loss, or None.
        mode: "multiclass": masks of class indices; "binary": of 0 and 1, with C = 1; "multilabel": `(B, H, W, C)`.
        distances: whether signed distances stand behind the mask's own channels, as `segzoo.data.with_distances` makes
            them; where its mark is missing the loss is NaN.
        name: name of the loss.
        dtype: dtype of the computation, float32 by default.
    """

    def __init__(
        self,
        ignore_index: int | None = None,
        mode: Mode = "multiclass",
        name: str | None = None,
        dtype: Any = None,
        distances: bool = False,
    ):
        super().__init__(name=name, reduction="sum_over_batch_size", dtype=dtype or "float32")
        self.ignore_index = ignore_index
        self.mode = mode
        self.distances = bool(distances)

    def make_target(self, mask: np.ndarray, classes: int) -> np.ndarray:
        """Return which classes a mask holds, `(C,)` float32; see `held_classes`."""
        return held_classes(mask, classes, self.ignore_index, self.mode)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each image, `(B,)`.

        Args:
            y_true: classes `(B, C)`, 0..1, as `make_target` finds them; or masks `(B, H, W)` or `(B, H, W, 1)`,
                multilabel `(B, H, W, C)`, with `distances` as `segzoo.data.with_distances` makes them.
            y_pred: logits `(B, C)`.

        Raises:
            ValueError: masks of other shapes, or other than one logit in binary mode.
        """
        classes = y_pred.shape[-1]
        if self.mode == "binary" and classes != 1:
            raise ValueError(f"ClassPresence needs one logit in binary mode, not {classes}.")
        if len(y_true.shape) == 2:
            if y_true.shape[-1] != classes:
                raise ValueError(f"ClassPresence was given {y_true.shape[-1]} classes for {classes} logits.")
            truth = ops.cast(y_true, y_pred.dtype)
            return keras.losses.binary_crossentropy(truth, y_pred, from_logits=True)
        unmarked: Any = 0.0
        if self.distances:
            y_true, distances = split_distances(y_true, classes, self.mode)
            missing = ops.any(ops.isnan(distances), axis=(1, 2, 3))
            unmarked = ops.where(missing, float("nan"), ops.zeros((), y_pred.dtype))
        if self.mode == "multilabel":
            _check_masks(y_true, "(B, H, W, C)", (4,), classes, classes)
            shown = ops.cast(y_true, "int32") == 1
        else:
            _check_masks(y_true, "(B, H, W) or (B, H, W, 1)", (3, 4), 1, classes)
            labels = ops.cast(y_true if len(y_true.shape) == 4 else y_true[..., None], "int32")
            shown = labels == ops.arange(*((classes,) if self.mode == "multiclass" else (1, 2)), dtype="int32")
            if self.ignore_index is not None:
                shown = shown & (labels != self.ignore_index)
        truth = ops.cast(ops.any(shown, axis=(1, 2)), y_pred.dtype)
        return keras.losses.binary_crossentropy(truth, y_pred, from_logits=True) + unmarked


def _check_masks(masks: Any, form: str, ranks: tuple[int, ...], channels: int, classes: int) -> None:
    """Raise ValueError unless masks are of the form; one-hot ones would be read as the labels of their channel 0."""
    shape = tuple(masks.shape)
    if len(shape) not in ranks or (len(shape) == 4 and shape[-1] != channels):
        raise ValueError(
            f"ClassPresence takes masks {form} for {classes} logits, not {shape}. Turn one-hot masks into class "
            "indices (argmax), and give distances=True where signed distances stand behind the mask."
        )
