"""Accuracy of an exported model on labelled images, beside the Keras model's on the same ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from segzoo.errors import SegzooError
from segzoo.export.contract import Run
from segzoo.export.graph import Output
from segzoo.export.samples import resized
from segzoo.metrics import pixel_counts
from segzoo.task import Mode, Task, predict_classes


@dataclass(frozen=True)
class Accuracy:
    """Mean IoU of both models over the same labelled images.

    Attributes:
        keras: mean IoU of the Keras model in float32, 0..1.
        exported: mean IoU of the exported model, 0..1.
        images: number of images.
    """

    keras: float
    exported: float
    images: int

    @property
    def drop(self) -> float:
        """Points of mean IoU (hundredths) that the export loses; below 0 where it gains some."""
        return 100 * (self.keras - self.exported)

    def check(self, max_drop: float) -> None:
        """Raise SegzooError unless the export loses at most `max_drop` points."""
        if not self.drop <= max_drop:  # so that NaN is refused
            raise SegzooError(
                f"mean IoU on {self.images} validation images falls from {100 * self.keras:.2f} % to "
                f"{100 * self.exported:.2f} %, and at most {max_drop:g} points are allowed. Calibrate on more images, "
                "choose float16, or allow more by max_drop (--max-drop)."
            )


class Validation:
    """Labelled images that exports are scored on; the Keras model is scored once, with the first of them.

    Args:
        samples: pairs of images `(B, H, W, C)`, 0..255, and masks `(B, H, W)`, in multilabel `(B, H, W, classes)`, or
            single ones; further entries are passed over. Read once for each export.
        ignore_index: the value of mask pixels that do not count.
        max_drop: points of mean IoU (hundredths) that an export may lose.
        size: height and width that images and masks are resized to; None: as they are.

    Attributes:
        keras: mean IoU of the Keras model, 0..1; None before the first export was scored.
    """

    def __init__(
        self,
        samples: Iterable[Any],
        *,
        ignore_index: int = 255,
        max_drop: float = 1.0,
        size: tuple[int, int] | None = None,
    ):
        self.samples = samples
        self.ignore_index = ignore_index
        self.max_drop = max_drop
        self.size = size
        self.keras: float | None = None

    def score(
        self,
        model: keras.Model,
        run: Run,
        output: Output,
        mode: Mode,
        thresholds: Sequence[float] | None = None,
    ) -> Accuracy:
        """Count the pixels that both models get right, both on the CPU.

        Args:
            model: the Keras model, in float32; the same at each call.
            run: the exported model.
            output: what it returns.
            mode: "multiclass", "binary" or "multilabel".
            thresholds: probabilities above which a class is predicted; None: 0.5.

        Raises:
            SegzooError: no labelled pixel.
            DataError: a label that is neither a class nor the ignore index.
        """
        import tensorflow as tf

        classes = 2 if mode == "binary" else int(model.output_shape[-1])
        task = Task(tuple(map(str, range(classes))), self.ignore_index, mode)
        ours, theirs, seen = pixel_counts(task), pixel_counts(task), 0

        def labels(model: Callable[[np.ndarray], Any], batch: np.ndarray, of: Output) -> np.ndarray:
            with tf.device("CPU:0"):
                found = keras.ops.convert_to_numpy(model(batch))
            return found if of == "classes" else predict_classes(found, mode, thresholds)

        for image, mask in _pairs(self.samples):
            batch, truth = resized(image, self.size)[None], resized(mask, self.size, nearest=True)[None]
            theirs.update(truth, labels(run, batch, output))
            if self.keras is None:
                ours.update(truth, labels(lambda images: model(images, training=False), batch, "logits"))
            seen += 1
        if self.keras is None:
            self.keras = ours.mean_iou()
        if math.isnan(self.keras):
            raise SegzooError(
                f"validation holds no labelled pixel ({seen} images), so nothing can be said of the export's accuracy. "
                "Give pairs of images and masks that training did not see."
            )
        return Accuracy(self.keras, theirs.mean_iou(), seen)


def _pairs(samples: Iterable[Any]) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """Yield single images, float32 `(H, W, C)`, and their masks."""
    for images, masks, *_ in samples:
        images, masks = np.asarray(images, np.float32), np.asarray(masks, np.int32)  # which OpenCV can resize
        if images.ndim == 3:
            yield images, masks
        else:
            yield from zip(images, masks, strict=True)
