"""Types of the public names: `mypy tests/typed/public_names.py` fails if one of them is Any."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import segzoo
from segzoo.engine.checkpoint.run import Run
from segzoo.export import ExportReport
from segzoo.inference import Predictor
from segzoo.workflows import RunEvaluation

assert_type(segzoo.load_run("runs/a"), Run)
assert_type(segzoo.load_config("unet_b3"), segzoo.config.Config)
assert_type(segzoo.losses.Dice().per_image, bool)
assert_type(segzoo.metrics.ConfusionMatrix(2).mean_iou(), float)
assert_type(segzoo.data.Labels(("a",)).max_pixels, int)
assert_type(segzoo.load("runs/a"), Predictor)
assert_type(segzoo.evaluate("runs/a"), RunEvaluation)
assert_type(segzoo.evaluate("runs/a").mean_iou, float)
assert_type(segzoo.compare(["runs/a", "runs/b"]).report, Path | None)
assert_type(segzoo.predict("runs/a", "photos", "out").written, list[Path])
assert_type(segzoo.export_model("runs/a", "onnx"), ExportReport)
assert_type(segzoo.export_all("runs/a").rows[0].mean_iou, float | None)
assert_type(segzoo.check_data("unet_b3").ok, bool)
assert_type(segzoo.init("photos", "masks").path, Path)
assert_type(segzoo.find_learning_rate("unet_b3").suggested, float | None)
segzoo.evaluate("runs/a", "exam")  # type: ignore[arg-type]
segzoo.build_model("unet", "resnet18", 3, weights=3)  # type: ignore[arg-type]
segzoo.decoders.UNet(channels="wide")  # type: ignore[arg-type]
segzoo.inference.palette("two")  # type: ignore[arg-type]
segzoo.train("config.yaml", resume="yes")  # type: ignore[arg-type]
