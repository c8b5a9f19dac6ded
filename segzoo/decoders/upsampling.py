"""Upsampling decoder: base class of U-Net and its relatives, which go back to full size level by level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from segzoo.decoders.base import Decoder

# segmentation_models.pytorch's, deepest block first.
WIDTHS = (256, 128, 64, 32, 16)


class UpsamplingDecoder(Decoder):
    """Upsample from the deepest level to full size: `(B, 2^n h, 2^n w, C)` for a finest level Pn of `(B, h, w, .)`.

    One block for every doubling. Blocks above the finest level have no skip: one where that is P1, two where the
    backbone begins at P2. Full size is within a few pixels of the image's, whose size the head takes.

    Args:
        depth: number of the deepest level to use; by default the deepest available.
    """

    finest: ClassVar[int] = 1

    def __init__(self, depth: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.depth = depth

    def _first(self, features: Mapping[str, Any]) -> int:
        # Convolutional networks with a stem of stride 4 and transformers have no P1.
        return 1 if "P1" in features else 2

    def skips(self, features: Mapping[str, Any]) -> list[str | None]:
        """Return the level of each block's skip, the deepest block first; None for blocks without one."""
        used = self.pick(features)
        return [*reversed(used[:-1]), *[None] * int(used[0][1:])]

    def fit_channels(self, channels: Sequence[int] | None, features: Mapping[str, Any]) -> tuple[int, ...]:
        """Check that there is one width for each block; ValueError for another number of them."""
        used = self.pick(features)
        count = int(used[-1][1:])
        if channels is None:
            return WIDTHS[-count:]
        if len(channels) != count:
            raise ValueError(
                f"{type(self).__name__} got {len(channels)} channels {tuple(channels)}, but makes {count} blocks from "
                f"{used[-1]} to full size; give one number for each."
            )
        return tuple(channels)

    def compute_output_shape(self, features_shape: dict[str, tuple]) -> tuple:
        """Shape at full size."""
        finest = self.pick(features_shape)[0]
        factor = 2 ** int(finest[1:])
        batch, height, width, _ = features_shape[finest]
        return (batch, height and factor * height, width and factor * width, self.output_channels(features_shape))

    def output_channels(self, features: Mapping[str, Any]) -> int:
        """Number of channels of the result."""
        raise NotImplementedError(f"{type(self).__name__} must define output_channels.")
