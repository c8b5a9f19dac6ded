"""Table of the kinds of data set problems, each with its severity and its cure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

Severity = Literal["error", "warning", "note"]


class Kind(NamedTuple):
    """One kind of problem.

    Attributes:
        severity: error: training would stop, or its metrics would be wrong; warning: training runs, possibly with worse
            results; note: worth knowing, often intended.
        title: the problem in a few words.
        cure: remedy for the problem.
        fix: effect of `segzoo check-data --fix FOLDER` on the copy; "" if the user has to decide, or if the
            configuration is at fault.
    """

    severity: Severity
    title: str
    cure: str
    fix: str = ""


_LEFT_OUT = "leaves the sample out"

# The order is that of tables and reports.
KINDS: dict[str, Kind] = {
    "unpaired": Kind("error", "file without a partner", "Add the missing file, or remove this one.", "leaves it out"),
    "same_stem": Kind("error", "two files with the same stem", "Rename or remove one of them.", _LEFT_OUT),
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
        "error", "several pages or frames in a file", "Write the wanted one to a file of its own.", _LEFT_OUT
    ),
    "symlink_loop": Kind("error", "link to itself", "Replace the link by the file.", "leaves it out"),
    "size_mismatch": Kind(
        "error",
        "image and mask differ in size",
        "Bring both to one size, masks with nearest-neighbour interpolation.",
        "rotates the pixels if only the EXIF orientation differs; otherwise leaves the sample out",
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
        "Correct data.augment or data.batch_transforms, or data.val_transforms for an evaluation split.",
    ),
    "target": Kind("error", "mask that the loss cannot convert to a target", "Correct make_target of the loss."),
    "batch": Kind("error", "sizes that cannot be batched", "Set data.crop, or Resize or PadIfNeeded and RandomCrop."),
    "class_weights": Kind(
        "error", "no pixels for class weights", "Add masks that show classes, or give class_weights as a list."
    ),
    "leak": Kind(
        "error",
        "same image in two splits",
        "Remove it from one: metrics on training images do not measure generalisation.",
        "keeps that of the validation split, if the masks are equal too",
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
        "keeps the first, if the masks are equal too",
    ),
    "value_range": Kind(
        "warning",
        "pixels that do not fill 0..255",
        "Set data.value_range: networks take 0 to 255, and pretrained ones were trained on it.",
    ),
    "dark_image": Kind("warning", "nearly black image", "Inspect it; if all images are dark, set data.value_range."),
    "constant_image": Kind("warning", "single-colour image", "Inspect it: probably a failed exposure or export."),
    "unlabelled": Kind("warning", "mask without a label", "Label it or remove the pair: every pixel is ignored."),
    "absent_class": Kind("warning", "class without pixels", "Add samples of it, or remove it from data.classes."),
    "resolution": Kind(
        "warning", "resolution unlike the others", "Resize or tile it: the network sees its objects at another scale."
    ),
    "outside_root": Kind(
        "warning",
        "link to a file outside the root",
        "Copy the file into the folder, or check that the link is intended.",
        "copies the file itself",
    ),
    "not_an_image": Kind("warning", "not an image", "Move it elsewhere; it is not read.", "leaves it out"),
    "left_out": Kind("warning", "annotations or listed images left out", "Correct the list if they should be used."),
    "no_mask": Kind(
        "note", "images without a mask", "None needed if they show no object; masks.missing: error refuses them."
    ),
    "only_background": Kind(
        "note", "mask of class 0 only", "None needed if such samples are intended; otherwise remove them."
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """One problem of a data set.

    Attributes:
        id: the sample's id, or the name of the file or class.
        message: what is wrong, where, and what to do.
        kind: a key of `KINDS`.
        split: the split it was found in, "" if there is only one.
    """

    id: str
    message: str
    kind: str = "unusable"
    split: str = ""

    @property
    def severity(self) -> Severity:
        """Return the severity: "error", "warning" or "note"."""
        return KINDS[self.kind].severity
