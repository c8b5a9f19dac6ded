"""Test-time augmentation: the mean of a network's logits over several views of an image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from segzoo.errors import SegzooError
from segzoo.inference.network import Network
from segzoo.inference.views import views_of


class ViewsNetwork(Network):
    """Network whose logits are the mean of another's over several views of an image.

    Args:
        network: computes the logits of each view.
        names: kinds of views; see `views_of`.

    Raises:
        UnknownNameError: no such kind of views.
        SegzooError: views of other sizes than the only one that the network takes.
    """

    def __init__(self, network: Network, names: str):
        self.network = network
        self.views = views_of(names)
        self.channels, self.outputs, self.mode, self.size = (
            network.channels,
            network.outputs,
            network.mode,
            network.size,
        )
        self.member_count = network.member_count
        size = network.size
        if size is not None and any(view.scale > 1 or (view.turns % 2 and size[0] != size[1]) for view in self.views):
            raise SegzooError(
                f"{network} takes images of {size[0]}x{size[1]} pixels alone, which the views of {names} do not have. "
                "Take mirror or flips, or export it without a fixed size."
            )

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Compute the mean logits; see `Network.logits`."""
        return self._mean(self.network.logits, images)

    def logits_and_disagreement(self, images: np.ndarray) -> np.ndarray:
        """Compute the means of logits and disagreement; see `Network.logits_and_disagreement`."""
        return self._mean(self.network.logits_and_disagreement, images)

    def _mean(self, function: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> np.ndarray:
        """Return the mean of what a function makes of the views, in the grid of the images."""
        height, width = images.shape[1:3]
        first, *others = self.views
        total = first.undone(function(first.of(images)), height, width)
        for view in others:
            total = total + view.undone(function(view.of(images)), height, width)
        return total / np.float32(len(self.views))

    def __str__(self) -> str:
        """Return the text of the network that computes."""
        return str(self.network)
