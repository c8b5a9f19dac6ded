"""Which classes an image holds: the loss of a classification head beside the segmentation."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from segzoo.losses.base import Mode


@keras.saving.register_keras_serializable("segzoo")
class ClassPresence(keras.losses.Loss):
    """Binary cross-entropy between logits `(B, C)` and the classes that each mask holds; a mean over both.

    Source: the semantic encoding loss of Zhang et al., "Context Encoding for Semantic Segmentation" (2018), which they
    weigh by 0.2. Ignored pixels count for no class.

    Args:
        ignore_index: label of the pixels that take no part, or None.
        mode: "multiclass": masks of class indices; "binary": of 0 and 1, with C = 1; "multilabel": `(B, H, W, C)`.
        distances: whether signed distances follow the masks' own channels, see `PixelLoss`.
        name: name of the loss.
        dtype: dtype to compute in, float32 unless told.
    """

    def __init__(
        self,
        ignore_index: int | None = None,
        mode: Mode = "multiclass",
        distances: bool = False,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(name=name, reduction="sum_over_batch_size", dtype=dtype or "float32")
        self.ignore_index = ignore_index
        self.mode = mode
        self.distances = distances

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each image, `(B,)`.

        Args:
            y_true: masks `(B, H, W)` or `(B, H, W, 1)`, in multilabel mode `(B, H, W, C)`; with `distances` as
                `segzoo.data.with_distances` makes them, with C more channels behind.
            y_pred: logits `(B, C)`.

        Raises:
            ValueError: masks of another shape, such as one-hot classes.
        """
        classes = y_pred.shape[-1]
        own = classes if self.mode == "multilabel" else 1
        wanted = own + classes if self.distances else own
        plain = len(y_true.shape) == 3 and self.mode != "multilabel" and not self.distances
        if not plain and (len(y_true.shape) != 4 or y_true.shape[-1] != wanted):
            raise ValueError(
                f"Masks of {self.mode} mode are (B, H, W, {wanted}){' or (B, H, W)' if wanted == 1 else ''} for logits "
                f"{tuple(y_pred.shape)}; got {tuple(y_true.shape)}."
            )
        if self.mode == "multilabel":
            shown = ops.cast(y_true[..., :classes], "int32") == 1
        else:
            labels = ops.cast(y_true if len(y_true.shape) == 3 else y_true[..., 0], "int32")[..., None]
            shown = labels == ops.arange(*((classes,) if self.mode == "multiclass" else (1, 2)), dtype="int32")
            if self.ignore_index is not None:
                shown = shown & (labels != self.ignore_index)
        truth = ops.cast(ops.any(shown, axis=(1, 2)), y_pred.dtype)
        return keras.losses.binary_crossentropy(truth, y_pred, from_logits=True)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the loss."""
        own = {"ignore_index": self.ignore_index, "mode": self.mode, "distances": self.distances}
        return {**own, "name": self.name, "dtype": self.dtype}
