"""Every mistake in a value or key is reported with file, line, key, what was given and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

MINIMAL = (Path(__file__).parent / "minimal.yaml").read_text()  # seven lines, so what is added starts in line 8


FOLDER = """\
model:
  decoder: unet
  backbone: efficientnet_b0
data:
  source: folder
  root: somewhere
  classes: [sky, road]
training:
  epochs: 3
"""


def only(lines: list[str]) -> str:
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize(
    ("tail", "line", "key", "words"),
    [
        ('seed: "3"', 8, "seed", ["whole number", "'3'", "remove the quotes"]),
        ("seed: 3.0", 8, "seed", ["whole number", "3.0"]),
        ("seed: true", 8, "seed", ["whole number", "true"]),
        ("seed: -1", 8, "seed", ["at least 0", "-1"]),
        ("seed:", 8, "seed", ["whole number", "null"]),
        ("name: 3", 8, "name", ["text", "put it in quotes"]),
        ("name: a/b", 8, "name", ["'a/b'", "Name of the run"]),
        ("name: ..", 8, "name", ["'..'"]),
        ("loss: {}", 8, "loss", ["at least 1"]),
        ("loss: [dice]", 8, "loss", ["section"]),
        ("loss:\n  dise: 1.0", 9, "loss.dise", ["dice"]),
        ("loss:\n  dice: yes", 9, "loss.dice", ["number", "'yes'"]),
        ("loss:\n  dice: 0", 9, "loss.dice", ["above 0"]),
        ("loss:\n  dice: .nan", 9, "loss.dice", ["above 0", "nan"]),
        ("loss:\n  dice:\n    weight: true", 10, "loss.dice.weight", ["number", "true"]),
        ("output: {pictures: many}", 8, "output.pictures", ["whole number", "'many'"]),
        ("output:\n  rot: x", 9, "output.rot", ["unknown key", "did you mean root?", "root, pictures"]),
        ("sede: 3", 8, "sede", ["unknown key", "did you mean seed?"]),
        ("epochs: 3", 8, "epochs", ["unknown key", "did you mean training.epochs?"]),
        ("zzz: 3", 8, "zzz", ["unknown key", "Keys here: plugins, name, seed, mode, model"]),
    ],
)
def test_top_level_values(problems, tail, line, key, words):
    message = only(problems(MINIMAL + tail + "\n"))
    assert message.startswith(f"run.yaml:{line}: {key}: ")
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("tail", "line", "key", "words"),
    [
        ("precision: float61", 8, "precision", ["did you mean float16?", "float32, bfloat16, float16"]),
        ("schedule: poly", 8, "schedule", ["section", "'poly'"]),
        ("schedule:\n    nam: poly", 9, "schedule.nam", ["did you mean name?"]),
        ("schedule: {final_fraction: 1.5}", 8, "schedule.final_fraction", ["at most 1", "1.5"]),
        ("optimizer: {name: sdg}", 8, "optimizer.name", ["Did you mean sgd?", "adamw"]),
        ("optimizer: {learning_rate: 0}", 8, "optimizer.learning_rate", ["above 0"]),
        ('optimizer: {learning_rate: "1e-3"}', 8, "optimizer.learning_rate", ["number", "remove the quotes"]),
        ("optimizer: {learning_rate: .inf}", 8, "optimizer.learning_rate", ["finite"]),
        ("optimizer: {weight_decay: true}", 8, "optimizer.weight_decay", ["number", "true"]),
        ("optimizer: {clip_norm: 0.0}", 8, "optimizer.clip_norm", ["auto, a number above 0 or null", "0.0"]),
        ("optimizer: {clip_norm: none}", 8, "optimizer.clip_norm", ["a number above 0 or null", "'none'"]),
        ("optimizer:", 8, "optimizer", ["section", "null"]),
        ("optimizer: {name: muon}", 8, "optimizer.name", ["kernels of convolutions", "adamw"]),
        (
            "optimizer: {name: sgd, options: {momentun: 0.9}}",
            8,
            "optimizer.options.momentun",
            ["did you mean momentum"],
        ),
        ("optimizer: {name: sgd, options: {momentum: 1.0}}", 8, "optimizer.options.momentum", ["0..1", "1.0"]),
        ("optimizer: {name: sgd, options: {nesterov: 1}}", 8, "optimizer.options.nesterov", ["true or false", "1"]),
        ("optimizer: {options: {beta_1: high}}", 8, "optimizer.options.beta_1", ["number", "'high'"]),
        ("optimizer: {name: lion, options: {beta_1: 0}}", 8, "optimizer.options.beta_1", ["between 0 and 1", "0"]),
        (
            "optimizer: {name: adagrad, options: {initial_accumulator_value: -1}}",
            8,
            "optimizer.options.initial_accumulator_value",
            ["0 or more", "-1"],
        ),
        ("optimizer: {options: {epsilon: 0}}", 8, "optimizer.options.epsilon", ["above 0"]),
        ("optimizer: {options: {clipnorm: 1.0}}", 8, "optimizer.options.clipnorm", ["no option", "beta_1"]),
        ("optimizer: {clip_norm: 1.0, clip_value: 1.0}", 8, "optimizer.clip_value", ["exclude each other"]),
        ("distribution: mirrored\n  remat: true", 9, "remat", ["does not work with distribution: mirrored"]),
        ("optimizer: {lr_scale: {encoder: 0.1}}", 8, "optimizer.lr_scale.encoder", ["backbone, decoder, head"]),
        ("optimizer: {lr_scale: {backbone: 0}}", 8, "optimizer.lr_scale.backbone", ["above 0"]),
        ("optimizer: {layer_decay: 1.5}", 8, "optimizer.layer_decay", ["at most 1", "1.5"]),
        ("schedule: {milestones: [0.5, 0.5]}", 8, "schedule.milestones.1", ["0.5 is not above 0.5"]),
        ("schedule: {milestones: [0.5, 30]}", 8, "schedule.milestones.1", ["below 1", "Fractions of the run"]),
        ("accumulate: 0", 8, "accumulate", ["at least 1"]),
        ("early_stopping: {}", 8, "early_stopping.patience", ["missing", "monitor"]),
        ("early_stopping:\n    patience: 0", 9, "early_stopping.patience", ["at least 1"]),
        ("ema: 1.0", 8, "ema", ["auto, a number between 0 and 1 or null", "1.0"]),
        ("batchnorm_momentum: 1.0", 8, "batchnorm_momentum", ["auto or a number between 0 and 1", "1.0"]),
        ("batchnorm_momentum: avto", 8, "batchnorm_momentum", ["auto or a number", "'avto'"]),
        ("steps_per_epoch: 0", 8, "steps_per_epoch", ["at least 1"]),
        ("max_time: 2 weeks", 8, "max_time", ["1h30m", "'2 weeks'"]),
        ("max_time: 0", 8, "max_time", ["above 0", "0"]),
        ("max_time: true", 8, "max_time", ["number of seconds", "true"]),
        ("reduce_on_plateau: {patience: 2, factor: 1.0}", 8, "reduce_on_plateau.factor", ["below 1"]),
    ],
)
def test_values_of_training(problems, tail, line, key, words):
    message = only(problems(MINIMAL + f"  {tail}\n"))
    assert message.startswith(f"run.yaml:{line}: training.{key}: ")
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "words"),
    [
        ("decoder: unet", "decoder: unit", 2, "model.decoder", ["Did you mean unet?", "deeplabv3plus"]),
        ("  decoder: unet\n", "", 1, "model.decoder", ["missing", "segzoo decoders"]),
        ("efficientnet_b0", "efficientnet_b9", 3, "model.backbone", ["efficientnet_b7", "segzoo backbones"]),
        ("efficientnet_b0", "efficientnetv2_b5", 3, "model.backbone", ["end at B3", "efficientnetv2_s"]),
        ("_b0", "_b0\n  taps: outputs", 4, "model.taps", ["kind of taps of efficientnet_b0", "did you mean output?"]),
        (
            "efficientnet_b0",
            "hub_mit_b0\n  weights: preset:mit_b1_ade20k_512",
            4,
            "model.weights",
            ["mit_b0_ade20k_512"],
        ),
        ("efficientnet_b0", "kcv_mit_b1\n  weights: preset:mit_b1", 4, "model.weights", ["preset of kcv_mit_b1"]),
        ("_b0", "_b0\n  output_stride: 12", 4, "model.output_stride", ["12", "8, 16, 32"]),
        ("_b0", "_b0\n  output_stride: 8.0", 4, "model.output_stride", ["whole number", "8.0"]),
        ("_b0", "_b0\n  input_channels: 4", 4, "model.input_channels", ["3 channels, not 4"]),
        ("_b0", "_b0\n  mean: [1.0, 2.0, 3.0]", 4, "model.mean", ["mean and std are given together"]),
        ("_b0", "_b0\n  mean: [1.0]\n  std: [1.0]", 4, "model.mean", ["1 numbers for images of 3 channels"]),
        ("_b0", "_b0\n  trainable: P6", 4, "model.trainable", ["P6"]),
        ("_b0", "_b0\n  batch_norm: freeze", 4, "model.batch_norm", ["frozen"]),
        ("_b0", "_b0\n  weights_sha256: abc", 4, "model.weights_sha256", ["64 hexadecimal digits", "abc"]),
        ("_b0", f"_b0\n  weights_sha256: {'0a' * 32}", 4, "model.weights_sha256", ["belongs to a weights file"]),
        ("efficientnet_b0", "resnet50\n  taps: expansion", 4, "model.taps", ["kind of taps of resnet50", "output"]),
        (
            "efficientnet_b0",
            "nasnet_mobile\n  output_stride: 16",
            4,
            "model.output_stride",
            ["has output stride 32 only"],
        ),
        ("_b0", "_b0\n  drop_path: true", 4, "model.drop_path", ["number", "true", "0 to 1"]),
        ("_b0", "_b0\n  drop_path: 1.5", 4, "model.drop_path", ["at most 1"]),
        ("_b0", "_b0\n  weights: no", 4, None, []),
        ("source: generated", "source: foldr", 5, "data.source", ["did you mean folder?", "generated, folder"]),
        ("source: generated", "size: [64, 64]", 4, "data.source", ["missing", "generated, folder"]),
        ("generated", "generated\n  size: 64", 6, "data.size", ["list", "64"]),
        ("generated", "generated\n  size: [64]", 6, "data.size", ["too few", "[height, width]"]),
        ("generated", "generated\n  size: [64, 64, 3]", 6, "data.size", ["at most 2", "3"]),
        ("generated", "generated\n  size: [64, 16]", 6, "data.size.1", ["at least 32", "16"]),
        ("generated", "generated\n  size: [64, 64.0]", 6, "data.size.1", ["whole number", "64.0"]),
        ("generated", "generated\n  root: x", 6, "data.root", ["another source"]),
        ("generated", "generated\n  trian_count: 9", 6, "data.trian_count", ["did you mean train_count?"]),
        ("generated", "generated\n  ignore_index: 2", 6, "data.ignore_index", ["'ring'", "from 6 up"]),
        ("generated", "generated\n  workers: -1", 6, "data.workers", ["at least 0"]),
        ("generated", "generated\n  augment: HorizontalFlip", 6, "data.augment", ["list"]),
        ("data:\n  source: generated", "data: generated", 4, "data", ["section", "'generated'"]),
    ],
)
def test_values_of_model_and_data(problems, write, old, new, line, key, words):
    content = MINIMAL.replace(old, new)
    if key is None:  # `no` is text in YAML 1.2, here the path of a file
        from segzoo.config import load_config

        assert load_config(write(content)).model.weights == "no"
        return
    message = only(problems(content))
    assert message.startswith(f"run.yaml:{line}: {key}: ")
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("tail", "line", "key", "words"),
    [
        ("classes: [sky]", 7, "classes", ["at least 2", "1"]),
        ("classes: [sky, 3]", 7, "classes.1", ["text", "put it in quotes"]),
        ("classes:\n  - sky\n  - road\n  - sky", 10, "classes.2", ["'sky'", "position 0"]),
        ("classes: [a, b]\n  ignore_index: 1", 8, "ignore_index", ["class 'b'", "from 2 up"]),
        ('classes: [a, "b\\nc"]', 7, "classes.1", ["'\\n' at position 1", "leave it out"]),
        ('classes: [a, "\\e[31mb"]', 7, "classes.1", ["'\\x1b' at position 0"]),
        (f"classes: [a, b]\n  image_dir: {'x' * 300}", 8, "image_dir", ["300 bytes", "at most 255"]),
        (f"classes: [a, b]\n  mask_dir: {'x/' * 2500}", 8, "mask_dir", ["5,000 characters, and at most 1,000"]),
        ('classes: [a, b]\n  mask_suffix: "\\0"', 8, "mask_suffix", ["position 0"]),
        ('classes: [a, b]\n  split: {fraction: 0.2, group: "a{99999999999}"}', 8, "split.group", ["no regular"]),
        ("classes: [a, b]\n  palette: [[0, 0, 0]]", 8, "palette", ["1 colours for 2 classes"]),
        ("classes: [a, b]\n  palette: [[0, 0, 0], [0, 0, 0]]", 8, "palette.1", ["colour [0, 0, 0]"]),
        ("classes: [a, b]\n  palette:\n    - [0, 0, 0]\n    - [0, 0, 256]", 10, "palette.1.2", ["at most 255", "256"]),
        ("classes: [a, b]\n  palette: [[0, 0, 0], [0, 1]]", 8, "palette.1", ["too few"]),
    ],
)
def test_values_of_a_folder(problems, tail, line, key, words):
    message = only(problems(FOLDER.replace("classes: [sky, road]", tail)))
    assert message.startswith(f"run.yaml:{line}: data.{key}: ")
    for word in words:
        assert word in message


def test_the_default_ignore_index_is_refused_where_it_is_a_class(problems):
    classes = ", ".join(f"c{n}" for n in range(256))
    message = only(problems(FOLDER.replace("sky, road", classes)))
    # The key is not in the file, so the message stands at its section.
    assert message.startswith("run.yaml:4: data.ignore_index: 255 is the label of the class 'c255'")


def test_all_problems_are_reported_at_once_in_the_order_of_the_file(problems):
    lines = problems("sede: 1\n" + MINIMAL.replace("unet", "unit").replace("3\n", "0\n"))
    assert [line.split(": ")[:2] for line in lines] == [
        ["run.yaml:1", "sede"],
        ["run.yaml:3", "model.decoder"],
        ["run.yaml:8", "training.epochs"],
    ]


def test_problems_are_those_of_the_chosen_source(problems):
    lines = problems(FOLDER.replace("  root: somewhere\n", "  size: [64, 64]\n"))
    assert sorted(line.split(": ")[1] for line in lines) == ["data.root", "data.size"]


@pytest.mark.parametrize("key", ["augment", "val_transforms"])
def test_transforms_are_checked_one_by_one(problems, key):
    transforms = f"  {key}:\n    - HorizontalFlip\n    - Affine: {{scle: 2}}\n    - Resiz: {{}}\n"
    first, second = problems(MINIMAL.replace("generated\n", "generated\n" + transforms))
    assert first.startswith(f"run.yaml:8: data.{key}.1: Affine has no argument 'scle'. Did you mean scale?")
    assert second.startswith(f"run.yaml:9: data.{key}.2: Unknown transform")
    assert "Did you mean Resize?" in second


def test_options_are_checked_against_the_decoders_constructor(problems):
    message = only(problems(MINIMAL.replace("_b0", "_b0\n  options:\n    chanels: [8, 8]")))
    assert message.startswith("run.yaml:5: model.options.chanels: 'chanels' is no option of the decoder unet")
    assert "did you mean channels?" in message


def test_loss_arguments_are_checked_against_the_losss_constructor(problems):
    message = only(problems(MINIMAL + "loss:\n  dice:\n    weight: 1.0\n    per_imag: true\n"))
    assert message.startswith("run.yaml:11: loss.dice.per_imag: 'per_imag' is no argument of the loss dice")
    assert "did you mean per_image?" in message


def test_a_value_that_the_loss_refuses_is_a_mistake_of_the_configuration(problems):
    message = only(problems(MINIMAL + "loss:\n  cross_entropy:\n    label_smoothing: 1.5\n"))
    assert message.startswith("run.yaml:9: loss.cross_entropy: label_smoothing must be at least 0 and below 1, not 1.5")


def test_losses_have_the_mode(problems):
    message = only(problems(MINIMAL + "loss: {lovasz_hinge: 1.0}\n"))
    assert message.startswith("run.yaml:8: loss.lovasz_hinge: lovasz_hinge has no mode multiclass, only binary, multi")
    assert "lovasz_softmax" in message


def test_binary_mode_has_two_classes_and_no_class_weights(problems):
    message = only(problems(MINIMAL + "mode: binary\nloss: {dice: 1.0}\n"))
    assert message.startswith(
        "run.yaml:8: mode: binary needs two classes, the rest and the one looked for; there are 6"
    )
    message = only(problems(MINIMAL + "mode: binary\nloss: {dice: {class_weights: [1, 2]}}\n"))
    assert message.startswith("run.yaml:9: loss.dice.class_weights: binary mode has one class to weigh")


def test_there_is_one_class_weight_per_class(problems):
    message = only(problems(MINIMAL + "loss:\n  cross_entropy:\n    class_weights: [1, 2]\n"))
    assert message.startswith("run.yaml:10: loss.cross_entropy.class_weights: 2 weights for ")
    assert "one per class" in message


def test_a_scheme_of_class_weights_exists(problems):
    line = "loss:\n  cross_entropy:\n    class_weights: {}\n"
    message = only(problems(MINIMAL + line.format("median")))
    assert message.startswith(
        "run.yaml:10: loss.cross_entropy.class_weights: expected a list of numbers, or balanced, median_frequency"
    )


def test_what_the_rest_of_the_configuration_fills_in_is_no_loss_argument(problems):
    assert "loss.dice.ignore_index" in only(problems(MINIMAL + "loss: {dice: {ignore_index: 3}}\n"))
