"""Initial values on JAX: one program for each distribution, the distributions of Keras, the same values for a seed."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import json, keras, numpy as np
from segzoo.initial_values import drawn_in_blocks
from segzoo.optim.optimizers import AdamW

import jax
compiled = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **_: compiled.append(event) if event.endswith("backend_compile_duration") else None)

def drawn(initializer, *shapes):
    return [np.asarray(initializer(seed=7 + i)(shape)) for i, shape in enumerate(shapes)]

shapes = [(3, 3, 5, n) for n in range(40, 48)] + [(300, 400), (0, 4), ()]
kinds = {"normal": keras.initializers.RandomNormal, "uniform": keras.initializers.RandomUniform,
         "truncated": keras.initializers.TruncatedNormal, "he": keras.initializers.HeNormal}
found = {}
with drawn_in_blocks():
    for name, kind in kinds.items():
        before = len(compiled)
        first = drawn(kind, *shapes)
        long = first[8].ravel()
        found[name] = {"programs": len(compiled) - before,
                       "same": all(map(np.array_equal, first, drawn(kind, *shapes))),
                       "shapes": [x.shape == shape for x, shape in zip(first, shapes)],
                       "blocks differ": not np.array_equal(long[:1000], long[1 << 16 :][:1000]),
                       "own": [float(f(first[8])) for f in (np.mean, np.std, np.min, np.max)]}
    half = keras.random.normal((3,), dtype="bfloat16", seed=1)
    def traced(seed):
        return keras.random.uniform((5,), seed=seed)
    key = np.array([3, 0], "uint32")
    found["traced"] = np.array_equal(jax.jit(traced)(key), jax.random.uniform(key, (5,)))
for name, kind in kinds.items():  # Keras's own, outside
    found[name]["keras"] = [float(f(drawn(kind, *shapes)[8])) for f in (np.mean, np.std, np.min, np.max)]
found["dtype"] = str(half.dtype)

def trained(optimizer):
    rng = np.random.default_rng(0)
    shapes = {"kernel": (3, 3, 2, 4), "bias": (4,)}
    variables = [keras.Variable(rng.normal(size=shape), name=name) for name, shape in shapes.items()]
    optimizer.build(variables)
    for _ in range(5):
        gradients = [rng.normal(size=v.shape).astype("float32") for v in variables]
        optimizer.apply(list(map(keras.ops.convert_to_tensor, gradients)))
    return [np.asarray(v) for v in variables]

plain = keras.optimizers.AdamW(1e-2, weight_decay=0.1)
plain.exclude_from_weight_decay(var_names=["bias"])
found["adamw"] = [float(np.abs(a - b).max()) for a, b in zip(trained(AdamW(1e-2, 0.1)), trained(plain))]
print(json.dumps(found))
"""


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
def test_one_program_draws_all_shapes() -> None:
    """Eleven shapes take one compilation; moments and limits are Keras's; AdamW in fewer operations is Keras's too."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    for name in ("normal", "uniform", "truncated", "he"):
        own = found[name]
        assert own["programs"] <= 6, name  # the distribution and the moving of arrays, not one for each of 11 shapes
        assert own["same"] and own["blocks differ"] and all(own["shapes"])
        scale = own["keras"][1]
        assert own["own"][0] == pytest.approx(own["keras"][0], abs=0.02 * scale)
        assert own["own"][1] == pytest.approx(scale, rel=0.02)
        if name != "normal":
            assert own["own"][2:] == pytest.approx(own["keras"][2:], rel=1e-2)
    assert found["traced"] and found["dtype"] == "bfloat16"
    assert found["adamw"] == pytest.approx([0, 0], abs=1e-6)
