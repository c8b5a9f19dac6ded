"""The schema of a segzoo configuration: every key, its type, range, unit and default."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from segzoo.config import checks

# What Windows, macOS or Linux would refuse in a folder name, and a leading dot, which hides the run folder.
_FOLDER_NAME = r"^[^./\\:*?\"<>|\x00-\x1f][^/\\:*?\"<>|\x00-\x1f]*$"

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Weight = Annotated[float, Field(gt=0)]
Text = Annotated[str, Field(min_length=1)]
Transform = Annotated[Any, AfterValidator(checks.transform)]
ClassName = Annotated[str, Field(min_length=1)]
ColorValue = Annotated[int, Field(ge=0, le=255)]
# YAML has lists and no tuples; only the outer container is relaxed, the numbers inside stay strict.
Color = Annotated[tuple[ColorValue, ColorValue, ColorValue], Field(strict=False)]
ImageSize = Annotated[
    tuple[Annotated[int, Field(ge=32, le=8192)], Annotated[int, Field(ge=32, le=8192)]], Field(strict=False)
]
_SECONDS_OR_TEXT = {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string"}]}
Duration = Annotated[float, BeforeValidator(checks.seconds), WithJsonSchema(_SECONDS_OR_TEXT)]
Momentum = Annotated[Literal["auto"] | float, BeforeValidator(checks.auto_or_open_fraction)]


class Section(BaseModel):
    """A part of the configuration: immutable, without unknown keys, and without silent conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ModelConfig(Section):
    """Which network is built."""

    decoder: Annotated[str, AfterValidator(checks.decoder_name)] = Field(
        description="Name of the decoder; `segzoo decoders` lists them."
    )
    backbone: Annotated[str, AfterValidator(checks.backbone_name)] = Field(
        description="Name of the backbone; `segzoo backbones` lists them."
    )
    taps: Literal["expansion", "output"] | None = Field(
        default=None,
        description="Which backbone layers feed the decoder, expansion or output (EfficientNet has both); null: the "
        "default of the backbone's family.",
    )
    output_stride: Annotated[Literal[8, 16, 32], BeforeValidator(checks.no_fraction)] | None = Field(
        default=None,
        description="Input pixels per pixel of the deepest feature; null: the decoder's default.",
    )
    weights: Text = Field(default="auto", description="auto, imagenet, none, or the path of a weights file.")
    weights_sha256: Text | None = Field(
        default=None, description="Digest of the file in weights: another file is refused before it is read."
    )
    input_channels: Annotated[Literal[3], BeforeValidator(checks.no_fraction)] = Field(
        default=3, description="Channels of an input image; for now 3, which is what the data sources give."
    )
    mean: list[float] | None = Field(
        default=None,
        description="Mean of each channel in pixel values; null: of the images that the weights were made for.",
    )
    std: list[Annotated[float, Field(gt=0)]] | None = Field(
        default=None, description="Standard deviation of each channel in pixel values; given with mean."
    )
    trainable: Literal[True, False, "P1", "P2", "P3", "P4", "P5"] = Field(
        default=True,
        description="false freezes the backbone; a level, such as P2, what this level needs, and trains the rest.",
    )
    batch_norm: Literal["train", "frozen"] = Field(
        default="train",
        description="frozen keeps the statistics and parameters of the backbone's batch normalisation.",
    )
    imitate: Literal["smp"] | None = Field(
        default=None,
        description="smp: the backbone pads and dilates as in segmentation_models.pytorch, for weights made there.",
    )
    auxiliary: dict[Literal["P1", "P2", "P3", "P4", "P5"], Weight] = Field(
        default_factory=dict,
        description="Levels of the backbone that get a segmentation head for the training, each with the weight of "
        "its loss, such as {P4: 0.4}.",
    )
    classification: Weight | None = Field(
        default=None,
        description="Weight of a head that learns which classes an image holds, for the training; null: none.",
    )
    drop_path: Fraction = Field(
        default=0.2, description="Stochastic depth of the backbone: the drop rate of its last block, 0 to 1."
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="Arguments of the decoder's own constructor, by name."
    )

    @model_validator(mode="after")
    def _parts_fit(self) -> ModelConfig:
        checks.decoder_options(self.decoder, self.options)
        checks.backbone_options(self.backbone, self.taps, self.output_stride)
        checks.pixel_statistics(self.input_channels, self.mean, self.std)
        checks.digest(self.weights, self.weights_sha256)
        return self


