"""Which classes an image holds: the loss of a classification head beside the segmentation."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from segzoo.losses.base import Mode, split_distances


@keras.saving.register_keras_serializable("segzoo")
class ClassPresence(keras.losses.Loss):
    """Binary cross-entropy between logits `(B, C)` and the classes that each mask holds; a mean over both.

    Source: the semantic encoding loss of Zhang et al., "Context Encoding for Semantic Segmentation" (2018), which they
    weigh by 0.2. Ignored pixels count for no class.

    Args:
        ignore_index: label of the pixels that take no part, or None.
        mode: "multiclass": masks of class indices; "binary": of 0 and 1, with C = 1; "multilabel": `(B, H, W, C)`.
        distances: whether C channels of signed distances stand behind the mask's own, as for `Boundary`.
        name: name of the loss.
        dtype: dtype to compute in, float32 unless told.
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

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each image, `(B,)`.

        Args:
            y_true: masks `(B, H, W)` or `(B, H, W, 1)`, multilabel `(B, H, W, C)`; with `distances` as
                `segzoo.data.with_distances` makes them.
            y_pred: logits `(B, C)`.

        Raises:
            ValueError: masks of other shapes, or other than one logit in binary mode.
        """
        classes = y_pred.shape[-1]
        if self.mode == "binary" and classes != 1:
            raise ValueError(f"ClassPresence needs one logit in binary mode, not {classes}.")
        if self.distances:
            y_true, _ = split_distances(y_true, classes, self.mode)
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
        return keras.losses.binary_crossentropy(truth, y_pred, from_logits=True)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the loss."""
        return {
            "ignore_index": self.ignore_index,
            "mode": self.mode,
            "name": self.name,
            "dtype": self.dtype,
            "distances": self.distances,
        }


def _check_masks(masks: Any, form: str, ranks: tuple[int, ...], channels: int, classes: int) -> None:
    """Raise ValueError unless masks are of the form; one-hot ones would be read as the labels of their channel 0."""
    shape = tuple(masks.shape)
    if len(shape) not in ranks or (len(shape) == 4 and shape[-1] != channels):
        raise ValueError(
            f"ClassPresence takes masks {form} for {classes} logits, not {shape}. Turn one-hot masks into class "
            "indices (argmax), and give distances=True where signed distances stand behind the mask."
        )
