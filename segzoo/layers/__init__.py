"""The few layers that several backbones and decoders share."""

from segzoo.layers.aspp import ASPP
from segzoo.layers.convolution import ConvBlock, DepthwiseConv2D, SeparableConvBlock
from segzoo.layers.normalization import BatchNormalization, PixelNormalization
from segzoo.layers.resize import ResizeTo

__all__ = [
    "ASPP",
    "BatchNormalization",
    "ConvBlock",
    "DepthwiseConv2D",
    "PixelNormalization",
    "ResizeTo",
    "SeparableConvBlock",
]
