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
# The network's parts as they are frozen and given learning rates; a level is the backbone's layers that only it and
# deeper levels need.
Part = Literal["backbone", "decoder", "head", "P1", "P2", "P3", "P4", "P5"]
Momentum = Annotated[Literal["auto"] | float, BeforeValidator(checks.auto_or_open_fraction)]


# A format's name, or {format: name, **options}. Checked by hand, against the format's own constructor.
MasksFormat = Annotated[dict[str, Any], BeforeValidator(checks.masks_section)]


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
    weights: Text = Field(
        default="auto",
        description="auto, imagenet, none, preset:NAME of keras-cv or keras-hub, or the path of a weights file.",
    )
    weights_sha256: Text | None = Field(
        default=None, description="Digest of the file in weights: another file is refused before it is read."
    )
    input_channels: int = Field(
        default=3,
        ge=1,
        le=1024,
        description="Channels of an input image, 1 to 1024: 1 reads images as grey, 3 as RGB, 4 as RGBA; others are "
        "bands of a GeoTIFF (data.bands) or channels of .npy files.",
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
        checks.backbone_options(self.backbone, self.taps, self.output_stride, self.weights)
        checks.pixel_statistics(self.input_channels, self.mean, self.std)
        checks.digest(self.weights, self.weights_sha256)
        return self


class FoldConfig(Section):
    """One fold of a cross-validation."""

    index: int = Field(ge=0, description="Which fold is the validation split, 0 to of - 1.")
    of: int = Field(ge=2, description="Number of folds, 2 or more.")

    @model_validator(mode="after")
    def _index_is_a_fold(self) -> FoldConfig:
        if self.index >= self.of:
            raise checks.ProblemAt(("index",), f"{self.index} is no fold of {self.of}: 0 to {self.of - 1}")
        return self


class SplitConfig(Section):
    """How a data set without split folders is split: by share, by fold, by lists, or by a column of a CSV file."""

    fraction: Annotated[float, Field(gt=0.0, lt=1.0)] | None = Field(
        default=None, description="Share of the samples in the validation split, between 0 and 1."
    )
    fold: FoldConfig | None = Field(
        default=None, description="The fold of a cross-validation, such as {index: 0, of: 5}."
    )
    train: Text | None = Field(
        default=None,
        description="List of the training samples: an id, or the path of an image and of its mask, a line.",
    )
    val: Text | None = Field(default=None, description="List of the validation samples, as train.")
    csv: Text | None = Field(
        default=None,
        description="CSV file with a column image (id or path); a column split with train and val splits the data, and "
        "group may name a column.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of the deal, 0 or more; another than that of the training.")
    group: Text | None = Field(
        default=None,
        description="Samples of one group, such as a patient, stay in one split: a regular expression that finds the "
        "group in a sample's id, or with csv the name of a column.",
    )
    stratify: bool = Field(
        default=False,
        description="true: every class gets its share of samples in both splits; reads all masks at the start.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> SplitConfig:
        checks.one_way_to_split(self.fraction, self.fold, self.train, self.val, self.csv, self.group, self.stratify)
        return self


class CropConfig(Section):
    """The part of a training sample that is taken before it is augmented."""

    size: ImageSize = Field(description="[height, width] in pixels, each 32 to 8192; smaller images are padded.")
    strategy: Literal["random", "foreground"] = Field(
        default="random",
        description="random: anywhere; foreground: in a share of the samples centred on a pixel of a class drawn from "
        "those in the image.",
    )
    fraction: Fraction = Field(default=0.33, description="Share of the samples with a centred crop, 0 to 1.")
    background: list[ClassName] = Field(
        default_factory=list, description="Names of the classes that are no foreground, with strategy foreground."
    )


class DiskCacheConfig(Section):
    """Decoded training samples on disk."""

    folder: Text = Field(description="Where they are kept; several runs may share it.")
    max_mb: Positive = Field(default=10240, description="Most of it for one data set, in MiB.")


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
    split: SplitConfig | None = Field(
        default=None,
        description="How to split data that lie in root itself; null: root has the folders train_split and val_split.",
    )
    repeats: Positive = Field(
        default=1, description="How often every training sample comes in an epoch, each time augmented anew."
    )
    oversample: Fraction | None = Field(
        default=None,
        description="Repeat-factor sampling: training samples with classes that fewer than this share of all show come "
        "more often, by the square root of the ratio; reads all masks at the start. null: none.",
    )
    crop: CropConfig | None = Field(
        default=None, description="Crop of training samples before they are augmented; null: none."
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
    disk_cache: DiskCacheConfig | None = Field(
        default=None, description="Decoded training samples on disk, for what cache_mb does not hold; null: none."
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
    masks: MasksFormat = Field(
        default_factory=lambda: {"format": "index"},
        description="How masks say which class a pixel has: index, rgb, binary, per_class, instances, channels, array, "
        "coco or labelme; with options as {format: rgb, colors: ...}. docs/custom-masks.md has a recipe for each.",
    )
    image_dir: Text = Field(
        default="images",
        description="Folder of the images inside a split; * stands for any folder, and with {split} in it the path "
        "starts at root.",
    )
    mask_dir: Text = Field(
        default="masks", description="Folder of the masks inside a split, written as image_dir; for coco the JSON."
    )
    image_suffix: str = Field(
        default="", description="What the stems of images end in and those of masks do not, such as _leftImg8bit."
    )
    mask_suffix: str = Field(
        default="", description="What the stems of masks end in and those of images do not, such as _mask."
    )
    bands: list[Positive] | None = Field(
        default=None, description="Bands of GeoTIFF images in the order wanted, the first being 1; null: all."
    )
    value_range: Annotated[tuple[float, float], Field(strict=False)] | None = Field(
        default=None,
        description="[low, high] of pixel values, which become 0 and 255 as float32; null: 8 bits as they are, 16 bits "
        "cut to the upper 8.",
    )
    alpha: Literal["drop", "black", "white"] = Field(
        default="drop",
        description="Transparency where input_channels is not 4: drop it, or lay the image on black or white.",
    )
    exif: Literal["neither", "both", "image"] = Field(
        default="neither",
        description="What the EXIF orientation turns: neither, both alike, or the image alone, where masks were drawn "
        "on the image as viewers show it.",
    )
    max_pixels: Positive = Field(
        default=64 * 2**20, description="Most pixels of an image or mask; larger files are refused before decoding."
    )

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
        checks.value_range(self.value_range)
        return self


class OptimizerConfig(Section):
    """How weights are updated."""

    name: Annotated[str, AfterValidator(checks.optimizer_name)] = Field(
        default="adamw",
        description="The optimizer: adamw, adam (the same), sgd, rmsprop, lion, adamax, adagrad or adafactor.",
    )
    learning_rate: float = Field(default=1e-3, gt=0.0, description="Peak learning rate, above 0.")
    weight_decay: float = Field(
        default=1e-4,
        ge=0.0,
        description="Decoupled weight decay of kernels, 0 or more; normalisation, biases and position embeddings have "
        "none.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="Arguments of the optimizer itself, by name, such as {momentum: 0.9}."
    )
    clip_norm: Annotated[float, Field(gt=0.0)] | None = Field(
        default=None, description="Largest global norm of the gradient, above 0; null: no clipping."
    )
    clip_value: Annotated[float, Field(gt=0.0)] | None = Field(
        default=None, description="Largest absolute value in the gradient, above 0; null: no clipping."
    )
    lr_scale: dict[Part, Weight] = Field(
        default_factory=dict,
        description="Factors on the learning rate of parts, above 0: backbone, decoder, head, or a level of the "
        "backbone, P1 to P5.",
    )
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        default=1.0,
        description="Factor on the learning rate from each level of the backbone to the next finer one, above 0 to 1.",
    )

    @model_validator(mode="after")
    def _arguments_fit(self) -> OptimizerConfig:
        checks.one_kind_of_clipping(self.clip_norm, self.clip_value)
        checks.optimizer_options(self.name, self.options)
        return self


class ScheduleConfig(Section):
    """How the learning rate changes over the run."""

    name: Literal["poly", "cosine", "step", "constant", "one_cycle"] = Field(
        default="poly",
        description="Shape after the warm-up: poly, cosine, step or constant; or one_cycle, which has its own.",
    )
    warmup_steps: int = Field(
        default=50, ge=0, description="Updates of linear warm-up from 0 to the peak, 0 or more; one_cycle has none."
    )
    power: float = Field(default=0.9, gt=0.0, description="Exponent of poly, above 0; the other shapes have none.")
    final_fraction: Fraction = Field(
        default=0.0,
        description="Learning rate at the end, as a fraction of the peak, 0 to 1; step and constant have none.",
    )
    milestones: list[Annotated[float, Field(gt=0.0, lt=1.0)]] = Field(
        default_factory=lambda: [0.5, 0.75],
        description="Fractions of the run, rising between 0 and 1, at which step lowers the rate.",
    )
    drop: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        default=0.1, description="Factor of step at each milestone, between 0 and 1."
    )
    rise: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        default=0.3, description="Fraction of the run in which one_cycle climbs to the peak, between 0 and 1."
    )

    @field_validator("milestones")
    @classmethod
    def _milestones_rise(cls, milestones: list[float]) -> list[float]:
        checks.rising(milestones)
        return milestones


class StageConfig(Section):
    """What is frozen and how fast the rest learns for some epochs."""

    epochs: Positive | None = Field(
        default=None, description="Epochs of the stage, 1 or more; null, in the last one only: those that are left."
    )
    freeze: Annotated[list[Part], BeforeValidator(checks.one_or_several)] = Field(
        default_factory=list,
        description="What is not trained: backbone, decoder, head, or a level, such as P3, for the backbone up to it.",
    )
    lr_scale: dict[Part, Weight] | None = Field(
        default=None, description="As optimizer.lr_scale, in its place; null: that of the optimizer."
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
    init_from: Text | None = Field(
        default=None,
        description="Where the weights come from instead of model.weights: a run folder, or a .keras or .weights.h5 "
        "file, of this network with any classes; null: model.weights.",
    )
    stages: list[StageConfig] = Field(
        default_factory=list,
        description="Stages of the training, such as [{freeze: backbone, epochs: 5}, {lr_scale: {backbone: 0.1}}].",
    )
    accumulate: Positive = Field(
        default=1,
        description="Batches whose mean gradient makes one update, 1 or more: the same as a batch so many times as "
        "large, but for batch normalisation.",
    )
    ema: Annotated[float, Field(gt=0.0, lt=1.0)] | None = Field(
        default=None,
        description="Decay of a moving average of the weights, between 0 and 1, such as 0.999: evaluated and saved in "
        "their place; null: none.",
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32",
        description="Number type of the computation: float32, bfloat16 or float16; weights stay float32.",
    )
    remat: bool = Field(
        default=False,
        description="Gradient checkpointing: keep few activations of a step and compute the others again; less memory, "
        "more time (docs/training.md).",
    )
    deterministic: bool = Field(
        default=False, description="Use only kernels that give the same bits every time; slower on a GPU."
    )
    overfit: Positive | None = Field(
        default=None,
        description="Debug: train and evaluate on this many samples of the training split, 1 or more; null: on all.",
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

    @model_validator(mode="after")
    def _settings_fit_each_other(self) -> TrainingConfig:
        checks.remat_on_one_device(self.remat, self.distribution)
        checks.stages([stage.epochs for stage in self.stages], [stage.freeze for stage in self.stages], self.epochs)
        return self


class OutputConfig(Section):
    """Where results are written."""

    root: Text = Field(default="runs", description="Folder of all runs; a run's own folder is root/name.")
    pictures: int = Field(default=6, ge=0, description="Validation samples in each sheet of predictions, 0 or more.")
    pictures_every: Positive | None = Field(
        default=10,
        description="Epochs between two sheets of predictions in TensorBoard and trackers, 1 or more; null: only those "
        "of the best epochs so far, which are always there.",
    )


TrackerName = Annotated[str, AfterValidator(checks.tracker_name)]

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
    mode: Literal["multiclass", "binary", "multilabel"] = Field(
        default="multiclass",
        description="multiclass: a softmax over the classes; binary: one sigmoid that tells the second of two classes "
        "from the first; multilabel: a sigmoid for each class, which may overlap.",
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
    tracking: dict[TrackerName, dict[str, Any] | None] = Field(
        default_factory=dict,
        description="Experiment trackers that are told of the run, mlflow or wandb: name to {argument: value}, {} for "
        "the tracker's defaults; null: not this one.",
    )

    @field_validator("tracking")
    @classmethod
    def _trackers_take_their_arguments(cls, tracking: dict[str, dict[str, Any] | None]) -> dict[str, Any]:
        checks.tracker_arguments(tracking)
        return tracking

    @field_validator("loss")
    @classmethod
    def _losses_take_their_arguments(cls, loss: dict[str, Any]) -> dict[str, Any]:
        checks.loss_arguments(loss)
        return loss

    @model_validator(mode="after")
    def _mode_and_weights_fit_losses_and_classes(self) -> Config:
        from segzoo.data.generated import CLASSES

        classes = self.data.classes if isinstance(self.data, FolderData) else CLASSES
        checks.background_is_some_classes(self.data.crop.background if self.data.crop else [], classes)
        checks.losses_fit_the_mode(self.loss, self.mode)
        if isinstance(self.data, FolderData):
            checks.masks_fit(self.data.masks, classes, self.data.ignore_index, self.mode)
            checks.one_band_per_channel(self.data.bands, self.model.input_channels)
        else:
            checks.generated_samples_fit(self.mode, self.model.input_channels)
        checks.one_origin_of_weights(self.training.init_from, self.model.weights)
        if self.mode == "binary":
            checks.two_classes(classes)
        else:
            checks.one_class_weight_per_class(self.loss, classes)
        return self
