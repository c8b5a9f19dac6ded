"""Kinds of mask pictures, as docs/custom-masks.md lists them: the stored values, or a refusal that names the cure."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.data import FolderSource, Labels, check_source, check_splits, create_format, split
from segzoo.errors import ConfigError, DataError

CLASSES = ("ground", "thing", "other")
COLORS = {"ground": [0, 0, 0], "thing": [128, 64, 0], "other": [0, 0, 192]}
TWO = {"binary": {}, "per_class": {"files": "{name}_{class}.png"}, "instances": {}}  # formats of two values


@pytest.fixture
def truth() -> np.ndarray:
    mask = np.zeros((24, 32), np.uint8)
    mask[4:12, 6:20] = 1
    mask[14:20, 10:30] = 2
    return mask


@pytest.fixture
def root(tmp_path) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks" / "a").mkdir(parents=True)
    add_image(tmp_path, "a")
    return tmp_path


def add_image(root: Path, name: str) -> None:
    Image.fromarray(np.full((24, 32, 3), 90, np.uint8)).save(root / "images" / f"{name}.png")


def source(root: Path, name: str, classes=CLASSES, ignore_index=255, multilabel=False, strict=True, **options):
    masks = create_format(
        name, Labels(tuple(classes), ignore_index, "multilabel" if multilabel else "multiclass"), **options
    )
    return FolderSource(root, "", classes, ignore_index, masks=masks, strict=strict)


def read(root: Path, name: str, *args, **options) -> np.ndarray:
    return source(root, name, *args, **options)[0].mask


def place(root: Path, name: str, suffix: str = ".png") -> Path:
    """Return the path at which a format looks for the mask of the image a."""
    return root / "masks" / {"per_class": f"a_thing{suffix}", "instances": f"a/1{suffix}"}.get(name, f"a{suffix}")


def cut_out(alpha: np.ndarray, color: int) -> Image.Image:
    """A picture of one colour whose alpha channel alone shows something."""
    return Image.fromarray(np.dstack([np.full((*alpha.shape, 3), color, np.uint8), alpha]))


# --- Alpha ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TWO)
@pytest.mark.parametrize("color", [0, 255])
def test_a_mask_in_the_alpha_channel_is_read_where_the_configuration_says_so(root, truth, name, color):
    inside = truth > 0
    cut_out(255 * inside.astype(np.uint8), color).save(place(root, name))
    with pytest.raises(
        DataError, match=rf"{(~inside).sum()} of 768 pixels are transparent.*masks\.channel: alpha where"
    ):
        read(root, name, CLASSES[:2], **TWO[name])
    np.testing.assert_array_equal(read(root, name, CLASSES[:2], channel="alpha", **TWO[name]), inside)
    grey = read(root, name, CLASSES[:2], channel="grey", **TWO[name])
    np.testing.assert_array_equal(grey, np.full(truth.shape, color // 255))


@pytest.mark.parametrize("mode", ["LA", "RGBA", "PA", "P"])
def test_alpha_that_says_the_same_as_the_colours_or_nothing_is_no_question(root, truth, mode):
    white = 255 * (truth > 0).astype(np.uint8)
    opaque = Image.merge("LA", [Image.fromarray(white), Image.new("L", (32, 24), 255)])
    same = Image.merge("LA", [Image.fromarray(white)] * 2)
    for picture in (opaque, same):
        if mode == "P":
            if picture is same:
                continue
            picture = Image.fromarray(white).convert("P")
        elif mode == "PA":
            if picture is same:
                continue
            picture = picture.convert("RGBA")
        picture.convert("RGBA" if mode in ("RGBA", "PA") else picture.mode).save(place(root, "binary"))
        np.testing.assert_array_equal(read(root, "binary", CLASSES[:2]), truth > 0)


def test_transparency_of_a_palette_is_an_alpha_channel(root, truth):
    picture = Image.fromarray((truth > 0).astype(np.uint8))
    picture.putpalette([0, 0, 0, 0, 0, 0])  # both entries are black, the first is clear
    picture.save(place(root, "binary"), transparency=0)
    with pytest.raises(DataError, match=r"pixels are transparent.*masks\.channel"):
        read(root, "binary", CLASSES[:2])
    np.testing.assert_array_equal(read(root, "binary", CLASSES[:2], channel="alpha"), truth > 0)
    # for class indices neither palette nor transparency counts, as in VOC
    np.testing.assert_array_equal(read(root, "index", CLASSES[:2]), truth > 0)


def test_class_indices_and_colours_take_no_transparency(root, truth):
    clear = np.where(truth == 2, 0, 255).astype(np.uint8)
    Image.merge("LA", [Image.fromarray(truth), Image.fromarray(clear)]).save(place(root, "index"))
    with pytest.raises(DataError, match=r"120 of 768 pixels of the mask are transparent.*channel: alpha"):
        read(root, "index")
    Image.merge("LA", [Image.fromarray(truth), Image.new("L", (32, 24), 255)]).save(place(root, "index"))
    np.testing.assert_array_equal(read(root, "index"), truth)
    colors = np.array(list(COLORS.values()), np.uint8)[truth]
    Image.fromarray(np.dstack([colors, clear])).save(place(root, "rgb"))
    with pytest.raises(DataError, match=r"120 of 768 pixels of the mask are transparent"):
        read(root, "rgb", colors=COLORS)
    Image.fromarray(np.dstack([colors, clear | 255])).save(place(root, "rgb"))
    np.testing.assert_array_equal(read(root, "rgb", colors=COLORS), truth)


def test_channels_leave_out_an_alpha_channel_that_says_nothing(root, truth):
    layers = np.stack([truth > 0, truth == 1, truth == 2], -1).astype(np.uint8)
    Image.fromarray(np.dstack([255 * layers, np.full(truth.shape, 255, np.uint8)])).save(place(root, "channels"))
    np.testing.assert_array_equal(read(root, "channels", multilabel=True), layers)
    four = read(root, "channels", (*CLASSES, "all"), multilabel=True)
    np.testing.assert_array_equal(four, np.dstack([layers, np.ones(truth.shape)]))
    Image.fromarray(np.dstack([255 * layers, 255 * (truth > 0).astype(np.uint8)])).save(place(root, "channels"))
    with pytest.raises(DataError, match=r"shape \(24, 32, 4\), where multilabel needs \(H, W, 3\)"):
        read(root, "channels", multilabel=True)


def test_channel_is_grey_or_alpha(root, truth):
    for name in TWO:
        with pytest.raises(ConfigError, match=r"masks\.channel must be grey or alpha, got 'red'"):
            create_format(name, Labels(CLASSES[:2]), channel="red")
    Image.fromarray(truth).save(place(root, "binary"))
    with pytest.raises(DataError, match=r"has no alpha channel, which masks\.channel: alpha reads"):
        read(root, "binary", CLASSES[:2], channel="alpha")


# --- Floats and whole numbers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("high", [1, 255])
def test_float_tiffs_hold_labels_where_all_are_whole(root, truth, high):
    Image.fromarray(truth.astype(np.float32)).save(place(root, "index", ".tif"))
    mask = read(root, "index")
    np.testing.assert_array_equal(mask, truth)
    assert mask.dtype == np.uint16
    white = ((truth > 0) * high).astype(np.float32)
    for name in ("binary", "instances"):
        Image.fromarray(white).save(place(root, name, ".tif"))
        np.testing.assert_array_equal(read(root, name, CLASSES[:2]), truth > 0)


@pytest.mark.parametrize(("value", "shown"), [(0.5, "0.5"), (np.nan, "nan"), (np.inf, "inf"), (-3.4e38, r"-3\.4e\+38")])
def test_fractions_and_values_that_are_no_numbers_are_counted(root, truth, value, shown):
    floats = truth.astype(np.float32)
    floats[2, 3:7] = value
    Image.fromarray(floats).save(place(root, "index", ".tif"))
    np.save(place(root, "array", ".npy"), floats.astype(np.float64))
    pattern = rf"4 of 768 values of the mask are no whole numbers of 32 bits: {shown}.* \(4 pixels\)"
    with pytest.raises(DataError, match=pattern):
        read(root, "index")
    with pytest.raises(DataError, match=r"a\.npy: 4 "):
        read(root, "array")
    with pytest.raises(DataError, match=pattern):  # a mask of 0.5 was cut to 0
        read(root, "binary", CLASSES[:2])


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint32", "float32"])
def test_whole_numbers_of_every_type_that_tiffs_have(root, truth, dtype):
    rasterio = pytest.importorskip("rasterio")
    empty = np.iinfo(dtype).min if dtype.startswith("i") else 2**32 - 1 if dtype == "uint32" else -9999
    stored = truth.astype(dtype)
    stored[:3] = empty
    shape = {"driver": "GTiff", "height": 24, "width": 32, "count": 1, "dtype": dtype, "nodata": empty}
    with rasterio.open(place(root, "index", ".tif"), "w", **shape) as raster:
        raster.write(stored, 1)
    with pytest.raises(DataError, match=rf"label {empty} \(96 pixels\).*calls {empty} no data: set data\.ignore_index"):
        read(root, "index")
    values = {name: number for number, name in enumerate(CLASSES)}
    with pytest.raises(DataError, match=rf"value {empty} \(96 pixels\) is not in masks\.values.*ignore: {empty}"):
        read(root, "index", values=values)
    expected = truth.copy()
    expected[:3] = 255
    np.testing.assert_array_equal(read(root, "index", values={**values, "ignore": empty}), expected)
    np.testing.assert_array_equal(read(root, "index", values=values, other="ignore"), expected)


@pytest.mark.parametrize(("ignore_index", "dtype"), [(-1, np.int16), (-9999, np.int16), (-99999, np.int32)])
def test_the_ignore_index_may_be_negative(root, truth, ignore_index, dtype):
    stored = truth.astype(np.int32)
    stored[:3] = ignore_index
    Image.fromarray(stored).save(place(root, "index", ".tif"))
    np.save(place(root, "array", ".npy"), stored.astype(np.int64))
    for name in ("index", "array"):
        made = source(root, name, ignore_index=ignore_index)
        mask = made[0].mask
        np.testing.assert_array_equal(mask, stored)
        assert mask.dtype == dtype  # not int8, which OpenCV cannot warp
        report = check_source(made)
        assert report.ok and report.ignored == 96 and report.pixels["thing"] == (truth == 1).sum()
    layers = np.stack([truth == n for n in range(3)], -1).astype(np.int32)
    layers[:3] = ignore_index
    np.save(place(root, "array", ".npy"), layers)
    np.testing.assert_array_equal(read(root, "array", ignore_index=ignore_index, multilabel=True), layers)
    colors = {**COLORS, "ignore": [9, 9, 9]}
    picture = np.array(list(COLORS.values()), np.uint8)[truth]
    picture[:3] = 9
    Image.fromarray(picture).save(place(root, "rgb"))
    place(root, "rgb", ".tif").unlink()
    np.testing.assert_array_equal(read(root, "rgb", ignore_index=ignore_index, colors=colors), stored)


def test_numbers_beyond_32_bits_do_not_wrap(root, truth):
    np.save(place(root, "array", ".npy"), truth.astype(np.int64) + 2**32)
    with pytest.raises(DataError, match=r"label 4294967296 \(\d+ pixels\)"):
        read(root, "array")
    np.save(place(root, "array", ".npy"), truth.astype(np.uint64) + np.uint64(2**63))
    with pytest.raises(DataError, match=r"label 9223372036854775808 \(\d+ pixels\)"):
        read(root, "array")


# --- White under a format of labels ---------------------------------------------------------------------------------


def test_one_thing_in_white_is_no_ignored_label(root, truth):
    """It would be trained on background alone, since 255 is the ignore index."""
    white = 255 * (truth > 0).astype(np.uint8)
    for name in ("a", "b", "c"):
        add_image(root, name)
        Image.fromarray(white).save(root / "masks" / f"{name}.png")
        np.save(root / "masks" / f"{name}.npy", white.astype(np.float32))
    for kind in ("index", "array"):
        pattern = r"a\.(png|npy) and 2 more: no mask shows more than 0 and 255.*set masks: binary"
        with pytest.raises(DataError, match=pattern):
            source(root, kind, CLASSES[:2])
        found = check_splits({"train": source(root, kind, CLASSES[:2], strict=False)})
        errors = [problem for problem in found.problems if problem.severity == "error"]
        assert not found.ok and [problem.kind for problem in errors] == ["label"]
        assert "masks: binary" in errors[0].message
    np.testing.assert_array_equal(read(root, "binary", CLASSES[:2]), truth > 0)
    said = read(root, "index", CLASSES[:2], values={"ground": 0, "thing": 1, "ignore": 255})
    np.testing.assert_array_equal(said, white)
    Image.fromarray(truth).save(root / "masks" / "c.png")  # one mask that shows a class is enough
    np.testing.assert_array_equal(source(root, "index")[0].mask, white)
    for name in ("a", "b", "c"):
        Image.fromarray(0 * truth).save(root / "masks" / f"{name}.png")
    assert read(root, "index").max() == 0  # background alone is no sign of white


@pytest.mark.parametrize("kind", ["index", "array"])
@pytest.mark.parametrize("held_out", ["val", "test"])
def test_what_a_split_has_decides_where_samples_are_dealt(root, truth, kind, held_out):
    """One mask that shows a class does not help where it falls into another split than the training's."""
    for name in "abcdefgh":
        mask = (truth > 0).astype(np.uint8) * (1 if name == "d" else 255)
        add_image(root, name)
        np.save(root / "masks" / f"{name}.npy", mask)
        Image.fromarray(mask).save(root / "masks" / f"{name}.png")
    lists = {name: root / f"{name}.txt" for name in ("train", "val", "test")}
    others = "val" if held_out == "test" else "test"
    for name, ids in {"train": "abcef", held_out: "d", others: "gh"}.items():
        lists[name].write_text("\n".join(ids))
    pattern = r"a\.(png|npy) and 4 more: no mask of the split 'train' shows more than 0 and 255.*set masks: binary"
    with pytest.raises(DataError, match=pattern):
        split(source(root, kind, CLASSES[:2]), **lists)
    found = check_splits(split(source(root, kind, CLASSES[:2], strict=False), **lists))
    errors = [problem for problem in found.problems if problem.severity == "error"]
    assert not found.ok and [(problem.kind, problem.split) for problem in errors] == [("label", "train")]
    assert "set masks: binary" in errors[0].message


