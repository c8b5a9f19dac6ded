"""Configurations: one YAML file, one schema, and messages that name file, line and the nearest valid name."""

from __future__ import annotations

from segzoo.config.data_schema import DataConfig, FolderData, GeneratedData
from segzoo.config.editor import json_schema, write_json_schema
from segzoo.config.loader import dump_config, find_config, load_config, recipe_names, resolve_config
from segzoo.config.model_schema import ModelConfig
from segzoo.config.schema import Config, OutputConfig
from segzoo.config.training_schema import EarlyStoppingConfig, OptimizerConfig, ScheduleConfig, TrainingConfig

__all__ = [
    "Config",
    "DataConfig",
    "EarlyStoppingConfig",
    "FolderData",
    "GeneratedData",
    "ModelConfig",
    "OptimizerConfig",
    "OutputConfig",
    "ScheduleConfig",
    "TrainingConfig",
    "dump_config",
    "find_config",
    "json_schema",
    "load_config",
    "recipe_names",
    "resolve_config",
    "write_json_schema",
]
