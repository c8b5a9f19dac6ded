"""Table of the kinds of data set problems, each with its severity and its cure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

Severity = Literal["error", "warning", "note"]


class Kind(NamedTuple):
    """One kind of problem.

    Attributes:
        severity: error: training would stop at it, or its figures would be wrong; warning: training runs and may be
            worse for it; note: worth knowing, often intended.
        title: the problem in a few words.
        cure: remedy for the problem.
        fix: what `segzoo check-data --fix FOLDER` does about it in the copy; "" where that is the user's decision or
            the samples are sound and the configuration is not.
    """

    severity: Severity
    title: str
    cure: str
    fix: str = ""


_LEFT_OUT = "leaves the sample out"

# The order is that of tables and reports.
KINDS: dict[str, Kind] = {
    "unpaired": Kind("error", "file without a partner", "Add the missing file, or remove this one.", "leaves it out"),
    "same_stem": Kind("error", "two files of one stem", "Rename or remove one, so that it is clear.", _LEFT_OUT),
    "zero_byte": Kind("error", "empty file (0 bytes)", "Copy the file again, or remove the pair.", _LEFT_OUT),
    "truncated": Kind("error", "truncated file", "Copy the file again, or remove the pair.", _LEFT_OUT),
    "unreadable": Kind("error", "unreadable file", "Write the file again, or remove the pair.", _LEFT_OUT),
    "too_large": Kind(
        "error", "decompression bomb", "Cut the picture into tiles; a small file that claims this size is hostile.",
        _LEFT_OUT,
    ),
    "not_finite": Kind(
        "error", "NaN or infinite pixels", "Write numbers in their place (np.nan_to_num), or remove the pair.",
        _LEFT_OUT,
    ),
    "several_pictures": Kind(
        "error", "several pages or frames in a file", "Write the one that is meant into a file of its own.", _LEFT_OUT
    ),
    "symlink_loop": Kind("error", "link that leads to itself", "Replace the link by the file.", "leaves it out"),
    "size_mismatch": Kind(
        "error",
        "image and mask differ in size",
        "Bring both to one size, masks with nearest-neighbour interpolation.",
        "turns the pixels where only the EXIF orientation differs; leaves the others out",
    ),
    "label": Kind(
        "error",
        "label out of range",
        "Correct the mask, data.classes or data.ignore_index.",
        _LEFT_OUT,
    ),
    "unusable": Kind("error", "unusable sample", "See the message.", _LEFT_OUT),
    "augmentation": Kind(
        "error",
        "transform that fails",
        "Correct data.augment or data.batch_transforms, or data.val_transforms where it is an evaluation's.",
    ),
    "target": Kind("error", "mask that the loss makes no target of", "Correct make_target of the loss."),
    "batch": Kind("error", "sizes that share no batch", "Set data.crop, or Resize or PadIfNeeded and RandomCrop."),
    "class_weights": Kind(
        "error", "no pixels to weigh classes by", "Add masks that show classes, or give class_weights as a list."
    ),
    "leak": Kind(
        "error",
        "same image in two splits",
        "Remove it from one: what was trained on says nothing when it is evaluated.",
        "keeps that of the validation split, where the masks are the same too",
    ),
    "near_leak": Kind(
        "warning",
        "near-duplicate in two splits",
        "Split by scene, patient or video instead of by image.",
    ),
    "duplicate": Kind(
        "warning",
        "same image twice in a split",
        "Remove one; it counts double. With different masks, one of them is wrong.",
        "keeps the first, where the masks are the same too",
    ),
    "value_range": Kind(
        "warning",
        "pixels that do not fill 0..255",
        "Set data.value_range: networks take 0 to 255, and pretrained ones were trained on it.",
    ),
    "dark_image": Kind("warning", "nearly black image", "Look at it; where all are so, set data.value_range."),
    "constant_image": Kind("warning", "image of a single colour", "Look at it: probably a failed exposure or export."),
    "unlabelled": Kind("warning", "mask without a label", "Label it or remove the pair: every pixel is ignored."),
    "absent_class": Kind("warning", "class without a pixel", "Add samples of it, or remove it from data.classes."),
    "resolution": Kind(
        "warning", "resolution unlike the others", "Resize or tile it: its objects have another scale to the network."
    ),
    "outside_root": Kind(
        "warning", "link that leaves the root", "Copy the file into the folder, or check that the link is yours.",
        "copies the file itself",
    ),
    "not_an_image": Kind("warning", "no image", "Move it elsewhere; it is not read.", "leaves it out"),
    "left_out": Kind("warning", "annotations or listed images left out", "Correct the list if they should count."),
    "no_mask": Kind(
        "note", "images without a mask", "Nothing, where they show no object; masks.missing: error refuses them."
    ),
    "only_background": Kind("note", "mask of class 0 only", "Nothing, where such samples are meant; or remove them."),
}  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """One problem of a data set.

    Attributes:
        id: the sample's id, or the name of the file or class.
        message: what is wrong, where, and what to do.
        kind: a key of `KINDS`.
        split: the split it was found in, "" where there is only one.
    """

    id: str
    message: str
    kind: str = "unusable"
    split: str = ""

    @property
    def severity(self) -> Severity:
        """Return the severity: "error", "warning" or "note"."""
        return KINDS[self.kind].severity
