"""Outputs of a prediction: chosen by name, checked before any work, each written whole or not at all."""

import re
from pathlib import Path

import numpy as np
import pytest
from painted import painted_predictor, save
from PIL import Image

from segzoo import files
from segzoo.errors import DataError, MissingPackageError, SegzooError, StorageError, UnknownNameError
from segzoo.files import replacing
from segzoo.inference import OUTPUTS, Output, OutputOptions

GROUND = np.zeros((40, 50), np.uint8)


@pytest.fixture(scope="module")
def predictor():
    return painted_predictor()


@pytest.fixture
def counting():
    """An output of a user's own: the number of tree pixels, in a file for each image and in one for all."""

    class Counting(Output):
        folder = "counts"

        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.run_file, self.lines = self.out / "counts.txt", []

        def suffixes(self, job):
            return (".txt",)

        def write(self, prediction):
            self.lines.append(f"{prediction.job.shown} {prediction.where(1).sum()}")
            with replacing(self.file(prediction.job, ".txt")) as temporary:
                temporary.write_text(self.lines[-1])
            return self.files(prediction.job)

        def finish(self):
            with replacing(self.run_file) as temporary:
                temporary.write_text("\n".join(self.lines))

    OUTPUTS.register("counting", Counting)
    yield Counting
    OUTPUTS.unregister("counting")


@pytest.fixture
def images(tmp_path):
    trees = GROUND.copy()
    trees[:2, :3] = 1
    return [save(tmp_path / "in" / "a.png", GROUND), save(tmp_path / "in" / "deep" / "b.png", trees)]


def test_an_output_of_the_users_own_is_like_a_built_in_one(predictor, images, tmp_path, counting):
    done = predictor.predict_files(images, tmp_path / "out", outputs=["counting", "classes"])

    assert (tmp_path / "out" / "counts" / "deep" / "b.txt").read_text() == "deep/b.png 6"
    assert (tmp_path / "out" / "counts.txt").read_text() == "a.png 0\ndeep/b.png 6"
    assert done.files["counting"] == done.written and len(done.written) == 3
    assert [path.name for path in done.files["classes"]] == ["a.png", "b.png"]
    assert not (tmp_path / "out" / "overlays").exists()


def test_the_output_of_the_page_works_as_it_stands(predictor, images, tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "predict.md").read_text(encoding="utf-8")
    source = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[-1]
    try:
        exec(source, {"__name__": "mine"})
        done = predictor.predict_files(images, tmp_path / "out", outputs=["brightness"])
    finally:
        OUTPUTS.unregister("brightness")
    assert [path.read_text() for path in done.written] == ["ground 86.7", "ground 86.7\ntree 86.7"]


@pytest.mark.parametrize(
    ("names", "error", "words"),
    [
        (["clases"], UnknownNameError, "Did you mean classes"),
        (["geojson"], UnknownNameError, "it is called polygons"),
        ([], SegzooError, "at least one"),
        ("classes, classes", SegzooError, "each once"),
    ],
)
def test_outputs_are_named_each_once(names, error, words):
    with pytest.raises(error, match=words):
        OutputOptions(names)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"probabilities": "some"}, "all, top"),
        ({"coordinates": "utm"}, "auto, crs"),
        ({"min_area": 0}, "min_area"),
        ({"fill_holes": -1}, "fill_holes"),
        ({"alpha": 2.0}, "alpha"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(SegzooError, match=words):
        OutputOptions(**options)


def test_a_file_about_all_images_is_there_whole_or_not_at_all(predictor, images, tmp_path, counting):
    def stop(done):
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predictor.predict_files(images, tmp_path / "out", outputs=["counting"], progress=stop)
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.txt")) == ["a.txt"]


def test_no_legend_is_left_where_nothing_was_predicted(predictor, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    names = [f"class {number}" for number in range(predictor.classes)]
    summary = predictor.predict_files([tmp_path / "broken.png"], tmp_path / "out", class_names=names)
    assert len(summary.failed) == 1 and not (tmp_path / "out").exists()
    missing = predictor.predict_files([tmp_path / "missing.png"], tmp_path / "out")
    assert list(missing.failed.values()) == [f"{tmp_path / 'missing.png'}: there is no such file."]


def test_a_full_disk_leaves_no_half_file(predictor, images, tmp_path, monkeypatch):
    def full(name, path):
        if name == "flush" and path.parent.name == "overlays":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "fault", full)
    with pytest.raises(StorageError, match="No space left"):
        predictor.predict_files(images, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").rglob("*") if path.is_file()) == ["a.png", "classes.json"]


def test_existing_files_about_all_images_are_replaced_only_on_request(predictor, images, tmp_path, counting):
    predictor.predict_files(images[:1], tmp_path / "out", outputs=["counting"])
    with pytest.raises(SegzooError, match=r"1 results exist already, first .*counts.txt"):
        predictor.predict_files(images[1:], tmp_path / "out", outputs=["counting"], root=tmp_path / "in")
    predictor.predict_files(images[1:], tmp_path / "out", outputs=["counting"], root=tmp_path / "in", overwrite=True)
    assert (tmp_path / "out" / "counts.txt").read_text() == "deep/b.png 6"


def test_two_outputs_never_share_a_file(predictor, images, tmp_path, counting):
    counting.folder, counting.suffixes = "classes", lambda self, job: (".png",)
    with pytest.raises(DataError, match=r"a.png as classes and .*a.png as counting"):
        predictor.predict_files(images, tmp_path / "out", outputs=["classes", "counting"])
    assert not (tmp_path / "out").exists()


def test_a_missing_package_is_named_before_any_work(predictor, images, tmp_path, counting):
    counting.packages = (("no_such_package", "geo"),)
    with pytest.raises(MissingPackageError, match=r"no_such_package, which is not installed: pip install .*\[geo\]"):
        predictor.predict_files(images, tmp_path / "out", outputs=["classes", "counting"])
    assert not (tmp_path / "out").exists()


def test_results_of_any_output_are_no_input(predictor, tmp_path):
    stray = save(tmp_path / "out" / "uncertainty" / "a.png", GROUND)
    with pytest.raises(DataError, match="itself a result"):
        predictor.predict_files([stray], tmp_path / "out")


def test_the_overlay_leaves_the_background_as_it_is(predictor, images, tmp_path):
    predictor.predict_files(images[:1], tmp_path / "out", outputs=["overlay"])
    shown = np.asarray(Image.open(tmp_path / "out" / "overlays" / "a.jpg")).astype(int)
    assert np.abs(shown - [220, 20, 20]).max() < 8
