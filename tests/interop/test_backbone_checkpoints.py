"""Backbones of converted checkpoints return the features of torchvision, timm and SMP, and what is refused."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import segzoo
from segzoo import backbones
from segzoo.backbones import BACKBONES
from segzoo.cli import main
from segzoo.errors import SegzooError, WeightsError
from segzoo.interop.backbones.recognition import recognize, without_prefix
from segzoo.interop.backbones.table import SOURCES
from segzoo.levels import LEVELS, TOKENS
from segzoo.weights import save_file
from segzoo.workflows.backbone_conversion import convert_backbone_tensors, named_by, pixels_by
from segzoo.workflows.conversion import convert

sys.path.insert(0, str(Path(__file__).parent / "backbone_golden"))

import originals
import torch_files

pytestmark = pytest.mark.usefixtures("one_structure", "zero_weights", "no_trial")

ALLOWED = 1e-4  # of the deviation of a feature


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference, in units of the deviation."""
    assert found.shape == expected.shape
    assert expected.std() > 1e-3
    return float(np.abs(found - expected).max() / expected.std())


def returned(model, size) -> dict[str, np.ndarray]:
    return {level: np.asarray(one) for level, one in model(originals.images(size), training=False).items()}


# One case for each family, up to P3 or T1, tells in seconds what all of them tell with -m nightly.
QUICK = (
    "torchvision/resnet18",
    "timm/seresnet18",
    "smp/efficientnet-b0",
    "torchvision/efficientnet_b0",
    "timm/efficientnet_lite0",
    "timm/tf_efficientnetv2_b0",
    "torchvision/mobilenet_v2",
    "torchvision/mobilenet_v3_small",
    "torchvision/vgg16_bn",
    "timm/densenet121",
    "timm/convnext_tiny",
    "smp/mit_b0",
    "smp/xception",
    "torchvision/inception_v3",
    "timm/vit_tiny_patch16_224",
)


@pytest.mark.parametrize("name", QUICK)
def test_features_are_the_originals(name: str) -> None:
    assert_features_are_the_originals(name, ("P1", "P2", "P3", "T1"))


@pytest.mark.nightly
@pytest.mark.parametrize("name", originals.CASES)
def test_all_features_are_the_originals(name: str) -> None:
    assert_features_are_the_originals(name, (*LEVELS, *TOKENS))


def assert_features_are_the_originals(name: str, levels: tuple[str, ...]) -> None:
    tensors, stored = originals.read(name)
    known = next(iter(stored.values()))
    levels = tuple(level for level in levels if level in known)
    if name.startswith("smp/mit"):
        pytest.importorskip("keras_hub", reason="needs the extra keras-hub")
    named = name if originals.CASES[name].named else None
    model = convert_backbone_tensors(tensors, named, levels=levels).model
    for size, expected in stored.items():
        found = returned(model, size)
        assert found.keys() == set(levels)
        for level in levels:
            assert difference(originals.part(found[level]), expected[level]) < ALLOWED, (size, level)


def test_all_namings_are_of_the_same_layers() -> None:
    """Layers that the libraries' tables name for a backbone are those of the case that is compared above."""
    layers: dict[str, set[str]] = {}
    for source in SOURCES:
        own = {row.ours for row in (*source.rows, *source.top)}
        assert layers.setdefault(source.backbone, own) == own, source.name


@pytest.mark.peers
@pytest.mark.parametrize("name", [*originals.CASES, *originals.OTHERS])
def test_features_agree_beside_the_original(name: str, record_property) -> None:
    case = {**originals.CASES, **originals.OTHERS}[name]
    network = originals.original(name, case)
    tensors = {key: value.float().numpy() for key, value in network.state_dict().items()}
    model = convert_backbone_tensors(tensors, name if case.named else None).model
    worst = 0.0
    for size in case.sizes:
        found, expected = returned(model, size), originals.features(network, case, size)
        levels = found.keys() & expected.keys()
        assert len(levels) >= 4
        worst = max(worst, *(difference(found[level], expected[level]) for level in levels))
    print(f"\n{name}: largest difference {worst:.1e} of the deviation")
    assert worst < 1e-3


@pytest.fixture(scope="module")
def resnet18() -> dict[str, np.ndarray]:
    return originals.read("torchvision/resnet18")[0]


def told(tensors, name=None) -> str:
    """The message of the refusal, which is one paragraph."""
    with pytest.raises(SegzooError) as refused:
        recognize(without_prefix(tensors), name, "f.pth")
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_prefixes_and_counters_are_left_out(resnet18) -> None:
    counted = {**resnet18, "bn1.num_batches_tracked": np.zeros((), "int64")}
    for prefix in ("module.", "encoder.", "model.encoder.", "module.model.", "_orig_mod.backbone."):
        bare = without_prefix({f"{prefix}{name}": value for name, value in counted.items()})
        assert bare.keys() == counted.keys()
        assert recognize(bare, None, "f.pth").backbone == "resnet18"


