"""The schema of a configuration's section `training`: epochs, optimizer, schedule, stages, precision and devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from segzoo.config import training_checks
from segzoo.config.fields import Count, Fraction, Line, Positive, Section, Source, Weight
from segzoo.config.number_checks import auto_or_number, seconds
from segzoo.optim import ADAPTIVE, LARGEST_NORM, OPTIMIZERS, SCHEDULES, head_factor

_SECONDS_OR_TEXT = {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string"}]}
Duration = Annotated[float, BeforeValidator(seconds), WithJsonSchema(_SECONDS_OR_TEXT)]
# Parts of the network that can be frozen or have their own learning rate. A level consists of the backbone's layers
# that only it and deeper levels need; T1 to T4 are a plain vision transformer's, quarters of its blocks.
Part = Literal["backbone", "decoder", "head", "P1", "P2", "P3", "P4", "P5", "T1", "T2", "T3", "T4"]
OpenFraction = Annotated[float, Field(gt=0.0, lt=1.0)]
# Checked by hand: one message for each mistake, not one for each member of the union.
Momentum = Annotated[Literal["auto"] | OpenFraction, BeforeValidator(auto_or_number(below=1.0))]
Decay = Annotated[Literal["auto"] | OpenFraction | None, BeforeValidator(auto_or_number(1.0, or_null=True))]
Norm = Annotated[
    Literal["auto"] | Annotated[float, Field(gt=0.0)] | None,
    BeforeValidator(auto_or_number(or_null=True)),
]


class OptimizerConfig(Section):
    """Optimizer, with its learning rate and weight decay."""

    name: Annotated[str, AfterValidator(OPTIMIZERS.check)] = Field(
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
        training_checks.one_kind_of_clipping(self.clip_norm, self.clip_value)
        training_checks.optimizer_options(self.name, self.options)
        return self

    @property
    def largest_norm(self) -> float | None:
        """Maximum global norm of the gradient, None for no clipping by norm."""
        if self.clip_norm == "auto":
            return LARGEST_NORM if self.name in ADAPTIVE and self.clip_value is None else None
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

    name: Annotated[str, AfterValidator(SCHEDULES.check)] = Field(
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
    milestones: list[OpenFraction] = Field(
        default_factory=lambda: [0.5, 0.75],
        description="Fractions of the run, increasing and between 0 and 1, at which step reduces the learning rate.",
    )
    drop: OpenFraction = Field(
        default=0.1, description="Factor on the learning rate at each milestone of step, between 0 and 1."
    )
    rise: OpenFraction = Field(
        default=0.3,
        description="Fraction of the run in which one_cycle increases the learning rate to the peak, between 0 and 1.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="Keyword arguments of a custom schedule; built-in schedules have none."
    )

    @model_validator(mode="after")
    def _options_fit(self) -> ScheduleConfig:
        training_checks.schedule_options(self.name, self.options)
        return self

    @field_validator("milestones")
    @classmethod
    def _milestones_rise(cls, milestones: list[float]) -> list[float]:
        training_checks.rising(milestones)
        return milestones


class StageConfig(Section):
    """Stage of training: frozen parts and learning-rate factors for a number of epochs."""

    epochs: Positive | None = Field(
        default=None, description="Number of epochs, 1 or more; null, in the last stage only: all remaining epochs."
    )
    freeze: Annotated[list[Part], BeforeValidator(training_checks.one_or_several)] = Field(
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
    factor: OpenFraction = Field(
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
        training_checks.remat_on_one_device(self.remat, self.distribution)
        training_checks.stages(
            [stage.epochs for stage in self.stages], [stage.freeze for stage in self.stages], self.epochs
        )
        return self
