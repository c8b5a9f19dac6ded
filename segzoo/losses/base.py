"""Base classes of losses: modes, target forms, shape checks, the ignore index and per-pixel weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from segzoo.arguments import given_arguments
from segzoo.losses.distances import DISTANCE_MARK
from segzoo.losses.limits import checked_class_weights
from segzoo.losses.replicas import ratio_of_sums
from segzoo.task import MODES, Mode

TARGET_FORMS: dict[Mode, str] = {
    "multiclass": "class indices (B, H, W) or (B, H, W, 1), or one-hot or soft (B, H, W, C)",
    "binary": "(B, H, W) or (B, H, W, 1)",
    "multilabel": "(B, H, W, C)",
}


@dataclass(frozen=True)
class Target:
    """Target of a loss, in one form for all modes; tensors are in the loss's dtype.

    Attributes:
        labels: int32 (B, H, W), multiclass targets given as class indices; at ignored pixels any value.
        values: (B, H, W, C) in 0..1, all other targets; at ignored places 0.
        weights: how much a place counts, 0 where it is ignored; (B, H, W) in multiclass, (B, H, W, C) otherwise. None
            where every place counts 1.
        extra: (B, H, W, `extra_channels`), what the loss's `make_target` puts behind the target's own channels.
    """

    labels: Any | None
    values: Any | None
    weights: Any | None
    extra: Any | None = None

    def shares(self, logits: Any) -> Any:
        """Return the target as (B, H, W, C): 1 where a pixel is of the class; rows of 0 where a label is no class."""
        return self.values if self.labels is None else ops.one_hot(self.labels, logits.shape[-1], dtype=logits.dtype)

    def place_weights(self, logits: Any) -> Any:
        """Return `weights` so that they broadcast with (B, H, W, C); ones where there are none."""
        if self.weights is None:
            return ops.ones_like(logits[..., :1])
        return self.weights if len(self.weights.shape) == 4 else self.weights[..., None]


class Loss(keras.losses.Loss):
    """A Keras loss that keeps every argument of its constructor in an attribute of the same name."""

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the loss."""
        return given_arguments(self, keras.losses.Loss)


