"""Images of any channels and bits, on files written here, against the arrays that they were written from."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from segzoo.data import FolderSource, ImageReader, Labels, create_format
from segzoo.data.images import turned
from segzoo.errors import DataError

SIZE = (20, 30)  # height, width
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (*SIZE, 3), np.uint8)
GREY16 = RNG.integers(0, 65536, SIZE, np.uint16)
ORIENTATION = 0x0112


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")


def save_bands(path, bands):
    """A GeoTIFF of bands (H, W, B)."""
    rasterio = pytest.importorskip("rasterio")
    shape = {"height": bands.shape[0], "width": bands.shape[1], "count": bands.shape[2], "dtype": bands.dtype.name}
    with rasterio.open(path, "w", driver="GTiff", **shape) as raster:
        raster.write(bands.transpose(2, 0, 1))
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_cut_to_the_upper_eight(tmp_path, suffix):
    path = save(tmp_path / f"a{suffix}", GREY16)
    image = ImageReader(1)(path)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image[..., 0], GREY16 // 256)
    np.testing.assert_array_equal(ImageReader(3)(path), np.repeat(image, 3, axis=2))


def test_a_range_of_values_becomes_0_to_255(tmp_path):
    values = np.array([[0, 100, 1100, 2100, 4095, 65535]], np.uint16)
    image = ImageReader(1, value_range=(100, 2100))(save(tmp_path / "a.png", values))
    assert image.dtype == np.float32
    np.testing.assert_allclose(image[0, :, 0], [0, 0, 127.5, 255, 255, 255])


def test_what_lies_beyond_a_range_is_its_end(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[-9999, -1, 0.5, 2]], np.float32))
    np.testing.assert_allclose(ImageReader(1, value_range=(0, 1))(tmp_path / "a.npy")[0, :, 0], [0, 0, 127.5, 255])


@pytest.mark.parametrize("options", [{}, {"value_range": (0, 1)}])
def test_pixels_that_are_no_finite_numbers_are_refused_and_counted(tmp_path, options):
    image = np.full((4, 5, 3), 0.5, np.float32)
    image[1, 2:4] = np.nan
    image[3, 4, 1] = np.inf
    np.save(tmp_path / "a.npy", image)
    with pytest.raises(
        DataError, match=r"6 NaN and 1 infinite values in 3 of 20 pixels, the first at x 2, y 1"
    ) as error:
        ImageReader(3, **options)(tmp_path / "a.npy")
    assert error.value.kind == "not_finite"
    path = save_bands(tmp_path / "a.tif", image)
    with pytest.raises(DataError, match=r"6 NaN and 1 infinite values in 3 of 20 pixels, the first at x 2, y 1"):
        ImageReader(3, **options)(path)
    np.save(tmp_path / "b.npy", np.full((2, 2), 1e300))
    with pytest.raises(DataError, match=r"4 infinite values in 4 of 4 pixels"):  # no float32
        ImageReader(1, **options)(tmp_path / "b.npy")


def test_sixteen_bits_of_colour(tmp_path):
    import cv2

    colors = RNG.integers(0, 65536, (*SIZE, 3), np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), colors[..., ::-1])
    np.testing.assert_array_equal(ImageReader()(tmp_path / "a.png"), colors // 256)
    scaled = ImageReader(value_range=(0, 65535))(tmp_path / "a.png")
    np.testing.assert_allclose(scaled, colors / 257, rtol=1e-5, atol=1e-4)


def test_grey_is_repeated_and_colours_become_luma(tmp_path):
    grey = save(tmp_path / "grey.png", RGB[..., 0])
    np.testing.assert_array_equal(ImageReader()(grey), np.repeat(RGB[..., :1], 3, axis=2))
    color = save(tmp_path / "color.png", RGB)
    luma = np.asarray(Image.fromarray(RGB).convert("L"), int)  # Pillow's, also ITU-R BT.601
    assert np.abs(ImageReader(1)(color)[..., 0].astype(int) - luma).max() <= 1


def test_transparency_is_a_channel_or_dropped_or_laid_on_a_ground(tmp_path):
    alpha = np.array([[0, 51, 255]], np.uint8)
    colors = np.full((1, 3, 3), 100, np.uint8)
    path = save(tmp_path / "a.png", np.dstack([colors, alpha]))
    np.testing.assert_array_equal(ImageReader(4)(path), np.dstack([colors, alpha]))
    for name, expected in (("drop", [100, 100, 100]), ("black", [0, 20, 100]), ("white", [255, 224, 100])):
        assert ImageReader(3, alpha=name)(path)[0, :, 1].tolist() == expected
        assert ImageReader(1, alpha=name)(path)[0, :, 0].tolist() == expected


def test_bands_of_a_geotiff_are_chosen_in_order(tmp_path):
    bands = RNG.integers(0, 65536, (*SIZE, 6), np.uint16)
    path = save_bands(tmp_path / "a.tif", bands)
    np.testing.assert_array_equal(ImageReader(2, bands=[5, 1])(path), bands[..., [4, 0]] // 256)
    np.testing.assert_array_equal(ImageReader(6)(path), bands // 256)
    scaled = ImageReader(1, bands=[6], value_range=(0, 65535))(path)
    np.testing.assert_allclose(scaled[..., 0], bands[..., 5] / 257, rtol=1e-5, atol=1e-4)
    with pytest.raises(DataError, match=r"a\.tif: has the bands 1 to 6, but data\.bands is \[7\]"):
        ImageReader(1, bands=[7])(path)
    with pytest.raises(DataError, match=r"has 6 channels, where model\.input_channels is 5\. .* data\.bands"):
        ImageReader(5)(path)
    with pytest.raises(DataError, match="600 pixels, over the limit of 599"):
        ImageReader(6, max_pixels=599)(path)
    with pytest.raises(DataError, match="one band for each channel"):
        ImageReader(3, bands=[1])


def test_bands_with_values_below_zero_stay_as_they_are(tmp_path):
    bands = np.stack([np.full(SIZE, -300, np.int16), np.full(SIZE, 300, np.int16)], axis=-1)
    image = ImageReader(2)(save_bands(tmp_path / "a.tif", bands))
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, bands)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_arrays(tmp_path, dtype):
    array = RNG.integers(0, 256, (*SIZE, 7)).astype(dtype)
    np.save(tmp_path / "a.npy", array)
    image = ImageReader(7)(tmp_path / "a.npy")
    assert image.dtype == (np.float32 if np.dtype(dtype).kind == "f" else np.uint8)
    np.testing.assert_array_equal(image, array // 256 if dtype is np.uint16 else array)


def test_files_that_are_no_images_are_refused(tmp_path):
    path = save(tmp_path / "a.png", GREY16)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=r"a\.png: cannot be read as an image"):
        ImageReader(1)(path)
    (tmp_path / "a.tif").write_bytes(b"II*\0 and nothing else")
    with pytest.raises(DataError, match=r"a\.tif: cannot be read as an image"):
        ImageReader(5)(tmp_path / "a.tif")
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 4, 5), np.float32))
    with pytest.raises(DataError, match=r"an array of shape \(2, 3, 4, 5\), where \(H, W\) or \(H, W, C\) is due"):
        ImageReader(5)(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.array([[{}]], object), allow_pickle=True)
    with pytest.raises(DataError, match="Python objects"):
        ImageReader(1)(tmp_path / "b.npy")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_are_those_of_pillow(orientation):
    note = Image.Exif()
    note[ORIENTATION] = orientation
    picture = Image.fromarray(RGB)
    picture.getexif().update(note)
    np.testing.assert_array_equal(turned(RGB, orientation), np.asarray(ImageOps.exif_transpose(picture)))


@pytest.mark.parametrize("orientation", [3, 6, 7])
@pytest.mark.parametrize("exif", ["neither", "both", "image"])
def test_an_orientation_turns_image_and_mask_as_the_setting_says(tmp_path, orientation, exif):
    """The mask is the parity of the image's red, so it shows whether the two still lie on each other."""
    note = Image.Exif()
    note[ORIENTATION] = orientation
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    save(tmp_path / "images" / "a.png", RGB, exif=note)
    drawn = turned(RGB, orientation) if exif == "image" else RGB
    save(tmp_path / "masks" / "a.png", drawn[..., 0] % 2)
    sample = FolderSource(tmp_path, "", ["even", "odd"], exif=exif)[0]
    np.testing.assert_array_equal(sample.image, RGB if exif == "neither" else turned(RGB, orientation))
    np.testing.assert_array_equal(sample.mask, sample.image[..., 0] % 2)


