"""The schema of a segzoo configuration: every key, its type, range, unit and default."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from segzoo.backbones.options import BackboneOptions
from segzoo.config import checks, data_checks
from segzoo.config.data_schema import FolderData, GeneratedData
from segzoo.config.fields import Count, Fraction, Line, Place, Positive, Section, Text, Weight
from segzoo.task import Mode, Task

# What Windows, macOS or Linux would refuse in a folder name, and a leading dot, which hides the run folder.
_FOLDER_NAME = r"^[^./\\:*?\"<>|\x00-\x1f][^/\\:*?\"<>|\x00-\x1f]*$"
_SECONDS_OR_TEXT = {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string"}]}
Duration = Annotated[float, BeforeValidator(checks.seconds), WithJsonSchema(_SECONDS_OR_TEXT)]
# The network's parts as they are frozen and given learning rates; a level is the backbone's layers that only it and
# deeper levels need.
Part = Literal["backbone", "decoder", "head", "P1", "P2", "P3", "P4", "P5"]
Momentum = Annotated[Literal["auto"] | float, BeforeValidator(checks.auto_or_open_fraction)]


class ModelConfig(Section):
    """Network architecture: decoder, backbone and heads."""

    decoder: Annotated[str, AfterValidator(checks.decoder_name)] = Field(
        description="Name of the decoder; `segzoo decoders` lists them."
    )
    backbone: Annotated[str, AfterValidator(checks.backbone_name)] = Field(
        description="Name of the backbone; `segzoo backbones` lists them."
    )
    taps: Literal["expansion", "output"] | None = Field(
        default=None,
        description="Kind of backbone taps, expansion or output (EfficientNet has both); null: the "
        "default of the backbone's family.",
    )
    output_stride: Annotated[Literal[8, 16, 32], BeforeValidator(checks.no_fraction)] | None = Field(
        default=None,
        description="Input pixels per pixel of the deepest feature; null: the decoder's default.",
    )
    weights: Place = Field(
        default="auto",
        description="auto, imagenet, none, preset:NAME of keras-cv or keras-hub, or the path of a weights file.",
    )
    weights_sha256: Text | None = Field(
        default=None, description="Digest of the file in weights: another file is refused before it is read."
    )
    input_channels: int = Field(
        default=BackboneOptions.input_channels,
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
        default=BackboneOptions.trainable,
        description="false freezes the backbone; a level, such as P2, what this level needs, and trains the rest.",
    )
    batch_norm: Literal["train", "frozen"] = Field(
        default=BackboneOptions.batch_norm,
        description="frozen keeps the statistics and parameters of the backbone's batch normalisation.",
    )
    compat: Literal["smp", "smp-0.1.0", "torchvision", "timm"] | None = Field(
        default=None,
        description="smp: the network of segmentation_models.pytorch, decoder and backbone, for weights made there; "
        "options, taps and output_stride of this section override its own. smp-0.1.0: what imitate: smp of segzoo "
        "0.1.0 did, to the backbone alone. torchvision, timm: that library's backbone, for weights converted from it.",
    )
    imitate: Literal["smp"] | None = Field(
        default=None, exclude=True, description="Deprecated: the name of compat in segzoo 0.1.0."
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
        default=BackboneOptions.drop_path,
        description="Stochastic depth of the backbone: the drop rate of its last block, 0 to 1.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="Arguments of the decoder's own constructor, by name."
    )

    def backbone_options(self) -> BackboneOptions:
        """Return the options of the backbone."""
        return BackboneOptions(**{name: getattr(self, name) for name in BackboneOptions.names()})

    @model_validator(mode="before")
    @classmethod
    def _imitate_is_compat(cls, section: Any) -> Any:
        return checks.renamed_compat(section)

    @model_validator(mode="after")
    def _parts_fit(self) -> ModelConfig:
        checks.decoder_options(self.decoder, self.options)
        checks.backbone_options(self.backbone, self.taps, self.output_stride, self.weights)
        checks.pixel_statistics(self.input_channels, self.mean, self.std)
        checks.digest(self.weights, self.weights_sha256)
        return self


class OptimizerConfig(Section):
    """Optimizer, with its learning rate and weight decay."""

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
    """Learning-rate schedule over the run."""

    name: Annotated[str, AfterValidator(checks.schedule_name)] = Field(
        default="poly",
        description="Shape after the warm-up: poly, cosine, step or constant; or one_cycle, which has its own; or one "
        "of your own (docs/plugins.md), which takes none of the keys below but options.",
    )
    warmup_steps: Count = Field(
        default=50, description="Updates of linear warm-up from 0 to the peak, 0 or more; one_cycle has none."
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
    options: dict[str, Any] = Field(
        default_factory=dict, description="Arguments of a schedule of your own, by name; those above have none."
    )

    @model_validator(mode="after")
    def _options_fit(self) -> ScheduleConfig:
        checks.schedule_options(self.name, self.options)
        return self

    @field_validator("milestones")
    @classmethod
    def _milestones_rise(cls, milestones: list[float]) -> list[float]:
        checks.rising(milestones)
        return milestones


class StageConfig(Section):
    """Stage of training: frozen parts and learning-rate factor for a number of epochs."""

    epochs: Positive | None = Field(
        default=None, description="Epochs of the stage, 1 or more; null, in the last one only: those that are left."
    )
    freeze: Annotated[list[Part], BeforeValidator(checks.one_or_several)] = Field(
        default_factory=list,
        description="Frozen parts: backbone, decoder, head, or a level, such as P3, for the backbone up to it.",
    )
    lr_scale: dict[Part, Weight] | None = Field(
        default=None, description="As optimizer.lr_scale, in its place; null: that of the optimizer."
    )


class EarlyStoppingConfig(Section):
    """Early stopping."""

    patience: Positive = Field(description="Epochs without a better training.monitor before stopping, 1 or more.")
    min_delta: Fraction = Field(
        default=0.0, description="Smallest gain in training.monitor that counts as better, 0 to 1."
    )


class PlateauConfig(Section):
    """Reduction of the learning rate on a plateau of the monitored figure."""

    patience: Positive = Field(
        description="Epochs without a better training.monitor before the learning rate is lowered, 1 or more."
    )
    factor: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        default=0.5, description="Factor on the learning rate, between 0 and 1."
    )
    min_delta: Fraction = Field(
        default=0.0, description="Smallest gain in training.monitor that counts as better, 0 to 1."
    )
    final_fraction: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        default=0.01, description="Lower limit, as a fraction of the schedule's learning rate, above 0, to 1."
    )


class TrainingConfig(Section):
    """Training: epochs, optimizer, schedule, losses and precision."""

    epochs: Positive = Field(description="Epochs to train for, 1 or more.")
    steps_per_epoch: Positive | None = Field(
        default=None, description="Steps in an epoch, 1 or more; null: one pass over the training split."
    )
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig, description="Optimizer and its settings.")
    schedule: ScheduleConfig = Field(default_factory=ScheduleConfig, description="Learning-rate schedule over the run.")
    init_from: Place | None = Field(
        default=None,
        description="Initial weights in place of model.weights: a run folder, or a .keras or .weights.h5 "
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
    xla: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Compile the step with XLA: auto, where there is a GPU (on a processor a step takes several times "
        "as long with it); on; off. On JAX the step is always compiled.",
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
    monitor: Line = Field(
        default="mean_iou",
        description="Figure of the validation split that decides which epoch is the best, and what early_stopping and "
        "reduce_on_plateau wait for: mean_iou; foreground_mean_iou, without the background; pixel_accuracy; loss, the "
        "lower the better; or iou/CLASS, of one class.",
    )
    early_stopping: EarlyStoppingConfig | None = Field(default=None, description="Early stopping; null: none.")
    reduce_on_plateau: PlateauConfig | None = Field(
        default=None, description="Reduction of the learning rate on a plateau; null: none."
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
    batchnorm_statistics: Literal["auto", "moving", "population"] = Field(
        default="auto",
        description="BatchNorm statistics of evaluations and of the saved weights: moving, averages over the steps; "
        "population, of training batches that pass through the network before each evaluation, on one device; auto: "
        "moving (docs/training.md).",
    )

    @model_validator(mode="after")
    def _settings_fit_each_other(self) -> TrainingConfig:
        checks.remat_on_one_device(self.remat, self.distribution)
        checks.stages([stage.epochs for stage in self.stages], [stage.freeze for stage in self.stages], self.epochs)
        return self


Metric = Annotated[Any, AfterValidator(checks.metric)]


class OutputConfig(Section):
    """Output folder, and the tables, pictures and logs that are written there."""

    root: Place = Field(default="runs", description="Folder of all runs; a run's own folder is root/name.")
    pictures: int = Field(
        default=6, ge=0, le=1000, description="Validation samples in each sheet of predictions, 0 to 1000."
    )
    pictures_every: Positive | None = Field(
        default=10,
        description="Epochs between two sheets of predictions in TensorBoard and trackers, 1 or more; null: only those "
        "of the best epochs so far, which are always there.",
    )
    metrics: list[Metric] = Field(
        default_factory=list,
        max_length=50,
        description="Further metrics of the tables by class, beside IoU, Dice, precision and recall: names, or {name: "
        "{option: value}} such as {f_beta: {beta: 2}}.",
    )
    keep_state: bool = Field(
        default=False,
        description="true: a finished run keeps its state and so can be trained further, with more epochs; false: it "
        "drops the optimizer's variables and the copies of the weights in the state, two thirds of its size.",
    )


TrackerName = Annotated[str, AfterValidator(checks.tracker_name)]

LossName = Annotated[str, AfterValidator(checks.loss_name)]
# A weight, or {weight: ..., **arguments}. Checked by hand: one message per mistake, not one per type.
LossTerm = Annotated[float | dict[str, Any], BeforeValidator(checks.loss_term)]


def _default_loss() -> dict[str, float | dict[str, Any]]:
    return {"cross_entropy": 1.0, "dice": 1.0}


class Config(Section):
    """One training run, completely described."""

    # First, so that what they register is there when names are checked.
    plugins: list[Line] = Field(
        default_factory=list,
        max_length=100,
        description="Python modules of yours that register decoders, losses and the like, such as my_package.mine; "
        "they are imported from the configuration that a command is given; for a run folder name them by --plugin.",
    )
    name: Annotated[Place, Field(pattern=_FOLDER_NAME, max_length=200)] | None = Field(
        default=None,
        description="Name of the run and of its folder; null: the name of the file without its ending.",
    )
    seed: int = Field(
        default=0,
        ge=0,
        le=2**32 - 1,
        description="Seed of weights, data order and augmentation, 0 to 2^32-1.",
    )
    mode: Mode = Field(
        default="multiclass",
        description="multiclass: a softmax over the classes; binary: one sigmoid that tells the second of two classes "
        "from the first; multilabel: a sigmoid for each class, which may overlap.",
    )
    model: ModelConfig = Field(description="Network architecture and its initial weights.")
    data: Annotated[GeneratedData | FolderData, Field(discriminator="source")] = Field(
        description="Source of the samples and their preprocessing."
    )
    loss: dict[LossName, LossTerm] = Field(
        default_factory=_default_loss,
        min_length=1,
        description="The losses that are added up: name to weight, or to {weight: ..., argument: ...}.",
    )
    training: TrainingConfig = Field(description="Epochs, optimizer, schedule, precision and devices.")
    output: OutputConfig = Field(default_factory=OutputConfig, description="Output folder, pictures and logs.")
    tracking: dict[TrackerName, dict[str, Any] | None] = Field(
        default_factory=dict,
        description="Experiment trackers that are told of the run, mlflow or wandb: name to {argument: value}, {} for "
        "the tracker's defaults; null: not this one.",
    )

    @property
    def task(self) -> Task:
        """Classes in the order of their labels, mode and ignore index; reads no samples."""
        from segzoo.data.generated import CLASSES

        classes = self.data.classes if isinstance(self.data, FolderData) else CLASSES
        return Task(tuple(classes), self.data.ignore_index, self.mode)

    @property
    def trackers(self) -> dict[str, dict[str, Any]]:
        """Trackers in use: name to settings, without those set to null."""
        return {name: settings for name, settings in self.tracking.items() if settings is not None}

    @field_validator("plugins")
    @classmethod
    def _plugins_are_loaded(cls, plugins: list[str], info: ValidationInfo) -> list[str]:
        checks.plugins_are_loaded(plugins, import_them=bool(info.context and info.context.get("import_plugins")))
        return plugins

    @field_validator("tracking")
    @classmethod
    def _trackers_take_their_arguments(cls, tracking: dict[str, dict[str, Any] | None]) -> dict[str, Any]:
        checks.tracker_arguments(tracking)
        return tracking

    @field_validator("loss")
    @classmethod
    def _losses_take_their_arguments(cls, loss: dict[str, Any]) -> dict[str, Any]:
        loss = checks.renamed_loss_arguments(loss)
        checks.loss_arguments(loss)
        return loss

    @model_validator(mode="after")
    def _mode_and_weights_fit_losses_and_classes(self) -> Config:
        task, classes = self.task, self.task.classes
        data_checks.background_is_some_classes(self.data.crop.background if self.data.crop else [], classes)
        checks.losses_fit_the_mode(self.loss, self.mode)
        checks.monitored(self.training.monitor, classes)
        if isinstance(self.data, FolderData):
            data_checks.masks_fit(self.data.masks, task)
            data_checks.one_band_per_channel(self.data.bands, self.model.input_channels)
        else:
            data_checks.generated_samples_fit(self.mode, self.model.input_channels)
        transforms = {"augment": self.data.augment, "val_transforms": self.data.val_transforms}
        if any(transforms.values()):
            data_checks.transforms_fit(transforms, task)
        checks.metrics_work(self.output.metrics, task)
        if self.data.batch_transforms:
            data_checks.batch_transforms_fit(
                self.data.batch_transforms,
                task,
                self.data.batch_size,
                list(self.loss),
            )
        checks.one_source_of_weights(self.training.init_from, self.model.weights)
        if self.mode == "binary":
            checks.two_classes(classes)
        else:
            checks.one_class_weight_per_class(self.loss, classes)
        return self
