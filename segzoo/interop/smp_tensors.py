"""Mapping of the tensors of segmentation_models.pytorch's networks to the weights of a segzoo model."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from segzoo.compat import SMP_TIMM
from segzoo.errors import WeightsError
from segzoo.interop import rows as by_rows
from segzoo.interop.backbones import efficientnet, mobilenet, resnet, vit
from segzoo.interop.backbones.source import Source
from segzoo.interop.backbones.table import SOURCES
from segzoo.interop.checkpoint import Tensors
from segzoo.interop.rows import Row, under
from segzoo.interop.smp_architectures import Architecture
from segzoo.interop.smp_keys import numbered

if TYPE_CHECKING:
    import keras


class Encoder(NamedTuple):
    """Encoder of SMP.

    Attributes:
        prefix: what the names of its tensors begin with.
        sources: the networks that it may be, by their names.
        taps: kinds of taps in order of preference.
        as_smp: True if `compat: smp` says how it computes; False if the source's own word does.
        dilated: word of `compat` at output stride 8 and 16, where it is another than the source's; else empty.
    """

    prefix: str
    sources: Sequence[Source]
    taps: tuple[str, ...] = ("smp", "output")
    as_smp: bool = True
    dilated: str = ""


def _named(
    library: str, prefix: str, begin: str, sources: Sequence[Source], **more: Any
) -> Iterator[tuple[str, Encoder]]:
    """Yield the encoders that are a library's networks: `begin` and its name, and the encoder."""
    for name in dict.fromkeys(name for source in sources for name in source.names if name.startswith(library)):
        found = [source for source in sources if name in source.names]
        yield begin + name.removeprefix(library), Encoder(prefix, found, **more)


# timm's networks whose tensors keep their names in its feature extractor. It flattens the names of others.
_OF_TIMM = (*resnet.SOURCES, *efficientnet.SOURCES, *mobilenet.SOURCES)
_VITS = [source for source in vit.SOURCES if source.name.startswith("timm/")]
_WRAPPED = dict(_named("timm/", "encoder.model.", "tu-", _OF_TIMM, taps=("timm", "output"), as_smp=False))
# Those that whole networks are converted with: SMP's own, timm's that SMP took over under `timm-`, and those that it
# wraps under `tu-`. The latter two compute as in timm, whatever the decoder does.
ENCODERS: Mapping[str, Encoder] = dict(
    (
        *((name, its) for name, its in _named("smp/", "encoder.", "", SOURCES) if not name.startswith("timm-")),
        *_named(
            "smp/timm-",
            "encoder.",
            "timm-",
            SOURCES,
            as_smp=False,
            dilated=SMP_TIMM,
        ),
        *_WRAPPED.items(),
        *_named("timm/", "encoder.model.", "tu-", _VITS, taps=(), as_smp=False),
        # SMP builds the wrapped ones under these former names.
        *((f"timm-mobilenetv3_{size}_100", _WRAPPED[f"tu-tf_mobilenetv3_{size}_100"]) for size in ("small", "large")),
    )
)


def source_of(encoder: str, tensors: Tensors, origin: str) -> Source:
    """Return the network of an encoder with its tensors' names in the whole network.

    Args:
        encoder: their name of it.
        tensors: state dict of the whole network.
        origin: name of the checkpoint, for messages.

    Raises:
        WeightsError: the tensors are of another encoder.
    """
    known = ENCODERS[encoder]
    prefix, theirs = known.prefix, _under(known.prefix, tensors)
    found = next(
        (source for source in known.sources if source.fits(theirs) or _ends_early(known, source, theirs)), None
    )
    if found is None:
        others = " or ".join(fitting(tensors)) or "no other"
        raise WeightsError(f"{origin} does not hold the encoder {encoder}: its blocks are those of {others}.")
    return replace(
        found,
        rows=tuple(under(prefix, found.rows)),
        top=tuple(under(prefix, found.top)),
        left=tuple(f"{prefix}{begin}" for begin in found.left),
    )