def test_a_prefix_that_is_not_known_is_named(resnet18) -> None:
    message = told({f"net.{name}": value for name, value in resnet18.items()})
    assert "all names begin with 'net.'. Save them without it: {name.removeprefix('net.'): value for" in message


def test_names_of_all_networks_are_distinct_and_their_backbones_exist() -> None:
    tensors = [(name, source.rows) for source in SOURCES for name in source.names]
    assert len(tensors) == len(set(tensors))  # torchvision's DenseNet has two namings
    for source in SOURCES:
        variant = BACKBONES[source.backbone]
        variant.convention(source.compat)
        for kind in filter(None, [source.taps_without_top]):
            assert variant.tap_table(kind)
        layers = [(row.ours, row.kind) for row in (*source.rows, *source.top)]
        tensors = [tensor for row in (*source.rows, *source.top) for tensor in row.tensors]
        alone = [tensor for tensor in tensors if not re.search(r"\.q?kv\.", tensor)]  # which hold several
        assert len(layers) == len(set(layers)) and len(alone) == len(set(alone)), source.name


def test_a_choice_is_asked_for(resnet18) -> None:
    tensors = originals.read("timm/tf_efficientnet_b0")[0]
    message = told(tensors)
    assert "timm/efficientnet_b0 (padded as PyTorch does" in message
    assert "timm/tf_efficientnet_b0 (padded as TensorFlow does" in message
    assert "--as timm/efficientnet_b0" in message
    assert recognize(tensors, "tf_efficientnet_b0", "f").compat is None
    assert recognize(tensors, "timm/efficientnet_b0", "f").compat == "timm"
    assert "is not timm/tf_efficientnet_b1: it lacks" in told(tensors, "tf_efficientnet_b1")
    assert "Unknown network that is a backbone here 'resnet9'. Did you mean" in told(tensors, "resnet9")
    message = told(resnet18, "resnet34")
    assert "it lacks 32 of its layers, first layer1.2.conv1.weight" in message
    assert message.endswith("By its tensors it is torchvision/resnet18 or timm/resnet18 or smp/resnet18.")


def test_a_file_that_lacks_tensors_or_has_others_is_refused(resnet18) -> None:
    cut = {name: value for name, value in resnet18.items() if not name.startswith("layer4.1.conv2")}
    message = told(cut)
    assert "not torchvision/resnet18, to which it is nearest: it lacks 1 of its layers, first layer4.1.conv2" in message
    assert "The file is cut, or of a network that was changed" in message
    more = {**resnet18, "layer4.1.attention.weight": np.zeros((512, 512, 1, 1), "float32")}
    assert "it holds 1 tensors that it does not have, first layer4.1.attention.weight" in told(more)
    without = {name: value for name, value in resnet18.items() if name != "layer2.0.bn1.running_var"}
    with pytest.raises(WeightsError, match=r"lacks the tensor layer2\.0\.bn1\.running_var, which stage2_block1_bn1"):
        convert_backbone_tensors(without)
    biased = {**resnet18, "layer1.0.conv1.bias": np.zeros(64, "float32")}
    with pytest.raises(WeightsError, match=r"layers of resnet18 that have no such weight here, first layer1\.0\.conv1"):
        convert_backbone_tensors(biased)
    wrong = {**resnet18, "layer3.0.conv1.weight": np.zeros((256, 64, 3, 3), "float32")}
    with pytest.raises(WeightsError, match=r"layer3\.0\.conv1\.weight has shape \(256, 64, 3, 3\).*of another network"):
        convert_backbone_tensors(wrong)


def test_numbers_that_no_network_has_are_refused(resnet18) -> None:
    for name, value, words in (
        ("layer2.0.bn1.bias", np.full(128, np.nan, "float32"), "infinite numbers or NaN.*Take an earlier checkpoint"),
        ("conv1.weight", np.zeros(64, "float32"), r"has shape \(64,\), which no convolution of images has"),
        ("conv1.weight", np.zeros((64, 0, 7, 7), "float32"), "which no convolution of images has"),
    ):
        with pytest.raises(WeightsError, match=words):
            convert_backbone_tensors({**resnet18, name: value})
    tensors = originals.read("torchvision/vgg16_bn")[0]
    for value, words in (
        (np.full(64, -1, "float32"), "features.1.running_var holds variances below 0"),
        (np.ones(1, "float32"), r"features.1.running_var has shape \(1,\), block1_conv1 needs \(64,\)"),
    ):
        with pytest.raises(WeightsError, match=words):
            convert_backbone_tensors({**tensors, "features.1.running_var": value}, levels=("P1",))