def test_a_held_out_split_in_white_is_hinted_at(root, truth):
    """It may show none of the objects, so it is no error; but where 255 is the object its figures are of nothing."""
    for name in "abcd":
        add_image(root, name)
        Image.fromarray((truth > 0).astype(np.uint8) * (255 if name == "d" else 1)).save(root / "masks" / f"{name}.png")
    lists = {name: root / f"{name}.txt" for name in ("train", "val")}
    lists["train"].write_text("a\nb\nc")
    lists["val"].write_text("d")
    split(source(root, "index", CLASSES[:2]), **lists)
    found = check_splits(split(source(root, "index", CLASSES[:2], strict=False), **lists))
    (absent,) = (problem.message for problem in found.problems if problem.kind == "absent_class")
    assert "'val'" in absent and "nothing but 0 and 255; where that is the object, set masks: binary" in absent


def test_one_error_is_enough_where_no_mask_at_all_shows_a_class(root, truth):
    for name in "abcd":
        add_image(root, name)
        Image.fromarray(255 * (truth > 0).astype(np.uint8)).save(root / "masks" / f"{name}.png")
    found = check_splits(split(source(root, "index", CLASSES[:2], strict=False), fraction=0.5))
    assert [problem.kind for problem in found.problems if problem.severity == "error"] == ["label"]


