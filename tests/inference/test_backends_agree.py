"""Predictions on JAX and PyTorch: the same probabilities as on TensorFlow, of views, tiles, ensembles and devices."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

INSTALLED = [name for name in ("tensorflow", "jax", "torch") if importlib.util.find_spec(name)]
SCRIPT = """
import sys, keras, numpy
from segzoo.device import check_device, on_device
from segzoo.inference.ensemble import EnsembleNetwork
from segzoo.inference.network import KerasNetwork
from segzoo.inference.predictor import Predictor

numbers = numpy.random.default_rng(0)
members = []
device = check_device("cpu")
for mode, logits in (("multiclass", 4), ("multiclass", 4), ("binary", 1), ("multilabel", 3)):
    with on_device(device):
        image = keras.Input((None, None, 3))
        x = keras.layers.Conv2D(8, 3, padding="same", activation="tanh")(keras.layers.Rescaling(1 / 64, -2)(image))
        model = keras.Model(image, keras.layers.Conv2D(logits, 3, padding="same")(x))
    model.set_weights([numbers.normal(0, 0.4, weight.shape) for weight in model.weights])
    members.append(KerasNetwork(model, mode, device))
picture = numbers.integers(0, 256, (75, 101, 3), numpy.uint8)
found = {}
for name, network in {"one": members[0], "two": EnsembleNetwork(members[:2]), "binary": members[2], "multilabel":
        members[3], "binaries": EnsembleNetwork([members[2]] * 2)}.items():
    predictor = Predictor(network, tile=64, tile_above=0, batch=2, tta="d4+scales")
    found[name] = predictor.probabilities(picture)
    found[name + "-plain"] = Predictor(network).probabilities(picture[:20])
    found[name + "-classes"] = Predictor(network).predict(picture)
numpy.savez(sys.argv[1], **found)
"""


@pytest.mark.nightly
def test_probabilities_are_those_of_tensorflow(tmp_path: Path) -> None:
    found = {}
    for backend in INSTALLED:
        path = tmp_path / f"{backend}.npz"
        environment = {**os.environ, "KERAS_BACKEND": backend, "XLA_FLAGS": ""}
        subprocess.run([sys.executable, "-c", SCRIPT, path], check=True, env=environment, timeout=540)
        found[backend] = dict(np.load(path))
    first, *others = found.values()
    assert len(first) == 15 and others
    for other in others:
        for name, expected in first.items():
            if name.endswith("classes"):
                assert (other[name] != expected).mean() < 1e-3
            else:
                np.testing.assert_allclose(other[name], expected, atol=1e-4, err_msg=name)
