"""EfficientNet (Tan and Le, 2019) and EfficientNetV2 (Tan and Le, 2021), built by keras.applications.

"expansion" taps are the activations of the expansion convolutions that open a stage: the widest maps at each stride.
"output" taps are the stem's activation and the last block's output at each stride, without the top convolution:
narrower and cheaper, the choice of segmentation_models.pytorch. EfficientNetV2's fused blocks stride in the expansion
convolution, V1's blocks after it, so layers of the same name lie at different strides in the two families.
"""

from __future__ import annotations

from dataclasses import replace

from segzoo.backbones.spec import STANDARDIZED, Convention, Pixels, Tap, Variant
from segzoo.backbones.table import BACKBONES
from segzoo.compat import SMP_TIMM, TIMM, TORCHVISION
from segzoo.levels import LEVELS

# keras.applications reaches STANDARDIZED for V1 through a Normalization layer whose pretrained "variance" is the
# standard deviation and a Rescaling by its root (tensorflow#49930); B0 to B3 of V2 use it directly for three channels.
_V2_CENTERED = Pixels(1 / 128, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0))

_EXPANDED = "expanded input of the first block of stage {}"
_STRIDES = (2, 4, 8, 16, 32)

# Expansion taps: layer, stride, level, reason; channels differ by variant and stand in the tables below.
_V1_EXPANSION = (
    ("block2a_expand_activation", 2, "P1", _EXPANDED.format(2)),
    ("block3a_expand_activation", 4, "P2", _EXPANDED.format(3)),
    ("block4a_expand_activation", 8, "P3", _EXPANDED.format(4)),
    ("block5a_expand_activation", 16, None, _EXPANDED.format(5)),
    ("block6a_expand_activation", 16, "P4", _EXPANDED.format(6)),
    ("block7a_expand_activation", 32, None, _EXPANDED.format(7)),
    ("top_activation", 32, "P5", "top 1x1 convolution"),
)
_V2_EXPANSION = (
    ("{first}", 2, "P1", "output of stage 1 (V2 has no expansion at stride 2)"),
    ("block2a_expand_activation", 4, "P2", _EXPANDED.format(2)),
    ("block3a_expand_activation", 8, None, _EXPANDED.format(3)),
    ("block4a_expand_activation", 8, "P3", _EXPANDED.format(4)),
    ("block5a_expand_activation", 16, None, _EXPANDED.format(5)),
    ("block6a_expand_activation", 16, "P4", _EXPANDED.format(6)),
    ("block7a_expand_activation", 32, None, _EXPANDED.format(7)),
    ("top_activation", 32, "P5", "top 1x1 convolution"),
)

# timm's without "tf_" and torchvision's networks, whose B5 to B7 and V2 kept the original's epsilon.
_PYTORCH = Convention(pads_both_sides=True, epsilon=1e-5)
_PADDED = Convention(pads_both_sides=True)
_OF_SMP = replace(_PYTORCH, dilates_strided=True)
_LARGE = ("b5", "b6", "b7")