@pytest.mark.parametrize("exif", ["neither", "both", "image"])
def test_prediction_reads_images_as_training_does(tmp_path, exif):
    from segzoo.config import load_config
    from segzoo.engine.builders import image_reader

    note = Image.Exif()
    note[ORIENTATION] = 6
    path = save(tmp_path / "a.png", RGB, exif=note)
    (tmp_path / "run.yaml").write_text(
        "model: {decoder: unet, backbone: efficientnet_b0}\ntraining: {epochs: 1}\n"
        f"data: {{source: folder, root: here, classes: [a, b], exif: {exif}}}\n"
    )
    image = image_reader(load_config(tmp_path / "run.yaml"), alone=True)(path)
    np.testing.assert_array_equal(image, RGB if exif == "neither" else turned(RGB, 6))


def test_a_mask_that_fits_only_after_turning_names_the_setting(tmp_path):
    note = Image.Exif()
    note[ORIENTATION] = 6
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    save(tmp_path / "images" / "a.png", RGB, exif=note)
    save(tmp_path / "masks" / "a.png", turned(RGB, 6)[..., 0] % 2)
    with pytest.raises(DataError, match=r"EXIF orientation of 6, which is not applied: set data\.exif: image"):
        FolderSource(tmp_path, "", ["even", "odd"])[0]
    assert FolderSource(tmp_path, "", ["even", "odd"], exif="image")[0].mask.shape == SIZE[::-1]


