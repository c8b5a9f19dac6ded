"""Metadata that a run writes into its model files."""

from __future__ import annotations

import segzoo
from segzoo.config import Config, FolderData
from segzoo.engine.builders.display import background, colours
from segzoo.export.metadata import ModelMetadata, Network, Reading, plain


def model_metadata(
    config: Config, *, given: bool = False, thresholds: tuple[float, ...] | None = None
) -> ModelMetadata:
    """Return the metadata of a run's network.

    Args:
        config: configuration of the run.
        given: whether the network was passed to `train`, so that the configuration does not describe it.
        thresholds: probabilities above which a class is predicted; None: 0.5.
    """
    return ModelMetadata(
        classes=tuple(config.task.classes),
        mode=config.mode,
        channels=config.model.input_channels,
        colours=tuple((int(red), int(green), int(blue)) for red, green, blue in colours(config)),
        background=background(config),
        thresholds=thresholds,
        reading=_reading(config),
        network=None if given else _network(config),
        version=segzoo.__version__,
    )


def _reading(config: Config) -> Reading:
    section = config.data
    if not isinstance(section, FolderData):
        return Reading()
    return Reading(
        None if section.bands is None else tuple(section.bands),
        None if section.value_range is None else (section.value_range[0], section.value_range[1]),
        section.alpha,
        section.exif != "neither",
    )


def _network(config: Config) -> Network:
    of_backbone = config.model.backbone_options().given()
    of_backbone.pop("weights", None)  # those of the file take their place
    return Network(config.model.decoder, config.model.backbone, plain({**config.model.options, **of_backbone}))
