"""The limit of pixels: `max_pixels` is the only one, and is compared with what the header states, before decoding."""

import struct
import threading
import warnings

import cv2
import numpy as np
import picture_bytes as by_hand
import pytest
from PIL import Image

from segzoo.data import ImageReader, Labels, codecs, create_format
from segzoo.data.formats.pictures import load_picture, read_indices
from segzoo.data.headers import stated_size
from segzoo.data.images import exif_orientation
from segzoo.errors import DataError

GREY = np.random.default_rng(0).integers(0, 3, (12, 20), np.uint8)
FILES = {"a.png": {}, "a.bmp": {}, "a.gif": {"disposal": 2}, "a.webp": {"lossless": True}, "a.tif": {}, "a.jpg": {}}


@pytest.fixture(params=FILES)
def path(request, tmp_path):
    Image.fromarray(GREY).save(tmp_path / request.param, **FILES[request.param])
    return tmp_path / request.param


@pytest.fixture
def low_limit_of_pillow(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # also of Pillow's bombs
        yield


def test_pillows_own_limit_is_none_here(path, low_limit_of_pillow):
    image = ImageReader(3)(path)
    assert image.shape == (12, 20, 3)
    np.testing.assert_array_less(np.abs(image[..., 0].astype(int) - GREY), 3 if path.suffix == ".jpg" else 1)
    assert exif_orientation(path) == 1
    assert load_picture(path, 240).image.size == (20, 12)
    if path.suffix != ".jpg":
        np.testing.assert_array_equal(read_indices(path, 240), GREY)
    assert Image.MAX_IMAGE_PIXELS == 10  # for others it is as it was


def test_the_limit_holds_in_every_reader(path):
    for read in (
        ImageReader(3, max_pixels=239),
        lambda path: load_picture(path, 239),
        lambda path: read_indices(path, 239),
    ):
        with pytest.raises(
            DataError, match=r"20 x 12 is 240 pixels, over the limit of 239.*gdal_retile.*--max-pixels"
        ) as caught:
            read(path)
        assert caught.value.kind == "too_large"


def test_the_limit_holds_for_arrays(tmp_path):
    np.save(tmp_path / "a.npy", GREY)
    mask = create_format("array", Labels(("a", "b"), max_pixels=239))
    for read in (ImageReader(1, max_pixels=239), lambda path: mask.read(path, path, (12, 20))):
        with pytest.raises(DataError, match=r"20 x 12 is 240 pixels, over the limit of 239.*--max-pixels"):
            read(tmp_path / "a.npy")


def headers(width, height):
    """The first bytes of files that claim a size, with next to nothing behind them."""
    core = struct.pack("<2sIHHIIHHHH", b"BM", 26, 0, 0, 26, 12, width % 2**16, height % 2**16, 1, 24)
    chunk = b"VP8X" + struct.pack("<II", 10, 0) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    packed = struct.pack("<IBI", 5, 0x2F, (width - 1) % 2**14 | (height - 1) % 2**14 << 14)
    lossy = struct.pack("<I", 10) + b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", width % 2**14, height % 2**14)
    riff = b"RIFF\x40\0\0\0WEBP"
    return {
        "a.gif": b"GIF89a" + struct.pack("<HHBBB", width % 2**16, height % 2**16, 0, 0, 0) + b"\x3b",
        "core.bmp": core, "a.bmp": by_hand.bmp(np.zeros((1, 1), np.uint8), 8)[:18] + struct.pack("<ii", width, -height)
        + bytes(28), "a.webp": riff + chunk, "b.webp": riff + b"VP8L" + packed, "c.webp": riff + b"VP8 " + lossy,
    }  # fmt: skip


@pytest.mark.parametrize("name", headers(1, 1))
def test_a_bomb_is_refused_before_a_decoder_sees_it(tmp_path, name, monkeypatch):
    data = headers(16000, 12000)[name]
    assert stated_size(data) == (16000, 12000)
    assert all(stated_size(data[:length]) in (None, (16000, 12000)) for length in range(24, len(data)))
    (tmp_path / name).write_bytes(data)
    monkeypatch.setattr(Image, "open", None)
    for read in (ImageReader(3), lambda path: load_picture(path, 64 * 2**20)):
        with pytest.raises(DataError, match="16000 x 12000 is 192000000 pixels, over the limit of 67108864"):
            read(tmp_path / name)


def test_what_is_more_than_opencv_holds_is_read_by_others(tmp_path, monkeypatch):
    monkeypatch.setattr(codecs, "_OPENCV_PIXELS", 100)
    deep = GREY.astype(np.uint16) * 999
    for name, array in (("a.png", GREY), ("a.tif", deep), ("b.png", deep)):
        assert cv2.imwrite(str(tmp_path / name), array)
    monkeypatch.setattr(cv2, "imdecode", None)
    np.testing.assert_array_equal(ImageReader(1).stored(tmp_path / "a.png")[..., 0], GREY)
    np.testing.assert_array_equal(read_indices(tmp_path / "a.png", 240), GREY)
    with pytest.raises(DataError, match=r"has 16 bits and more pixels than OpenCV decodes.*Write it as TIFF"):
        ImageReader(1)(tmp_path / "b.png")
    np.testing.assert_array_equal(read_indices(tmp_path / "b.png", 240), deep)
    pytest.importorskip("rasterio")
    np.testing.assert_array_equal(ImageReader(1).stored(tmp_path / "a.tif")[..., 0], deep)


def test_threads_share_pillows_limit(tmp_path, monkeypatch):
    """One that ends must not bring the limit back for one that still reads."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    inside, leave = threading.Event(), threading.Event()

    def first():
        with codecs.unlimited():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait(10)
    with codecs.unlimited():
        leave.set()
        thread.join()
        assert Image.MAX_IMAGE_PIXELS is None
    assert Image.MAX_IMAGE_PIXELS == 10
