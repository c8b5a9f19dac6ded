"""Measures of uncertainty: entropy of probabilities, and disagreement of the members of an ensemble."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def entropy(probabilities: np.ndarray, multilabel: bool = False) -> np.ndarray:
    """Return the Shannon entropy `(..., H, W)` of probabilities `(..., H, W, classes)`, normalised to 0..1, float32.

    The logarithm has the number of classes as its base, so that 1 is a uniform distribution. Where classes may overlap,
    each is an event of its own: the mean of their entropies to base 2.
    """
    safe = np.clip(probabilities, np.finfo(np.float32).tiny, 1)
    if multilabel:
        rest = np.clip(1 - probabilities, np.finfo(np.float32).tiny, 1)
        found = -(safe * np.log2(safe) + rest * np.log2(rest)).mean(axis=-1)
    else:
        found = -(safe * np.log(safe)).sum(axis=-1) / np.log(probabilities.shape[-1])
    return np.clip(found, 0, 1).astype(np.float32)


def disagreement(members: Sequence[np.ndarray], multilabel: bool = False) -> np.ndarray:
    """Return the disagreement `(..., H, W)` of the members of an ensemble, 0..1, float32.

    It is the mutual information of prediction and member: the entropy of the mean probabilities minus the mean of the
    members' entropies (Houlsby et al. 2011, https://arxiv.org/abs/1112.5745; of ensembles, Lakshminarayanan et al.
    2017, https://arxiv.org/abs/1612.01474, and Smith and Gal 2018, https://arxiv.org/abs/1803.08533). 0 where all
    members predict the same probabilities, uncertain ones too; never above the entropy of the mean, in whose unit it
    is. Where classes may overlap it is the mean over the classes.

    Args:
        members: probabilities of each member, `(..., H, W, classes)`.
        multilabel: whether classes may overlap.
    """
    mean = sum(members[1:], start=members[0]) / len(members)
    within = sum(entropy(one, multilabel) for one in members) / len(members)
    return np.clip(entropy(mean, multilabel) - within, 0, 1).astype(np.float32)
