"""Rasters over the limit of pixels are predicted by windows as whole ones are, and go on after an interruption."""

import csv
import errno
import json
import os
import signal
from pathlib import Path

import keras
import numpy as np
import pytest
from painted import NAMES, painted_predictor
from PIL import Image
from rasters import UTM, save_raster
from test_video import write as write_video

from segzoo import files
from segzoo.errors import MissingPackageError, SegzooError, StorageError
from segzoo.inference import OUTPUTS, Output, OutputOptions, Predictor
from segzoo.inference import partial as module
from segzoo.inference.ensemble import EnsembleNetwork
from segzoo.inference.network import KerasNetwork
from segzoo.inference.partial import block_of

rasterio = pytest.importorskip("rasterio")
HERE = Path(__file__).parent

MAP = np.random.default_rng(0).integers(0, 3, (301, 450)).astype(np.uint8)
MAP[:5] = MAP[150:170, 200:] = 255  # no data
BLOCKS = MAP[::7, ::9].repeat(7, axis=0).repeat(9, axis=1)[:301, :450]  # of few outlines, for tests of something else
TILED = {"nodata": 7, "tiled": True, "blockxsize": 64, "blockysize": 64}


def blurring(mode: str = "multiclass", classes: int = 3, **options) -> Predictor:
    """Return a predictor whose logits depend on the neighbourhood, so that blending counts; the same at each call."""
    image = keras.Input((None, None, 3))
    layer = keras.layers.Conv2D(1 if mode == "binary" else classes, 9, padding="same")
    model = keras.Model(image, layer(image))
    kernel = np.random.default_rng(1).normal(0, 0.01, layer.kernel.shape)
    layer.set_weights([kernel, np.zeros(layer.bias.shape)])
    names = NAMES[: 2 if mode == "binary" else classes]
    return Predictor(model, mode=mode, class_names=names, **{"tile": 128, "overlap": 32, "tile_above": 0, **options})


@pytest.fixture
def raster(tmp_path):
    return save_raster(tmp_path / "in" / "a.tif", MAP, **TILED)


@pytest.fixture
def blocks(tmp_path):
    return save_raster(tmp_path / "in" / "a.tif", BLOCKS, **TILED)


@pytest.fixture
def always(monkeypatch):
    """Record progress after every row of tiles."""
    monkeypatch.setattr(module, "_SECONDS", 0)


def opened(path):
    with rasterio.open(path) as raster:
        return raster.read(), raster.profile


def same_pixels(one: Path, other: Path) -> None:
    """Assert that two rasters have the same pixels, place and nodata."""
    (pixels, profile), (others, of_other) = opened(one), opened(other)
    np.testing.assert_array_equal(pixels, others)
    for key in ("crs", "transform", "dtype", "count"):
        assert profile[key] == of_other[key]
    assert str(profile["nodata"]) == str(of_other["nodata"])


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("multiclass", {}),
        ("multiclass", {"overlap": 64, "batch": 3}),
        ("binary", {"overlap": 0, "thresholds": [0.3]}),
        ("multilabel", {"tta": "mirror"}),
    ],
)
def test_windows_give_what_the_whole_image_gives(raster, tmp_path, mode, options):
    predictor = blurring(mode, **options)
    wanted = ["classes", "probabilities", "uncertainty", "table"]
    whole = predictor.predict_files([raster], tmp_path / "whole", outputs=wanted)
    parts = predictor.predict_files([raster], tmp_path / "parts", outputs=wanted, max_pixels=1000)

    for name in wanted[:3]:
        same_pixels(whole.files[name][-1], parts.files[name][-1])
        profile = opened(parts.files[name][-1])[1]
        assert profile["tiled"] and profile["compress"] == "deflate"
    tables = [list(csv.DictReader(done.files["table"][0].open(encoding="utf-8"))) for done in (whole, parts)]
    for row, other in zip(*tables, strict=True):
        assert row == other
    assert int(tables[0][1]["objects"]) > 0
    assert not (tmp_path / "parts" / ".partial").exists()


