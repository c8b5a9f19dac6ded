"""Reading of weights files: tensors that fit, and what the file says of its network."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segzoo import hdf5
from segzoo.backbones.table import BACKBONES
from segzoo.decoders.base import read_function
from segzoo.errors import StorageError, WeightsError
from segzoo.files import operation
from segzoo.signature import DECODER, digests

# A .keras archive may be a little larger than its weights, or hold an optimizer's three times as many.
_MOST_WEIGHTS, _MOST_JSON = 8, 64 * 2**20


def signature_of(model: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return name, backbone and preprocessing of a network, from its name and its preprocessing layer."""
    # A larger variant may differ in its number of blocks only, so that all tensors of the smaller one fit.
    known = (name for name in BACKBONES if model == name or model.endswith(f"_{name}"))
    return {
        "model": model,
        "backbone": next(known, None),
        "preprocessing": {key: config.get(key) for key in ("scale", "mean", "std")},
    }


class Content(NamedTuple):
    """Content of a weights file: all shapes, the values of matching tensors, and the description of its network.

    Attributes:
        shapes: shapes of all tensors.
        values: values of the matching tensors.
        signature: name, backbone, pixels and options; None if the file has none.
        function: options of the decoder; None if it has none or they were not stored.
        layers: digests of the functions of layers.
        described: configuration of the decoder layer in a `.keras` file.
    """

    shapes: dict[str, tuple[int, ...]]
    values: dict[str, np.ndarray]
    signature: dict[str, Any] | None
    function: dict[str, Any] | None = None
    layers: Mapping[str, str] = {}
    described: dict[str, Any] | None = None


def read(path: Path, wanted: Mapping[str, tuple[int, ...]], trusted: bool = False) -> Content:
    """Read a weights file, first in a child process unless it is trusted."""
    try:
        if not trusted:
            hdf5.try_out(path, wanted)
        found = hdf5.read(path, wanted)
        signature = None if found.signature is None else _checked_signature(json.loads(found.signature))
        return Content(found.shapes, found.values, signature, read_function(found.function), _digests(found.layers))
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


def read_archive(
    path: Path, folder: Path, wanted: Mapping[str, tuple[int, ...]], own_size: int, trusted: bool = False
) -> Content:
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
        found = read(unpacked, wanted, trusted)
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
    return signature_of(str(description["config"].get("name")), preprocessing)


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
