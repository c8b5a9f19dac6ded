"""What all decoders share: the check of their levels, their common options, and the head that follows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import keras
from keras import ops

from segzoo.errors import SegzooError
from segzoo.layers import ResizeTo
from segzoo.levels import levels_at


class Decoder(keras.layers.Layer):
    """A layer from features {"P1": (B, H/2, W/2, C1), ...} to one tensor.

    Attributes:
        default_output_stride: the backbone output stride that the paper uses.
        head_kernel: kernel size of the paper's segmentation head.

    Args:
        normalization: "batch", "group", "layer" or "none".
        activation: any Keras activation name.
    """

    default_output_stride: ClassVar[int] = 32
    head_kernel: ClassVar[int] = 1

    def __init__(self, normalization: str | None = "batch", activation: str | None = "relu", **kwargs: Any):
        super().__init__(**kwargs)
        self.normalization = normalization
        self.activation = activation

    @classmethod
    def levels(cls, output_stride: int) -> tuple[str, ...]:
        """Levels that the decoder needs from a backbone with this output stride; SegzooError unless 8, 16 or 32."""
        return levels_at(output_stride)

    @property
    def block_options(self) -> dict[str, Any]:
        """Arguments that every block of the decoder takes."""
        return {
            "normalization": self.normalization,
            "activation": self.activation,
            "dtype": self.dtype_policy,
        }

    def require(self, features: Mapping[str, Any], *levels: str) -> None:
        """Raise SegzooError, naming the levels that there are, where one of `levels` is missing."""
        missing = [level for level in levels if level not in features]
        if missing:
            raise SegzooError(
                f"{type(self).__name__} needs {', '.join(missing)}, but the features hold "
                f"{', '.join(sorted(features)) or 'nothing'}. Build the backbone with levels="
                f"{tuple(levels)} or another output_stride."
            )

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {**super().get_config(), "normalization": self.normalization, "activation": self.activation}


def deepest(features: Mapping[str, Any]) -> str:
    """Name of the deepest level in `features`."""
    return max(features)


@keras.saving.register_keras_serializable("segzoo")
class SegmentationHead(keras.layers.Layer):
    """Logits for each pixel of the image: `(B, h, w, C)` and images `(B, H, W, 3)` to float32 `(B, H, W, classes)`.

    A convolution, then a bilinear resize to the image, in float32 whatever the precision of the rest.

    Args:
        classes: number of output channels.
        kernel_size: of the convolution.
    """

    def __init__(self, classes: int, kernel_size: int = 1, **kwargs: Any):
        super().__init__(**kwargs)
        if classes < 1:
            raise ValueError(f"classes must be at least 1, got {classes}.")
        self.classes = classes
        self.kernel_size = kernel_size
        self.conv = keras.layers.Conv2D(classes, kernel_size, padding="same", dtype=self.dtype_policy, name="conv")
        self.resize = ResizeTo("bilinear", dtype="float32", name="resize")

    def build(self, x_shape: tuple, images_shape: tuple) -> None:
        """Create the weights for `(B, h, w, C)` inputs."""
        self.conv.build(x_shape)
        self.built = True

    def call(self, x: Any, images: Any) -> Any:
        """Return logits at the size of `images`."""
        return self.resize(ops.cast(self.conv(x), "float32"), images)

    def compute_output_shape(self, x_shape: tuple, images_shape: tuple) -> tuple:
        """Shape `(B, H, W, classes)`."""
        return (*images_shape[:3], self.classes)

    def compute_output_spec(self, x: Any, images: Any) -> keras.KerasTensor:
        """Float32 whatever the policy."""
        return keras.KerasTensor(self.compute_output_shape(x.shape, images.shape), dtype="float32")

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {**super().get_config(), "classes": self.classes, "kernel_size": self.kernel_size}
