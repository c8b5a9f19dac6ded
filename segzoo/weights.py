"""Loading and saving of weights: ImageNet, presets and files, with a report of what was loaded."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import tempfile
import warnings
import zipfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import keras
import numpy as np

from segzoo import hdf5
from segzoo.backbones import reference
from segzoo.backbones.spec import Variant
from segzoo.backbones.table import BACKBONES
from segzoo.compat import OF_0_1_0_CURE, SMP, SMP_0_1_0
from segzoo.decoders.base import Decoder, explain, read_function
from segzoo.errors import StorageError, WeightsError, unknown_name
from segzoo.files import operation, replacing
from segzoo.signature import DECODER, digests

_NAMED = ("auto", "imagenet", "none")
_PRESET = "preset:"
# What comes after the backbone may have another shape in the file: the decoder, and heads for other classes.
_MAY_DIFFER = re.compile(r"(decoder|head|\w+_head|auxiliary_\w+|presence)/")
# A .keras archive may be a little larger than its weights, or hold an optimizer's three times as many.
_MOST_WEIGHTS, _MOST_JSON = 8, 64 * 2**20


class WeightsWarning(UserWarning):
    """Requested pretrained weights are not available."""


@dataclass
class WeightsReport:
    """Report of loading weights; tensor names are layer paths with an index, shapes are appended where they matter.

    Attributes:
        source: "none", "imagenet", "preset:" and its name, or the file.
        loaded: tensors taken over.
        reshaped: those of them that were adapted to another shape, with both shapes.
        skipped: tensors of the file that were not taken, each with the reason.
        missing: tensors of the model that keep their initial values.
        note: a sentence for the log where something is to be said.
    """

    source: str
    loaded: list[str] = field(default_factory=list)
    reshaped: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    note: str = ""

    def __str__(self) -> str:
        """Return one line of counts, then the note."""
        kinds = ("loaded", "reshaped", "skipped", "missing")
        counts = ", ".join(f"{len(getattr(self, kind))} {kind}" for kind in kinds)
        return f"weights {self.source}: " + (self.note or counts)


def as_text(weights: str | os.PathLike[str] | None) -> str:
    """Convert a `weights` argument to text: Keras's None becomes "none", and a path its string."""
    return "none" if weights is None else os.fspath(weights)


def is_path(weights: str) -> bool:
    """Return True if a `weights` value names a file rather than a policy."""
    return weights not in _NAMED and not weights.startswith(_PRESET)


def apply_weights(model: keras.Model, weights: str, backbone: Variant | None = None, sha256: str | None = None) -> None:
    """Load the weights of `model`, and store the report as `model.weights_report`.

    Args:
        model: a backbone or a whole model.
        weights: "none": keep the initial values. "imagenet": get them or fail. "auto": imagenet where they are cached
            or can be reached, else keep the initial values and warn. "preset:NAME": weights that keras-cv or keras-hub
            publishes under this name, or fail. Else the path of a `.weights.h5` file.
        backbone: the variant whose ImageNet weights are meant; needed for "imagenet", "auto" and presets.
        sha256: digest that the file must have, in hexadecimal.

    Raises:
        UnknownNameError: the backbone has no preset of this name.
        WeightsError: ImageNet weights that cannot be had, a file that cannot be read or was made for another graph.
    """
    if weights == "none":
        model.weights_report = WeightsReport("none", note="random initial values, as asked for")
    elif is_path(weights):
        model.weights_report = load_file(model, Path(weights), sha256)
    elif backbone is None:
        raise WeightsError(f"weights={weights!r} belongs to a backbone; a whole model takes 'none' or a file.")
    else:
        wanted = check_preset(backbone, weights) or "imagenet"
        model.weights_report = _load_published(model, backbone, wanted, required=weights != "auto")


def check_preset(variant: Variant, weights: str) -> str | None:
    """Return the preset that a `weights` value names, or None; UnknownNameError lists those of the backbone."""
    if not weights.startswith(_PRESET):
        return None
    preset = weights.removeprefix(_PRESET)
    if preset not in variant.presets:
        raise unknown_name(f"preset of {variant.name}", preset, variant.presets)
    return preset


