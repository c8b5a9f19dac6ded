import os
import re
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from segzoo.data import FolderSource, check_source, create_source
from segzoo.data.formats.pictures import read_indices
from segzoo.data.masks import check_labels
from segzoo.errors import DataError, UnknownNameError

CLASSES = ["ground", "thing", "other"]


def source(folder, **changes):
    return FolderSource(**{"root": folder.root, "split": "train", "classes": CLASSES, "ignore_index": 255, **changes})


def grey_png(rows: np.ndarray, bits: int) -> bytes:
    """A grey PNG of 1, 2 or 4 bits per pixel, written by hand because no library here writes one."""
    height, width = rows.shape
    packed = b""
    for row in rows:
        text = "".join(f"{value:0{bits}b}" for value in row)
        text += "0" * (-len(text) % 8)
        packed += b"\0" + bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(packed)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".JPG"])
def test_a_sample_is_the_file_in_rgb_with_its_mask(folder, suffix):
    folder.add("a", suffix=suffix)
    sample = source(folder)[0]
    expected = cv2.imread(str(folder.images / f"a{suffix}"))[..., ::-1]
    assert sample.id == "a"
    np.testing.assert_array_equal(sample.image, expected)
    np.testing.assert_array_equal(sample.mask, cv2.imread(str(folder.masks / "a.png"), cv2.IMREAD_UNCHANGED))


def test_grey_and_transparent_images_become_three_channels(folder):
    folder.add("a")
    folder.add("b")
    (folder.images / "a.jpg").unlink()
    (folder.images / "b.jpg").unlink()
    Image.new("L", (60, 40), 77).save(folder.images / "a.png")
    Image.new("RGBA", (60, 40), (10, 20, 30, 5)).save(folder.images / "b.png")
    assert (source(folder)[0].image == 77).all()
    assert (source(folder)[1].image == (10, 20, 30)).all()


def test_samples_are_sorted_and_hidden_files_are_left_out(folder):
    for name in ("b", "c", "a"):
        folder.add(name)
    (folder.images / "._a.jpg").write_bytes(b"resource fork")
    (folder.images / "notes.txt").write_text("not an image")
    found = source(folder)
    assert found.ids == ["a", "b", "c"]
    assert [sample_id for _, _, sample_id in (found[i] for i in range(len(found)))] == found.ids
    with pytest.raises(IndexError):
        found[3]


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_truncated_jpeg_is_refused_rather_than_read_half_grey(folder, cut, progressive):
    folder.add("a")
    path = folder.images / "a.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(noise).save(path, progressive=progressive)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * cut)])
    with pytest.raises(DataError, match=r"a\.jpg: cannot be read as an image"):
        source(folder)[0]


def test_a_jpeg_that_lacks_only_its_last_two_bytes_is_refused(folder):
    folder.add("a")
    path = folder.images / "a.jpg"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(DataError, match="truncated"):
        source(folder)[0]


def test_a_jpeg_with_data_after_its_end_is_read(folder):
    """Some cameras append a preview or a video."""
    folder.add("a")
    path = folder.images / "a.jpg"
    before = source(folder)[0].image
    path.write_bytes(path.read_bytes() + b"appended by the camera")
    np.testing.assert_array_equal(source(folder)[0].image, before)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_other_truncated_images_are_refused(folder, suffix):
    folder.add("a", suffix=suffix)
    path = folder.images / f"a{suffix}"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match="cannot be read as an image"):
        source(folder)[0]


@pytest.mark.parametrize("content", [b"", b"this is no picture"])
def test_a_file_that_is_no_picture_is_refused_by_name(folder, content):
    folder.add("a")
    (folder.images / "a.jpg").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.jpg"):
        source(folder)[0]
    folder.add("a")
    (folder.masks / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.png: cannot be read as a mask"):
        source(folder)[0]


def test_a_truncated_mask_is_refused(folder):
    folder.add("a")
    path = folder.masks / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 3, (40, 60), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=r"a\.png: cannot be read as a mask"):
        source(folder)[0]


def test_a_file_that_vanishes_is_an_error_that_names_it(folder):
    folder.add("a")
    found = source(folder)
    (folder.images / "a.jpg").unlink()
    with pytest.raises(DataError, match=r"a\.jpg"):
        found[0]


