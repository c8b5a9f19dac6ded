"""DenseNet (Huang et al., 2017) as keras-cv has it: that of keras.applications, padded as TensorFlow's "same"."""

from __future__ import annotations

from segzoo.backbones.families.applications import densenet
from segzoo.backbones.packages import Network
from segzoo.backbones.spec import RESCALED, Variant
from segzoo.backbones.table import BACKBONES

# Layers of a network to the convolutions of its dense blocks.
_REPEATS = {121: (6, 12, 24, 16), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32)}

NETWORKS = {
    f"kcv_densenet{layers}": Network(
        "keras_cv", "DenseNetBackbone", {"stackwise_num_repeats": repeats, "include_rescaling": True}
    )
    for layers, repeats in _REPEATS.items()
}
VARIANTS = {
    f"kcv_densenet{layers}": Variant(
        f"kcv_densenet{layers}",
        f"segzoo.backbones.families.kcv.densenet:NETWORKS[kcv_densenet{layers}]",
        "kcv_densenet",
        RESCALED,
        densenet.VARIANTS[f"densenet{layers}"].tables,  # keras-cv took the names over
        package="keras-cv",
        presets=(f"densenet{layers}_imagenet",),
        quirk="Transitions pool 2x2; at odd sizes the last row or column is pooled by itself.",
    )
    for layers in _REPEATS
}
BACKBONES.register_all(VARIANTS)