def fitting(tensors: Tensors) -> list[str]:
    """Return the names of the encoders that the tensors of a whole network may be of."""
    return [
        name
        for name, encoder in ENCODERS.items()
        if any(source.fits(_under(encoder.prefix, tensors)) for source in encoder.sources)
    ]


def _ends_early(encoder: Encoder, source: Source, tensors: Tensors) -> bool:
    """Return True if the tensors are the network's first ones: timm drops the stages behind the last feature."""
    if encoder.as_smp:
        return False
    first = tuple(itertools.takewhile(lambda row: all(name in tensors for name in row.tensors), source.rows))
    return bool(first) and replace(source, rows=first).fits(tensors)


def _under(prefix: str, tensors: Tensors) -> Tensors:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def encoder_rows(model: keras.Model, source: Source) -> list[Row]:
    """Return the rows of the layers that the model's backbone has."""
    names = {layer.name for layer in model.layers}
    return [row for row in (*source.rows, *source.top) if row.ours.partition("/")[0] in names]


def _block(theirs: str, ours: str, norm: str = "1", inputs: tuple[tuple[int, int], ...] = ()) -> list[Row]:
    """Return the rows of a convolution and its normalisation, which a Sequential numbers."""
    stem = theirs.rpartition(".")[0]
    return [Row(theirs, f"decoder/{ours}/conv", inputs=inputs), Row(f"{stem}.{norm}", f"decoder/{ours}/norm", "norm")]


def _separable(theirs: str, ours: str, norm: str) -> list[Row]:
    return [
        Row(f"{theirs}.0", f"decoder/{ours}/depthwise", "depthwise"),
        Row(f"{theirs}.1", f"decoder/{ours}/pointwise"),
        Row(norm, f"decoder/{ours}/norm", "norm"),
    ]


def _squeeze(theirs: str, ours: str) -> list[Row]:
    """Return the rows of a squeeze-and-excitation block."""
    return [Row(f"{theirs}.1", f"decoder/{ours}/squeeze"), Row(f"{theirs}.3", f"decoder/{ours}/excite")]


def _scse(theirs: str, ours: str, inputs: tuple[tuple[int, int], ...] = ()) -> list[Row]:
    """Return the rows of a concurrent spatial and channel attention block (scSE)."""
    attention = f"{theirs}.attention"
    return [
        Row(f"{attention}.cSE.1", f"decoder/{ours}/channels/squeeze", inputs=inputs),
        Row(f"{attention}.cSE.3", f"decoder/{ours}/channels/excite", "excite", inputs),
        Row(f"{attention}.sSE.0", f"decoder/{ours}/pixels", inputs=inputs),
    ]


def _unet_rows(tensors: Tensors, options: Mapping[str, Any]) -> Iterator[Row]:
    for place in (0, 1):  # behind VGG
        yield from _block(f"decoder.center.{place}.0", f"center_conv{place + 1}")
    for number, _ in enumerate(numbered(tensors, "decoder.blocks.{}.conv1.0.weight"), 1):
        theirs, ours = f"decoder.blocks.{number - 1}", f"block{number}"
        for step in ("1", "2"):
            yield from _block(f"{theirs}.conv{step}.0", f"{ours}_conv{step}")
            yield from _scse(f"{theirs}.attention{step}", f"{ours}_attention{step}")


def _unetplusplus_rows(tensors: Tensors, options: Mapping[str, Any]) -> Iterator[Row]:
    deepest = len(list(numbered(tensors, "decoder.blocks.x_0_{}.conv1.0.weight")))
    for name in tensors:
        found = re.fullmatch(r"decoder\.blocks\.x_(\d+)_(\d+)\.conv1\.0\.weight", name)
        if not found:
            continue
        first, last = int(found[1]), int(found[2])
        theirs = f"decoder.blocks.x_{first}_{last}"
        level, column = deepest - 1 - last, last - first + 1
        ours = f"node_{level}_{column}" if level else "last"
        inputs = _nested_inputs(tensors, theirs, column) if level else ()
        yield from _block(f"{theirs}.conv1.0", f"{ours}_conv1", inputs=inputs)
        yield from _block(f"{theirs}.conv2.0", f"{ours}_conv2")
        if level:
            yield from _scse(f"{theirs}.attention1", f"{ours}_attention1", inputs)
        yield from _scse(f"{theirs}.attention2", f"{ours}_attention2")


