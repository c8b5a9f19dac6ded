"""Trial of a proposed configuration on some samples, to find what `check-data` would refuse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from segzoo.autoconfig.evidence import Evidence
from segzoo.data.folder import FolderSource
from segzoo.data.formats import Labels, create_format
from segzoo.data.images import ImageReader, exif_orientation
from segzoo.data.splits import split
from segzoo.errors import ConfigError, DataError

FRACTION = 0.2  # of the samples that are dealt to the validation split
_READ = 200  # samples; check-data reads all


def source_of(found: Evidence, names: Sequence[str], part: str | None = None) -> FolderSource:
    """Return the samples of a split, or of a data set without splits, as the proposal reads them; DataError if none."""
    labels = Labels(tuple(names), found.ignore_index, found.mode)
    options = {key: value for key, value in mask_options(found, names).items() if key != "format"}
    return FolderSource(
        found.root,
        part or ".",
        names,
        found.ignore_index,
        found.image_dir,
        found.mask_dir,
        masks=create_format(found.masks["format"], labels, **options),
        images=None if found.channels is None else ImageReader(found.channels),
        image_suffix=found.image_suffix,
        mask_suffix=found.mask_suffix,
        image_prefix=found.image_prefix,
        mask_prefix=found.mask_prefix,
        exif=found.exif,
        strict=False,
    )


def mask_options(found: Evidence, names: Sequence[str]) -> dict[str, Any]:
    """Return `data.masks`, with the names of the classes in tables of values and colours."""
    masks = dict(found.masks)
    if isinstance(masks.get("colors"), list):
        masks["colors"] = dict(zip(names, masks["colors"], strict=True))
        if found.ignored_color is not None:
            masks["colors"]["ignore"] = found.ignored_color
    if "values" in masks:
        values = dict(masks["values"])
        ignored = {"ignore": values.pop("ignore")} if "ignore" in values else {}
        masks["values"] = dict(zip(names, values.values(), strict=True)) | ignored
    return masks


def try_out(found: Evidence, names: Sequence[str], group: str | None = None) -> None:
    """Read samples as proposed; failures become remarks, or an error if the proposal itself is at fault.

    Sets `found.exif` where masks fit images only once these are turned, and `found.train` where samples are dealt.

    Raises:
        ConfigError: no sample can be read with the configuration, or the samples cannot be split.
        DataError: no image has a mask.
    """
    parts = found.splits or (None,)
    failed = _failures(found, names, parts)
    if failed and _are_turned(found, names, parts[0]):
        found.exif = "image"
        if len(turned := _failures(found, names, parts)) < len(failed):
            failed = turned
        else:
            found.exif = "neither"
    tried = sum(min(_READ, len(source_of(found, names, part))) for part in parts)
    if failed and len(failed) == tried:
        raise ConfigError(f"No sample can be read as masks: {found.masks['format']}. The first: {failed[0]}")
    if failed:
        found.remarks.append(f"{len(failed)} of {tried} samples cannot be used. The first: {failed[0]}")
    if found.splits is None:
        try:
            dealt = split(source_of(found, names), fraction=FRACTION, group=group)
        except DataError as error:
            raise ConfigError(f"The data set has no folders for training and validation, and {error}") from error
        found.train = len(dealt["train"])


def sample_errors(source: FolderSource) -> list[str]:
    """Return the errors of reading some of the samples."""
    errors = []
    for index in np.unique(np.linspace(0, len(source) - 1, min(_READ, len(source))).astype(int)):
        try:
            source[int(index)]
        except DataError as error:
            errors.append(str(error))
    return errors


def _failures(found: Evidence, names: Sequence[str], parts: Sequence[str | None]) -> list[str]:
    """Return the errors of reading samples, a message each."""
    return [error for part in parts for error in sample_errors(source_of(found, names, part))]


def _are_turned(found: Evidence, names: Sequence[str], part: str | None) -> bool:
    """Return True if the EXIF orientation of one of the images turns it."""
    source = source_of(found, names, part)
    return any(exif_orientation(source.files(index)[0]) != 1 for index in range(min(_READ, len(source))))
