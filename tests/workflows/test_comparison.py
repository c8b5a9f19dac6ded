"""`segzoo.compare` and `segzoo compare`: figures, report and refusals."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import segzoo
from segzoo.cli import app
from segzoo.engine.checkpoint.run import load_run
from segzoo.errors import SegzooError, UnknownNameError
from segzoo.export import FORMATS
from segzoo.metrics import ConfusionMatrix, ImageCounts, bootstrap

pytestmark = pytest.mark.usefixtures("small_network", "no_trial")


@pytest.fixture(scope="module")
def other_run(tiny_run, tmp_path_factory):
    """A copy of the run with the weights of its last epoch as its best, another seed and another log."""
    path = tmp_path_factory.mktemp("other") / "other"
    shutil.copytree(tiny_run, path)
    config = (path / "config.yaml").read_text()
    (path / "config.yaml").write_text(re.sub(r"^seed: .*$", "seed: 77", config, flags=re.MULTILINE))
    rows = [{"event": "epoch", "epoch": n, "loss": 1 / n, "val_mean_iou": n / 10} for n in (1, 2, 3)]
    (path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"event": "epo')
    return path


def evaluation(like, name, hits):
    """An evaluation of two classes in which `hits[i]` of 100 pixels of each class are right in image i."""
    images = [ImageCounts(str(i), np.array([h, h]), np.array([100, 100]), np.array([100, 100])) for i, h in hits]
    total = sum(h for _, h in hits)
    counts = np.array([[total, 100 * len(hits) - total], [100 * len(hits) - total, total]])
    confusion = ConfusionMatrix(2, 255, counts)
    return replace(
        like, run=name, class_names=["a", "b"], confusion=confusion, images=images, intervals=bootstrap(images)
    )


@pytest.fixture
def measured(tiny_run):
    """The evaluation of the run."""
    return segzoo.evaluate(tiny_run, report=False)


def test_two_runs_are_evaluated_and_compared_on_the_data_of_the_first(tiny_run, other_run, measured, tmp_path):
    steps = []
    found = segzoo.compare(
        [tiny_run, other_run, tiny_run], report=tmp_path / "page", progress=lambda *step: steps.append(step)
    )
    assert found.names == ["tiny", "other", "tiny (2)"]
    for each in found.evaluations:  # the copy has the same weights
        np.testing.assert_array_equal(each.confusion.counts, measured.confusion.counts)
    for differences in found.differences:
        assert (differences.mean_iou.value, differences.mean_iou.interval, differences.mean_iou.p) == (0, (0, 0), 1)
        assert all(each.value == 0 or np.isnan(each.value) for each in differences.iou)
    assert steps[0] == (0, 15) and steps[-1] == (15, 15) and steps == sorted(steps)
    page = found.report.read_text(encoding="utf-8")
    assert found.report == tmp_path / "page" / "index.html" and "tiny (2)" in page
    assert Image.open(tmp_path / "page" / "curves.png").size[0] > 1000
    written = json.loads((tmp_path / "page" / "report.json").read_text())
    assert written["settings"] == [{"key": "seed", "tiny": "0", "other": "77", "tiny (2)": "0"}]
    assert written["models"][1]["difference"]["mean_iou"] == {"value": 0.0, "interval": [0.0, 0.0], "p": 1.0}
    assert written["models"][0]["mean_iou"] == measured.mean_iou
    assert [len(model.history) for model in found.contents.models] == [2, 3, 2]

    first, _, again = found.contents.models  # of the other it is not known what "auto" came to
    longer = replace(again, automatic={**first.automatic, "training.optimizer.lr_scale.head": 2.0})
    rows = replace(found.contents, models=[first, longer]).setting_rows()
    assert rows == [["key", "tiny", "tiny (2)"], ["training.optimizer.lr_scale.head", "10.0", "2.0"]]
    given = replace(again, settings={**again.settings, "training.optimizer.clip_norm": 1.0})
    assert replace(found.contents, models=[first, given]).setting_rows() == []


def test_all_models_are_viewed_and_tiled_as_evaluate_does(other_run, tmp_path):
    options = {"tta": "mirror", "tile": 32, "overlap": 0}
    run = tmp_path / "run"  # the report goes into its folder
    shutil.copytree(other_run, run)
    expected = segzoo.evaluate(run, report=False, **options)
    found = segzoo.compare([run, other_run], **options)
    for each in found.evaluations:
        np.testing.assert_array_equal(each.confusion.counts, expected.confusion.counts)
        assert each.network == "best weights, tta mirror, tile 32, overlap 0"
    assert found.report.parent.name == "comparison_val_with_other_tta-mirror_tile-32_overlap-0"
    assert "tta mirror" in found.report.read_text(encoding="utf-8")


def test_a_model_file_is_evaluated_on_the_data_of_the_run(tiny_run, measured):
    for package in FORMATS["litert"].packages:
        pytest.importorskip(package)
    path = segzoo.export_model(tiny_run, "litert").path
    found = segzoo.compare([path, load_run(tiny_run)], overrides=["data.val_count=4"], report=False)
    assert [len(each.images) for each in found.evaluations] == [4, 4] and found.report is None
    assert abs(found.differences[0].mean_iou.value) < 1e-2
    assert found.contents.setting_rows() == []


def test_evaluations_are_compared_as_they_are(measured, tmp_path):
    one = evaluation(measured, "one", list(enumerate([50, 60, 70, 80])))
    two = evaluation(measured, "two", list(enumerate([60, 70, 80, 90])))
    found = segzoo.compare([one, two])
    assert found.report is None
    assert found.differences[0].mean_iou.value == pytest.approx(75 / 125 - 65 / 135)
    assert found.contents.iou_rows()[1][0] == "a" and found.contents.iou_rows()[-1][1].startswith("0.4815 (")
    assert found.contents.difference_rows()[-1][:2] == ["mean IoU", found.contents.difference_rows()[1][1]]
    assert found.contents.difference_rows()[1][1].startswith("+0.1185 (+0.")
    page = segzoo.compare([one, two], report=tmp_path).report.read_text(encoding="utf-8")
    assert "Training curves" not in page and not (tmp_path / "curves.png").exists()


def test_what_cannot_be_compared_is_refused(tiny_run, measured, tmp_path):
    six = evaluation(measured, "six", list(enumerate([50, 60])))
    for models, split, words in (
        ([tiny_run], None, "two or more"),
        (str(tiny_run), None, "two or more"),
        ([measured, six], None, "class 0 is .* in tiny and 'a' in six"),
        ([measured, replace(six, split="test")], None, "six was evaluated on the test split, not on val"),
        (
            [six, evaluation(measured, "x", [(0, 50), (9, 60)])],
            None,
            "x and six .* same images.*image 1 is '9', and '1'",
        ),
        ([measured, replace(measured, images=measured.images[:-1])], None, "image 4 is missing"),
    ):
        with pytest.raises(SegzooError, match=words):
            segzoo.compare(models, split, report=False)
    with pytest.raises(UnknownNameError, match="Unknown split 'exam'"):
        segzoo.compare([measured, measured], "exam")


def test_the_command_prints_both_tables_and_writes_into_the_folder_of_the_first(tiny_run, other_run, capsys):
    with pytest.raises(SystemExit) as stop:
        app(["compare", str(other_run), str(tiny_run)])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    page = other_run / "comparison_val_with_tiny" / "index.html"
    assert page.is_file() and f"Report: {page}" in " ".join(printed.split())
    assert "IoU on the val split" in printed and "Differences to other" in printed
    mean = [line for line in printed.splitlines() if "mean IoU" in line]
    assert len(mean) == 2 and "0.0000 (0.0000 to 0.0000)" in mean[1] and "1.0000" in mean[1]