# variant: last block at stride 2 and its channels, which timm's feature extractor takes for the finest level.
_V1_TIMM = {
    "b0": "block1a_project_bn 16",
    "b1": "block1b_add 16",
    "b2": "block1b_add 16",
    "b3": "block1b_add 24",
    "b4": "block1b_add 24",
    "b5": "block1c_add 24",
    "b6": "block1c_add 32",
    "b7": "block1d_add 32",
}
# variant: channels of the expansion taps; (layer, channels) of the output taps at strides 2, 4, 8, 16, 32.
_V1 = {
    "b0": (
        (96, 144, 240, 480, 672, 1152, 1280),
        (
            "stem_activation 32",
            "block2b_add 24",
            "block3b_add 40",
            "block5c_add 112",
            "block7a_project_bn 320",
        ),
    ),
    "b1": (
        (96, 144, 240, 480, 672, 1152, 1280),
        ("stem_activation 32", "block2c_add 24", "block3c_add 40", "block5d_add 112", "block7b_add 320"),
    ),
    "b2": (
        (96, 144, 288, 528, 720, 1248, 1408),
        ("stem_activation 32", "block2c_add 24", "block3c_add 48", "block5d_add 120", "block7b_add 352"),
    ),
    "b3": (
        (144, 192, 288, 576, 816, 1392, 1536),
        ("stem_activation 40", "block2c_add 32", "block3c_add 48", "block5e_add 136", "block7b_add 384"),
    ),
    "b4": (
        (144, 192, 336, 672, 960, 1632, 1792),
        ("stem_activation 48", "block2d_add 32", "block3d_add 56", "block5f_add 160", "block7b_add 448"),
    ),
    "b5": (
        (144, 240, 384, 768, 1056, 1824, 2048),
        ("stem_activation 48", "block2e_add 40", "block3e_add 64", "block5g_add 176", "block7c_add 512"),
    ),
    "b6": (
        (192, 240, 432, 864, 1200, 2064, 2304),
        ("stem_activation 56", "block2f_add 40", "block3f_add 72", "block5h_add 200", "block7c_add 576"),
    ),
    "b7": (
        (192, 288, 480, 960, 1344, 2304, 2560),
        ("stem_activation 64", "block2g_add 48", "block3g_add 80", "block5j_add 224", "block7d_add 640"),
    ),
}
_V1_IMAGE_SIZES = {"b0": 224, "b1": 240, "b2": 260, "b3": 300, "b4": 380, "b5": 456, "b6": 528, "b7": 600}
# variant: first expansion tap, channels of the others (0: that stage does not exist), output taps as above.
_V2 = {
    "b0": (
        "block1a_project_activation 16",
        (64, 128, 192, 576, 672, 0, 1280),
        ("stem_activation 32", "block2b_add 32", "block3b_add 48", "block5e_add 112", "block6h_add 192"),
    ),
    "b1": (
        "block1b_add 16",
        (64, 128, 192, 576, 672, 0, 1280),
        ("stem_activation 32", "block2c_add 32", "block3c_add 48", "block5f_add 112", "block6i_add 192"),
    ),
    "b2": (
        "block1b_add 16",
        (64, 128, 224, 624, 720, 0, 1408),
        ("stem_activation 32", "block2c_add 32", "block3c_add 56", "block5f_add 120", "block6j_add 208"),
    ),
    "b3": (
        "block1b_add 16",
        (64, 160, 224, 672, 816, 0, 1536),
        ("stem_activation 40", "block2c_add 40", "block3c_add 56", "block5g_add 136", "block6l_add 232"),
    ),
    "s": (
        "block1b_add 24",
        (96, 192, 256, 768, 960, 0, 1280),
        ("stem_activation 24", "block2d_add 48", "block3d_add 64", "block5i_add 160", "block6o_add 256"),
    ),
    "m": (
        "block1c_add 24",
        (96, 192, 320, 960, 1056, 1824, 1280),
        ("stem_activation 24", "block2e_add 48", "block3e_add 80", "block5n_add 176", "block7e_add 512"),
    ),
    "l": (
        "block1d_add 32",
        (128, 256, 384, 1152, 1344, 2304, 1280),
        ("stem_activation 32", "block2g_add 64", "block3g_add 96", "block5s_add 224", "block7g_add 640"),
    ),
}


def _expansion(rows: tuple, channels: tuple[int, ...], first: str = "") -> tuple[Tap, ...]:
    return tuple(
        Tap(layer.format(first=first), stride, width, level, reason)
        for (layer, stride, level, reason), width in zip(rows, channels, strict=True)
        if width
    )


def _output(entries: tuple[str, ...]) -> tuple[Tap, ...]:
    taps = []
    for entry, stride, level in zip(entries, _STRIDES, LEVELS, strict=True):
        layer, channels = entry.split()
        reason = "stem" if layer.startswith("stem") else f"output of the last block at stride {stride}"
        taps.append(Tap(layer, stride, int(channels), level, reason))
    return tuple(taps)


def _variants() -> dict[str, Variant]:
    variants = {}
    for size, (channels, outputs) in _V1.items():
        tables = {"expansion": _expansion(_V1_EXPANSION, channels), "output": _output(outputs)}
        tables["timm"] = _output((_V1_TIMM[size], *outputs[1:]))
        name = f"efficientnet_{size}"
        constructor = f"EfficientNet{size.upper()}"
        variants[name] = Variant(
            name,
            constructor,
            "efficientnet",
            STANDARDIZED,
            tables,
            image_size=_V1_IMAGE_SIZES[size],
            smp_fourth="block5a_project_bn" if size == "b0" else "",
            conventions={TORCHVISION: _PADDED if size in _LARGE else _PYTORCH, TIMM: _PYTORCH, SMP_TIMM: _OF_SMP},
        )
    for size, (first, channels, outputs) in _V2.items():
        layer, width = first.split()
        expansion = _expansion(_V2_EXPANSION, (int(width), *channels), layer)
        tables = {"expansion": expansion, "output": _output(outputs), "timm": _output((first, *outputs[1:]))}
        name = f"efficientnetv2_{size}"
        pixels = STANDARDIZED if size.startswith("b") else _V2_CENTERED
        # timm has the B variants with TensorFlow's padding only, which is the network here.
        conventions = {} if size.startswith("b") else {TORCHVISION: _PADDED, TIMM: _PYTORCH}
        constructor = f"EfficientNetV2{size.upper()}"
        variants[name] = Variant(name, constructor, "efficientnet_v2", pixels, tables, conventions=conventions)
    return variants


VARIANTS = _variants()
BACKBONES.register_all(VARIANTS)
