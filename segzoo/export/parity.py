"""Comparison of an exported model's output with the Keras model's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import keras
import numpy as np

from segzoo.errors import SegzooError
from segzoo.export.accuracy import Accuracy
from segzoo.export.contract import FLOAT32, Run
from segzoo.export.graph import Output
from segzoo.export.samples import check_image, resized
from segzoo.task import Mode, class_logits, cuts_of, predict_classes

# Largest difference of logits, as a fraction of the largest logit. Other kernels sum in another order: 1e-6 to 1e-5
# is seen. Half precision would be off by 1e-2, a resize by half a pixel by 1e-1.
TOLERANCE = 1e-3
# An even and an odd size, neither square nor a multiple of 32.
_SIZES = ((2, 64, 96), (1, 75, 109))


@dataclass(frozen=True)
class Comparison:
    """Comparison of both models on one batch.

    Attributes:
        shape: `(B, H, W)` of the images.
        difference: largest absolute difference of logits; None where the export returns classes.
        relative: the same as a fraction of the largest absolute logit; None as above.
        agreement: fraction of pixels of the same class, 0..1.
    """

    shape: tuple[int, int, int]
    difference: float | None
    relative: float | None
    agreement: float


@dataclass(frozen=True)
class ExportReport:
    """Result of an export, and its agreement with the Keras model in float32.

    Attributes:
        format: name of the format.
        path: the file or folder.
        output: "logits" or "classes".
        input_shape: `(None, None, None, 3)`, or `(1, H, W, 3)` for a fixed size.
        megabytes: size on disk, in 10^6 bytes.
        comparisons: one for each batch.
        from_half: whether the model computes in half precision and was rebuilt in float32 for the export.
        precision: "float32", "float16", "int8" or "dynamic".
        accuracy: mean IoU of both models on labelled images; None where none were given.
    """

    format: str
    path: Path
    output: Output
    input_shape: tuple[int | None, ...]
    megabytes: float
    comparisons: tuple[Comparison, ...]
    from_half: bool
    precision: str = FLOAT32
    accuracy: Accuracy | None = None

    @property
    def difference(self) -> float | None:
        """Largest absolute difference of logits over all batches; None where the export returns classes."""
        values = [comparison.difference for comparison in self.comparisons if comparison.difference is not None]
        return max(values) if values else None

    @property
    def agreement(self) -> float:
        """Smallest fraction of pixels of the same class, 0..1."""
        return min(comparison.agreement for comparison in self.comparisons)

    def __str__(self) -> str:
        """The path, then the comparison in a sentence."""
        sizes = ", ".join(f"{batch} x {height}x{width}" for batch, height, width in _shapes(self.comparisons))
        logits = "" if self.difference is None else f"logits differ by at most {self.difference:.2g}, "
        note = " (the model computes in half precision; it was rebuilt in float32 for this comparison)"
        kind = "" if self.precision == FLOAT32 else f" {self.precision}"
        text = (
            f"{self.format}{kind}: {self.path} ({self.megabytes:.1f} MB)\n"
            f"  {logits}{100 * self.agreement:.2f} % of pixels have the same class; compared with Keras on {sizes}"
            f"{note if self.from_half else ''}"
        )
        if self.accuracy is None:
            return text
        found = self.accuracy
        return (
            f"{text}\n  mean IoU on {found.images} validation images: {100 * found.exported:.2f} %, Keras "
            f"{100 * found.keras:.2f} %"
        )


def _shapes(comparisons: Sequence[Comparison]) -> list[tuple[int, int, int]]:
    return [comparison.shape for comparison in comparisons]


def comparison_batches(
    samples: Sequence[np.ndarray] | None, image_size: tuple[int, int] | None, channels: int = 3
) -> list[np.ndarray]:
    """Return batches of images to compare on, float32 `(B, H, W, channels)`, 0..255.

    Args:
        samples: images `(H, W, 3)`, 0..255; None: smooth random ones. For a free size each is taken as it is and
            once more without its last row and column, which makes an even size odd; for a fixed size it is resized.
        image_size: the fixed height and width, or None.
        channels: number of channels of an image.

    Raises:
        SegzooError: samples that are no images of 33 x 33 pixels or more.
    """
    if samples is None:
        sizes = [(1, *image_size)] * 2 if image_size else _SIZES
        return [_smooth(shape, seed, channels) for seed, shape in enumerate(sizes)]
    batches: list[np.ndarray] = []
    for sample in samples:
        image = np.asarray(sample, np.float32)
        check_image(image, channels, "samples", 33)  # each loses a row and a column
        batches += [resized(image, image_size)[None]] if image_size else [image[None], image[None, :-1, :-1]]
    if not batches:
        raise SegzooError("samples is empty; leave it out to compare on random images.")
    return batches


def _smooth(shape: tuple[int, int, int], seed: int, channels: int = 3) -> np.ndarray:
    """Return coloured blobs with noise: closer to photographs than noise alone, which a network averages out."""
    batch, height, width = shape
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (batch, 6, 8, channels))
    blobs = [cv2.resize(each, (width, height)).reshape(height, width, channels) for each in coarse]
    noise = rng.normal(0, 12, (batch, height, width, channels))
    return np.clip(np.stack(blobs) + noise, 0, 255).astype(np.float32)


def compare(
    model: keras.Model,
    run: Run,
    output: Output,
    batches: Sequence[np.ndarray],
    mode: Mode = "multiclass",
    tolerance: float | None = TOLERANCE,
    thresholds: Sequence[float] | None = None,
) -> tuple[Comparison, ...]:
    """Compare an exported model with its Keras model, both on the CPU.

    Args:
        model: the Keras model, in float32.
        run: the exported model.
        output: what it returns.
        batches: images.
        mode: "multiclass", "binary" or "multilabel".
        tolerance: largest difference of logits, as a fraction of the largest logit; None: any but NaN.
        thresholds: probabilities above which a class is predicted; None: 0.5.

    Raises:
        SegzooError: another shape or type, logits off by more than the tolerance, or another class where the two
            largest logits are farther apart than that.
    """
    import tensorflow as tf

    comparisons = []
    for images in batches:
        # On a GPU TensorFlow rounds convolutions to TF32; the CPU does not.
        with tf.device("CPU:0"):
            expected = keras.ops.convert_to_numpy(model(images, training=False))
            found = np.asarray(run(images))
        if thresholds is not None and output == "classes":  # so that they are decided at 0 again
            expected = expected - cuts_of(thresholds)
        comparisons.append(_compare_batch(expected, found, output, images.shape[:3], mode, tolerance))
    return tuple(comparisons)


def _compare_batch(
    expected: np.ndarray,
    found: np.ndarray,
    output: Output,
    shape: tuple,
    mode: Mode = "multiclass",
    tolerance: float | None = TOLERANCE,
) -> Comparison:
    size = "{} x {}x{}".format(*shape)
    if not np.isfinite(expected).all():
        raise SegzooError(f"The Keras model itself returns NaN or infinity on an image of {size} pixels.")
    scale = float(np.abs(expected).max())
    classes = predict_classes(expected, mode)
    allowed = (np.inf if tolerance is None else tolerance) * scale
    dtype, wanted = (np.float32, expected.shape) if output == "logits" else (np.int32, classes.shape)
    if found.dtype != dtype or found.shape != wanted:
        raise SegzooError(
            f"the exported model returns {found.dtype} {found.shape} on an image of {size} pixels, where "
            f"{np.dtype(dtype)} {wanted} is due."
        )
    if output == "classes":
        if mode == "multilabel":
            ahead = np.abs(expected)
        else:
            second, first = np.moveaxis(np.partition(class_logits(expected), -2, axis=-1)[..., -2:], -1, 0)
            ahead = first - second
        # Two logits that are equal but for rounding may change places.
        wrong = int(((found != classes) & (ahead > 2 * allowed)).sum())
        if wrong:
            raise SegzooError(f"{wrong} pixels of {classes.size} got another class on an image of {size} pixels.")
        return Comparison(shape, None, None, float((found == classes).mean()))
    difference = float(np.abs(found - expected).max())
    if not np.isfinite(difference) or difference > allowed:
        raise SegzooError(
            f"logits differ by up to {difference:.3g} on an image of {size} pixels, where the largest logit is "
            f"{scale:.3g} and {f'{tolerance:g} of it' if tolerance else 'any finite number'} is allowed."
        )
    return Comparison(
        shape,
        difference,
        difference / scale if scale else 0.0,
        float((predict_classes(found, mode) == classes).mean()),
    )