class DataConfig(Section):
    """What every source of data has in common."""

    source: str = Field(description="Where samples come from: generated or folder.")
    ignore_index: int = Field(
        default=255, ge=0, le=65535, description="Label of pixels left out of losses and metrics, 0 to 65535."
    )
    train_split: Text = Field(
        default="train", description="Split to train on: a folder in root, or . where root has no splits."
    )
    val_split: Text = Field(
        default="val", description="Split to evaluate on: a folder in root, or . where root has no splits."
    )
    batch_size: Positive = Field(default=8, description="Samples in one training step, 1 or more.")
    eval_batch_size: Positive = Field(default=8, description="Samples in one evaluation step, 1 or more.")
    workers: int = Field(
        default=2, ge=0, description="Threads that read and augment, 0 or more; 0 works in the main thread."
    )
    cache_mb: int = Field(
        default=1024,
        ge=0,
        description="Memory for decoded training samples, in MiB, so that files are read once; 0: none.",
    )
    augment: list[Transform] = Field(
        default_factory=list,
        description="albumentations transforms of training samples, in order, with their own arguments.",
    )
    val_transforms: list[Transform] = Field(
        default_factory=list,
        description="albumentations transforms of evaluation samples, in order, written as in augment.",
    )


class GeneratedData(DataConfig):
    """Samples drawn by segzoo itself: nothing to download."""

    source: Literal["generated"] = Field(default="generated", description="generated: samples drawn by segzoo itself.")
    size: ImageSize = Field(default=(128, 128), description="[height, width] of a sample in pixels, each 32 to 8192.")
    train_count: Positive = Field(default=400, description="Samples in the training split, 1 or more.")
    val_count: Positive = Field(default=80, description="Samples in the validation split, 1 or more.")

    @model_validator(mode="after")
    def _ignored_label_is_no_class(self) -> GeneratedData:
        checks.ignore_index_is_no_generated_class(self.ignore_index)
        return self


class FolderData(DataConfig):
    """Image and mask files under root/<split>/<image_dir> and root/<split>/<mask_dir>."""

    source: Literal["folder"] = Field(default="folder", description="folder: image and mask files in folders.")
    root: Text = Field(description="Folder that holds the splits; a relative path starts at the working directory.")
    classes: list[ClassName] = Field(
        min_length=2,
        description="Names of the classes, two or more; the position of a name is its label, from 0.",
    )
    palette: list[Color] | None = Field(
        default=None,
        description="One [red, green, blue] per class, each 0 to 255, used in pictures.",
    )
    image_dir: Text = Field(default="images", description="Folder of the images inside a split.")
    mask_dir: Text = Field(default="masks", description="Folder of the masks inside a split.")

    @field_validator("classes")
    @classmethod
    def _classes_are_unique(cls, classes: list[str]) -> list[str]:
        checks.no_repeats("class", classes)
        return classes

    @field_validator("palette")
    @classmethod
    def _colors_are_unique(cls, palette: list[Color] | None) -> list[Color] | None:
        checks.no_repeats("colour", [list(color) for color in palette or []])
        return palette

    @model_validator(mode="after")
    def _labels_and_colors_fit_the_classes(self) -> FolderData:
        checks.ignore_index_is_no_class(self.ignore_index, self.classes)
        checks.one_color_per_class(self.palette, self.classes)
        return self


class OptimizerConfig(Section):
    """How weights are updated."""

    name: Literal["adamw"] = Field(default="adamw", description="The optimizer; for now adamw.")
    learning_rate: float = Field(default=1e-3, gt=0.0, description="Peak learning rate, above 0.")
    weight_decay: float = Field(default=1e-4, ge=0.0, description="Decoupled weight decay, 0 or more.")
    clip_norm: Annotated[float, Field(gt=0.0)] | None = Field(
        default=None, description="Largest global norm of the gradient, above 0; null: no clipping."
    )


class ScheduleConfig(Section):
    """How the learning rate changes over the run."""

    name: Literal["poly", "cosine", "constant"] = Field(
        default="poly", description="Shape after the warm-up: poly, cosine or constant."
    )
    warmup_steps: int = Field(default=50, ge=0, description="Steps of linear warm-up from 0 to the peak, 0 or more.")
    power: float = Field(default=0.9, gt=0.0, description="Exponent of poly, above 0; the other shapes have none.")
    final_fraction: Fraction = Field(
        default=0.0, description="Learning rate at the end, as a fraction of the peak, 0 to 1."
    )


class EarlyStoppingConfig(Section):
    """When to stop before the last epoch."""

    patience: Positive = Field(description="Epochs without a better validation mIoU before stopping, 1 or more.")
    min_delta: Fraction = Field(default=0.0, description="Smallest gain in mIoU that counts as better, 0 to 1.")


