"""UPerNet's decoder: a feature pyramid on top of pyramid pooling, all levels fused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from segzoo.decoders.base import Decoder
from segzoo.decoders.table import DECODERS
from segzoo.layers import PyramidPooling, ResizeTo


@DECODERS.register("upernet")
class UPerNet(Decoder):
    """UPerNet (Xiao et al., 2018, https://arxiv.org/abs/1807.10221): returns `(B, H/4, W/4, channels)`.

    Pyramid pooling on the deepest level, a top-down pyramid to P2, a 3x3 convolution on each of its levels but the
    deepest, all resized to P2's size, concatenated and fused by a 3x3 convolution. A layer normalisation of every
    feature before it is segmentation_models.pytorch's, which is the same function but for the logits, whose corners it
    aligns with those of the image.

    Args:
        channels: number of channels of every level and of the output.
        bins: sizes of the grids over which the deepest level is average-pooled.
        normalize_features: apply layer normalisation to each feature first.
        separable: use depthwise separable 3x3 convolutions.
        depth: number of the deepest level to use; by default the deepest available.
        head_interpolation: "bilinear" or "aligned", how the logits are resized; see `segzoo.layers.ResizeTo`.
        **kwargs: `normalization`, `activation`, `dropout`, `epsilon` and `groups` of Decoder.
    """

    head_kernel: ClassVar[int] = 1
    compat: ClassVar[Mapping[str, Mapping[str, Any]]] = {"smp": {"head_interpolation": "aligned"}}
    added: ClassVar[Sequence[str]] = ("head_interpolation", *Decoder.added)

    def __init__(
        self,
        channels: int = 256,
        bins: Sequence[int] = (1, 2, 3, 6),
        normalize_features: bool = True,
        separable: bool = False,
        depth: int | None = None,
        head_interpolation: str = "bilinear",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.channels = channels
        self.bins = tuple(bins)
        self.normalize_features = normalize_features
        self.separable = separable
        self.depth = depth
        self.head_interpolation = head_interpolation
        self.resize = ResizeTo("bilinear", dtype=self.dtype_policy, name="resize")

    def build(self, features_shape: dict[str, tuple]) -> None:
        """Create the layers for features of these shapes."""
        self.used = self.pick(features_shape)
        widths = {level: features_shape[level][3] for level in self.used}
        self.norms = {}
        if self.normalize_features:
            for level, width in widths.items():
                norm = keras.layers.LayerNormalization(epsilon=1e-6, dtype=self.dtype_policy, name=f"norm_{level}")
                norm.build((None, None, None, width))
                self.norms[level] = norm
        top = self.used[-1]
        self.pyramid = PyramidPooling(self.channels, self.bins, name="pyramid", **self.block_options)
        self.pyramid.build(features_shape[top])
        pooled = widths[top] + len(self.bins) * self.channels
        channels, above = self.channels, self.used[:-1]
        self.bottleneck = self.block("bottleneck", pooled, channels)
        self.laterals = {level: self.block(f"lateral_{level}", widths[level], channels, 1) for level in above}
        self.smooth = {level: self.block(f"smooth_{level}", channels, channels) for level in above}
        self.fuse = self.block("fuse", len(self.used) * channels, channels)
        self.built = True

    def call(self, features: dict[str, Any], training: bool | None = None) -> Any:
        """Pool, build the pyramid top down, fuse at P2's size."""
        features = {level: self.norms[level](features[level]) if self.norms else features[level] for level in self.used}
        top = self.used[-1]
        x = self.bottleneck(self.pyramid(features[top], training=training), training=training)
        maps = {top: x}
        for level in reversed(self.used[:-1]):
            lateral = self.laterals[level](features[level], training=training)
            x = self.resize(x, lateral) + lateral
            maps[level] = self.smooth[level](x, training=training)
        fused = [self.resize(maps[level], features["P2"]) for level in self.used]
        return self.drop(self.fuse(ops.concatenate(fused, axis=-1), training=training), training=training)

    def compute_output_shape(self, features_shape: dict[str, tuple]) -> tuple:
        """Shape `(B, H/4, W/4, channels)`."""
        return (*features_shape["P2"][:3], self.channels)
