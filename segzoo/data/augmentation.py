"""Augmentation from a list in YAML: albumentations by name, seeded per sample, its borders marked as ignored."""

from __future__ import annotations

import difflib
import random
import threading
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from segzoo.arguments import arguments_of, defaults_of, takes_any_name
from segzoo.data.albumentations_import import A
from segzoo.errors import ConfigError, DataError, unknown_name
from segzoo.task import Task

# One (name, arguments) pair per transform, with nested lists under "transforms".
Specification = tuple[str, dict[str, Any]]

# Base classes, what only code can use, and two for spectrograms that write label 0 into masks.
_LEFT_OUT = {
    "BaseCompose", "BasicTransform", "Compose", "DualTransform", "FrequencyMasking", "ImageOnlyTransform", "Lambda",
    "NoOp", "ReplayCompose", "TimeMasking", "Transform3D",
}  # fmt: skip
# Transforms that fail on the first sample, or spoil it, whatever their arguments are.
_BOXES = "needs bounding boxes, which masks have not; take RandomCrop or CropNonEmptyMaskIfExists"
_OTHER_IMAGES = "needs other images beside the sample, which a configuration cannot give"
_SCALES = "changes the type or range of pixels, which the model scales itself"
_REFUSED = {
    "AtLeastOneBBoxRandomCrop": _BOXES,
    "BBoxSafeRandomCrop": _BOXES,
    "RandomCropNearBBox": _BOXES,
    "RandomSizedBBoxSafeCrop": _BOXES,
    "FDA": _OTHER_IMAGES,
    "HistogramMatching": _OTHER_IMAGES,
    "Mosaic": _OTHER_IMAGES,
    "OverlayElements": _OTHER_IMAGES,
    "PixelDistributionAdaptation": _OTHER_IMAGES,
    "FromFloat": _SCALES,
    "Normalize": _SCALES,
    "ToFloat": _SCALES,
    "ToTensorV2": _SCALES,
    "ToTensor3D": _SCALES,
    "TextImage": "needs texts beside the sample, which a configuration cannot give",
    "Morphological": "grows what is bright in the image and what has a high number in the mask, which are not the same "
    "objects, and writes labels over ignored pixels or takes them away; leave it out",
    "GridElasticDeform": "writes label 0 where it leaves holes in a mask; take ElasticTransform or GridDistortion",
}
# Transforms that fail on every mask (H, W, classes), with what to take instead.
_OBJECTS = "looks for objects in a mask of class indices, which a multilabel mask has not; take CoarseDropout"
_REFUSED_IN_MULTILABEL = {"ConstrainedCoarseDropout": _OBJECTS, "MaskDropout": _OBJECTS}
# Those that hand the fill value to OpenCV as it is, which maps four channels at a time.
_REMAPPED = (
    A.ElasticTransform, A.GridDistortion, A.OpticalDistortion, A.Perspective, A.PiecewiseAffine, A.ThinPlateSpline,
)  # fmt: skip
# Arguments that are written into masks, and the interpolations that make no labels up.
_LABEL_ARGUMENTS = ("fill_mask", "mask_drop_value")
_NEAREST = (cv2.INTER_NEAREST, cv2.INTER_NEAREST_EXACT)
_EXAMPLE = "Write `- HorizontalFlip` or `- RandomCrop: {height: 256, width: 256}`."


