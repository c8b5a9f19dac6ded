"""Weights files: writing, and loading by name and shape with a report."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

import h5py
import keras
import numpy as np

from segzoo import hdf5
from segzoo.errors import WeightsError
from segzoo.files import check_digest, operation, replacing
from segzoo.weights.compatibility import (
    layer_digests,
    model_signature,
    refuse_another_backbone,
    refuse_another_function,
    refuse_another_graph,
)
from segzoo.weights.content import read, read_archive
from segzoo.weights.preset_folder import refuse_part_of_preset
from segzoo.weights.report import WeightsReport

Shapes = Mapping[str, tuple[int, ...]]


def bare(model: keras.Model) -> keras.Model:
    """Return the network with the same layers but without optimizer and loss, whose state triples a file's size."""
    return keras.Model(model.input, model.output, name=model.name)


def save_file(model: keras.Model, path: Path) -> None:
    """Save weights as `model.save_weights` does, atomically and with the signature of the graph."""
    with replacing(path) as temporary:
        bare(model).save_weights(temporary)
        with h5py.File(temporary, "r+") as file:
            file.attrs[hdf5.SIGNATURE] = json.dumps(model_signature(model))
            file.create_dataset(hdf5.LAYERS, data=np.frombuffer(json.dumps(layer_digests(model)).encode(), np.uint8))


def _why_skipped(name: str, theirs: Shapes, ours: Shapes, wanted: bool) -> str:
    """Return the reason why a tensor that a file and a model both have was not loaded."""
    if theirs[name] != ours[name]:
        return f"{theirs[name]} in the file, {ours[name]} in the model"
    if not wanted:
        return "not wanted"
    there, here = (sum(hdf5.layer_of(other) == hdf5.layer_of(name) for other in shapes) for shapes in (theirs, ours))
    if there != here:
        return f"its layer has {there} tensors in the file, {here} in the model"
    return "the rest of its layer does not fit"


def load_file(
    model: keras.Model,
    path: Path,
    sha256: str | None = None,
    keep: Collection[str] = (),
    configured: bool = False,
) -> WeightsReport:
    """Load matching tensors by name and shape from a `.weights.h5` or `.keras` file, and report the rest.

    Of a `.keras` archive only the weights are read, and the pixel normalisation from the description of its graph;
    nothing in it is built or executed.

    Args:
        model: a backbone or a whole model.
        path: path of the file.
        sha256: expected SHA-256 digest in hexadecimal, verified before the file is parsed.
        keep: top-level layers, such as "head", whose weights are not replaced.
        configured: whether the model was built from the configuration that the weights were trained with, which
            supplies what the file does not record.

    Raises:
        WeightsError: the file is missing, has another digest, is not a weights file, or was made for another pixel
            normalisation, another backbone, or options that compute another function; or no tensor matches.

    Warns:
        WeightsWarning: the weights' backbone had another output stride, or may have had another padding.
    """
    if path.is_dir():
        raise WeightsError(
            f"{path} is a folder, and neither of a preset of keras-hub nor a weights file. A run has its weights in "
            "best.weights.h5, or training.init_from takes the folder; a checkpoint of "
            "PyTorch's libraries becomes a file by segzoo weights convert."
        )
    refuse_part_of_preset(path)
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
        check_digest(path, found, sha256)
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
            shapes = {name: item.shape for name, item in ours.items()}
            wanted = {name: shape for name, shape in shapes.items() if name.partition("/")[0] not in keep}
            if path.name.endswith(".keras"):
                theirs = read_archive(path, Path(folder), wanted, template.stat().st_size, trusted)
            else:
                theirs = read(path, wanted, trusted)
            refuse_another_graph(model, path, theirs)
            for name, dataset in ours.items():
                if name in theirs.values:
                    dataset[...] = theirs.values[name]
                    report.loaded.append(name)
                else:
                    report.missing.append(name)
                    if name in theirs.shapes:
                        reason = _why_skipped(name, theirs.shapes, shapes, name in wanted)
                        report.skipped.append(f"{name}: {reason}")
        refuse_another_backbone(model, path, theirs, report)
        caution = refuse_another_function(model, path, theirs, report, configured)
        network.load_weights(template)
    report.skipped += [f"{name}: the model has no such tensor" for name in theirs.shapes if name not in ours]
    report.note = (
        f"{len(report.loaded)} tensors loaded, {len(report.skipped)} skipped, {len(report.missing)} kept as they were"
        f"{caution}"
    )
    return report