def test_exif_orientation_is_applied_to_neither_image_nor_mask(folder):
    folder.add("a")
    path = folder.images / "a.jpg"
    plain = source(folder)[0].image
    exif = Image.Exif()
    exif[0x0112] = 6  # shown rotated by a quarter turn
    segment = exif.tobytes()
    data = path.read_bytes()
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:])
    assert cv2.imread(str(path)).shape == (60, 40, 3), "this file does have an orientation that OpenCV would apply"
    sample = source(folder)[0]
    assert sample.mask.shape == (40, 60)
    np.testing.assert_array_equal(sample.image, plain)
    cv2.imwrite(str(folder.masks / "a.png"), np.zeros((60, 40), np.uint8))
    with pytest.raises(DataError, match="EXIF orientation of 6"):
        source(folder)[0]


def test_sizes_that_differ_are_both_named(folder):
    folder.add("a")
    cv2.imwrite(str(folder.masks / "a.png"), np.zeros((41, 60), np.uint8))
    with pytest.raises(DataError, match=r"a\.jpg is 60 x 40 .*a\.png is 60 x 41"):
        source(folder)[0]


def test_a_label_that_is_no_class_is_named_with_its_pixel_count(folder):
    folder.add("a", label=7)
    expected = r"a\.png: label 7 \(300 pixels\).*3: 0\.\.2.*index \(255\).*data\.ignore_index"
    with pytest.raises(DataError, match=expected):
        source(folder)[0]
    assert (source(folder, ignore_index=7)[0].mask == 7).sum() == 300


def test_palette_masks_are_read_as_indices_and_not_as_colours(folder):
    folder.add("a")
    indices = np.zeros((40, 60), np.uint8)
    indices[3:9, 3:9] = 2
    picture = Image.fromarray(indices)
    picture.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
    picture.save(folder.masks / "a.png")
    assert Image.open(folder.masks / "a.png").mode == "P"
    np.testing.assert_array_equal(source(folder)[0].mask, indices)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_masks_of_few_bits_hold_the_stored_indices(tmp_path, bits):
    """Pillow and OpenCV stretch such files to 0..255."""
    indices = np.random.default_rng(bits).integers(0, 2**bits, (7, 13)).astype(np.uint8)
    (tmp_path / "mask.png").write_bytes(grey_png(indices, bits))
    np.testing.assert_array_equal(read_indices(tmp_path / "mask.png", 10**6), indices)


def test_sixteen_bit_masks_keep_labels_above_255(folder):
    folder.add("a")
    mask = np.full((40, 60), 300, np.uint16)
    mask[0, 0] = 65535
    cv2.imwrite(str(folder.masks / "a.png"), mask)
    with pytest.raises(DataError, match=r"label 300 \(2399 pixels\) at .*, 65535 \(1 pixels\) at x 0\.\.0, y 0\.\.0"):
        source(folder)[0]
    sample = source(folder, classes=[str(n) for n in range(301)], ignore_index=65535)[0]
    np.testing.assert_array_equal(sample.mask, mask)


def test_a_colour_picture_is_no_mask(folder):
    folder.add("a")
    Image.new("RGB", (60, 40)).save(folder.masks / "a.png")
    with pytest.raises(DataError, match=r"a\.png: a mask must hold class indices.*mode RGB"):
        source(folder)[0]


def test_max_pixels_guards_images_and_masks(folder):
    folder.add("a")
    assert source(folder, max_pixels=2400)[0].image.shape == (40, 60, 3)
    with pytest.raises(DataError, match=r"a\.jpg: 60 x 40 is 2400 pixels, over the limit of 2399"):
        source(folder, max_pixels=2399)[0]
    cv2.imwrite(str(folder.masks / "a.png"), np.zeros((100, 100), np.uint8))
    with pytest.raises(DataError, match=r"a\.png: 100 x 100"):
        source(folder, max_pixels=2400)[0]


def test_a_bomb_is_refused_from_its_header(folder):
    folder.add("a")
    data = bytearray(grey_png(np.zeros((4, 4), np.uint8), 4))
    data[16:24] = struct.pack(">II", 60000, 60000)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    (folder.masks / "a.png").write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"a\.png"):
        source(folder)[0]


def test_missing_folders_say_what_there_is(folder):
    folder.add("a")
    with pytest.raises(DataError, match=r"test: no such folder \(.*holds the folders train"):
        source(folder, split="test")
    with pytest.raises(DataError, match=r"holds the folders images, masks\).*data\.image_dir"):
        source(folder, image_dir="img")
    with pytest.raises(DataError, match=r"data\.mask_dir"):
        source(folder, mask_dir="labels")
    with pytest.raises(DataError, match="does not exist"):
        source(folder, root=folder.root / "nowhere")