@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
def test_members_of_an_ensemble_disagree_by_windows_as_on_the_whole_image(raster, tmp_path, mode):
    one, other = blurring(mode).model, blurring(mode).model
    other.set_weights([2 * weights[::-1] for weights in other.get_weights()])
    ensemble = EnsembleNetwork([KerasNetwork(member, mode) for member in (one, other)])
    predictor = Predictor(ensemble, class_names=NAMES[:3], tile=128, overlap=32, tile_above=0, tta="mirror")
    options = OutputOptions(["uncertainty", "classes", "probabilities"], uncertainty="disagreement")
    whole = predictor.predict_files([raster], tmp_path / "whole", outputs=options)
    parts = predictor.predict_files([raster], tmp_path / "parts", outputs=options, max_pixels=1000)
    for name in options.names:
        same_pixels(whole.files[name][-1], parts.files[name][-1])
    found = opened(parts.files["uncertainty"][0])[0][0]
    np.testing.assert_array_equal(np.isnan(found), MAP == 255)
    assert np.nanmax(found) > 0.05

    out = tmp_path / "refused"
    with pytest.raises(SegzooError, match="single network has no members"):
        blurring(mode).predict_files([raster], out, outputs=options, max_pixels=1000)
    assert not out.exists()


def test_the_overlay_is_a_raster_of_colours_without_contours(raster, tmp_path):
    predictor = painted_predictor(tile=128, overlap=32, tile_above=0)
    (path,) = predictor.predict_files([raster], tmp_path, outputs=["overlay"], max_pixels=1000).written
    shown, profile = opened(path)
    with rasterio.open(raster) as source:
        image = source.read()
    bare = (MAP == 0) | (MAP == 255)
    assert path.name == "a.tif" and profile["crs"] == UTM and profile["count"] == 3
    np.testing.assert_array_equal(shown[:, bare], image[:, bare])
    expected = (
        image.astype(float) + predictor.legend(None, NAMES).colours[np.where(bare, 0, MAP)].transpose(2, 0, 1)
    ) / 2
    assert np.abs(shown.astype(float) - expected)[:, ~bare].max() <= 0.5


def test_a_raster_without_a_place_and_one_whose_place_is_left_out(tmp_path):
    predictor = painted_predictor(tile=96, overlap=32, tile_above=0)
    filled = np.where(MAP == 255, 0, MAP).astype(np.uint8)
    image = save_raster(tmp_path / "a.tif", filled, crs=None, transform=None)
    placed = save_raster(tmp_path / "b.tif", filled, nodata=220)
    options = OutputOptions(["classes"], georeference=False)
    done = predictor.predict_files([image, placed], tmp_path / "out", outputs=options, max_pixels=1000)
    for path in done.written:
        pixels, profile = opened(path)
        assert profile["crs"] is None
        np.testing.assert_array_equal(pixels[0], filled)


@pytest.mark.parametrize("output", ["objects", "polygons", "coco"])
def test_objects_that_a_border_parts_are_refused_with_the_reason(raster, tmp_path, output):
    bordered = painted_predictor(names=["ground", "tree", "border"])
    with pytest.raises(SegzooError, match=f"{output} has objects that the class border parts.*watershed.*Leave it out"):
        bordered.predict_files([raster], tmp_path / "out", outputs=["classes", output], max_pixels=1000)
    assert not (tmp_path / "out").exists()


def test_an_output_of_the_users_own_that_needs_the_whole_image_is_refused(raster, tmp_path):
    class Whole(Output):
        folder = "whole"

    OUTPUTS.register("whole", Whole)
    try:
        with pytest.raises(SegzooError, match=r"coco, table; whole needs the whole class map.*Leave it out"):
            painted_predictor().predict_files([raster], tmp_path / "out", outputs=["whole"], max_pixels=1000)
    finally:
        OUTPUTS.unregister("whole")
    assert not (tmp_path / "out").exists()


