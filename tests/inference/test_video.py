"""Videos: a class map of every frame, a video of overlays, and nothing where the video is damaged."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import segzoo
from segzoo.data.images import ImageReader
from segzoo.errors import DataError, SegzooError, StorageError
from segzoo.inference import OutputOptions, frames
from segzoo.inference.frames import count_frames
from segzoo.inference.uncertainty import entropy
from segzoo.inference.video import Video
from segzoo.workflows import prediction

pytestmark = pytest.mark.usefixtures("small_network", "no_trial")


def write(path: Path, count: int = 7, size: tuple[int, int] = (48, 64), rate: float = 12.5) -> Path:
    """Write a video of smooth, changing pictures; Motion JPEG keeps each frame as it is but for a few grey values."""
    path.parent.mkdir(exist_ok=True)
    height, width = size
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate, (width, height))
    rows, columns = np.indices(size)
    for number in range(count):
        red = np.stack([0 * rows, 2 * columns, (rows * 3 + 20 * number) % 256], axis=-1)
        writer.write(red.astype(np.uint8))
    writer.release()
    return path


def test_frames_are_rgb_and_counted(tmp_path):
    source = Video(write(tmp_path / "clip.avi", rate=12.5), ImageReader())
    batches = list(source.batches(3))
    assert [len(batch) for batch in batches] == [3, 3, 1] == [len(source.images(batch)) for batch in batches]
    assert (source.frames, source.rate, source.size) == (7, 12.5, (48, 64)) and count_frames(source.path) == 7
    last = batches[2][0].astype(int)
    assert abs(last[20, 30] - [(60 + 120) % 256, 60, 0]).max() < 12  # red, green, blue
    grey = Video(source.path, ImageReader(1)).images(batches[0])
    assert grey.shape == (3, 48, 64, 1)


def test_a_video_gives_an_archive_and_a_video_beside_the_results_of_images(tiny_run, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    clip = write(folder / "clip.avi", size=(50, 66))
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(folder / "one.png")
    (folder / "notes.txt").touch()
    steps = []

    done = segzoo.predict(tiny_run, folder, out, batch=2, progress=lambda *step: steps.append(step))

    assert not done.failed and done.predicted == [folder / "one.png", clip]
    assert done.files["classes"] == [out / "classes" / "one.png", out / "classes" / "clip.npz"]
    assert steps[0] == (0, 8) and steps[-1] == (8, 8) and steps == sorted(steps)
    assert str(done).splitlines()[1] == "Left out, by the endings of images and videos: 1 .txt"
    predictor, source = segzoo.load(tiny_run), Video(clip, ImageReader())
    pictures = [frame for batch in source.batches(1) for frame in batch]
    with np.load(out / "classes" / "clip.npz") as archive:  # without pickles
        assert float(archive["rate"]) == 12.5 and archive["classes"].tolist() == predictor.class_names
        maps = [archive[f"frame_{number:06d}"] for number in range(7)]
        assert len(archive.files) == 9
    np.testing.assert_array_equal(maps, [predictor.predict(frame) for frame in pictures])
    shown = Video(out / "overlays" / "clip.mp4", ImageReader())
    assert (shown.frames, shown.rate, shown.size) == (7, 12.5, (50, 66))  # too small for a legend


def test_further_outputs_have_something_for_every_frame(tiny_run, tmp_path):
    clip, out = write(tmp_path / "in" / "clip.avi", 3), tmp_path / "out"
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "in" / "one.png")
    wanted = ["probabilities", "uncertainty", "objects", "table"]

    done = segzoo.predict(tiny_run, tmp_path / "in", out, outputs=wanted, batch=2)

    assert done.files["uncertainty"][2:] == [out / "uncertainty" / f"clip.{ending}" for ending in ("mp4", "npz")]
    predictor = segzoo.load(tiny_run)
    pictures = [frame for batch in Video(clip, ImageReader()).batches(1) for frame in batch]
    expected = [predictor.probabilities(frame) for frame in pictures]
    maps = [predictor.predict(frame) for frame in pictures]
    with np.load(out / "probabilities" / "clip.npz") as stored:
        assert stored["frame_000000"].dtype == np.float16 and stored["classes"].tolist() == predictor.class_names
        np.testing.assert_allclose([stored[f"frame_00000{number}"] for number in range(3)], expected, atol=1e-3)
    with np.load(out / "uncertainty" / "clip.npz") as stored:
        found = [stored[f"frame_00000{number}"] for number in range(3)]
        np.testing.assert_allclose(found, [entropy(one) for one in expected], atol=1e-3)
    assert Video(out / "uncertainty" / "clip.mp4", ImageReader()).frames == 3
    objects = list(csv.DictReader((out / "objects" / "clip.csv").open()))
    with np.load(out / "objects" / "clip.npz") as stored:
        for number in range(3):
            rows = [row for row in objects if row["frame"] == str(number)]
            assert stored[f"frame_00000{number}"].max() == len(rows)
            for row in rows:
                pixels = stored[f"frame_00000{number}"] == int(row["object"])
                assert pixels.sum() == int(row["pixels"])
    table = list(csv.DictReader((out / "table.csv").open()))
    names = predictor.class_names
    assert [(row["image"], row["frame"]) for row in table[:: len(names)]] == [
        ("one.png", ""),
        *(("clip.avi", str(number)) for number in range(3)),
    ]
    for row in table[len(names) :]:
        assert int(row["pixels"]) == (maps[int(row["frame"])] == names.index(row["class"])).sum()


def test_the_legend_of_a_video_is_below_its_frames(tiny_run, tmp_path):
    clip = write(tmp_path / "clip.avi", 2, size=(240, 320))
    segzoo.predict(tiny_run, clip, tmp_path / "out", outputs=["overlay"])
    height, width = Video(tmp_path / "out" / "overlays" / "clip.mp4", ImageReader()).size
    assert 240 < height < 360 and width == 320


def test_frames_of_a_damaged_video_are_in_no_table(tiny_run, tmp_path):
    whole, cut = write(tmp_path / "in" / "whole.avi", 2), tmp_path / "in" / "cut.avi"
    data = bytearray(write(tmp_path / "cut.avi", 40).read_bytes())
    data[len(data) // 3 : -2000] = bytes(len(data) - 2000 - len(data) // 3)
    cut.write_bytes(data)
    done = segzoo.predict(tiny_run, tmp_path / "in", tmp_path / "out", outputs=["table"], batch=8)
    assert done.predicted == [whole] and list(done.failed) == [cut]
    assert {row["image"] for row in csv.DictReader((tmp_path / "out" / "table.csv").open())} == {"whole.avi"}


def test_odd_sizes_get_a_row_and_a_column_more_and_nothing_is_cut(tiny_run, tmp_path, monkeypatch):
    odd = [np.full((41, 55, 3), 100, np.uint8)] * 3
    clip = write(tmp_path / "clip.avi", 3)
    monkeypatch.setattr(Video, "batches", lambda self, most: iter([odd]))
    init = Video.__init__

    def with_odd_size(self, path, reader):
        init(self, path, reader)
        self.size = (41, 55)

    monkeypatch.setattr(Video, "__init__", with_odd_size)
    segzoo.predict(tiny_run, clip, tmp_path / "out", outputs=OutputOptions(legend=False))
    monkeypatch.setattr(Video, "__init__", init)
    assert Video(tmp_path / "out" / "overlays" / "clip.mp4", ImageReader()).size == (42, 56)
    with np.load(tmp_path / "out" / "classes" / "clip.npz") as archive:
        assert archive["frame_000002"].shape == (41, 55)


def test_a_damaged_video_fails_and_leaves_nothing(tiny_run, tmp_path):
    whole, cut, none = (tmp_path / "in" / name for name in ("whole.avi", "cut.avi", "none.mp4"))
    write(whole, 40)
    data = bytearray(whole.read_bytes())
    data[len(data) // 3 : -2000] = bytes(len(data) - 2000 - len(data) // 3)  # the header and index promise 40
    cut.write_bytes(data)
    none.write_bytes(b"no video")

    done = segzoo.predict(tiny_run, tmp_path / "in", tmp_path / "out", outputs=["classes"], batch=8)

    assert done.predicted == [whole]
    assert "ends after" in done.failed[cut] and "of 40 frames" in done.failed[cut]
    assert "OpenCV finds no frame in this video" in done.failed[none]
    assert [path.name for path in (tmp_path / "out" / "classes").iterdir()] == ["whole.npz"]


def test_what_cannot_be_is_refused_before_anything_is_predicted(tiny_run, tmp_path, monkeypatch):
    clip = write(tmp_path / "in" / "clip.avi", 2)
    expected = "come classes, overlay, probabilities, uncertainty, objects, table, not polygons, coco. Leave"
    with monkeypatch.context() as patch, pytest.raises(SegzooError, match=expected):
        patch.setattr(prediction, "_started", lambda *given: pytest.fail("the network was built"))
        segzoo.predict(tiny_run, clip, tmp_path / "out", outputs=["classes", "polygons", "coco"])
    segzoo.predict(tiny_run, clip, tmp_path / "out")
    with pytest.raises(SegzooError, match=r"2 results exist already, first .*clip.npz.*overwrite=True"):
        segzoo.predict(tiny_run, clip, tmp_path / "out")
    segzoo.predict(tiny_run, clip, tmp_path / "out", overwrite=True)
    write(tmp_path / "in" / "clip.mov.avi", 2).rename(tmp_path / "in" / "clip.mkv")
    (tmp_path / "in" / "clip.avi.mkv").write_bytes(clip.read_bytes())
    with pytest.raises(DataError, match="would get the same result file; rename one"):
        segzoo.predict(tiny_run, tmp_path / "in", tmp_path / "more")
    (tmp_path / "in" / "clip.avi.mkv").unlink()
    both = segzoo.predict(tiny_run, tmp_path / "in", tmp_path / "more", outputs=["classes"])
    assert [path.name for path in both.written] == ["clip.avi.npz", "clip.mkv.npz"]
    failed = segzoo.predict(tiny_run, clip, tmp_path / "few", max_pixels=1000).failed
    assert "has frames of 64 x 48 pixels, and 1,000 are the most" in failed[clip]


def test_a_video_that_is_not_written_whole_is_an_error(tiny_run, tmp_path, monkeypatch):
    clip = write(tmp_path / "clip.avi", 5)
    count = frames.count_frames
    monkeypatch.setattr(frames, "count_frames", lambda path: count(path) - (".avi" not in path.name))
    with pytest.raises(StorageError, match=r"clip.mp4 cannot be written: 4 of 5 frames arrived"):
        segzoo.predict(tiny_run, clip, tmp_path / "out")
    assert not list((tmp_path / "out" / "overlays").iterdir())


@pytest.mark.parametrize("format", ["GIF", "WEBP", "TIFF", "PNG"])
def test_pictures_of_several_frames_are_named_and_never_read_by_their_first(tiny_run, tmp_path, format):
    frames = [Image.fromarray(np.full((40, 40, 3), value, np.uint8)) for value in (0, 90, 200)]
    path = tmp_path / f"several.{format.lower()}"
    frames[0].save(path, format=format, save_all=True, append_images=frames[1:])
    done = segzoo.predict(tiny_run, path, tmp_path / "out")
    assert not done.predicted and list(done.failed) == [path]
    assert ("pages" if format == "TIFF" else "frames") in done.failed[path]
