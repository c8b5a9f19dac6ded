"""Automatic configuration for a data set, from its files."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from segzoo.errors import SegzooError, shortened
from segzoo.files import check_file

if TYPE_CHECKING:
    from segzoo.autoconfig import Evidence


@dataclass(frozen=True)
class Proposal:
    """Configuration that was written for a data set.

    Attributes:
        path: the YAML file.
        found: the evidence: pairs, classes, how masks are to be read and why, and `remarks`.
    """

    path: Path
    found: Evidence


def init(
    images: str | PathLike[str],
    masks: str | PathLike[str],
    out: str | PathLike[str] = "my_data.yaml",
    *,
    classes: Sequence[str] | None = None,
    mask_suffix: str | None = None,
    ignore_index: int | None = None,
    threshold: int | None = None,
    group: str | None = None,
    overwrite: bool = False,
) -> Proposal:
    """Inspect images and masks, and write a configuration with the evidence for every value.

    Samples are read as the configuration says before it is written, so that `check_data` and `train` can use it.

    Args:
        images: folder of the images.
        masks: folder of the masks, or a COCO JSON.
        out: the configuration to write, with the ending .yaml or .yml.
        classes: names of the classes by label; by default those in the files or beside them, else made up.
        mask_suffix: suffix of the masks' stems, such as "_mask".
        ignore_index: value of unlabelled pixels in the masks.
        threshold: value from which up a pixel of a grey mask is the object, 0..255.
        group: regular expression that matches the group in a sample's id; a group stays in one split.
        overwrite: replace what is there.

    Raises:
        ConfigError: masks of an unknown format, files that cannot be paired, or names that do not match the classes.
        DataError: no images or masks that can be read.
        SegzooError: `out` exists, has another extension, or is not a valid name of a configuration.
        StorageError: `out` cannot be written.

    Example:
        >>> proposal = segzoo.init("photos", "masks", "my_data.yaml")
        >>> proposal.found.remarks
    """
    from segzoo.autoconfig import class_names, look, look_at_names, propose, save, try_out
    from segzoo.config.text_checks import one_line

    out, images, masks = Path(out), Path(images), Path(masks)
    if out.suffix not in (".yaml", ".yml"):
        raise SegzooError(f"--out must end in .yaml, got {out}.")
    try:
        one_line(str(out))
    except ValueError as error:  # then no command could open the configuration
        raise SegzooError(f"--out {shortened(str(out))}: {error}.") from None
    check_file(out)
    if out.exists() and not overwrite:
        raise SegzooError(f"{out} is there already; replace it with --overwrite, or name another by --out.")
    found = look_at_names(images, masks, threshold) or look(images, masks, mask_suffix, ignore_index, threshold)
    names = None if classes is None else list(classes)
    if names is None or len(names) == found.classes:
        try_out(found, names or class_names(found)[0], group)
    text = propose(found, names, group=group).replace("THIS_FILE", shlex.quote(str(out)))
    save(text, out, found)
    return Proposal(out, found)