def _load_published(model: keras.Model, variant: Variant, wanted: str, required: bool) -> WeightsReport:
    """Load "imagenet" or a preset; if unavailable, raise if `required`, else warn."""
    preset = variant.presets[0] if variant.presets and wanted == "imagenet" else wanted
    called = f"Weights {preset}" if variant.presets else "ImageNet weights"
    try:
        network = reference.build(variant, wanted)
    except Exception as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        if required:
            raise WeightsError(
                f"{called} of {variant.name} could not be had: {reason}. {_cure(variant, preset)}, or choose "
                "weights: none."
            ) from error
        note = f"{called} of {variant.name} could not be reached ({reason}); training starts from random values"
        warnings.warn(note + ". weights: none says so on purpose.", WeightsWarning, stacklevel=4)
        return WeightsReport("none", note=note)
    if _normalizes_as_published(model, variant):
        _check_preprocessing(network, model, variant, wanted)
    report = WeightsReport(f"{_PRESET}{preset}" if variant.presets else "imagenet")
    names = reference.names(network)
    published = {names[id(operation)]: operation for operation in reference.flat(network)}
    _refuse_another_network(model, published, f"{called} of {variant.name}")
    first = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    for layer in model.layers:
        if not layer.weights:
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
        layer.set_weights(values)
        report.loaded += [weight.path for weight in layer.weights]
    return report


def _refuse_another_network(model: keras.Model, published: Mapping[str, Any], called: str) -> None:
    """Raise WeightsError if a layer is not among the published ones; shapes are checked on assignment."""
    missing = [layer.name for layer in model.layers if layer.weights and layer.name not in published]
    if missing:
        raise WeightsError(
            f"{called} are of another network than segzoo was written for: they have no {', '.join(missing[:3])}. "
            "Please report it with the package's version, and use weights: none meanwhile."
        )


def _cure(variant: Variant, preset: str) -> str:
    if variant.presets:
        return (
            f"Connect to the network once, so that {variant.package} fetches {preset} from Kaggle to ~/.cache/kagglehub"
        )
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

    The mean of its channels for one, its channels in turn for more. Scaled by C / channels, so that an image whose
    channels are all alike gives the response that it gave before.
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
            f"Which pixels the weights {weights} of {variant.name} want cannot be read: {error}"
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


def bare(model: keras.Model) -> keras.Model:
    """Return the network with the same layers but without optimizer and loss, whose state triples a file's size."""
    return keras.Model(model.input, model.output, name=model.name)


def save_file(model: keras.Model, path: Path) -> None:
    """Save weights as `model.save_weights` does, atomically and with the signature of the graph."""
    with replacing(path) as temporary:
        bare(model).save_weights(temporary)
        with h5py.File(temporary, "r+") as file:
            file.attrs[hdf5.SIGNATURE] = json.dumps(_signature(model))
            file.create_dataset(hdf5.LAYERS, data=np.frombuffer(json.dumps(_layer_digests(model)).encode(), np.uint8))


def _layer_digests(model: keras.Model) -> dict[str, str]:
    """Return digests of the layers with weights; none for a network that cannot be serialized."""
    try:
        return digests(model.get_config(), {layer.name for layer in model.layers if layer.weights})
    except (NotImplementedError, ValueError, TypeError, AttributeError, LookupError):
        return {}  # a layer of the user's without get_config, a subclassed model


def _signature(model: keras.Model) -> dict[str, Any]:
    """Return the signature of a graph, which must match that of a weights file beyond the shapes of tensors."""
    layer = next((layer for layer in model.layers if layer.name == "preprocessing"), None)
    config = layer.get_config() if layer else {}  # a wrapped backbone prepares its pixels as it likes
    return {**_signature_of(model.name, config), "options": _options(model)}


def _signature_of(model: str, config: Mapping[str, Any]) -> dict[str, Any]:
    # A larger variant may differ in its number of blocks only, so that all tensors of the smaller one fit.
    known = (name for name in BACKBONES if model == name or model.endswith(f"_{name}"))
    return {
        "model": model,
        "backbone": next(known, None),
        "preprocessing": {key: config.get(key) for key in ("scale", "mean", "std")},
    }


