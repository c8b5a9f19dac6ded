"""TensorFlow's SavedModel: for TensorFlow Serving, TensorFlow in other languages, and `tf.saved_model.load`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from segzoo.export.contract import Format, Run
from segzoo.export.formats import FORMATS, INPUT
from segzoo.export.metadata import KEY, MOST
from segzoo.files import read_at_most

if TYPE_CHECKING:
    from segzoo.export.graph import Graph

_EXTRA = "assets.extra"  # TensorFlow's folder for files that it does not read itself


def _write(graph: Graph, path: Path) -> None:
    shutil.copytree(graph.saved_model, path)


def _load(path: Path, /, *, threads: int | None = None) -> Run:
    import tensorflow as tf

    if threads is not None:  # refused once TensorFlow has started
        tf.config.threading.set_intra_op_parallelism_threads(threads)

    module = tf.saved_model.load(str(path))
    serve = module.signatures["serving_default"]

    def run(images: np.ndarray) -> np.ndarray:
        (result,) = serve(**{INPUT: tf.constant(images)}).values()
        return result.numpy()

    run.module = module  # type: ignore[attr-defined]  # the signature alone does not keep the module alive
    return run


def _put_metadata(path: Path, text: str) -> None:
    (path / _EXTRA).mkdir(exist_ok=True)
    (path / _EXTRA / f"{KEY}.json").write_text(text + "\n", encoding="utf-8")


def _get_metadata(path: Path) -> str | None:
    place = path / _EXTRA / f"{KEY}.json"
    return read_at_most(place, MOST).decode("utf-8") if place.is_file() else None


FORMAT = FORMATS.register(
    "saved_model",
    Format(
        "saved_model",
        _write,
        _load,
        marker="saved_model.pb",
        put_metadata=_put_metadata,
        get_metadata=_get_metadata,
    ),
)
