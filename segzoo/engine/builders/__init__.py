"""Builders of the components of a run from a Config: sources, batches, targets, network, loss, optimizer."""

from __future__ import annotations

from segzoo.engine.builders.batches import eval_batches, rehearsals, steps_per_epoch, train_batches
from segzoo.engine.builders.display import background, colours
from segzoo.engine.builders.loss import build_loss, class_weights, losses_of_outputs, weight_schemes
from segzoo.engine.builders.metadata import model_metadata
from segzoo.engine.builders.network import POLICIES, build_network
from segzoo.engine.builders.optimizer import build_optimizer, build_schedule, build_stages, start_optimizer
from segzoo.engine.builders.sources import build_source, few, has_test_split, image_reader, mask_format, whole_source
from segzoo.engine.builders.targets import target_maker, training_target_maker

__all__ = [
    "POLICIES",
    "background",
    "build_loss",
    "build_network",
    "build_optimizer",
    "build_schedule",
    "build_source",
    "build_stages",
    "class_weights",
    "colours",
    "eval_batches",
    "few",
    "has_test_split",
    "image_reader",
    "losses_of_outputs",
    "mask_format",
    "model_metadata",
    "rehearsals",
    "start_optimizer",
    "steps_per_epoch",
    "target_maker",
    "train_batches",
    "training_target_maker",
    "weight_schemes",
    "whole_source",
]
