"""Pictures of class maps: distinct colours, overlays, and contact sheets of predictions beside the ground truth."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from segzoo.escaping import for_picture
from segzoo.files import replacing
from segzoo.reporting.swatches import (
    GAP,
    INK,
    LINE,
    PALE_INK,
    PAPER,
    Entry,
    draw_entry,
    flow,
    font,
    font_file,
    shortened,
)

IGNORED = (128, 128, 128)
_RESERVED = ((0, 0, 0), (255, 255, 255), IGNORED)  # what no class looks like
CORRECT = (226, 226, 226)
WRONG = (214, 20, 40)

# The first colours are chosen by hand to be distinguishable with red-green colour blindness: those of Okabe and Ito
# (2008, https://jfly.uni-koeln.de/color/) without black, and a violet, a red and a dark blue.
_FIRST = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (240, 228, 66),
    (86, 180, 233),
    (213, 94, 0),
    (106, 61, 154),
    (160, 20, 40),
    (20, 40, 110),
)

_MOST, _FAR_APART = 65_536, 1000  # colours of a palette; of them chosen to be far apart

# Dimensions of a sheet in pixels.
_PANEL_WIDTH, _PANEL_HEIGHT = 300, 300
_CONTOUR_PER_PIXELS = 800  # contours are one pixel wider per this number of pixels of the longer side
_COLUMNS = ("image", "ground truth", "prediction", "errors")


def palette(n: int) -> np.ndarray:
    """Return n distinct colours, uint8 (n, 3) RGB; deterministic.

    Ten are chosen by hand; each further colour is the one of a grid that is farthest, in CIELAB, from all previous
    colours, black, white and the grey of ignored pixels; beyond a thousand, which nobody tells apart anyway, they are
    those of a finer grid in a fixed random order. A shorter palette is a prefix of a longer one.

    Args:
        n: number of colours, 0 to 65,536.

    Raises:
        ValueError: n is out of range.
    """
    if not 0 <= n <= _MOST:
        raise ValueError(f"A palette has 0 to {_MOST:,} colours, not {n}.")
    chosen = _far_apart()[:n]
    return np.concatenate([chosen, _further()[: n - len(chosen)]]) if n > len(chosen) else chosen.copy()


@functools.lru_cache(maxsize=1)
def _far_apart() -> np.ndarray:
    """Choose colours of a grid, each the farthest from all before; uint8 (1000, 3)."""
    grid = _grid(12)
    grid_lab, taken = _lab(grid), _lab(np.array([*_RESERVED, *_FIRST], np.uint8))
    distance = np.linalg.norm(grid_lab[:, None] - taken[None], axis=-1).min(1)
    chosen = [np.array(colour, np.uint8) for colour in _FIRST]
    while len(chosen) < _FAR_APART:
        best = int(distance.argmax())
        chosen.append(grid[best])
        distance = np.minimum(distance, np.linalg.norm(grid_lab - grid_lab[best], axis=-1))
    return np.array(chosen, np.uint8)


@functools.lru_cache(maxsize=1)
def _further() -> np.ndarray:
    """Shuffle the colours of a finer grid that are in none of the others; uint8 (N, 3)."""
    taken = np.concatenate([np.array(_RESERVED, np.uint8), _far_apart()])
    weights = np.array([65536, 256, 1])
    grid = _grid(41)
    free = grid[~np.isin(grid @ weights, taken @ weights)]
    return np.random.default_rng(0).permutation(free)


def _grid(steps: int) -> np.ndarray:
    """Return the colours of a regular grid, uint8 (steps^3, 3)."""
    values = np.linspace(0, 255, steps).astype(np.uint8)
    return np.stack(np.meshgrid(values, values, values, indexing="ij"), -1).reshape(-1, 3)


def _lab(colours: np.ndarray) -> np.ndarray:
    """Return uint8 RGB (n, 3) as CIELAB (n, 3)."""
    return cv2.cvtColor((colours[None] / 255).astype(np.float32), cv2.COLOR_RGB2LAB)[0]


def overlay(
    image: np.ndarray,
    class_map: np.ndarray,
    colours: np.ndarray,
    alpha: float = 0.5,
    ignore_index: int | None = None,
    *,
    background: int | None = None,
    contours: bool = False,
) -> np.ndarray:
    """Overlay the colours of classes on an image.

    Args:
        image: (H, W), (H, W, 1) or (H, W, C) of any number dtype; of more than three channels the first three are
            shown, of two the first; images with values outside 0..255 are rescaled to that range.
        class_map: integer classes (H, W); or (H, W, classes) of 0 and 1, whose colours are averaged at overlaps.
        colours: one colour per class, 0..255 (C, 3).
        alpha: opacity of the colours, 0 (only the image) to 1 (only the colours).
        ignore_index: label of the pixels that are left unchanged, or None.
        background: class whose pixels are also left unchanged, or None to tint every class.
        contours: draw the contours of tinted regions in the opaque colour of their class, wider on larger images.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: different sizes, or a class without a colour.
    """
    picture = _as_rgb(image)
    if picture.shape[:2] != class_map.shape[:2]:
        raise ValueError(f"The image is {picture.shape[:2]} and the class map {class_map.shape}.")
    if background is not None and class_map.ndim == 3:
        class_map = class_map.copy()
        class_map[..., background] = 0
    painted = _paint(class_map, colours, ignore_index)
    mixed = cv2.addWeighted(picture, 1 - alpha, painted, alpha, 0)
    bare = _ignored(class_map, ignore_index)
    if class_map.ndim == 3:
        bare |= (class_map == 0).all(-1)
    elif background is not None:
        bare |= class_map == background
    mixed[bare] = picture[bare]
    if contours:
        _draw_contours(mixed, class_map, np.asarray(colours, np.uint8), bare)
    return mixed


def _draw_contours(picture: np.ndarray, class_map: np.ndarray, colours: np.ndarray, bare: np.ndarray) -> None:
    """Draw the inner border of each class in its colour, in place; nothing where `bare` (H, W) is set."""
    reach = 1 + max(picture.shape[:2]) // _CONTOUR_PER_PIXELS
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    if class_map.ndim == 2:
        # OpenCV is fastest with 8 bits, and does not support 32-bit integers here.
        labels: np.ndarray = class_map.astype(np.uint8 if len(colours) < 255 else np.float32) + 1
        labels[bare] = 0
        border = (cv2.dilate(labels, kernel) != cv2.erode(labels, kernel)) & ~bare
        picture[border] = colours[class_map[border]]
        return
    for label, colour in enumerate(colours):
        shown = (class_map[..., label] == 1).astype(np.uint8)
        # erode() treats pixels outside the image as set, so the image's edges get no contour.
        picture[shown > cv2.erode(shown, kernel)] = colour


def prediction_sheet(
    samples: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray, str]],
    classes: Sequence[str],
    colours: np.ndarray,
    ignore_index: int | None,
    path: Path,
    background: int | None = None,
) -> None:
    """Write a PNG with a row per sample (image, truth, prediction, errors) and a legend of colours below.

    With a background class, ground truth and prediction are overlaid on the image; without one they are plain colour
    maps. The legend lists the classes that occur. The file is replaced atomically.

    Args:
        samples: (image (H, W, C), ground truth (H, W), prediction (H, W), title) per sample; sizes may differ.
        classes: names of the classes.
        colours: one colour per class, 0..255 (C, 3).
        ignore_index: label of the pixels without ground truth, or None.
        path: the PNG to write; its folder is made.
        background: class that is not tinted, or None: every class is.

    Raises:
        ValueError: no samples, different sizes within a sample, or a class without a colour.
    """
    if not samples:
        raise ValueError("A sheet of predictions needs at least one sample.")
    rows = []
    for image, truth, prediction, title in samples:
        panels = _panels(image, truth, prediction, colours, ignore_index, background)
        rows.append((panels, title, _share_wrong(truth, prediction, ignore_index)))
    entries = list(_legend([sample[1:3] for sample in samples], classes, colours, ignore_index, background))
    _write_sheet(rows, _COLUMNS, entries, path, [Entry("wrong", WRONG), Entry("correct", CORRECT)])


def sample_sheet(
    samples: Sequence[tuple[Sequence[tuple[np.ndarray, np.ndarray]], str]],
    columns: Sequence[str],
    classes: Sequence[str],
    colours: np.ndarray,
    ignore_index: int,
    path: Path,
    background: int | None = None,
) -> None:
    """Write a PNG with a row per sample, its variants with the classes overlaid, and a legend of colours below.

    Args:
        samples: variants, (image (H, W, C), mask (H, W)), and title of each sample; sizes may differ.
        columns: heading of each variant.
        classes: names of the classes.
        colours: one colour per class, 0..255 (C, 3).
        ignore_index: label of the pixels without a class; they are hatched.
        path: the PNG to write; its folder is made.
        background: class that is not tinted, or None: every class is.

    Raises:
        ValueError: no samples, an image and a mask of different sizes, or a class without a colour.
    """
    if not samples:
        raise ValueError("A sheet of samples needs at least one.")
    rows = []
    for variants, title in samples:
        panels = []
        for image, mask in variants:
            picture = overlay(image, mask, colours, 0.45, ignore_index, background=background, contours=True)
            _hatch(picture, _ignored(mask, ignore_index), _ignored_colour(colours))
            panels.append(_fitted(picture, smooth=True))
        rows.append((panels, title, _size_note(variants[0][0])))
    masks = [[mask for _, mask in variants] for variants, _ in samples]
    _write_sheet(rows, columns, list(_legend(masks, classes, colours, ignore_index, background)), path)


def _hatch(picture: np.ndarray, where: np.ndarray, colour: tuple[int, int, int]) -> None:
    """Hatch part of a picture in place, so that unlabelled borders differ from black image regions."""
    rows, columns = np.indices(where.shape)
    picture[where & ((rows + columns) % 12 < 3)] = colour


def _size_note(image: np.ndarray) -> str:
    return f"{image.shape[1]} x {image.shape[0]} pixels"


def _write_sheet(
    rows: Sequence[tuple[Sequence[np.ndarray], str, str]],
    columns: Sequence[str],
    entries: Sequence[Entry],
    path: Path,
    last_entries: Sequence[Entry] = (),
) -> None:
    """Write a PNG of rows (panels, title, note at the right) under headings, with a legend below.

    `last_entries` are the legend of the last column, next to its heading.
    """
    bold, normal, small = font(14, bold=True), font(13), font(12)
    width = len(columns) * (_PANEL_WIDTH + GAP) + GAP
    places, legend_height = flow([entry.name for entry in entries], width)
    heights = [max(panel.shape[0] for panel in panels) + LINE + GAP for panels, *_ in rows]
    sheet = Image.new("RGB", (width, LINE + 2 * GAP + sum(heights) + legend_height + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)

    for column, name in enumerate(columns):
        left = GAP + column * (_PANEL_WIDTH + GAP)
        draw.text((left, GAP + LINE / 2), name, font=bold, fill=INK, anchor="lm")
    for number, entry in enumerate(last_entries):
        draw_entry(draw, int(left + _PANEL_WIDTH * (2 + number) / 4), GAP, entry)
    top = LINE + 2 * GAP
    for (panels, title, note), height in zip(rows, heights, strict=True):
        room = width - 3 * GAP - small.getlength(note)
        middle = top + LINE / 2
        draw.text((GAP, middle), shortened(title, normal, room), font=normal, fill=INK, anchor="lm")
        draw.text((width - GAP, middle), note, font=small, fill=PALE_INK, anchor="rm")
        for column, panel in enumerate(panels):
            centred = (_PANEL_WIDTH - panel.shape[1]) // 2
            left = GAP + column * (_PANEL_WIDTH + GAP) + centred
            sheet.paste(Image.fromarray(panel), (left, top + LINE))
        top += height
    for entry, (x, y) in zip(entries, places, strict=True):
        draw_entry(draw, x, top + y, entry)

    with replacing(Path(path)) as temporary:
        # A run writes two sheets per epoch: a sixth more bytes than with `optimize`, in a tenth of the time.
        sheet.save(temporary, format="PNG", compress_level=3)


def _panels(
    image: np.ndarray,
    truth: np.ndarray,
    prediction: np.ndarray,
    colours: np.ndarray,
    ignore_index: int | None,
    background: int | None,
) -> list[np.ndarray]:
    """Return the four pictures of a row, uint8 (h, w, 3), scaled to fit a panel."""
    picture = _as_rgb(image)
    if truth.shape != prediction.shape or truth.shape[:2] != picture.shape[:2]:
        raise ValueError(f"Image {picture.shape[:2]}, truth {truth.shape} and prediction {prediction.shape} differ.")
    grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    right = truth == prediction
    if truth.ndim == 3:  # a class without ground truth is not an error
        right = (right | (truth == ignore_index)).all(-1)
    verdict = np.array([WRONG, CORRECT], np.uint8)[right.astype(int)]
    # Correct pixels are faded, to emphasise errors.
    errors = cv2.addWeighted(grey, 0.2, verdict, 0.8, 0)
    if ignore_index is not None:
        errors[_ignored(truth, ignore_index)] = _ignored_colour(colours)
    if background is None:
        maps = [_paint(truth, colours, ignore_index), _paint(prediction, colours, None)]
        return [_fitted(picture, smooth=True), *(_fitted(part, smooth=False) for part in (*maps, errors))]
    laid = functools.partial(overlay, picture, colours=colours, background=background, contours=True)
    shown = [picture, laid(class_map=truth, ignore_index=ignore_index), laid(class_map=prediction)]
    shown[1][_ignored(truth, ignore_index)] = _ignored_colour(colours)
    return [*(_fitted(part, smooth=True) for part in shown), _fitted(errors, smooth=False)]


def _fitted(picture: np.ndarray, smooth: bool) -> np.ndarray:
    """Scale to the largest size that fits a panel; class colours are not interpolated unless `smooth`."""
    height, width = picture.shape[:2]
    scale = min(_PANEL_WIDTH / width, _PANEL_HEIGHT / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    shrink = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(picture, size, interpolation=shrink if smooth else cv2.INTER_NEAREST_EXACT)


def _paint(class_map: np.ndarray, colours: np.ndarray, ignore_index: int | None) -> np.ndarray:
    """Return the colours of a class map, uint8 (H, W, 3), ignored pixels in a separate colour."""
    colours = np.asarray(colours, np.uint8)
    ignored = _ignored(class_map, ignore_index)
    if class_map.ndim == 3:
        shown = (class_map == 1).astype(np.float32)
        count = shown.sum(-1, keepdims=True)
        mixed = np.where(count > 0, shown @ colours.astype(np.float32) / np.maximum(count, 1), 255)
        painted = np.rint(mixed).astype(np.uint8)
        painted[ignored] = _ignored_colour(colours)
        return painted
    known = np.where(ignored, 0, class_map)
    if known.size and (known.min() < 0 or known.max() >= len(colours)):
        raise ValueError(f"Classes {known.min()} to {known.max()}, but {len(colours)} colours.")
    painted = colours[known]
    painted[ignored] = _ignored_colour(colours)
    return painted


def _ignored(class_map: np.ndarray, ignore_index: int | None) -> np.ndarray:
    """Return the mask of ignored pixels, (H, W) bool; in multilabel those where every class is ignored."""
    if ignore_index is None:
        return np.zeros(class_map.shape[:2], bool)
    ignored = class_map == ignore_index
    return ignored.all(-1) if class_map.ndim == 3 else ignored


def _ignored_colour(colours: np.ndarray) -> tuple[int, int, int]:
    """Return grey, or white or black if a class has a similar grey, as CamVid's sky does."""
    for colour in (IGNORED, (255, 255, 255), (0, 0, 0)):
        if np.abs(np.asarray(colours, int) - colour).max(-1).min() > 40:
            return colour
    return IGNORED


