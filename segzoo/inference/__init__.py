"""Inference: class maps from images, and pictures of them. Names are imported when they are first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segzoo.lazy import attach

if TYPE_CHECKING:
    from segzoo.inference.inputs import find_images as find_images
    from segzoo.inference.outputs import OutputOptions as OutputOptions
    from segzoo.inference.outputs import PredictionSummary as PredictionSummary
    from segzoo.inference.predictor import Predictor as Predictor
    from segzoo.inference.writers.contract import Output as Output
    from segzoo.inference.writers.contract import Prediction as Prediction
    from segzoo.inference.writers.table import OUTPUTS as OUTPUTS
    from segzoo.reporting.pictures import overlay as overlay
    from segzoo.reporting.pictures import palette as palette
    from segzoo.reporting.pictures import prediction_sheet as prediction_sheet

_OBJECTS = {
    "OUTPUTS": "segzoo.inference.writers.table",
    "Output": "segzoo.inference.writers.contract",
    "OutputOptions": "segzoo.inference.outputs",
    "Prediction": "segzoo.inference.writers.contract",
    "PredictionSummary": "segzoo.inference.outputs",
    "Predictor": "segzoo.inference.predictor",
    "find_images": "segzoo.inference.inputs",
    "overlay": "segzoo.reporting.pictures",
    "palette": "segzoo.reporting.pictures",
    "prediction_sheet": "segzoo.reporting.pictures",
}

__all__ = list(_OBJECTS)


__getattr__, __dir__ = attach(__name__, _OBJECTS)
