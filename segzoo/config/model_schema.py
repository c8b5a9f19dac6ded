"""The schema of a configuration's section `model`: decoder, backbone and heads."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from segzoo.backbones import BACKBONES
from segzoo.backbones.options import BackboneOptions
from segzoo.config import model_checks, number_checks
from segzoo.config.fields import Fraction, Section, Source, Text, Weight
from segzoo.decoders import DECODERS


class ModelConfig(Section):
    """Network architecture: decoder, backbone and heads."""

    decoder: Annotated[str, AfterValidator(DECODERS.check)] = Field(
        description="Name of the decoder, as listed by `segzoo decoders`."
    )
    backbone: Annotated[str, AfterValidator(BACKBONES.check)] = Field(
        description="Name of the backbone, as listed by `segzoo backbones`."
    )
    taps: str | None = Field(
        default=None,
        description="Kind of backbone taps, for families that have several, such as EfficientNet: expansion or output; "
        "smp, timm: where these libraries read the features, for converted weights; null: the default of the family "
        "(docs/backbones.md lists the kinds of each).",
    )
    output_stride: Annotated[Literal[8, 16, 32], BeforeValidator(number_checks.no_fraction)] | None = Field(
        default=None,
        description="Input pixels per pixel of the deepest feature map, 8, 16 or 32; null: the decoder's default.",
    )
    weights: Source = Field(
        default="auto",
        description="Pretrained weights: auto (ImageNet if available, otherwise random), imagenet, none, preset:NAME "
        "of keras-cv or keras-hub, the path of a weights file or of a preset's folder, or an address of a hub such as "
        "hf://user/name.",
    )
    weights_sha256: Text | None = Field(
        default=None,
        description="SHA-256 digest of the weights file; a file with a different digest is refused before it is read.",
    )
    input_channels: int = Field(
        default=BackboneOptions.input_channels,
        ge=1,
        le=1024,
        description="Number of image channels, 1 to 1024: 1 reads images as greyscale, 3 as RGB, 4 as RGBA; other "
        "numbers are bands of a GeoTIFF (data.bands) or channels of .npy files.",
    )
    mean: list[float] | None = Field(
        default=None,
        description="Mean of each channel for normalisation, in pixel values; null: the mean that the pretrained "
        "weights expect.",
    )
    std: list[Annotated[float, Field(gt=0)]] | None = Field(
        default=None,
        description="Standard deviation of each channel for normalisation, in pixel values; requires mean.",
    )
    trainable: Literal[True, False, "P1", "P2", "P3", "P4", "P5", "T1", "T2", "T3", "T4"] = Field(
        default=BackboneOptions.trainable,
        description="true trains the whole backbone, false freezes it; a level, such as P2, freezes the layers that "
        "this level depends on and trains the others; T1 to T4 are quarters of the blocks of a plain vision "
        "transformer (vit, hub_vit, hub_dinov2, hub_dinov3). The pyramid made of its tokens is never frozen.",
    )
    batch_norm: Literal["auto", "train", "frozen"] = Field(
        default=BackboneOptions.batch_norm,
        description="train; or frozen, which keeps the statistics and parameters of the backbone's batch "
        "normalisation fixed; auto: frozen where model.weights were loaded, train otherwise.",
    )
    compat: Literal["smp", "smp-0.1.0", "torchvision", "timm", "smp-timm"] | None = Field(
        default=None,
        description="smp: build decoder and backbone as segmentation_models.pytorch does, for weights trained there; "
        "options, taps and output_stride in this section take precedence. smp-0.1.0: the behaviour of imitate: smp "
        "in segzoo 0.1.0, which affected the backbone only. torchvision, timm: the backbone of that library, for "
        "weights converted from it (docs/checkpoints.md). smp-timm: timm's EfficientNet as segmentation_models.pytorch "
        "dilates it (its encoders timm-efficientnet-*), at output stride 8 and 16.",
    )
    imitate: Literal["smp"] | None = Field(
        default=None, exclude=True, description="Deprecated alias of compat, from segzoo 0.1.0."
    )
    auxiliary: dict[Literal["P1", "P2", "P3", "P4", "P5"], Weight] = Field(
        default_factory=dict,
        description="Auxiliary segmentation heads, used in training only: backbone level to loss weight, such as "
        "{P4: 0.4}.",
    )
    classification: Weight | None = Field(
        default=None,
        description="Loss weight of an auxiliary head that predicts which classes are present in an image, used in "
        "training only; null: no such head.",
    )
    drop_path: Fraction = Field(
        default=BackboneOptions.drop_path,
        description="Stochastic depth: drop rate of the backbone's last block, 0 to 1. It pays in long training only.",
    )
    options: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments of the decoder's constructor.")

    def backbone_options(self) -> BackboneOptions:
        """Return the options of the backbone."""
        return BackboneOptions(**{name: getattr(self, name) for name in BackboneOptions.names()})

    @model_validator(mode="before")
    @classmethod
    def _imitate_is_compat(cls, section: Any) -> Any:
        return model_checks.renamed_compat(section)

    @model_validator(mode="after")
    def _parts_fit(self) -> ModelConfig:
        model_checks.decoder_options(self.decoder, self.options)
        model_checks.decoder_reads(self.decoder, self.backbone, self.auxiliary)
        model_checks.backbone_options(self.backbone, self.taps, self.output_stride, self.weights)
        model_checks.pixel_statistics(self.input_channels, self.mean, self.std)
        model_checks.digest(self.weights, self.weights_sha256)
        return self
