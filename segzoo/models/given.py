"""Check of a model that a caller built: whether it takes the images of a task and returns its logits."""

from __future__ import annotations

from typing import Any

import keras

from segzoo.errors import RunError
from segzoo.models.build import LOGITS
from segzoo.task import Task


def functional(model: Any) -> Any:
    """Return the functional model of a built `keras.Sequential`'s layers; anything else as it is."""
    if isinstance(model, keras.Sequential) and model.built and model.inputs:
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    return model


def check_fits(model: Any, channels: int, task: Task) -> None:
    """Raise RunError unless a model takes images `(B, H, W, channels)` and returns logits of their size.

    Args:
        model: one output, or a dict with these logits as "logits".
        channels: number of channels of the images.
        task: its classes and mode say how many logits a pixel has.
    """
    if not isinstance(model, keras.Model) or len(getattr(model, "inputs", None) or ()) != 1:
        raise RunError(
            "model= takes a functional or sequential keras.Model of one input, images (B, H, W, C), not a "
            f"{type(model).__name__}. Of a subclass make one by x = keras.Input((None, None, {channels})); "
            "keras.Model(x, model(x))."
        )
    given = tuple(model.inputs[0].shape)
    if len(given) != 4 or given[-1] != channels:
        raise RunError(
            f"The given model {model.name} takes {given}, but the images are (B, H, W, {channels}): "
            f"model.input_channels is {channels}."
        )
    output = model.output[LOGITS] if isinstance(model.output, dict) and LOGITS in model.output else model.output
    if isinstance(output, dict | list | tuple) or len(output.shape) != 4 or output.shape[-1] != task.channels:
        found = output.shape if hasattr(output, "shape") else sorted(output) if isinstance(output, dict) else "a list"
        raise RunError(
            f"The given model {model.name} returns {found}; it should return logits (B, H, W, {task.channels}), of "
            f"{', '.join(task.classes[:10])} ({task.mode} mode), or a dict with these as {LOGITS!r}."
        )
    for axis, word in ((1, "height"), (2, "width")):
        before, after = given[axis], output.shape[axis]
        if before is not None and after is not None and before != after:
            raise RunError(
                f"The given model {model.name} returns logits of {word} {after} for images of {word} {before}; they "
                "should have the size of the images. segzoo.decoders.SegmentationHead resizes them."
            )