def _nested_inputs(tensors: Tensors, theirs: str, column: int) -> tuple[tuple[int, int], ...]:
    """Input channels of a node, whose skips lie there from the last column to the encoder's, here the other way."""
    channels = int(tensors[f"{theirs}.conv1.0.weight"].shape[1])
    first, last = re.findall(r"\d+", theirs)
    # The skips are as wide as the encoder's feature at their level, which is what the level's other nodes have, too.
    deeper = int(tensors[f"decoder.blocks.x_{first}_{int(last) - 1}.conv2.0.weight"].shape[0]) if column > 1 else None
    if deeper is None:
        return ()
    width = (channels - deeper) // column
    ends = [channels - width * step for step in range(column)]
    return ((0, deeper), *((end - width, end) for end in ends))


def _manet_rows(tensors: Tensors, options: Mapping[str, Any]) -> Iterator[Row]:
    for theirs, ours in {"top": "key", "center": "query", "bottom": "value", "out": "project"}.items():
        yield Row(f"decoder.center.{theirs}_conv", f"decoder/center/{ours}")
    for number, _ in enumerate(numbered(tensors, "decoder.blocks.{}.conv1.0.weight"), 1):
        theirs, ours = f"decoder.blocks.{number - 1}", f"block{number}"
        for step in (1, 2):
            yield from _block(f"{theirs}.hl_conv.{step - 1}.0", f"{ours}_reduce{step}")
            yield from _block(f"{theirs}.conv{step}.0", f"{ours}_conv{step}")
        yield from _squeeze(f"{theirs}.SE_hl", f"{ours}_map_weights")
        yield from _squeeze(f"{theirs}.SE_ll", f"{ours}_skip_weights")


def _linknet_rows(tensors: Tensors, options: Mapping[str, Any]) -> Iterator[Row]:
    for number, _ in enumerate(numbered(tensors, "decoder.blocks.{}.block.0.0.weight"), 1):
        theirs, ours = f"decoder.blocks.{number - 1}.block", f"block{number}"
        yield from _block(f"{theirs}.0.0", f"{ours}_narrow")
        yield Row(f"{theirs}.1.0", f"decoder/{ours}_double")
        yield Row(f"{theirs}.1.1", f"decoder/{ours}_norm", "norm")
        yield from _block(f"{theirs}.2.0", f"{ours}_widen")


def _fpn_rows(tensors: Tensors, options: Mapping[str, Any]) -> Iterator[Row]:
    yield Row("decoder.p5", "decoder/lateral_P5")
    for level in (4, 3, 2):
        yield Row(f"decoder.p{level}.skip_conv", f"decoder/lateral_P{level}")
    for branch, level in enumerate((5, 4, 3, 2)):
        for number, _ in enumerate(numbered(tensors, f"decoder.seg_blocks.{branch}.block.{{}}.block.0.weight")):
            stem = f"decoder.seg_blocks.{branch}.block.{number}.block"
            yield from _block(f"{stem}.0", f"branch_P{level}_conv{number + 1}")