class Augmentation:
    """A chain of transforms applied to image and mask alike.

    Pixels that a geometric transform brings in from outside the image get `ignore_index` in the mask, unless the
    specification sets `fill_mask`; dropout transforms (CoarseDropout, ...) leave the mask as it is.
    CropNonEmptyMaskIfExists takes ignored pixels for empty ones, unless the specification sets `ignore_values`.

    Args:
        transforms: see `validate_transforms`.
        ignore_index: the label for pixels from outside the image.
        key: the key of the configuration that messages name.

    Raises:
        ConfigError, UnknownNameError: as `validate_transforms`.
    """

    def __init__(self, transforms: Sequence[Any], ignore_index: int, key: str = "data.augment"):
        self.ignore_index = ignore_index
        self._key = key
        self._specifications = [_parse(entry, f"transform {n}") for n, entry in enumerate(_as_list(transforms), 1)]
        self._local = threading.local()  # a Compose keeps state while it runs, so each thread has its own
        self._local.chain = self._build()

    def __call__(self, image: np.ndarray, mask: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Augment an image and its mask; a pure function of the arguments, safe in any thread.

        Args:
            image: (H, W, C) uint8 or float32. Transforms see float32 divided by 255, as they expect 0..1.
            mask: (H, W) integers, or (H, W, classes).
            seed: at least 0.

        Returns:
            Image (H', W', C) and mask (H', W') or (H', W', classes) in their original dtypes, that of the mask widened
            if the ignore index requires it; both may be views.

        Raises:
            DataError: a transform failed on this image, or returned another type or number of channels.
        """
        if not self._specifications:
            return image, mask
        chain = getattr(self._local, "chain", None)
        if chain is None:
            chain = self._local.chain = self._build()
        # Not set_random_seed: it starts every transform from the same stream, so that all transforms with p=0.5
        # would be applied together or not at all. Here one stream runs through the whole chain.
        chain.set_random_state(np.random.default_rng(seed), random.Random(seed))
        dtype = np.result_type(mask.dtype, np.min_scalar_type(self.ignore_index))
        # uint8, uint16 and int16 pass through OpenCV as they are; float32 holds any other label exactly (to 2**24)
        carried = mask if mask.dtype == dtype and dtype.itemsize <= 2 else mask.astype(np.float32)
        floating = image.dtype == np.float32
        try:
            result = chain(image=image / np.float32(255) if floating else image, mask=carried)
        except Exception as error:  # its transforms raise classes of their own, OpenCV its own
            height, width = image.shape[:2]
            raise DataError(
                f"{self._key} failed on an image of {width} x {height} (width x height): "
                f"{type(error).__name__}: {error}. A crop larger than the image needs PadIfNeeded or Resize before it."
            ) from error
        new_image, new_mask = result["image"], result["mask"]
        if new_image.ndim == 2 and image.shape[2] == 1:  # OpenCV drops a single channel
            new_image = new_image[..., None]
        if new_image.dtype != image.dtype or new_image.ndim != 3 or new_image.shape[2] != image.shape[2]:
            raise DataError(
                f"{self._key} returned an image of shape {new_image.shape} and type {new_image.dtype} instead of "
                f"(H, W, {image.shape[2]}) {image.dtype}. Leave out transforms that normalise or convert (Normalize, "
                "ToFloat, ToTensorV2): the model scales its input itself."
            )
        if mask.ndim == 3 and new_mask.ndim == 2:
            new_mask = new_mask[..., None]
        if dtype.kind in "iu" and new_mask.dtype.kind == "f":
            new_mask = np.rint(new_mask)
        return new_image * np.float32(255) if floating else new_image, new_mask.astype(dtype, copy=False)

    def _build(self) -> A.Compose:
        return A.Compose([_instance(s, self.ignore_index) for s in self._specifications])


def validate_transforms(transforms: Sequence[Any]) -> None:
    """Check an augmentation list without using it.

    Each entry is the name of an albumentations transform, or a mapping of one name to its arguments. OneOf, SomeOf,
    RandomOrder and Sequential take the argument `transforms`, such a list again. An argument written "cv2.NAME" is
    that OpenCV constant.

        - RandomScale: {scale_limit: [-0.3, 0.5], p: 1.0}
        - PadIfNeeded: {min_height: 320, min_width: 320}
        - HorizontalFlip
        - OneOf: {transforms: [GaussianBlur, {RandomGamma: {p: 0.3}}], p: 0.5}

    Raises:
        UnknownNameError: an unknown transform; the message names the nearest one.
        ConfigError: an entry of another form, or an unknown, missing or invalid argument (albumentations only warns of
            unknown ones and uses defaults); the message names the transform, the argument and the valid arguments.
    """
    Augmentation(transforms, ignore_index=255)


def check_labels_written(transform: Any, task: Task) -> None:
    """Check a valid transform, or composition, against the masks that it is for.

    Args:
        transform: an entry of a list that `validate_transforms` takes.
        task: classes, mode and ignore index of the masks.

    Raises:
        ConfigError: the transform writes an invalid label, or fails on every mask.
    """
    name, arguments = next(iter(transform.items())) if isinstance(transform, Mapping) else (transform, {})
    arguments = arguments or {}
    if task.multilabel and name in _REFUSED_IN_MULTILABEL:
        raise ConfigError(f"{name} {_REFUSED_IN_MULTILABEL[name]}.")
    labels = range(task.largest_label + 1)
    for argument in _LABEL_ARGUMENTS:
        given = arguments.get(argument)
        for label in given if isinstance(given, Sequence) else [] if given is None else [given]:
            if label not in labels and label != task.ignore_index:
                raise ConfigError(
                    f"{name}: {argument} is {label}, which is neither a label (0 to {task.largest_label}) nor the "
                    f"ignore index ({task.ignore_index})."
                )
    if issubclass(_known()[name], A.BaseCompose):
        for nested in arguments["transforms"]:
            check_labels_written(nested, task)


def _as_list(transforms: Any) -> Sequence[Any]:
    if isinstance(transforms, (str, Mapping)) or not isinstance(transforms, Sequence):
        raise ConfigError(f"data.augment must be a list of transforms, not {transforms!r}. {_EXAMPLE}")
    return transforms


def _parse(entry: Any, where: str) -> Specification:
    """Parse one entry into (name, arguments), nested transforms included."""
    if isinstance(entry, Mapping) and len(entry) == 1:
        name, arguments = next(iter(entry.items()))
        arguments = {} if arguments is None else arguments
    else:
        name, arguments = entry, {}
    if not isinstance(name, str) or not isinstance(arguments, Mapping):
        raise ConfigError(f"data.augment, {where}: {entry!r} is not a transform. {_EXAMPLE}")
    if name in _REFUSED:
        raise ConfigError(f"data.augment, {where}: {name} {_REFUSED[name]}.")
    kind = _known().get(name)
    if kind is None:
        raise unknown_name("transform in data.augment", name, _known(), "at https://albumentations.ai/docs")
    allowed = _arguments(kind)
    for argument in arguments:
        if argument not in allowed:
            near = difflib.get_close_matches(str(argument), allowed, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ConfigError(
                f"data.augment, {where}: {name} has no argument {argument!r}.{hint} "
                f"Its arguments: {', '.join(allowed)}."
            )
    values = {str(key): _constant(value, f"{where}, {name}") for key, value in arguments.items()}
    if values.get("mask_interpolation", cv2.INTER_NEAREST) not in _NEAREST:
        raise ConfigError(
            f"data.augment, {where}: {name} with mask_interpolation {arguments['mask_interpolation']} mixes labels "
            "into others: between the classes 1 and 3 it would write 2. Leave it out, or write cv2.INTER_NEAREST."
        )
    if issubclass(kind, A.BaseCompose):
        if not values.get("transforms"):
            raise ConfigError(f"data.augment, {where}: {name} needs the argument transforms, a list that is not empty.")
        nested = _as_list(values["transforms"])
        values["transforms"] = [_parse(item, f"{where}, {name}, transform {n}") for n, item in enumerate(nested, 1)]
    else:
        _instance((name, values), 255, where)
    return name, values


def _instance(specification: Specification, ignore_index: int, where: str = "") -> Any:
    """Build a transform; an argument that it refuses is a ConfigError."""
    name, arguments = specification
    kind = _known()[name]
    if issubclass(kind, A.BaseCompose):
        nested = [_instance(item, ignore_index) for item in arguments["transforms"]]
        return _construct(kind, {**arguments, "transforms": nested}, where)
    defaults = defaults_of(kind)
    if "ignore_values" in arguments_of(kind):
        arguments = {"ignore_values": [ignore_index], **arguments}
    if defaults.get("fill_mask") is not None:  # None, in the dropout transforms, leaves the mask untouched
        arguments = {"fill_mask": ignore_index, **arguments}
        filled = arguments["fill_mask"]
        if issubclass(kind, _REMAPPED) and isinstance(filled, int | float):
            # OpenCV takes one number as that of the first channel, and 0 for the next three.
            arguments["fill_mask"] = (filled,) * 4
    if "strict" in arguments_of(kind) or takes_any_name(kind):
        # Without it, albumentations turns some unusable values into a warning and all-default arguments.
        arguments = {**arguments, "strict": True}
    return _construct(kind, arguments, where)


def _construct(kind: type, arguments: dict[str, Any], where: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # advice such as "a special case of Affine"
            return kind(**arguments)
    except (ValueError, TypeError) as error:
        allowed = ", ".join(_arguments(kind))
        raise ConfigError(
            f"data.augment, {where}: {kind.__name__} refuses its arguments: {_reason(error)}. Its arguments: {allowed}."
        ) from error


def _reason(error: Exception) -> str:
    """Return pydantic's error messages in one line each, without URLs."""
    details = getattr(error.__cause__, "errors", None)
    if details is None:
        return str(error)
    found: dict[str, str] = {}
    for item in details():
        given = "" if item["type"] == "missing" else f", not {item['input']!r}"
        found.setdefault(str(item["loc"][0]) if item["loc"] else "arguments", f"{item['msg']}{given}")
    return "; ".join(f"{key}: {message}" for key, message in found.items())


def _constant(value: Any, where: str) -> Any:
    """Turn "cv2.BORDER_REFLECT" into its number."""
    if isinstance(value, str) and value.startswith("cv2."):
        number = getattr(cv2, value.removeprefix("cv2."), None)
        if not isinstance(number, int):
            raise ConfigError(f"data.augment, {where}: OpenCV has no constant {value}.")
        return number
    return value


def _arguments(kind: type) -> list[str]:
    return arguments_of(kind, {"strict"})


def _known() -> dict[str, type]:
    """Return the albumentations transforms for images, and the compositions, by name."""
    if not _KNOWN:
        for name, kind in vars(A).items():
            if not isinstance(kind, type) or name in _LEFT_OUT or issubclass(kind, A.Transform3D):
                continue
            if issubclass(kind, (A.BasicTransform, A.BaseCompose)):
                _KNOWN[name] = kind
    return _KNOWN


_KNOWN: dict[str, type] = {}
