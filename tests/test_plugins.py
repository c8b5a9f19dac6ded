"""Modules of the user's own: imported where the user names them, and nowhere else."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from segzoo import plugins
from segzoo.cli import app
from segzoo.config import dump_config, json_schema, load_config
from segzoo.errors import ConfigError, RegistrationError
from segzoo.export import FORMATS

MODULE = """
import dataclasses
from segzoo.export import FORMATS, saved_model
FORMATS.register("mine", dataclasses.replace(saved_model.FORMAT, artefact="mine"))
from segzoo.losses import LOSSES
from segzoo.losses.overlap import Dice
class Soft(Dice):
    def __init__(self, ignore_index=None, softness=0.5, **kwargs):
        super().__init__(ignore_index=ignore_index, **kwargs)
        self.softness = softness
LOSSES.register("soft", Soft)
"""
RECIPE = """\
plugins: [my_own_module]
model: {decoder: unet, backbone: resnet18}
data: {source: generated}
loss: {soft: {softness: 0.25}}
training: {epochs: 1}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Make a working directory with a plugin and a recipe that names it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "my_own_module.py").write_text(MODULE)
    (tmp_path / "mine.yaml").write_text(RECIPE)
    yield tmp_path
    sys.modules.pop("my_own_module", None)
    from segzoo.losses import LOSSES

    for registry, name in ((FORMATS, "mine"), (LOSSES, "soft")):
        if name in registry:
            registry.unregister(name)


def test_a_configuration_brings_its_plugins_and_their_names_are_like_built_in_ones(folder: Path) -> None:
    config = load_config("mine.yaml")
    assert config.loss == {"soft": {"softness": 0.25, "weight": 1.0}}
    assert "mine" in FORMATS and FORMATS["mine"].artefact == "mine"
    with pytest.raises(ConfigError, match=r"mine.yaml:4: loss.soft.softnes: 'softnes' is no argument .* mean softness"):
        (folder / "mine.yaml").write_text(RECIPE.replace("softness", "softnes"))
        load_config("mine.yaml")


def test_a_file_of_others_is_never_let_import(folder: Path) -> None:
    config = load_config("mine.yaml")
    dump_config(config, "theirs.yaml")
    assert load_config("theirs.yaml", import_plugins=False) == config  # the module is loaded by now
    del sys.modules["my_own_module"]
    with pytest.raises(ConfigError, match=r"theirs.yaml:\d+: plugins.0: my_own_module is code .*--plugin my_own"):
        load_config("theirs.yaml", import_plugins=False)
    assert "my_own_module" not in sys.modules


def test_a_run_folder_is_never_let_import(folder: Path) -> None:
    from segzoo.engine.checkpoint.run import Run

    config = load_config("mine.yaml")
    (folder / "run").mkdir()
    dump_config(config, folder / "run" / "config.yaml")
    del sys.modules["my_own_module"]
    with pytest.raises(ConfigError, match=r"segzoo.plugins.load\(\['my_own_module'\]\)"):
        Run(folder / "run").config  # noqa: B018
    from segzoo.losses import LOSSES

    LOSSES.unregister("soft"), FORMATS.unregister("mine")
    plugins.load(["my_own_module"])
    assert Run(folder / "run").config == config


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module_of_mine", "no module 'no_such_module_of_mine' .*PYTHONPATH"),
        ("my_own_module.deeper", "no module 'my_own_module.deeper'"),
        ("failing", "The plugin failing cannot be imported: ZeroDivisionError"),
        ("a b", "named as in an import.*not 'a b'"),
    ],
)
def test_a_plugin_that_cannot_be_imported(folder: Path, name: str, message: str) -> None:
    (folder / "failing.py").write_text("1 / 0")
    with pytest.raises(RegistrationError, match=message):
        plugins.load([name])
    with pytest.raises(ConfigError, match=rf"plugins\.0: .*{message}"):
        load_config("mine.yaml", [f"plugins=[{name}]"])


def test_the_schema_of_editors_lists_what_is_registered(folder: Path) -> None:
    load_config("mine.yaml")
    assert '"soft"' in json.dumps(json_schema())


