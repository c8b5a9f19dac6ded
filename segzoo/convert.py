"""Checkpoints of segmentation_models.pytorch as weights of segzoo models.

U-Net, FPN, DeepLabV3+ and PSPNet on ResNet and EfficientNet encoders. Tensors are read without running code: from
safetensors, or a state dict through PyTorch's `weights_only=True`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segzoo.errors import WeightsError
from segzoo.extras import install_command

if TYPE_CHECKING:
    import keras

Tensors = Mapping[str, np.ndarray]
# Their prefix of a layer to ours, and what kind of layer it is.
Row = tuple[str, str, str]

_ENCODERS = {
    "resnet18": "resnet18",
    "resnet34": "resnet34",
    "resnet50": "resnet50_v1b",
    "resnet101": "resnet101_v1b",
    "resnet152": "resnet152_v1b",
    **{f"efficientnet-b{size}": f"efficientnet_b{size}" for size in range(8)},
}
_DECODERS = {"Unet": "unet", "FPN": "fpn", "DeepLabV3Plus": "deeplabv3plus", "PSPNet": "pspnet"}


@dataclass
class Conversion:
    """What was made of a checkpoint.

    Attributes:
        model: the model with the checkpoint's weights.
        settings: the `model` section of a configuration that builds it.
        unused: tensors of the checkpoint that no layer takes: those behind the last feature in use.
    """

    model: keras.Model
    settings: dict[str, Any]
    unused: list[str] = field(default_factory=list)


def convert(checkpoint: str | Path, encoder: str | None = None) -> Conversion:
    """Build the segzoo model of a checkpoint of segmentation_models.pytorch, with its weights.

    Logits agree with the original's for images whose sides are multiples of 32. Pixels are 0..255 here, and normalised
    by ImageNet's mean and standard deviation inside, as the original's encoders want them.

    Args:
        checkpoint: a folder as `save_pretrained` writes it, a `.safetensors` file, or a state dict saved by
            `torch.save`, for which PyTorch must be installed.
        encoder: the original's `encoder_name`, such as "resnet34"; a folder says it itself.

    Raises:
        WeightsError: a file that cannot be read, or a network that segzoo has no counterpart of.
    """
    path = Path(checkpoint)
    tensors, described = _read(path)
    encoder = encoder or described.get("encoder_name")
    if encoder is None:
        raise WeightsError(f"{path} does not say which encoder it is for; name it by --encoder, such as resnet34.")
    if encoder not in _ENCODERS:
        raise WeightsError(f"Encoder {encoder!r} has no counterpart here. Known: {', '.join(_ENCODERS)}.")
    decoder = _decoder(tensors, path)
    settings = _settings(decoder, _ENCODERS[encoder], tensors)
    model = _build(settings, tensors)
    rows = [*_encoder_rows(model, encoder, tensors), *_DECODER_ROWS[decoder](tensors), _HEAD]
    return Conversion(model, settings, _assign(model, rows, tensors, path))


def _read(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """Tensors of a checkpoint, and what its folder says of it."""
    described: dict[str, Any] = {}
    if path.is_dir():
        if (path / "config.json").is_file():
            described = json.loads((path / "config.json").read_text(encoding="utf-8"))
        path = path / "model.safetensors"
    if not path.is_file():
        raise WeightsError(f"There is no checkpoint {path}.")
    if path.suffix == ".safetensors":
        return _read_safetensors(path), described
    return _read_state_dict(path), described


def _read_safetensors(path: Path) -> Tensors:
    try:
        from safetensors.numpy import load_file
    except ImportError as error:
        raise WeightsError(f"Reading safetensors needs the package: {install_command('convert')}.") from error
    try:
        return load_file(path)
    except Exception as error:  # its own SafetensorError, or what the system says
        raise WeightsError(f"{path} is not a whole safetensors file: {error}") from error


def _read_state_dict(path: Path) -> Tensors:
    try:
        import torch
    except ImportError as error:
        raise WeightsError(
            f"{path} is a PyTorch file, which needs PyTorch to be read: pip install torch, or save it as safetensors."
        ) from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(
            f"{path} cannot be read as weights alone ({reason}). Whole pickled models can run code when read; save "
            "model.state_dict() instead."
        ) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(f"{path} holds no state dict of tensors; save model.state_dict().")
    # Lightning and DataParallel put a word of theirs before each name.
    prefix = re.compile(r"^(module|model)\.")
    return {prefix.sub("", name): value.float().numpy() for name, value in state.items()}


def _decoder(tensors: Tensors, path: Path) -> str:
    signs = {
        "unet": "decoder.blocks.0.conv1.0.weight",
        "fpn": "decoder.seg_blocks.0.block.0.block.0.weight",
        "deeplabv3plus": "decoder.aspp.0.convs.0.0.weight",
        "pspnet": "decoder.psp.blocks.0.pool.1.0.weight",
    }
    for name, sign in signs.items():
        if sign in tensors:
            return name
    raise WeightsError(f"{path} is none of {', '.join(_DECODERS)} of segmentation_models.pytorch.")


def _settings(decoder: str, backbone: str, tensors: Tensors) -> dict[str, Any]:
    """The `model` section that describes the checkpoint's network."""
    settings: dict[str, Any] = {"decoder": decoder, "backbone": backbone, "taps": "output"}
    if decoder == "unet":
        if "decoder.center.0.0.weight" in tensors or any("attention" in name for name in tensors):
            raise WeightsError("A U-Net with a center block or attention has no counterpart here.")
        widths = [int(kernel.shape[0]) for kernel in _in_turn(tensors, "decoder.blocks.{}.conv2.0.weight")]
        options: dict[str, Any] = {"channels": widths, "depth": len(widths)}
    elif decoder == "fpn":
        levels = sum(1 for _ in _in_turn(tensors, "decoder.seg_blocks.{}.block.0.block.0.weight"))
        if levels != 4:
            raise WeightsError(f"Only FPN of encoder depth 5 has a counterpart here; this one has {levels} levels.")
        branch, pyramid = tensors["decoder.seg_blocks.0.block.0.block.0.weight"].shape[:2]
        head = tensors["segmentation_head.0.weight"].shape[1]
        options = {"pyramid_channels": int(pyramid), "segmentation_channels": int(branch), "align_corners": True}
        options["merge"] = "add" if head == branch else "concat"
    elif decoder == "deeplabv3plus":
        settings["output_stride"] = 16
        options = {
            "channels": int(tensors["decoder.aspp.0.convs.0.0.weight"].shape[0]),
            "low_level_channels": int(tensors["decoder.block1.0.weight"].shape[0]),
            "rates": [12, 24, 36],
            "align_corners": True,
        }
    else:
        channels = int(tensors["decoder.conv.0.weight"].shape[0])
        settings["output_stride"] = 32
        options = {"channels": channels, "depth": 3, "align_corners": True}
    settings["imitate"] = "smp"
    return {**settings, "options": options}


