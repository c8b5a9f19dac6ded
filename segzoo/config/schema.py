"""The schema of a segzoo configuration: every key, its type, range, unit and default."""

from __future__ import annotations

from collections.abc import Mapping
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
from segzoo.config.fields import Count, Fraction, Line, Place, Positive, Section, Source, Text, Weight
from segzoo.optim import ADAPTIVE, head_factor
from segzoo.task import Mode, Task

# Excludes characters that Windows, macOS or Linux refuse in a folder name, and a leading dot, which hides it.
_FOLDER_NAME = r"^[^./\\:*?\"<>|\x00-\x1f][^/\\:*?\"<>|\x00-\x1f]*$"
_SECONDS_OR_TEXT = {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string"}]}
Duration = Annotated[float, BeforeValidator(checks.seconds), WithJsonSchema(_SECONDS_OR_TEXT)]
# Parts of the network that can be frozen or have their own learning rate. A level consists of the backbone's layers
# that only it and deeper levels need; T1 to T4 are a plain vision transformer's, quarters of its blocks.
Part = Literal["backbone", "decoder", "head", "P1", "P2", "P3", "P4", "P5", "T1", "T2", "T3", "T4"]
Momentum = Annotated[Literal["auto"] | float, BeforeValidator(checks.auto_or_open_fraction)]
Decay = Annotated[
    Literal["auto"] | Annotated[float, Field(gt=0.0, lt=1.0)] | None, BeforeValidator(checks.auto_or_decay)
]
Norm = Annotated[Literal["auto"] | Annotated[float, Field(gt=0.0)] | None, BeforeValidator(checks.auto_or_positive)]
_CLIP_NORM = 1.0  # for the optimizers of segzoo.optim.ADAPTIVE


class ModelConfig(Section):
    """Network architecture: decoder, backbone and heads."""

    decoder: Annotated[str, AfterValidator(checks.decoder_name)] = Field(
        description="Name of the decoder, as listed by `segzoo decoders`."
    )
    backbone: Annotated[str, AfterValidator(checks.backbone_name)] = Field(
        description="Name of the backbone, as listed by `segzoo backbones`."
    )
    taps: str | None = Field(
        default=None,
        description="Kind of backbone taps, for families that have several, such as EfficientNet: expansion or output; "
        "smp, timm: where these libraries read the features, for converted weights; null: the default of the family "
        "(docs/backbones.md lists the kinds of each).",
    )
    output_stride: Annotated[Literal[8, 16, 32], BeforeValidator(checks.no_fraction)] | None = Field(
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
        return checks.renamed_compat(section)

    @model_validator(mode="after")
    def _parts_fit(self) -> ModelConfig:
        checks.decoder_options(self.decoder, self.options)
        checks.decoder_reads(self.decoder, self.backbone, self.auxiliary)
        checks.backbone_options(self.backbone, self.taps, self.output_stride, self.weights)
        checks.pixel_statistics(self.input_channels, self.mean, self.std)
        checks.digest(self.weights, self.weights_sha256)
        return self


class OptimizerConfig(Section):
    """Optimizer, with its learning rate and weight decay."""

    name: Annotated[str, AfterValidator(checks.optimizer_name)] = Field(
        default="adamw",
        description="Optimizer: adamw, adam (identical to adamw), sgd, rmsprop, lion, adamax, adagrad or adafactor.",
    )
    learning_rate: float = Field(default=1e-3, gt=0.0, description="Peak learning rate, above 0.")
    weight_decay: float = Field(
        default=1e-4,
        ge=0.0,
        description="Decoupled weight decay of kernels, 0 or more; not applied to normalisation parameters, biases "
        "and position embeddings.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="Keyword arguments of the optimizer's constructor, such as {momentum: 0.9}."
    )
    clip_norm: Norm = Field(
        default="auto",
        description="Maximum global norm of the gradient, above 0; null: no clipping; auto: 1.0 for adamw, adam, "
        "rmsprop and adamax where clip_value is not given.",
    )
    clip_value: Annotated[float, Field(gt=0.0)] | None = Field(
        default=None, description="Maximum absolute value of a gradient element, above 0; null: no clipping."
    )
    lr_scale: dict[Part, Weight] = Field(
        default_factory=dict,
        description="Learning-rate factors per part, above 0: backbone, decoder, head, or a level of the backbone, "
        "P1 to P5, or T1 to T4 of a plain vision transformer. Unless given, that of the head is 3 / "
        "(learning_rate x updates of the run), from 1 to 10, for adamw, adam, rmsprop and adamax, and 1 for others.",
    )
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        default=1.0,
        description="Layer-wise learning-rate decay: factor on the learning rate from each level of the backbone to "
        "the next finer one, of a plain vision transformer from each block to the one before, above 0, at most 1.",
    )

    @model_validator(mode="after")
    def _arguments_fit(self) -> OptimizerConfig:
        checks.one_kind_of_clipping(self.clip_norm, self.clip_value)
        checks.optimizer_options(self.name, self.options)
        return self

    @property
    def largest_norm(self) -> float | None:
        """Maximum global norm of the gradient, None for no clipping by norm."""
        if self.clip_norm == "auto":
            return _CLIP_NORM if self.name in ADAPTIVE and self.clip_value is None else None
        return self.clip_norm

    def factors(self, updates: int, scale: Mapping[Any, float] | None = None) -> dict[str, float]:
        """Return the learning-rate factors of parts: those of `scale`, by default `lr_scale`, and the head's own.

        Args:
            updates: updates of the whole run.
            scale: factors given for a stage.
        """
        given = dict((self.lr_scale if scale is None else scale).items())
        head = head_factor(self.learning_rate, updates) if self.name in ADAPTIVE else 1.0
        return {"head": head, **given} if head != 1.0 else given


class ScheduleConfig(Section):
    """Learning-rate schedule over the run."""

    name: Annotated[str, AfterValidator(checks.schedule_name)] = Field(
        default="poly",
        description="Shape of the schedule after the warm-up: poly, cosine, step or constant; one_cycle, which "
        "includes its own warm-up; or a custom schedule (docs/plugins.md), which uses only options and none of the "
        "other keys.",
    )
    warmup_steps: Count = Field(
        default=50, description="Updates of linear warm-up from 0 to the peak, 0 or more; not used by one_cycle."
    )
    power: float = Field(default=0.9, gt=0.0, description="Exponent of poly, above 0; not used by other schedules.")
    final_fraction: Fraction = Field(
        default=0.0,
        description="Final learning rate as a fraction of the peak, 0 to 1; not used by step and constant.",
    )
    milestones: list[Annotated[float, Field(gt=0.0, lt=1.0)]] = Field(
        default_factory=lambda: [0.5, 0.75],
        description="Fractions of the run, increasing and between 0 and 1, at which step reduces the learning rate.",
    )
    drop: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        default=0.1, description="Factor on the learning rate at each milestone of step, between 0 and 1."
    )
    rise: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        default=0.3,
        description="Fraction of the run in which one_cycle increases the learning rate to the peak, between 0 and 1.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="Keyword arguments of a custom schedule; built-in schedules have none."
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
    """Stage of training: frozen parts and learning-rate factors for a number of epochs."""

    epochs: Positive | None = Field(
        default=None, description="Number of epochs, 1 or more; null, in the last stage only: all remaining epochs."
    )
    freeze: Annotated[list[Part], BeforeValidator(checks.one_or_several)] = Field(
        default_factory=list,
        description="Frozen parts: backbone, decoder, head, or a level, such as P3, which freezes the backbone up to "
        "that level.",
    )
    lr_scale: dict[Part, Weight] | None = Field(
        default=None,
        description="Learning-rate factors of this stage, which replace optimizer.lr_scale; null: optimizer.lr_scale "
        "applies.",
    )


