"""A decoder, a loss, a format, a transform, a tracker, a family more is one file more in the package."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "segzoo"

# One file each, as somebody would add it to the package: path to text.
ADDED = {
    "decoders/one_level.py": '''
import keras
from segzoo.decoders.base import Decoder
from segzoo.decoders.table import DECODERS


@DECODERS.register("one_level")
class OneLevel(Decoder):
    """A convolution on P2."""

    def __init__(self, width: int = 8, **kwargs):
        super().__init__(**kwargs)
        self.width = width

    def build(self, shapes):
        self.conv = keras.layers.Conv2D(self.width, 1, name="conv")
        self.conv.build(shapes["P2"])
        self.built = True

    def call(self, features, training=None):
        return self.conv(features["P2"])

    def compute_output_shape(self, shapes):
        return (*shapes["P2"][:3], self.width)
''',
    "losses/brier.py": '''
from keras import ops
from segzoo.losses.base import PixelLoss
from segzoo.losses.table import LOSSES


@LOSSES.register("brier")
class Brier(PixelLoss):
    """Squared error of probabilities."""

    def __init__(self, ignore_index=None, factor: float = 1.0, mode=None, name=None, dtype=None):
        super().__init__(ignore_index, mode=mode, name=name, dtype=dtype)
        self.factor = factor

    def value(self, target, logits):
        return self.factor * ops.mean(ops.square(self.probabilities(logits) - target.shares(logits)))
''',
    "layers/twice.py": '''
import keras
from segzoo.layers.base import Layer


@keras.saving.register_keras_serializable("segzoo")
class Twice(Layer):
    """Two times the input."""

    def call(self, x):
        return 2 * x
''',
    "data/formats/inverted.py": '''
from segzoo.data.formats.index import IndexFormat
from segzoo.data.formats.table import MASK_FORMATS


@MASK_FORMATS.register("inverted")
class Inverted(IndexFormat):
    """The last class is 0."""
''',
    "data/batch_transforms/reverse.py": '''
from segzoo.data.batch_transforms.contract import BatchTransform
from segzoo.data.batch_transforms.table import BATCH_TRANSFORMS


@BATCH_TRANSFORMS.register("reverse")
class Reverse(BatchTransform):
    """The samples in reverse order."""

    def __call__(self, images, masks, rng):
        return images[::-1], masks[::-1]
''',
    "backbones/families/own/tiny.py": """
from segzoo.backbones.spec import RESCALED, Variant, tap_table
from segzoo.backbones.table import BACKBONES


def build(include_top=False, weights=None, input_shape=(256, 256, 3)):
    import keras

    images = x = keras.Input(input_shape)
    for level in range(1, 6):
        x = keras.layers.Conv2D(4 * level, 3, 2, "same", activation="relu", name=f"conv{level}")(x)
    return keras.Model(images, x, name="tiny")


_TAPS = tap_table(*(f"P{level} conv{level} {4 * level} convolution {level}" for level in range(1, 6)))
VARIANTS = {
    "tiny": Variant(
        "tiny", "segzoo.backbones.families.own.tiny:build", "tiny", RESCALED, {"output": _TAPS}, published=False
    )
}
BACKBONES.register_all(VARIANTS)
""",
    "export/copied.py": """
import dataclasses
from segzoo.export import saved_model
from segzoo.export.formats import FORMATS

FORMAT = FORMATS.register("copied", dataclasses.replace(saved_model.FORMAT, artefact="copied"))
""",
    "tracking/quiet.py": '''
from segzoo.tracking import TRACKERS


@TRACKERS.register("quiet")
class Quiet:
    """Keeps nothing."""
''',
}

START = """
import sys; sys.path.insert(0, {first!r}); import segzoo
assert segzoo.__file__.startswith({first!r}), segzoo.__file__
"""

LISTS = """
import sys
from segzoo.backbones import BACKBONES
from segzoo.data import BATCH_TRANSFORMS, MASK_FORMATS
from segzoo.decoders import DECODERS
from segzoo.export import FORMATS
from segzoo.losses import LOSSES
from segzoo.registration import modules
from segzoo.tracking import TRACKERS
for registry, name in (
    (DECODERS, "one_level"), (LOSSES, "brier"), (MASK_FORMATS, "inverted"), (BATCH_TRANSFORMS, "reverse"),
    (BACKBONES, "tiny"), (FORMATS, "copied"), (TRACKERS, "quiet"),
):
    assert name in list(registry) and registry.is_built_in(name), list(registry)
