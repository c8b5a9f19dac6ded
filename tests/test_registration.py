"""Saved models load in a process that did not build them, after `import segzoo` alone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from segzoo.registration import modules

PACKAGE = Path(__file__).parents[1] / "segzoo"

# Loads every model in a folder, compiled and not, and compares its logits with those that its builder wrote.
_LOAD = """
import json, sys
from pathlib import Path
folder = Path(sys.argv[1])
{fresh}import {first}
assert {first!r} == "keras" or "keras" not in sys.modules, "import segzoo started a framework"
import {second}
import keras, numpy as np
pixels = np.load(folder / "pixels.npy")
found = {{}}
for path in sorted(folder.glob({pattern!r})):
    truth = np.load(folder / (path.stem + ".npy"))
    for compile in (True, False) if path.stem == "plain" else (True,):
        model = keras.models.load_model(path, compile=compile)
        logits = model(pixels)
        logits = logits["logits"] if isinstance(logits, dict) else logits
        found[f"{{path.stem}} {{compile}}"] = float(np.abs(np.asarray(logits) - truth).max())
print(json.dumps(found))
"""


# Keras is not yet imported in a process that has forgotten it, and imports within a second.
FRESH = "import sys; [sys.modules.pop(name) for name in [*sys.modules] if name.partition('.')[0] == 'keras']\n"


def python(code: str) -> str:
    """Run code in a new process; its standard output."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_every_module_with_registered_classes_is_found() -> None:
    found = set()
    for path in PACKAGE.rglob("*.py"):
        # Those of masks, trackers and batch transforms are no classes of Keras.
        decorator = r"^@?.*\bregister_keras_serializable\(|^@(DECODERS|LOSSES)\.register\("
        if re.search(decorator, path.read_text(), re.M) and path.name != "precision.py":
            found.add(".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts))
    assert found - {"segzoo.registration", "segzoo.registry"} == set(modules())  # which register what they are given
    assert len(modules()) == 36


def test_every_class_of_ours_that_keras_may_save_is_registered() -> None:
    import importlib
    import inspect

    import keras

    saveable = (keras.layers.Layer, keras.losses.Loss, keras.metrics.Metric, keras.optimizers.Optimizer,
                keras.optimizers.schedules.LearningRateSchedule)  # fmt: skip
    known = keras.saving.get_custom_objects()
    for name in modules():
        for _, found in inspect.getmembers(importlib.import_module(name), inspect.isclass):
            if found.__module__ == name and issubclass(found, saveable) and not found.__name__.startswith("_"):
                is_base = bool(found.__subclasses__())
                assert is_base or known.get(f"segzoo>{found.__name__}") is found, found


def test_segzoo_can_be_imported_again_before_keras(forked) -> None:
    """As notebooks do after an edit: one finder watches the imports, and the classes are registered all the same."""
    code = f"""{FRESH}
import importlib, segzoo, segzoo.registration
importlib.reload(segzoo)
importlib.reload(segzoo.registration)
importlib.reload(segzoo)
[sys.modules.pop(name) for name in [*sys.modules] if name.partition('.')[0] == 'segzoo']
import segzoo
assert sum("Watcher" in type(finder).__name__ for finder in sys.meta_path) == 1, sys.meta_path
import keras, segzoo.layers
print(keras.saving.get_registered_object("segzoo>light_silu") is segzoo.layers.activation.light_silu)
"""
    assert forked(code).stdout == "True\n"


@pytest.mark.parametrize("first", ["segzoo.layers", "segzoo.losses.overlap", "segzoo.models.build"])
def test_all_classes_are_there_whatever_is_imported_first(first: str, forked) -> None:
    """A part of segzoo may be what imports Keras, and then is not yet whole when Keras is."""
    code = (
        f"{FRESH}import {first}, segzoo, keras\n"
        "print(len([n for n in keras.saving.get_custom_objects() if 'segzoo>' in n]))"
    )
    import keras

    ours = [name for name in keras.saving.get_custom_objects() if name.startswith("segzoo>")]
    assert int(forked(code).stdout) == len(ours) > 50


def test_import_starts_no_framework_and_modules_keep_their_loaders() -> None:
    code = (
        "import sys, segzoo; assert not {'keras', 'tensorflow', 'jax', 'torch', 'numpy'} & set(sys.modules)\n"
        "import importlib.machinery as m, inspect, segzoo.errors, segzoo.config.overrides as o\n"
        "assert type(o.__loader__) is m.SourceFileLoader is type(o.__spec__.loader)\n"
        "assert 'class SegzooError' in inspect.getsource(segzoo.errors)\n"
        "try:\n import segzoo.no_such\nexcept ModuleNotFoundError as e: print(e.name)"
    )
    assert python(code).strip() == "segzoo.no_such"


def test_a_failing_import_of_keras_stays_its_own_error(tmp_path) -> None:
    (tmp_path / "keras.py").write_text("raise RuntimeError('no backend')")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import segzoo\n"
        "for _ in range(2):\n try:\n  import keras\n except RuntimeError as e: print(e)"
    )
    assert python(code).split("\n")[:2] == ["no backend", "no backend"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A folder of models as users save them, one for each kind of thing that a file can name."""
    import keras
    from networks import small_backbone

    import segzoo

    folder = tmp_path_factory.mktemp("saved")
    pixels = np.random.default_rng(0).integers(0, 255, (1, 32, 32, 3)).astype("float32")
    np.save(folder / "pixels.npy", pixels)
    models = {
        "plain": segzoo.build_model("unet", small_backbone(), 3, weights="none", attention="scse", channels=[4] * 5),
        "atrous": segzoo.build_model("deeplabv3plus", small_backbone(), 2, weights="none", channels=8),
        "heads": segzoo.build_model(
            "fpn",
            small_backbone(),
            3,
            weights="none",
            pyramid_channels=8,
            auxiliary=["P4"],
            classification=True,
            remat=True,
        ),
        "transformer": segzoo.build_model("segformer", small_backbone(), 3, weights="none", channels=8),
    }
    from segzoo.losses import CrossEntropy, Dice, WeightedSum
    from segzoo.metrics import MeanIoU
    from segzoo.optim import optimizers, schedules

    models["plain"].compile(
        optimizers.create("adamw", schedules.WarmUpDecay(1e-3, 100, 10), 1e-4),
        WeightedSum([CrossEntropy(), Dice()], [1.0, 0.5]),
        metrics=[MeanIoU(3)],
        jit_compile=False,
    )
    models["plain"].run_eagerly = True
    models["plain"].train_on_batch(pixels, np.zeros((1, 32, 32), "int32"))
    models["plain"].run_eagerly = False
    models["atrous"].compile(optimizers.create("sgd", 1e-2), CrossEntropy())
    for name, model in models.items():
        logits = model(pixels)
        np.save(folder / f"{name}.npy", keras.ops.convert_to_numpy(logits["logits"] if name == "heads" else logits))
        model.save(folder / f"{name}.keras")
    return folder


@pytest.mark.parametrize(
    ("first", "second", "pattern", "loads"), [("segzoo", "keras", "*.keras", 5), ("keras", "segzoo", "plain.keras", 2)]
)
def test_models_load_in_another_process(saved: Path, first: str, second: str, pattern: str, loads: int, forked) -> None:
    """`loaded_elsewhere` of conftest.py loads them in a process that has forgotten nothing."""
    code = _LOAD.format(first=first, second=second, pattern=pattern, fresh=FRESH)
    found = json.loads(forked(code, saved).stdout.splitlines()[-1])
    assert len(found) == loads
    assert max(found.values()) < 1e-5, found
