"""LinkNet's decoder: narrow transposed convolutions, and skips that are added."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, ClassVar

import keras

from segzoo.decoders.table import DECODERS
from segzoo.decoders.upsampling import UpsamplingDecoder
from segzoo.layers import ConvBlock, ResizeTo, light
from segzoo.layers.normalization import normalization_layer


@DECODERS.register("linknet")
class LinkNet(UpsamplingDecoder):
    """LinkNet (Chaurasia and Culurciello, 2017, https://arxiv.org/abs/1707.03718): returns `(B, H, W, channels)`.

    Each block narrows to a quarter with a 1x1 convolution, doubles the size with a transposed 4x4 one, widens to the
    next skip's channels with a 1x1 one, and adds the skip. The kernel of 4, where the paper has 3, is
    segmentation_models.pytorch's, which is the same function.

    Args:
        channels: number of channels of the last blocks, which have no skip.
        **kwargs: `depth` of UpsamplingDecoder; `normalization`, `activation`, `dropout`, `epsilon` and `groups` of
            Decoder.
    """

    head_kernel: ClassVar[int] = 1

    def __init__(self, channels: int = 32, **kwargs: Any):
        super().__init__(**kwargs)
        self.channels = channels
        # For odd sizes, where twice the deeper map is one pixel more than the skip.
        self.resize = ResizeTo("bilinear", dtype=self.dtype_policy, name="resize")

    def build(self, features_shape: dict[str, tuple]) -> None:
        """Create the blocks for features of these shapes."""
        below = features_shape[self.pick(features_shape)[-1]][3]
        skips = self.skips(features_shape)
        widths = [below, *(self.channels if level is None else features_shape[level][3] for level in skips)]
        self.blocks = [
            self._make_block(f"block{index}", below, width)
            for index, (below, width) in enumerate(itertools.pairwise(widths), 1)
        ]
        self.built = True

    def _make_block(self, name: str, below: int, width: int) -> list[keras.layers.Layer]:
        narrow, policy = max(1, below // 4), self.dtype_policy
        double = keras.layers.Conv2DTranspose(narrow, 4, strides=2, padding="same", dtype=policy, name=f"{name}_double")
        norm = normalization_layer(
            self.normalization, narrow, self.epsilon, self.groups, dtype=policy, name=f"{name}_norm"
        )
        middle = [double] if norm is None else [double, norm]
        for layer in middle:
            layer.build((None, None, None, narrow))
        return [
            self.block(f"{name}_narrow", below, narrow, kernel_size=1),
            *middle,
            keras.layers.Activation(light(self.activation), dtype=policy, name=f"{name}_activation"),
            self.block(f"{name}_widen", narrow, width, kernel_size=1),
        ]

    def call(self, features: dict[str, Any], training: bool | None = None) -> Any:
        """Decode from the deepest level up."""
        x = features[self.pick(features)[-1]]
        for block, level in zip(self.blocks, self.skips(features), strict=True):
            for layer in block:
                takes_training = isinstance(layer, ConvBlock | keras.layers.BatchNormalization)
                x = layer(x, training=training) if takes_training else layer(x)
            if level is not None:
                x = self.resize(x, features[level]) + features[level]
        return self.drop(x, training=training)

    def output_channels(self, features: Mapping[str, Any]) -> int:
        """Width of the last block."""
        return self.channels
