"""NASNet (Zoph et al., 2018), built by keras.applications."""

from __future__ import annotations

from typing import Any

from segzoo.backbones.spec import CENTERED, Variant, tap_table
from segzoo.backbones.table import BACKBONES

_MOBILE = tap_table(
    "P1 stem_bn1 32 stem",
    "P2 reduction_concat_stem_1 44 first reduction cell",
    "P3 normal_concat_3 264 last cell at stride 8",
    "P4 normal_concat_8 528 last cell at stride 16",
    "P5 activation_187 1056 activated last cell",
)
_LARGE = tap_table(
    "P1 stem_bn1 96 stem",
    "P2 reduction_concat_stem_1 168 first reduction cell",
    "P3 normal_concat_5 1008 last cell at stride 8",
    "P4 normal_concat_12 2016 last cell at stride 16",
    "P5 activation_259 4032 activated last cell",
)
_UNDILATED = (
    "a cell also reads the output of the cell two steps before, and if that has twice the size, it subsamples two "
    "shifted copies of it; dilation has no equivalent of this."
)
_QUIRK = 'The original stem is unpadded, which removes a row and a column; here it has "same" padding.'


def mobile(**arguments: Any) -> Any:
    """Build NASNet Mobile, on torch too, where Keras 3.15 supports NASNet Large only, of the same layers."""
    from segzoo.keras_compat import nasnet

    return nasnet(
        penultimate_filters=1056,
        num_blocks=4,
        stem_block_filters=32,
        skip_reduction=False,
        filter_multiplier=2,
        default_size=224,  # by which it knows the weights, too
        name="nasnet_mobile",
        **arguments,
    )


def preprocess_input(pixels: Any) -> Any:
    """Normalise pixels 0..255 to -1..1, as in the training of the published weights."""
    import keras

    return keras.applications.nasnet.preprocess_input(pixels)


VARIANTS = {
    name: Variant(
        name,
        constructor,
        "nasnet",
        CENTERED,
        {"output": taps},
        undilated=_UNDILATED,
        pads_nothing=True,
        quirk=_QUIRK,
    )
    for name, constructor, taps in (
        ("nasnet_mobile", "segzoo.backbones.families.applications.nasnet:mobile", _MOBILE),
        ("nasnet_large", "NASNetLarge", _LARGE),
    )
}
BACKBONES.register_all(VARIANTS)
