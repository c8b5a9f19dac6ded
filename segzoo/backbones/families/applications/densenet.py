"""DenseNet (Huang et al., 2017), built by keras.applications."""

from __future__ import annotations

from segzoo.backbones.spec import STANDARDIZED, Convention, Variant, tap_table
from segzoo.backbones.table import BACKBONES
from segzoo.compat import LIBRARIES, SMP

# Layers of a network to the channels of its dense blocks 3 and 4.
_CHANNELS = {121: (1024, 1024), 169: (1280, 1664), 201: (1792, 1920)}

# PyTorch's transitions round sizes down.
_CONVENTIONS = {word: Convention(pads_both_sides=True, epsilon=1e-5) for word in (*LIBRARIES, SMP)}


def _variant(layers: int) -> Variant:
    third, fourth = _CHANNELS[layers]
    taps = tap_table(
        "P1 conv1_relu 64 stem",
        "P2 pool2_relu 256 activated output of dense block 1, before the transition",
        "P3 pool3_relu 512 activated output of dense block 2, before the transition",
        f"P4 pool4_relu {third} activated output of dense block 3, before the transition",
        f"P5 relu {fourth} activated output of dense block 4",
    )
    return Variant(
        f"densenet{layers}",
        f"DenseNet{layers}",
        "densenet",
        STANDARDIZED,
        {"output": taps, "smp": (*taps[:4], *tap_table(f"P5 bn {fourth} normalised output of dense block 4"))},
        centred_strides=True,
        conventions=_CONVENTIONS,
        quirk="Transitions pool 2x2; at odd sizes the last row or column is pooled by itself.",
    )


VARIANTS = {f"densenet{layers}": _variant(layers) for layers in _CHANNELS}
BACKBONES.register_all(VARIANTS)
