"""SegFormer's all-MLP decoder: every level projected to one width, upsampled to stride 4 and fused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from segzoo.decoders.base import Decoder
from segzoo.decoders.table import DECODERS
from segzoo.layers import ResizeTo
from segzoo.levels import LEVELS


@DECODERS.register("segformer")
class SegFormer(Decoder):
    """SegFormer's all-MLP decoder (Xie et al., 2021, https://arxiv.org/abs/2105.15203): `(B, H/4, W/4, channels)`.

    A linear layer for the pixels of each level from P2 on, a bilinear resize to P2, concatenation, a 1x1 convolution
    and dropout, as in the published code. segmentation_models.pytorch has the same head, with P1 as a fifth input where
    the backbone has one, without dropout, and with the corners of the logits on those of the image.

    Args:
        channels: of every level and of the output: 256 for the smaller backbones, 768 for the larger in the paper.
        dropout: rate of the dropout of whole channels at the end.
        depth: number of the deepest level to use; by default the deepest available.
        with_p1: also read P1 if the backbone provides it.
        head_interpolation: "bilinear" or "aligned", how the logits are resized; see `segzoo.layers.ResizeTo`.
        **kwargs: `normalization`, `activation`, `epsilon` and `groups` of Decoder.
    """

    compat: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smp": {"with_p1": True, "dropout": 0.0, "head_interpolation": "aligned"}
    }
    added: ClassVar[Sequence[str]] = ("with_p1", "head_interpolation", *Decoder.added)

    def __init__(
        self,
        channels: int = 256,
        dropout: float = 0.1,
        depth: int | None = None,
        with_p1: bool = False,
        head_interpolation: str = "bilinear",
        **kwargs: Any,
    ):
        super().__init__(dropout=dropout, **kwargs)
        self.channels = channels
        self.depth = depth
        self.with_p1 = with_p1
        self.head_interpolation = head_interpolation
        self.resize = ResizeTo("bilinear", dtype=self.dtype_policy, name="resize")

    @classmethod
    def levels(
        cls, output_stride: int, available: Sequence[str] = LEVELS, depth: int | None = None, **options: Any
    ) -> tuple[str, ...]:
        """Return the levels from P2 on, or from P1 on with `with_p1`."""
        finest = 1 if options.get("with_p1") else cls.finest
        return cls._levels_from(finest, output_stride, available, depth)

    def _first(self, features: Mapping[str, Any]) -> int:
        return 1 if self.with_p1 and "P1" in features else self.finest

    def build(self, features_shape: dict[str, tuple]) -> None:
        """Create the layers for features of these shapes."""
        self.used = self.pick(features_shape)
        self.linear = {}
        for level in self.used:
            # A 1x1 convolution is a linear layer of each pixel.
            self.linear[level] = keras.layers.Conv2D(self.channels, 1, dtype=self.dtype_policy, name=f"linear_{level}")
            self.linear[level].build((None, None, None, features_shape[level][3]))
        self.fuse = self.block("fuse", len(self.used) * self.channels, self.channels, kernel_size=1)
        self.built = True

    def call(self, features: dict[str, Any], training: bool | None = None) -> Any:
        """Bring all levels to P2's size and mix them."""
        maps = [self.resize(self.linear[level](features[level]), features["P2"]) for level in reversed(self.used)]
        return self.drop(self.fuse(ops.concatenate(maps, axis=-1), training=training), training=training)

    def compute_output_shape(self, features_shape: dict[str, tuple]) -> tuple:
        """Shape `(B, H/4, W/4, channels)`."""
        return (*features_shape["P2"][:3], self.channels)