class PixelLoss(Loss):
    """Base class of losses that reduce targets and logits to a scalar, a ratio over the valid pixels.

    Modes, with logits (B, H, W, C):
        multiclass: each pixel is of one class, C >= 2, softmax. Targets: class indices (B, H, W) or (B, H, W, 1) of
            any dtype, or one-hot or soft (B, H, W, C); a row of zeros is an ignored pixel.
        binary: one class against the rest, C = 1, sigmoid. Targets (B, H, W) or (B, H, W, 1), 0..1.
        multilabel: classes that may overlap, sigmoid. Targets (B, H, W, C), 0..1.

    In the last two the ignore index stands in the target in place of a value, for each class apart. A loss that needs
    more than the mask, such as the distances of `Boundary`, makes it from the mask where samples are read, in
    `make_target`, and finds it behind the target's own channels, `extra_channels` of them. Any other number of channels
    is an error, since it might as well be the one-hot form of another number of classes.

    Keras multiplies a loss by `sample_weight` after `call`, which is wrong for a ratio: the weights belong in
    the numerator and in the denominator. So they travel with the labels, and a weight of 0 is the same as an
    ignored pixel. Under `tf.distribute` the sums are those over all replicas, so the loss of a distributed step is
    that of the whole batch (see `segzoo.losses.replicas`).

    A label that is neither a class nor the ignore index is not looked for here (a graph cannot raise, and a
    count would cost every step); segzoo checks labels where masks are read.

    Attributes:
        modes: the modes that the loss supports, its default first.
        takes_distances: whether the channels behind the target's own are those of `segzoo.data.with_distances`.
        takes_soft: whether the value makes sense for shares of classes, as mixed samples have, and not labels alone.

    Args:
        ignore_index: label of the pixels excluded from the loss, or None.
        class_weights: one weight per class, not negative and not all 0, or None for equal ones. Where a loss is a mean
            over classes, or over places that belong to one, they are the weights of that mean;
            `segzoo.losses.class_weights` makes them from pixel counts.
        mode: "multiclass", "binary" or "multilabel"; by default the first one that the loss supports.
        name: name of the loss.
        dtype: dtype of the computation; float32 by default, whatever the logits' dtype and Keras's `floatx` are.

    Raises:
        ValueError: an unsupported mode, weights out of range; on call, if the number of weights is not C.
    """

    modes: ClassVar[tuple[Mode, ...]] = MODES
    takes_distances: ClassVar[bool] = False
    takes_soft: ClassVar[bool] = True

    def __init__(
        self,
        ignore_index: int | None = None,
        class_weights: Sequence[float] | None = None,
        mode: Mode | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(name=name, reduction="sum_over_batch_size", dtype=dtype or "float32")
        self.ignore_index = None if ignore_index is None else int(ignore_index)
        self.mode: Mode = self.modes[0] if mode is None else mode
        if self.mode not in self.modes:
            raise ValueError(f"{type(self).__name__} has no mode {mode!r}; it has {', '.join(self.modes)}.")
        self.class_weights = checked_class_weights(class_weights)

    def value(self, target: Target, logits: Any) -> Any:
        """Return the scalar loss.

        Args:
            target: the target in the form that `Target` describes.
            logits: (B, H, W, C) in the loss's dtype.
        """
        raise NotImplementedError(f"{type(self).__name__} must define value.")

    def extra_channels(self, classes: int) -> int:
        """Return the number of channels that `make_target` appends to the mask's own, for `channels` of logits."""
        return 0

    def make_target(self, mask: np.ndarray, classes: int) -> np.ndarray:
        """Convert a mask to the target of this loss; runs on NumPy arrays in the input pipeline.

        A loss that needs more than the mask extends this together with `extra_channels`, and finds in `Target.extra`
        what it puts behind the mask's own channels (one for labels).

        Args:
            mask: integers (H, W), in multilabel (H, W, C) of 0, 1 and the ignore index; or shares (H, W, C) float32,
                see `segzoo.data.batch_transforms`.
            classes: channels of the logits.

        Returns:
            The mask itself, or (H, W, own channels + extra_channels) float32.
        """
        return mask

    def probabilities(self, logits: Any) -> Any:
        """Return (B, H, W, C) in 0..1: a softmax in multiclass mode, otherwise a sigmoid."""
        return ops.softmax(logits, axis=-1) if self.mode == "multiclass" else ops.sigmoid(logits)

    def weight_of_classes(self, logits: Any) -> Any:
        """Return one weight per class, (C,); ValueError where their number is not that of the logits' channels."""
        classes = logits.shape[-1]
        if self.class_weights is not None and len(self.class_weights) != classes:
            raise ValueError(f"{len(self.class_weights)} class_weights for {classes} classes.")
        return ops.convert_to_tensor(self.class_weights or [1.0] * classes, dtype=logits.dtype)

    def mean_over_classes(self, losses: Any, counted: Any, logits: Any) -> Any:
        """Return the weighted mean of losses (..., C) where `counted`, of their shape, is true; 0 where it never is."""
        weights = ops.cast(counted, losses.dtype) * self.weight_of_classes(logits)
        return ratio_of_sums(losses * weights, weights)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Return the scalar loss.

        Args:
            y_true: targets in one of the forms of the loss's mode.
            y_pred: logits (B, H, W, C), any float dtype.
            sample_weight: None, a weight per image (B,) or (B, 1), or per pixel (B, H, W) or (B, H, W, 1).

        Raises:
            ValueError: other shapes.
        """
        targets = (y_true,) if sample_weight is None else (y_true, sample_weight)
        return super().__call__(targets, y_pred)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss as a tensor (1,), which Keras reduces to a scalar and scales for replicas."""
        given, *rest = y_true if isinstance(y_true, tuple | list) else (y_true,)
        _check_logits(y_pred, self.mode)
        classes = y_pred.shape[-1]
        given, extra = split_extra(given, self.extra_channels(classes), classes, self.mode, self.takes_distances)
        given = _in_form(given, y_pred, self.mode)
        weights = _pixel_weights(rest[0], y_pred) if rest else None
        if self.mode != "multiclass":
            target = self._of_values(given, y_pred, weights)
        elif len(given.shape) == 3:
            target = self._of_labels(given, y_pred, weights)
        else:
            # The one-hot form of an ignored label is a row of zeros, whatever made it.
            valid = ops.cast(ops.sum(given, axis=-1) > 0, y_pred.dtype)
            values = ops.cast(given, y_pred.dtype)
            target = Target(None, values, valid if weights is None else weights * valid)
        if extra is not None:
            target = replace(target, extra=ops.cast(extra, y_pred.dtype))
        return ops.reshape(self.value(target, y_pred), (1,))

    def _of_labels(self, labels: Any, logits: Any, weights: Any) -> Target:
        labels = ops.cast(labels, "int32")
        if self.ignore_index is not None:
            ignored = ops.equal(labels, self.ignore_index)
            valid = ops.cast(ops.logical_not(ignored), logits.dtype)
            weights = valid if weights is None else weights * valid
            # A label in range keeps TensorFlow's cross-entropy kernel from raising, or from NaN under XLA.
            labels = ops.where(ignored, 0, labels)
        return Target(labels, None, weights)

    def _of_values(self, values: Any, logits: Any, weights: Any) -> Target:
        weights = None if weights is None else ops.broadcast_to(weights[..., None], ops.shape(logits))
        if self.ignore_index is None:
            return Target(None, ops.cast(values, logits.dtype), weights)
        ignored = ops.equal(ops.cast(values, "float32"), float(self.ignore_index))
        valid = ops.cast(ops.logical_not(ignored), logits.dtype)
        return Target(
            None,
            ops.where(ignored, ops.zeros_like(logits), ops.cast(values, logits.dtype)),
            valid if weights is None else weights * valid,
        )


class PerImageLoss(PixelLoss):
    """Base class of losses on sets of pixels: those of the whole batch, or with `per_image` those of each image."""

    def __init__(
        self,
        ignore_index: int | None = None,
        per_image: bool = False,
        class_weights: Sequence[float] | None = None,
        mode: Mode | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(ignore_index=ignore_index, class_weights=class_weights, mode=mode, name=name, dtype=dtype)
        self.per_image = bool(per_image)


def _check_logits(logits: Any, mode: Mode) -> None:
    wanted = {"multiclass": "at least 2 classes", "binary": "1 channel", "multilabel": "at least 1 class"}[mode]
    channels = logits.shape[-1] if len(logits.shape) == 4 else 0
    fits = {"multiclass": channels is None or channels >= 2, "binary": channels == 1, "multilabel": channels != 0}
    if len(logits.shape) != 4 or not fits[mode]:
        raise ValueError(f"Logits must be (B, H, W, C) with {wanted} in {mode} mode; got {tuple(logits.shape)}.")


def split_extra(given: Any, extra: int, classes: int, mode: Mode, distances: bool = False) -> tuple[Any, Any]:
    """Split a target (B, H, W, ...) from `extra` channels that are appended to it.

    Args:
        given: the target's own channels, in one of the forms of the mode, and `extra` more.
        extra: 0 or more.
        classes: the channels of the logits.
        mode: mode that the target's own channels follow.
        distances: whether the further ones are signed distances, for the message.

    Returns:
        The target's own channels, and the extra channels or None.

    Raises:
        ValueError: an unexpected number of channels.
    """
    if not extra:
        return given, None
    own = {"multiclass": (1, classes), "binary": (1,), "multilabel": (classes,)}[mode]
    shape = tuple(given.shape)
    if len(shape) != 4 or shape[-1] not in [channels + extra for channels in own]:
        needs, maker = "The loss needs further channels", "its make_target"
        if distances:
            needs, maker = "The boundary loss needs distances", "segzoo.data.with_distances"
        raise ValueError(
            f"{needs} in the target: {' or '.join(map(str, own))} channels of its own and {extra} more, as {maker} "
            f"adds; the target is {shape}."
        )
    return given[..., :-extra], given[..., -extra:]


def split_distances(given: Any, classes: int, mode: Mode) -> tuple[Any, Any]:
    """Split a target (B, H, W, ...) from appended signed distances to the classes' outlines.

    Args:
        given: what `with_distances` makes of a mask: 1 + C + 1 channels, class indices or the 0 and 1 of binary mode,
            or C + C + 1, one-hot or multilabel.
        classes: number of classes C, the channels of the logits.
        mode: mode that the target's own channels follow.

    Returns:
        The target's own channels, and the C channels of distances, NaN if the marker channel after them is missing.

    Raises:
        ValueError: an unexpected number of channels.
    """
    own, extra = split_extra(given, classes + 1, classes, mode, distances=True)
    return own, marked_distances(extra)


def marked_distances(extra: Any) -> Any:
    """Return the distances (B, H, W, C) of the channels that `with_distances` adds: NaN where its mark is missing."""
    extra = extra if "float" in keras.backend.standardize_dtype(extra.dtype) else ops.cast(extra, "float32")
    return ops.where(ops.equal(extra[..., -1:], DISTANCE_MARK), extra[..., :-1], float("nan"))


def _in_form(given: Any, logits: Any, mode: Mode) -> Any:
    """Return targets as (B, H, W) class indices or (B, H, W, C), or raise ValueError where shapes do not fit."""
    target, channels = given, logits.shape[-1]
    if mode == "multiclass" and len(target.shape) == 4 and target.shape[-1] == 1:
        target = ops.squeeze(target, axis=-1)
    if mode == "binary" and len(target.shape) == 3:
        target = target[..., None]
    expected = tuple(logits.shape) if len(target.shape) == 4 else tuple(logits.shape)[:3]
    pairs = list(zip(target.shape, expected, strict=False))
    allowed = (3, 4) if mode == "multiclass" else (4,)
    # An unknown number of channels is one that could be anything: a graph would broadcast it.
    unknown = len(target.shape) == 4 and target.shape[-1] is None
    if len(target.shape) not in allowed or unknown or any(a != b for a, b in pairs if None not in (a, b)):
        raise ValueError(
            f"Targets of {mode} mode are {TARGET_FORMS[mode]}, of the size of the logits (B, H, W, {channels}): logits "
            f"{tuple(logits.shape)}, targets {tuple(given.shape)}.{_cure(given, channels, mode)}"
        )
    if any(None in pair for pair in pairs):
        # Sizes that only the step knows: it fails where they differ, and does not broadcast.
        return ops.reshape(target, ops.shape(logits)[: len(target.shape)])
    return target


def _cure(given: Any, channels: int, mode: Mode) -> str:
    """Return a hint for targets whose last dimension suggests their form; "" for all others."""
    if len(given.shape) != 4:
        return ""
    found = given.shape[-1]
    if found is None:
        return " The number of channels must be known before the step: set it with tf.ensure_shape."
    if mode == "binary" and found == 2:
        return " Two channels may be one-hot, background and object: give the object's, y[..., 1:]."
    cure = ""
    if found > channels:
        cure = f" {found} channels may be the one-hot form of {found} classes, where the model has {channels}."
    if found in (channels + 2, 2 * channels + 1):
        cure += " Or they may be a mask with signed distances, which Boundary takes, alone or in a WeightedSum."
    return cure


def _pixel_weights(sample_weight: Any, logits: Any) -> Any:
    """Return weights per image or per pixel as (B, H, W)."""
    weights = sample_weight
    if len(weights.shape) in (2, 4) and weights.shape[-1] == 1:
        weights = ops.squeeze(weights, axis=-1)
    if len(weights.shape) == 1:
        weights = weights[:, None, None]
    pairs = zip(weights.shape, logits.shape[:3], strict=False)
    if len(weights.shape) != 3 or any(a not in (1, b) for a, b in pairs if a is not None and b is not None):
        raise ValueError(
            "sample_weight must hold one weight per image (B,) or per pixel (B, H, W) for logits "
            f"{tuple(logits.shape)}; got {tuple(sample_weight.shape)}."
        )
    return ops.broadcast_to(weights, ops.shape(logits)[:3])
