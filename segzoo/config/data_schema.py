"""The data section of a configuration: source, splits, decoding and augmentation of samples."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from segzoo.config import data_checks
from segzoo.config.fields import Count, Fraction, Line, Place, Positive, Section, Text
from segzoo.config.problems import ProblemAt

Transform = Annotated[Any, AfterValidator(data_checks.transform)]
BatchTransform = Annotated[Any, AfterValidator(data_checks.batch_transform)]
ClassName = Text
ColorValue = Annotated[int, Field(ge=0, le=255)]
# YAML has lists and no tuples; only the outer container is relaxed, the numbers inside stay strict.
Color = Annotated[tuple[ColorValue, ColorValue, ColorValue], Field(strict=False)]
ImageSize = Annotated[
    tuple[Annotated[int, Field(ge=32, le=8192)], Annotated[int, Field(ge=32, le=8192)]], Field(strict=False)
]
GeneratedCount = Annotated[int, Field(ge=1, le=10_000_000)]
# A format's name, or {format: name, **options}. Checked by hand, against the format's own constructor.
MasksFormat = Annotated[dict[str, Any], BeforeValidator(data_checks.masks_section)]


class FoldConfig(Section):
    """One fold of a cross-validation."""

    index: int = Field(ge=0, description="Index of the fold that is the validation split, 0 to of - 1.")
    of: int = Field(ge=2, le=10_000, description="Number of folds, 2 to 10000.")

    @model_validator(mode="after")
    def _index_is_a_fold(self) -> FoldConfig:
        if self.index >= self.of:
            raise ProblemAt(("index",), f"{self.index} is no fold of {self.of}: 0 to {self.of - 1}")
        return self


class SplitConfig(Section):
    """Splits of a data set without split folders: by share, by fold, by lists, or by a column of a CSV file."""

    fraction: Annotated[float, Field(gt=0.0, lt=1.0)] | None = Field(
        default=None, description="Share of the samples in the validation split, between 0 and 1."
    )
    fold: FoldConfig | None = Field(
        default=None, description="The fold of a cross-validation, such as {index: 0, of: 5}."
    )
    train: Place | None = Field(
        default=None,
        description="List of the training samples: an id, or the path of an image and of its mask, a line.",
    )
    val: Place | None = Field(default=None, description="List of the validation samples, as train.")
    csv: Place | None = Field(
        default=None,
        description="CSV file with a column image (id or path); a column split with train, val and, if "
        "you like, test splits the data, and group may name a column.",
    )
    test: Place | None = Field(
        default=None, description="List of the test samples, which evaluate --split test takes, as train; null: none."
    )
    test_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] | None = Field(
        default=None,
        description="Share of the samples in a test split, between 0 and 1, with fraction or fold; it is dealt first "
        "and the same in every fold. null: none.",
    )
    seed: int = Field(
        default=0, ge=0, le=2**64 - 1, description="Seed of the deal, 0 to 2^64-1; another than that of the training."
    )
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
        data_checks.one_way_to_split(
            self.fraction, self.fold, self.train, self.val, self.csv, self.group, self.stratify
        )
        data_checks.test_split_fits(self.fraction, self.fold, self.train, self.test, self.test_fraction)
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

    folder: Place = Field(description="Folder of the cached samples; several runs may share it.")
    max_mb: Positive = Field(default=10240, description="Most of it for one data set, in MiB.")


class DataConfig(Section):
    """Options common to all sources of data."""

    source: str = Field(description="Source of the samples: generated or folder.")
    ignore_index: int = Field(
        default=255,
        ge=-(2**24),
        le=65535,
        description="Label of pixels left out of losses and metrics, -16777216 to 65535: 255, -1, -9999.",
    )
    train_split: Place = Field(
        default="train", description="Split to train on: a folder in root, or . where root has no splits."
    )
    val_split: Place = Field(
        default="val", description="Split to evaluate on: a folder in root, or . where root has no splits."
    )
    test_split: Place | None = Field(
        default=None,
        description="Split that evaluate --split test takes and training never sees: a folder in root; null: what "
        "data.split says of a test split, or none.",
    )
    split: SplitConfig | None = Field(
        default=None,
        description="Splits of data that lie in root itself; null: root has the folders train_split and val_split.",
    )
    repeats: int = Field(
        default=1,
        ge=1,
        le=10_000,
        description="Repetitions of every training sample in an epoch, each augmented anew, 1 to 10000.",
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
        default=2, ge=0, le=1024, description="Threads that read and augment, 0 to 1024; 0 works in the main thread."
    )
    cache_mb: Count = Field(
        default=1024,
        description="Memory for decoded training samples, in MiB, so that files are read once; 0: none.",
    )
    disk_cache: DiskCacheConfig | None = Field(
        default=None, description="Decoded training samples on disk, for what cache_mb does not hold; null: none."
    )
    augment: list[Transform] = Field(
        default_factory=list,
        description="albumentations transforms of training samples, in order, with their own arguments.",
    )
    batch_transforms: list[BatchTransform] = Field(
        default_factory=list,
        description="Changes to whole training batches after augment, in order: mixup, cutmix, copy_paste, each a name "
        "or {name: {option: value}}.",
    )
    val_transforms: list[Transform] = Field(
        default_factory=list,
        description="albumentations transforms of evaluation samples, in order, written as in augment.",
    )

    @model_validator(mode="after")
    def _one_test_split(self) -> DataConfig:
        if self.split is not None:
            data_checks.one_test_split(self.test_split, self.split.test, self.split.test_fraction)
        return self


class GeneratedData(DataConfig):
    """Samples drawn by segzoo itself: nothing to download."""

    source: Literal["generated"] = Field(default="generated", description="generated: samples drawn by segzoo itself.")
    size: ImageSize = Field(default=(128, 128), description="[height, width] of a sample in pixels, each 32 to 8192.")
    train_count: GeneratedCount = Field(default=400, description="Samples in the training split, 1 to 10 million.")
    val_count: GeneratedCount = Field(
        default=80, description="Samples in the validation split, and in a test split, 1 to 10 million."
    )

    @model_validator(mode="after")
    def _ignored_label_is_no_class(self) -> GeneratedData:
        data_checks.ignore_index_is_no_generated_class(self.ignore_index)
        return self


class FolderData(DataConfig):
    """Image and mask files under root/<split>/<image_dir> and root/<split>/<mask_dir>."""

    source: Literal["folder"] = Field(default="folder", description="folder: image and mask files in folders.")
    root: Place = Field(description="Folder that holds the splits; a relative path starts at the working directory.")
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
        description="Format of the masks, such as index or rgb; with options as {format: rgb, colors: ...}. In each, "
        "missing says what an image without a mask is: background (the default of formats with several files or "
        "several objects for an image) or error (of the others). docs/custom-masks.md has a recipe for each.",
    )
    image_dir: Place = Field(
        default="images",
        description="Folder of the images inside a split; * stands for any folder, and with {split} in it the path "
        "starts at root.",
    )
    mask_dir: Place = Field(
        default="masks", description="Folder of the masks inside a split, written as image_dir; for coco the JSON."
    )
    image_suffix: Line = Field(
        default="", description="Suffix of the stems of images that those of masks lack, such as _leftImg8bit."
    )
    mask_suffix: Line = Field(
        default="", description="Suffix of the stems of masks that those of images lack, such as _mask."
    )
    image_prefix: Line = Field(
        default="", description="Prefix of the names of images that those of masks lack, such as image_."
    )
    mask_prefix: Line = Field(
        default="", description="Prefix of the names of masks that those of images lack, such as mask_."
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
        data_checks.no_repeats("class", classes)
        return classes

    @field_validator("palette")
    @classmethod
    def _colors_are_unique(cls, palette: list[Color] | None) -> list[Color] | None:
        data_checks.no_repeats("colour", [list(color) for color in palette or []])
        return palette

    @model_validator(mode="after")
    def _labels_and_colors_fit_the_classes(self) -> FolderData:
        data_checks.ignore_index_is_no_class(self.ignore_index, self.classes)
        data_checks.one_color_per_class(self.palette, self.classes)
        data_checks.value_range(self.value_range)
        return self
