"""Checkpoints of classifiers and feature extractors of torchvision, timm and SMP as backbones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segzoo.backbones import create
from segzoo.errors import WeightsError
from segzoo.interop.backbones.recognition import recognize, without_prefix
from segzoo.interop.backbones.source import Source
from segzoo.interop.checkpoint import Tensors, read
from segzoo.interop.rows import Row, assign
from segzoo.workflows.converted import Conversion

if TYPE_CHECKING:
    import keras


def convert_backbone(
    checkpoint: str | Path,
    name: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Conversion:
    """Build the backbone of a classifier's or feature extractor's checkpoint, with its weights.

    Features agree with the original's. Pixels are 0..255 here, and normalised inside as the original's weights want
    them. The classifier is left out, whatever its classes.

    Args:
        checkpoint: a folder with `model.safetensors`, a `.safetensors` file, or a state dict saved by `torch.save`.
        name: "library/name" or the name alone, such as "timm/tf_efficientnet_b0", where the tensors leave a choice; by
            default the `architecture` of the folder's `config.json`, as timm writes it, or what the tensors are of.
        mean: of each channel that the weights want, in pixel values 0..255; by default what timm's `config.json` says,
            or those of the library's weights.
        std: standard deviation of each channel, given with `mean`.

    Raises:
        UnknownNameError: no network of this name is known.
        WeightsError: a file that cannot be read, tensors of no network that is a backbone here, of another than the
            named one, or of several that compute different things.
    """
    path = Path(checkpoint)
    tensors, config = read(path)
    pixels = pixels_by(config) if mean is None and std is None else {"mean": mean, "std": std}
    return convert_backbone_tensors(tensors, name or named_by(config), str(path), pixels=pixels)


def named_by(config: Mapping[str, Any] | None) -> str | None:
    """Return the name of a network by the configuration that timm writes beside its weights; None by any other."""
    described = (config or {}).get("architecture")
    return f"timm/{described}" if isinstance(described, str) else None


def pixels_by(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return mean and std, in pixel values, by the configuration of timm beside its weights; none by any other."""
    described = (config or {}).get("pretrained_cfg")
    given = described if isinstance(described, dict) else {}
    mean, std = _in_pixels(given.get("mean")), _in_pixels(given.get("std"))
    return {} if mean is None or std is None else {"mean": mean, "std": std}


def _in_pixels(values: Any) -> list[float] | None:
    """Return numbers of 0..1 in pixel values 0..255; None for anything but a list of numbers."""
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        return None
    return [round(255 * value, 3) for value in values]


def convert_backbone_tensors(
    tensors: Tensors,
    name: str | None = None,
    origin: str = "The checkpoint",
    levels: Sequence[str] | None = None,
    pixels: Mapping[str, Any] | None = None,
) -> Conversion:
    """Build the backbone of a checkpoint that has been read already, see `convert_backbone`.

    Args:
        tensors: the original's state dict, in NumPy.
        name: "library/name" or the name alone, or None.
        origin: name of the checkpoint, for messages.
        levels: of the backbone, which is cut at the deepest; by default all.
        pixels: `mean` and `std` that the weights want, in pixel values; by default those of the library's weights.

    Raises:
        UnknownNameError, WeightsError: as `convert_backbone`.
    """
    tensors = without_prefix(tensors)
    source = recognize(tensors, name, origin)
    settings = _settings(source, tensors, pixels or {}, origin)
    options = {key: value for key, value in settings.items() if key != "backbone"}
    model = create(source.backbone, weights="none", levels=levels, **options)
    rows = (*source.rows, *source.top)
    left = assign(model, rows, tensors, origin)
    _refuse_parts(left, rows, model, origin)
    return Conversion(model, settings, left, note=_note(source, tensors, settings, bool(pixels)))


def _refuse_parts(left: Sequence[str], rows: Sequence[Row], model: keras.Model, origin: str) -> None:
    """Raise WeightsError for an unused tensor of a layer that the backbone has, such as a bias."""
    present = {layer.name for layer in model.layers}
    own = {layer for row in rows for layer in row.layers if row.ours.partition("/")[0] in present}
    wrong = [name for name in left if name.rpartition(".")[0] in own]
    if wrong:
        raise WeightsError(
            f"{origin} holds {len(wrong)} tensors of layers of {model.name} that have no such weight here, first "
            f"{wrong[0]}; it is of a network that was changed."
        )


def _settings(source: Source, tensors: Tensors, pixels: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """Return the `model` section of a configuration, as far as the backbone goes."""
    settings: dict[str, Any] = {"backbone": source.backbone}
    if not source.has_top(tensors) and source.taps_without_top:
        settings["taps"] = source.taps_without_top
    if source.compat is not None:
        settings["compat"] = source.compat
    channels = source.input_channels(tensors, origin)
    if channels != 3:
        settings["input_channels"] = channels
    own = {key: list(values) for key, values in pixels.items() if values is not None}
    return {**settings, **(own if pixels else source.pixels(channels))}


def _note(source: Source, tensors: Tensors, settings: dict[str, Any], given: bool) -> str:
    """Return what was recognised, left out and assumed, in sentences without the last full stop."""
    said = [f"It is {' or '.join(source.names)} by its tensors"]
    classifier = [name for name in tensors if name.startswith(source.left) and tensors[name].ndim == 2]
    if classifier:
        classes = tensors[classifier[-1]].shape[0]
        said.append(f"Its classifier of {classes:,} classes is left out")
    if "input_channels" in settings and not given:
        said.append("Its channels are normalised as red, green and blue in turn, unless --mean and --std say otherwise")
    if source.note:
        said.append(source.note)
    return ". ".join(said)