def test_an_output_of_the_users_own_declares_that_it_can_be_written_by_windows(raster, tmp_path):
    class Brightest(Output):
        folder = "brightest"
        by_windows = True

        def suffixes(self, job):
            return (".tif",)

        def bands(self):
            from segzoo.inference.georeference import Bands

            return Bands(1, np.uint8)

        def pixels(self, prediction):
            return prediction.image.max(axis=-1)

    OUTPUTS.register("brightest", Brightest)
    try:
        (path,) = (
            painted_predictor()
            .predict_files([raster], tmp_path / "out", outputs=["brightest"], max_pixels=1000)
            .written
        )
    finally:
        OUTPUTS.unregister("brightest")
    with rasterio.open(raster) as source:
        np.testing.assert_array_equal(opened(path)[0][0], source.read().max(axis=0))


def test_progress_counts_tiles(raster, tmp_path):
    predictor = painted_predictor(tile=128, overlap=32, tile_above=0)
    predictor.reader.max_pixels = 1000
    small = tmp_path / "in" / "b.png"
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(small)
    seen = []
    done = predictor.predict_files([raster, small], tmp_path / "out", outputs=["classes"], progress=seen.append)
    assert predictor.tiles_by_windows(raster) == 3 * 5 and predictor.tiles_by_windows(small) == 0
    assert seen == sorted(seen) and [*dict.fromkeys(seen)] == list(range(17))
    assert [path.name for path in done.written] == ["a.tif", "b.png"]


def test_images_by_windows_and_whole_and_then_videos_are_counted_and_fill_one_table(raster, tmp_path):
    predictor = painted_predictor(tile=128, overlap=32, tile_above=0)
    folder = raster.parent
    for name in ("0.png", "b.png"):
        Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(folder / name)
    lost = save_tiff(folder / "lost.tif", np.zeros((5, 40, 50), np.uint8))  # of too many channels
    clip, broken = write_video(folder / "clip.avi", 3, (24, 32)), folder / "broken.avi"
    broken.write_bytes(b"RIFF")
    images, seen = [folder / "0.png", raster, lost, folder / "b.png"], []

    done = predictor.predict_files(
        images,
        tmp_path / "out",
        outputs=["classes", "overlay", "table"],
        max_pixels=1000,
        videos=[broken, clip],
        progress=seen.append,
    )

    assert done.predicted == [folder / "0.png", raster, folder / "b.png", clip] and [*done.failed] == [lost, broken]
    assert seen == sorted(seen) and [*dict.fromkeys(seen)][-4:] == [18, 19, 20, 21]  # 1 + 15 + 1 + 1, and 3 frames
    assert [path.name for path in done.files["classes"]] == ["0.png", "a.tif", "b.png", "clip.npz"]
    assert [path.name for path in done.files["overlay"]] == ["0.jpg", "a.tif", "b.jpg", "clip.mp4"]
    with (tmp_path / "out" / "table.csv").open(encoding="utf-8") as stream:
        places = [(row["image"], row["frame"]) for row in csv.DictReader(stream)]
    expected = [("0.png", ""), ("a.tif", ""), ("b.png", ""), *(("clip.avi", str(frame)) for frame in range(3))]
    assert [*dict.fromkeys(places)] == expected and len(places) == len(NAMES) * len(expected)
    assert (tmp_path / "out" / "classes.json").exists()


def save_tiff(path: Path, bands: np.ndarray, **profile) -> Path:
    shape = {"height": bands.shape[1], "width": bands.shape[2], "count": bands.shape[0], "dtype": bands.dtype}
    with rasterio.open(path, "w", driver="GTiff", **shape, **profile) as raster:
        raster.write(bands)
    return path


