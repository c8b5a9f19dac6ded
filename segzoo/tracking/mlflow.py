"""Runs in MLflow (https://mlflow.org): on a server, or in a database or folder of its own."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from segzoo.tracking import TRACKERS, TrackedRun

_BATCH = 100  # what one request may hold
_LONGEST = 250  # letters of a name
_NOT_IN_A_NAME = re.compile(r"[^\w./ -]")  # MLflow refuses these, on Windows the colon too


@TRACKERS.register("mlflow")
class MLflow:
    """One MLflow run: the configuration as parameters, figures as metrics, sheets as images, files as artifacts.

    It goes through MLflow's client, so the run that the caller may have active is not touched.

    Args:
        run: the run.
        experiment: name of the experiment, made where there is none.
        tracking_uri: address of the server or store; None: what MLflow is set to (MLFLOW_TRACKING_URI). Passwords
            belong into MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD: this one is kept in the run folder.
    """

    package: ClassVar[str] = "mlflow"

    def __init__(self, run: TrackedRun, *, experiment: str = "segzoo", tracking_uri: str | None = None):
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client = MlflowClient(tracking_uri=tracking_uri)
        if run.id is not None:
            self.id = run.id
            self._client.update_run(self.id, status="RUNNING")
        else:
            found = self._client.get_experiment_by_name(experiment)
            number = found.experiment_id if found else self._client.create_experiment(experiment)
            self.id = self._client.create_run(number, run_name=run.name).info.run_id
            parameters = [Param(_name(key), value) for key, value in flattened(run.facts)]
            for start in range(0, len(parameters), _BATCH):
                self._client.log_batch(self.id, params=parameters[start : start + _BATCH])
        self.where = f"run {self.id} of experiment {experiment} in {self._client.tracking_uri}"

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add one metric under each name."""
        self._metrics(step, values)

    def picture(self, step: int, tag: str, path: Path) -> None:
        """Add the PNG at `path` to the images of `tag`."""
        from PIL import Image

        with Image.open(path) as image:
            self._client.log_image(self.id, image.convert("RGB"), key=tag, step=step)

    def finish(self, figures: Mapping[str, float], files: Sequence[Path]) -> None:
        """Add the last metrics, and the files as artifacts."""
        self._metrics(0, figures)
        for path in files:
            self._client.log_artifact(self.id, str(path))

    def close(self, finished: bool) -> None:
        """Set the run's status to FINISHED or FAILED; a resumed one is RUNNING again."""
        self._client.set_terminated(self.id, "FINISHED" if finished else "FAILED")

    def _metrics(self, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        names = metric_names(values)
        metrics = [Metric(names[key], float(value), now, step) for key, value in values.items()]
        for start in range(0, len(metrics), _BATCH):
            self._client.log_batch(self.id, metrics=metrics[start : start + _BATCH])


def flattened(facts: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Yield "a.b" and the text of each value of a nested mapping; lists are JSON."""
    for key, value in facts.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping) and value:
            yield from flattened(value, f"{name}.")
        else:
            yield name, value if isinstance(value, str) else json.dumps(value)


def metric_names(keys: Iterable[str]) -> dict[str, str]:
    """Return the name of each key in MLflow, which refuses most signs, empty parts of a path and long names.

    Two keys that would get one name, and figures of one class that would be taken for another's, have a part of their
    digest at the end.
    """
    found = {key: _name(key) for key in keys}
    counts = Counter(found.values())
    return {
        key: name if counts[name] == 1 and len(name) <= _LONGEST else f"{name[: _LONGEST - 9]}-{_digest(key)}"
        for key, name in found.items()
    }


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _name(key: str) -> str:
    parts = _NOT_IN_A_NAME.sub("_", key).split("/")
    return "/".join("_" * max(1, len(part)) if part.strip(".") == "" else part for part in parts)
