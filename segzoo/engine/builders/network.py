"""The network that a configuration describes, in its precision."""

from __future__ import annotations

import keras

from segzoo.backend import dtype_policy
from segzoo.config import Config
from segzoo.models.build import build_model

#: Values of training.precision to what Keras calls them.
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


def with_batch_norm(config: Config, batch_norm: str | None) -> Config:
    """Return the configuration with `model.batch_norm` as was decided before; None: as it is."""
    if batch_norm is None:
        return config
    return config.model_copy(update={"model": config.model.model_copy(update={"batch_norm": batch_norm})})


def build_network(config: Config, weights: str | None = None) -> keras.Model:
    """Build the network in the configured precision; `weights` overrides the configuration's."""
    section = config.model
    if weights is None and config.training.init_from is not None:
        weights = "none"  # others come: see `start`
    with dtype_policy(POLICIES[config.training.precision]):
        return build_model(
            section.decoder,
            section.backbone,
            config.task.channels,
            backbone_options=section.backbone_options(),
            weights=section.weights if weights is None else weights,
            weights_sha256=section.weights_sha256 if weights is None else None,
            auxiliary=tuple(section.auxiliary),
            classification=section.classification is not None,
            remat=config.training.remat,
            **section.options,
        )
