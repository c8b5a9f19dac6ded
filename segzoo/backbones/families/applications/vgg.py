"""VGG (Simonyan and Zisserman, 2014), built by keras.applications."""

from __future__ import annotations

from segzoo.backbones.spec import MEAN_SUBTRACTED, Convention, Variant, tap_table
from segzoo.backbones.table import BACKBONES
from segzoo.compat import LIBRARIES, SMP

# PyTorch's pooling rounds sizes down.
_CONVENTIONS = {word: Convention(pads_both_sides=True) for word in (*LIBRARIES, SMP)}


def _variant(layers: int) -> Variant:
    last = {16: 3, 19: 4}[layers]  # convolutions in each of the blocks 3 to 5
    taps = tap_table(
        "- block1_conv2 64 output of block 1, at the image size",
        "P1 block2_conv2 128 output of block 2",
        f"P2 block3_conv{last} 256 output of block 3",
        f"P3 block4_conv{last} 512 output of block 4",
        f"P4 block5_conv{last} 512 output of block 5",
        "P5 block5_pool 512 pooled output of block 5",
    )
    quirk = "The first block works at the image size, which is not a level, and there is no convolution at stride 32."
    return Variant(
        f"vgg{layers}", f"VGG{layers}", "vgg", MEAN_SUBTRACTED, {"output": taps}, conventions=_CONVENTIONS, quirk=quirk
    )


VARIANTS = {f"vgg{layers}": _variant(layers) for layers in (16, 19)}
BACKBONES.register_all(VARIANTS)
