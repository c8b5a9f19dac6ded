"""MA-Net's decoder: U-Net with position attention at the bottom and channel attention in every block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from segzoo.decoders.table import DECODERS
from segzoo.decoders.upsampling import UpsamplingDecoder
from segzoo.layers import PositionAttention, SqueezeExcitation, Upsample


@DECODERS.register("manet")
class MANet(UpsamplingDecoder):
    """MA-Net (Fan et al., 2020, https://doi.org/10.1109/ACCESS.2020.3025372): returns `(B, H, W, channels[-1])`.

    Position attention is applied to the deepest level. Each block with a skip projects the decoder's feature map to the
    channels of the skip, upsamples it, applies channel attention computed from both feature maps, concatenates the skip
    and applies two 3x3 convolutions; blocks without a skip are those of U-Net. Widths are those of
    segmentation_models.pytorch, whose position attention differs: it normalises over all pairs of pixels and reads
    pixels as channels, see `attention_softmax` and `attention_interleaved`.

    Args:
        channels: channels of the blocks, deepest first, one for each level down to the deepest; by default the last of
            256, 128, 64, 32, 16.
        upsampling: "nearest", "bilinear" or "transposed".
        attention_channels: number of query and key channels in the position attention.
        attention_softmax: "keys" or "pairs", see `segzoo.layers.PositionAttention`.
        attention_interleaved: see `segzoo.layers.PositionAttention`.
        reduction: reduction factor of the hidden layer that computes the channel weights.
        squeeze_activation: activation of that hidden layer: "relu" as in the paper, or any Keras activation name;
            segzoo 0.1.0 used "swish".
        separable: use depthwise separable convolutions in the blocks.
        **kwargs: `depth` of UpsamplingDecoder; `normalization`, `activation`, `dropout`, `epsilon` and `groups` of
            Decoder.
    """

    head_kernel: ClassVar[int] = 3
    compat: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smp": {"attention_softmax": "pairs", "attention_interleaved": True}
    }
    legacy: ClassVar[Mapping[str, Any]] = {"squeeze_activation": "swish"}
    added: ClassVar[Sequence[str]] = (
        "attention_softmax",
        "attention_interleaved",
        "squeeze_activation",
        *UpsamplingDecoder.added,
    )

    def __init__(
        self,
        channels: Sequence[int] | None = None,
        upsampling: str = "nearest",
        attention_channels: int = 64,
        attention_softmax: str = "keys",
        attention_interleaved: bool = False,
        reduction: int = 16,
        squeeze_activation: str = "relu",
        separable: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.channels = None if channels is None else tuple(channels)
        self.upsampling = upsampling
        self.attention_channels = attention_channels
        self.attention_softmax = attention_softmax
        self.attention_interleaved = attention_interleaved
        self.reduction = reduction
        self.squeeze_activation = squeeze_activation
        self.separable = separable
        Upsample(upsampling, 1)  # a name that is none is an error now, not when the layer is built

    def build(self, features_shape: dict[str, tuple]) -> None:
        """Create the blocks for features of these shapes."""
        below = features_shape[self.pick(features_shape)[-1]][3]
        self.center = PositionAttention(
            self.attention_channels,
            self.attention_softmax,
            self.attention_interleaved,
            dtype=self.dtype_policy,
            name="center",
        )
        self.center.build((None, None, None, below))
        self.blocks = []
        widths = self.fit_channels(self.channels, features_shape)
        for index, (width, level) in enumerate(zip(widths, self.skips(features_shape), strict=True), 1):
            skip = 0 if level is None else features_shape[level][3]
            self.blocks.append(self._make_block(f"block{index}", below, skip, width))
            below = width
        self.built = True

    def _make_block(self, name: str, below: int, skip: int, width: int) -> dict[str, keras.layers.Layer]:
        block: dict[str, keras.layers.Layer] = {}
        if skip:
            block["reduce1"] = self.block(f"{name}_reduce1", below, below)
            block["reduce2"] = self.block(f"{name}_reduce2", below, skip, kernel_size=1)
            for source in ("map", "skip"):
                block[source] = SqueezeExcitation(
                    self.reduction,
                    self.squeeze_activation,
                    dtype=self.dtype_policy,
                    name=f"{name}_{source}_weights",
                )
                block[source].build((None, None, None, skip))
        up = skip or below
        block["up"] = Upsample(self.upsampling, up, dtype=self.dtype_policy, name=f"{name}_up")
        block["up"].build((None, None, None, up))
        block["conv1"] = self.block(f"{name}_conv1", up + skip, width)
        block["conv2"] = self.block(f"{name}_conv2", width, width)
        return block

    def call(self, features: dict[str, Any], training: bool | None = None) -> Any:
        """Decode from the deepest level up."""
        x = self.center(features[self.pick(features)[-1]])
        for block, level in zip(self.blocks, self.skips(features), strict=True):
            if level is None:
                x = block["up"](x)
            else:
                skip = features[level]
                x = block["reduce2"](block["reduce1"](x, training=training), training=training)
                x = block["up"](x, skip)
                x = ops.concatenate([x * (block["map"](x) + block["skip"](skip)), skip], axis=-1)
            x = block["conv2"](block["conv1"](x, training=training), training=training)
        return self.drop(x, training=training)

    def output_channels(self, features: Mapping[str, Any]) -> int:
        """Width of the last block."""
        return self.fit_channels(self.channels, features)[-1]
