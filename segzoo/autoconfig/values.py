"""Detection of the mask format from pixel values: class indices, custom values or colours, or white on black."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from segzoo.autoconfig.evidence import Evidence
from segzoo.data.codecs import unlimited
from segzoo.data.formats import MASK_FORMATS
from segzoo.data.refusals import check_size
from segzoo.errors import ConfigError, DataError
from segzoo.files import regular

_MOST_COLOURS = 64  # more in a few masks are smeared colours, no table of classes
_EDGE = 0.5  # from this share of pixels between 0 and 255 on, values are no smooth edges of one thing in white
_JPEG = (".jpg", ".jpeg")
_UNLABELLED = (255, 65535)  # what unlabelled pixels have in masks of 8 and of 16 bits, by habit
_LOWEST = -(2**24)  # the lowest ignore index
_GREY_COLOURS = "grey picture of three channels"

Color = tuple[int, int, int]


class _Stored(NamedTuple):
    """Pixel values of a mask file, and the kind of file.

    Attributes:
        kind: "array", "grey", "one bit", "palette", "colour", or grey in three channels.
        counts: pixels of each value; of pictures of three channels values are (red, green, blue).
        palette: for a picture with a palette, the colour of each value in it.
    """

    kind: str
    counts: dict[Any, int]
    palette: dict[int, Color]


def read_values(found: Evidence, masks: Sequence[Path], ignore_index: int | None, threshold: int | None) -> None:
    """Find the format and the classes from all values of the masks, and add them to the evidence.

    Args:
        found: the evidence so far.
        masks: the files.
        ignore_index: value of unlabelled pixels; None: the one below 0, or 255 where it is no next label and no step of
            an even scale.
        threshold: value from which up a pixel is the thing, in masks of one thing with smooth edges.

    Raises:
        DataError: unreadable files, or values that are not labels.
        ConfigError: an ambiguous or unsupported format; the message names the option that decides, or the remedy.
    """
    stored: dict[Path, _Stored] = {}
    unreadable: list[str] = []
    for path in masks:
        try:
            with unlimited():
                stored[path] = _stored(path)
        except (OSError, SyntaxError, EOFError, KeyError, DataError) as error:
            unreadable.append(str(error) if isinstance(error, DataError) else f"{path}: {error}")
    found.read = len(stored)
    if not stored:
        raise DataError(f"None of {len(masks)} masks can be read. The first: {unreadable[0]}")
    kind, alike, palette = _one_kind(stored)
    values: collections.Counter[Any] = collections.Counter()
    for mask in alike:
        values.update(mask.counts)
    if kind == "colour":
        _colours(found, values)
    else:
        _numbers(found, values, kind, masks, ignore_index, threshold)
        found.palette = _palette_of(found, palette)
    _refuse_other_endings(found, masks)


def _one_kind(files: Mapping[Path, _Stored]) -> tuple[str, Sequence[_Stored], dict[int, Color]]:
    """Return all masks in one common kind, and the palette if they have one; ConfigError if the kinds differ.

    Kinds that go together: pictures with palettes that contradict each other, as programs leave them that make files
    smaller, are colour pictures; so is a grey one among these, which shows nothing but black. One bit and grey are one,
    and so are labels in grey and labels with colours for display.
    """
    stored = list(files.values())
    kinds = {mask.kind for mask in stored}
    palette = _common_palette(stored) if kinds == {"palette"} else {}
    if palette is None or (len(kinds) > 1 and kinds <= {"palette", "colour", _GREY_COLOURS}):
        return "colour", [_coloured(mask) for mask in stored], {}
    if kinds == {_GREY_COLOURS}:
        numbers = [mask._replace(counts=_added((color[0], n) for color, n in mask.counts.items())) for mask in stored]
        return _GREY_COLOURS, numbers, {}
    if kinds == {"grey", "one bit"}:
        grey = {value for mask in stored if mask.kind == "grey" for value in mask.counts}
        if grey <= {0, 1} or grey <= {0, 255}:
            white = max(grey, default=0) or 1
            return "grey", [mask if mask.kind == "grey" else _scaled(mask, white) for mask in stored], {}
    if kinds == {"grey", "palette"} and (colors := _label_colours(stored)) is not None:
        return "grey, some with a palette", stored, colors
    if len(kinds) > 1:
        examples = {mask.kind: path for path, mask in reversed(list(files.items()))}
        found = collections.Counter(mask.kind for mask in stored)
        shown = ", ".join(f"{count} {kind}, such as {examples[kind]}" for kind, count in sorted(found.items()))
        raise ConfigError(
            f"The masks are of several kinds ({shown}), so what their values mean is ambiguous. "
            "Write all in one kind, or write the configuration by hand: docs/custom-masks.md."
        )
    kind = kinds.pop()
    if kind == "one bit" or (palette and all(color == (value,) * 3 for value, color in palette.items())):
        return "grey", stored, {}  # a palette of greys is a grey picture
    return kind, stored, palette


def _label_colours(stored: Sequence[_Stored]) -> dict[int, Color] | None:
    """Return the palette of grey masks and masks with a palette whose values are the same labels; None if unclear.

    The indices of a palette are labels if the grey masks have them too. Not if they show greys of other values, as
    programs leave them that make files smaller, nor beside white on black, which has no index.
    """
    with_palette = [mask for mask in stored if mask.kind == "palette"]
    grey = {value for mask in stored if mask.kind == "grey" for value in mask.counts}
    indices = {value for mask in with_palette for value in mask.counts}
    shown = [(value, color) for mask in with_palette for value, color in mask.palette.items()]
    is_grey = all(len(set(color)) == 1 for _, color in shown)
    moved = is_grey and any(color[0] not in (value, 0) for value, color in shown)
    if grey <= {0, 255} or not indices <= grey or moved:
        return None
    return _common_palette(with_palette)


def _scaled(mask: _Stored, white: int) -> _Stored:
    return mask._replace(counts={value * white: count for value, count in mask.counts.items()})


def _added(pairs: Iterable[tuple[Any, int]]) -> dict[Any, int]:
    """Return the sum of the counts of each value."""
    sums: collections.Counter[Any] = collections.Counter()
    for value, count in pairs:
        sums[value] += count
    return dict(sums)


def _stored(path: Path) -> _Stored:
    """Read a mask file; DataError, or the exception from Pillow, if that fails."""
    from segzoo.data.folder import MAX_PIXELS
    from segzoo.data.formats.array import load_array
    from segzoo.data.formats.pictures import NUMBER_MODES, read_indices

    if path.suffix.lower() in (".npy", ".npz"):
        array = load_array(path, MAX_PIXELS)
        array = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
        if array.ndim != 2 or array.dtype.kind not in "biuf":
            raise DataError(
                f"{path}: an array of shape {array.shape} of {array.dtype}, where (H, W) of whole numbers is due. "
                "Masks with a channel for each class go with mode: multilabel, docs/custom-masks.md."
            )
        return _Stored("array", _counted(array), {})
    try:
        opened = Image.open(regular(path))
    except UnidentifiedImageError:  # such as a TIFF of 64 bits, which is read all the same
        return _Stored("grey", _counted(read_indices(path, MAX_PIXELS)), {})
    with opened as picture:
        check_size(path, picture.size, MAX_PIXELS)
        if picture.mode in NUMBER_MODES:
            counts = _counted(read_indices(path, MAX_PIXELS))
            kind = {"P": "palette", "1": "one bit"}.get(picture.mode, "grey")
            kind = "grey" if picture.format == "GIF" else kind  # of whose palette the grey counts
            return _Stored(kind, counts, _palette(picture, counts) if kind == "palette" else {})
        if "A" in picture.getbands() and int(np.asarray(picture.getchannel("A")).min(initial=255)) < 255:
            raise ConfigError(
                f"{path}: parts of the mask are transparent, so what its colours mean is ambiguous. Write the masks "
                "without an alpha channel; where it is the mask, see docs/custom-masks.md."
            )
        array = np.asarray(picture.convert("RGB"))
    grey = bool((np.ptp(array.astype(np.int16), axis=2) <= 4).all())
    codes = array.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
    colours = {(code >> 16, code >> 8 & 255, code & 255): count for code, count in _counted(codes).items()}
    return _Stored(_GREY_COLOURS if grey else "colour", colours, {})


def _counted(array: np.ndarray) -> dict[Any, int]:
    """Count the pixels of each value by runs of equal ones: masks have few, and sorting all pixels is slow."""
    flat = array.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])[: flat.size]
    values, places = np.unique(flat[starts], return_inverse=True)
    counts = np.bincount(places, np.diff(starts, append=flat.size), len(values))
    return dict(zip(values.tolist(), counts.astype(np.int64).tolist(), strict=True))


def _palette(picture: Image.Image, counts: dict[Any, int]) -> dict[int, Color]:
    table = picture.getpalette("RGB") or []
    colors = list(zip(table[::3], table[1::3], table[2::3], strict=False))
    return {value: colors[value] for value in counts if value < len(colors)}


def _common_palette(stored: Sequence[_Stored]) -> dict[int, Color] | None:
    """Return the colour of each value in all files; {} if the palettes are uninformative, None if they conflict.

    Palettes say nothing where one of them has a colour twice: then it is not by colours that classes are told apart.
    """
    if any(len(set(mask.palette.values())) < len(mask.counts) for mask in stored):
        return {}
    common: dict[int, Color] = {}
    for mask in stored:
        for value, color in mask.palette.items():
            if common.setdefault(value, color) != color:
                return None
    return common if len(set(common.values())) == len(common) else None


def _coloured(mask: _Stored) -> _Stored:
    """Return a mask with a palette as a colour picture."""
    if mask.kind != "palette":
        return mask
    black = (0, 0, 0)  # which decoders take for what a palette lacks
    return _Stored("colour", _added((mask.palette.get(value, black), n) for value, n in mask.counts.items()), {})


def _palette_of(found: Evidence, palette: dict[int, Color]) -> list[list[int]] | None:
    """Return the colour of each class for pictures; None where the files do not have one for each."""
    values = found.values or list(range(found.classes))
    if not palette or not all(value in palette for value in values):
        return None
    return [list(palette[value]) for value in values]


def _colours(found: Evidence, values: collections.Counter[Any]) -> None:
    """Configure a table of colours, black first."""
    if len(values) > _MOST_COLOURS:
        raise ConfigError(
            f"The masks hold {len(values)} colours: too many for classes, as JPEG and smooth resizing leave them. "
            "Write them as PNG without smoothing, or with a table of colours by hand: masks: {format: rgb, "
            "colors: FILE, other: ignore} in docs/custom-masks.md."
        )
    colours = sorted(values)
    if len(colours) == 1:
        raise ConfigError(f"All pixels of the masks have the colour {list(colours[0])}, so there is nothing to learn.")
    found.masks = {"format": "rgb", "colors": [list(colour) for colour in colours]}
    found.palette = found.values = found.masks["colors"]
    found.why = f"colour pictures of {len(colours)} colours, in the order of their red, green, blue"
    found.classes, found.pixels = len(colours), [values[colour] for colour in colours]
    found.ignored = "no value of a colour picture; take one out of classes and write other: ignore to leave it out"


def _numbers(
    found: Evidence,
    values: collections.Counter[Any],
    kind: str,
    masks: Sequence[Path],
    ignore_index: int | None,
    threshold: int | None,
) -> None:
    """Configure class indices, custom values, or a binary mask in white."""
    if any(value != value or value != int(value) for value in values if abs(value) < np.inf):
        shown = ", ".join(map(str, sorted(values)[:5]))
        raise DataError(f"Masks hold {shown}: values that are no whole numbers are no labels.")
    if any(not abs(value) < np.inf for value in values):
        raise DataError("Masks hold values that are not finite: they are no labels.")
    there = sorted(int(value) for value in values)
    below = [value for value in there if value < 0 and value != ignore_index]
    if len(below) > (ignore_index is None) or any(value < _LOWEST for value in below):
        raise ConfigError(
            f"The masks hold {', '.join(map(str, below[:5]))}: values below 0 are no labels, and one of them, down to "
            f"{_LOWEST}, can stand for unlabelled pixels. Write the others as that one, or write the configuration by "
            "hand: masks.values with ignore: [...] in docs/custom-masks.md."
        )
    listed = ", ".join(map(str, there[:12])) + (", ..." if len(there) > 12 else "")
    if threshold is None and ignore_index is None and _is_smeared(values, kind, masks):
        between = sum(count for value, count in values.items() if value not in (0, 255))
        raise ConfigError(
            f"The masks look like one thing in white with smooth edges: {between:,} of {sum(values.values()):,} pixels "
            "are neither 0 nor 255. If they are, say from which value up a pixel is the thing by "
            "--threshold 128; if the values are class indices, say which one is ignored by --ignore-index 255."
        )
    if threshold is not None or (there == [0, 255] and ignore_index is None and kind in ("grey", _GREY_COLOURS)):
        _white(found, values, kind, threshold)
        return
    ignored = _ignored(found, there, values, ignore_index)
    labels = [value for value in there if value != ignored]
    if not labels:
        raise ConfigError(f"All pixels of the masks have the value {listed}, so there are no classes to learn.")
    if len(labels) == 1:
        raise ConfigError(f"The masks hold a single class (values {listed}); two are needed: the thing and the rest.")
    found.why = f"{kind}, values {listed}" + ("; a scale of even steps, each a class" if _is_even(labels) else "")
    count = labels[-1] + 1
    # With few gaps values are positions in a list of classes; such as 7, 11, 23 are not
    outside = ignored is None or not 0 <= ignored < count
    if count <= 2 * len(labels) and outside and kind != _GREY_COLOURS:
        found.masks = {"format": "array" if kind == "array" else "index"}
        found.classes, found.pixels = count, [values[value] for value in range(count)]
        found.ignore_index = _ignore_index(count) if ignored is None else ignored
        return
    if kind == "array":
        raise ConfigError(
            f"The arrays hold {listed}: number the classes from 0 without gaps, and unlabelled pixels above them."
        )
    found.classes, found.pixels = len(labels), [values[value] for value in labels]
    found.ignore_index = _ignore_index(len(labels))
    if kind == _GREY_COLOURS:
        found.values = [[value] * 3 for value in labels]
        found.masks = {"format": "rgb", "colors": found.values}
        found.ignored_color = None if ignored is None else [ignored] * 3
        return
    if labels[-1] > 65535:
        raise ConfigError(f"The masks hold {listed}: values above 65535 are not read. Number the classes from 0.")
    found.values = labels
    found.masks = {"format": "index", "values": {f"class_{n}": value for n, value in enumerate(labels)}}
    if ignored is not None:
        found.masks["values"]["ignore"] = ignored


def _is_smeared(values: collections.Counter[Any], kind: str, masks: Sequence[Path]) -> bool:
    """Return True if the values are those of a white object with smooth edges, as left by resizing and JPEG."""
    if kind in ("palette", "array") or not 128 <= max(values) <= 255:
        return False
    between = sum(count for value, count in values.items() if value not in (0, 255))
    several = len(values) > 8 or (len(values) > 2 and any(path.suffix.lower() in _JPEG for path in masks))
    return several and 0 < between < _EDGE * sum(values.values())


def _white(found: Evidence, values: collections.Counter[Any], kind: str, threshold: int | None) -> None:
    """Configure a binary mask in white."""
    total = sum(values.values())
    inside = sum(count for value, count in values.items() if value >= (threshold or 255))
    found.masks = {"format": "binary"}
    found.why = f"{kind}, only the values 0 and 255: one thing in white"
    if threshold is not None:
        between = sum(count for value, count in values.items() if value not in (0, 255))
        found.masks["threshold"] = threshold
        found.why = f"{kind}, {between:,} of {total:,} pixels neither 0 nor 255; --threshold {threshold} decides them"
    found.classes, found.pixels, found.ignored = 2, [total - inside, inside], "no value of such masks"


def _ignored(
    found: Evidence, there: Sequence[int], values: collections.Counter[Any], ignore_index: int | None
) -> int | None:
    """Return the value of unlabelled pixels, None if there is none, and record the reason."""
    last = there[-1]
    if ignore_index is not None:
        found.ignored = f"--ignore-index; {values[ignore_index]:,} pixels have it"
        return ignore_index
    if there[0] < 0:
        found.ignored = f"{values[there[0]]:,} pixels have it, and values below 0 are no labels"
        return there[0]
    several = len(there) > (1 if last == 255 else 2)  # 0 and 65535 are one thing in white
    if last in _UNLABELLED and several and last - 1 not in there and not _is_even(there):
        found.ignored = f"{values[last]:,} pixels have it, and it is no next label: the habit of VOC and Cityscapes"
        if last != 255:
            found.ignored = f"{values[last]:,} pixels have {last}, the largest value, and it is no next label"
        return last
    found.ignored = "no pixel has it so far"
    if _is_even(there):
        found.ignored += "; where 255 marks unlabelled pixels, --ignore-index 255 says so"
    return None


def _is_even(there: Sequence[int]) -> bool:
    """Return True if the values are evenly spaced from 0 to 255, such as 0, 128, 255: classes drawn as greys."""
    steps = len(there) - 1
    if not 2 <= steps <= 51 or there[-1] != 255:
        return False
    return all(abs(value - 255 * n / steps) <= 1 for n, value in enumerate(there))


def _ignore_index(classes: int) -> int:
    """Return a label for unlabelled pixels that is none of the classes; ConfigError where there is none."""
    free = [value for value in _UNLABELLED if value >= classes]
    if not free:
        raise ConfigError(f"The masks hold labels up to {classes - 1}: more classes than a mask of 16 bits can tell.")
    return free[0]


def _refuse_other_endings(found: Evidence, masks: Sequence[Path]) -> None:
    """Raise ConfigError for files with suffixes that the format does not read, such as class indices in a JPEG."""
    name = found.masks["format"]
    known = MASK_FORMATS[name].suffixes
    others = [path for path in masks if path.suffix.lower() not in known]
    if not others:
        return
    jpeg = others[0].suffix.lower() in _JPEG
    why = "JPEG changes values by a few levels, so no class survives it: " if jpeg else ""
    raise ConfigError(
        f"{others[0]} and {len(others) - 1} more: {found.why}, which masks: {name} reads from {', '.join(known)}. {why}"
        "Write the masks as PNG."
    )
