"""Builders of the components of a run from a Config: sources, batches, targets, network, loss, optimizer.

Names are imported when they are first used: those of data need no framework.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segzoo.lazy import attach

if TYPE_CHECKING:
    from segzoo.engine.builders.batches import eval_batches as eval_batches
    from segzoo.engine.builders.batches import rehearsals as rehearsals
    from segzoo.engine.builders.batches import steps_per_epoch as steps_per_epoch
    from segzoo.engine.builders.batches import train_batches as train_batches
    from segzoo.engine.builders.display import background as background
    from segzoo.engine.builders.display import colours as colours
    from segzoo.engine.builders.loss import build_loss as build_loss
    from segzoo.engine.builders.loss import losses_of_outputs as losses_of_outputs
    from segzoo.engine.builders.metadata import model_metadata as model_metadata
    from segzoo.engine.builders.network import POLICIES as POLICIES
    from segzoo.engine.builders.network import build_network as build_network
    from segzoo.engine.builders.optimizer import automatic as automatic
    from segzoo.engine.builders.optimizer import build_optimizer as build_optimizer
    from segzoo.engine.builders.optimizer import build_schedule as build_schedule
    from segzoo.engine.builders.optimizer import build_stages as build_stages
    from segzoo.engine.builders.optimizer import start_optimizer as start_optimizer
    from segzoo.engine.builders.optimizer import updates as updates
    from segzoo.engine.builders.sources import build_source as build_source
    from segzoo.engine.builders.sources import few as few
    from segzoo.engine.builders.sources import has_test_split as has_test_split
    from segzoo.engine.builders.sources import image_reader as image_reader
    from segzoo.engine.builders.sources import mask_format as mask_format
    from segzoo.engine.builders.sources import whole_source as whole_source
    from segzoo.engine.builders.targets import target_maker as target_maker
    from segzoo.engine.builders.targets import training_target_maker as training_target_maker
    from segzoo.engine.builders.weighting import class_weights as class_weights
    from segzoo.engine.builders.weighting import weight_schemes as weight_schemes

# No module may have the name of one of these functions: once it is imported it would hide the function.
_MODULES = {
    "batches": ("eval_batches", "rehearsals", "steps_per_epoch", "train_batches"),
    "weighting": ("class_weights", "weight_schemes"),
    "display": ("background", "colours"),
    "loss": ("build_loss", "losses_of_outputs"),
    "metadata": ("model_metadata",),
    "network": ("POLICIES", "build_network", "with_batch_norm"),
    "optimizer": ("automatic", "build_optimizer", "build_schedule", "build_stages", "start_optimizer", "updates"),
    "sources": ("build_source", "few", "has_test_split", "image_reader", "mask_format", "whole_source"),
    "targets": ("target_maker", "training_target_maker"),
}
_NAMES = {name: f"segzoo.engine.builders.{module}" for module, names in _MODULES.items() for name in names}

__all__ = list(_NAMES)


__getattr__, __dir__ = attach(__name__, _NAMES)
