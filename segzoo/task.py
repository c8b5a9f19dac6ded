"""The task of a segmentation model: its classes, whether they overlap, and the label that nothing counts."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, ParamSpec, TypeVar, get_args

import numpy as np

Mode = Literal["multiclass", "binary", "multilabel"]
MODES: tuple[Mode, ...] = get_args(Mode)

_P = ParamSpec("_P")
_R = TypeVar("_R")


@dataclass(frozen=True)
class Task:
    """Definition of what is segmented, from which the shapes and values of masks, logits and predictions follow.

    Attributes:
        classes: class names; the index of a name is its label, or in multilabel its channel.
        ignore_index: the value of mask pixels that count in no loss and no metric.
        mode: "multiclass": each pixel is of one class, masks (B, H, W) of labels, a softmax over the logits;
            "binary": the same for two classes, with a single logit and a sigmoid; "multilabel": classes may overlap,
            masks (B, H, W, C) of 0 and 1, a sigmoid for each.

    Raises:
        ValueError: another mode.
    """

    classes: tuple[str, ...]
    ignore_index: int = 255
    mode: Mode = "multiclass"

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, not {self.mode!r}.")

    @property
    def multilabel(self) -> bool:
        """True where classes may overlap."""
        return self.mode == "multilabel"

    @property
    def channels(self) -> int:
        """Number of channels of the logits: one for each class, in binary mode a single one."""
        return 1 if self.mode == "binary" else len(self.classes)

    @property
    def largest_label(self) -> int:
        """Largest value of a mask that is not the ignore index: the last class, or in multilabel 1."""
        return 1 if self.multilabel else len(self.classes) - 1

    @property
    def dtype(self) -> np.dtype:
        """Smallest dtype that holds every label and the ignore index; unsigned unless that is negative."""
        if self.ignore_index < 0:  # not int8, which OpenCV cannot warp
            return np.result_type(*map(np.min_scalar_type, (len(self.classes) - 1, self.ignore_index)), np.int16)
        return np.min_scalar_type(max(len(self.classes) - 1, self.ignore_index))

    def mask_shape(self, *places: int) -> tuple[int, ...]:
        """Return the shape of masks over these places, such as (B, H, W): the same, in multilabel with the classes."""
        return (*places, len(self.classes)) if self.multilabel else places

    def predict(self, logits: Any) -> Any:
        """Return the predicted labels of logits (..., C); see `predict_classes`."""
        return predict_classes(logits, self.mode)

    def probabilities(self, logits: Any) -> Any:
        """Convert logits (..., C) to float32 probabilities of the classes (..., classes), a tensor of Keras's backend.

        They add up to 1 unless classes may overlap. A single logit, of binary mode, becomes the two of its classes.
        """
        from keras import ops

        if self.multilabel:
            return ops.sigmoid(ops.cast(logits, "float32"))
        return ops.softmax(ops.cast(class_logits(logits), "float32"), axis=-1)


def array_probabilities(logits: np.ndarray, mode: Mode = "multiclass") -> np.ndarray:
    """Convert logits (..., C) to float32 probabilities of the classes (..., classes); `Task.probabilities` in NumPy.

    Neither overflows, and small probabilities keep their precision.
    """
    if mode == "multilabel":
        below = np.exp(-np.abs(logits, dtype=np.float32))
        return np.where(logits < 0, below, 1) / (1 + below)
    logits = class_logits(logits)
    raised = np.exp(np.subtract(logits, logits.max(axis=-1, keepdims=True), dtype=np.float32))
    return raised / raised.sum(axis=-1, keepdims=True)


def threshold_count(mode: Mode, classes: int) -> int:
    """Return the number of thresholds: one in binary mode, one for each class in multilabel, else none."""
    return {"multiclass": 0, "binary": 1, "multilabel": classes}[mode]


def cuts_of(thresholds: Sequence[float]) -> np.ndarray:
    """Convert thresholds of probabilities, above 0 and below 1, to those of logits, float32: their inverse sigmoids."""
    found = np.asarray(thresholds, np.float64)
    return (np.log(found) - np.log1p(-found)).astype(np.float32)


def class_logits(logits: Any) -> Any:
    """Return logits (..., C) as they are, and (..., 1) as (..., 2) with 0 for the rest.

    The softmax of (0, z) is the sigmoid of z, and its larger one the class where z is above 0: so what follows (class
    maps, probabilities, comparisons) needs no case of its own for binary models.

    Args:
        logits: a NumPy array or a tensor of Keras's backend.
    """
    if logits.shape[-1] != 1:
        return logits
    if isinstance(logits, np.ndarray):
        return np.concatenate([np.zeros_like(logits), logits], axis=-1)
    from keras import ops

    return ops.concatenate([ops.zeros_like(logits), logits], axis=-1)


def takes_multilabel(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let a function with an argument `mode` take the `multilabel` of segzoo 0.1.0, with a DeprecationWarning."""

    @functools.wraps(function)
    def with_multilabel(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        if "multilabel" in kwargs:
            message = 'multilabel is deprecated and will be removed; give mode="multilabel".'
            warnings.warn(message, DeprecationWarning, stacklevel=2)
            overlapping = kwargs.pop("multilabel")
            if overlapping:
                kwargs.setdefault("mode", "multilabel")
        return function(*args, **kwargs)

    return with_multilabel


@takes_multilabel
def predict_classes(logits: Any, mode: Mode = "multiclass", thresholds: Sequence[float] | None = None) -> Any:
    """Convert logits (..., C) to predictions: class indices (...), or in multilabel 0 or 1 for each class (..., C).

    The class of a pixel is the one with the largest logit, with a single logit whether it is above 0; in multilabel
    each class is there where its own logit is above 0.

    Args:
        logits: a NumPy array or a tensor of Keras's backend.
        mode: "multiclass", "binary" or "multilabel"; the first two differ by the number of logits alone.
        thresholds: probabilities above which a class is predicted, one for each logit; None: 0.5. Where the largest
            logit decides, in multiclass, there are none.

    Returns:
        NumPy integers, or an int32 tensor.
    """
    overlapping = mode == "multilabel"
    if isinstance(logits, np.ndarray):
        if thresholds is not None:
            logits = logits - cuts_of(thresholds)
        return (logits > 0).astype(np.uint8) if overlapping else class_logits(logits).argmax(axis=-1)
    from keras import ops

    if thresholds is not None:
        logits = ops.subtract(logits, ops.convert_to_tensor(cuts_of(thresholds), logits.dtype))
    return ops.cast(logits > 0 if overlapping else ops.argmax(class_logits(logits), axis=-1), "int32")
