"""Simple feature pyramid: P2 to P5 from the one map of a plain vision transformer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from segzoo.layers.activation import light_gelu
from segzoo.layers.base import Layer
from segzoo.layers.tokens import up_to_whole


@keras.saving.register_keras_serializable("segzoo")
class SimplePyramid(Layer):
    """Make a pyramid of the map of patches `(B, ceil(H/p), ceil(W/p), C)`: {"P2": (B, ceil(H/4), ceil(W/4), D), ...}.

    Source: Li et al., "Exploring Plain Vision Transformer Backbones for Object Detection" (ViTDet, 2022), section 3 and
    its code: transposed 2x2 convolutions, each with half the channels of the map before it, double the map up to four
    times, or a maximum halves it; then a 1x1 and a 3x3 convolution, each normalised over channels. A patch of 14 takes
    the place of one of 16, and the results, of strides 3.5, 7, 14 and 28, are interpolated to those of the levels.
    What lies beyond the image because it was padded to whole patches is cut off.

    Args:
        patch: side p of a patch in pixels.
        levels: levels to make, of "P2" to "P5"; no weights are made for others.
        channels: D of every level.
        **kwargs: arguments of the Keras layer, such as `name`.
    """

    def __init__(self, patch: int, levels: Sequence[str], channels: int = 256, **kwargs: Any):
        super().__init__(**kwargs)
        self.patch = patch
        self.levels = list(levels)
        self.channels = channels

    def build(self, x_shape: tuple, images_shape: tuple) -> None:
        """Create the weights for maps `(B, h, w, C)`."""
        policy = self.dtype_policy

        def built(layer: Any, inputs: int) -> Any:
            layer.build((None, None, None, inputs))
            return layer

        def normalization(name: str, inputs: int) -> Any:
            return built(keras.layers.LayerNormalization(epsilon=1e-6, dtype=policy, name=name), inputs)

        def convolution(name: str, inputs: int, size: int) -> Any:
            layer = keras.layers.Conv2D(self.channels, size, padding="same", use_bias=False, dtype=policy, name=name)
            return built(layer, inputs)

        self.chains: dict[str, list[Any]] = {}
        for level in self.levels:
            width, chain = x_shape[-1], []
            doublings = self._doublings(level)
            for number in range(doublings):
                if number:
                    chain.append(normalization(f"{level}_norm{number}", width))
                    chain.append(keras.layers.Activation(light_gelu, dtype=policy, name=f"{level}_gelu{number}"))
                layer = keras.layers.Conv2DTranspose(width // 2, 2, 2, dtype=policy, name=f"{level}_double{number + 1}")
                chain.append(built(layer, width))
                width //= 2
            if doublings < 0:
                side = 2**-doublings
                chain.append(keras.layers.MaxPooling2D(side, padding="same", dtype=policy, name=f"{level}_halve"))
            chain += [convolution(f"{level}_conv1", width, 1), normalization(f"{level}_conv1_norm", self.channels)]
            chain += [convolution(f"{level}_conv2", self.channels, 3), normalization(f"{level}_norm", self.channels)]
            self.chains[level] = chain
        self.built = True

    def call(self, x: Any, images: Any) -> dict[str, Any]:
        """Return the levels of the pyramid for `images`, of which only the size is read."""
        found = {}
        for level in self.levels:
            feature = x
            for layer in self.chains[level]:
                feature = layer(feature)
            found[level] = at_stride(feature, images, self.patch / 2.0 ** self._doublings(level), 2 ** int(level[1:]))
        return found

    def _doublings(self, level: str) -> int:
        """Return how often the map is doubled for a level; negative: halved."""
        return (self.patch - 1).bit_length() - int(level[1:])

    def compute_output_shape(self, x_shape: tuple, images_shape: tuple) -> dict[str, tuple]:
        """Shape `(B, ceil(H / 2^n), ceil(W / 2^n), channels)` of each level Pn."""
        found = {}
        for level in self.levels:
            height, width = (size and -(-size // 2 ** int(level[1:])) for size in images_shape[1:3])
            found[level] = (x_shape[0], height, width, self.channels)
        return found

    def compute_output_spec(self, x: Any, images: Any) -> dict[str, keras.KerasTensor]:
        """Shape of each level, also where the size is unknown."""
        shapes = self.compute_output_shape(x.shape, images.shape)
        return {level: keras.KerasTensor(shape, dtype=self.compute_dtype) for level, shape in shapes.items()}


def at_stride(x: Any, images: Any, own: float, stride: int) -> Any:
    """Bring a map to another stride and the size of an image: `(B, h, w, C)` to `(B, ceil(H / s), ceil(W / s), C)`.

    The first pixels of map and image have their upper left corner in common. Where the stride is the map's own the map
    is cut, and otherwise interpolated linearly (in float32), with the outermost pixels repeated.

    Args:
        x: map.
        images: images `(B, H, W, ...)`.
        own: stride of the map in pixels of the image, an integer or not.
        stride: stride s of the result.
    """
    height, width = (up_to_whole(size, stride) for size in ops.shape(images)[1:3])
    if own == stride:
        return x[:, :height, :width]

    def shares(new: Any, old: Any) -> Any:
        places = (ops.cast(ops.arange(new), "float32") + 0.5) * (stride / own) - 0.5
        places = ops.clip(places, 0.0, ops.cast(old - 1, "float32"))
        distances = ops.abs(places[:, None] - ops.cast(ops.arange(old), "float32")[None, :])
        return ops.maximum(0.0, 1.0 - distances)

    _, rows, columns, _ = ops.shape(x)
    resized = ops.einsum("iy,byxc,jx->bijc", shares(height, rows), ops.cast(x, "float32"), shares(width, columns))
    return ops.cast(resized, x.dtype)