def test_other_ways_of_reading_the_same_files_have_other_fingerprints(tmp_path):
    """A cache on disk is named after the fingerprint: samples read otherwise must not come out of it."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    save(tmp_path / "images" / "a.png", GREY16)
    save(tmp_path / "masks" / "a.png", np.zeros(SIZE, np.uint8))
    labels = Labels(("even", "odd"))
    masks = [
        None, create_format("binary", labels), create_format("binary", labels, threshold=128),
        create_format("index", labels, values={"even": 0, "odd": 1}),
        create_format("index", labels, values={"even": 1, "odd": 0}),
        create_format("index", Labels(("even", "odd"), ignore_index=9)),
    ]  # fmt: skip
    images = [
        None, ImageReader(1), ImageReader(1, value_range=(0, 9)), ImageReader(1, bands=[1]), ImageReader(alpha="white"),
    ]  # fmt: skip
    found = {FolderSource(tmp_path, "", ["even", "odd"], masks=way).fingerprint() for way in masks}
    found |= {FolderSource(tmp_path, "", ["even", "odd"], images=way).fingerprint() for way in images}
    found |= {FolderSource(tmp_path, "", ["even", "odd"], exif=way).fingerprint() for way in ("both", "image")}
    assert len(found) == len(masks) + len(images) - 1 + 2
    again = [FolderSource(tmp_path, "", ["even", "odd"]).fingerprint() for _ in range(2)]
    assert again[0] == again[1]


def test_plain_images_are_read_as_ever(tmp_path):
    for name in ("a.png", "a.jpg"):
        path = save(tmp_path / name, RGB)
        image = ImageReader()(path)
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, np.asarray(Image.open(path)))


@pytest.mark.parametrize("writer", ["pillow", "gdal", "opencv"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colours_of_a_tiff_of_four_bands_are_not_multiplied_by_the_fourth(tmp_path, writer, dtype):
    """RGBA, and RGB with near infrared: OpenCV gives colours multiplied by the fourth, which would be lost."""
    import cv2

    pixels = RNG.integers(0, np.iinfo(dtype).max + 1, (*SIZE, 4), dtype)
    path = tmp_path / "a.tif"
    if writer == "gdal":
        save_bands(path, pixels)
    elif writer == "opencv":
        assert cv2.imwrite(str(path), pixels[..., [2, 1, 0, 3]])
    elif dtype == np.uint8:
        save(path, pixels)
    else:
        pytest.skip("Pillow writes no colours of 16 bits")
    for channels in (3, 4):
        bands = None if writer != "gdal" else list(range(1, channels + 1))  # GDAL calls what it writes four bands
        np.testing.assert_array_equal(ImageReader(channels, bands=bands).stored(path), pixels[..., :channels])
    if writer == "gdal":
        np.testing.assert_array_equal(ImageReader(4).stored(path), pixels)


def test_the_picture_of_a_whole_slide_image_is_its_first_page(tmp_path):
    """A thumbnail behind a tiled page is no picture of its own; a page of its size may be, or one behind strips."""
    rasterio = pytest.importorskip("rasterio")
    slide = RNG.integers(0, 256, (96, 128, 3), np.uint8)

    def written(name, first, second):
        path = tmp_path / name
        for pixels, more in ((slide, first), (slide[:: second["every"], :: second["every"]], {})):
            shape = {"height": pixels.shape[0], "width": pixels.shape[1], "count": 3, "dtype": "uint8"}
            appended = {"APPEND_SUBDATASET": "YES"} if path.exists() else {}
            with rasterio.open(path, "w", driver="GTiff", photometric="RGB", **shape, **more, **appended) as raster:
                raster.write(pixels.transpose(2, 0, 1))
        return path

    tiles = {"tiled": True, "blockxsize": 32, "blockysize": 32}
    path = written("slide.svs", tiles, {"every": 2})
    assert Image.open(path).n_frames == 2
    np.testing.assert_array_equal(ImageReader(3)(path), slide)
    with ImageReader(3).windows(path) as (size, read):
        assert size == (96, 128)
        np.testing.assert_array_equal(read((7, 70), (30, 99)), slide[7:70, 30:99])
    for path in (written("stack.tif", tiles, {"every": 1}), written("scan.tif", {}, {"every": 2})):
        with pytest.raises(DataError, match="has 2 pages"):
            ImageReader(3)(path)
