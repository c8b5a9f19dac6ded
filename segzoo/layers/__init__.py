"""Layers used by several backbones and decoders."""

from segzoo.layers.activation import light, light_gelu, tanh_gelu
from segzoo.layers.aspp import ASPP
from segzoo.layers.attention import PositionAttention, ScSE, SpatialReductionAttention, SqueezeExcitation
from segzoo.layers.convolution import AtrousConv2D, ConvBlock, DepthwiseConv2D, GroupedConv2D, SeparableConvBlock
from segzoo.layers.normalization import BatchNormalization, PixelNormalization
from segzoo.layers.pooling import AveragePooling2D, CentredMaxPooling2D, DilatedPooling2D, PyramidPooling
from segzoo.layers.pyramid import SimplePyramid, at_stride
from segzoo.layers.resize import ResizeTo, ResizeToStride, SpaceToDepth, Upsample
from segzoo.layers.scale import LayerScale
from segzoo.layers.tokens import PatchPadding, PrefixTokens, TokenEmbedding, TokenMap
from segzoo.layers.transformer import TransformerBlock
from segzoo.layers.window import WindowBlock

__all__ = [
    "ASPP",
    "AtrousConv2D",
    "AveragePooling2D",
    "BatchNormalization",
    "CentredMaxPooling2D",
    "ConvBlock",
    "DepthwiseConv2D",
    "DilatedPooling2D",
    "GroupedConv2D",
    "LayerScale",
    "PatchPadding",
    "PixelNormalization",
    "PositionAttention",
    "PrefixTokens",
    "PyramidPooling",
    "ResizeTo",
    "ResizeToStride",
    "ScSE",
    "SeparableConvBlock",
    "SimplePyramid",
    "SpaceToDepth",
    "SpatialReductionAttention",
    "SqueezeExcitation",
    "TokenEmbedding",
    "TokenMap",
    "TransformerBlock",
    "Upsample",
    "WindowBlock",
    "at_stride",
    "light",
    "light_gelu",
    "tanh_gelu",
]