def _pspnet_rows(tensors: Tensors, options: Mapping[str, Any]) -> Iterator[Row]:
    for number, bins in enumerate((1, 2, 3, 6)):
        yield from _block(f"decoder.psp.blocks.{number}.pool.1.0", f"pyramid/bins{bins}")
    # The map lies behind its four pooled branches there, each of a quarter of its channels, here before them.
    channels = int(tensors["decoder.conv.0.weight"].shape[1])
    yield from _block("decoder.conv.0", "conv", inputs=((channels // 2, channels), (0, channels // 2)))


def _pan_rows(tensors: Tensors, options: Mapping[str, Any]) -> Iterator[Row]:
    fpa = "decoder.fpa"
    layers = {
        f"{fpa}.branch1.1": "pooled",
        f"{fpa}.mid.0": "middle",
        **{f"{fpa}.down{number}.1": f"down{number}" for number in (1, 2, 3)},
        f"{fpa}.down3.2": "across3",
        f"{fpa}.conv2": "across2",
        f"{fpa}.conv1": "across1",
    }
    fourth = "P4" if options.get("output_stride") == 32 else "C4"
    for number, level in enumerate(("P2", "P3", fourth), 1):
        layers[f"decoder.gau{number}.conv1.1"] = f"gate_{level}"
        layers[f"decoder.gau{number}.conv2"] = f"level_{level}"
    for theirs, ours in layers.items():
        if f"{theirs}.conv.weight" in tensors:
            yield Row(f"{theirs}.conv", f"decoder/{ours}/conv")
            yield Row(f"{theirs}.bn", f"decoder/{ours}/norm", "norm", shift=f"{theirs}.conv.bias")


def _aspp_rows(tensors: Tensors, theirs: str, rates: Sequence[int]) -> Iterator[Row]:
    yield from _block(f"{theirs}.convs.0.0", "aspp/branch_1x1")
    for number, rate in enumerate(rates, 1):
        branch, ours = f"{theirs}.convs.{number}", f"aspp/branch_rate{rate}"
        separable = f"{branch}.0.0.weight" in tensors
        yield from _separable(f"{branch}.0", ours, f"{branch}.1") if separable else _block(f"{branch}.0", ours)
    yield from _block(f"{theirs}.convs.4.1", "aspp/branch_pooled", norm="2")
    yield from _block(f"{theirs}.project.0", "aspp/project")


def _deeplabv3_rows(tensors: Tensors, options: Mapping[str, Any]) -> Iterator[Row]:
    yield from _aspp_rows(tensors, "decoder.aspp", options["rates"])
    yield Row("decoder.conv", "decoder/conv/conv")
    yield Row("decoder.bn", "decoder/conv/norm", "norm")


def _deeplabv3plus_rows(tensors: Tensors, options: Mapping[str, Any]) -> Iterator[Row]:
    yield from _aspp_rows(tensors, "decoder.aspp.0", options["rates"])
    yield from _separable("decoder.aspp.1", "after_aspp", "decoder.aspp.2")
    yield from _block("decoder.block1.0", "low_level")
    yield from _separable("decoder.block2.0", "fuse", "decoder.block2.1")


def _upernet_rows(tensors: Tensors, options: Mapping[str, Any]) -> Iterator[Row]:
    levels = [f"P{number}" for number, _ in enumerate(numbered(tensors, "decoder.feature_norms.{}.weight"), 2)]
    for number, level in enumerate(levels):
        yield Row(f"decoder.feature_norms.{number}", f"decoder/norm_{level}", "norm")
    for number, bins in enumerate((1, 2, 3, 6)):
        yield from _block(f"decoder.psp.blocks.{number}.1.0", f"pyramid/bins{bins}")
    yield from _block("decoder.psp.out_conv.0", "bottleneck")
    for number, level in enumerate(reversed(levels[:-1])):
        yield from _block(f"decoder.fpn_lateral_blocks.{number}.conv_norm_relu.0", f"lateral_{level}")
        yield from _block(f"decoder.fpn_conv_blocks.{number}.0", f"smooth_{level}")
    yield from _block("decoder.fusion_block.0", "fuse")


def _segformer_rows(tensors: Tensors, options: Mapping[str, Any]) -> Iterator[Row]:
    stages = list(numbered(tensors, "decoder.mlp_stage.{}.linear.weight"))
    for number, _ in enumerate(stages):
        yield Row(f"decoder.mlp_stage.{number}.linear", f"decoder/linear_P{len(stages) - number}", "linear")
    yield from _block("decoder.fuse_stage.0", "fuse")


def _dpt_rows(tensors: Tensors, options: Mapping[str, Any]) -> Iterator[Row]:
    for number in range(4):
        level, theirs = f"T{number + 1}", f"decoder.reassemble_blocks.{number}"
        yield Row(f"decoder.projection_blocks.{number}.project.0", f"decoder/readout_{level}", "linear")
        yield Row(f"{theirs}.project_to_out_channel", f"decoder/project_{level}")
        for ours in ("enlarge", "reduce"):  # one of the two, or none at the level that keeps its size
            yield Row(f"{theirs}.upsample", f"decoder/{ours}_{level}")
        yield Row(f"{theirs}.project_to_feature_dim", f"decoder/width_{level}")
        fusion, ours = f"decoder.fusion_blocks.{3 - number}", f"decoder/fuse_{level}"  # the deepest is first there
        yield Row(f"{fusion}.project", f"decoder/project_fused_{level}")
        for unit, step in itertools.product((1, 2), (1, 2)):
            block, own = f"{fusion}.residual_conv_block{unit}", f"{ours}/unit{unit}_conv{step}"
            yield Row(f"{block}.conv_{step}", f"{own}/conv")
            yield Row(f"{block}.batch_norm_{step}", f"{own}/norm", "norm")
    yield from _block("segmentation_head.head.0", "last")


_DECODER_ROWS: Mapping[str, Callable[[Tensors, Mapping[str, Any]], Iterator[Row]]] = {
    "Unet": _unet_rows,
    "UnetPlusPlus": _unetplusplus_rows,
    "MAnet": _manet_rows,
    "Linknet": _linknet_rows,
    "FPN": _fpn_rows,
    "PSPNet": _pspnet_rows,
    "PAN": _pan_rows,
    "DeepLabV3": _deeplabv3_rows,
    "DeepLabV3Plus": _deeplabv3plus_rows,
    "UPerNet": _upernet_rows,
    "Segformer": _segformer_rows,
    "DPT": _dpt_rows,
}


def decoder_rows(architecture: Architecture, settings: Mapping[str, Any], tensors: Tensors) -> list[Row]:
    """Return the rows of the decoder and the head for a `model` section."""
    options = {**settings["options"], "output_stride": settings.get("output_stride")}
    rows = list(_DECODER_ROWS[architecture.name](tensors, options))
    inputs: tuple[tuple[int, int], ...] = ()
    if options.get("merge") == "concat":
        width = options["segmentation_channels"]
        inputs = tuple((width * step, width * (step + 1)) for step in (3, 2, 1, 0))  # the deepest level is first there
    return [*rows, Row(architecture.head, "head/conv", inputs=inputs)]


def assign(
    model: keras.Model,
    architecture: Architecture,
    source: Source,
    rows: Sequence[Row],
    tensors: Tensors,
    origin: str,
) -> list[str]:
    """Assign a tensor to every weight of the model; returns the unused tensors.

    Raises:
        WeightsError: a tensor that is missing or has another shape, or one left over that belongs to the network.
    """
    left = by_rows.assign(model, rows, tensors, origin)
    _refuse_what_is_used_there(model, left, (*source.left, *architecture.idle), source, origin)
    return left


def _refuse_what_is_used_there(
    model: keras.Model, left: Sequence[str], idle: tuple[str, ...], source: Source, origin: str
) -> None:
    """Raise WeightsError for an unused tensor unless it lies behind the last feature or in unused attention."""
    names = {layer.name for layer in model.layers}
    layers = (*source.rows, *source.top)
    behind = {layer for row in layers if row.ours.partition("/")[0] not in names for layer in row.layers}
    # The last block of U-Net and of U-Net++ has no skip, and so no use of its first attention.
    unused = re.compile(r"decoder\.blocks\.(\d+|x_0_\d+)\.attention1\.")
    wrong = [
        name for name in left if not (name.rpartition(".")[0] in behind or name.startswith(idle) or unused.match(name))
    ]
    if wrong:
        raise WeightsError(
            f"{origin} holds {len(wrong)} tensors that belong to no layer of {model.name}, first {wrong[0]}: it is of "
            "another network than it is said to be."
        )