def test_a_white_mask_under_another_ignore_index_is_hinted_at(root, truth):
    Image.fromarray(255 * (truth > 0).astype(np.uint8)).save(place(root, "index"))
    with pytest.raises(DataError, match=r"label 255 .*Where 255 is one thing in white, masks: binary reads it"):
        read(root, "index", CLASSES[:2], ignore_index=9)


def test_arrays_of_0_and_255_in_multilabel_ask_what_255_means(root, truth):
    layers = np.stack([truth == n for n in range(3)], -1).astype(np.uint8)
    np.save(place(root, "array", ".npy"), 255 * layers)
    with pytest.raises(DataError, match=r"no mask shows more than 0 and 255.*set masks\.high: 255"):
        read(root, "array", multilabel=True)
    np.testing.assert_array_equal(read(root, "array", multilabel=True, high=255), layers)
    np.testing.assert_array_equal(read(root, "array", multilabel=True, high=1), 255 * layers)


# --- Depths, pages, compression, damage -----------------------------------------------------------------------------


def test_white_of_every_depth(root, truth):
    inside = truth > 0
    np.save(root / "unused.npy", inside)
    for picture in (
        Image.fromarray(inside),
        Image.fromarray(inside.astype(np.uint8)),
        Image.fromarray((inside * 65535).astype(np.uint16)),
    ):
        picture.save(place(root, "binary"))
        np.testing.assert_array_equal(read(root, "binary", CLASSES[:2]), inside)
    Image.fromarray(inside).save(place(root, "binary"))  # 1 bit, whose white is not below a threshold of 8 bits
    np.testing.assert_array_equal(read(root, "binary", CLASSES[:2], threshold=128), inside)
    Image.fromarray(inside.astype(np.uint8)).save(place(root, "binary"))
    with pytest.raises(DataError, match=r"its values are 0 and 1 \(232 pixels\), all below masks\.threshold: 128"):
        read(root, "binary", CLASSES[:2], threshold=128)
    np.testing.assert_array_equal(read(root, "binary", CLASSES[:2], threshold=1), inside)


