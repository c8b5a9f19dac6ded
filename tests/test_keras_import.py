"""The first import of Keras by segzoo: what it leaves out comes when it is used."""

import importlib.util
import os
import subprocess
import sys

import pytest

from segzoo.lazy import deferred

STARTED = """
import sys
from segzoo.backend import start_backend
start_backend()
import segzoo.engine.trainer
unused = {"sklearn", "matplotlib", "jax", "pandas", "huggingface_hub", "scipy.special"}
assert not unused & set(sys.modules), f"before a run begins {unused & set(sys.modules)} are imported"

import numpy as np
import keras
images = np.zeros((2, 8, 8, 3))
keras.visualization.plot_image_gallery(images, value_range=(0, 255), rows=1, cols=2, path=sys.argv[1])
assert open(sys.argv[1], "rb").read(4) == b"\\x89PNG"

from importlib.util import find_spec
if find_spec("huggingface_hub"):
    from keras.src.saving import saving_lib
    import huggingface_hub
    assert saving_lib.huggingface_hub.ModelCard is huggingface_hub.ModelCard
if find_spec("sklearn"):
    assert not hasattr(keras.wrappers, "SKLearnNothing")
    from keras.wrappers import SKLearnClassifier
    from sklearn.base import BaseEstimator, ClassifierMixin
    assert issubclass(SKLearnClassifier, BaseEstimator) and issubclass(SKLearnClassifier, ClassifierMixin)
    assert keras.wrappers.SKLearnClassifier is SKLearnClassifier is keras.src.wrappers.SKLearnClassifier
    layers = [keras.Input((2,)), keras.layers.Dense(2, activation="softmax")]
    def network(X, y): return compiled
    compiled = keras.Sequential(layers)
    compiled.compile("sgd", "categorical_crossentropy")
    fitted = SKLearnClassifier(network, fit_kwargs={"verbose": 0}).fit(np.eye(2), np.array(["a", "b"]))
    assert set(fitted.predict(np.eye(2))) <= {"a", "b"}
"""
CONVERTED = """
from segzoo.backend import start_backend
start_backend()
import sys
assert "jax" not in sys.modules
from tensorflow.lite.python import lite, util
assert lite._jit is util._jit and lite._jit(lambda x: x + 1)(1) == 2  # which its converter of JAX functions calls
assert "jax" in sys.modules
"""


def run(code, *arguments):
    shown = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": "tensorflow", "MPLBACKEND": "agg"},
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    return shown.stdout


def test_keras_comes_without_what_training_does_not_need_and_with_it_when_it_is_used(tmp_path):
    run(STARTED, str(tmp_path / "gallery.png"))


@pytest.mark.skipif(not importlib.util.find_spec("jax"), reason="needs JAX beside TensorFlow")
def test_the_converter_of_jax_functions_still_finds_jax():
    run(CONVERTED)


def test_a_deferred_module_is_loaded_by_its_first_use(tmp_path, monkeypatch):
    (tmp_path / "waiting_one.py").write_text("import waiting_other\nfrom waiting_third import name\n")
    (tmp_path / "waiting_other.py").write_text("value = 3\n")
    (tmp_path / "waiting_third.py").write_text("name = 4\n")
    monkeypatch.syspath_prepend(tmp_path)
    with deferred("waiting_other", "not_installed_at_all") as waiting:
        import waiting_one
    assert waiting == ["waiting_other"] and "waiting_other" not in sys.modules and waiting_one.name == 4
    assert waiting_one.waiting_other.value == 3 and sys.modules["waiting_other"].value == 3
    with pytest.raises(AttributeError, match="nothing"):
        _ = waiting_one.waiting_other.nothing
    for name in ("waiting_one", "waiting_other", "waiting_third"):
        monkeypatch.delitem(sys.modules, name)
    with deferred("waiting_third"), pytest.raises(ImportError, match="name"):
        import waiting_one
    assert "waiting_third" not in sys.modules