def test_empty_folders_are_refused(folder):
    with pytest.raises(DataError, match=r"images: no image in this folder"):
        source(folder)
    folder.add("a")
    (folder.masks / "a.png").unlink()
    with pytest.raises(DataError, match=r"masks: no mask in this folder \(looked for \.png, \.tif, \.tiff, "):
        source(folder)


def test_files_without_a_partner_are_counted_and_named(folder):
    for n in range(8):
        folder.add(f"pair{n}")
    for n in range(7):
        (folder.masks / f"pair{n}.png").unlink()
    (folder.images / "pair7.jpg").rename(folder.images / "moved.jpg")
    with pytest.raises(DataError) as caught:
        source(folder)
    message = str(caught.value)
    assert re.search(r"8 image\(s\) without a mask .*masks: moved, pair0, pair1, pair2, pair3, \.\.\.", message)
    assert re.search(r"1 mask\(s\) without an image .*images: pair7\.", message)
    assert "paired by file name" in message


def test_two_images_of_one_stem_are_refused(folder):
    folder.add("a")
    folder.add("a", suffix=".png")
    with pytest.raises(DataError, match=r"a\.jpg and a\.png have the same stem"):
        source(folder)


def test_the_fingerprint_follows_content_changes(folder):
    folder.add("a")
    folder.add("b")
    first = source(folder).fingerprint()
    assert source(folder).fingerprint() == first
    os.utime(folder.masks / "a.png", ns=(1, 1))
    second = source(folder).fingerprint()
    folder.add("c")
    third = source(folder).fingerprint()
    assert len({first, second, third, source(folder, ignore_index=9).fingerprint()}) == 4


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_labels_are_checked_in_every_integer_type(dtype):
    mask = np.array([[0, 1, 2], [2, 11, 1]], dtype)
    check_labels(mask, 3, 11, "mask")
    with pytest.raises(DataError, match=r"label 11 \(1 pixels\)"):
        check_labels(mask, 3, 255, "mask")
    with pytest.raises(DataError, match=r"label 2 \(2 pixels\)"):
        check_labels(mask, 2, 11, "mask")


def test_a_negative_label_is_refused_unless_it_is_the_ignore_index():
    mask = np.array([[-1, 0]], np.int32)
    check_labels(mask, 1, -1, "mask")
    with pytest.raises(DataError, match="label -1"):
        check_labels(mask, 1, 255, "mask")


def test_check_source_collects_every_problem_and_counts_the_rest(folder):
    for name in ("a", "b", "c", "d", "e"):
        folder.add(name)
    folder.add("b", label=9)
    (folder.images / "c.jpg").write_bytes(b"broken")
    cv2.imwrite(str(folder.masks / "d.png"), np.zeros((10, 10), np.uint8))
    folder.add("e", label=255)
    seen: list[int] = []
    report = check_source(source(folder), workers=3, progress=seen.append)
    assert [problem.id for problem in report.problems] == ["b", "c", "d"]
    assert all(word in report.problems[n].message for n, word in enumerate(["label 9", "c.jpg", "10 x 10"]))
    assert not report.ok and seen == [1, 2, 3, 4, 5]
    assert report.pixels == {"ground": 2 * 2100, "thing": 300, "other": 0}
    assert report.images == {"ground": 2, "thing": 1, "other": 0}
    assert report.absent == ["other"] and report.ignored == 300 and report.sizes == {(40, 60): 2}
    with pytest.raises(DataError, match=r"(?s)3 of 5 samples.*label 9.*and 1 more"):
        report.raise_if_bad(most=2)


def test_sources_are_made_by_name(folder):
    folder.add("a")
    made = create_source("folder", root=folder.root, split="train", classes=CLASSES, ignore_index=255)
    assert isinstance(made, FolderSource) and len(made) == 1
    with pytest.raises(UnknownNameError, match="Did you mean folder"):
        create_source("foldr")


def test_camvid_pairs_and_pixels(camvid: Path):
    names = ["sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"]
    found = FolderSource(camvid, "val", names, ignore_index=11)
    assert len(found) == 101
    report = check_source(found)
    assert report.ok and report.sizes == {(360, 480): 101} and report.absent == []
    assert sum(report.pixels.values()) + report.ignored == 101 * 360 * 480
