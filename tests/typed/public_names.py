"""What mypy has to know of the public names: `mypy tests/typed/public_names.py` fails where one of them is Any."""

from __future__ import annotations

from typing import assert_type

import segzoo
from segzoo.training.run import Run

assert_type(segzoo.load_run("runs/a"), Run)
assert_type(segzoo.load_config("unet_b3"), segzoo.config.Config)
assert_type(segzoo.losses.Dice().per_image, bool)
assert_type(segzoo.metrics.ConfusionMatrix(2).mean_iou(), float)
assert_type(segzoo.data.Labels(("a",)).max_pixels, int)
segzoo.build_model("unet", "resnet18", 3, weights=3)  # type: ignore[arg-type]
segzoo.decoders.UNet(channels="wide")  # type: ignore[arg-type]
segzoo.inference.palette("two")  # type: ignore[arg-type]
segzoo.train("config.yaml", resume="yes")  # type: ignore[arg-type]
