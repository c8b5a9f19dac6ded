"""The schema of a segzoo configuration: every key, its type, range, unit and default."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from segzoo.config import checks, data_checks
from segzoo.config.data_schema import FolderData, GeneratedData
from segzoo.config.fields import Line, Place, Positive, Section
from segzoo.config.model_schema import ModelConfig
from segzoo.config.training_schema import TrainingConfig
from segzoo.losses import LOSSES
from segzoo.task import Mode, Task
from segzoo.tracking import TRACKERS

# Excludes characters that Windows, macOS or Linux refuse in a folder name, and a leading dot, which hides it.
_FOLDER_NAME = r"^[^./\\:*?\"<>|\x00-\x1f][^/\\:*?\"<>|\x00-\x1f]*$"

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


TrackerName = Annotated[str, AfterValidator(TRACKERS.check)]

LossName = Annotated[str, AfterValidator(LOSSES.check)]
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