class EarlyStoppingConfig(Section):
    """Early stopping when the monitored metric stops improving."""

    patience: Positive = Field(
        description="Epochs without an improvement of training.monitor after which training stops, 1 or more."
    )
    min_delta: Fraction = Field(
        default=0.0, description="Minimum change of training.monitor that counts as an improvement, 0 to 1."
    )


class PlateauConfig(Section):
    """Reduction of the learning rate when the monitored metric stops improving."""

    patience: Positive = Field(
        description="Epochs without an improvement of training.monitor after which the learning rate is reduced, 1 "
        "or more."
    )
    factor: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        default=0.5, description="Factor on the learning rate at each reduction, between 0 and 1."
    )
    min_delta: Fraction = Field(
        default=0.0, description="Minimum change of training.monitor that counts as an improvement, 0 to 1."
    )
    final_fraction: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        default=0.01,
        description="Lower bound of the learning rate as a fraction of the schedule's, above 0, at most 1.",
    )


class TrainingConfig(Section):
    """Training: epochs, optimizer, schedule, losses and precision."""

    epochs: Positive = Field(description="Number of epochs, 1 or more.")
    steps_per_epoch: Positive | None = Field(
        default=None, description="Steps per epoch, 1 or more; null: one pass over the training split."
    )
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig, description="Optimizer and its settings.")
    schedule: ScheduleConfig = Field(default_factory=ScheduleConfig, description="Learning-rate schedule over the run.")
    init_from: Source | None = Field(
        default=None,
        description="Initial weights, which replace model.weights: a run folder, a .keras or .weights.h5 file, or an "
        "address of a hub such as hf://user/name, of the same network; the classes may differ. null: model.weights.",
    )
    stages: list[StageConfig] = Field(
        default_factory=list,
        description="Training stages in order, such as [{freeze: backbone, epochs: 5}, {lr_scale: {backbone: 0.1}}].",
    )
    accumulate: Positive = Field(
        default=1,
        description="Gradient accumulation: number of batches whose mean gradient makes one update, 1 or more. "
        "Equivalent to a batch that many times as large, except for batch normalisation.",
    )
    ema: Decay = Field(
        default=None,
        description="Decay of the exponential moving average of the weights, between 0 and 1, such as 0.999; auto: "
        "averages over a twentieth of the run's updates. The averaged weights are evaluated and saved instead of the "
        "trained ones. null: no averaging.",
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32",
        description="Data type of computations: float32, bfloat16 or float16; weights remain float32.",
    )
    xla: Literal["auto", "on", "off"] = Field(
        "auto",
        description="XLA compilation of the training step: auto, on a GPU only (on a CPU a compiled step takes "
        "several times as long); on; off. On JAX the step is always compiled.",
    )
    remat: bool = Field(
        default=False,
        description="Gradient checkpointing: keep few activations and recompute the others in the backward pass; "
        "less memory, more time (docs/training.md).",
    )
    deterministic: bool = Field(default=False, description="Use only deterministic kernels; slower on a GPU.")
    overfit: Positive | None = Field(
        default=None,
        description="For debugging: train and evaluate on this many samples of the training split, 1 or more; null: "
        "on all.",
    )
    distribution: Literal["none", "mirrored", "multi_host"] = Field(
        default="none",
        description="none: one device; mirrored: all GPUs of this machine; multi_host: all devices of all processes "
        "started together, on JAX (docs/distributed.md). data.batch_size is the global batch size.",
    )
    monitor: Line = Field(
        default="mean_iou",
        description="Validation metric that selects the best epoch and that early_stopping and reduce_on_plateau "
        "monitor: mean_iou; foreground_mean_iou, which excludes the background; pixel_accuracy; loss, for which "
        "lower is better; or iou/CLASS, the IoU of one class.",
    )
    early_stopping: EarlyStoppingConfig | None = Field(default=None, description="Early stopping; null: disabled.")
    reduce_on_plateau: PlateauConfig | None = Field(
        default=None, description="Learning-rate reduction on a plateau; null: disabled."
    )
    max_time: Duration | None = Field(
        default=None,
        description="Maximum training time including evaluation, in seconds or as 90m, 1h30m or 2d; at the limit the "
        "epoch ends early and is evaluated, and the run is finished. The time of all sessions of an interrupted run "
        "is added up. null: no limit.",
    )
    save_every: Annotated[float, Field(ge=0.0)] = Field(
        default=300.0,
        description="Seconds between two checkpoints within an epoch, 0 or more; 0: after every step. A checkpoint "
        "is also written at the end of every epoch, and on SIGTERM and SIGINT.",
    )
    evaluate_every: Positive = Field(default=1, description="Epochs between two evaluations, 1 or more.")
    batchnorm_momentum: Momentum = Field(
        default="auto",
        description="Momentum of the moving statistics of batch normalisation, between 0 and 1; auto: 0.9 to "
        "0.99 by the number of steps between evaluations, less in runs of fewer than 50 steps.",
    )
    batchnorm_statistics: Literal["auto", "moving", "population"] = Field(
        default="auto",
        description="Statistics of batch normalisation in evaluations and in saved weights: moving, the moving "
        "averages over the steps; population, computed before each evaluation from training batches, on one device "
        "only; auto: moving (docs/training.md).",
    )

    @property
    def uses_population_statistics(self) -> bool:
        """Return True if evaluations use population statistics of batch normalisation, which `auto` does not select."""
        return self.batchnorm_statistics == "population"

    @model_validator(mode="after")
    def _settings_fit_each_other(self) -> TrainingConfig:
        checks.remat_on_one_device(self.remat, self.distribution)
        checks.stages([stage.epochs for stage in self.stages], [stage.freeze for stage in self.stages], self.epochs)
        return self