def test_colours_of_16_bits_are_not_cut_to_8(root, truth):
    import cv2

    deep = np.repeat((truth > 0)[..., None], 3, 2).astype(np.uint16) * 255  # all 0 in the upper 8 bits
    assert cv2.imwrite(str(place(root, "binary")), deep)
    for name, more in (("binary", {}), ("rgb", {"colors": COLORS})):
        with pytest.raises(DataError, match=r"colours of 16 bits, of which Pillow reads the upper 8"):
            read(root, name, CLASSES[:2] if name == "binary" else CLASSES, **more)


def test_a_stack_of_pages_is_no_mask_and_overviews_are_no_pages(root, truth):
    rasterio = pytest.importorskip("rasterio")
    path = place(root, "index", ".tif")
    Image.fromarray(0 * truth).save(path, save_all=True, append_images=[Image.fromarray(truth)])
    for name in ("index", "binary"):
        with pytest.raises(DataError, match=r"holds 2 pages or frames, of which only one can be the mask"):
            read(root, name, CLASSES if name == "index" else CLASSES[:2])
    shape = {"driver": "GTiff", "height": 24, "width": 32, "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", **shape) as raster:
        raster.write(truth, 1)
        raster.build_overviews([2, 4])
    assert Image.open(path).n_frames == 3
    np.testing.assert_array_equal(read(root, "index"), truth)


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_the_orientation_of_a_mask_is_not_applied(root, truth, orientation, compression):
    note = Image.Exif()
    note[0x0112] = orientation
    Image.fromarray(truth).save(place(root, "index", ".tif"), exif=note, compression=compression)
    np.testing.assert_array_equal(read(root, "index"), truth)
    layers = np.stack([truth == n for n in range(3)], -1).astype(np.uint8)
    Image.fromarray(255 * layers).save(place(root, "channels", ".tif"), exif=note, compression=compression)
    np.testing.assert_array_equal(read(root, "channels", multilabel=True), layers)


