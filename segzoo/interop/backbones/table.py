"""Table of all networks of other libraries that are backbones here, by family."""

from __future__ import annotations

from segzoo.interop.backbones import (
    convnext,
    densenet,
    efficientnet,
    inception,
    mit,
    mobilenet,
    resnet,
    strangers,
    vgg,
    vit,
    xception,
)
from segzoo.interop.backbones.source import Source, Stranger

_FAMILIES = (resnet, efficientnet, mobilenet, vgg, densenet, convnext, mit, vit, xception, inception, strangers)

SOURCES: tuple[Source, ...] = tuple(source for family in _FAMILIES for source in family.SOURCES)
STRANGERS: tuple[Stranger, ...] = tuple(stranger for family in _FAMILIES for stranger in family.STRANGERS)


def source_of(name: str) -> Source:
    """Return the source with this name, "library/name"."""
    return next(source for source in SOURCES if name in source.names)
