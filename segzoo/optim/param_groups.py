"""Parameter groups: parts of a network that are frozen or have learning rates of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from segzoo.decoders import Decoder, SegmentationHead
from segzoo.decoders.base import AuxiliaryHead, ClassificationHead
from segzoo.errors import SegzooError
from segzoo.keras_compat import arguments_of
from segzoo.layers import SimplePyramid, TransformerBlock
from segzoo.levels import LEVELS, TOKENS

BACKBONE, DECODER, HEAD = "backbone", "decoder", "head"


def parts(network: keras.Model) -> dict[str, list[keras.layers.Layer]]:
    """Group the layers of a network made by `segzoo.build_model`: "backbone", "decoder" and "head".

    The heads that serve training alone belong to "head", and the pyramid made of a plain vision transformer's tokens,
    which no pretrained network has, to "decoder".
    """
    found: dict[str, list[keras.layers.Layer]] = {BACKBONE: [], DECODER: [], HEAD: []}
    for layer in network.layers:
        if isinstance(layer, Decoder | SimplePyramid):
            found[DECODER].append(layer)
        elif isinstance(layer, SegmentationHead | ClassificationHead):
            found[HEAD].append(layer)
        else:
            found[BACKBONE].append(layer)
    return found


def levels(network: keras.Model) -> dict[str, list[keras.layers.Layer]]:
    """Group the backbone's layers by the finest level that needs them: {"P1": [...], ...}, finest first.

    Only levels that the decoder or an auxiliary head reads; what the finest of them needs is its own. Of a plain vision
    transformer they are the tokens that the decoder, or the pyramid before it, reads.
    """
    taps: dict[str, Any] = {}
    for layer in network.layers:
        (inputs, *_), _ = arguments_of(layer)
        if isinstance(layer, SimplePyramid):
            taps[TOKENS[-1]] = inputs
        elif isinstance(layer, Decoder):
            taps.update({level: feature for level, feature in inputs.items() if level in (*LEVELS, *TOKENS)})
        elif isinstance(layer, AuxiliaryHead):
            taps[layer.name.removeprefix("auxiliary_")] = inputs
    if TOKENS[-1] in taps:  # levels of the pyramid are made of it
        taps = {level: feature for level, feature in taps.items() if level in TOKENS}
    seen: set[int] = set()
    found = {}
    for level in sorted(taps):
        needed = [layer for layer in keras.Model(network.input, taps[level]).layers if id(layer) not in seen]
        seen.update(map(id, needed))
        found[level] = needed
    return found


def blocks(network: keras.Model) -> list[list[keras.layers.Layer]]:
    """Group the layers of a plain vision transformer by its blocks, what comes before them first; empty for others."""
    found: list[list[keras.layers.Layer]] = [[]]
    for layer in parts(network)[BACKBONE]:
        if isinstance(layer, TransformerBlock):
            found.append([])
        found[-1].append(layer)
    return found if len(found) > 1 else []


def rate_factors(
    network: keras.Model, lr_scale: Mapping[str, float], layer_decay: float = 1.0
) -> list[tuple[Any, float]]:
    """Map each variable of a network to the factor on its learning rate.

    Args:
        network: made by `segzoo.build_model`.
        lr_scale: part or level to a factor; those that apply to a layer are multiplied.
        layer_decay: the deepest level of the backbone has this factor, the next its square, and so on to the finest;
            decoder and heads have 1. Howard and Ruder (2018), in the form of Clark et al. (2020), by level; of a plain
            vision transformer by block, and the embedding of patches is one more, as in Bao et al. (BEiT, 2021).

    Raises:
        SegzooError: a level that the network does not read.
    """
    factors: dict[int, float] = {}

    def scale(layers: list[keras.layers.Layer], factor: float) -> None:
        for layer in layers:
            factors[id(layer)] = factors.get(id(layer), 1.0) * factor

    by_part = parts(network)
    by_level = levels(network) if layer_decay != 1.0 or set(lr_scale) - set(by_part) else {}
    for name, factor in lr_scale.items():
        scale(layers_of(name, by_part, by_level), factor)
    for depth, layers in enumerate(reversed(blocks(network) or list(by_level.values())), start=1):
        scale(layers, layer_decay**depth)
    return [(variable, factors.get(id(layer), 1.0)) for layer in network.layers for variable in layer.variables]


def frozen_layers(network: keras.Model, names: Sequence[str]) -> list[keras.layers.Layer]:
    """Return the layers to freeze for these parts; a level includes the finer levels that its tap depends on.

    Raises:
        SegzooError: a level that the network does not read.
    """
    by_part = parts(network)
    by_level = levels(network) if set(names) - set(by_part) else {}
    frozen = []
    for name in names:
        frozen += layers_of(name, by_part, by_level)
        if name in by_level:
            frozen += [layer for level in by_level if level < name for layer in by_level[level]]
    return frozen


def layers_of(
    name: str, by_part: Mapping[str, list[keras.layers.Layer]], by_level: Mapping[str, list[keras.layers.Layer]]
) -> list[keras.layers.Layer]:
    """Return the layers of a part or of a single level; SegzooError if the network does not read that level."""
    if name in by_part:
        return by_part[name]
    if name not in by_level:
        raise SegzooError(f"The network reads no level {name}, only {', '.join(by_level) or 'none'}.")
    return by_level[name]