Metric = Annotated[Any, AfterValidator(checks.metric)]


class OutputConfig(Section):
    """Output folder, and the tables, pictures and logs written to it."""

    root: Place = Field(default="runs", description="Folder that contains all runs; a run is written to root/name.")
    pictures: int = Field(
        default=6, ge=0, le=1000, description="Number of validation samples in each sheet of predictions, 0 to 1000."
    )
    pictures_every: Positive | None = Field(
        default=10,
        description="Epochs between two sheets of predictions in TensorBoard and trackers, 1 or more; null: only "
        "when an epoch is the best so far, for which a sheet is always written.",
    )
    metrics: list[Metric] = Field(
        default_factory=list,
        max_length=50,
        description="Additional per-class metrics in the tables, besides IoU, Dice, precision and recall: names, or "
        "{name: {option: value}}, such as {f_beta: {beta: 2}}.",
    )
    keep_state: bool = Field(
        default=False,
        description="true: a finished run keeps its complete checkpoint and can be trained for more epochs; false: "
        "the optimizer's variables and the checkpoint's copies of the weights are dropped, two thirds of its size.",
    )


TrackerName = Annotated[str, AfterValidator(checks.tracker_name)]

LossName = Annotated[str, AfterValidator(checks.loss_name)]
# A weight, or {weight: ..., **arguments}. Validated by hand: one message per mistake, not one per member of the union.
LossTerm = Annotated[float | dict[str, Any], BeforeValidator(checks.loss_term)]


