"""Workflows: the commands as functions on a whole configuration or run.

Each takes the options of its command, prints nothing, and returns what it found. Importing them starts no framework:
paths and names are checked before one is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segzoo.lazy import attach

if TYPE_CHECKING:
    from segzoo.workflows.comparison import RunComparison as RunComparison
    from segzoo.workflows.comparison import compare as compare
    from segzoo.workflows.data_check import DataCheck as DataCheck
    from segzoo.workflows.data_check import check_data as check_data
    from segzoo.workflows.evaluation import RunEvaluation as RunEvaluation
    from segzoo.workflows.evaluation import evaluate as evaluate
    from segzoo.workflows.export_table import export_all as export_all
    from segzoo.workflows.exporting import export_model as export_model
    from segzoo.workflows.learning_rate import find_learning_rate as find_learning_rate
    from segzoo.workflows.prediction import load as load
    from segzoo.workflows.prediction import predict as predict
    from segzoo.workflows.proposal import Proposal as Proposal
    from segzoo.workflows.proposal import init as init
    from segzoo.workflows.pushing import Pushed as Pushed
    from segzoo.workflows.pushing import push as push
    from segzoo.workflows.serving import demo as demo
    from segzoo.workflows.serving import serve as serve

_OBJECTS = {
    "DataCheck": "segzoo.workflows.data_check",
    "Pushed": "segzoo.workflows.pushing",
    "Proposal": "segzoo.workflows.proposal",
    "RunComparison": "segzoo.workflows.comparison",
    "RunEvaluation": "segzoo.workflows.evaluation",
    "check_data": "segzoo.workflows.data_check",
    "compare": "segzoo.workflows.comparison",
    "demo": "segzoo.workflows.serving",
    "evaluate": "segzoo.workflows.evaluation",
    "export_all": "segzoo.workflows.export_table",
    "export_model": "segzoo.workflows.exporting",
    "find_learning_rate": "segzoo.workflows.learning_rate",
    "init": "segzoo.workflows.proposal",
    "load": "segzoo.workflows.prediction",
    "predict": "segzoo.workflows.prediction",
    "push": "segzoo.workflows.pushing",
    "serve": "segzoo.workflows.serving",
}

__all__ = list(_OBJECTS)


__getattr__, __dir__ = attach(__name__, _OBJECTS)
