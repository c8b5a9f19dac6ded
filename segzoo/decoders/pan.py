"""PAN's decoder: attention from a pyramid below, and deep maps that weigh the shallow ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import keras
from keras import ops

from segzoo.decoders.base import Decoder
from segzoo.layers import ConvBlock, ResizeTo
from segzoo.layers.pooling import adaptive_average


@keras.saving.register_keras_serializable("segzoo")
class PAN(Decoder):
    """Pyramid attention network (Li et al., 2018, https://arxiv.org/abs/1805.10180): returns `(B, H/4, W/4, channels)`.

    The deepest level is weighed by a single channel that three halvings with 7x7, 5x5 and 3x3 convolutions make of it;
    its mean is added. Each level above is convolved, weighed by the mean of the map below it, and added to that. The
    paper and segmentation_models.pytorch take P5 at stride 16, beside a P4 of stride 16; here a backbone of output
    stride 16 ends at P4, so the default keeps all of the reference's levels at stride 32.

    Args:
        channels: of every level and of the output.
        upsampling: "bilinear" or "nearest".
        depth: number of the deepest level to use; by default the deepest there is.
        pyramid_activation: of the single channel that weighs the deepest level: "relu" as in the paper, or any Keras
            activation name. segzoo 0.1.0 had "swish", which cannot fall silent everywhere, as the ReLU of one channel
            can.
        **kwargs: `normalization`, `activation` and `dropout` of Decoder.
    """

    head_kernel: ClassVar[int] = 3
    legacy: ClassVar[Mapping[str, Any]] = {"pyramid_activation": "swish"}

    def __init__(
        self,
        channels: int = 32,
        upsampling: str = "bilinear",
        depth: int | None = None,
        pyramid_activation: str = "relu",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.channels = channels
        self.upsampling = upsampling
        self.depth = depth
        self.pyramid_activation = pyramid_activation
        self.resize = ResizeTo(upsampling, dtype=self.dtype_policy, name="resize")
        self.halve = keras.layers.MaxPooling2D(2, padding="same", dtype=self.dtype_policy, name="halve")

    def build(self, features_shape: dict[str, tuple]) -> None:
        """Create the layers for features of these shapes."""
        used = self.pick(features_shape)
        width = features_shape[used[-1]][3]
        self.pooled = self.block("pooled", width, self.channels, kernel_size=1)
        self.middle = self.block("middle", width, self.channels, kernel_size=1)
        self.down = [self._single("down1", width, 7), self._single("down2", 1, 5), self._single("down3", 1, 3)]
        self.across = [self._single("across1", 1, 7), self._single("across2", 1, 5), self._single("across3", 1, 3)]
        self.gates = {}
        self.levels_above = {}
        for level in reversed(used[:-1]):
            self.gates[level] = self.block(
                f"gate_{level}", self.channels, self.channels, kernel_size=1, activation=None
            )
            self.levels_above[level] = self.block(f"level_{level}", features_shape[level][3], self.channels)
        self.built = True

    def _single(self, name: str, inputs: int, kernel_size: int) -> ConvBlock:
        # A norm over one image's values has a single one where the map is a single pixel, and would make it zero.
        normalization = "batch" if self.normalization == "batch" else "none"
        return self.block(name, inputs, 1, kernel_size, normalization=normalization, activation=self.pyramid_activation)

    def call(self, features: dict[str, Any], training: bool | None = None) -> Any:
        """Attend at the deepest level, then go up."""
        used = self.pick(features)
        x = self._attend(features[used[-1]], training)
        for level in reversed(used[:-1]):
            gate = ops.sigmoid(self.gates[level](self._mean(x), training=training))
            above = self.levels_above[level](features[level], training=training)
            x = self.resize(x, above) + above * gate
        return self.drop(x, training=training)

    def _attend(self, x: Any, training: bool | None) -> Any:
        maps = []
        below = x
        for down in self.down:
            below = down(self.halve(below), training=training)
            maps.append(below)
        weights = None
        for down, across in zip(reversed(maps), reversed(self.across), strict=True):
            beside = across(down, training=training)
            weights = beside if weights is None else beside + self.resize(weights, beside)
        middle = self.middle(x, training=training)
        return self.resize(weights, middle) * middle + self.pooled(self._mean(x), training=training)

    def _mean(self, x: Any) -> Any:
        return ops.cast(adaptive_average(x, 1), self.compute_dtype)

    def compute_output_shape(self, features_shape: dict[str, tuple]) -> tuple:
        """Shape `(B, H/4, W/4, channels)`."""
        return (*features_shape["P2"][:3], self.channels)