def _build(settings: dict[str, Any], tensors: Tensors) -> keras.Model:
    from segzoo.model import build_model

    named = {key: value for key, value in settings.items() if key not in ("decoder", "backbone", "options")}
    first = "encoder.conv1.weight" if "encoder.conv1.weight" in tensors else "encoder._conv_stem.weight"
    if first not in tensors:
        raise WeightsError("The checkpoint holds no encoder of a kind that is known here.")
    return build_model(
        settings["decoder"],
        settings["backbone"],
        int(tensors["segmentation_head.0.weight"].shape[0]),
        weights="none",
        input_channels=int(tensors[first].shape[1]),
        **named,
        **settings["options"],
    )


def _in_turn(tensors: Tensors, pattern: str) -> Iterator[np.ndarray]:
    """Tensors of this name with numbers from 0 on."""
    number = 0
    while pattern.format(number) in tensors:
        yield tensors[pattern.format(number)]
        number += 1


_HEAD: Row = ("segmentation_head.0", "head/conv", "conv")


def _encoder_rows(model: keras.Model, encoder: str, tensors: Tensors) -> list[Row]:
    names = {layer.name for layer in model.layers}
    rows = _resnet_rows(tensors) if encoder.startswith("resnet") else _efficientnet_rows(names)
    return [row for row in rows if row[1] in names]


def _resnet_rows(tensors: Tensors) -> list[Row]:
    rows: list[Row] = [("encoder.conv1", "stem_conv", "conv"), ("encoder.bn1", "stem_bn", "norm")]
    for name in tensors:
        found = re.fullmatch(r"encoder\.layer(\d)\.(\d+)\.(conv(\d)|downsample\.0)\.weight", name)
        if found:
            stage, block, part, number = found[1], int(found[2]) + 1, found[3], found[4]
            theirs, ours = f"encoder.layer{stage}.{found[2]}", f"stage{stage}_block{block}"
            norm = f"bn{number}" if number else "downsample.1"
            rows.append((f"{theirs}.{part}", f"{ours}_conv{number or '_shortcut'}", "conv"))
            rows.append((f"{theirs}.{norm}", f"{ours}_bn{number or '_shortcut'}", "norm"))
    return rows


def _efficientnet_rows(names: set[str]) -> list[Row]:
    rows: list[Row] = [("encoder._conv_stem", "stem_conv", "conv"), ("encoder._bn0", "stem_bn", "norm")]
    blocks = sorted({match[1] for name in names if (match := re.match(r"(block\d+[a-z])_", name))})
    for number, block in enumerate(blocks):
        theirs = f"encoder._blocks.{number}"
        rows += [
            (f"{theirs}._expand_conv", f"{block}_expand_conv", "conv"),
            # The first block has no expansion, and names its norms as the others do theirs.
            (f"{theirs}._bn0", f"{block}_expand_bn", "norm"),
            (f"{theirs}._depthwise_conv", f"{block}_dwconv", "depthwise"),
            (f"{theirs}._bn1", f"{block}_bn", "norm"),
            (f"{theirs}._se_reduce", f"{block}_se_reduce", "conv"),
            (f"{theirs}._se_expand", f"{block}_se_expand", "conv"),
            (f"{theirs}._project_conv", f"{block}_project_conv", "conv"),
            (f"{theirs}._bn2", f"{block}_project_bn", "norm"),
        ]
    return rows


