"""The data section of a configuration: source, splits, decoding and augmentation of samples."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from segzoo.config import data_checks, number_checks
from segzoo.config.fields import Count, Fraction, Line, Place, Positive, Section, Text
from segzoo.config.problems import ProblemAt
from segzoo.levels import LARGEST_SIDE, SMALLEST_SIDE

Transform = Annotated[Any, AfterValidator(data_checks.transform)]
BatchTransform = Annotated[Any, AfterValidator(data_checks.batch_transform)]
ClassName = Text
ColorValue = Annotated[int, Field(ge=0, le=255)]
# YAML has no tuples: a list is accepted for the container; the numbers inside stay strict.
Color = Annotated[tuple[ColorValue, ColorValue, ColorValue], Field(strict=False)]
Side = Annotated[int, Field(ge=SMALLEST_SIDE, le=LARGEST_SIDE)]
ImageSize = Annotated[tuple[Side, Side], Field(strict=False)]
GeneratedCount = Annotated[int, Field(ge=1, le=10_000_000)]
# A format name, or {format: name, **options}. Validated by hand against the format's constructor.
MasksFormat = Annotated[dict[str, Any], BeforeValidator(data_checks.masks_section)]


class FoldConfig(Section):
    """One fold of a cross-validation."""

    index: int = Field(ge=0, description="Index of the fold used as the validation split, 0 to of - 1.")
    of: int = Field(ge=2, le=10_000, description="Number of folds, 2 to 10000.")

    @model_validator(mode="after")
    def _index_is_a_fold(self) -> FoldConfig:
        if self.index >= self.of:
            raise ProblemAt(("index",), f"{self.index} is no fold of {self.of}: 0 to {self.of - 1}")
        return self


class SplitConfig(Section):
    """Splits of a data set without split folders: by fraction, by fold, by lists, or by a column of a CSV file."""

    fraction: Annotated[float, Field(gt=0.0, lt=1.0)] | None = Field(
        default=None, description="Fraction of the samples in the validation split, between 0 and 1."
    )
    fold: FoldConfig | None = Field(default=None, description="Fold of a cross-validation, such as {index: 0, of: 5}.")
    train: Place | None = Field(
        default=None,
        description="Text file that lists the training samples, one per line: an id, or the paths of an image and "
        "its mask.",
    )
    val: Place | None = Field(
        default=None, description="Text file that lists the validation samples, in the same format as train."
    )
    csv: Place | None = Field(
        default=None,
        description="CSV file with a column image (id or path). A column split (train, val and, optionally, test) "
        "defines the splits, and group may name a column.",
    )
    test: Place | None = Field(
        default=None,
        description="Text file that lists the test samples, in the same format as train, for evaluate --split test; "
        "null: none.",
    )
    test_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] | None = Field(
        default=None,
        description="Fraction of the samples in a test split, between 0 and 1; requires fraction or fold. The test "
        "split is drawn first and is the same for every fold. null: none.",
    )
    seed: int = Field(
        default=0, ge=0, le=2**64 - 1, description="Seed of the split, 0 to 2^64-1; independent of the training seed."
    )
    group: Text | None = Field(
        default=None,
        description="Keeps samples of the same group, such as a patient, in one split: a regular expression that "
        "matches the group in a sample's id, or, with csv, the name of a column.",
    )
    stratify: bool = Field(
        default=False,
        description="true: distributes the samples of each class proportionally over the splits; reads all masks at "
        "the start.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> SplitConfig:
        data_checks.one_way_to_split(
            self.fraction, self.fold, self.train, self.val, self.csv, self.group, self.stratify
        )
        data_checks.test_split_fits(self.fraction, self.fold, self.train, self.test, self.test_fraction)
        return self


class CropConfig(Section):
    """Crop of a training sample before augmentation."""

    size: ImageSize = Field(description="[height, width] in pixels, each 32 to 8192; smaller images are padded.")
    strategy: Literal["random", "foreground"] = Field(
        default="random",
        description="random: at a uniformly random position; foreground: a fraction of the crops is centred on a pixel "
        "of a class drawn from those in the image.",
    )
    fraction: Fraction = Field(
        default=0.33, description="Fraction of the samples with a centred crop, 0 to 1, with strategy: foreground."
    )
    background: list[ClassName] = Field(
        default_factory=list,
        description="Names of the classes that do not count as foreground, with strategy: foreground.",
    )


class DiskCacheConfig(Section):
    """Disk cache of decoded training samples."""

    folder: Place = Field(description="Cache folder; several runs may share it.")
    max_mb: Positive = Field(default=10240, description="Maximum size of the cache of one data set, in MiB.")


class DataConfig(Section):
    """Options common to all sources of data."""

    source: str = Field(description="Data source: generated or folder.")
    ignore_index: int = Field(
        default=255,
        ge=-(2**24),
        le=65535,
        description="Label of pixels excluded from losses and metrics, -16777216 to 65535, such as 255, -1 or -9999.",
    )
    train_split: Place = Field(
        default="train", description="Training split: a folder in root, or . if root has no split folders."
    )
    val_split: Place = Field(
        default="val", description="Validation split: a folder in root, or . if root has no split folders."
    )
    test_split: Place | None = Field(
        default=None,
        description="Test split, used by evaluate --split test and never in training: a folder in root; null: the "
        "test split of data.split, if any.",
    )
    split: SplitConfig | None = Field(
        default=None,
        description="Division of samples into splits, for a root without split folders; null: root has the folders "
        "train_split and val_split.",
    )
    repeats: int = Field(
        default=1,
        ge=1,
        le=10_000,
        description="Repetitions of each training sample per epoch, each augmented independently, 1 to 10000.",
    )
    oversample: Fraction | None = Field(
        default=None,
        description="Repeat-factor sampling: threshold on the fraction of training samples that contain a class, 0 "
        "to 1. Samples of classes below it are repeated, by the square root of threshold / fraction; reads all masks "
        "at the start. null: none.",
    )
    crop: CropConfig | None = Field(
        default=None, description="Crop of training samples before augmentation; null: none."
    )
    batch_size: Positive = Field(default=8, description="Samples per training step, 1 or more.")
    eval_batch_size: Annotated[Positive | Literal["auto"], BeforeValidator(number_checks.auto_or_count)] = Field(
        default="auto",
        description="Samples of one size per evaluation step, 1 or more. auto: 8, or as many as have 2^20 pixels where "
        "images are larger than 362x362.",
    )
    workers: int = Field(
        default=2,
        ge=0,
        le=1024,
        description="Threads that read and augment samples, 0 to 1024; 0: in the main thread.",
    )
    cache_mb: Count = Field(
        default=1024,
        description="Memory cache of decoded training samples, in MiB, so that files are read only once; 0: none.",
    )
    disk_cache: DiskCacheConfig | None = Field(
        default=None, description="Disk cache of decoded training samples that do not fit into cache_mb; null: none."
    )
    augment: list[Transform] = Field(
        default_factory=list,
        description="albumentations transforms of training samples, in order, each with its arguments.",
    )
    batch_transforms: list[BatchTransform] = Field(
        default_factory=list,
        description="Transforms of whole training batches after augment, in order: mixup, cutmix or copy_paste, each "
        "as a name or {name: {option: value}}.",
    )
    val_transforms: list[Transform] = Field(
        default_factory=list,
        description="albumentations transforms of evaluation samples, in order, in the same format as augment.",
    )

    @model_validator(mode="after")
    def _one_test_split(self) -> DataConfig:
        if self.split is not None:
            data_checks.one_test_split(self.test_split, self.split.test, self.split.test_fraction)
        return self


class GeneratedData(DataConfig):
    """Synthetic samples drawn by segzoo; no download is needed."""

    source: Literal["generated"] = Field(
        default="generated", description="generated: synthetic samples drawn by segzoo."
    )
    size: ImageSize = Field(default=(128, 128), description="[height, width] of a sample in pixels, each 32 to 8192.")
    train_count: GeneratedCount = Field(default=400, description="Number of training samples, 1 to 10 million.")
    val_count: GeneratedCount = Field(
        default=80, description="Number of samples in the validation split, and in a test split, 1 to 10 million."
    )

    @model_validator(mode="after")
    def _ignored_label_is_no_class(self) -> GeneratedData:
        data_checks.ignore_index_is_no_generated_class(self.ignore_index)
        return self


class FolderData(DataConfig):
    """Image and mask files under root/<split>/<image_dir> and root/<split>/<mask_dir>."""

    source: Literal["folder"] = Field(default="folder", description="folder: image and mask files in folders.")
    root: Place = Field(description="Folder that contains the splits; a relative path starts at the working directory.")
    classes: list[ClassName] = Field(
        min_length=2,
        description="Class names, two or more; the position of a name, from 0, is its label.",
    )
    palette: list[Color] | None = Field(
        default=None,
        description="Colours of the classes in pictures: one [red, green, blue] per class, each 0 to 255.",
    )
    masks: MasksFormat = Field(
        default_factory=lambda: {"format": "index"},
        description="Mask format, such as index or rgb; with options as {format: rgb, colors: ...}. In every format "
        "the option missing determines how an image without a mask is handled: background (the default of formats "
        "with several files or objects per image) or error (the default of the others). docs/custom-masks.md has a "
        "recipe for each format.",
    )
    image_dir: Place = Field(
        default="images",
        description="Image folder inside a split; * matches any folder, and a path that contains {split} starts at "
        "root.",
    )
    mask_dir: Place = Field(
        default="masks",
        description="Mask folder inside a split, in the same format as image_dir; for coco the path of the JSON file.",
    )
    image_suffix: Line = Field(
        default="",
        description="Suffix of the stems of images that is removed before pairing with masks, such as _leftImg8bit.",
    )
    mask_suffix: Line = Field(
        default="",
        description="Suffix of the stems of masks that is removed before pairing with images, such as _mask.",
    )
    image_prefix: Line = Field(
        default="", description="Prefix of image names that is removed before pairing with masks, such as image_."
    )
    mask_prefix: Line = Field(
        default="", description="Prefix of mask names that is removed before pairing with images, such as mask_."
    )
    bands: list[Positive] | None = Field(
        default=None, description="Bands of GeoTIFF images to read, in this order, counted from 1; null: all."
    )
    value_range: Annotated[tuple[float, float], Field(strict=False)] | None = Field(
        default=None,
        description="[low, high]: pixel values that are mapped to 0 and 255, as float32; null: 8-bit values are "
        "unchanged, 16-bit values are reduced to their upper 8 bits.",
    )
    alpha: Literal["drop", "black", "white"] = Field(
        default="drop",
        description="Handling of transparency if input_channels is not 4: drop the alpha channel, or composite the "
        "image over black or white.",
    )
    exif: Literal["neither", "both", "image"] = Field(
        default="neither",
        description="Where the EXIF orientation is applied: neither; both, to image and mask; or image only, for "
        "masks drawn on the image as viewers display it.",
    )
    max_pixels: Positive = Field(
        default=64 * 2**20,
        description="Maximum number of pixels of an image or mask; larger files are refused before decoding.",
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
