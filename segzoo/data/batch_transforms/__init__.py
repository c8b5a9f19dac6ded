"""Batch transforms: changes to a training batch as a whole. Each is one module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from segzoo.arguments import arguments_of
from segzoo.data.batch_transforms.contract import Batch, BatchTransform, hard, is_soft
from segzoo.data.batch_transforms.table import BATCH_TRANSFORMS
from segzoo.errors import ConfigError, DataError, SegzooError, unknown_name
from segzoo.registry import name_and_options
from segzoo.task import Task

__all__ = [
    "BATCH_TRANSFORMS",
    "BatchTransform",
    "BatchTransforms",
    "create_batch_transform",
    "hard",
    "options_of",
    "parsed",
]

_FILLED_IN = frozenset({"task"})  # by segzoo, from the rest of the configuration


class BatchTransforms:
    """A chain of batch transforms, each with a random stream of its own.

    Args:
        transforms: applied in this order.
        names: their names in messages.

    Raises:
        ConfigError: a transform that requires hard masks follows one that makes them soft.
    """

    def __init__(self, transforms: Sequence[BatchTransform], names: Sequence[str]):
        self.transforms = list(transforms)
        self.names = list(names)
        soft = None
        for transform, name in zip(self.transforms, self.names, strict=True):
            if soft is not None and not transform.takes_soft:
                raise ConfigError(
                    f"{name} takes masks of labels, and {soft} makes shares of them: put it before {soft}."
                )
            soft = name if transform.makes_soft else soft
        self.makes_soft = soft is not None

    @classmethod
    def of(cls, entries: Sequence[Any], task: Task) -> BatchTransforms:
        """Build the chain that a list describes, each entry a name or {name: options}; raises as `create_*` does."""
        pairs = [parsed(entry) for entry in entries]
        made = [create_batch_transform(name, task, **options) for name, options in pairs]
        return cls(made, [name for name, _ in pairs])

    def __call__(self, images: np.ndarray, masks: np.ndarray, seed: Sequence[int]) -> Batch:
        """Return the transformed images and masks, a function of the arguments alone.

        Args:
            images: (B, H, W, C).
            masks: integers (B, H, W), in multilabel (B, H, W, classes).
            seed: whole numbers of at least 0, such as (seed, epoch, step).

        Returns:
            As `BatchTransform.__call__`.

        Raises:
            DataError: a transform failed, or returned an invalid result.
        """
        for place, (transform, name) in enumerate(zip(self.transforms, self.names, strict=True)):
            rng = np.random.default_rng(np.random.SeedSequence(list(seed), spawn_key=(place,)))
            try:
                new_images, new_masks = transform(images, masks, rng)
                wrong = _wrong(transform, (images, masks), (new_images, new_masks))
            except SegzooError:
                raise
            except Exception as error:  # a class of the user's may raise anything
                raise DataError(
                    f"data.batch_transforms: {name} failed on images {images.shape} {images.dtype} and masks "
                    f"{masks.shape} {masks.dtype}: {type(error).__name__}: {error}.",
                    "augmentation",
                ) from error
            if wrong:
                raise DataError(f"data.batch_transforms: {name} returned {wrong}.", "augmentation")
            images, masks = new_images, new_masks
        return images, masks


def create_batch_transform(name: str, task: Task, **options: Any) -> BatchTransform:
    """Build the batch transform registered as `name`.

    Args:
        name: a key of `BATCH_TRANSFORMS`.
        task: classes, mode, and the label of pixels that count in no loss.
        **options: the transform's own, see its class.

    Raises:
        UnknownNameError: an unknown transform or option.
        ConfigError: a missing option or an invalid value.
    """
    kind = BATCH_TRANSFORMS[name]
    for option in options:
        if option not in options_of(name):
            raise unknown_name(f"option of the batch transform {name}", option, options_of(name))
    try:
        made: BatchTransform = kind(task=task, **options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name}: {str(error).rstrip('.')}. Its options: {', '.join(options_of(name))}.") from error
    return made


def options_of(name: str) -> list[str]:
    """Return the names of a batch transform's own options."""
    return arguments_of(BATCH_TRANSFORMS[name], _FILLED_IN)


def parsed(entry: Any) -> tuple[str, dict[str, Any]]:
    """Return the name and the options of a name or {name: options}; ConfigError for anything else."""
    return name_and_options(entry, BATCH_TRANSFORMS.kind, "Write `- cutmix` or `- mixup: {alpha: 0.2}`.")


def _wrong(transform: BatchTransform, before: Batch, after: Batch) -> str:
    """Return the rule that a transform's output breaks, or "" if it is valid."""
    (images, masks), (new_images, new_masks), task = before, after, transform.task
    if new_images.shape != images.shape or new_images.dtype != images.dtype:
        return f"images {new_images.shape} {new_images.dtype} in place of {images.shape} {images.dtype}"
    shape, dtype = masks.shape, masks.dtype
    if transform.makes_soft:
        shape, dtype = (*masks.shape[:3], task.channels), np.dtype(np.float32)
    if new_masks.shape != shape or new_masks.dtype != dtype:
        return f"masks {new_masks.shape} {new_masks.dtype} in place of {shape} {dtype}"
    top = 1 if is_soft(new_masks) else task.largest_label
    if new_masks.min(initial=0) >= 0 and new_masks.max(initial=0) <= top:
        return ""
    is_odd = ~((new_masks >= 0) & (new_masks <= top)) & (new_masks != task.ignore_index)
    if is_odd.any():
        count, value = int(is_odd.sum()), new_masks[is_odd][0]
        return f"masks with {count:,} values that are neither in 0..{top} nor {task.ignore_index}, such as {value}"
    return ""
