"""Evidence: properties of a data set that a configuration is derived from."""

from __future__ import annotations

import collections
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from segzoo.data.value_range import Suggestion
from segzoo.task import Mode


@dataclass
class Evidence:
    """Properties of a data set, and the reasons for them.

    Attributes:
        root: folder that images and masks lie in.
        image_dir, mask_dir: as `data.image_dir` and `data.mask_dir` have them.
        splits: names of the training and the validation folder; None where there are none.
        pairs: number of pairs, of the training split.
        unpaired: number of files without a partner.
        image_suffix, mask_suffix: what the stems end in.
        image_prefix, mask_prefix: what the stems begin with.
        masks: name and options of the mask format.
        why: the pixels that say so, in words.
        classes: number of classes.
        values: value of each class in the files, a number or [red, green, blue]; None: its position.
        ignore_index: label of ignored pixels, with the reason in `ignored`.
        ignored: reason for `ignore_index`, in words.
        ignored_color: colour of ignored pixels in masks of format rgb; None: there is none.
        mode: "multiclass", or "multilabel" where classes overlap.
        pixels: pixels of each class in the masks that were read.
        labelled: labelled pixels in these masks; 0: the sum of `pixels`, as where classes do not overlap.
        read: number of masks that were read.
        total: number of masks, including those of the validation folder.
        sizes: (height, width) of the images to their number.
        grey: whether all images that were opened have one channel.
        channels: number of image channels if pictures cannot have as many; None: one, three or four.
        exif: value for `data.exif`.
        names: names of the classes where the files have them.
        named: origin of the names, in words.
        palette: one [red, green, blue] for each class where the files have them.
        value_range: the range that the images' values need; None where they fill 0 to 255 by themselves.
        train: samples of the training split, if the data is already split.
        remarks: remarks for the user, one sentence each.
    """

    root: Path
    image_dir: str
    mask_dir: str
    splits: tuple[str, str] | None
    pairs: int = 0
    unpaired: int = 0
    image_suffix: str = ""
    mask_suffix: str = ""
    image_prefix: str = ""
    mask_prefix: str = ""
    masks: dict[str, Any] = field(default_factory=dict)
    why: str = ""
    classes: int = 0
    values: list[Any] | None = None
    ignore_index: int = 255
    ignored: str = ""
    ignored_color: list[int] | None = None
    mode: Mode = "multiclass"
    pixels: list[int] = field(default_factory=list)
    labelled: int = 0
    read: int = 0
    total: int = 0
    sizes: collections.Counter[tuple[int, int]] = field(default_factory=collections.Counter)
    grey: bool = False
    channels: int | None = None
    exif: Literal["neither", "image"] = "neither"
    names: list[str] | None = None
    named: str = ""
    palette: list[list[int]] | None = None
    value_range: Suggestion | None = None
    train: int | None = None
    remarks: list[str] = field(default_factory=list)
