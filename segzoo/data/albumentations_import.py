"""albumentations, imported without packages that its transforms of images and masks do not need.

With PyTorch, whose tensors no transform here returns, huggingface_hub and scipy.special it takes ten times as long.
Each is imported when a function that needs it is called.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

from segzoo.lazy import absent, deferred

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # otherwise the import asks a server for its newest version
with absent("albumentations.pytorch"), deferred("huggingface_hub", "scipy.special") as _waiting:
    import albumentations as A


def _of_pytorch(name: str) -> Any:
    """Import albumentations' transforms to tensors of PyTorch for code of the user's that asks for them."""
    if name in ("ToTensor3D", "ToTensorV2"):
        return getattr(importlib.import_module("albumentations.pytorch"), name)
    raise AttributeError(f"module 'albumentations' has no attribute {name!r}")


if not hasattr(A, "ToTensorV2"):
    A.__getattr__ = _of_pytorch


class _Hub:
    """Answer to albumentations' question if huggingface_hub is available; asked, or called, it imports it.

    `Compose.push_to_hub` and `Compose.from_pretrained` ask, or begin with the download.
    """

    def __init__(self, module: Any):
        self.module = module

    def __bool__(self) -> bool:
        """Import what albumentations would have imported, in its place."""
        hub, tools = importlib.import_module("huggingface_hub"), importlib.import_module("huggingface_hub.utils")
        self.module.HfApi, self.module.hf_hub_download = hub.HfApi, hub.hf_hub_download
        self.module.HfHubHTTPError = tools.HfHubHTTPError
        self.module.SoftTemporaryDirectory = tools.SoftTemporaryDirectory
        self.module.is_huggingface_hub_available = True
        return True

    def __call__(self, *given: Any, **named: Any) -> Any:
        """Download a file."""
        return bool(self) and self.module.hf_hub_download(*given, **named)


if "huggingface_hub" in _waiting:
    _mixin: Any = importlib.import_module("albumentations.core.hub_mixin")
    _mixin.is_huggingface_hub_available = _mixin.hf_hub_download = _Hub(_mixin)
