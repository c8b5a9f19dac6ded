import io

import cv2
import numpy as np
import pytest
from PIL import Image

from segzoo.data.headers import header

PICTURE = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)


def saved(picture: Image.Image, format: str, **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"exif": b"Exif\0\0" + bytes(70000 - 5000)}, {"quality": 5}]
)
def test_size_of_a_jpeg(options):
    found = header(saved(Image.fromarray(PICTURE), "JPEG", **options))
    assert found.format == "JPEG" and found.size == (53, 37) and found.grey_bits == 0


@pytest.mark.parametrize(
    ("mode", "bits"), [("RGB", 0), ("RGBA", 0), ("L", 8), ("LA", 0), ("P", 0), ("1", 1), ("I;16", 16)]
)
def test_size_and_grey_bits_of_a_png(mode, bits):
    picture = (
        Image.fromarray(PICTURE[..., 0].astype(np.uint16) * 9)
        if mode == "I;16"
        else Image.fromarray(PICTURE).convert(mode)
    )
    found = header(saved(picture, "PNG"))
    assert found.format == "PNG" and found.size == (53, 37) and found.grey_bits == bits


def test_thumbnails_in_exif_are_not_taken_for_the_picture():
    small = saved(Image.fromarray(PICTURE[:8, :8]), "JPEG")
    found = header(saved(Image.fromarray(PICTURE), "JPEG", exif=b"Exif\0\0" + small))
    assert found.size == (53, 37)


@pytest.mark.parametrize("extension", [".bmp", ".tiff", ".webp"])
def test_other_formats_are_left_to_pillow(extension):
    assert header(cv2.imencode(extension, PICTURE)[1].tobytes()) is None


def test_cut_files_say_nothing_wrong():
    for format in ("PNG", "JPEG"):
        data = saved(Image.fromarray(PICTURE), format)
        for length in range(0, len(data), 7):
            found = header(data[:length])
            assert found is None or found.size == (53, 37)


def test_no_bytes_make_it_fail():
    rng = np.random.default_rng(1)
    for start in (b"\xff\xd8", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"):
        for _ in range(300):
            header(start + b"\xff" * int(rng.integers(3)) + rng.bytes(int(rng.integers(40))))