assert {"segzoo.decoders.one_level", "segzoo.losses.brier", "segzoo.layers.twice"} <= set(modules())
assert not {"keras", "tensorflow", "jax", "torch"} & set(sys.modules)
"""

BUILDS = """
import numpy as np
import keras
import segzoo
from segzoo.config import json_schema, load_config
from segzoo.data.batch_transforms import create_batch_transform
from segzoo.data.formats import Labels, create_format
from segzoo.layers.twice import Twice
schema = str(json_schema())
assert all(f"'{name}'" in schema for name in ("one_level", "brier", "tiny", "reverse", "inverted"))
config = load_config("mine.yaml")
assert config.model.options == {"width": 3} and config.loss == {"brier": {"factor": 2.0, "weight": 1.0}}
try:
    load_config("mine.yaml", ["loss.brier.facter=1"])
except segzoo.SegzooError as error:
    assert "mean factor" in str(error), error
else:
    raise AssertionError("an option that is none")
assert type(create_format("inverted", Labels(("a", "b")))).__name__ == "Inverted"
assert create_batch_transform("reverse", ("a", "b"))(np.arange(2), np.arange(2), None)[0].tolist() == [1, 0]
assert segzoo.export.FORMATS["copied"].artefact == "copied"
model = segzoo.build_model("one_level", "tiny", 3, weights="none", width=3)
model.compile("sgd", segzoo.losses.create({"brier": {"factor": 2.0}}))
images = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype("float32")
model.train_on_batch(images, np.zeros((1, 64, 64), "int32"))
model = keras.Model(model.input, Twice(name="twice")(model.output), name="all")
model.compile("sgd", segzoo.losses.create({"brier": {"factor": 2.0}}))
model.save("model.keras")
np.savez("truth.npz", images=images, logits=model(images))
"""

LOADS = """
import segzoo
import keras
import numpy as np
truth = np.load("truth.npz")
model = keras.models.load_model("model.keras")
np.testing.assert_allclose(model(truth["images"]), truth["logits"], atol=1e-5)
assert model.loss.get_config()["factor"] == 2.0
names = [keras.saving.get_registered_name(type(thing)) for thing in (model.get_layer("decoder"), model.loss)]
assert names == ["segzoo>OneLevel", "segzoo>Brier"], names
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with a copy of the package that has one file more for each kind of thing."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(PACKAGE, folder / "segzoo", ignore=shutil.ignore_patterns("__pycache__"))
    for path, text in ADDED.items():
        (folder / "segzoo" / path).write_text(text)
    (folder / "mine.yaml").write_text(
        "model: {decoder: one_level, backbone: tiny, weights: none, options: {width: 3}}\n"
        "data: {source: generated, batch_transforms: [reverse]}\n"
        "loss: {brier: {factor: 2.0}}\ntraining: {epochs: 1}\n"
    )
    return folder


def python(code: str, folder: Path, first: Path) -> None:
    """Run code in another process that finds segzoo at `first`."""
    done = subprocess.run(
        [sys.executable, "-c", START.format(first=str(first)) + code], capture_output=True, text=True, cwd=folder
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_what_is_added_is_listed_without_a_framework(folder: Path) -> None:
    python(LISTS, folder, folder)


def test_names_are_found_in_a_zip_file_too(folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "segzoo.zip", "w") as archive:
        for path in sorted((folder / "segzoo").rglob("*.py")):
            archive.write(path, path.relative_to(folder))
    python(LISTS, tmp_path, tmp_path / "segzoo.zip")


def test_what_is_added_is_built_saved_and_loaded_elsewhere(folder: Path, forked) -> None:
    for code in (BUILDS, LOADS):
        forked(START.format(first=str(folder)) + code, folder=folder)