def load_file(
    model: keras.Model,
    path: Path,
    sha256: str | None = None,
    keep: Collection[str] = (),
    configured: bool = False,
) -> WeightsReport:
    """Load matching tensors by name and shape from a `.weights.h5` or `.keras` file, and report the rest.

    Of a `.keras` archive only the weights are read, and of the description of its graph what the pixels were divided
    by: nothing of it is built or run.

    Args:
        model: a backbone or a whole model.
        path: of the file.
        sha256: digest in hexadecimal that is checked before anything of the file is parsed.
        keep: top-level layers, such as "head", that keep the weights they have.
        configured: whether the model was built from the configuration that the weights were trained with, so that what
            the file does not say of itself is known.

    Raises:
        WeightsError: no such file, another digest, not a weights file, made for other pixels, another backbone, or
            a backbone or decoder with options that compute something else, or nothing fits.

    Warns:
        WeightsWarning: the backbone had another output stride there, or may have been padded otherwise.
    """
    if not path.is_file():
        raise WeightsError(f"Weights file {path} does not exist (weights: auto, imagenet, none or a file).")
    if not path.name.endswith((".weights.h5", ".keras")):
        raise WeightsError(
            f"{path} is not a .weights.h5 or .keras file. Whole models and pickles can run code when read, so segzoo "
            "loads weights only: save them with model.save_weights('name.weights.h5')."
        )
    if sha256 is not None:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256.lower():
            raise WeightsError(
                f"{path} is not the file that was asked for: its sha256 is {found}, expected was {sha256.lower()}. "
                "It was not read."
            )
    trusted = sha256 is not None
    report = WeightsReport(str(path))
    network = bare(model)
    with tempfile.TemporaryDirectory() as folder:
        # The model's own file is the template: Keras's layout stays Keras's affair.
        template = Path(folder) / "template.weights.h5"
        with operation("write", template):
            network.save_weights(template)
        with operation("write", template), h5py.File(template, "r+") as file:
            ours = dict(hdf5.named_datasets(file))
            ours.pop(hdf5.DECODER_FUNCTION, None)
            wanted = {name: item.shape for name, item in ours.items() if name.partition("/")[0] not in keep}
            if path.name.endswith(".keras"):
                theirs = _read_archive(path, Path(folder), wanted, template.stat().st_size, trusted)
            else:
                theirs = _read(path, wanted, trusted)
            _refuse_another_graph(model, path, theirs)
            for name, dataset in ours.items():
                if name in theirs.values:
                    dataset[...] = theirs.values[name]
                    report.loaded.append(name)
                else:
                    report.missing.append(name)
                    if name in theirs.shapes:
                        shapes = f"{theirs.shapes[name]} in the file, {dataset.shape} in the model"
                        same = theirs.shapes[name] == dataset.shape
                        reason = "the rest of its layer does not fit" if name in wanted else "not wanted"
                        report.skipped.append(f"{name}: {reason if same else shapes}")
        _refuse_another_backbone(model, path, report)
        caution = _refuse_another_function(model, path, theirs, report, configured)
        network.load_weights(template)
    report.skipped += [f"{name}: the model has no such tensor" for name in theirs.shapes if name not in ours]
    report.note = (
        f"{len(report.loaded)} tensors loaded, {len(report.skipped)} skipped, {len(report.missing)} kept as they were"
        f"{caution}"
    )
    return report


class _Content(NamedTuple):
    """Content of a weights file: all shapes, the values of matching tensors, and the description of its network.

    Attributes:
        shapes: of all tensors.
        values: of those that fit.
        signature: name, backbone, pixels and options; None where the file has none.
        function: the decoder's options; None where it has none or they were not kept.
        layers: digests of what layers compute.
        described: the configuration of the decoder's layer, of a `.keras` file.
    """

    shapes: dict[str, tuple[int, ...]]
    values: dict[str, np.ndarray]
    signature: dict[str, Any] | None
    function: dict[str, Any] | None = None
    layers: Mapping[str, str] = {}
    described: dict[str, Any] | None = None


def _refuse_another_graph(model: keras.Model, path: Path, theirs: _Content) -> None:
    if theirs.signature is None:
        return
    ours = _signature(model)
    if theirs.signature["preprocessing"] != ours["preprocessing"]:
        raise WeightsError(
            f"{path} was made for {theirs.signature['model']}, whose pixels are normalised differently from those of "
            f"{model.name}; its weights would load and give wrong results."
        )
    backbones = theirs.signature["backbone"], ours["backbone"]
    if None not in backbones and backbones[0] != backbones[1]:
        raise WeightsError(f"{path} was made for the backbone {backbones[0]}, but {model.name} has {backbones[1]}.")


def _refuse_another_backbone(model: keras.Model, path: Path, report: WeightsReport) -> None:
    wrong = [line for line in report.skipped if not _MAY_DIFFER.match(line)]
    if wrong:
        raise WeightsError(
            f"{path} was made for another network than {model.name}: {len(wrong)} tensors of the same name differ in "
            f"shape, first {wrong[0]}."
        )
    if not report.loaded:
        raise WeightsError(f"{path} holds no tensor that {model.name} has; it was made for another network.")


