"""Image files cut and changed at random, read with several settings: pixels of the right shape, or DataError."""

import contextlib
import io
import struct

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from segzoo.data import ImageReader
from segzoo.data.formats.pictures import read_indices
from segzoo.errors import DataError

RGB = np.random.default_rng(0).integers(0, 256, (12, 17, 3), np.uint8)


def saved(array, format, **options):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, format, **options)
    return stream.getvalue()


def array_file(save, array):
    stream = io.BytesIO()
    save(stream, array)
    return stream.getvalue()


FILES = {
    "png": saved(RGB, "PNG"),
    "grey.png": saved(RGB[..., 0], "PNG"),
    "jpg": saved(RGB, "JPEG"),
    "progressive.jpg": saved(RGB, "JPEG", progressive=True),
    "bmp": saved(RGB, "BMP"),
    "webp": saved(RGB, "WEBP", lossless=True),
    "gif": saved(RGB, "GIF"),
    "tif": saved(RGB, "TIFF"),
    "grey.tif": saved(RGB[..., 0], "TIFF", compression="tiff_lzw"),
    "sixteen.tif": cv2.imencode(".tif", RGB.astype(np.uint16) * 257)[1].tobytes(),
    "npy": array_file(np.save, RGB),
    "npz": array_file(np.savez_compressed, RGB),
}
READERS = (ImageReader(3), ImageReader(1, value_range=(0, 100)), ImageReader(4), ImageReader(3, alpha="white"))


def read(path, data):
    """Read with every setting, and as a mask of class indices."""
    path.write_bytes(data)
    for reader in READERS:
        try:
            image = reader(path)
        except DataError as error:
            assert str(path) in str(error)
        else:
            assert image.ndim == 3 and image.shape[2] == reader.channels and image.dtype in (np.uint8, np.float32)
    with contextlib.suppress(DataError):
        read_indices(path, 10**6)


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_anywhere_is_refused_or_complete(tmp_path, name):
    data, path = FILES[name], tmp_path / f"a.{name}"
    path.write_bytes(data)
    whole = READERS[0](path)
    for length in range(len(data)):
        path.write_bytes(data[:length])
        try:
            image = READERS[0](path)
        except DataError:
            continue
        np.testing.assert_array_equal(image, whole)


@pytest.mark.parametrize("name", FILES)
@given(places=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=8))
def test_changed_bytes(tmp_path_factory, name, places):
    data = bytearray(FILES[name])
    for place, value in places:
        data[place % len(data)] = value
    read(tmp_path_factory.getbasetemp() / f"a.{name}", bytes(data))


@pytest.mark.parametrize("name", FILES)
@given(place=st.integers(0, 200), value=st.sampled_from((0, 1, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1)))
def test_changed_numbers_of_the_header(tmp_path_factory, name, place, value):
    data = bytearray(FILES[name])
    for order in "<>":
        struct.pack_into(f"{order}I", data, min(place, len(data) - 4), value)
        read(tmp_path_factory.getbasetemp() / f"a.{name}", bytes(data))
