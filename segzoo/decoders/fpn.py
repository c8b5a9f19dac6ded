"""The feature pyramid network's semantic segmentation branch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import keras
from keras import ops

from segzoo.decoders.base import Decoder
from segzoo.decoders.table import DECODERS
from segzoo.layers import ResizeTo
from segzoo.layers.normalization import default_groups


@DECODERS.register("fpn")
class FPN(Decoder):
    """Semantic FPN (Kirillov et al., "Panoptic FPN", 2019): returns `(B, H/4, W/4, segmentation_channels)`.

    A top-down pyramid (Lin et al., 2017) over P2 and above; each level is convolved and upsampled to stride 4, and
    the levels are added. Widths are those of segmentation_models.pytorch, which aligns the corners of maps where it
    upsamples a branch or the logits, and has 32 groups in every group normalisation.

    Args:
        pyramid_channels: number of channels of the pyramid.
        segmentation_channels: number of channels of the segmentation branch and of the output.
        merge: "add" or "concat" the levels.
        dropout: rate of the dropout of whole channels after merging.
        upsampling: interpolation of the pyramid, "nearest" or "bilinear".
        separable: use depthwise separable convolutions in the branches.
        depth: number of the deepest level to use; by default the deepest available.
        align_corners: resize with the corner pixels aligned, as segmentation_models.pytorch does: for its
            weights.
        normalization: normalisation of the branches: "batch", "group", "layer" or "none".
        **kwargs: `activation`, `epsilon` and `groups` of Decoder.
    """

    head_kernel: ClassVar[int] = 1
    compat: ClassVar[Mapping[str, Mapping[str, Any]]] = {"smp": {"align_corners": True, "groups": 32}}

    def __init__(
        self,
        pyramid_channels: int = 256,
        segmentation_channels: int = 128,
        merge: str = "add",
        dropout: float = 0.2,
        upsampling: str = "nearest",
        separable: bool = False,
        depth: int | None = None,
        align_corners: bool = False,
        normalization: str | None = "group",
        **kwargs: Any,
    ):
        super().__init__(normalization=normalization, dropout=dropout, **kwargs)
        if merge not in ("add", "concat"):
            raise ValueError(f"merge must be 'add' or 'concat', got {merge!r}.")
        self.pyramid_channels = pyramid_channels
        self.segmentation_channels = segmentation_channels
        self.merge = merge
        self.upsampling = upsampling
        self.separable = separable
        self.depth = depth
        self.align_corners = align_corners
        self.upsample_pyramid = ResizeTo(upsampling, dtype=self.dtype_policy, name="upsample_pyramid")
        self.upsample_branch = ResizeTo(self.bilinear, dtype=self.dtype_policy, name="upsample_branch")

    def build(self, features_shape: dict[str, tuple]) -> None:
        """Create the lateral convolutions and the branches for features of these shapes."""
        used = self.pick(features_shape)
        self.laterals = {}
        self.branches = {}
        for level in used:
            lateral = keras.layers.Conv2D(self.pyramid_channels, 1, dtype=self.dtype_policy, name=f"lateral_{level}")
            lateral.build(features_shape[level])
            self.laterals[level] = lateral
            branch, below = [], self.pyramid_channels
            # One convolution for each doubling; the level at stride 4 gets one without.
            for number in range(max(1, int(level[1:]) - 2)):
                branch.append(self.block(f"branch_{level}_conv{number + 1}", below, self.segmentation_channels))
                below = self.segmentation_channels
            self.branches[level] = branch
        self.built = True

    def call(self, features: dict[str, Any], training: bool | None = None) -> Any:
        """Build the pyramid top down, then merge its levels at stride 4."""
        used = self.pick(features)
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

    def differences(self, stored: Mapping[str, Any] | None) -> dict[str, tuple[Any, Any]]:
        """Compare options as `Decoder.differences`; numbers of groups that resolve to the same value are equal."""
        found = super().differences(stored)
        counts = {groups or default_groups(self.segmentation_channels) for groups in found.get("groups", ())}
        if len(counts) == 1:
            del found["groups"]
        return found

    def compute_output_shape(self, features_shape: dict[str, tuple]) -> tuple:
        """Shape of P2 with the branch's channels, times the levels if they are concatenated."""
        levels = len(self.pick(features_shape)) if self.merge == "concat" else 1
        return (*features_shape["P2"][:3], self.segmentation_channels * levels)