def _refuse_another_function(
    model: keras.Model, path: Path, theirs: _Content, report: WeightsReport, configured: bool
) -> str:
    """Raise WeightsError if matching tensors would compute another function than in their original network.

    Returns:
        what the report has to add where the network may be another one, or is one on purpose; else nothing.
    """
    _refuse_another_decoder(model, path, theirs, report)
    caution = _check_padding_of_0_1_0(model, path, theirs, configured)
    loaded = {name.partition("/")[0] for name in report.loaded}
    ours = _layer_digests(model)
    other = [name for name in ours if name in loaded and theirs.layers.get(name, ours[name]) != ours[name]]
    if not other:
        return caution
    there, here = (theirs.signature or {}).get("options") or {}, _options(model)
    changed = {name: (there[name], here[name]) for name in there.keys() & here.keys() if there[name] != here[name]}
    listed = ", ".join(f"{name} {before!r} there and {now!r} here" for name, (before, now) in sorted(changed.items()))
    if changed.keys() == {"output_stride"}:
        caution = f"made at another output stride ({listed})"
        cure = f"set model.output_stride: {there['output_stride']} to have the same network"
        warnings.warn(f"{path} was {caution}; {cure}.", WeightsWarning, stacklevel=4)
        return f"; {caution}"
    raise WeightsError(
        f"{path} fits {model.name} in names and shapes, but was made for a network that computes something else: "
        f"{len(other)} layers differ in their options or in what lies before them, first {other[0]}. "
        f"{f'Options: {listed}. ' if listed else ''}Build the network as it was built there (model.compat, "
        "model.output_stride, model.taps)."
    )


def _refuse_another_decoder(model: keras.Model, path: Path, theirs: _Content, report: WeightsReport) -> None:
    """Raise WeightsError if the decoder's weights would compute other maps than in their original decoder."""
    decoder = next((layer for layer in model.layers if isinstance(layer, Decoder)), None)
    taken, left = (_of_decoder(names) for names in (report.loaded, report.missing))
    if decoder is None or not taken:
        return
    changed = decoder.differences(theirs.described if theirs.function is None else theirs.function)
    # What another decoder shares with this one is a start for its training, and is listed tensor by tensor. Not so
    # where the words that build this one built another in segzoo 0.1.0, with other tensors among them.
    meant = theirs.function is None and changed.keys() & set(decoder.assumed)
    if changed and (not left or (meant and _is_of(model, theirs, taken | left))):
        raise WeightsError(f"{path}: its weights {explain(changed, theirs.function, decoder.assumed)}")


def _is_of(model: keras.Model, theirs: _Content, ours: Collection[str]) -> bool:
    """Return True if a file is of a model of this name, by its signature, else by most decoder tensors (`ours`)."""
    if theirs.signature is not None:
        return bool(theirs.signature["model"] == model.name)
    there = _of_decoder(theirs.shapes)
    return 2 * len(there.intersection(ours)) > len(there)


def _of_decoder(tensors: Iterable[str]) -> set[str]:
    return {name for name in tensors if name.startswith(f"{DECODER}/")}


def _check_padding_of_0_1_0(model: keras.Model, path: Path, theirs: _Content, configured: bool) -> str:
    """Raise WeightsError if weights of segzoo 0.1.0 would go into a backbone that `compat: smp` pads differently.

    Its files say nothing of the backbone's options, and are told by that. Nor do they say whether `imitate: smp` was
    set, which is warned of where the network is built without.

    Returns:
        what the report has to add, or nothing.
    """
    backbone, compat = _signature(model)["backbone"], _options(model).get("compat")
    if compat == SMP_0_1_0 or backbone not in BACKBONES or not BACKBONES[backbone].image_size or theirs.layers:
        return ""
    if theirs.signature is None:
        old = theirs.function is None and bool(_of_decoder(theirs.shapes))
    else:
        old = "options" not in theirs.signature
    if not old:
        return ""
    if compat == SMP:
        raise WeightsError(
            f"{path} was written by segzoo 0.1.0, whose {backbone} padded its strided convolutions otherwise than with "
            f"compat: smp today; its weights would load here and give wrong maps. {OF_0_1_0_CURE}"
        )
    if configured:
        return ""
    warnings.warn(
        f"{path} was written by segzoo 0.1.0, whose files do not say whether imitate: smp was set. If it was, these "
        f"weights give wrong maps here: build the model with compat: {SMP_0_1_0}.",
        WeightsWarning,
        stacklevel=5,
    )
    return "; written by segzoo 0.1.0, see the warning"


