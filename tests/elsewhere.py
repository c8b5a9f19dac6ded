"""A process that did not build a model loads it; `forked.py` makes one for each worker.

In: {"model": path of a .keras file, "inputs": path of an .npz file}. Out: {"error": str or None, "type": of the model,
"json": its configuration, "weights": names of the trainable ones, "modules": what is imported by then}; the outputs lie
in "inputs" + ".out.npz".
"""

from __future__ import annotations

import functools
import importlib
import sys
import traceback
from multiprocessing.connection import Connection


def load(model: str, inputs: str) -> dict:
    """Load a model, run it in inference mode and write what it returns."""
    import keras
    import numpy as np

    loaded = keras.models.load_model(model, compile=False)
    with np.load(inputs) as arrays:
        flat = [arrays[f"arr_{index}"] for index in range(len(arrays.files))]
    outputs = loaded(keras.tree.pack_sequence_as(loaded.input, flat), training=False)
    outputs = outputs if isinstance(outputs, dict) else {"output": outputs}
    np.savez(inputs + ".out.npz", **{name: keras.ops.convert_to_numpy(value) for name, value in outputs.items()})
    weights = [weight.path for weight in loaded.trainable_weights]
    facts = {"type": type(loaded).__name__, "json": loaded.to_json()}
    keras.backend.clear_session()
    return {"error": None, **facts, "weights": weights, "modules": list(sys.modules)}


def answer(client: Connection) -> None:
    """Answer requests until the client closes the connection."""
    import segzoo  # noqa: F401, all that a user imports

    saving = importlib.import_module("keras.src.saving.saving_lib")
    saving.get_attr_skipset = functools.cache(saving.get_attr_skipset)  # as in conftest.py
    while True:
        request = client.recv()
        try:
            client.send(load(**request))
        except Exception:
            client.send({"error": traceback.format_exc()})
