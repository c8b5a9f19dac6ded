"""Finding, completing, writing and reading back configurations; the recipes; the schema for editors."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from segzoo.backbones import BACKBONES
from segzoo.config import Config, dump_config, find_config, json_schema, load_config, recipe_names, write_json_schema
from segzoo.config.loader import _packaged_recipes
from segzoo.data.formats import MASK_FORMATS
from segzoo.decoders import DECODERS
from segzoo.errors import ConfigError
from segzoo.losses import LOSSES

MINIMAL = (Path(__file__).parent / "minimal.yaml").read_text()  # seven lines, so what is added starts in line 8

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = sorted(CONFIGS.glob("*.yaml"))


def test_defaults(write):
    config = load_config(write(MINIMAL, "my run.yaml"))
    assert config.name == "my run"
    assert (config.seed, config.model.weights, config.model.taps) == (0, "auto", None)
    assert (config.data.batch_size, config.data.ignore_index, config.data.size) == (8, 255, (128, 128))
    assert config.loss == {"cross_entropy": 1.0, "dice": 1.0}
    assert config.training.optimizer.learning_rate == 1e-3
    assert config.training.batchnorm_momentum == "auto"
    assert (config.output.root, config.output.pictures) == ("runs", 6)


@pytest.mark.parametrize(
    ("written", "norm"),
    [
        ("", 1.0),
        ("name: rmsprop", 1.0),
        ("clip_norm: auto", 1.0),
        ("clip_norm: 2", 2.0),
        ("clip_norm: null", None),
        ("clip_value: 0.5", None),
        ("name: sgd", None),
        ("name: sgd, clip_norm: 2", 2.0),
    ],
)
def test_gradients_of_adaptive_optimizers_are_clipped_by_norm(write, written, norm):
    optimizer = load_config(write(MINIMAL + f"  optimizer: {{{written}}}\n")).training.optimizer
    assert optimizer.largest_norm == norm


@pytest.mark.parametrize(
    ("written", "updates", "head"),
    [("", 3000, None), ("", 600, 5.0), ("", 100, 10.0), ("learning_rate: 1e-2", 100, 3.0), ("name: sgd", 100, None)],
)
def test_the_head_learns_faster_in_runs_that_are_too_short_for_it(write, written, updates, head):
    optimizer = load_config(write(MINIMAL + f"  optimizer: {{{written}}}\n")).training.optimizer
    assert optimizer.factors(updates).get("head") == (None if head is None else pytest.approx(head))
    assert optimizer.factors(updates, {"backbone": 0.1, "head": 1.0}) == {"head": 1.0, "backbone": 0.1}


def test_every_kind_of_taps_that_a_backbone_has_can_be_written(write):
    kinds = {kind: name for name in BACKBONES for kind in BACKBONES[name].tables}
    assert {"output", "expansion", "blocks"} <= set(kinds)
    for kind, name in kinds.items():
        decoder = "dpt" if kind == "blocks" else "unet"
        model = f"decoder: {decoder}\n  backbone: {name}\n  taps: {kind}"
        text = MINIMAL.replace("decoder: unet\n  backbone: efficientnet_b0", model)
        assert text != MINIMAL
        assert load_config(write(text)).model.taps == kind


def test_a_loss_term_is_a_weight_or_a_mapping_with_its_weight_filled_in(write):
    config = load_config(write(MINIMAL + "loss: {cross_entropy: 2, dice: {per_image: true}}\n"))
    assert config.loss == {"cross_entropy": 2.0, "dice": {"per_image": True, "weight": 1.0}}
    assert isinstance(config.loss["cross_entropy"], float)


@pytest.mark.parametrize(("given", "seconds"), [("90m", 5400.0), ("1h30m", 5400.0), ("2d", 172800.0), ("5", 5.0)])
def test_a_time_span_has_units_or_is_in_seconds(write, given, seconds):
    assert load_config(write(MINIMAL + f"  max_time: {given}\n")).training.max_time == seconds


@pytest.mark.parametrize("key", ["output.root", "training.init_from", "model.weights"])
def test_a_path_may_begin_at_the_home_folder(write, monkeypatch, key):
    monkeypatch.setenv("HOME", "/home/someone")
    section, name = key.split(".")
    config = load_config(write(MINIMAL), [f"{key}=~/place"])
    assert getattr(getattr(config, section), name) == "/home/someone/place"
    with pytest.raises(ConfigError, match=rf"{key}: .*there is no user 'nobody_here'"):
        load_config(write(MINIMAL), [f"{key}=~nobody_here/place"])


def test_a_config_is_immutable(write):
    config = load_config(write(MINIMAL))
    with pytest.raises(ValidationError):
        config.training.epochs = 4  # type: ignore[misc]


FULL = """\
name: "no"
seed: 7
model:
  decoder: deeplabv3plus
  backbone: efficientnetv2_s
  taps: output
  output_stride: 8
  drop_path: 0