def _block(theirs: str, ours: str, norm: str = "1") -> list[Row]:
    """Rows of a convolution and its normalisation, which a Sequential numbers."""
    stem = theirs.rpartition(".")[0]
    return [(theirs, f"decoder/{ours}/conv", "conv"), (f"{stem}.{norm}", f"decoder/{ours}/norm", "norm")]


def _separable(theirs: str, ours: str, norm: str) -> list[Row]:
    return [
        (f"{theirs}.0", f"decoder/{ours}/depthwise", "depthwise"),
        (f"{theirs}.1", f"decoder/{ours}/pointwise", "conv"),
        (norm, f"decoder/{ours}/norm", "norm"),
    ]


def _unet_rows(tensors: Tensors) -> list[Row]:
    rows: list[Row] = []
    for number, _ in enumerate(_in_turn(tensors, "decoder.blocks.{}.conv1.0.weight")):
        for conv in ("conv1", "conv2"):
            rows += _block(f"decoder.blocks.{number}.{conv}.0", f"block{number + 1}_{conv}")
    return rows


def _fpn_rows(tensors: Tensors) -> list[Row]:
    rows: list[Row] = [("decoder.p5", "decoder/lateral_P5", "conv")]
    rows += [(f"decoder.p{level}.skip_conv", f"decoder/lateral_P{level}", "conv") for level in (4, 3, 2)]
    for branch, level in enumerate((5, 4, 3, 2)):
        for number, _ in enumerate(_in_turn(tensors, f"decoder.seg_blocks.{branch}.block.{{}}.block.0.weight")):
            rows += _block(f"decoder.seg_blocks.{branch}.block.{number}.block.0", f"branch_P{level}_conv{number + 1}")
    return rows


def _deeplabv3plus_rows(tensors: Tensors) -> list[Row]:
    aspp = "decoder.aspp.0"
    rows = _block(f"{aspp}.convs.0.0", "aspp/branch_1x1")
    for number, rate in enumerate((12, 24, 36), 1):
        rows += _separable(f"{aspp}.convs.{number}.0", f"aspp/branch_rate{rate}", f"{aspp}.convs.{number}.1")
    rows += _block(f"{aspp}.convs.4.1", "aspp/branch_pooled", norm="2")
    rows += _block(f"{aspp}.project.0", "aspp/project")
    rows += _separable("decoder.aspp.1", "after_aspp", "decoder.aspp.2")
    rows += _block("decoder.block1.0", "low_level")
    return rows + _separable("decoder.block2.0", "fuse", "decoder.block2.1")


def _pspnet_rows(tensors: Tensors) -> list[Row]:
    rows: list[Row] = []
    for number, bins in enumerate((1, 2, 3, 6)):
        block = _block(f"decoder.psp.blocks.{number}.pool.1.0", f"pyramid/bins{bins}")
        rows += block if bins > 1 else block[:1]  # one field has no normalisation
    (conv, ours, _), norm = _block("decoder.conv.0", "conv")
    return [*rows, (conv, ours, "behind"), norm]


_DECODER_ROWS = {
    "unet": _unet_rows,
    "fpn": _fpn_rows,
    "deeplabv3plus": _deeplabv3plus_rows,
    "pspnet": _pspnet_rows,
}
_PARTS = {
    "conv": {"weight": "kernel", "bias": "bias"},
    "behind": {"weight": "kernel", "bias": "bias"},
    "depthwise": {"weight": "kernel"},
    "norm": {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"},
}


def _assign(model: keras.Model, rows: list[Row], tensors: Tensors, path: Path) -> list[str]:
    """Give every weight of the model its tensor; returns the tensors left over."""
    variables = {weight.path: weight for weight in model.weights if "seed_generator" not in weight.path}
    missing, used = dict(variables), set()
    for theirs, ours, kind in rows:
        for part, own in _PARTS[kind].items():
            variable = variables.get(f"{ours}/{own}")
            if variable is None:
                continue
            name = f"{theirs}.{part}"
            if name not in tensors:
                raise WeightsError(f"{path} lacks the tensor {name}, which {ours} needs.")
            value = _in_order(tensors[name], kind)
            if value.shape != tuple(variable.shape):
                raise WeightsError(
                    f"{path}: {name} has shape {tensors[name].shape}, {ours} needs {tuple(variable.shape)}."
                )
            variable.assign(value)
            used.add(name)
            del missing[variable.path]
    if missing:
        raise WeightsError(f"{path} holds nothing for {len(missing)} weights, first {next(iter(missing))}.")
    return [name for name in tensors if name not in used and not name.endswith("num_batches_tracked")]


def _in_order(value: np.ndarray, kind: str) -> np.ndarray:
    """A tensor in Keras's order of axes."""
    if value.ndim != 4:
        return value
    if kind == "behind":
        # PSPNet's map lies behind its four pooled branches there, each of a quarter of its channels, here before them.
        value = np.roll(value, value.shape[1] // 2, axis=1)
    return value.transpose(2, 3, 0, 1) if kind == "depthwise" else value.transpose(2, 3, 1, 0)
