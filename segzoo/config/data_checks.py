"""Validators of the data section beyond types: splits, labels against the list of classes, mask formats.

What they compare with is imported inside the functions, so that validating a configuration loads only what it names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from segzoo.config.checks import registered_entry
from segzoo.config.problems import ProblemAt, given, not_among
from segzoo.errors import ConfigError, SegzooError, shortened
from segzoo.task import Task


def one_way_to_split(
    fraction: float | None,
    fold: object,
    train: str | None,
    val: str | None,
    csv: str | None,
    group: str | None,
    stratify: bool,
) -> None:
    """Check that `data.split` defines exactly one way to split; raise ProblemAt at conflicting keys."""
    if (train is None) != (val is None):
        raise ProblemAt(("train",) if train is None else ("val",), "train and val are given together")
    ways = {"fraction": fraction, "fold": fold, "train and val": train}
    given = [name for name, value in ways.items() if value is not None]
    if len(given) > 1:
        raise ProblemAt((), f"give one of fraction, fold, train and val, not {' and '.join(given)}")
    if not given and csv is None:
        raise ProblemAt((), "say how to split: fraction, fold, train and val, or csv with a column split")
    dealt = fraction is not None or fold is not None
    for name, value in (("group", group), ("stratify", stratify or None)):
        if value is not None and not dealt:
            raise ProblemAt(
                (name,), f"{name} needs fraction or fold; lists and a column say themselves what goes where"
            )
    if group is not None and csv is None:
        try:
            re.compile(group)
        except (re.error, RecursionError, OverflowError) as error:
            raise ProblemAt(("group",), f"{shortened(group)} is no regular expression: {error}") from error


def test_split_fits(
    fraction: float | None, fold: object, train: str | None, test: str | None, test_fraction: float | None
) -> None:
    """Check the test split of `data.split`; raise ProblemAt at conflicting keys."""
    if test is not None and train is None:
        raise ProblemAt(("test",), "a list of test samples needs the lists train and val")
    if test_fraction is None:
        return
    if fraction is None and fold is None:
        raise ProblemAt(("test_fraction",), "test_fraction needs fraction or fold; lists and a column name the samples")
    if fraction is not None and fraction + test_fraction >= 1:
        raise ProblemAt(("test_fraction",), f"with fraction {fraction:g} it leaves no sample to train on")


def one_test_split(test_split: str | None, test: str | None, test_fraction: float | None) -> None:
    """Raise ProblemAt if both `data.test_split` and `data.split` define a test split."""
    if test_split is not None and (test is not None or test_fraction is not None):
        raise ProblemAt(("test_split",), "data.split names a test split already; leave one of the two out")


def background_is_some_classes(background: Sequence[str], classes: Sequence[str]) -> None:
    """Check the names in `data.crop.background`; raise ProblemAt at one that is not a class."""
    known = set(classes)
    for index, name in enumerate(background):
        if name not in known:
            raise ProblemAt(("data", "crop", "background", index), not_among("class", name, classes))
    if background and set(background) >= known:
        raise ProblemAt(("data", "crop", "background"), "leaves no class for the foreground")


def transform(value: object) -> object:
    """Check one transform of `data.augment` or `data.val_transforms`; raise ValueError if it is invalid."""
    from segzoo.data.augmentation import validate_transforms

    try:
        validate_transforms([value])
    except SegzooError as error:
        # The key, which may be val_transforms, and the index in the list are already part of the message.
        raise ValueError(str(error).removeprefix("data.augment, transform 1: ")) from error
    return value


def transforms_fit(transforms: Mapping[str, Sequence[Any]], task: Task) -> None:
    """Raise ProblemAt for a transform that fails on masks of the mode, or writes invalid labels into them.

    Args:
        transforms: key of the data section to its transforms, each checked by `transform` already.
        task: classes, mode and ignore index of the masks.
    """
    from segzoo.data.augmentation import check_labels_written

    for key, entries in transforms.items():
        for place, entry in enumerate(entries):
            try:
                check_labels_written(entry, task)
            except ConfigError as error:
                raise ProblemAt(("data", key, place), str(error)) from error


def batch_transform(value: object) -> object:
    """Check one entry of `data.batch_transforms`: its form, name and options; raise ProblemAt at the invalid part."""
    from segzoo.data.batch_transforms import BATCH_TRANSFORMS, options_of, parsed

    return registered_entry(value, BATCH_TRANSFORMS, parsed, options_of)


def batch_transforms_fit(entries: Sequence[Any], task: Task, batch_size: int, losses: Sequence[str]) -> None:
    """Raise ProblemAt for a batch transform that does not fit its options, the other transforms, batch size or losses.

    Args:
        entries: `data.batch_transforms`, each checked by `batch_transform` already.
        task: classes, mode and ignore index of the masks.
        batch_size: samples of a batch.
        losses: names of the losses that are added up.
    """
    from segzoo.data.batch_transforms import BatchTransforms

    for place in range(len(entries)):
        try:
            chain = BatchTransforms.of(entries[: place + 1], task)
        except ConfigError as error:
            raise ProblemAt(("data", "batch_transforms", place), str(error)) from error
        name, last = chain.names[-1], chain.transforms[-1]
        if batch_size < last.smallest_batch:
            message = f"{name} needs batches of {last.smallest_batch} samples or more, got {batch_size}"
            raise ProblemAt(("data", "batch_size"), message)
        if last.makes_soft:
            _losses_take_shares(losses, name, place)


def _losses_take_shares(names: Sequence[str], transform: str, place: int) -> None:
    """Raise ProblemAt for a loss that does not support the soft masks of a transform."""
    from segzoo.config import stated
    from segzoo.losses import LOSSES

    for name in names:
        if not stated.takes_soft(name):
            others = [other for other in LOSSES if stated.takes_soft(other)]
            raise ProblemAt(
                ("data", "batch_transforms", place),
                f"{transform} makes shares of classes of the labels, which the loss {name} cannot take. Take cutmix, "
                f"or leave out that loss; those that take shares: {', '.join(others)}",
            )


def masks_section(value: object) -> object:
    """Return {format: name, **options} for a format name or such a mapping; raise ValueError for other values.

    Tables of colours are read from their files, so that the configuration in a run folder stands by itself.
    """
    from segzoo.data.formats import MASK_FORMATS, resolved

    section = {"format": value} if isinstance(value, str) else value
    if not isinstance(section, dict) or not isinstance(section.get("format"), str):
        raise ValueError(f"expected the name of a mask format or {{format: name, option: value}}, got {given(value)}")
    if odd := [key for key in section if not isinstance(key, str)]:
        raise ValueError(f"expected names of options, got {given(odd[0])}")
    MASK_FORMATS.check(section["format"])
    try:
        return resolved(section)
    except ConfigError as error:
        raise ValueError(str(error)) from error


def masks_fit(masks: Mapping[str, Any], task: Task) -> None:
    """Raise ProblemAt for a mask format that does not fit its options, the classes or the mode."""
    from segzoo.data.formats import Labels, check_format

    try:
        check_format(masks, Labels(task.classes, task.ignore_index, task.mode))
    except SegzooError as error:
        raise ProblemAt(("data", "masks"), str(error)) from error


def one_band_per_channel(bands: Sequence[int] | None, channels: int) -> None:
    """Raise ProblemAt unless there is one band per image channel."""
    if bands is not None and len(bands) != channels:
        raise ProblemAt(("data", "bands"), f"{len(bands)} bands, where model.input_channels is {channels}")


def generated_samples_fit(mode: str, channels: int) -> None:
    """Raise ProblemAt for options that generated samples do not support: multilabel, other than 3 channels."""
    if mode == "multilabel":
        raise ProblemAt(("mode",), "generated samples have one class for each pixel, so mode is multiclass")
    if channels != 3:
        raise ProblemAt(("model", "input_channels"), f"generated samples have 3 channels, not {channels}")


def value_range(found: tuple[float, float] | None) -> None:
    """Raise ProblemAt unless low is below high."""
    if found is not None and not found[0] < found[1]:
        raise ProblemAt(("value_range",), f"expected [low, high] with low below high, got {list(found)}")


def no_repeats(kind: str, values: Sequence[Any]) -> None:
    """Raise ProblemAt for the second occurrence of a value."""
    places: dict[Any, int] = {}
    for index, value in enumerate(values):
        first = places.setdefault(tuple(value) if isinstance(value, list) else value, index)
        if first != index:
            shown = shortened(value) if isinstance(value, str) else value
            raise ProblemAt((index,), f"the {kind} {shown} stands here and at position {first} already")


def ignore_index_is_no_generated_class(ignore_index: int) -> None:
    """Raise ProblemAt if the ignore index is the label of a class of the generated samples."""
    from segzoo.data.generated import CLASSES

    ignore_index_is_no_class(ignore_index, CLASSES)


def ignore_index_is_no_class(ignore_index: int, classes: Sequence[str]) -> None:
    """Raise ProblemAt if the ignore index is the label of a class."""
    if 0 <= ignore_index < len(classes):
        raise ProblemAt(
            ("ignore_index",),
            f"{ignore_index} is the label of the class {shortened(classes[ignore_index])}; "
            f"{len(classes)} classes use 0 to {len(classes) - 1}, so take a value from {len(classes)} up",
        )


def one_color_per_class(palette: Sequence[Any] | None, classes: Sequence[str]) -> None:
    """Raise ProblemAt unless the palette has one colour per class."""
    if palette is not None and len(palette) != len(classes):
        raise ProblemAt(
            ("palette",),
            f"{len(palette)} colours for {len(classes)} classes; give one [red, green, blue] per class",
        )