data:
  source: folder
  root: "C:\\\\data: ünï"
  classes: ["null", "12", "yes", "1e-3", "2026-01-31", "a: b # c"]
  palette: [[0, 0, 0], [1, 1, 1], [2, 2, 2], [3, 3, 3], [4, 4, 4], [5, 5, 5]]
  augment:
    - HorizontalFlip
    - OneOf: {transforms: [GaussianBlur, {RandomGamma: {p: 0.3}}], p: 0.5}
loss: {cross_entropy: {weight: 1e-7, label_smoothing: 0.1}}
training:
  epochs: 3
  optimizer: {learning_rate: 1e-05, clip_norm: 1e+2}
  early_stopping: {patience: 1, min_delta: 1e-4}
  batchnorm_momentum: 0.9
"""


@pytest.mark.parametrize("content", [MINIMAL, FULL], ids=["minimal", "full"])
def test_a_dumped_config_reads_back_equal(write, content):
    config = load_config(write(content))
    dump_config(config, "resolved.yaml")
    assert load_config("resolved.yaml") == config
    assert sorted(path.name for path in Path().iterdir()) == ["resolved.yaml", "run.yaml"]  # no temporary file left


def test_a_dump_spells_out_every_default(write):
    dump_config(load_config(write(MINIMAL)), "resolved.yaml")
    text = Path("resolved.yaml").read_text()
    for line in ("name: run", "  taps: null", "  size: [128, 128]", "    clip_norm: auto", "  cross_entropy: 1.0"):
        assert f"\n{line}\n" in text


def test_a_dump_that_cannot_be_written_leaves_the_old_file(write, monkeypatch):
    config = load_config(write(MINIMAL))
    dump_config(config, "resolved.yaml")
    before = Path("resolved.yaml").read_bytes()

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(ConfigError, match=r"resolved\.yaml: cannot be written: No space left"):
        dump_config(config, "resolved.yaml")
    assert Path("resolved.yaml").read_bytes() == before
    assert len(list(Path().iterdir())) == 2
    with pytest.raises(ConfigError, match="cannot be written"):
        dump_config(config, "resolved.yaml/inside_a_file.yaml")


def test_a_config_is_found_by_path_then_in_configs_then_among_the_recipes(write):
    Path("configs").mkdir()
    write(MINIMAL, "configs/unet_b0.yaml")
    write(MINIMAL, "configs/mine.v2.yml")
    assert find_config("configs/unet_b0.yaml") == Path("configs/unet_b0.yaml")
    assert find_config("unet_b0") == Path("configs/unet_b0.yaml")
    assert find_config("mine.v2") == Path("configs/mine.v2.yml")
    assert find_config("fpn_b0").resolve() == _packaged_recipes() / "fpn_b0.yaml"
    write(MINIMAL)
    assert find_config("run") == Path("run.yaml")
    write(MINIMAL, "unet_b0.yaml")
    assert find_config("unet_b0") == Path("unet_b0.yaml")
    Path("fpn_b3").mkdir()  # a folder of that name does not hide the recipe
    assert find_config("fpn_b3").resolve() == _packaged_recipes() / "fpn_b3.yaml"
    assert {"unet_b0", "mine.v2", "fpn_b0"} <= set(recipe_names())


def test_the_recipes_that_are_installed_are_those_of_the_repository():
    packaged = {path.name: path.read_text(encoding="utf-8") for path in _packaged_recipes().glob("*.yaml")}
    assert packaged == {path.name: path.read_text(encoding="utf-8") for path in RECIPES}


def test_a_recipe_that_does_not_exist(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        find_config("unet_b33")
    message = str(caught.value)
    assert "Did you mean unet_b3" in message
    for place in ("unet_b33", str(Path("configs/unet_b33")), str(_packaged_recipes() / "unet_b33")):
        assert place in message
    assert "custom_masks" in message


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_loads_and_opens_with_command_result_and_time(path):
    config = load_config(path)
    assert config.name == path.stem
    opening = path.read_text(encoding="utf-8").split("\n\n", 1)[0]
    assert all(line.startswith("#") for line in opening.splitlines())
    command = path.name if path.stem != "custom_masks" else "my_data.yaml"
    assert re.search(rf"^#   python train.py --config {re.escape(command)}\b", opening, re.MULTILINE)
    assert "\n# Should reach: " in opening
    assert "\n# Time: " in opening


def test_the_default_recipe_is_there():
    configs = {path.stem: load_config(path) for path in RECIPES}
    assert {config.model.decoder for config in configs.values()} <= set(DECODERS)
    default = configs["unet_b3"]
    assert (default.model.decoder, default.model.backbone) == ("unet", "efficientnet_b3")
    assert default.data.source == "generated"


def test_augmentation_of_the_camvid_recipes_gives_crops_of_one_size():
    import numpy as np

    from segzoo.data import Augmentation

    config = load_config(CONFIGS / "camvid_unet_b0.yaml")
    augmentation = Augmentation(config.data.augment, config.data.ignore_index)
    image, mask = np.zeros((360, 480, 3), np.uint8), np.zeros((360, 480), np.uint8)
    labels = set()
    for seed in range(20):
        new_image, new_mask = augmentation(image, mask, seed)
        assert new_image.shape == (256, 256, 3)
        assert new_mask.shape == (256, 256)
        labels |= set(np.unique(new_mask).tolist())
    assert labels == {0, 11}  # padding at scale 0.7 is ignored


def test_the_editors_schema_knows_the_names_and_refuses_unknown_keys(tmp_path):
    schema = json_schema()
    model = schema["$defs"]["ModelConfig"]
    assert set(model["properties"]["decoder"]["enum"]) == set(DECODERS)
    assert set(model["properties"]["backbone"]["enum"]) == set(BACKBONES)
    assert set(schema["properties"]["loss"]["propertyNames"]["enum"]) == set(LOSSES)
    assert "source" in schema["$defs"]["FolderData"]["required"]
    by_name, with_options = schema["$defs"]["FolderData"]["properties"]["masks"]["anyOf"]  # masks: rgb, or a mapping
    assert set(by_name["enum"]) == set(with_options["properties"]["format"]["enum"]) == set(MASK_FORMATS)
    for section in (schema, *schema["$defs"].values()):
        assert section["additionalProperties"] is False
    write_json_schema(tmp_path / "schema.json")
    assert json.loads((tmp_path / "schema.json").read_text()) == schema


def every_field(model, above=""):
    from segzoo.config.messages import _models_of

    for name, field in model.model_fields.items():
        yield f"{above}{name}", field
        for section in _models_of(field):
            yield from every_field(section, f"{above}{name}.")


def test_every_key_has_a_description():
    assert [key for key, field in every_field(Config) if not field.description] == []
