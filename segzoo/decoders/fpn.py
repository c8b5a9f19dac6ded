"""The feature pyramid network's semantic segmentation branch."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
from keras import ops

from segzoo.decoders.base import Decoder, deepest
from segzoo.layers import ConvBlock, ResizeTo


@keras.saving.register_keras_serializable("segzoo")
class FPN(Decoder):
    """Semantic FPN (Kirillov et al., "Panoptic FPN", 2019): returns `(B, H/4, W/4, segmentation_channels)`.

    A top-down pyramid (Lin et al., 2017) over P2 and above; each level is convolved and upsampled to stride 4, and
    the levels are added. Defaults are those of segmentation_models.pytorch.

    Args:
        pyramid_channels: of the pyramid.
        segmentation_channels: of the branch and of the output.
        merge: "add" or "concat" the levels.
        dropout: rate of the dropout of whole channels after merging.
        normalization: "batch", "group", "layer" or "none".
        activation: any Keras activation name.
    """

    head_kernel: ClassVar[int] = 1

    def __init__(
        self,
        pyramid_channels: int = 256,
        segmentation_channels: int = 128,
        merge: str = "add",
        dropout: float = 0.2,
        normalization: str | None = "group",
        activation: str | None = "relu",
        **kwargs: Any,
    ):
        super().__init__(normalization, activation, **kwargs)
        if merge not in ("add", "concat"):
            raise ValueError(f"merge must be 'add' or 'concat', got {merge!r}.")
        self.pyramid_channels = pyramid_channels
        self.segmentation_channels = segmentation_channels
        self.merge = merge
        self.dropout = dropout
        self.upsample_pyramid = ResizeTo("nearest", dtype=self.dtype_policy, name="upsample_pyramid")
        self.upsample_branch = ResizeTo("bilinear", dtype=self.dtype_policy, name="upsample_branch")
        self.drop = keras.layers.SpatialDropout2D(dropout, dtype=self.dtype_policy, name="dropout")

    @classmethod
    def levels(cls, output_stride: int) -> tuple[str, ...]:
        """P2 and above."""
        return super().levels(output_stride)[1:]

    def build(self, features_shape: dict[str, tuple]) -> None:
        """Create the lateral convolutions and the branches for features of these shapes."""
        used = self._used(features_shape)
        self.laterals = {}
        self.branches = {}
        for level in used:
            lateral = keras.layers.Conv2D(self.pyramid_channels, 1, dtype=self.dtype_policy, name=f"lateral_{level}")
            lateral.build(features_shape[level])
            self.laterals[level] = lateral
            branch, below = [], self.pyramid_channels
            # One convolution for each doubling; the level at stride 4 gets one without.
            for number in range(max(1, int(level[1:]) - 2)):
                block = ConvBlock(
                    self.segmentation_channels,
                    3,
                    name=f"branch_{level}_conv{number + 1}",
                    **self.block_options,
                )
                block.build((None, None, None, below))
                branch.append(block)
                below = self.segmentation_channels
            self.branches[level] = branch
        self.built = True

    def _used(self, features: dict[str, Any]) -> list[str]:
        last = int(deepest(features)[1:]) if features else 5
        used = [f"P{number}" for number in range(2, last + 1)]
        self.require(features, *(used or ["P2"]))
        return used

    def call(self, features: dict[str, Any], training: bool | None = None) -> Any:
        """Build the pyramid top down, then merge its levels at stride 4."""
        used = self._used(features)
        pyramid: dict[str, Any] = {}
        above = None
        for level in reversed(used):
            x = self.laterals[level](features[level])
            above = x if above is None else x + self.upsample_pyramid(above, x)
            pyramid[level] = above
        merged = []
        for level in used:
            x = pyramid[level]
            for number, block in enumerate(self.branches[level]):
                x = block(x, training=training)
                if level != "P2":
                    x = self.upsample_branch(x, pyramid[f"P{int(level[1:]) - 1 - number}"])
            merged.append(x)
        x = merged[0]
        for other in merged[1:]:
            x = x + other if self.merge == "add" else ops.concatenate([x, other], axis=-1)
        return self.drop(x, training=training)

    def compute_output_shape(self, features_shape: dict[str, tuple]) -> tuple:
        """Shape of P2 with the branch's channels, times the levels if they are concatenated."""
        levels = len(self._used(features_shape)) if self.merge == "concat" else 1
        return (*features_shape["P2"][:3], self.segmentation_channels * levels)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {
            **super().get_config(),
            "pyramid_channels": self.pyramid_channels,
            "segmentation_channels": self.segmentation_channels,
            "merge": self.merge,
            "dropout": self.dropout,
        }
