"""Ensembles: the mean of several networks' probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segzoo.errors import SegzooError
from segzoo.inference.network import Network
from segzoo.inference.uncertainty import disagreement
from segzoo.task import Mode, array_probabilities


class EnsembleNetwork(Network):
    """Network whose probabilities are the mean of those of its members.

    Its logits are what a softmax, or in binary mode and multilabel a sigmoid, turns into these means: so tiles blend
    them, and losses and figures read them, as those of one network.

    Args:
        members: networks of the same classes and mode, for images of as many channels.

    Raises:
        SegzooError: members that differ.
    """

    def __init__(self, members: Sequence[Network]):
        self.members = tuple(members)
        if not self.members:
            raise SegzooError("An ensemble needs members.")
        first = self.members[0]
        self.member_count = len(self.members)
        self.channels, self.outputs, self.mode = first.channels, first.outputs, first.mode
        for other in self.members[1:]:
            for what, of in (("mode", "mode"), ("number of channels", "channels"), ("number of logits", "outputs")):
                one, another = getattr(first, of), getattr(other, of)
                if one != another:
                    raise SegzooError(
                        f"The members of an ensemble must agree: the {what} of {first} is {one}, of {other} {another}."
                    )
        sizes = {member.size for member in self.members if member.size is not None}
        if len(sizes) > 1:
            shown = " and ".join(f"{height}x{width}" for height, width in sorted(sizes))
            raise SegzooError(f"The members of an ensemble were exported for fixed sizes that differ: {shown}.")
        self.size = next(iter(sizes), None)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Compute the logits of the mean probabilities; see `Network.logits`."""
        return mean_logits([member.logits(images) for member in self.members], self.mode)

    def logits_and_disagreement(self, images: np.ndarray) -> np.ndarray:
        """Compute logits and disagreement; see `Network.logits_and_disagreement`."""
        found = [member.logits(images) for member in self.members]
        apart = disagreement([array_probabilities(one, self.mode) for one in found], self.mode == "multilabel")
        return np.concatenate([mean_logits(found, self.mode), apart[..., None]], axis=-1)

    def __str__(self) -> str:
        """Return the texts of the members."""
        return ", ".join(map(str, self.members))


def mean_logits(logits: Sequence[np.ndarray], mode: Mode) -> np.ndarray:
    """Return logits whose probabilities are the mean of those of several logits `(..., outputs)`, float32.

    Computed from logarithms of probabilities, so that neither 0 nor 1 becomes infinite.
    """
    if mode == "multiclass":
        return _log_mean([one - _log_sum(one) for one in logits])
    return _log_mean([-np.logaddexp(0, -one) for one in logits]) - _log_mean([-np.logaddexp(0, one) for one in logits])


def _log_mean(logarithms: Sequence[np.ndarray]) -> np.ndarray:
    return np.logaddexp.reduce(logarithms, axis=0) - np.float32(np.log(len(logarithms)))


def _log_sum(logits: np.ndarray) -> np.ndarray:
    top = logits.max(axis=-1, keepdims=True)
    return top + np.log(np.exp(logits - top).sum(axis=-1, keepdims=True))