@pytest.mark.parametrize(
    ("dtype", "count", "reading", "profile"),
    [
        ("uint8", 3, {}, {"interleave": "band"}),
        ("uint8", 3, {}, {"compress": "jpeg", "photometric": "ycbcr", "tiled": True}),
        ("uint8", 1, {}, {"photometric": "miniswhite"}),
        ("uint8", 1, {}, {"nbits": 4}),
        ("uint8", 4, {"alpha": "white"}, {"photometric": "rgb", "alpha": "yes"}),
        ("uint16", 3, {}, {"photometric": "rgb"}),
        ("uint16", 5, {"bands": [5, 1, 3], "value_range": (0, 9000)}, {}),
        ("float32", 1, {"value_range": (-1, 200)}, {}),
    ],
)
def test_a_window_is_read_as_the_whole_image(tmp_path, dtype, count, reading, profile):
    from segzoo.data.images import ImageReader

    bands = np.random.default_rng(0).integers(0, 16, (count, 50, 70)).astype(dtype)
    path = save_tiff(tmp_path / "a.tif", bands, **profile)
    whole = ImageReader(3, **reading)(path)
    with ImageReader(3, max_pixels=1, **reading).windows(path) as (size, read):
        assert size == (50, 70)
        found = read((7, 40), (16, 69))
    assert found.dtype == whole.dtype
    apart = 4 if profile.get("compress") == "jpeg" else 0  # Pillow and GDAL bring libraries of their own, which round
    np.testing.assert_allclose(found.astype(float), whole[7:40, 16:69], rtol=0, atol=apart)


def test_what_is_not_read_by_windows_is_refused_by_name(tmp_path, monkeypatch):
    predictor = painted_predictor()
    rng = np.random.default_rng(0)
    palette = tmp_path / "palette.tif"
    with rasterio.open(palette, "w", driver="GTiff", height=40, width=40, count=1, dtype="uint8") as raster:
        raster.write_colormap(1, {0: (1, 2, 3, 255)})
        raster.write(np.zeros((40, 40), np.uint8), 1)
    pages = tmp_path / "pages.tif"
    picture = Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8))
    picture.save(pages, save_all=True, append_images=[picture])
    five = save_tiff(tmp_path / "five.tif", np.zeros((5, 40, 40), np.uint8))
    png = tmp_path / "a.png"
    picture.save(png)
    done = predictor.predict_files([palette, pages, five, png], tmp_path / "out", outputs=["classes"], max_pixels=100)
    assert len(done.failed) == 4 and not done.predicted
    for path, words in ((palette, "palette"), (pages, "2 pages"), (five, "5 channels"), (png, "over the limit")):
        assert words in done.failed[path] and str(path) in done.failed[path]
    never = painted_predictor(tile=None)
    assert "over the limit of 100" in never.predict_files([five], tmp_path / "o", max_pixels=100).failed[five]

    turned = tmp_path / "turned.tif"
    picture.save(turned, exif=_orientation(6))
    predictor.reader._upright = True
    assert "orientation" in predictor.predict_files([turned], tmp_path / "o", max_pixels=100).failed[turned]

    def missing():
        raise ImportError

    monkeypatch.setattr("segzoo.data.tiff_windows.import_rasterio", missing)
    with pytest.raises(MissingPackageError, match=r"read by windows.*rasterio.*\[geo\]"):
        predictor.reader.windows(five).__enter__()


