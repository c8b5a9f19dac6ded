"""U-Net's decoder: upsample, concatenate the skip, convolve twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from segzoo.decoders.base import Decoder, deepest
from segzoo.layers import ConvBlock, ResizeTo
from segzoo.layers.resize import double


@keras.saving.register_keras_serializable("segzoo")
class UNet(Decoder):
    """U-Net (Ronneberger et al., 2015) on a backbone's features: returns `(B, H, W, channels[-1])`.

    Each block upsamples to the size of the next skip, concatenates it and applies two 3x3 convolutions; the last
    block doubles P1's size and has no skip. Widths and the nearest upsampling are those of segmentation_models.pytorch.

    Args:
        channels: of the blocks, deepest first: one for every level above the deepest, and one more for full size.
        upsampling: "nearest" or "bilinear".
        normalization: "batch", "group", "layer" or "none".
        activation: any Keras activation name.
    """

    head_kernel: ClassVar[int] = 3

    def __init__(
        self,
        channels: Sequence[int] = (256, 128, 64, 32, 16),
        upsampling: str = "nearest",
        normalization: str | None = "batch",
        activation: str | None = "relu",
        **kwargs: Any,
    ):
        super().__init__(normalization, activation, **kwargs)
        self.channels = tuple(channels)
        self.upsampling = upsampling
        self.resize = ResizeTo(upsampling, dtype=self.dtype_policy, name="resize")

    def build(self, features_shape: dict[str, tuple]) -> None:
        """Create the blocks for features of these shapes."""
        levels = sorted(features_shape)
        self.require(features_shape, *self._levels_to(deepest(features_shape)))
        if len(self.channels) != len(levels):
            raise ValueError(
                f"UNet got {len(self.channels)} channels {self.channels} for the {len(levels)} levels "
                f"{', '.join(levels)}; give one number for each."
            )
        self.blocks = []
        below = features_shape[levels[-1]][3]
        for index, width in enumerate(self.channels):
            skip = features_shape[levels[-2 - index]][3] if index < len(levels) - 1 else 0
            pair = [
                ConvBlock(width, 3, name=f"block{index + 1}_conv{number}", **self.block_options) for number in (1, 2)
            ]
            pair[0].build((None, None, None, below + skip))
            pair[1].build((None, None, None, width))
            self.blocks.append(pair)
            below = width
        self.built = True

    @staticmethod
    def _levels_to(last: str) -> list[str]:
        return [f"P{number}" for number in range(1, int(last[1:]) + 1)]

    def call(self, features: dict[str, Any], training: bool | None = None) -> Any:
        """Decode from the deepest level up."""
        levels = sorted(features, reverse=True)
        x = features[levels[0]]
        for pair, level in zip(self.blocks, [*levels[1:], None], strict=True):
            if level is None:
                # There is no feature at full size to resize to; for odd images the head resizes by one pixel.
                x = double(x)
            else:
                skip = features[level]
                x = ops.concatenate([self.resize(x, skip), skip], axis=-1)
            for block in pair:
                x = block(x, training=training)
        return x

    def compute_output_shape(self, features_shape: dict[str, tuple]) -> tuple:
        """Shape `(B, H, W, channels[-1])`."""
        batch, height, width, _ = features_shape["P1"]
        return (batch, height and 2 * height, width and 2 * width, self.channels[-1])

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {**super().get_config(), "channels": list(self.channels), "upsampling": self.upsampling}