def _as_rgb(image: np.ndarray) -> np.ndarray:
    """Convert an image of any numeric dtype to uint8 (H, W, 3) for display."""
    image = image[..., None] if image.ndim == 2 else image
    image = np.repeat(image[..., :1], 3, axis=2) if image.shape[2] < 3 else image[..., :3]
    if image.dtype == np.uint8:
        return np.ascontiguousarray(image)
    values = np.nan_to_num(image.astype(np.float32))
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if low < 0 or high > 255:
        values = (values - low) * (255 / (high - low))
    return np.ascontiguousarray(np.rint(values).astype(np.uint8))


def _share_wrong(truth: np.ndarray, prediction: np.ndarray, ignore_index: int | None) -> str:
    """Return the percentage of wrong pixels as text."""
    counted = np.ones(truth.shape, bool) if ignore_index is None else truth != ignore_index
    if not counted.any():
        return "no labelled pixels"
    return f"{100 * (truth != prediction)[counted].mean():.1f} % of pixels wrong"


def _legend(
    samples: Sequence[Sequence[np.ndarray]],
    classes: Sequence[str],
    colours: np.ndarray,
    ignore_index: int | None,
    background: int | None = None,
) -> Iterator[Entry]:
    """Yield an entry for each class that occurs, except the untinted one, then of ignored pixels."""
    seen = {label for maps in samples for class_map in maps for label in _shown(class_map, ignore_index)}
    for label, name in enumerate(classes):
        if label in seen and label not in (ignore_index, background):
            yield Entry(for_picture(name, font_file()), tuple(int(channel) for channel in colours[label]))
    if ignore_index in seen:
        yield Entry("ignored", _ignored_colour(colours))


def _shown(class_map: np.ndarray, ignore_index: int | None) -> set[int]:
    """Return the labels that occur."""
    if class_map.ndim == 2:
        return {int(label) for label in np.unique(class_map)}
    found = {index for index in range(class_map.shape[2]) if (class_map[..., index] == 1).any()}
    return found | ({ignore_index} if ignore_index is not None and _ignored(class_map, ignore_index).any() else set())
