"""Features of a run that meet: several outputs and resuming, stages and plateau, a start and its own folder."""

import json
import os
import signal

import numpy as np
import pytest
from moments import at_moment

from segzoo.data import Sample, check_splits, presence
from segzoo.engine import train
from segzoo.engine.checkpoint.provenance import differences
from segzoo.errors import DataError, RunError, RunInterruptedError

SETTINGS = ("training.optimizer.learning_rate=0.01",)


@pytest.fixture
def run(config, console):
    return lambda *overrides, **options: train(config(*overrides), console=console, **options)


def test_losses_of_several_outputs_go_on_within_an_epoch(run, light, five_convolutions, signals_arrive):
    auxiliary = "model.auxiliary={P2: 0.4}"
    whole = run("name=whole", auxiliary)
    stopping = at_moment("step 1", lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(RunInterruptedError):
        run("name=broken", auxiliary, callbacks=[stopping])
    resumed = run("name=broken", auxiliary)
    for left, right in zip(whole.history, resumed.history, strict=True):
        assert "auxiliary_loss" in left
        for key in ("loss", "auxiliary_loss", "val_loss", "val_mean_iou"):
            assert left[key] == right[key], key


def test_a_run_is_not_removed_for_one_that_starts_from_it(run, quick):
    first = run()
    with pytest.raises(RunError, match="is the run that --overwrite would remove first"):
        run(f"training.init_from={first.folder}", overwrite=True)
    assert (first.folder / "best.weights.h5").is_file()
    started = run("name=started", f"training.init_from={first.folder}", "training.max_time=1h")
    again = run("name=started", f"training.init_from={first.folder}", "training.max_time=2h", resume=True)
    said = json.loads((again.folder / "environment.json").read_text())["weights"]
    assert "tensors loaded" in said and started.folder == again.folder


def test_what_moves_files_or_reports_may_change():
    def origin(**config):
        return {"config": config}

    cache = {"disk_cache": {"folder": "a", "max_mb": 1}}
    assert not differences(origin(data=cache), origin(data={"disk_cache": {"folder": "b", "max_mb": 1}}))
    assert not differences(origin(data=cache), origin(data={"disk_cache": None}))
    assert not differences(origin(tracking={"mlflow": {}}), origin(tracking={}))
    assert differences(origin(data={"disk": 1}), origin(data={"disk": 2})) == ["data.disk was 1 and is 2"]


class Bands:
    """Two images of twelve channels, each annotated for one of two overlapping classes alone."""

    ids, classes, ignore_index = ["a", "b"], ["one", "two"], 255

    def __len__(self):
        return 2

    def __getitem__(self, index):
        mask = np.full((300, 280, 2), 255, np.uint8)
        mask[..., index] = 0
        mask[:10, :, index] = 1
        image = np.random.default_rng(index).integers(0, 256, (300, 280, 12), dtype=np.uint8)
        return Sample(image, mask, self.ids[index])

    def fingerprint(self):
        return "bands"


def test_check_data_takes_many_channels_and_masks_annotated_in_part():
    report = check_splits({"train": Bands()}).splits["train"]
    assert report.pixels == {"one": 2800, "two": 2800}
    assert report.ignored == 0 and all(report.shown_in[name] >= report.pixels[name] for name in report.pixels)


def test_a_broken_mask_does_not_stop_the_split_that_check_data_looks_at():
    class Broken(Bands):
        def __getitem__(self, index):
            if index:
                raise DataError("b.png: broken")
            return super().__getitem__(index)

    assert presence(Broken(), strict=False).tolist() == [[True, False], [False, False]]
    with pytest.raises(DataError, match="broken"):
        presence(Broken())
