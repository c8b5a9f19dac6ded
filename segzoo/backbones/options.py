"""Options of a backbone, in the one place that knows their names, defaults and checks."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from segzoo.compat import resolve
from segzoo.errors import SegzooError, unknown_name


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackboneOptions:
    """Options of a backbone, which `segzoo.backbones.create` and `segzoo.build_model` take by name as well.

    Attributes:
        taps: the kind of taps; by default the family's default. EfficientNet has "expansion" and "output".
        output_stride: 32, 16 or 8; by default 32, in a model that of the decoder, as in its paper. Below 32 the strides
            of the last stages are taken out and what follows is dilated (Chen et al., 2017), and the levels end at P4
            or P3.
        weights: "auto", "imagenet", "none" (or None), "preset:NAME" of keras-cv or keras-hub, or the path of a
            `.weights.h5` file, in a model for all that fits.
        input_channels: channels of an image. For others than 3 the first kernel's ImageNet weights are adapted: the
            mean of its channels for 1, its channels in turn for more, scaled so that the response stays as large.
        mean: of each channel, in pixel values, instead of what the pretrained weights were made for.
        std: of each channel, in pixel values; given with `mean`.
        drop_path: rate of stochastic depth at the deepest block, 0..1, falling linearly to the first; for EfficientNet
            and ConvNeXt, the others have none.
        trainable: False freezes the whole backbone; a level, such as "P2", freezes all that this level's tap needs and
            trains the rest. What is frozen also runs batch normalisation and dropout as in inference.
        batch_norm: "train", or "frozen" to keep the statistics and parameters of all batch normalisation, for batches
            too small to estimate them.
        compat: "smp" does three things as segmentation_models.pytorch's encoders, for weights converted from it: the
            taps are "output" where there are several kinds; where a stride is taken out, its own convolution is dilated
            too; and EfficientNet's strided convolutions pad as they must for the variant's own image size, whatever the
            image, so that features of other sizes than multiples of 32 are rounded down. Its EfficientNet-B0 ends
            stride 16 two blocks early, and so does this one. "smp-0.1.0" does what segzoo 0.1.0 did instead, which
            chose no taps and rounded up. "torchvision" and "timm" pad and normalise as that library's network of the
            name does, for weights converted from it; taps and dilation stay segzoo's. docs/checkpoints.md lists them.

    Raises:
        SegzooError: a value outside of what is said above; an output stride is checked against the network.
    """

    taps: str | None = None
    output_stride: int | None = None
    weights: str | os.PathLike[str] | None = "auto"
    input_channels: int = 3
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    drop_path: float = 0.2
    trainable: bool | Literal["P1", "P2", "P3", "P4", "P5"] = True
    batch_norm: Literal["train", "frozen"] = "train"
    compat: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.input_channels, int) or self.input_channels < 1:
            raise SegzooError(f"input_channels must be 1 or more, got {self.input_channels!r}.")
        if not 0 <= self.drop_path < 1:
            raise SegzooError(f"drop_path must be in 0..1 (1 excluded), got {self.drop_path}.")
        if self.batch_norm not in ("train", "frozen"):
            raise SegzooError(f"batch_norm must be 'train' or 'frozen', got {self.batch_norm!r}.")
        resolve(self.compat, None)

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of the options."""
        return [field.name for field in dataclasses.fields(cls)]

    def changed(self, given: Mapping[str, Any]) -> BackboneOptions:
        """Return the options with those in `given` changed, among them `imitate`, the deprecated alias of `compat`.

        Args:
            given: name to value.

        Raises:
            UnknownNameError: no such option.
            SegzooError: a value that the option cannot have.
        """
        known = self.names()
        changes = dict(given)
        imitate = changes.pop("imitate", None)
        for name in changes:
            if name not in known:
                raise unknown_name("option of backbones", name, known)
        if imitate is not None:
            changes["compat"] = resolve(
                changes.get("compat", self.compat), imitate, stacklevel=4
            )  # for the caller of `create` and `build_model`
        return dataclasses.replace(self, **changes)

    def given(self) -> dict[str, Any]:
        """Return the options that differ from their defaults."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }
