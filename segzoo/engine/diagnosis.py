"""Diagnosis of non-finite losses and weights, from the batch of the step and the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from segzoo.config import Config
from segzoo.data import Sample, TrainBatches
from segzoo.engine import builders
from segzoo.engine.batched import Batched
from segzoo.errors import SegzooError
from segzoo.keras_compat import all_layers, sync_variables
from segzoo.models.build import logits_only

_NAMED = 5  # samples that a message names
_HUGE = 1e6  # pixel values beyond it are no picture's: networks take 0..255


def explain(
    config: Config, network: keras.Model, loss: keras.losses.Loss, batches: TrainBatches | Batched, step: int
) -> str:
    """List the causes of a non-finite loss, or of non-finite weights after a step, each with its cure.

    The learning rate is blamed only where the batch and the loss on it are in order.

    Args:
        config: the resolved configuration.
        network: network in its state after the step.
        loss: loss computed on the logits.
        batches: training batches, which can reproduce the batch of the step.
        step: number of the step, counted from 0.
    """
    try:
        made = batches.samples(step, mixed=False)  # what is odd in one sample lies in several once they are mixed
        samples = batches.samples(step)
    except SegzooError as error:
        return f"The batch of that step cannot be looked at again: {error}"
    found = [*_invalid_images(made, batches), *_invalid_labels(config, made)] or _invalid_images(samples, batches)
    found = found or _invalid_loss(config, loss, samples) or _overflow(config, network, loss, samples)
    return " ".join(found or _suspicions(config, network, samples))


def _invalid_images(samples: Sequence[Sample], batches: TrainBatches | Batched) -> list[str]:
    """List images with non-finite or extreme values."""
    floats = [sample for sample in samples if sample.image.dtype.kind == "f"]
    bad = {sample.id: int((~np.isfinite(sample.image)).sum()) for sample in floats}
    bad = {name: count for name, count in bad.items() if count}
    if bad:
        source = batches.source
        stored = None if source is None else source[source.ids.index(next(iter(bad)))].image
        made = stored is not None and bool(np.isfinite(stored).all())
        cure = (
            "As stored they are finite: look at the transforms of data.augment and data.batch_transforms."
            if made
            else "Correct or remove these files; segzoo check-data lists all of the kind."
        )
        counted = [f"{name} ({count:,} value{'s' if count > 1 else ''})" for name, count in bad.items()]
        return [f"The images of its batch hold NaN or infinity: {_listed(counted)}. {cure}"]
    huge = [f"{s.id} ({np.abs(s.image).max():.3g})" for s in floats if np.abs(s.image).max(initial=0) > _HUGE]
    if huge:
        return [
            f"The images of its batch hold values far beyond 0..255, which networks take: {_listed(huge)}. Set "
            "data.value_range to the [low, high] of the data."
        ]
    return []


def _invalid_labels(config: Config, samples: Sequence[Sample]) -> list[str]:
    """List masks with labels that are no class: compiled losses turn them into NaN."""
    top, ignored = config.task.largest_label, config.task.ignore_index
    found = []
    for sample in samples:
        wrong = np.unique(sample.mask[((sample.mask < 0) | (sample.mask > top)) & (sample.mask != ignored)])
        if wrong.size:
            found.append(f"{sample.id} ({', '.join(map(str, wrong[:3]))})")
    if not found:
        return []
    return [
        f"The masks of its batch hold labels that are neither 0 to {top} nor the ignore index {ignored}: "
        f"{_listed(found)}. Look at the transforms of data.augment, and at the masks with segzoo check-data."
    ]


def _invalid_loss(config: Config, loss: keras.losses.Loss, samples: Sequence[Sample]) -> list[str]:
    """List masks on which the loss is not finite even for logits of zero."""
    odd = []
    for sample in samples:
        logits = np.zeros((1, *sample.mask.shape[:2], config.task.channels), "float32")
        if not np.isfinite(_loss_of(config, loss, [sample], logits)):
            ignored = _is_ignored(sample.mask, config)
            odd.append(f"{sample.id} (all pixels are ignored)" if ignored else sample.id)
    if not odd:
        return []
    return [
        f"The loss is not finite on the masks of {_listed(odd)}, whatever the network says. Remove these samples, crop "
        "them with data.crop strategy foreground, or take another loss."
    ]


def _is_ignored(mask: np.ndarray, config: Config) -> bool:
    """Return whether all pixels of a mask, of labels or of shares, are ignored."""
    if config.mode == "multiclass" and mask.ndim == 3:
        return not mask.any()
    return bool((mask == config.data.ignore_index).all())


def _overflow(config: Config, network: keras.Model, loss: keras.losses.Loss, samples: Sequence[Sample]) -> list[str]:
    """Test for float16 overflow: with the same weights the loss of the batch is finite in float32."""
    if config.training.precision != "float16":
        return []
    sync_variables(network)
    weights = network.get_weights()
    if not all(np.isfinite(values).all() for values in weights):
        return []
    wide = config.model_copy(update={"training": config.training.model_copy(update={"precision": "float32"})})
    twin = builders.build_network(wide, weights="none")
    twin.set_weights(weights)
    images = np.stack([sample.image for sample in samples]).astype("float32")
    value = _loss_of(config, loss, samples, logits_only(twin)(images, training=True))
    if not np.isfinite(value):
        return []
    return [
        f"float16, which ends at 65504, overflows: in float32 the loss of the same batch is {value:.4g}. Set "
        "training.precision: bfloat16 or float32."
    ]


def _suspicions(config: Config, network: keras.Model, samples: Sequence[Sample]) -> list[str]:
    """List the remaining suspects if the batch and the loss on it are valid."""
    said = [f"Its images and masks are in order ({_listed([sample.id for sample in samples])})."]
    normalised = any(isinstance(layer, keras.layers.BatchNormalization) for layer in all_layers(network))
    if config.data.batch_size == 1 and normalised:
        said.append(
            "data.batch_size is 1, so batch normalisation takes its statistics from single images, and where a decoder "
            "pools these to a point from single values: set it to 2 or more, or model.batch_norm: frozen."
        )
    precision = ", or use precision: float32" if config.training.precision != "float32" else ""
    optimizer = config.training.optimizer
    clipping = ", set training.optimizer.clip_norm: auto" if optimizer.largest_norm is None else ""
    said.append(
        f"{'Else' if len(said) > 1 else 'So'} the learning rate is too high for it: lower "
        f"training.optimizer.learning_rate ({optimizer.learning_rate:g}){clipping}{precision}."
    )
    return said


def _loss_of(config: Config, loss: keras.losses.Loss, samples: Sequence[Sample], logits: Any) -> float:
    target = builders.target_maker(config, loss)
    masks = np.stack([target(sample.mask) for sample in samples])
    return float(keras.ops.convert_to_numpy(loss(masks, logits)))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