def test_gif_bmp_and_webp(root, truth):
    inside = truth > 0
    for suffix in (".gif", ".webp", ".bmp"):
        grey = Image.fromarray(255 * inside.astype(np.uint8))
        grey.save(place(root, "binary", suffix), **({"lossless": True} if suffix == ".webp" else {}))
        for name in TWO:
            if name != "per_class":
                grey.save(place(root, name, suffix), **({"lossless": True} if suffix == ".webp" else {}))
                np.testing.assert_array_equal(read(root, name, CLASSES[:2]), inside)
        place(root, "instances", suffix).unlink()
        Image.fromarray(truth).save(place(root, "index", suffix), **({"lossless": True} if suffix == ".webp" else {}))
        np.testing.assert_array_equal(read(root, "index"), truth)
        colors = Image.fromarray(np.array(list(COLORS.values()), np.uint8)[truth])
        colors.save(place(root, "rgb", suffix), **({"lossless": True} if suffix == ".webp" else {}))
        np.testing.assert_array_equal(read(root, "rgb", colors=COLORS), truth)
        place(root, "rgb", suffix).unlink()
    Image.fromarray(truth).save(place(root, "index", ".gif"), save_all=True, append_images=[Image.fromarray(2 - truth)])
    with pytest.raises(DataError, match="holds 2 pages or frames"):
        read(root, "index")


