"""PSPNet's decoder: pyramid pooling on a dilated backbone's last map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from segzoo.decoders.base import Decoder, deepest
from segzoo.decoders.table import DECODERS
from segzoo.layers import PyramidPooling
from segzoo.levels import LEVELS


@DECODERS.register("pspnet")
class PSPNet(Decoder):
    """Pyramid scene parsing network (Zhao et al., 2017, https://arxiv.org/abs/1612.01105): `(B, h, w, channels)`.

    The deepest map, at output stride 8 unless the backbone is built otherwise, beside its averages over 1, 2x2, 3x3 and
    6x6 fields, each convolved to a part of the map's channels; then a convolution and dropout. The 1x1 convolution
    after the pyramid, where the paper's code has a 3x3 one, and the branch of one field without normalisation are
    segmentation_models.pytorch's, which however works on P3 of a backbone that is not dilated, `depth=3` with output
    stride 32, and aligns the corners of maps.

    Args:
        channels: number of output channels.
        bins: sizes of the pooling grids.
        dropout: rate of the dropout of whole channels at the end.
        depth: number of the level to pool; by default the deepest available.
        align_corners: resize with the corner pixels aligned, as segmentation_models.pytorch does: for its
            weights.
        **kwargs: `normalization`, `activation`, `epsilon` and `groups` of Decoder.
    """

    default_output_stride: ClassVar[int] = 8
    head_kernel: ClassVar[int] = 3
    compat: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smp": {"output_stride": 32, "depth": 3, "align_corners": True}
    }

    def __init__(
        self,
        channels: int = 512,
        bins: Sequence[int] = (1, 2, 3, 6),
        dropout: float = 0.2,
        depth: int | None = None,
        align_corners: bool = False,
        **kwargs: Any,
    ):
        super().__init__(dropout=dropout, **kwargs)
        self.channels = channels
        self.bins = tuple(bins)
        self.depth = depth
        self.align_corners = align_corners

    @classmethod
    def levels(
        cls, output_stride: int, available: Sequence[str] = LEVELS, depth: int | None = None, **options: Any
    ) -> tuple[str, ...]:
        """Return the deepest level only."""
        return super().levels(output_stride, available, depth)[-1:]

    def build(self, features_shape: dict[str, tuple]) -> None:
        """Create the layers for features of these shapes."""
        self.level = self._level(features_shape)
        width = features_shape[self.level][3]
        branch = max(1, width // len(self.bins))
        self.pyramid = PyramidPooling(
            branch,
            self.bins,
            normalize_single=False,
            interpolation=self.bilinear,
            name="pyramid",
            **self.block_options,
        )
        self.pyramid.build(features_shape[self.level])
        self.convolve = self.block("conv", width + branch * len(self.bins), self.channels, kernel_size=1)
        self.built = True

    def _level(self, features: Mapping[str, Any]) -> str:
        if self.depth is None and features:
            return deepest(features)
        self.require(features, f"P{self.depth or 3}")
        return f"P{self.depth}"

    def call(self, features: dict[str, Any], training: bool | None = None) -> Any:
        """Pool the deepest level and mix."""
        x = self.pyramid(features[self.level], training=training)
        return self.drop(self.convolve(x, training=training), training=training)

    def compute_output_shape(self, features_shape: dict[str, tuple]) -> tuple:
        """Shape of the deepest level with `channels`."""
        return (*features_shape[self._level(features_shape)][:3], self.channels)