def _options(model: keras.Model) -> dict[str, Any]:
    """Return the options passed to `segzoo.backbones.create`; none for any other network."""
    return getattr(model, "built_with", {})


def _read(path: Path, wanted: Mapping[str, tuple[int, ...]], trusted: bool = False) -> _Content:
    """Read a weights file, first in a child process unless it is trusted."""
    try:
        if not trusted:
            hdf5.try_out(path, wanted)
        found = hdf5.read(path, wanted)
        signature = None if found.signature is None else _checked_signature(json.loads(found.signature))
        return _Content(found.shapes, found.values, signature, read_function(found.function), _digests(found.layers))
    except Exception as error:  # what HDF5 and its filters raise on bytes that are no such file has no end
        raise WeightsError(f"{path} cannot be read as an HDF5 weights file: {_reason(error)}") from error


def _digests(stored: np.ndarray | None) -> dict[str, str]:
    """Return the digests of layers that `save_file` wrote; none in files of others."""
    found = {} if stored is None else json.loads(stored.tobytes())
    if not isinstance(found, dict):
        raise ValueError("its digests of layers are no table")
    return found


def _checked_signature(signature: Any) -> dict[str, Any]:
    """Validate the signature of a file; ValueError if it is malformed."""
    if not isinstance(signature, dict):
        raise ValueError(f"its signature is of the type {type(signature).__name__}")
    kinds = {"model": (str,), "backbone": (str, type(None)), "preprocessing": (dict,)}
    for key, kind in kinds.items():
        if not isinstance(signature.get(key), kind):
            raise ValueError(f"its signature has no {key}")
    return signature


def _reason(error: Exception) -> str:
    return str(error).strip() or type(error).__name__


def _read_archive(
    path: Path, folder: Path, wanted: Mapping[str, tuple[int, ...]], own_size: int, trusted: bool = False
) -> _Content:
    """Read the weights in a `.keras` file, which are unpacked into `folder` up to a size limit."""
    try:
        with zipfile.ZipFile(path) as archive:
            packed = archive.getinfo("model.weights.h5")
            most = _MOST_WEIGHTS * own_size + _MOST_JSON
            if packed.file_size > most:  # reading ends at this size, whatever the compressed data goes on to
                raise ValueError(f"its weights claim {packed.file_size:,} bytes, this network has {own_size:,}")
            unpacked = folder / "archive.weights.h5"
            _unpack(archive, packed, unpacked)
            described = archive.getinfo("config.json")
            if described.file_size > _MOST_JSON:
                raise ValueError(f"its config.json claims {described.file_size:,} bytes")
            description = json.loads(archive.read(described))
            signature = _described_signature(description)
    except StorageError:
        raise
    except Exception as error:  # zip archives have a dozen kinds of errors, among them those of four compressions
        raise WeightsError(f"{path} cannot be read as a .keras file: {_reason(error)}") from error
    try:
        found = _read(unpacked, wanted, trusted)
        layers, decoder = _described_digests(description, found.shapes), _described_layer(description, DECODER)
        return found._replace(signature=signature, layers=layers, described=decoder)
    except WeightsError as error:
        raise WeightsError(str(error).replace(str(unpacked), f"model.weights.h5 in {path}")) from error


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    """Unpack a member to `path`; StorageError if it cannot be written, such as in a full temporary folder."""
    with archive.open(member) as source:
        while block := source.read(2**20):
            with operation("append", path), path.open("ab") as target:
                target.write(block)


def _described_signature(description: Any) -> dict[str, Any] | None:
    """Return the signature from the JSON of a functional model; None without a preprocessing layer of segzoo."""
    preprocessing = _described_layer(description, "preprocessing")
    if preprocessing is None:
        return None
    return _signature_of(str(description["config"].get("name")), preprocessing)


def _described_layer(description: Any, name: str) -> dict[str, Any] | None:
    """Return the configuration of a layer in the JSON of a functional model; None if the name does not occur."""
    config = description.get("config", {}) if isinstance(description, dict) else {}
    layers = config.get("layers", []) if isinstance(config, dict) else []
    found = [layer.get("config") for layer in layers if isinstance(layer, dict)] if isinstance(layers, list) else []
    return next((layer for layer in found if isinstance(layer, dict) and layer.get("name") == name), None)


def _described_digests(description: Any, tensors: Iterable[str]) -> dict[str, str]:
    """Return digests of layers from the JSON of a functional model; none for anything else."""
    try:
        return digests(description["config"], {name.partition("/")[0] for name in tensors})
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
        return {}