def test_a_gif_of_a_sorted_palette_counts_by_its_grey(root, truth):
    """Programs that write GIF sort and drop entries, so that an index is not the class that was written."""
    picture = Image.fromarray((truth == 2).astype(np.uint8))
    picture.putpalette([2, 2, 2, 0, 0, 0])
    picture.save(place(root, "index", ".gif"), optimize=False)
    np.testing.assert_array_equal(read(root, "index"), np.where(truth == 2, 0, 2))
    picture.putpalette([200, 0, 0, 0, 0, 0])
    picture.save(place(root, "index", ".gif"), optimize=False)
    with pytest.raises(DataError, match="this one is a colour picture"):
        read(root, "index")


def test_lossy_compression_is_refused_for_labels(root, truth):
    Image.fromarray(np.repeat(truth[..., None], 3, 2)).save(place(root, "index", ".webp"), quality=50)
    with pytest.raises(DataError, match="lossy compression changes values"):
        read(root, "index")
    with pytest.raises(DataError, match="lossy compression changes values"):
        read(root, "rgb", colors=COLORS)
    place(root, "index", ".webp").unlink()
    Image.fromarray(truth).save(place(root, "index", ".tif"), compression="jpeg")
    with pytest.raises(DataError, match="lossy compression changes values"):
        read(root, "index")


@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_a_damaged_png_is_known_by_its_checksums(root, truth, mode):
    """Pillow takes some of the damaged pixels for sound ones."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 3, (24, 32), np.uint8)).convert(mode)
    path = place(root, "index")
    noise.save(path)
    whole = path.read_bytes()
    start = whole.index(b"IDAT") + 4
    for at in range(start, len(whole) - 16, 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 64]) + whole[at + 1 :])
        with pytest.raises(DataError, match=r"a\.png: cannot be read as a mask"):
            read(root, "index")
    for end in range(start, len(whole), 11):
        path.write_bytes(whole[:end])
        with pytest.raises(DataError, match=r"a\.png: cannot be read as a mask") as caught:
            read(root, "index")
        assert caught.value.kind == "truncated"


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB"])
def test_pictures_without_grey_are_refused(root, mode):
    Image.new(mode, (32, 24)).save(place(root, "binary", ".tif"))
    with pytest.raises(DataError, match=rf"a picture of mode {mode}, which has no grey values"):
        read(root, "binary", CLASSES[:2])


def test_hidden_folders_are_no_objects(root, truth):
    for folder in ("a", ".ipynb_checkpoints"):
        (root / "masks" / folder).mkdir(exist_ok=True)
        Image.fromarray(truth // 2).save(root / "masks" / folder / "1.png")
    assert source(root, "instances", CLASSES[:2]).ids == ["a"]