def _orientation(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


def test_a_damaged_raster_fails_alone_and_has_no_result(raster, tmp_path):
    data = bytearray(raster.read_bytes())
    cut = save_raster(tmp_path / "in" / "cut.tif", np.where(MAP == 255, 0, MAP), compress="deflate", **TILED)
    data = bytearray(cut.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 4000] = bytes(4000)
    cut.write_bytes(data)
    done = painted_predictor(tile=128).predict_files(
        [cut, raster], tmp_path / "out", outputs=["classes"], max_pixels=1000
    )
    assert [*done.failed] == [cut] and "damaged" in done.failed[cut]
    assert [path.name for path in (tmp_path / "out" / "classes").iterdir()] == ["a.tif"]
    assert not (tmp_path / "out" / ".partial").exists()


# Interruptions

SCRIPT = """
import os, signal, sys
from pathlib import Path
from segzoo.backend import start_backend
start_backend()
from segzoo import files
from segzoo.inference import partial
from test_huge import OUTPUTS_OF_SCRIPT, blurring

partial._SECONDS = 0
images, out, moment, at = sys.argv[1].split(","), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
if len(sys.argv) > 5:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[5]),) * 2)
operations = 0

def die_at(this, number):
    if (this, number) == (moment, at):
        os.kill(os.getpid(), signal.SIGKILL)

def fault(*operation):
    global operations
    operations += 1
    die_at("operation", operations)

files.fault = fault
blurring().predict_files(
    map(Path, images), out, outputs=OUTPUTS_OF_SCRIPT, max_pixels=1000, progress=lambda tiles: die_at("tile", tiles)
)
"""
OUTPUTS_OF_SCRIPT = OutputOptions(["classes", "probabilities", "table", "objects", "polygons", "coco"], min_area=20)


def results_in(folder: Path) -> list[Path]:
    """Return the files of a folder, without what a kill leaves of files that are written in one step."""
    found = [path for path in folder.rglob("*") if path.is_file() and not files.is_temporary(path)]
    return sorted(path.relative_to(folder) for path in found)


def same_results(one: Path, other: Path) -> None:
    """Assert that two folders have the same files, and their rasters the same pixels."""
    found = results_in(one)
    assert found == results_in(other) and found
    for path in found:
        if path.suffix == ".tif":
            same_pixels(one / path, other / path)
        else:
            assert (one / path).read_bytes() == (other / path).read_bytes()


def test_a_killed_prediction_goes_on_where_it_was(forked, blocks, tmp_path, always):
    other = save_raster(tmp_path / "in" / "b.tif", BLOCKS[::-1], **TILED)
    images, out = [blocks, other], tmp_path / "out"
    whole = blurring().predict_files(images, tmp_path / "whole", outputs=OUTPUTS_OF_SCRIPT, max_pixels=1000)
    assert len(whole.files["classes"]) == 2
    for at, named in ((8, []), (22, ["a.tif"])):  # of 15 tiles each
        forked(SCRIPT, f"{blocks},{other}", out, "tile", at, path=(HERE.parents[1], HERE), status=-signal.SIGKILL)
        assert sorted(path.name for path in out.rglob("*.tif") if ".partial" not in path.parts) == named * 3
    seen: list[int] = []
    blurring().predict_files(images, out, outputs=OUTPUTS_OF_SCRIPT, max_pixels=1000, progress=seen.append)
    assert seen[:2] == [20, 21]  # the first image is not computed again, and of the second one row is done
    same_results(tmp_path / "whole", out)


@pytest.mark.nightly
@pytest.mark.parametrize("moment", ["tile", "operation"])
def test_it_goes_on_after_a_kill_at_any_moment(forked, blocks, tmp_path, always, moment):
    blurring().predict_files([blocks], tmp_path / "whole", outputs=OUTPUTS_OF_SCRIPT, max_pixels=1000)
    count = 15 if moment == "tile" else 110
    for at in range(1, count + 1):
        out = tmp_path / f"{at}"
        forked(
            SCRIPT + "\nos.kill(os.getpid(), signal.SIGKILL)\n",
            blocks,
            out,
            moment,
            at,
            path=(HERE.parents[1], HERE),
            status=-signal.SIGKILL,
        )
        finished = (out / "table.csv").exists()
        blurring().predict_files([blocks], out, outputs=OUTPUTS_OF_SCRIPT, max_pixels=1000, overwrite=finished)
        same_results(tmp_path / "whole", out)
        if finished and not (out / ".partial").exists() and moment == "operation":
            return
    assert moment == "tile"  # the operations come to an end


def test_a_full_disk_is_an_error_and_what_was_written_is_kept(forked, raster, tmp_path):
    out = tmp_path / "out"
    limited = SCRIPT.replace("blurring().predict", "import segzoo.errors\ntry:\n  blurring().predict", 1)
    limited += "\nexcept segzoo.errors.StorageError as error:\n    print(error)\n"
    printed = forked(limited, raster, out, "tile", -1, 300_000, path=(HERE.parents[1], HERE)).stdout
    assert "probabilities.tif cannot be written" in printed and "of 3 rows of tiles are kept" in printed
    assert [path.parts[-3] for path in out.rglob("*.tif")] == [".partial"] * 2
    blurring().predict_files([raster], out, outputs=OUTPUTS_OF_SCRIPT, max_pixels=1000)
    blurring().predict_files([raster], tmp_path / "whole", outputs=OUTPUTS_OF_SCRIPT, max_pixels=1000)
    same_results(tmp_path / "whole", out)


@pytest.fixture
def interrupted(raster, tmp_path, always):
    """An output folder whose prediction ended after the second of three rows of tiles."""

    def progress(tiles):
        if tiles == 11:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        blurring().predict_files([raster], tmp_path / "out", outputs=["classes"], max_pixels=1000, progress=progress)
    return tmp_path / "out"


def predict_again(raster, out, predictor=None, **options):
    """Predict, and return the numbers of tiles that were reported as done."""
    seen: list[int] = []
    options = {"outputs": ["classes"], "max_pixels": 1000, "progress": seen.append, **options}
    (predictor or blurring()).predict_files([raster], out, **options)
    return seen


SECOND = """
import sys
from pathlib import Path
from segzoo.backend import start_backend
start_backend()
from segzoo.errors import SegzooError
from test_huge import blurring

for overwrite in (False, True):
    try:
        blurring().predict_files(
            [sys.argv[1]], Path(sys.argv[2]), outputs=["classes"], max_pixels=1000, overwrite=overwrite
        )
    except SegzooError as error:
        print(error)
"""


def test_a_second_process_is_refused_while_the_first_predicts_the_image(forked, raster, tmp_path, always):
    other = save_raster(tmp_path / "in" / "b.tif", MAP, **TILED)
    out, printed = tmp_path / "out", []

    def progress(tiles):
        if tiles == 11:
            for image in (raster, other):
                process = forked(SECOND, image, out, path=(HERE.parents[1], HERE))
                printed.append(process.stdout)

    blurring().predict_files([raster], out, outputs=["classes"], max_pixels=1000, progress=progress)
    refused, done = printed
    assert refused.count(f"Another process is predicting {raster} into {out} (process {os.getpid()} on ") == 2
    assert refused.count(", since 20") == 2 and "choose another output folder" in refused
    assert done == ""  # another image of the same folder
    assert results_in(out) == [Path("classes/a.tif"), Path("classes/b.tif"), Path("classes.json")]
    assert not (out / ".partial").exists()
    predict_again(raster, tmp_path / "whole")
    same_pixels(tmp_path / "whole" / "classes" / "a.tif", out / "classes" / "a.tif")


def test_the_lock_of_a_dead_process_is_taken_over_and_an_error_releases_it(forked, blocks, tmp_path, always):
    out = tmp_path / "out"
    forked(SCRIPT, blocks, out, "tile", 8, path=(HERE.parents[1], HERE), status=-signal.SIGKILL)
    assert len([*(out / ".partial").glob(".*.lock")]) == 1

    def fail(tiles):
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            predict_again(blocks, out, outputs=OUTPUTS_OF_SCRIPT, progress=fail)
        assert not [*(out / ".partial").glob(".*")]
    assert predict_again(blocks, out, outputs=OUTPUTS_OF_SCRIPT)[0] == 5
    assert not (out / ".partial").exists()


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("tile", lambda raster: {"predictor": blurring(tile=96)}),
        ("network", lambda raster: {"predictor": blurring(tta="flips")}),
        ("output", lambda raster: {"outputs": ["classes", "probabilities"]}),
        (
            r"georeference \(true then, false now\)",
            lambda raster: {"outputs": OutputOptions(["classes"], georeference=False)},
        ),
        ("image", lambda raster: raster.touch() or {}),
    ],
)
def test_a_part_with_other_settings_is_refused_or_replaced(raster, tmp_path, interrupted, what, change):
    changes = change(raster)
    with pytest.raises(SegzooError, match=f"another {what}.*--overwrite"):
        predict_again(raster, interrupted, **changes)
    assert predict_again(raster, interrupted, overwrite=True, **changes)[0] == 0
    predict_again(raster, tmp_path / "whole", **changes)
    same_results(tmp_path / "whole", interrupted)


