"""AdamW on JAX, where what all variables share is computed once: the update of Keras."""

import importlib.util
import os
import subprocess
import sys

import pytest

CODE = """
import keras, numpy as np
from segzoo.optim.optimizers import AdamW

assert keras.backend.backend() == "jax"
rng = np.random.default_rng(0)
SHAPES = [(3, 3, 2, 4), (4,), (4,), (7,), (4, 5), (5,), (1,), ()]
values = [rng.normal(size=shape).astype("float32") for shape in SHAPES]
gradients = [[rng.normal(size=shape).astype("float32") for shape in SHAPES] for _ in range(4)]
KINDS = ["float32"] * 5 + ["bfloat16", "float32", "float32"]
VECTORS = {place for place, shape in enumerate(SHAPES) if len(shape) < 2}


def run(kind, factors):
    # Keras's own bias correction in bfloat16 is off by tenths.
    kinds = KINDS if kind is AdamW else ["float32"] * len(KINDS)
    variables = [keras.Variable(value, name=f"kernel{place}", dtype=kinds[place]) for place, value in enumerate(values)]
    if kind is AdamW:
        optimizer = AdamW(0.05, weight_decay=0.1)
        optimizer.build(variables)
        optimizer.set_factors([(variables[place], 0.25) for place in factors])
        groups = [(optimizer, None)]
    else:  # Keras has one rate, and decays by name
        groups = []
        for rate, chosen in ((0.05, lambda place: place not in factors), (0.0125, lambda place: place in factors)):
            places = [place for place in range(len(SHAPES)) if chosen(place)]
            optimizer = keras.optimizers.AdamW(rate, weight_decay=0.1)
            optimizer.exclude_from_weight_decay([variables[place] for place in places if place in VECTORS])
            optimizer.build([variables[place] for place in places])
            groups.append((optimizer, places))
    for step in gradients:
        for optimizer, places in groups:
            chosen = range(len(SHAPES)) if places is None else places
            if chosen:
                optimizer.apply([keras.ops.cast(step[place], kinds[place]) for place in chosen])
    moments = {}
    for optimizer, places in groups:
        chosen = range(len(SHAPES)) if places is None else places
        moments |= {place: optimizer._momentums[number].numpy() for number, place in enumerate(chosen)}
    paths = [variable.path for variable in groups[0][0].variables]
    return [variable.numpy().astype("float32") for variable in variables], moments, paths


def farthest(ours, theirs):
    return max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs))


for factors in ((), (1, 4)):
    ours, theirs = run(AdamW, factors), run(keras.optimizers.AdamW, factors)
    found = [farthest([ours[0][place]], [theirs[0][place]]) for place in range(len(SHAPES))]
    assert max(distance for place, distance in enumerate(found) if KINDS[place] == "float32") < 1e-6, found
    assert max(found) < 0.03, found
    moments = [farthest([ours[1][place].astype("float32")], [theirs[1][place].astype("float32")]) for place in ours[1]]
    assert max(moments) < 0.02, moments
    if not factors:
        assert [path.split("/")[-1] for path in ours[2]] == [path.split("/")[-1] for path in theirs[2]], "checkpoints"
"""


@pytest.mark.skipif(not importlib.util.find_spec("jax"), reason="needs JAX")
def test_adamw_updates_on_jax_as_keras_does():
    shown = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, env={**os.environ, "KERAS_BACKEND": "jax"}
    )
    assert shown.returncode == 0, shown.stderr[-3000:]
