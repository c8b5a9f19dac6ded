"""Specification of a backbone variant: its taps, its preprocessing and the source of its network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from segzoo.compat import OF_BACKBONES, SMP
from segzoo.errors import SegzooError, check_is_name, unknown_name
from segzoo.levels import MADE, TOKENS, levels_at
from segzoo.registry import find

# The rate of stochastic depth at the deepest block of a reference network, which the option `drop_path` scales.
REFERENCE_DROP_PATH = 0.2


@dataclass(frozen=True)
class Tap:
    """Tap: layer whose output is a feature of the backbone.

    Attributes:
        layer: name of the layer in the reference network.
        stride: input pixels per feature pixel; 0 for tokens without a place.
        channels: channels of the feature map.
        level: "P1" to "P5" if the tap provides that level, or "T1" to "T4" and "T1_prefix" to "T4_prefix" for tokens;
            None if it is only documented.
        reason: description of the tap in the terms of the paper.
    """

    layer: str
    stride: int
    channels: int
    level: str | None
    reason: str


@dataclass(frozen=True)
class Pixels:
    """Pixel normalisation of a network: `(x * scale - mean) / std` for x in 0..255.

    Attributes:
        scale: factor applied to pixel values.
        mean: mean of red, green and blue, in scaled units.
        std: standard deviation of red, green and blue, in scaled units.
        bgr: whether the published weights expect blue, green, red. The backbone expects RGB in any case: the input
            channels of the first kernel are reversed when such weights are loaded.
    """

    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool = False


# The ways in which ImageNet weights want their pixels: "torch", "tf" and "caffe" of keras.applications, and keras-cv's.
STANDARDIZED = Pixels(1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
RESCALED = Pixels(1 / 255, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
CENTERED = Pixels(1 / 127.5, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0))
MEAN_SUBTRACTED = Pixels(1.0, (123.68, 116.779, 103.939), (1.0, 1.0, 1.0), bgr=True)


@dataclass(frozen=True)
class Convention:
    """Differences of another library's network of the same weights, which a word of `compat` stands for.

    Attributes:
        pads_both_sides: strided kernels pad both sides by half their size, kernels of an even size nothing, so that
            sizes are rounded down where these stride; what PyTorch does unless it is told otherwise.
        epsilon: of batch normalisation; None: as here.
        layer_epsilons: beginning of the name of a layer normalisation to its epsilon.
        exact_gelu: GELU is the exact one where it is the approximation by tanh here.
        dilates_strided: where a stride is replaced by dilation, the strided kernel is dilated too; otherwise those
            after it are.
        scales: batch normalisation has a factor where Keras's network has none.
        averages_padding: average pooling counts the zeros that it pads.
    """

    pads_both_sides: bool = False
    epsilon: float | None = None
    layer_epsilons: Mapping[str, float] = field(default_factory=dict)
    exact_gelu: bool = False
    dilates_strided: bool = False
    scales: bool = False
    averages_padding: bool = False


@dataclass(frozen=True)
class Variant:
    """Backbone variant.

    Attributes:
        name: public name.
        constructor: name of the constructor in keras.applications, or "module:table[key]" for one of segzoo.
        family: module in keras.applications, such as "efficientnet_v2", or a name defined by segzoo.
        pixels: preprocessing of the pretrained weights.
        tables: kind of taps to its table, the default kind first.
        centred_strides: whether strided layers are padded symmetrically, as in PyTorch, so that output i is centred on
            input 2i. Otherwise padding is TensorFlow's "same", and output i is centred on input 2i + 1 at even sizes.
        undilated: reason why strides cannot be replaced by dilation; empty if they can.
        published: whether pretrained weights exist in keras.applications, `presets` or the packages of `weights_extra`.
        image_size: height and width that an EfficientNet was scaled for; 0 for others.
        smp_fourth: layer that segmentation_models.pytorch uses for P4 instead of the last at stride 16; empty if none.
        weights_extra: extra of segzoo that installs the published weights; empty if there is none.
        package: package that builds the network, also the name of segzoo's extra; empty for Keras itself.
        presets: names of the package's pretrained weights; `weights: imagenet` selects the first.
        pads_nothing: whether the reference network has unpadded layers, so that its feature maps are a few rows and
            columns smaller than the image divided by the stride; the backbone has "same" padding instead.
        first_stride: stride of the finest features: 2, or 4 if the stem has stride 4 and there is no P1.
        conventions: values of `compat` and what they change. Other values change no layer; the name of a library for
            which no such network is known is refused.
        patch: side of a patch of a plain vision transformer, whose taps are tokens; 0 for a pyramid.
        quirk: remark on peculiarities of the features, in prose; empty if there are none.
    """

    name: str
    constructor: str
    family: str
    pixels: Pixels
    tables: Mapping[str, tuple[Tap, ...]]
    centred_strides: bool = False
    undilated: str = ""
    published: bool = True
    image_size: int = 0
    smp_fourth: str = ""
    weights_extra: str = ""
    package: str = ""
    presets: tuple[str, ...] = ()
    pads_nothing: bool = False
    first_stride: int = 2
    conventions: Mapping[str, Convention] = field(default_factory=dict)
    patch: int = 0
    quirk: str = ""

    def beside(self, name: str) -> Any:
        """Return what segzoo's own family of this variant, the module of `constructor`, defines under a name."""
        return find(f"{self.constructor.partition(':')[0]}:{name}")

    def convention(self, compat: str | None) -> Convention:
        """Return what a word of `compat` changes; SegzooError for a library without such a network."""
        if compat in OF_BACKBONES and compat not in self.conventions:
            known = ", ".join(word for word in OF_BACKBONES if word in self.conventions) or "no library's"
            raise SegzooError(
                f"compat: {compat} is not known of {self.name}, {known} is. Leave it out, or take another backbone: "
                "docs/checkpoints.md lists what each library has."
            )
        return self.conventions.get(compat or "", Convention())

    def default_taps(self, compat: str | None) -> str | None:
        """Return the default kind of taps: segmentation_models.pytorch's with "smp", else the family's (None)."""
        return next((kind for kind in ("smp", "output") if kind in self.tables), None) if compat == SMP else None

    def tap_table(self, kind: str | None = None) -> tuple[Tap, ...]:
        """Return the table of the given kind, or of the default kind; UnknownNameError lists the kinds."""
        if kind is None:
            kind = next(iter(self.tables))
        check_is_name(f"kind of taps of {self.name}", kind, next(iter(self.tables)))
        if kind not in self.tables:
            raise unknown_name(f"kind of taps of {self.name}", kind, self.tables)
        return self.tables[kind]

    def levels(self, kind: str | None = None, output_stride: int = 32) -> dict[str, Tap]:
        """Map levels to taps; with output stride 16 or 8 the deepest tap serves P4 or P3, and the levels end there.

        Of a plain vision transformer they are tokens; `inner_levels` has the pyramid.

        Raises:
            SegzooError: an output stride other than 8, 16 and 32, or one that the network does not support.
        """
        *upper, last = levels_at(output_stride)
        if output_stride < 32 and self.undilated:
            raise SegzooError(f"{self.name} has output stride 32 only, not {output_stride}: {self.undilated}")
        if self.patch:
            return {tap.level: tap for tap in self.tap_table(kind) if tap.level}
        table = {tap.level: tap for tap in self.tap_table(kind) if tap.level}
        return {**{level: table[level] for level in upper if level in table}, last: table["P5"]}

    def inner_levels(self, kind: str | None = None, output_stride: int = 32) -> dict[str, Tap]:
        """Map optional features to taps.

        At output stride 16 "C4", which is the network's P4 at stride 32; of a plain vision transformer the levels that
        `segzoo.layers.SimplePyramid` makes of its last tokens.
        """
        if self.patch:
            tokens = self.levels(kind, output_stride)[TOKENS[-1]]
            return {level: replace(tokens, level=level, stride=2 ** int(level[1:])) for level in MADE}
        table = {tap.level: tap for tap in self.tap_table(kind) if tap.level}
        return {"C4": table["P4"]} if output_stride == 16 and "P4" in table else {}


def tap_table(*rows: str) -> tuple[Tap, ...]:
    """Parse taps from rows "level layer channels description"; level "-" at stride 1 serves none."""
    taps = []
    for row in rows:
        level, layer, channels, reason = row.split(maxsplit=3)
        stride = 1 if level == "-" else 2 ** int(level[1:])
        taps.append(Tap(layer, stride, int(channels), None if level == "-" else level, reason))
    return tuple(taps)