def test_it_goes_on_with_other_options_of_outputs_that_are_not_wanted(raster, tmp_path, interrupted):
    options = {"alpha": 0.7, "contours": False, "legend": False, "min_area": 9, "probabilities": "top"}
    assert predict_again(raster, interrupted, outputs=OutputOptions(["classes"], **options))[0] == 10
    predict_again(raster, tmp_path / "whole")
    same_results(tmp_path / "whole", interrupted)


def test_options_of_a_wanted_output_are_named_where_they_differ(raster, tmp_path, always):
    def options(**changes):
        return OutputOptions(["classes", "overlay"], **changes)

    def progress(tiles):
        if tiles == 11:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_again(raster, tmp_path, outputs=options(), progress=progress)
    with pytest.raises(SegzooError, match=r"with another alpha \(0.5 then, 0.7 now\)\. Repeat.*--overwrite"):
        predict_again(raster, tmp_path, outputs=options(alpha=0.7))
    assert predict_again(raster, tmp_path, outputs=options(contours=False, legend=False))[0] == 10


def test_windows_of_the_image_are_read_again_for_outputs_that_show_it_alone(raster, tmp_path, monkeypatch):
    from segzoo.data.tiff_windows import TiffWindows

    read, reads = TiffWindows.read, []

    def counted(self, *place):
        reads.append(place)
        return read(self, *place)

    monkeypatch.setattr(TiffWindows, "read", counted)
    for outputs, times in ((["classes", "probabilities", "uncertainty", "table"], 1), (["classes", "overlay"], 2)):
        reads.clear()
        predict_again(raster, tmp_path / outputs[-1], outputs=outputs)
        assert len(reads) == 15 * times


