"""Compatibility targets: libraries whose networks segzoo can reproduce exactly, so that their weights can be used."""

from __future__ import annotations

import warnings

from segzoo.errors import SegzooError

# segmentation_models.pytorch: decoder, backbone and head compute what its networks compute.
SMP = "smp"
# What `imitate: smp` of segzoo 0.1.0 did, to the backbone alone: for runs that were trained with it.
SMP_0_1_0 = "smp-0.1.0"
# Libraries of classifiers, whose backbones compute what theirs do, so that weights converted from them can be used.
TORCHVISION, TIMM = "torchvision", "timm"
LIBRARIES = (TORCHVISION, TIMM)
# What segmentation_models.pytorch made of timm's EfficientNet (`timm-efficientnet-b0`): timm's network, of which it
# dilates the strided convolution too where it replaces a stride by dilation.
SMP_TIMM = "smp-timm"
# Words that change the backbone alone, and only one that is known to have such a network.
OF_BACKBONES = (*LIBRARIES, SMP_TIMM)
NAMES = (SMP, SMP_0_1_0, *OF_BACKBONES)
# Of weights that segzoo 0.1.0 wrote, and a network that is built with `compat: smp`.
OF_0_1_0_CURE = (
    f"Build the model with compat: {SMP_0_1_0} where it was built with imitate: smp there, and without compat where it "
    "was not. What was converted from segmentation_models.pytorch can also be converted again."
)


def resolve(compat: str | None, imitate: str | None, stacklevel: int = 3) -> str | None:
    """Return the compatibility target from `compat` or its deprecated alias `imitate`, which warns.

    Args:
        compat: one of NAMES, or None.
        imitate: "smp" or None.
        stacklevel: stack level of the warning, 2 for the caller of this function.

    Raises:
        SegzooError: an unknown name, or two different names.
    """
    if imitate is not None:
        warnings.warn(
            "imitate is deprecated and will be removed; say compat instead, which also covers the decoder "
            f"(compat: {SMP_0_1_0} is what imitate did in segzoo 0.1.0).",
            DeprecationWarning,
            stacklevel=stacklevel,
        )
        if compat not in (None, imitate):
            raise SegzooError(f"compat is {compat!r}, its deprecated alias imitate {imitate!r}; give compat alone.")
        compat = imitate
    if compat is not None and compat not in NAMES:
        raise SegzooError(f"compat must be {' or '.join(map(repr, NAMES))} or None, got {compat!r}.")
    return compat
