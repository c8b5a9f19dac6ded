"""Networks as a predictor runs them: images in, logits out, whatever computes them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from segzoo.device import check_device, on_device
from segzoo.errors import SegzooError, wrong_type
from segzoo.task import MODES, Mode, class_logits, predict_classes

SMALLEST = 32  # below it the deepest features of a stride-32 network are a single padded pixel


class Network(ABC):
    """Function from images to logits, such as a Keras model, an exported file, or several of them together.

    Attributes:
        channels: C, channels of the images.
        outputs: logits of a pixel, one for each class, in binary mode a single one.
        mode: "multiclass", "binary" or "multilabel".
        size: the only height and width of images that it computes on; None: any. Smaller images are extended to it.
        decides: whether it gives classes alone, and no logits that thresholds could be compared with.
        member_count: number of networks whose probabilities its own are the mean of; 1: it is no ensemble.
    """

    channels: int
    outputs: int
    mode: Mode
    size: tuple[int, int] | None = None
    decides: bool = False
    member_count: int = 1

    @abstractmethod
    def logits(self, images: np.ndarray) -> np.ndarray:
        """Compute the logits `(B, H, W, outputs)`, float32, of images `(B, H, W, C)`, uint8 or float32, 0..255.

        Images below 32 pixels, or below `size`, are extended by reflection, and the logits cut to the image.
        """

    def classes(self, images: np.ndarray) -> np.ndarray:
        """Predict the classes `(B, H, W)` of images, in multilabel `(B, H, W, classes)` of 0 and 1."""
        return predict_classes(self.logits(images), self.mode)

    def logits_and_disagreement(self, images: np.ndarray) -> np.ndarray:
        """Compute the logits, and behind them the disagreement of the members, `(B, H, W, outputs + 1)`, float32.

        Raises:
            SegzooError: it is no ensemble.
        """
        raise SegzooError(f"{self} is a single network, which has nobody to disagree with.")

    @abstractmethod
    def __str__(self) -> str:
        """Return a name for messages."""


class KerasNetwork(Network):
    """Network that is a Keras model.

    On TensorFlow one graph, traced once with free batch, height and width, serves images of all sizes, without XLA,
    which would compile anew for each. JAX compiles once for each size.

    Args:
        model: from images `(B, H, W, C)`, pixels 0..255, any H and W, to logits `(B, H, W, outputs)`.
        mode: None: "binary" for a model of one logit, else "multiclass".
        device: the device that computes, such as "GPU:0", where the model's variables should be; None: the backend's
            choice.

    Raises:
        SegzooError: an unsupported model, or one of several logits in binary mode; no such device.
    """

    def __init__(self, model: keras.Model, mode: Mode | None = None, device: str | None = None):
        self.model = model
        self.outputs = _outputs_of(model)
        self.channels = model.input_shape[3]
        if mode is not None and mode not in MODES:
            raise SegzooError(f"mode must be one of {', '.join(MODES)} or None, not {mode!r}.")
        self.mode = mode or ("binary" if self.outputs == 1 else "multiclass")
        if self.mode == "binary" and self.outputs != 1:
            raise SegzooError(f"In binary mode a model returns one logit, not {self.outputs}.")
        self._logits, self._classes = _compiled(model, self.mode, None if device is None else check_device(device))

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Compute the logits; see `Network.logits`."""
        return on_extended(self._logits, images, (SMALLEST, SMALLEST))

    def classes(self, images: np.ndarray) -> np.ndarray:
        """Predict the classes; on TensorFlow the logits stay on the device."""
        return on_extended(self._classes, images, (SMALLEST, SMALLEST))

    def __str__(self) -> str:
        """Return the name of the model."""
        return f"model {self.model.name!r}"


def on_extended(function: Callable[[np.ndarray], np.ndarray], images: np.ndarray, least: tuple[int, int]) -> np.ndarray:
    """Apply a function `(B, H, W, ...)` to images extended downwards and to the right by reflection; cut its result.

    Args:
        function: a function whose result has the height and width of the images.
        images: `(B, H, W, C)`.
        least: smallest height and width that the function takes.
    """
    height, width = images.shape[1:3]
    below, beside = max(0, least[0] - height), max(0, least[1] - width)
    if below or beside:
        images = np.pad(images, ((0, 0), (0, below), (0, beside), (0, 0)), mode="reflect")
    return function(images)[:, :height, :width]


def _outputs_of(model: keras.Model) -> int:
    """Return the number of logits of a pixel; SegzooError unless the model is one from images of any size to logits."""
    if not isinstance(model, keras.Model):
        raise wrong_type("model", "a keras.Model or a segzoo.inference.network.Network", model)
    given, returned = model.input_shape, model.output_shape
    if not (isinstance(returned, tuple) and len(returned) == 4 and isinstance(returned[3], int)):
        raise SegzooError(f"The model must return logits (B, H, W, classes), not {returned}.")
    if not (isinstance(given, tuple) and len(given) == 4 and given[1:3] == (None, None) and given[3]):
        raise SegzooError(f"The model must take images (B, H, W, C) of any height and width, not {given}.")
    return returned[3]


def in_graphs(function: Callable[[Any], Any], shape: Sequence[int | None]) -> Callable[[np.ndarray], Any]:
    """Compile a function of a batch of images into TensorFlow graphs, each traced once for all shapes, without XLA.

    Args:
        function: from a tensor of images to what the graph returns.
        shape: `(B, H, W, C)`, of which None is free; so is B.

    Returns:
        A function of images uint8 or, converted to it, float32. There is a graph for each: a signature names one type,
        and uint8 is a fourth of the bytes to bring to a device.
    """
    import tensorflow as tf

    spec = (None, *shape[1:])
    graphs = {
        kind: tf.function(function, [tf.TensorSpec(spec, kind)], autograph=False, jit_compile=False)
        for kind in ("uint8", "float32")
    }

    def run(images: np.ndarray) -> Any:
        kind = "uint8" if images.dtype == np.uint8 else "float32"
        return graphs[kind](images.astype(kind, copy=False))

    return run


_Run = Callable[[np.ndarray], np.ndarray]


def _compiled(model: keras.Model, mode: Mode, device: str | None) -> tuple[_Run, _Run]:
    """Compile functions from images to float32 logits, and to classes."""
    if keras.backend.backend() != "tensorflow":

        def logits(images: np.ndarray) -> np.ndarray:
            with on_device(device):
                return np.asarray(model.predict_on_batch(images.astype(np.float32)), np.float32)

        return logits, lambda images: predict_classes(logits(images), mode)

    import tensorflow as tf

    def forward(images: tf.Tensor) -> tf.Tensor:
        return tf.cast(model(tf.cast(images, tf.float32), training=False), tf.float32)

    def compiled(function: Callable[[Any], Any]) -> _Run:
        def placed(images: tf.Tensor) -> tf.Tensor:
            with on_device(device):  # a graph does not inherit the device of who calls it
                return function(images)

        run = in_graphs(placed, model.input_shape)
        return lambda images: run(images).numpy()

    def classes(images: tf.Tensor) -> tf.Tensor:
        logits = forward(images)
        if mode == "multilabel":
            return tf.cast(logits > 0, tf.uint8)
        return tf.argmax(class_logits(logits), axis=-1, output_type=tf.int32)

    return compiled(forward), compiled(classes)