def test_published_densenets_have_older_names() -> None:
    tensors = originals.read("timm/densenet121")[0]
    older = {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", name): value for name, value in tensors.items()}
    assert "features.denseblock1.denselayer2.norm.1.weight" in older
    rows = {row.ours: row.theirs for row in recognize(older, None, "f.pth").rows}
    assert rows["conv2_block2_0_bn"] == "features.denseblock1.denselayer2.norm.1"


@pytest.mark.parametrize(
    ("tensor", "shape", "words"),
    [
        ("layer1.0.conv2.weight", (128, 128, 3, 3), "a wide ResNet"),
        ("layer0.conv3.weight", (128, 64, 3, 3), "an SENet of 154 layers .*nearest .* is se_resnext101_32x4d"),
        ("layer3.5.se_module.fc1.weight", (16, 256, 1, 1), "an SE-ResNet of 18 or 34 layers"),
        (
            "conv1.0.weight",
            (32, 3, 3, 3),
            "three convolutions in its stem .*nearest .* is hub_resnet50_vd",
        ),
        ("features.0.conv.weight", (32, 3, 3, 3), "is of InceptionV4 .*nearest .* is inceptionv3"),
        (
            "layers.2.blocks.11.attn.relative_position_bias_table",
            (169, 12),
            "a Swin .*nearest .* hub_mit_b2",
        ),
        (
            "blocks.0.attn.qkv.weight",
            (1152, 384),
            "a vision transformer .ViT. of another size.*nearest .* hub_vit_base_16",
        ),
        ("layers.0.blocks.0.attn.qkv.weight", (288, 96), "f.pth holds 1 tensors.*of no network that is a backbone"),
    ],
)
def test_networks_that_segzoo_does_not_have_are_named(tensor, shape, words) -> None:
    assert re.search(words, told({tensor: np.zeros(shape, "float32")}))


def test_a_library_without_such_a_network_is_refused() -> None:
    with pytest.raises(SegzooError, match=r"compat: timm is not known of nasnet_mobile"):
        backbones.create("nasnet_mobile", weights="none", compat="timm")


def test_a_classifier_of_21k_classes_in_half_precision_becomes_a_weights_file(tmp_path, capsys, resnet18) -> None:
    """(The command prints and writes what `model.weights` loads, into the backbone of a whole model.)"""
    tensors = {f"module.{name}": value.astype("float16") for name, value in resnet18.items()}
    tensors["module.fc.weight"] = np.zeros((21843, 512), "float16")
    tensors["module.fc.bias"] = np.zeros(21843, "float16")
    (tmp_path / "r18.pth").write_bytes(torch_files.archive(*torch_files.pickled(tensors)))
    out = tmp_path / "r18.weights.h5"
    with pytest.raises(SystemExit) as stop:
        pixels = ["--mean", "120,121,122", "--std", "60,61,62.5"]
        main(["weights", "convert", str(tmp_path / "r18.pth"), "--out", str(out), *pixels])
    assert stop.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Its classifier of 21,843 classes is left out" in printed
    assert "It is torchvision/resnet18 or timm/resnet18 or smp/resnet18 by its tensors" in printed
    section = json.loads(printed[printed.index("model: ") + 7 :])
    assert section.pop("backbone") == "resnet18"
    assert (section["mean"], section["std"]) == ([120, 121, 122], [60, 61, 62.5])
    model = segzoo.build_model("fpn", "resnet18", 2, **section)
    kernel = np.asarray(model.get_layer("stage4_block2_conv2").kernel)
    np.testing.assert_array_equal(kernel, resnet18["layer4.1.conv2.weight"].astype("float16").transpose(2, 3, 1, 0))
    assert all(name.startswith(("decoder/", "head/")) for name in model.weights_report.missing)


@pytest.mark.parametrize(
    ("data", "arguments", "words"),
    [
        (b"PK\3\4 cut", (), "is no whole file of torch.save"),
        (None, ("--as", "resnet99"), "Unknown network that is a backbone here 'resnet99'"),
        (None, ("--as", "resnet50"), "is not torchvision/resnet50: it lacks"),
        (None, ("--as", "resnet18", "--encoder", "resnet18"), "leave those of the other kind out"),
        (None, ("--mean", "a,b"), "--mean must be a number for each channel"),
    ],
)
def test_the_command_writes_nothing_where_it_refuses(tmp_path, capsys, resnet18, data, arguments, words) -> None:
    whole = torch_files.archive(*torch_files.pickled({name: resnet18[name] for name in list(resnet18)[:9]}))
    (tmp_path / "r18.pth").write_bytes(whole if data is None else data)
    with pytest.raises(SystemExit) as stop:
        main(["weights", "convert", str(tmp_path / "r18.pth"), "--out", str(tmp_path / "o.weights.h5"), *arguments])
    assert stop.value.code
    assert words in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["r18.pth"]


def test_weights_of_another_convention_are_refused(tmp_path) -> None:
    tensors = originals.read("timm/efficientnet_lite0")[0]
    found = convert_backbone_tensors(tensors, "timm/efficientnet_lite0", levels=("P1", "P2"))
    assert (found.settings["compat"], found.settings["mean"]) == ("timm", [123.675, 116.28, 103.53])
    save_file(found.model, tmp_path / "lite.weights.h5")
    options = {key: value for key, value in found.settings.items() if key not in ("backbone", "compat")}
    with pytest.raises(WeightsError, match=r"computes something else.*compat 'timm' there and None here"):
        backbones.create("efficientnet_lite0", weights=tmp_path / "lite.weights.h5", levels=("P1",), **options)


def test_a_folder_of_timm_says_which_network_it_is(tmp_path) -> None:
    assert named_by({"architecture": "tf_efficientnet_b0", "num_classes": 10}) == "timm/tf_efficientnet_b0"
    assert named_by({"encoder_name": "resnet18"}) is None
    assert named_by(None) is None
    described = {"pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.25, 0.5]}}
    assert pixels_by(described) == {"mean": [127.5] * 3, "std": [127.5, 63.75, 127.5]}
    assert pixels_by({"pretrained_cfg": {"mean": "half", "std": [1.0]}}) == pixels_by(None) == {}


@pytest.mark.peers
@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_a_folder_of_safetensors_is_read(tmp_path, kind) -> None:
    torch = pytest.importorskip("torch")
    save = pytest.importorskip("safetensors.torch").save_file
    tensors = originals.read("timm/tf_efficientnet_lite0")[0]
    halves = {name: torch.from_numpy(value).to(getattr(torch, kind)) for name, value in tensors.items()}
    save(halves, tmp_path / "model.safetensors")
    described = {"architecture": "tf_efficientnet_lite0", "pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [1, 1, 1]}}
    (tmp_path / "config.json").write_text(json.dumps(described))
    found = convert(tmp_path)
    assert found.settings == {"backbone": "efficientnet_lite0", "mean": [127.5] * 3, "std": [255] * 3}
    kernel = halves["conv_stem.weight"].float().numpy().transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(found.model.get_layer("stem_conv").kernel, kernel)


def test_pixels_that_are_given_are_those_of_the_backbone(resnet18) -> None:
    pixels = {"mean": [1.0, 2.0, 3.0], "std": [4.0, 5.0, 6.0]}
    found = convert_backbone_tensors(resnet18, levels=("P1",), pixels=pixels)
    assert found.settings == {"backbone": "resnet18", **pixels}
    assert found.model.get_layer("preprocessing").get_config()["std"] == [4.0, 5.0, 6.0]
    with pytest.raises(SegzooError, match="mean and std are given together"):
        convert_backbone_tensors(resnet18, levels=("P1",), pixels={"mean": [1.0, 2.0, 3.0], "std": None})


def test_features_alone_and_other_channels_are_taken() -> None:
    tensors = originals.read("timm/tf_efficientnet_lite0")[0]
    bare = {name: value for name, value in tensors.items() if not name.startswith(("conv_head", "bn2", "classifier"))}
    bare["conv_stem.weight"] = np.concatenate([bare["conv_stem.weight"], bare["conv_stem.weight"][:, :1]], axis=1)
    found = convert_backbone_tensors(bare, "tf_efficientnet_lite0", levels=("P1",))
    assert found.settings == {
        "backbone": "efficientnet_lite0",
        "taps": "output",
        "input_channels": 4,
        "mean": [127.5] * 4,
        "std": [127.5] * 4,
    }
    assert "normalised as red, green and blue in turn" in found.note
    assert found.model.input.shape[-1] == 4


@pytest.mark.parametrize("size", range(5))
def test_lite_networks_of_smp_want_the_pixels_of_the_weights_that_they_were_given(size: int) -> None:
    """SMP's `timm-tf_efficientnet_lite*` are padded as timm's own, with weights that timm made for -1 to 1."""
    found = {name: source for source in SOURCES for name in source.names}
    theirs = found[f"smp/timm-tf_efficientnet_lite{size}"]
    assert theirs.compat == found[f"timm/efficientnet_lite{size}"].compat == "timm"
    assert theirs.pixels(3) == {"mean": [127.5] * 3, "std": [127.5] * 3}
