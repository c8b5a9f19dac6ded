"""Networks in exported files: ONNX, LiteRT, OpenVINO and SavedModel, each in its own runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from segzoo.errors import SegzooError
from segzoo.export import ModelMetadata, run_exported
from segzoo.inference.network import SMALLEST, Network, on_extended


class ExportedNetwork(Network):
    """Network in an exported file or folder.

    Args:
        path: the file or folder.
        metadata: its metadata, see `segzoo.export.read_metadata`.

    Raises:
        SegzooError: a package is missing, its runtime refuses the file, or it does not return what its metadata say.
    """

    def __init__(self, path: Path, metadata: ModelMetadata):
        self.path = path
        self.channels, self.mode, self.size = metadata.channels, metadata.mode, metadata.size
        self.outputs = metadata.task.channels
        self.decides = metadata.output == "classes"
        self._run = run_exported(path)
        self._least = metadata.size or (SMALLEST, SMALLEST)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Compute the logits; see `Network.logits`.

        Raises:
            SegzooError: the file returns classes alone.
        """
        if self.decides:
            raise SegzooError(
                f"{self.path} returns classes alone. Probabilities, test-time augmentation, ensembles, figures of an "
                "evaluation and images larger than a tile need logits: export the model with --output logits."
            )
        return on_extended(self._computed, images, self._least)

    def classes(self, images: np.ndarray) -> np.ndarray:
        """Predict the classes; see `Network.classes`."""
        return on_extended(self._computed, images, self._least) if self.decides else super().classes(images)

    def _computed(self, images: np.ndarray) -> np.ndarray:
        images = images.astype(np.float32)
        # A file of a fixed size takes one image at a time.
        parts = [images] if self.size is None else np.split(images, len(images))
        found = np.concatenate([np.asarray(self._run(part)) for part in parts])
        layers = () if self.decides and self.mode != "multilabel" else (self.outputs,)
        expected = (*images.shape[:3], *layers)
        if found.shape != expected:
            raise SegzooError(
                f"{self.path} returns {found.shape} for images {images.shape}, where its metadata promise {expected}. "
                "Export the model again."
            )
        return found if self.decides else found.astype(np.float32, copy=False)

    def __str__(self) -> str:
        """Return the path."""
        return str(self.path)