class PlateauConfig(Section):
    """When to lower the learning rate below its schedule."""

    patience: Positive = Field(
        description="Epochs without a better validation mIoU before the learning rate is lowered, 1 or more."
    )
    factor: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        default=0.5, description="What the learning rate is multiplied by, between 0 and 1."
    )
    min_delta: Fraction = Field(default=0.0, description="Smallest gain in mIoU that counts as better, 0 to 1.")
    final_fraction: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        default=0.01, description="Where lowering ends, as a fraction of the schedule's learning rate, above 0, to 1."
    )


class TrainingConfig(Section):
    """How long, how fast and in what precision the model is trained."""

    epochs: Positive = Field(description="Epochs to train for, 1 or more.")
    steps_per_epoch: Positive | None = Field(
        default=None, description="Steps in an epoch, 1 or more; null: one pass over the training split."
    )
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig, description="How weights are updated.")
    schedule: ScheduleConfig = Field(
        default_factory=ScheduleConfig, description="How the learning rate changes over the run."
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32",
        description="Number type of the computation: float32, bfloat16 or float16; weights stay float32.",
    )
    distribution: Literal["none", "mirrored", "multi_host"] = Field(
        default="none",
        description="none: one device; mirrored: all GPUs of this machine; multi_host: all devices of all processes "
        "that were started together, on JAX (docs/distributed.md). data.batch_size stays the whole batch.",
    )
    early_stopping: EarlyStoppingConfig | None = Field(
        default=None, description="When to stop before the last epoch; null: never."
    )
    reduce_on_plateau: PlateauConfig | None = Field(
        default=None, description="When to lower the learning rate below its schedule; null: never."
    )
    max_time: Duration | None = Field(
        default=None,
        description="Longest training time, evaluation included, in seconds or as 90m, 1h30m, 2d; then the epoch ends "
        "early, is evaluated, and the run is finished. Parts of an interrupted run add up. null: no limit.",
    )
    save_every: Annotated[float, Field(ge=0.0)] = Field(
        default=300.0,
        description="Seconds between two saves of the run state within an epoch, 0 or more; 0: after every step. It is "
        "saved at the end of every epoch too, and on SIGTERM and SIGINT.",
    )
    evaluate_every: Positive = Field(default=1, description="Epochs between two evaluations, 1 or more.")
    batchnorm_momentum: Momentum = Field(
        default="auto",
        description="Momentum of BatchNorm statistics, between 0 and 1; auto follows the steps per epoch.",
    )


class OutputConfig(Section):
    """Where results are written."""

    root: Text = Field(default="runs", description="Folder of all runs; a run's own folder is root/name.")
    pictures: int = Field(default=6, ge=0, description="Validation samples in the sheet of predictions, 0 or more.")


LossName = Annotated[str, AfterValidator(checks.loss_name)]
# A weight, or {weight: ..., **arguments}. Checked by hand: one message per mistake, not one per type.
LossTerm = Annotated[float | dict[str, Any], BeforeValidator(checks.loss_term)]


def _default_loss() -> dict[str, float | dict[str, Any]]:
    return {"cross_entropy": 1.0, "dice": 1.0}


class Config(Section):
    """One training run, completely described."""

    name: Annotated[str, Field(pattern=_FOLDER_NAME, max_length=200)] | None = Field(
        default=None,
        description="Name of the run and of its folder; null: the name of the file without its ending.",
    )
    seed: int = Field(
        default=0,
        ge=0,
        le=2**32 - 1,
        description="Seed of weights, data order and augmentation, 0 to 2^32-1.",
    )
    mode: Literal["multiclass", "binary"] = Field(
        default="multiclass",
        description="multiclass: a softmax over the classes; binary: one sigmoid that tells the second of two classes "
        "from the first.",
    )
    model: ModelConfig = Field(description="Which network is built.")
    data: Annotated[GeneratedData | FolderData, Field(discriminator="source")] = Field(
        description="Where samples come from and how they are prepared."
    )
    loss: dict[LossName, LossTerm] = Field(
        default_factory=_default_loss,
        min_length=1,
        description="The losses that are added up: name to weight, or to {weight: ..., argument: ...}.",
    )
    training: TrainingConfig = Field(description="How long, how fast and in what precision the model is trained.")
    output: OutputConfig = Field(default_factory=OutputConfig, description="Where results are written.")

    @field_validator("loss")
    @classmethod
    def _losses_take_their_arguments(cls, loss: dict[str, Any]) -> dict[str, Any]:
        checks.loss_arguments(loss)
        return loss

    @model_validator(mode="after")
    def _mode_and_weights_fit_losses_and_classes(self) -> Config:
        from segzoo.data.generated import CLASSES

        classes = self.data.classes if isinstance(self.data, FolderData) else CLASSES
        checks.losses_fit_the_mode(self.loss, self.mode)
        if self.mode == "binary":
            checks.two_classes(classes)
        else:
            checks.one_class_weight_per_class(self.loss, classes)
        return self