def test_a_command_takes_plugins(folder: Path, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        app(["schema", "--plugin", "my_own_module"])
    assert not stop.value.code and '"soft"' in capsys.readouterr().out


def test_the_page_on_plugins_works_as_it_stands(folder: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "plugins.md").read_text()
    for language, name in (("python", "mine.py"), ("yaml", "page.yaml")):
        (folder / name).write_text(re.search(rf"```{language}\n(.*?)```", page, re.DOTALL)[1])
    try:
        config = load_config("page.yaml")
        import numpy as np

        from segzoo import decoders, losses

        decoder = decoders.DECODERS[config.model.decoder](**config.model.options)
        assert decoder({"P2": np.ones((1, 8, 8, 3), "float32")}).shape == (1, 8, 8, 16)
        loss = losses.create(config.loss, ignore_index=255)
        labels, logits = np.array([[[0, 1, 255]]]), np.log([[[[0.75, 0.25], [0.75, 0.25], [0.5, 0.5]]]])
        # ((0.25^2 + 0.25^2) + (0.75^2 + 0.75^2)) / 4: two classes of two valid pixels
        np.testing.assert_allclose(float(loss(labels, logits.astype("float32"))), 1.25 / 4, rtol=1e-6)
    finally:
        from segzoo.decoders import DECODERS
        from segzoo.losses import LOSSES

        for registry, name in ((DECODERS, "one_level"), (LOSSES, "squared_error")):
            if name in registry:
                registry.unregister(name)
        sys.modules.pop("mine", None)


def test_the_page_on_given_objects_works_as_it_stands(folder: Path, light, eager) -> None:
    page = (Path(__file__).parents[1] / "docs" / "plugins.md").read_text()
    code = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[1]
    from networks import small_backbone

    (folder / "mine.yaml").write_text(
        "model: {decoder: unet, backbone: resnet18}\n"
        "data: {source: generated, size: [64, 64]}\n"
        "training: {epochs: 1, steps_per_epoch: 2}\n"
        "output: {pictures: 1}\n"
    )
    names: dict[str, Any] = {"small": small_backbone()}
    exec(code.replace('"mobilenetv2"', "small"), names)
    assert names["result"].folder == Path("runs/own") and names["result"].confusion.counts.sum() == 2 * 64 * 64
    assert (folder / "epochs.csv").read_text().startswith("epoch,")


def test_a_model_of_a_registered_class_loads_in_another_process(folder: Path, forked) -> None:
    """Written here by one process, read by another: `segzoo.plugins.load` is all that it needs."""
    (folder / "layers_of_mine.py").write_text(
        "import keras\nfrom segzoo.decoders import DECODERS, Decoder\n"
        "@DECODERS.register('plain')\n"
        "class Plain(Decoder):\n"
        "    def __init__(self, width=4, **kwargs):\n        super().__init__(**kwargs)\n        self.width = width\n"
        "    @classmethod\n    def levels(cls, output_stride=32, available=None, **options):\n        return ('P1',)\n"
        "    def build(self, shapes):\n        self.conv = keras.layers.Conv2D(self.width, 1, name='conv')\n"
        "        self.conv.build(shapes['P1'])\n        self.built = True\n"
        "    def call(self, features, training=None):\n        return self.conv(features['P1'])\n"
        "    def compute_output_shape(self, shapes):\n        return (*shapes['P1'][:3], self.width)\n"
    )
    write = (
        "import sys; sys.path.insert(0, sys.argv[1]); from networks import small_backbone; import segzoo, numpy as np\n"
        "segzoo.plugins.load(['layers_of_mine'])\n"
        "model = segzoo.build_model('plain', small_backbone(), 2, width=3); model.save('m.keras')\n"
        "np.save('truth.npy', model(np.ones((1, 32, 32, 3), 'float32')))"
    )
    read = (
        "import segzoo, keras, numpy as np; segzoo.plugins.load(['layers_of_mine'])\n"
        "found = keras.models.load_model('m.keras')(np.ones((1, 32, 32, 3), 'float32'))\n"
        "assert np.abs(np.asarray(found) - np.load('truth.npy')).max() < 1e-6"
    )
    for code in (write, read):
        forked(code, Path(__file__).parent, folder=folder, path=("",))