def test_it_goes_on_with_another_batch_and_anew_where_a_raster_is_broken(raster, tmp_path, interrupted):
    assert predict_again(raster, interrupted, blurring(batch=2))[0] == 10

    other = tmp_path / "other"
    with pytest.raises(KeyboardInterrupt):
        predict_again(
            raster, other, progress=lambda tiles: (_ for _ in ()).throw(KeyboardInterrupt) if tiles > 6 else 0
        )
    (part,) = other.rglob("*.tif")
    part.write_bytes(b"II*\0" + bytes(100))
    assert predict_again(raster, other)[0] == 0
    same_results(interrupted, other)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("bottom"),  # as of segzoo before rows of tiles ended where they do
        lambda state: state.pop("objects"),
        lambda state: state.update(bottom=state["bottom"] - 32),
        lambda state: state.update(rows=4),
    ],
)
def test_it_begins_anew_where_the_record_does_not_tell_that_the_next_row_of_tiles_follows(
    raster, tmp_path, interrupted, change
):
    (record,) = interrupted.rglob("state.json")
    state = json.loads(record.read_text(encoding="utf-8"))
    assert state["rows"] == 2 and 0 < state["bottom"] < 301
    change(state)
    record.write_text(json.dumps(state), encoding="utf-8")
    assert predict_again(raster, interrupted, outputs=["classes"])[0] == 0
    predict_again(raster, tmp_path / "whole")
    same_results(tmp_path / "whole", interrupted)
    assert not (interrupted / ".partial").exists()


def test_the_last_steps_can_fail_and_be_repeated(raster, tmp_path, always, monkeypatch):
    outputs = ["classes", "probabilities"]

    def fault(operation, path):
        if operation == "replace" and path.parent.name == "probabilities":
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "fault", fault)
    with pytest.raises(StorageError, match="No space"):
        predict_again(raster, tmp_path / "out", outputs=outputs)
    assert (tmp_path / "out" / "classes" / "a.tif").exists()  # which is whole
    monkeypatch.undo()
    assert predict_again(raster, tmp_path / "out", outputs=outputs) == [15]
    predict_again(raster, tmp_path / "whole", outputs=outputs)
    same_results(tmp_path / "whole", tmp_path / "out")
    with pytest.raises(SegzooError, match="exist already"):
        predict_again(raster, tmp_path / "out", outputs=outputs)


def test_pixels_that_did_not_arrive_are_noticed(raster, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "write_window", lambda *arguments: None)
    with pytest.raises(StorageError, match=r"other pixels arrived.*0 of 3 rows"):
        predict_again(raster, tmp_path / "out")
    assert not (tmp_path / "out" / "classes").exists()


def test_blocks_divide_the_steps_of_tiles():
    assert [block_of(768, 768), block_of(384, 384), block_of(96, 128), block_of(225, 192)] == [256, 128, 32, 32]
