"""Plain grey PNGs decoded by OpenCV: the numbers of Pillow, and none of a file that Pillow would have to judge."""

import cv2
import numpy as np
import pytest
from PIL import Image

from segzoo.data.formats import Labels, create_format
from segzoo.data.formats.pictures import load_picture, read_plain_grey, stored_numbers
from segzoo.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 14), np.uint8)


@pytest.mark.parametrize("filtering", range(5))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_numbers_are_those_of_pillow(tmp_path, dtype, filtering):
    path = tmp_path / "grey.png"
    cv2.imwrite(
        str(path), PIXELS.astype(dtype) * (257 if dtype == np.uint16 else 1), [cv2.IMWRITE_PNG_FILTER, 8 << filtering]
    )
    found = read_plain_grey(path, 1000)
    expected = stored_numbers(load_picture(path, 1000), path)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == expected.dtype == dtype


def test_colours_few_bits_transparency_and_damage_are_left_to_pillow(tmp_path):
    grey = Image.fromarray(PIXELS)
    grey.convert("RGB").save(tmp_path / "rgb.png")
    grey.convert("1").save(tmp_path / "bit.png")
    grey.save(tmp_path / "clear.png", transparency=7)
    grey.save(tmp_path / "jpeg.jpg")
    grey.save(tmp_path / "whole.png")
    content = bytearray((tmp_path / "whole.png").read_bytes())
    content[60] ^= 1
    (tmp_path / "damaged.png").write_bytes(content)
    for name in ("rgb.png", "bit.png", "clear.png", "jpeg.jpg", "damaged.png"):
        assert read_plain_grey(tmp_path / name, 1000) is None, name
    assert read_plain_grey(tmp_path / "whole.png", 1000) is not None
    with pytest.raises(DataError, match="over the limit"):
        read_plain_grey(tmp_path / "whole.png", 100)


def test_gaps_are_those_of_objects_grown_in_the_whole_image(tmp_path):
    rng = np.random.default_rng(1)
    near = np.zeros((40, 50), int)
    for number in range(12):
        top, left = rng.integers(-4, 40), rng.integers(-4, 50)
        thing = np.zeros((40, 50), np.uint8)
        thing[max(0, top) : top + 9, max(0, left) : left + 9] = 255
        cv2.imwrite(str(tmp_path / f"{number}.png"), thing)
        near += cv2.dilate(thing // 255, np.ones((7, 7), np.uint8))
    labels = Labels(("background", "object"), 255, "binary", 10**6)
    mask = create_format("instances", labels, gap=3, gap_label="ignore").read(tmp_path, tmp_path, (40, 50))
    np.testing.assert_array_equal(mask == 255, near > 1)
    assert (near > 1).any() and (mask == 1).any()
