"""The table of decoders; each is registered by the module that defines it."""

from __future__ import annotations

from segzoo.registry import Registry

# Those that read the tokens of a plain vision transformer and no pyramid; here, since no framework is loaded for it.
OF_TOKENS = frozenset({"dpt"})
DECODERS = Registry(
    "decoder",
    base="segzoo.decoders.base:Decoder",
    package="segzoo.decoders",
    order=(
        "unet",
        "unetplusplus",
        "manet",
        "linknet",
        "fpn",
        "pspnet",
        "pan",
        "deeplab",
        "upernet",
        "segformer",
        "dpt",
    ),
)
