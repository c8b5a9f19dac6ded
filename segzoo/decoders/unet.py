"""U-Net's decoder: upsample, join the skip, convolve twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from segzoo.decoders.table import DECODERS
from segzoo.decoders.upsampling import UpsamplingDecoder
from segzoo.layers import ScSE, Upsample
from segzoo.levels import IMAGE, LEVELS


@DECODERS.register("unet")
class UNet(UpsamplingDecoder):
    """U-Net (Ronneberger et al., 2015) on a backbone's features: returns `(B, H, W, channels[-1])`.

    Each block upsamples to the size of the next skip, joins it and applies two 3x3 convolutions; the last block doubles
    P1's size and has no skip. Widths, "same" padding and the nearest upsampling, where the paper has no padding and
    transposed convolutions, are those of segmentation_models.pytorch. It rounds differently when upsampling sides that
    are not multiples of 32, and resizes the last block to the size of the image: see `nearest_floor` and `fit_image`.

    Args:
        channels: channels of the blocks, deepest first, one for each level down to the deepest; by default the last of
            256, 128, 64, 32, 16.
        upsampling: "nearest", "bilinear", "transposed" (a 2x2 transposed convolution, as in the paper) or
            "nearest_floor" ("nearest" with PyTorch's rounding, see `segzoo.layers.ResizeTo`).
        merge: "concat" concatenates the skip; "add" adds it after a 1x1 convolution to the same width.
        attention: "scse" weighs channels and pixels in every block (Roy et al., 2018); None disables it.
        squeeze_activation: activation of the hidden layer of "scse": "relu" as in the paper, or any Keras activation
            name; segzoo 0.1.0 used "swish".
        separable: use depthwise separable convolutions.
        fit_image: resize the last block to the size of the image, which is then an input as level "P0". Otherwise the
            output has twice the size of P1, one pixel more where a side is odd, and the head resizes it.
        center: convolve the deepest feature twice, to its own width, before the first block; what
            segmentation_models.pytorch does behind VGG alone, whose last pooling no convolution follows.
        **kwargs: `depth` of UpsamplingDecoder; `normalization`, `activation`, `dropout`, `epsilon` and `groups` of
            Decoder.
    """

    head_kernel: ClassVar[int] = 3
    compat: ClassVar[Mapping[str, Mapping[str, Any]]] = {"smp": {"upsampling": "nearest_floor", "fit_image": True}}
    legacy: ClassVar[Mapping[str, Any]] = {"squeeze_activation": "swish"}
    added: ClassVar[Sequence[str]] = ("squeeze_activation", "fit_image", "center", *UpsamplingDecoder.added)

    def __init__(
        self,
        channels: Sequence[int] | None = None,
        upsampling: str = "nearest",
        merge: str = "concat",
        attention: str | None = None,
        squeeze_activation: str = "relu",
        separable: bool = False,
        fit_image: bool = False,
        center: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if merge not in ("add", "concat"):
            raise ValueError(f"merge must be 'add' or 'concat', got {merge!r}.")
        if attention not in (None, "scse"):
            raise ValueError(f"attention must be 'scse' or None, got {attention!r}.")
        self.channels = None if channels is None else tuple(channels)
        self.upsampling = upsampling
        self.merge = merge
        self.attention = attention
        self.squeeze_activation = squeeze_activation
        self.separable = separable
        self.fit_image = fit_image
        self.center = center
        Upsample(upsampling, 1)  # a name that is none is an error now, not when the layer is built

    @classmethod
    def levels(
        cls, output_stride: int, available: Sequence[str] = LEVELS, depth: int | None = None, **options: Any
    ) -> tuple[str, ...]:
        """Return all levels from P1 on; with `fit_image` the image too, as "P0"."""
        image = (IMAGE,) if options.get("fit_image") else ()
        return (*image, *super().levels(output_stride, available, depth))

    def build(self, features_shape: dict[str, tuple]) -> None:
        """Create the blocks for features of these shapes."""
        if self.fit_image:
            self.require(features_shape, IMAGE)
        self.blocks = []
        below = features_shape[self.pick(features_shape)[-1]][3]
        self.middle = [self.block(f"center_conv{step}", below, below) for step in (1, 2)] if self.center else []
        widths = self.fit_channels(self.channels, features_shape)
        for index, (width, level) in enumerate(zip(widths, self.skips(features_shape), strict=True), 1):
            skip = 0 if level is None else features_shape[level][3]
            self.blocks.append(self._make_block(f"block{index}", below, skip, width))
            below = width
        self.built = True

    def _make_block(self, name: str, below: int, skip: int, width: int) -> dict[str, keras.layers.Layer]:
        block: dict[str, keras.layers.Layer] = {}
        block["up"] = Upsample(self.upsampling, width, dtype=self.dtype_policy, name=f"{name}_up")
        block["up"].build((None, None, None, below))
        joined = width if self.upsampling == "transposed" else below
        if skip and self.merge == "add":
            block["skip"] = self.block(f"{name}_skip", skip, joined, kernel_size=1)
        else:
            joined += skip
        if skip and self.attention:
            block["before"] = self._attend(f"{name}_attention1", joined)
        block["conv1"] = self.block(f"{name}_conv1", joined, width)
        block["conv2"] = self.block(f"{name}_conv2", width, width)
        if self.attention:
            block["after"] = self._attend(f"{name}_attention2", width)
        return block

    def function(self) -> dict[str, Any]:
        """Return the options that the decoded map depends on; without attention its activation is omitted."""
        found = super().function()
        if self.attention is None:
            del found["squeeze_activation"]
        return found

    def _attend(self, name: str, channels: int) -> ScSE:
        layer = ScSE(activation=self.squeeze_activation, dtype=self.dtype_policy, name=name)
        layer.build((None, None, None, channels))
        return layer

    def call(self, features: dict[str, Any], training: bool | None = None) -> Any:
        """Decode from the deepest level up."""
        x = features[self.pick(features)[-1]]
        for convolution in self.middle:
            x = convolution(x, training=training)
        for index, (block, level) in enumerate(zip(self.blocks, self.skips(features), strict=True), 1):
            if level is None and self.fit_image:
                step = 2 ** (len(self.blocks) - index)
                x = block["up"](x, features[IMAGE][:, ::step, ::step])
            elif level is None:
                # There is no feature at this size to resize to; for odd images the head resizes by a few pixels.
                x = block["up"](x)
            else:
                skip = features[level]
                x = block["up"](x, skip)
                if "skip" in block:
                    x = x + block["skip"](skip, training=training)
                else:
                    x = ops.concatenate([x, skip], axis=-1)
            if "before" in block:
                x = block["before"](x)
            x = block["conv2"](block["conv1"](x, training=training), training=training)
            if "after" in block:
                x = block["after"](x)
        return self.drop(x, training=training)

    def compute_output_shape(self, features_shape: dict[str, tuple]) -> tuple:
        """Shape at full size."""
        if not self.fit_image:
            return super().compute_output_shape(features_shape)
        return (*features_shape[IMAGE][:3], self.output_channels(features_shape))

    def output_channels(self, features: Mapping[str, Any]) -> int:
        """Width of the last block."""
        return self.fit_channels(self.channels, features)[-1]
