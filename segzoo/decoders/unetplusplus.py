"""U-Net++'s decoder: nested skip pathways between the encoder and U-Net's own path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from segzoo.decoders.base import SUPERVISED, number
from segzoo.decoders.table import DECODERS
from segzoo.decoders.upsampling import UpsamplingDecoder
from segzoo.layers import ScSE, Upsample


@DECODERS.register("unetplusplus")
class UNetPlusPlus(UpsamplingDecoder):
    """U-Net++ (Zhou et al., 2018, https://arxiv.org/abs/1807.10165): returns `(B, H, W, channels[-1])`.

    Node (i, j) lies at level Pi, j steps away from the backbone's feature (i, 0): it upsamples node (i + 1, j - 1),
    concatenates all nodes (i, 0) to (i, j - 1) and applies two 3x3 convolutions. The nodes that the deepest level
    reaches are as wide as `channels` says, those between as wide as the backbone's feature at their level; so, and with
    nearest upsampling, is segmentation_models.pytorch's, which is the same function. A last block doubles P1's size and
    has no skip.

    With deep supervision the result is a dict: "decoded" as above, and "supervised1", "supervised2", ... for the nodes
    of the finest level that the shallower U-Nets within end at, `(B, H/2, W/2, C)`. A loss on each makes every depth
    learn to segment; the paper's fast mode, which predicts from one branch, is what "decoded" alone gives.

    Args:
        channels: channels of the blocks, deepest first, one for each level down to the deepest; by default the last of
            256, 128, 64, 32, 16.
        upsampling: "nearest", "bilinear" or "transposed".
        deep_supervision: also return the outputs of the shallower U-Nets.
        separable: use depthwise separable convolutions.
        attention: "scse" weighs channels and pixels in every node (Roy et al., 2018); None disables it.
        squeeze_activation: activation of the hidden layer of "scse": "relu" as in the paper, or any Keras activation
            name.
        **kwargs: `depth` of UpsamplingDecoder; `normalization`, `activation`, `dropout`, `epsilon` and `groups` of
            Decoder.
    """

    head_kernel: ClassVar[int] = 3
    added: ClassVar[Sequence[str]] = ("attention", "squeeze_activation", *UpsamplingDecoder.added)

    def __init__(
        self,
        channels: Sequence[int] | None = None,
        upsampling: str = "nearest",
        deep_supervision: bool = False,
        separable: bool = False,
        attention: str | None = None,
        squeeze_activation: str = "relu",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if attention not in (None, "scse"):
            raise ValueError(f"attention must be 'scse' or None, got {attention!r}.")
        self.channels = None if channels is None else tuple(channels)
        self.upsampling = upsampling
        self.deep_supervision = deep_supervision
        self.separable = separable
        self.attention = attention
        self.squeeze_activation = squeeze_activation
        Upsample(upsampling, 1)  # a name that is none is an error now, not when the layer is built

    def build(self, features_shape: dict[str, tuple]) -> None:
        """Create the nodes for features of these shapes."""
        used = self.pick(features_shape)
        first, last = number(used[0]), number(used[-1])
        path = self.fit_channels(self.channels, features_shape)
        widths = {(level, 0): features_shape[f"P{level}"][3] for level in range(first, last + 1)}
        self.nodes = {}
        for level, column in self._nodes(first, last):
            width = path[last - 1 - level] if level + column == last else widths[level, 0]
            below, skips = widths[level + 1, column - 1], column * widths[level, 0]
            self.nodes[f"{level},{column}"] = self._make_node(f"node_{level}_{column}", below, skips, width)
            widths[level, column] = width
        below = widths[first, last - first]
        self.last = []
        for index, width in enumerate(path[len(path) - first :], 1):
            name = "last" if index == first else f"last{first - index}"
            self.last.append(self._make_node(name, below, 0, width))
            below = width
        self.built = True

    @staticmethod
    def _nodes(first: int, last: int) -> list[tuple[int, int]]:
        """Return level and column of every node in topological order."""
        return [(level, column) for column in range(1, last - first + 1) for level in range(first, last - column + 1)]

    def _make_node(self, name: str, below: int, skips: int, width: int) -> list[keras.layers.Layer]:
        up = Upsample(self.upsampling, below, dtype=self.dtype_policy, name=f"{name}_up")
        up.build((None, None, None, below))
        convolutions = [self.block(f"{name}_conv1", below + skips, width), self.block(f"{name}_conv2", width, width)]
        if not self.attention:
            return [up, *convolutions]
        before = [self._attend(f"{name}_attention1", below + skips)] if skips else []
        return [up, *before, *convolutions, self._attend(f"{name}_attention2", width)]

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

    @staticmethod
    def _apply(layers: list[keras.layers.Layer], x: Any, training: bool | None) -> Any:
        for layer in layers:
            x = layer(x) if isinstance(layer, ScSE) else layer(x, training=training)
        return x

    def call(self, features: dict[str, Any], training: bool | None = None) -> Any:
        """Compute the nodes column by column, then full size."""
        used = self.pick(features)
        first, last = number(used[0]), number(used[-1])
        nodes = {(number(level), 0): features[level] for level in used}
        for level, column in self._nodes(first, last):
            up, *layers = self.nodes[f"{level},{column}"]
            beside = [nodes[level, step] for step in range(column)]
            x = ops.concatenate([up(nodes[level + 1, column - 1], beside[0]), *beside], axis=-1)
            nodes[level, column] = self._apply(layers, x, training)
        x = nodes[first, last - first]
        for up, *layers in self.last:
            x = self._apply(layers, up(x), training)
        x = self.drop(x, training=training)
        if not self.deep_supervision:
            return x
        return {"decoded": x, **{f"{SUPERVISED}{column}": nodes[first, column] for column in range(1, last - first)}}

    def output_channels(self, features: Mapping[str, Any]) -> int:
        """Width of the last block."""
        return self.fit_channels(self.channels, features)[-1]

    def compute_output_shape(self, features_shape: dict[str, tuple]) -> Any:
        """Shape at full size; with deep supervision, of every result."""
        full = super().compute_output_shape(features_shape)
        if not self.deep_supervision:
            return full
        finest, *deeper = self.pick(features_shape)
        # The nodes between are as wide as the backbone's feature beside them.
        shallower = {f"{SUPERVISED}{column}": features_shape[finest] for column in range(1, len(deeper))}
        return {"decoded": full, **shallower}
