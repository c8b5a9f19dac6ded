"""PAN's decoder: feature pyramid attention, and global attention upsampling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from segzoo.decoders.base import Decoder
from segzoo.decoders.table import DECODERS
from segzoo.layers import ConvBlock, ResizeTo
from segzoo.layers.pooling import adaptive_average
from segzoo.levels import LEVELS


@DECODERS.register("pan")
class PAN(Decoder):
    """Pyramid attention network (Li et al., 2018, https://arxiv.org/abs/1805.10180): returns `(B, H/4, W/4, channels)`.

    The deepest level is multiplied by a single-channel attention map, which a pyramid of three poolings with 7x7, 5x5
    and 3x3 convolutions computes from it; its global mean is added. Each finer level is convolved, multiplied by
    channel weights computed from the global mean of the next deeper map, and added to that map.

    The paper and segmentation_models.pytorch use the fifth stage at stride 16, together with the fourth, also at stride
    16: set `stage_four` and output stride 16. The default here keeps output stride 32, which uses less memory. In
    segmentation_models.pytorch, bilinear upsampling aligns corners, odd sizes are halved with rounding down, and the
    attention pyramid is always upsampled bilinearly; the paper specifies none of these. Its convolutions have a bias
    before batch normalisation, which cancels it: 262 parameters without effect on ResNet-34.

    Args:
        channels: number of channels of every level and of the output.
        upsampling: "bilinear" or "nearest".
        depth: number of the deepest level to use; by default the deepest available.
        pyramid_activation: activation of the single-channel attention map of the deepest level: "relu" as in the paper,
            or any Keras activation name. segzoo 0.1.0 used "swish", which unlike the ReLU of a single channel cannot
            become zero everywhere.
        pyramid_upsampling: interpolation of the attention map, "bilinear" or "nearest"; None uses `upsampling`.
        halving: rounding of odd sizes: "ceil", with which every size can be halved three times, or "floor" (to at least
            one pixel) as in PyTorch.
        align_corners: whether bilinear resizing aligns the corner pixels, including that of the head.
        stage_four: at output stride 16, also read the backbone's fourth stage, as the feature "C4"; P4 is the fifth
            stage there.
        **kwargs: `normalization`, `activation`, `dropout`, `epsilon` and `groups` of Decoder.
    """

    head_kernel: ClassVar[int] = 3
    compat: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smp": {
            "output_stride": 16,
            "stage_four": True,
            "align_corners": True,
            "pyramid_upsampling": "bilinear",
            "halving": "floor",
        }
    }
    legacy: ClassVar[Mapping[str, Any]] = {"pyramid_activation": "swish"}
    added: ClassVar[Sequence[str]] = (
        "pyramid_activation",
        "pyramid_upsampling",
        "halving",
        "align_corners",
        "stage_four",
        *Decoder.added,
    )

    def __init__(
        self,
        channels: int = 32,
        upsampling: str = "bilinear",
        depth: int | None = None,
        pyramid_activation: str = "relu",
        pyramid_upsampling: str | None = None,
        halving: str = "ceil",
        align_corners: bool = False,
        stage_four: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.channels = channels
        self.upsampling = upsampling
        self.depth = depth
        self.pyramid_activation = pyramid_activation
        if halving not in ("ceil", "floor"):
            raise ValueError(f"halving must be 'ceil' or 'floor', got {halving!r}.")
        self.pyramid_upsampling = pyramid_upsampling
        self.halving = halving
        self.align_corners = align_corners
        self.stage_four = stage_four
        self.resize = self._resize(upsampling, "resize")
        self.resize_pyramid = self._resize(pyramid_upsampling or upsampling, "resize_pyramid")
        self.halve = keras.layers.MaxPooling2D(2, padding="same", dtype=self.dtype_policy, name="halve")

    def _resize(self, upsampling: str, name: str) -> ResizeTo:
        kind = self.bilinear if upsampling == "bilinear" else upsampling
        return ResizeTo(kind, dtype=self.dtype_policy, name=name)

    @classmethod
    def levels(
        cls, output_stride: int, available: Sequence[str] = LEVELS, depth: int | None = None, **options: Any
    ) -> tuple[str, ...]:
        """Return all levels from P2 on; with `stage_four` C4 too, if the backbone has it."""
        *above, last = super().levels(output_stride, available, depth)
        four = ("C4",) if options.get("stage_four") and last == "P4" and "C4" in available else ()
        return (*above, *four, last)

    def pick(self, features: Mapping[str, Any]) -> list[str]:
        """Return the levels in use, the finest first."""
        *above, last = super().pick(features)
        return [*above, *(["C4"] if "C4" in features else []), last]

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
        """Apply pyramid attention at the deepest level, then upsample level by level."""
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
            below = down(self._half(below), training=training)
            maps.append(below)
        weights = None
        for down, across in zip(reversed(maps), reversed(self.across), strict=True):
            beside = across(down, training=training)
            weights = beside if weights is None else beside + self.resize_pyramid(weights, beside)
        middle = self.middle(x, training=training)
        return self.resize_pyramid(weights, middle) * middle + self.pooled(self._mean(x), training=training)

    def _half(self, x: Any) -> Any:
        halved = self.halve(x)
        if self.halving == "ceil":
            return halved
        # The window that an odd size leaves incomplete is the last one.
        rows, columns = (
            max(1, size // 2) if isinstance(size, int) else ops.maximum(1, size // 2) for size in ops.shape(x)[1:3]
        )
        return halved[:, :rows, :columns]

    def _mean(self, x: Any) -> Any:
        return ops.cast(adaptive_average(x, 1), self.compute_dtype)

    def compute_output_shape(self, features_shape: dict[str, tuple]) -> tuple:
        """Shape `(B, H/4, W/4, channels)`."""
        return (*features_shape["P2"][:3], self.channels)
