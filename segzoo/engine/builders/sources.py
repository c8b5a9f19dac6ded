"""Sources of the training, validation and test split that a configuration describes, and what reads their files."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from segzoo import data
from segzoo.config import Config, FolderData
from segzoo.data import Source
from segzoo.errors import DataError


def build_source(config: Config, split: str, strict: bool = True) -> Source:
    """Build the source of the "train", "val" or "test" split; `strict` as in `FolderSource`.

    With `training.overfit` "train" and "val" are the same few of the former.

    Raises:
        DataError: unusable samples, or no test split.
    """
    if config.training.overfit is not None and split != "test":
        return few(whole_source(config, "train", strict), config.training.overfit)
    return whole_source(config, split, strict)


def few(source: Source, count: int) -> Source:
    """Return `count` samples spread evenly over the source, as neighbours look alike; DataError if it has fewer."""
    if count > len(source):
        raise DataError(f"training.overfit is {count}, but the training split has {len(source)} sample(s).")
    return data.Subset(source, np.linspace(0, len(source) - 1, count).round().astype(int).tolist())


def whole_source(config: Config, split: str, strict: bool = True) -> Source:
    """Build the source of a split without `training.overfit`; `strict` as in `FolderSource`.

    Raises:
        DataError: unusable samples, or no test split.
    """
    section = config.data
    if section.split is None or (split == "test" and section.test_split is not None):
        if split == "test" and section.test_split is None:
            raise _no_test_split()
        return _stored(config, split, strict=strict)
    # A list of images and masks is a source by itself, whatever folders they lie in.
    pairs = _listed_pairs(config).get(split)
    if pairs is not None:
        return _stored(config, None, pairs)
    dealt = _dealt(config, strict)
    if split not in dealt:
        raise _no_test_split()
    return dealt[split]


def has_test_split(config: Config) -> bool:
    """Return True if the configuration, or the CSV file that it names, has a test split."""
    section, split = config.data, config.data.split
    if section.test_split is not None:
        return True
    if split is None:
        return False
    if split.csv is not None and split.fraction is None and split.fold is None and split.train is None:
        return "test" in _dealt(config, strict=False)
    return split.test is not None or split.test_fraction is not None


def _no_test_split() -> DataError:
    return DataError(
        "There is no test split. Name one: data.test_split, a folder in data.root; or in data.split test, a list of "
        "samples, test_fraction, a share of them, or test in the column split of the csv. With an older run: "
        "segzoo evaluate RUN --split test --set data.test_split=test."
    )


def _listed_pairs(config: Config) -> dict[str, list[data.Pair] | None]:
    """Return the images and masks in the lists of `data.split`; None for a list of ids, nothing without lists."""
    settings = config.data.split
    if settings is None or settings.train is None or settings.val is None or not isinstance(config.data, FolderData):
        return {}
    root = Path(config.data.root)
    lists = {"train": settings.train, "val": settings.val, **({"test": settings.test} if settings.test else {})}
    pairs = {name: data.listed_pairs(Path(path), root) for name, path in lists.items()}
    for one, other in itertools.combinations(lists, 2):
        first, second = pairs[one], pairs[other]
        if first is not None and second is not None:
            data.refuse_common(first, second, (lists[one], lists[other]))
    return pairs


def _dealt(config: Config, strict: bool) -> Mapping[str, Source]:
    """Split a data set without split folders according to `data.split`."""
    settings = config.data.split
    assert settings is not None
    return data.split(
        _stored(config, None, strict=strict),
        fraction=settings.fraction,
        fold=(settings.fold.index, settings.fold.of) if settings.fold else None,
        train=settings.train,
        val=settings.val,
        test=settings.test,
        test_fraction=settings.test_fraction,
        csv=settings.csv,
        seed=settings.seed,
        group=settings.group,
        stratify=settings.stratify,
        workers=config.data.workers,
        strict=strict,
    )


def _stored(config: Config, split: str | None, pairs: list[data.Pair] | None = None, strict: bool = True) -> Source:
    """Build the source of the stored samples of a split; None: those of a data set without splits, or `pairs`."""
    section = config.data
    name = {"train": section.train_split, "val": section.val_split, "test": section.test_split, None: "."}[split]
    if isinstance(section, FolderData):
        return data.create_source(
            "folder",
            root=section.root,
            split=name,
            classes=section.classes,
            ignore_index=section.ignore_index,
            image_dir=section.image_dir,
            mask_dir=section.mask_dir,
            masks=mask_format(config),
            images=image_reader(config),
            image_suffix=section.image_suffix,
            mask_suffix=section.mask_suffix,
            image_prefix=section.image_prefix,
            mask_prefix=section.mask_prefix,
            exif=section.exif,
            strict=strict,
            pairs=pairs,
        )
    count = section.val_count if split in ("val", "test") else section.train_count
    return data.create_source(
        "generated",
        split=name if split else section.train_split,
        count=count,
        size=section.size,
        seed=config.seed,
        ignore_index=section.ignore_index,
    )


def mask_format(config: Config) -> data.MaskFormat:
    """Build the configured mask format."""
    section = config.data
    assert isinstance(section, FolderData)
    labels = data.Labels(tuple(section.classes), section.ignore_index, config.mode, section.max_pixels)
    options = {key: value for key, value in section.masks.items() if key != "format"}
    return data.create_format(section.masks["format"], labels, **options)


def image_reader(config: Config, alone: bool = False) -> data.ImageReader:
    """Build the image reader; `alone`, for prediction, it applies the EXIF orientation as the training source does."""
    section, channels = config.data, config.model.input_channels
    if not isinstance(section, FolderData):
        return data.ImageReader(channels)
    upright = alone and section.exif != "neither"
    return data.ImageReader(channels, section.bands, section.value_range, section.alpha, section.max_pixels, upright)
