"""Options of a backbone, in the one place that knows their names, defaults and checks."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from types import NoneType
from typing import Any, Literal

from segzoo.compat import resolve
from segzoo.errors import SegzooError, unknown_name, wrong_type

# Types of the options that are not checked otherwise, and words for them.
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "taps": ((str, NoneType), "the name of a kind of taps or None"),
    "weights": ((str, os.PathLike, NoneType), "a word such as 'auto', a path or None"),
    "drop_path": ((Real,), "a number in 0..1 (1 excluded)"),
    "trainable": ((bool, str), "True, False or the name of a level"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackboneOptions:
    """Options of a backbone; `segzoo.backbones.create` and `segzoo.build_model` also take them by name.

    Attributes:
        taps: kind of taps; None: the default of the family. EfficientNet has "expansion" and "output".
        output_stride: 32, 16 or 8; None: 32, or in a model the default of the decoder, as in its paper. Below 32, the
            strides of the last stages are replaced by dilation (Chen et al., 2017), and the levels end at P4 or P3.
        weights: "auto", "imagenet", "none" (or None), "preset:NAME" of keras-cv or keras-hub, the path of the folder of
            such a preset, or that of a `.weights.h5` file, from which a model loads all matching tensors.
        input_channels: number of image channels. For numbers other than 3 the ImageNet weights of the first kernel are
            adapted: averaged over channels for 1, repeated cyclically for more, and scaled to preserve the response.
        mean: mean of each channel, in pixel values; None: that of the pretrained weights.
        std: standard deviation of each channel, in pixel values; given with `mean`.
        drop_path: rate of stochastic depth at the deepest block, 0..1 (1 excluded), decreasing linearly to the first
            block; only for families with stochastic depth, such as EfficientNet and ConvNeXt. It pays in long training:
            in runs of a few epochs it costs accuracy (docs/results.md).
        trainable: False freezes the whole backbone; a level, such as "P2", freezes the layers that this level depends
            on and trains the others; "T1" to "T4" are those of a plain vision transformer, whose pyramid, which no
            pretrained network has, is never frozen. Frozen layers also run batch normalisation and dropout in inference
            mode.
        batch_norm: "train"; "frozen" to keep the statistics and parameters of all batch normalisation; or "auto":
            frozen where weights were loaded, which in fine-tuning was at least as accurate with batches of 2, 4 and 16
            (docs/results.md), and trained from random values, which have no statistics worth keeping.
        compat: "smp" reproduces the encoders of segmentation_models.pytorch, for converted weights: taps are "output"
            if there are several kinds; a convolution whose stride is removed is itself dilated; and the strided
            convolutions of EfficientNet are padded for the variant's nominal image size, whatever the actual size, so
            that feature sizes are rounded down if sides are not multiples of 32. EfficientNet-B0 ends stride 16 two
            blocks early. "smp-0.1.0" reproduces segzoo 0.1.0, which did not select taps and rounded up. "torchvision"
            and "timm" pad and normalise as the network of that library does, for weights converted from it; taps and
            dilation remain segzoo's (docs/checkpoints.md). "smp-timm" is timm's EfficientNet as
            segmentation_models.pytorch dilates it, the convolution whose stride is removed included.

    Raises:
        SegzooError: an invalid value. Whether the network supports an output stride is checked when it is built.
    """

    taps: str | None = None
    output_stride: int | None = None
    weights: str | os.PathLike[str] | None = "auto"
    input_channels: int = 3
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    drop_path: float = 0.0
    trainable: bool | Literal["P1", "P2", "P3", "P4", "P5", "T1", "T2", "T3", "T4"] = True
    batch_norm: Literal["auto", "train", "frozen"] = "auto"
    compat: str | None = None

    def __post_init__(self) -> None:
        for name, (kinds, words) in _TYPES.items():
            if not isinstance(value := getattr(self, name), kinds) or (isinstance(value, bool) and bool not in kinds):
                raise wrong_type(name, words, value)
        for name in ("output_stride", "input_channels"):
            value = getattr(self, name)
            if isinstance(value, Integral) and not isinstance(value, bool):
                object.__setattr__(self, name, int(value))  # NumPy's integers cannot be saved with a layer
        if type(self.output_stride) not in (int, NoneType):
            raise SegzooError(f"output_stride must be 8, 16 or 32, got {self.output_stride!r}.")
        if type(self.input_channels) is not int or self.input_channels < 1:
            raise SegzooError(f"input_channels must be 1 or more, got {self.input_channels!r}.")
        if not 0 <= self.drop_path < 1:
            raise SegzooError(f"drop_path must be in 0..1 (1 excluded), got {self.drop_path}.")
        if self.batch_norm not in ("auto", "train", "frozen"):
            raise SegzooError(f"batch_norm must be 'auto', 'train' or 'frozen', got {self.batch_norm!r}.")
        resolve(self.compat, None)

    @classmethod
    def of(cls, options: BackboneOptions | None) -> BackboneOptions:
        """Return the options, for None the defaults; SegzooError for anything else."""
        if not isinstance(options, cls | None):
            raise wrong_type("The options of a backbone", "a segzoo.backbones.BackboneOptions or None", options)
        return options or cls()

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of the options."""
        return [field.name for field in dataclasses.fields(cls)]

    def changed(self, given: Mapping[str, Any]) -> BackboneOptions:
        """Return a copy with the options in `given` replaced; `imitate` is a deprecated alias of `compat`.

        Args:
            given: option name to new value.

        Raises:
            UnknownNameError: an unknown option.
            SegzooError: an invalid value.
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
