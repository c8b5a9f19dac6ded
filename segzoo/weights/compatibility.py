"""Checks that weights compute the same in a model as in the network that they come from."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import keras

from segzoo import hdf5
from segzoo.backbones.spec import Convention, Variant
from segzoo.backbones.table import BACKBONES
from segzoo.compat import OF_0_1_0_CURE, SMP, SMP_0_1_0
from segzoo.decoders.base import Decoder, explain
from segzoo.errors import WeightsError
from segzoo.signature import DECODER, digests
from segzoo.weights.content import Content, signature_of
from segzoo.weights.report import WeightsReport, WeightsWarning

# What comes after the backbone may have another shape in the file: the decoder, and heads for other classes.
_MAY_DIFFER = re.compile(r"(decoder|head|\w+_head|auxiliary_\w+|presence)/")


def layer_digests(model: keras.Model) -> dict[str, str]:
    """Return digests of the layers with weights; none for a network that cannot be serialized."""
    try:
        return digests(model.get_config(), {layer.name for layer in model.layers if layer.weights})
    except (NotImplementedError, ValueError, TypeError, AttributeError, LookupError):
        return {}  # a layer of the user's without get_config, a subclassed model


def model_signature(model: keras.Model) -> dict[str, Any]:
    """Return the signature of a graph, which must match that of a weights file beyond the shapes of tensors."""
    layer = next((layer for layer in model.layers if layer.name == "preprocessing"), None)
    config = layer.get_config() if layer else {}  # a wrapped backbone prepares its pixels as it likes
    return {**signature_of(model.name, config), "options": _options(model)}


def refuse_another_graph(model: keras.Model, path: Path, theirs: Content) -> None:
    """Raise WeightsError if the file's signature names another backbone or other pixels than the model's."""
    if theirs.signature is None:
        return
    ours = model_signature(model)
    if theirs.signature["preprocessing"] != ours["preprocessing"]:
        raise WeightsError(
            f"{path} was made for {theirs.signature['model']}, whose pixels are normalised differently from those of "
            f"{model.name}; its weights would load and give wrong results."
        )
    backbones = theirs.signature["backbone"], ours["backbone"]
    if None not in backbones and backbones[0] != backbones[1]:
        raise WeightsError(f"{path} was made for the backbone {backbones[0]}, but {model.name} has {backbones[1]}.")


def refuse_another_backbone(model: keras.Model, path: Path, theirs: Content, report: WeightsReport) -> None:
    """Raise WeightsError if tensors of the backbone differ in shape or number, or nothing was loaded."""
    wrong = [line for line in report.skipped if not _MAY_DIFFER.match(line)]
    if wrong:
        raise WeightsError(
            f"{path} was made for another network than {model.name}: {len(wrong)} tensors of the same name do not fit, "
            f"first {wrong[0]}.{_cure_of_factors(model, theirs, wrong[0].partition('/')[0])}"
        )
    if not report.loaded:
        raise WeightsError(f"{path} holds no tensor that {model.name} has; it was made for another network.")


def _cure_of_factors(model: keras.Model, theirs: Content, name: str) -> str:
    """Return what to do where a normalisation has a factor (gamma) in either the file or the model alone; else ""."""
    backbone = model_signature(model)["backbone"]
    layer = next((layer for layer in model.layers if layer.name == name), None)
    there = sum(hdf5.layer_of(tensor) == name for tensor in theirs.shapes)
    if backbone not in BACKBONES or not isinstance(layer, keras.layers.BatchNormalization):
        return ""
    words = [word for word, convention in BACKBONES[backbone].conventions.items() if convention.scales]
    if not words or there == len(layer.weights):
        return ""
    if there > len(layer.weights):
        return (
            f" Its normalisation has factors (gamma) there, as {backbone} has with model.compat: {' or '.join(words)}."
        )
    return (
        f" With compat: {_options(model).get('compat')} the normalisation of {backbone} has factors (gamma), which the "
        "file is without: it was written without this word, or by an earlier segzoo, where it changed nothing. Leave "
        "model.compat out to build that network, or convert the original's checkpoint again (segzoo weights convert)."
    )


def refuse_another_function(
    model: keras.Model, path: Path, theirs: Content, report: WeightsReport, configured: bool
) -> str:
    """Raise WeightsError if matching tensors would compute another function than in their original network.

    Returns:
        A note for the report if the function may differ, or differs on purpose; otherwise "".
    """
    _refuse_another_decoder(model, path, theirs, report)
    caution = _check_padding_of_0_1_0(model, path, theirs, configured)
    loaded = {name.partition("/")[0] for name in report.loaded}
    ours = layer_digests(model)
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


def _refuse_another_decoder(model: keras.Model, path: Path, theirs: Content, report: WeightsReport) -> None:
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


def _is_of(model: keras.Model, theirs: Content, ours: Collection[str]) -> bool:
    """Return True if a file is of a model of this name, by its signature, else by most decoder tensors (`ours`)."""
    if theirs.signature is not None:
        return bool(theirs.signature["model"] == model.name)
    there = _of_decoder(theirs.shapes)
    return 2 * len(there.intersection(ours)) > len(there)


def _of_decoder(tensors: Iterable[str]) -> set[str]:
    return {name for name in tensors if name.startswith(f"{DECODER}/")}


def _check_padding_of_0_1_0(model: keras.Model, path: Path, theirs: Content, configured: bool) -> str:
    """Raise WeightsError if weights of segzoo 0.1.0 would go into a backbone that `compat` changes today.

    Files of 0.1.0 are recognised by their lack of backbone options. They do not record whether `imitate: smp` was set
    either, which changed EfficientNets alone, hence the warning if one is built without it.

    Returns:
        A note for the report, or "".
    """
    backbone, compat = model_signature(model)["backbone"], _options(model).get("compat")
    if compat == SMP_0_1_0 or backbone not in BACKBONES or theirs.layers:
        return ""
    if theirs.signature is None:
        old = theirs.function is None and bool(_of_decoder(theirs.shapes))
    else:
        old = "options" not in theirs.signature
    if not old:
        return ""
    variant: Variant = BACKBONES[backbone]
    if variant.convention(compat) != Convention() or (compat == SMP and variant.image_size):
        raise WeightsError(
            f"{path} was written by segzoo 0.1.0, whose {backbone} padded or normalised otherwise than with compat: "
            f"{compat} today; its weights would load here and give wrong maps. {OF_0_1_0_CURE}"
        )
    if not variant.image_size:
        return ""
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