def _default_loss() -> dict[str, float | dict[str, Any]]:
    return {"cross_entropy": 1.0, "dice": 1.0}


class Config(Section):
    """Complete description of a training run."""

    # First, so that registered names are known when the other sections are validated.
    plugins: list[Line] = Field(
        default_factory=list,
        max_length=100,
        description="Python modules that register custom decoders, losses and other components, such as "
        "my_package.mine. They are imported from the configuration passed to a command; for a run folder name them "
        "by --plugin.",
    )
    name: Annotated[Place, Field(pattern=_FOLDER_NAME, max_length=200)] | None = Field(
        default=None,
        description="Name of the run and of its folder; null: the file name without its extension.",
    )
    seed: int = Field(
        default=0,
        ge=0,
        le=2**32 - 1,
        description="Seed of weight initialisation, data order and augmentation, 0 to 2^32-1.",
    )
    mode: Mode = Field(
        default="multiclass",
        description="multiclass: a softmax over the classes; binary: one sigmoid, for the second of two classes; "
        "multilabel: a sigmoid for each class, for classes that may overlap.",
    )
    model: ModelConfig = Field(description="Network architecture and initial weights.")
    data: Annotated[GeneratedData | FolderData, Field(discriminator="source")] = Field(
        description="Data source, splits, preprocessing and augmentation."
    )
    loss: dict[LossName, LossTerm] = Field(
        default_factory=_default_loss,
        min_length=1,
        description="Weighted sum of losses: name to weight, or to {weight: ..., argument: ...}.",
    )
    training: TrainingConfig = Field(description="Epochs, optimizer, schedule, precision and devices.")
    output: OutputConfig = Field(default_factory=OutputConfig, description="Output folder, pictures and logs.")
    tracking: dict[TrackerName, dict[str, Any] | None] = Field(
        default_factory=dict,
        description="Experiment trackers, mlflow or wandb: name to {argument: value}; {} uses the tracker's "
        "defaults, null disables it.",
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
