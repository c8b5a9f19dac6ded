"""DeepLabV3 and DeepLabV3+: atrous spatial pyramid pooling on a dilated backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from keras import ops

from segzoo.decoders.base import Decoder, deepest
from segzoo.decoders.table import DECODERS
from segzoo.layers import ASPP, ResizeTo
from segzoo.levels import LEVELS

# (6, 12, 18) at output stride 16, doubled at 8 (Chen et al., 2017, section 4.1).
_RATES_AT_STRIDE_16 = (6, 12, 18)


# Of segmentation_models.pytorch at every output stride.
_SMP_RATES = (12, 24, 36)


class _DeepLab(Decoder):
    """Base class of both versions: options, and dilation rates that follow from the deepest level."""

    default_output_stride: ClassVar[int] = 16
    added: ClassVar[Sequence[str]] = ("depth", "aspp_separable", *Decoder.added)

    def __init__(
        self,
        channels: int = 256,
        rates: Sequence[int] | None = None,
        dropout: float = 0.5,
        separable: bool = False,
        depth: int | None = None,
        aspp_separable: bool | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.depth = depth
        self.aspp_separable = aspp_separable
        self.channels = channels
        self.rates = None if rates is None else tuple(rates)
        self.dropout = dropout  # ASPP's own, not the result's
        self.separable = separable

    def _last(self, features: Mapping[str, Any]) -> str:
        """Return the name of the level that is pooled."""
        level = f"P{self.depth}" if self.depth else deepest(features)
        self.require(features, level)
        return level

    def _make_aspp(self, features_shape: dict[str, tuple]) -> ASPP:
        level = self._last(features_shape)
        stride = 2 ** int(level[1:])
        rates = self.rates or tuple(max(1, rate * 16 // stride) for rate in _RATES_AT_STRIDE_16)
        separable = self.separable if self.aspp_separable is None else self.aspp_separable
        aspp = ASPP(rates, self.channels, separable, self.dropout, name="aspp", **self.block_options)
        aspp.build(features_shape[level])
        return aspp


@DECODERS.register("deeplabv3")
class DeepLabV3(_DeepLab):
    """DeepLabV3 (Chen et al., "Rethinking Atrous Convolution", 2017): `(B, H/stride, W/stride, channels)`.

    ASPP on the deepest level, then a 3x3 convolution. segmentation_models.pytorch has the rates (12, 24, 36) at both of
    its output strides, of which 8 is its default, and aligns the corners of the logits with those of the image.

    Args:
        channels: output channels of ASPP and of the decoder.
        rates: dilation rates of the atrous branches; by default (6, 12, 18) at output stride 16, (12, 24, 36) at 8.
        dropout: dropout rate after ASPP's projection.
        separable: use depthwise separable 3x3 convolutions.
        depth: number of the level to decode; by default the deepest available.
        aspp_separable: use depthwise separable 3x3 convolutions in ASPP; None uses the value of `separable`.
        head_interpolation: "bilinear" or "aligned", how the logits are resized; see `segzoo.layers.ResizeTo`.
        **kwargs: `normalization`, `activation`, `epsilon` and `groups` of Decoder.
    """

    compat: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smp": {"output_stride": 8, "rates": _SMP_RATES, "head_interpolation": "aligned"}
    }
    added: ClassVar[Sequence[str]] = ("head_interpolation", *_DeepLab.added)

    def __init__(
        self,
        channels: int = 256,
        rates: Sequence[int] | None = None,
        dropout: float = 0.5,
        separable: bool = False,
        depth: int | None = None,
        aspp_separable: bool | None = None,
        head_interpolation: str = "bilinear",
        **kwargs: Any,
    ):
        super().__init__(channels, rates, dropout, separable, depth, aspp_separable, **kwargs)
        self.head_interpolation = head_interpolation

    @classmethod
    def levels(
        cls, output_stride: int, available: Sequence[str] = LEVELS, depth: int | None = None, **options: Any
    ) -> tuple[str, ...]:
        """Return the deepest level only."""
        return super().levels(output_stride, available, depth)[-1:]

    def build(self, features_shape: dict[str, tuple]) -> None:
        """Create the weights for features of these shapes."""
        self.aspp = self._make_aspp(features_shape)
        self.conv = self.block("conv", self.channels, self.channels)
        self.built = True

    def call(self, features: dict[str, Any], training: bool | None = None) -> Any:
        """Decode the deepest level."""
        return self.conv(self.aspp(features[self._last(features)], training=training), training=training)

    def compute_output_shape(self, features_shape: dict[str, tuple]) -> tuple:
        """Shape of the deepest level with `channels` channels."""
        return (*features_shape[self._last(features_shape)][:3], self.channels)


@DECODERS.register("deeplabv3plus")
class DeepLabV3Plus(_DeepLab):
    """DeepLabV3+ (Chen et al., "Encoder-Decoder with Atrous Separable Convolution", 2018): `(B, H/4, W/4, channels)`.

    Separable ASPP on the deepest level, upsampled and joined with P2 reduced to a few channels, then one separable
    convolution (two give nothing, says the paper's table 2; the count is segmentation_models.pytorch's, which however
    has the rates (12, 24, 36) at both of its output strides and aligns the corners of maps).

    Args:
        channels: output channels of ASPP and of the decoder.
        low_level_channels: number of channels that P2 is reduced to.
        rates: dilation rates of the atrous branches; by default (6, 12, 18) at output stride 16, (12, 24, 36) at 8.
        dropout: dropout rate after ASPP's projection.
        separable: use depthwise separable 3x3 convolutions.
        align_corners: resize with the corner pixels aligned, as segmentation_models.pytorch does: for its
            weights.
        depth: number of the level to pool; by default the deepest available.
        aspp_separable: use depthwise separable 3x3 convolutions in ASPP; None uses the value of `separable`.
        **kwargs: `normalization`, `activation`, `epsilon` and `groups` of Decoder.
    """

    compat: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smp": {"output_stride": 16, "rates": _SMP_RATES, "align_corners": True}
    }

    def __init__(
        self,
        channels: int = 256,
        low_level_channels: int = 48,
        rates: Sequence[int] | None = None,
        dropout: float = 0.5,
        separable: bool = True,
        align_corners: bool = False,
        depth: int | None = None,
        aspp_separable: bool | None = None,
        **kwargs: Any,
    ):
        super().__init__(channels, rates, dropout, separable, depth, aspp_separable, **kwargs)
        self.align_corners = align_corners
        self.low_level_channels = low_level_channels
        self.resize = ResizeTo(self.bilinear, dtype=self.dtype_policy, name="resize")

    @classmethod
    def levels(
        cls, output_stride: int, available: Sequence[str] = LEVELS, depth: int | None = None, **options: Any
    ) -> tuple[str, ...]:
        """Return P2 and the deepest level, which must be another one."""
        return ("P2", cls._levels_from(3, output_stride, available, depth)[-1])

    def build(self, features_shape: dict[str, tuple]) -> None:
        """Create the weights for features of these shapes."""
        self.require(features_shape, "P2", *([] if len(features_shape) > 1 else ["P4"]))
        self.aspp = self._make_aspp(features_shape)
        self.after_aspp = self.block("after_aspp", self.channels, self.channels)
        self.low_level = self.block("low_level", features_shape["P2"][3], self.low_level_channels, kernel_size=1)
        self.fuse = self.block("fuse", self.channels + self.low_level_channels, self.channels)
        self.built = True

    def call(self, features: dict[str, Any], training: bool | None = None) -> Any:
        """Decode the deepest level and join it with P2."""
        x = self.aspp(features[self._last(features)], training=training)
        x = self.after_aspp(x, training=training)
        low_level = self.low_level(features["P2"], training=training)
        x = ops.concatenate([self.resize(x, low_level), low_level], axis=-1)
        return self.fuse(x, training=training)

    def compute_output_shape(self, features_shape: dict[str, tuple]) -> tuple:
        """Shape of P2 with `channels` channels."""
        return (*features_shape["P2"][:3], self.channels)
